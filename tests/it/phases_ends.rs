//! Phases that do not end as they should, and what they leave running.
//!
//! Where each behaviour of a hostile phase is tested. *Script*: a project's own phase, in this
//! family; *agent*: the agent inside a phase of ours.
//!
//! | behaviour | script | agent | parts of it |
//! |---|---|---|---|
//! | hangs; ignores SIGTERM and SIGINT | here | `crash_limits` (silence, wall, without a daemon) | `runs_process/monitor` |
//! | forks, calls `setsid` twice, goes on | here | `crash_processes` | `runs_process/monitor` `orphans` |
//! | stdout kept open after its end; a zombie; stdout closed early | here | `phases_tree` (stdout) | |
//! | exits 0 without the work | here | `crash_state`, `e2e_steer` | `outcome.rs` |
//! | 100 MB, a line of 50 MB, NULs and no UTF-8, 100,000 markers | `phases_output` | | `tail.rs`, `marker.rs` |
//! | a stream-json line of 50 MB | | `phases_output` | `spend_tests.rs` |
//! | a log up to its cap | `phases_output` | | `runs_process/monitor` |
//! | its log renamed, a pipe, an endless device; its attempt's folder gone | `phases_files` | | `plain.rs`, `records.rs` |
//! | 100,000 files, or a link to `/`, in the watched folder | `phases_files` | | `watch.rs` |
//! | its worktree, `.git`, branch or plan gone, another branch | `phases_tree` | `phases_tree` | |
//! | state torn, empty, of 5 MB, a link, of another run | | `crash_state` | `state_file.rs` |
//! | state nested, a pipe, a folder, unreadable, with huge figures and names, its folder a file or a link | `phases_state` | `phases_state` | `plain.rs`, `spend_tests.rs` |
//! | markers and records that are forged | | `crash_state`, `e2e_steer` | `marker.rs` |

use serde_json::json;

use crate::crash_support::exit_record;
use crate::phases_support::*;
use crate::world::{World, wait_removed};

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_hangs_and_heeds_nothing_is_ended_by_its_limits() {
    let world = World::new().await;
    world.set("phases.other.silence_s", "15");
    world.set("phases.other.wall_s", "25");
    let rogue = Rogue::new(&world);
    let deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n";
    rogue.on(1, &format!("{deaf}\nwhile True: time.sleep(1)"));
    rogue.on(
        2,
        &format!("{deaf}\nwhile True:\n    print('still here', flush=True)\n    time.sleep(1)"),
    );
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let (silent, talking) = (rogue.start(&client, 1).await, rogue.start(&client, 2).await);
    let (silent, talking) =
        tokio::join!(watched(&world, &client, &silent), watched(&world, &client, &talking));
    assert_failed(&silent, "timed_out", "timeout", &["work gave no sign of life for 15 s"]);
    assert_failed(&talking, "timed_out", "timeout", &["work ran longer than its limit of 25 s"]);
    for run in [&silent, &talking] {
        assert_eq!(tries(run).len(), 1, "a limit is never tried again: {run:#}");
        assert_eq!(run["worktree"], "present", "what was done is kept");
        let exit = exit_record(&rogue.first(run["adw_id"].as_str().unwrap())).unwrap();
        let killed = exit.signal == Some(9) || exit.code == Some(137);
        assert!(killed, "nothing less ends it: {exit:?}");
    }
    all_is_well(&world, &rogue, &client).await;
}

/// Each of them did its work: that is what counts, and nobody outlives it.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_outlives_a_phase_that_did_its_work_is_ended() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    // Two forks, two sessions, no descriptors, no variables: nothing but descent.
    rogue.on(
        1,
        "if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(f'{home}/daemon-pid', 'w').write(str(os.getpid()))
        os.closerange(0, 1024)
        os.execve('/bin/sleep', ['sleep', '1001'], {})
    os._exit(0)
while not os.path.exists(f'{home}/daemon-pid'): time.sleep(0.05)",
    );
    // A grandchild that keeps stdout and stderr.
    rogue.on(2, "subprocess.Popen(['sleep', '1002'], start_new_session=True)");
    // A child that is dead and never waited for, and one whose parent lives on.
    rogue.on(
        3,
        "if os.fork() == 0: os._exit(0)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os._exit(0)
    while True: time.sleep(1)",
    );
    // No output from here on, its own or of anybody whom it starts.
    rogue.on(4, "null = os.open('/dev/null', os.O_RDWR)\nos.dup2(null, 1); os.dup2(null, 2)\ngate('closed')");
    rogue.on(5, "os.closerange(0, 3)\ngate('closed')");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let mut ids = vec![];
    for issue in 1..=5 {
        ids.push(rogue.start(&client, issue).await);
    }
    world.at_gate("closed").await;
    for id in &ids[3..] {
        crate::world::wait_status(&client, id, "running").await;
        answers(&client, id).await;
    }
    world.open_gate("closed");
    for (issue, id) in ids.iter().enumerate() {
        let run = watched(&world, &client, id).await;
        assert_eq!((&run["status"], tries(&run).len()), (&json!("completed"), 1), "{run:#}");
        assert_eq!(tries(&run)[0]["exit_code"], 0);
        let exit = exit_record(&rogue.first(id)).unwrap();
        assert_eq!(exit.swept > 0, issue < 3, "issue {}: {exit:?}", issue + 1);
        wait_removed(&client, id).await;
    }
    assert_eq!(rogue.repo.remote_branches().len(), 5);
    assert!(rogue.repo.worktrees().is_empty());
    all_is_well(&world, &rogue, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_exit_without_the_work_is_a_failure_that_names_what_is_missing() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    rogue.on(1, "print('STATUS=completed', flush=True)\nsys.exit(0)");
    rogue.on(2, "work()\ngit('push', '-q', 'origin', ':' + branch)\nsys.exit(0)");
    rogue.on(3, "work()\ngit('commit', '-q', '--allow-empty', '-m', 'more')\nsys.exit(0)");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    for (issue, words) in [
        (1, &["work exited 0", "nothing was committed"][..]),
        (2, &["work exited 0", "has no branch rogue-2-"]),
        (3, &["work exited 0", "here and at"]),
    ] {
        let id = rogue.start(&client, issue).await;
        let run = watched(&world, &client, &id).await;
        assert_failed(&run, "failed", "validation", words);
        assert_eq!((tries(&run).len(), &tries(&run)[0]["exit_code"]), (1, &json!(0)), "{run:#}");
        assert_eq!(run["worktree"], "present", "what was done is kept");
    }
    all_is_well(&world, &rogue, &client).await;
}
