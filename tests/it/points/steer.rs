//! The daemon dies while a run is cancelled, resumed, tried again, or stopped by a budget.

use adwd::args;
use adwd::db::Db;
use serde_json::{Value, json};

use super::{Armed, failures};
use crate::crash_support::{counts, resume, trigger};
use crate::world::{RUN, World, eventually, wait_status};

/// A cancel, from the call to the end of the run.
pub(super) const CANCEL: &[&str] = &[
    "stop-uncommitted",
    "stop-stored",
    "stop-written",
    "stop-linked",
    "attempt-unended",
    "run-unfinished.cancelled",
    "run-finished.cancelled",
];

/// A resume.
pub(super) const RESUME: &[&str] = &["resume-uncommitted", "resume-stored"];

/// The pause before another attempt.
pub(super) const RETRY: &[&str] = &["retry-unstored", "retry-stored"];

/// A budget that is passed.
pub(super) const BUDGET: &[&str] = &[
    "spending-uncommitted@2",
    "budget-stop-unstored",
    "budget-stop-stored",
    "stop-linked",
    "run-finished.failed",
];

crate::in_worlds_on_both_engines!(
    killed_while_it_cancels_and_resumes_the_run_ends_as_asked,
    killed_while_a_budget_stops_a_run_it_is_stopped_once_and_goes_on_with_more,
    stopped_when_all_was_done_a_run_completes_by_a_resume,
);

async fn stopped_when_all_was_done_a_run_completes_by_a_resume(world: World) {
    let last = &["run-unfinished.completed"];
    let armed = Armed::of(&world, &[]);
    let mut daemon = world.daemon().await;
    armed.arm(last);
    let id = trigger(&daemon.client().await, json!({ "issue_number": "1" })).await;
    eventually("the daemon dies", RUN, async || {
        if armed.crashes(&mut daemon) { Ok(()) } else { Err(format!("{:?}", armed.left(last))) }
    })
    .await;
    // As a cancel of that moment is stored.
    let db = Db::open(&world.database_url()).await.unwrap();
    let stop = "UPDATE runs SET status = 'stopping', stop_requested = TRUE WHERE adw_id = $1";
    assert_eq!(db.exec(stop, args![&id]).await.unwrap(), 1);
    db.close().await;
    armed.start(&mut daemon, last).await;
    let client = daemon.client().await;
    let run = wait_status(&client, &id, "cancelled").await;
    assert_eq!((counts(&run), &run["worktree"]), ([1, 1, 1], &json!("present")), "{run:#}");
    resume(&client, &id).await;
    let run = wait_status(&client, &id, "completed").await;
    armed.landed(&client, &run, [1, 1, 1], [1, 1, 1, 1]).await;
}

async fn killed_while_it_cancels_and_resumes_the_run_ends_as_asked(world: World) {
    let armed = Armed::of(&world, &[("implementor", "gate build")]);
    let mut daemon = world.daemon().await;
    let id = {
        let given = json!({ "issue_number": 1 });
        let answer = armed.ask(&mut daemon, &[], "trigger_adw_workflow", given).await;
        answer["adw_id"].as_str().unwrap().to_owned()
    };
    world.at_gate("build").await;
    armed.arm(CANCEL);
    let of_run = json!({ "adw_id": id });
    armed.ask(&mut daemon, CANCEL, "cancel_adw_workflow", of_run.clone()).await;
    let run = armed.until(&mut daemon, CANCEL, &id, |run| run["status"] == "cancelled").await;
    assert_eq!(
        (counts(&run), &run["failure"]["class"]),
        ([1, 1, 0], &json!("cancelled")),
        "{run:#}"
    );
    assert_eq!(run["worktree"], "present", "what was done is kept");
    world.quiet().await;
    world.open_gate("build");
    resumed(&armed, &mut daemon, &id).await;
    let client = daemon.client().await;
    let run = wait_status(&client, &id, "completed").await;
    assert_eq!(failures(&run, "build").len(), 1, "{run:#}");
    armed.landed(&client, &run, [1, 2, 1], [1, 1, 2, 1]).await;
}

/// Asks for a resume while the daemon dies of it; one that was stored before the answer is told by
/// the next answer.
async fn resumed(armed: &Armed<'_>, daemon: &mut crate::world::Daemon<'_>, id: &str) {
    armed.arm(RESUME);
    let answer = armed.ask(daemon, RESUME, "resume_adw_workflow", json!({ "adw_id": id })).await;
    let told = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(
        answer["adw_id"] == id || told.contains("an ended run") || told.contains("is completed"),
        "{answer:#}"
    );
    assert!(armed.left(RESUME).is_empty(), "{:?}", armed.left(RESUME));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_pause_before_another_attempt_it_is_made_once() {
    let world = World::new().await;
    world.set("retry.base_delay_s", "1");
    let once = "if [ ! -e \"$HOME/f\" ]; then : >\"$HOME/f\"; echo overloaded >&2; exit 1; fi";
    let armed = Armed::of(&world, &[("planner", once)]);
    let mut daemon = world.daemon().await;
    let run = armed.course(&mut daemon, 1, RETRY).await;
    assert_eq!(failures(&run, "plan"), ["failed/agent/20"], "{run:#}");
    armed.landed(&daemon.client().await, &run, [2, 1, 1], [2, 1, 1, 1]).await;
}

const SPENDER: &str = r#"
if [ ! -e "$HOME/open-work" ]; then
    echo '{"usage": {"cost_usd": 1.2, "input_tokens": 200, "output_tokens": 30}}'
    gate never
fi
echo '{"usage": {"cost_usd": 0.3, "output_tokens": 5}}'
"#;

async fn killed_while_a_budget_stops_a_run_it_is_stopped_once_and_goes_on_with_more(world: World) {
    world.set("budget.run_usd", "1");
    let armed = Armed::of(&world, &[("implementor", SPENDER)]);
    let mut daemon = world.daemon().await;
    armed.arm(BUDGET);
    let given = json!({ "issue_number": 1, "idempotency_key": "k" });
    let answer = armed.ask(&mut daemon, BUDGET, "trigger_adw_workflow", given).await;
    let id = answer["adw_id"].as_str().unwrap().to_owned();
    let run = armed.until(&mut daemon, BUDGET, &id, |run| run["status"] == "failed").await;
    assert_eq!((counts(&run), &run["failure"]["class"]), ([1, 1, 0], &json!("budget")), "{run:#}");
    assert_eq!(run["usage"]["cost_usd"], 1.2, "counted once, however often it was read: {run:#}");
    world.quiet().await;
    world.set("budget.run_usd", "5");
    world.open_gate("work");
    daemon.restart().await;
    resumed(&armed, &mut daemon, &id).await;
    let client = daemon.client().await;
    let run = wait_status(&client, &id, "completed").await;
    let spent = |run: &Value| run["usage"]["cost_usd"].as_f64().unwrap();
    assert!((spent(&run) - 1.5).abs() < 1e-9, "{run:#}");
    armed.landed(&client, &run, [1, 2, 1], [1, 1, 2, 1]).await;
}
