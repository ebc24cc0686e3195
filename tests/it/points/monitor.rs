//! The monitor dies. While a daemon lives it learns of that from the locks; the phase is judged by
//! its work, or tried again.

use std::io::Write as _;

use serde_json::json;

use super::{Armed, failures};
use crate::crash_support::{attempt_dir, attempts, shape, start_record};
use crate::world::{World, wait_ended, wait_status};

/// Before there is a record, two in each of plan, build and review: it is launched again. The
/// numbers count those that got there before; a phase writes its start twice.
pub(super) const BEFORE_THE_RECORD: &[&str] = &[
    "monitor-up",
    "monitor-locked",
    "log-locked@2",
    "group-made@2",
    "record-written.start.json@5",
    "record-synced.start.json@5",
];

/// Three in one launch: whoever does that is there again.
pub(super) const TOO_OFTEN: &[&str] = &["monitor-up", "monitor-locked", "log-locked"];

/// Before there is a phase: the attempt is lost.
pub(super) const BEFORE_THE_PHASE: &[&str] = &["record-renamed.start.json", "phase-unspawned"];

/// While or after the phase runs, one in each of plan, build and review: judged by its work. The
/// numbers count those that lived to get there.
pub(super) const JUDGED: [[&str; 3]; 2] = [
    ["phase-spawned", "phase-ended", "record-renamed.exit.json"],
    ["record-written.start.json@2", "record-written.exit.json", "record-synced.exit.json"],
];

fn without_groups(points: &[&'static str], groups: bool) -> Vec<&'static str> {
    points.iter().copied().filter(|point| groups || !point.starts_with("group-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_dies_before_its_phase_costs_an_attempt_at_most_and_no_call() {
    let world = World::new().await;
    world.set("retry.max_attempts", "20");
    let armed = Armed::of(&world, &[]);
    let mut daemon = world.daemon().await;
    let calm = armed.course(&mut daemon, 1, &[]).await;
    let dir = attempt_dir(&armed.repo, calm["adw_id"].as_str().unwrap(), "plan", 1);
    let groups = start_record(&dir).unwrap().cgroup.is_some();
    if !groups {
        // Straight to the file descriptor: a skipped test must be seen.
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED (no control group can be made here): deaths of the monitor around its \
             control group were not tried; be root, with cgroup2\n"
        );
    }
    let again = without_groups(BEFORE_THE_RECORD, groups);
    let run = armed.course(&mut daemon, 2, &again).await;
    assert_eq!(shape(&armed.repo, &run), shape(&armed.repo, &calm), "after {again:?}");
    armed.landed(&daemon.client().await, &run, [1; 3], [1; 4]).await;
    let lost = without_groups(BEFORE_THE_PHASE, groups);
    let run = armed.course(&mut daemon, 3, &lost).await;
    assert_eq!(failures(&run, "plan"), vec!["lost/lost/-"; lost.len()], "{run:#}");
    armed.landed(&daemon.client().await, &run, [lost.len() + 1, 1, 1], [1; 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_dies_with_or_after_its_phase_costs_nothing() {
    let world = World::new().await;
    let armed = Armed::of(&world, &[]);
    let mut daemon = world.daemon().await;
    for (n, points) in (1..).zip(JUDGED) {
        let run = armed.course(&mut daemon, n, &points).await;
        armed.landed(&daemon.client().await, &run, [1, 1, 1], [1; 4]).await;
        for (phase, point) in ["plan", "build", "review"].into_iter().zip(points) {
            let recorded = point == "record-renamed.exit.json";
            let code = attempts(&run, phase)[0].get("exit_code");
            assert_eq!(code, recorded.then_some(&json!(0)), "{point}: {run:#}");
        }
    }
}

/// With no attempt left it is a failure with a name, which a resume mends.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_phase_is_named_and_resumed() {
    let world = World::new().await;
    world.set("retry.max_attempts", "1");
    let armed = Armed::of(&world, &[]);
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    // The monitor dies before its phase, or the phase's script in the middle of its agent's work.
    for (n, points, phase, failure, asked) in [
        (1, &["phase-unspawned@2"][..], "build", "lost/lost/-", [1, 1, 1, 1]),
        (2, &["tree-started.ordered@3"], "review", "failed/internal/137", [1, 1, 1, 2]),
        (3, TOO_OFTEN, "plan", "failed/environment/-", [1, 1, 1, 1]),
    ] {
        armed.arm(points);
        let id = crate::crash_support::trigger_issue(&client, n).await;
        let run = wait_ended(&client, &id).await;
        assert!(armed.left(points).is_empty(), "{points:?}: {run:#}");
        assert_eq!(failures(&run, phase), [failure], "{points:?}: {run:#}");
        assert_eq!(run["failure"]["phase"], phase, "{points:?}: {run:#}");
        world.quiet().await;
        crate::crash_support::resume(&client, &id).await;
        let run = wait_status(&client, &id, "completed").await;
        let tries = ["plan", "build", "review"].map(|p| if p == phase { 2 } else { 1 });
        armed.landed(&client, &run, tries, asked).await;
    }
}
