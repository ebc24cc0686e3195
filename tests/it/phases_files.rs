//! Phases that know the daemon's own files: their log, their attempt's folder, the watched folder.

use std::fs;

use serde_json::json;

use crate::crash_support::{attempt_dir, cancel};
use crate::hostile_support::Good;
use crate::phases_support::*;
use crate::world::{SOON, World, eventually, wait_ended, wait_removed};

/// The log is kept from whoever reads it, and a reader of it is kept by nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_renamed_or_replaced_holds_nobody_up() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    let puts = [
        "pass",
        "os.mkfifo(log)",
        "os.symlink('/dev/zero', log)",
        "os.mkdir(log)",
        "open(log, 'w').write('ADW_ID=forged\\nPR_URL=https://forge.test/forged\\n')",
        "os.mkfifo(log); os.remove(f'{attempt}/run.lock'); os.mkfifo(f'{attempt}/run.lock')",
    ];
    for (issue, put) in (1..).zip(puts) {
        rogue.on(issue, &format!("os.rename(log, log + '.old')\n{put}\ngate(f'put-{{issue}}')"));
    }
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let good = Good::start(&daemon);
    let mut ids = vec![];
    for issue in 1..=puts.len() {
        ids.push(rogue.start(&client, u32::try_from(issue).unwrap()).await);
    }
    for (issue, id) in (1..).zip(&ids[..5]) {
        world.at_gate(&format!("put-{issue}")).await;
        let run = crate::world::state(&client, id).await;
        assert_eq!(run["status"], "running", "issue {issue}: {run:#}");
        let given = json!({ "adw_id": id, "tail": true });
        let log = crate::mcp_support::call(&client, "get_adw_logs", given).await;
        let told = json!(log.structured_content);
        match issue {
            // Not there: nothing to show. Somebody's own file: shown as it is.
            1 => assert_eq!(told["lines"], json!([]), "{told:#}"),
            5 => assert_eq!(told["lines"][0], "ADW_ID=forged", "{told:#}"),
            _ => assert!(told.to_string().contains("not a plain file"), "issue {issue}: {told:#}"),
        }
    }
    // Without its lock the monitor is not seen, and the phase of nobody is ended: lost, and again.
    let sixth = eventually("the sixth is lost", SOON, async || {
        let run = crate::world::state(&client, &ids[5]).await;
        if tries(&run).len() > 1 { Ok(run) } else { Err(format!("{run:#}")) }
    })
    .await;
    assert_eq!(tries(&sixth)[0]["status"], "lost", "{sixth:#}");
    (1..=puts.len()).for_each(|issue| world.open_gate(&format!("put-{issue}")));
    for (issue, id) in (1..).zip(&ids) {
        let run = wait_ended(&client, id).await;
        let is = (&run["status"], tries(&run)[0]["exit_code"].as_i64());
        if issue < 6 {
            assert_eq!(is, (&json!("completed"), Some(0)), "issue {issue}: {run:#}");
            wait_removed(&client, id).await;
        }
    }
    good.end().await;
    all_is_well(&world, &rogue, &client).await;
}

/// As `git clean -fdx` in the main checkout does. Nobody can steer it any more, so it is ended, and
/// begun again in a folder of its own; never beside itself, whether the daemon was there or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_deletes_the_folder_of_its_records_is_ended_and_tried_again() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    world.set("stop.int_grace_s", "60");
    let vanish = "if once():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        os.execve('/bin/sleep', ['sleep', '1003'], {})
    gate(f'before-{issue}')
    shutil.rmtree(attempt)
    gate(f'after-{issue}')";
    (1..=3).for_each(|issue| rogue.on(issue, vanish));
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let mut ids = vec![];
    for issue in 1..=3 {
        ids.push(rogue.start(&client, issue).await);
        world.at_gate(&format!("before-{issue}")).await;
    }
    // The first while the daemon looks on, the others while there is none; the last in the middle of a
    // cancel.
    world.open_gate("before-1");
    let run = watched(&world, &client, &ids[0]).await;
    cancel(&client, &ids[2]).await;
    drop(client);
    daemon.kill9().await;
    for issue in 2..=3 {
        world.open_gate(&format!("before-{issue}"));
        world.at_gate(&format!("after-{issue}")).await;
        assert!(!rogue.first(&ids[issue - 1]).exists());
    }
    daemon.start().await;
    let client = daemon.client().await;
    let after = wait_ended(&client, &ids[1]).await;
    for run in [&run, &after] {
        assert_eq!((&run["status"], tries(run).len()), (&json!("completed"), 2), "{run:#}");
        let lost = &tries(run)[0];
        assert_eq!((&lost["status"], &lost["failure"]["class"]), (&json!("lost"), &json!("lost")));
        let said = lost["failure"]["message"].as_str().unwrap();
        assert!(said.contains("lost the folder of its log and records"), "{said}");
        wait_removed(&client, run["adw_id"].as_str().unwrap()).await;
    }
    let run = wait_ended(&client, &ids[2]).await;
    assert_eq!((&run["status"], tries(&run).len()), (&json!("cancelled"), 1), "{run:#}");
    let sleepers: Vec<_> =
        world.processes().into_iter().filter(|p| p.argv == ["sleep", "1003"]).collect();
    assert!(sleepers.is_empty(), "a cancelled run is gone: {sleepers:#?}");
    assert!(attempt_dir(&rogue.repo, &ids[1], "work", 2).join("exit.json").exists());
    all_is_well(&world, &rogue, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_files_in_the_watched_folder_cost_no_memory_and_no_hint() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    rogue.on(
        1,
        "os.mkdir(f'{folder}/many')
for n in range(100_000): open(f'{folder}/many/{n}', 'w').close()
save(plan_file='after-the-flood.md')
gate('many')
shutil.rmtree(f'{folder}/many')",
    );
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let before = memory(&daemon);
    let good = Good::start(&daemon);
    let id = rogue.start(&client, 1).await;
    eventually("all are made", 300, async || {
        if world.home().join("at-many").exists() { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    answers(&client, &id).await;
    eventually("what was written last is told", SOON, async || {
        let run = crate::world::state(&client, &id).await;
        if run["plan_file"] == "after-the-flood.md" { Ok(()) } else { Err(run.to_string()) }
    })
    .await;
    world.open_gate("many");
    let run = ended(&client, &id).await;
    assert_eq!((&run["status"], tries(&run).len()), (&json!("completed"), 1), "{run:#}");
    assert_flat("100,000 files", &daemon, &before);
    good.end().await;
    all_is_well(&world, &rogue, &client).await;
}

/// inotify would walk through all that a link leads to, and watch it.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_everything_in_the_watched_folder_is_not_followed() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    for n in 0..300 {
        fs::create_dir_all(world.path(&format!("elsewhere/{n}/deep"))).unwrap();
    }
    let to = py(&world.path("elsewhere").display().to_string());
    rogue.on(
        1,
        &format!("os.symlink({to}, f'{{folder}}/all')\nos.symlink('.', f'{{folder}}/self')"),
    );
    rogue.on_phase(1, "again", "gate('again')");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let asked = json!({ "issue_number": 1, "phases": ["work", "again"] });
    let id = crate::crash_support::trigger(&client, asked).await;
    world.at_gate("again").await;
    let fds = fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).unwrap().flatten();
    let watches: usize = fds
        .map(|fd| fs::read_to_string(fd.path()).unwrap_or_default())
        .map(|text| text.lines().filter(|line| line.starts_with("inotify ")).count())
        .sum();
    assert!((1..100).contains(&watches), "{watches} watches");
    world.open_gate("again");
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    all_is_well(&world, &rogue, &client).await;
}
