//! Limits and automatic retries: the tree is gone, the class is true, nothing is tried in vain.

use adwd::clock::Millis;
use adwd::runs::records::StopReason;
use serde_json::{Value, json};

use crate::crash_support::{attempt_dir, attempts, counts, recorded, shop, trigger_issue};
use crate::world::{Agent, World, wait_ended, wait_status};

const STUBBORN: &str = "trap '' INT TERM; (setsid setsid sleep 1000 >/dev/null 2>&1 &); gate stuck";

fn assert_timed_out(run: &Value, word: &str) {
    assert_eq!(counts(run), [1, 1, 0], "a limit is never tried again: {run:#}");
    assert_eq!(attempts(run, "build")[0]["status"], "timed_out");
    assert_eq!(run["failure"]["class"], "timeout", "{run:#}");
    assert!(run["failure"]["message"].as_str().unwrap().contains(word), "{run:#}");
    assert_eq!(run["worktree"], "present", "what was done is kept");
}

crate::in_worlds_on_both_engines!(a_phase_over_its_wall_clock_limit_is_ended);

async fn a_phase_over_its_wall_clock_limit_is_ended(world: World) {
    world.set("phases.build.wall_s", "4");
    shop(&world, &Agent::good().on("implementor", STUBBORN));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = wait_status(&client, &id, "timed_out").await;
    world.quiet().await;
    assert_timed_out(&run, "4 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_phase_is_ended_and_a_talking_one_is_not() {
    let world = World::new().await;
    world.set("phases.build.silence_s", "4");
    let orders = format!(
        "if [ \"$ADW_ISSUE_NUMBER\" = 2 ]; then {STUBBORN}; fi
        for i in 1 2 3 4 5 6 7; do echo at work; sleep 1; done"
    );
    shop(&world, &Agent::good().on("implementor", &orders));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let talking = trigger_issue(&client, 1).await;
    let silent = trigger_issue(&client, 2).await;
    let run = wait_status(&client, &silent, "timed_out").await;
    assert_timed_out(&run, "no sign of life for 4 s");
    wait_status(&client, &talking, "completed").await;
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wall_clock_limit_holds_while_no_daemon_runs() {
    let world = World::new().await;
    world.set("phases.build.wall_s", "4");
    let repo = shop(&world, &Agent::good().on("implementor", STUBBORN));
    let mut daemon = world.daemon().await;
    let id = trigger_issue(&daemon.client().await, 1).await;
    world.at_gate("stuck").await;
    daemon.kill9().await;
    let exit = recorded(&attempt_dir(&repo, &id, "build", 1)).await;
    assert_eq!(exit.stopped, Some(StopReason::WallLimit));
    world.quiet().await;
    daemon.start().await;
    let run = wait_status(&daemon.client().await, &id, "timed_out").await;
    assert_timed_out(&run, "4 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_retry_can_help_is_tried_three_times_with_growing_pauses() {
    let world = World::new().await;
    world.set("retry.base_delay_s", "1");
    shop(&world, &Agent::good().on("planner", "echo 'the model is overloaded' >&2; exit 1"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = wait_ended(&client, &id).await;
    assert_eq!((&run["status"], counts(&run)), (&json!("failed"), [3, 0, 0]), "{run:#}");
    assert_eq!(run["failure"]["class"], "agent");
    assert!(run["failure"]["message"].as_str().unwrap().contains("overloaded"), "{run:#}");
    let at = |a: &Value, key: &str| Millis::parse_rfc3339(a[key].as_str().unwrap()).unwrap();
    let tries = attempts(&run, "plan");
    let pauses: Vec<i64> =
        tries.windows(2).map(|p| at(&p[1], "started_at").since_ms(at(&p[0], "ended_at"))).collect();
    assert!(pauses[0] >= 1_000 && pauses[1] >= 2_000, "{pauses:?}");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_retry_can_help_is_tried_once() {
    let world = World::new().await;
    let repo = world.repo("shop");
    repo.issue_adding(1, "notes/1.txt", "a bad note");
    world.serve(&repo, "");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = wait_ended(&client, &id).await;
    assert_eq!((&run["status"], counts(&run)), (&json!("failed"), [1, 1, 0]), "{run:#}");
    assert_eq!(run["failure"]["class"], "validation", "{run:#}");
    world.quiet().await;
}
