//! Disks that are full, one after another for every kind of write, and files that may not grow:
//! the failure says "no space" and where, nothing half-made stays, and once there is room again
//! everything goes on without a restart.
//!
//! The small disks are tmpfs in a mount namespace of the daemon's own; see `machine_support`.

use std::fs;

use serde_json::{Value, json};

use crate::crash_support::{
    attempt_dir, attempts, cancel, counts, ends_well, nothing_is_left, resume, shop, trigger_issue,
};
use crate::machine_support::{Inside, done, log_of, on_small_disks, says};
use crate::mcp_support::{Client, call, ok, refused};
use crate::observe_support::get;
use crate::world::{Agent, SOON, World, eventually, state, wait_ended, wait_removed, wait_status};

const NO_SPACE: &str = "No space left on device";

/// A trigger that is refused for the database's sake; what it said.
async fn refused_trigger(client: &Client, n: u32) -> String {
    eventually("a trigger is refused", SOON, async || {
        let given = json!({ "issue_number": n, "idempotency_key": format!("issue {n}") });
        let answer = call(client, "trigger_adw_workflow", given).await;
        if answer.is_error != Some(true) {
            return Err(format!("{answer:?}"));
        }
        let error = answer.structured_content.unwrap()["error"].clone();
        assert_eq!(error["code"], "database", "{error:#}");
        Ok(format!("{} {}", error["message"], error["hint"]))
    })
    .await
}

/// Waits until a failed run says why; the run.
async fn failed(client: &Client, id: &str, class: &str, words: &[&str]) -> Value {
    let run = wait_ended(client, id).await;
    assert_eq!(
        (&run["status"], &run["failure"]["class"]),
        (&json!("failed"), &json!(class)),
        "{run:#}"
    );
    says(run["failure"]["message"].as_str().unwrap(), words);
    run
}

/// Where the daemon serves HTTP.
fn base(inside: &Inside, world: &World) -> String {
    let address = inside.path(&world.state_dir().join("http.addr"));
    format!("http://{}", fs::read_to_string(address).unwrap().trim())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_state_folder_refuses_triggers_and_runs_go_on_when_there_is_room() {
    let world = World::new().await;
    if !on_small_disks(&world, &[("16m", "state/adwd")]) {
        return;
    }
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let inside = Inside::of(daemon.pid());
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    inside.fill(&world.state_dir());

    let said = refused_trigger(&client, 2).await;
    says(&said, &["the disk is full", "nothing was done", "adwd doctor"]);
    // Who only looks is answered all the same.
    assert_eq!(state(&client, &id).await["status"], "running");
    let ready = get(&format!("{}/readyz", base(&inside, &world))).await;
    assert_eq!(ready.status, 503, "{ready:?}");
    says(ready.check("state_dir")["message"].as_str().unwrap(), &[NO_SPACE]);

    // The phase ends while its end cannot be stored: its record waits in the log folder.
    world.open_gate("build");
    let exit = attempt_dir(&repo, &id, "build", 1);
    crate::crash_support::recorded(&exit).await;
    eventually("the daemon cannot store it and says so", SOON, async || {
        let log = log_of(&inside.path(&world.state_dir()));
        let run = state(&client, &id).await;
        assert_eq!(run["status"], "running", "{run:#}");
        // The log is on the same disk, so it is the run that must not have moved.
        if exit.join("exit.json").exists() { Ok(()) } else { Err(log) }
    })
    .await;
    inside.make_room(&world.state_dir());
    ends_well(&world, &repo, &client, &id).await;
    // What was refused did not happen, and the same key does it now, once.
    let given = json!({ "issue_number": 2, "idempotency_key": "issue 2" });
    let second = ok(&client, "trigger_adw_workflow", given.clone()).await;
    let again = ok(&client, "trigger_adw_workflow", given).await;
    assert_eq!(second["adw_id"], again["adw_id"]);
    ends_well(&world, &repo, &client, second["adw_id"].as_str().unwrap()).await;
    let list = ok(&client, "list_adw_workflows", json!({})).await;
    assert_eq!(list["workflows"].as_array().unwrap().len(), 2, "{list:#}");
    inside.database_is_whole(&world);
    let ready = get(&format!("{}/readyz", base(&inside, &world))).await;
    assert_eq!(ready.status, 200, "{ready:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_not_start_on_a_full_disk_and_says_so() {
    let world = World::new().await;
    if !on_small_disks(&world, &[("64k", "state/adwd")]) {
        return;
    }
    let words = world.serve_words();
    let rest: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    let ran = world.run_in(&world.root, &words[0], &rest).await;
    assert_ne!(ran.code, 0, "{ran:?}");
    let said = ran.stderr.to_lowercase();
    assert!(said.contains("no space left") || said.contains("disk is full"), "{ran:?}");
    says(&ran.stderr, &[&world.state_dir().display().to_string()]);
    world.quiet().await;
}

/// The folder of attempts: what cannot begin fails by name, what cannot be recorded waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_disk_fails_the_start_of_a_phase_and_only_delays_the_record_of_its_end() {
    let world = World::new().await;
    if !on_small_disks(&world, &[("1m", "shop/logs")]) {
        return;
    }
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let inside = Inside::of(daemon.pid());
    let client = daemon.client().await;
    let logs = repo.root.join("logs");
    inside.fill(&logs);
    let id = trigger_issue(&client, 1).await;
    let place = logs.display().to_string();
    let run = failed(&client, &id, "environment", &[NO_SPACE, &place, "plan"]).await;
    assert_eq!(counts(&run), [1, 0, 0], "{run:#}");
    world.quiet().await;
    inside.make_room(&logs);
    resume(&client, &id).await;
    world.at_gate("build").await;

    inside.fill(&logs);
    world.open_gate("build");
    let record = inside.path(&attempt_dir(&repo, &id, "build", 1));
    eventually("the monitor tries to write the end", SOON, async || {
        let said = fs::read_to_string(record.join("monitor.log")).unwrap_or_default();
        let left = fs::read_dir(&record).unwrap().flatten();
        let names: Vec<String> =
            left.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        let phase_is_over = world.processes().iter().all(crate::world::procs::Proc::is_monitor);
        if phase_is_over { Ok(()) } else { Err(format!("{said} {names:?}")) }
    })
    .await;
    let run = state(&client, &id).await;
    assert_eq!(run["status"], "running", "the monitor holds on to the end: {run:#}");
    assert!(!record.join("exit.json").exists());
    inside.make_room(&logs);
    wait_status(&client, &id, "completed").await;
    let run = wait_removed(&client, &id).await;
    assert_eq!(counts(&run), [2, 1, 1], "{run:#}");
    assert_eq!(attempts(&run, "build")[0]["exit_code"], 0);
    let left = fs::read_dir(&record).unwrap().flatten().map(|e| e.file_name());
    let left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_cancelled_while_its_log_disk_is_full() {
    let world = World::new().await;
    if !on_small_disks(&world, &[("1m", "shop/logs")]) {
        return;
    }
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let inside = Inside::of(daemon.pid());
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    let logs = repo.root.join("logs");
    inside.fill(&logs);
    cancel(&client, &id).await;
    eventually("the phase is gone", SOON, async || {
        let left = world.processes();
        let over = left.iter().all(crate::world::procs::Proc::is_monitor);
        if over { Ok(()) } else { Err(format!("{left:#?}")) }
    })
    .await;
    inside.make_room(&logs);
    let run = wait_status(&client, &id, "cancelled").await;
    assert_eq!(run["failure"]["class"], "cancelled", "{run:#}");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_that_does_not_fit_leaves_nothing_half_made() {
    let world = World::new().await;
    if !on_small_disks(&world, &[("512k", "shop/automation/trees")]) {
        return;
    }
    world.set("limits.min_free_mb", "0");
    let repo = world.repo("shop");
    repo.write("large.txt", &"0123456789abcdef".repeat(64 * 1024));
    repo.git(&["add", "large.txt"]);
    repo.git(&["commit", "-q", "-m", "a large file"]);
    repo.git(&["push", "-q"]);
    world.serve(&repo, "");
    let daemon = world.daemon().await;
    let inside = Inside::of(daemon.pid());
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let trees = repo.root.join("automation/trees");
    let run = failed(
        &client,
        &id,
        "git",
        &["worktree", "unable to write", "KiB are free under", trees.to_str().unwrap()],
    )
    .await;
    assert_eq!(counts(&run), [0, 0, 0], "{run:#}");
    let listed = inside.run(&repo.root, &["git", "worktree", "list"]);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert_eq!(fs::read_dir(inside.path(&trees)).unwrap().count(), 0);
    assert_eq!(repo.local_branches(), Vec::<String>::new());
    nothing_is_left(&world, &repo).await;
    inside.run(&world.root, &["mount", "-o", "remount,size=64m", trees.to_str().unwrap()]);
    resume(&client, &id).await;
    wait_status(&client, &id, "completed").await;
    wait_removed(&client, &id).await;
    world.quiet().await;
}

/// The repository's own disk, with the objects of git, the states and the logs of its runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_without_room_fails_by_name_and_goes_on_by_a_resume() {
    let world = World::new().await;
    // Each call of the builder stops before it does something.
    let repo = shop(&world, &Agent::good().on("implementor", "gate build-$(cat \"$HOME/turn\")"));
    world.write("home/turn", "1");
    if !on_small_disks(&world, &[("32m", "copy:shop")]) {
        return;
    }
    world.set("retry.max_attempts", "1");
    world.set("limits.min_free_mb", "0");
    let daemon = world.daemon().await;
    let inside = Inside::of(daemon.pid());
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build-1").await;
    inside.fill(&repo.root);
    world.write("home/turn", "2");
    world.open_gate("build-1");
    eventually("the phase is over", SOON, async || {
        let left = world.processes();
        let over = left.iter().all(crate::world::procs::Proc::is_monitor);
        if over { Ok(()) } else { Err(format!("{left:#?}")) }
    })
    .await;
    inside.make_room(&repo.root);
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["status"], "failed", "{run:#}");
    says(run["failure"].to_string().as_str(), &[NO_SPACE]);
    world.quiet().await;
    let locks = inside.run(
        &repo.root,
        &["find", ".git", "-name", "*.lock", "-not", "-name", "adwd-worktree.lock"],
    );
    assert_eq!(locks, "", "{locks}");
    inside.run(&repo.root, &["git", "fsck", "--connectivity-only"]);
    resume(&client, &id).await;
    world.at_gate("build-2").await;
    world.open_gate("build-2");
    wait_status(&client, &id, "completed").await;
    let run = wait_removed(&client, &id).await;
    assert_eq!(repo.changed_on(run["branch"].as_str().unwrap()).len(), 2, "{run:#}");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_uv_cache_is_a_failure_of_the_environment() {
    let world = World::new().await;
    world.set_env("UV_CACHE_DIR", Some(&world.path("uv-cache").display().to_string()));
    if !on_small_disks(&world, &[("1m", "uv-cache")]) {
        return;
    }
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let daemon = world.daemon().await;
    let inside = Inside::of(daemon.pid());
    let client = daemon.client().await;
    inside.fill(&world.path("uv-cache"));
    let id = trigger_issue(&client, 1).await;
    let run =
        failed(&client, &id, "environment", &["uv could not look for Python", NO_SPACE]).await;
    assert_eq!(counts(&run), [0, 0, 0], "{run:#}");
    assert_eq!(repo.worktrees(), Vec::<String>::new());
    world.quiet().await;
    inside.make_room(&world.path("uv-cache"));
    inside.run(
        &world.root,
        &["mount", "-o", "remount,size=64m", world.path("uv-cache").to_str().unwrap()],
    );
    resume(&client, &id).await;
    let run = wait_status(&client, &id, "completed").await;
    assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
    world.quiet().await;
}

/// `/tmp` and the home folder are for others: neither the daemon nor our scripts need room there.
#[tokio::test(flavor = "multi_thread")]
async fn full_folders_for_temporary_files_and_of_home_hold_no_run_up() {
    let world = World::new().await;
    let tmp = world.path("tmp");
    if !on_small_disks(&world, &[("64k", "tmp"), ("64k", "other-home")]) {
        return;
    }
    world.set_env("TMPDIR", Some(&tmp.display().to_string()));
    world.set_env("HOME", Some(&world.path("other-home").display().to_string()));
    world.set("env_allow", "[\"TMPDIR\"]");
    let repo = world.repo("shop");
    world.serve(&repo, "check_command = \"true\"\n");
    let daemon = world.daemon().await;
    let inside = Inside::of(daemon.pid());
    inside.fill(&tmp);
    inside.fill(&world.path("other-home"));
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = wait_status(&client, &id, "completed").await;
    assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
    wait_removed(&client, &id).await;
    nothing_is_left(&world, &repo).await;
}

/// Sets the soft limit of a living process.
fn limit(pid: i32, what: &str, value: &str) {
    done(&["prlimit", "--pid", &pid.to_string(), &format!("--{what}={value}:")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_the_size_of_files_is_an_error_and_no_death() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    // Whatever file is written next, of the daemon and of the monitor, is too large by then.
    let monitor = crate::crash_support::monitor(&world).await;
    limit(daemon.pid(), "fsize", "0");
    limit(monitor.pid, "fsize", "0");
    let said = refused_trigger(&client, 2).await;
    says(&said, &["nothing was done"]);
    world.open_gate("build");
    eventually("the phase is over", SOON, async || {
        let left = world.processes();
        let over = left.iter().all(crate::world::procs::Proc::is_monitor);
        if over { Ok(()) } else { Err(format!("{left:#?}")) }
    })
    .await;
    assert_eq!(state(&client, &id).await["status"], "running");
    limit(monitor.pid, "fsize", "unlimited");
    limit(daemon.pid(), "fsize", "unlimited");
    ends_well(&world, &repo, &client, &id).await;
}

/// A phase that hits the limit fails by itself; its monitor, with the same limit, records it.
#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_may_not_write_so_much_fails_and_says_so() {
    let world = World::new().await;
    let repo = shop(
        &world,
        &Agent::good().on("implementor", "head -c 9000000 /dev/zero >large || exit 7"),
    );
    // In blocks of 512 bytes: 8 MiB.
    world.launch_by(
        ["sh", "-c", "ulimit -S -f 16384; exec \"$@\"", "sh"].map(str::to_owned).to_vec(),
    );
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["status"], "failed", "{run:#}");
    assert_eq!(run["failure"]["phase"], "build", "{run:#}");
    world.quiet().await;
    assert_eq!(repo.pulls().len(), 0);
    let other = refused(&client, "resume_adw_workflow", json!({ "adw_id": "adw-none" })).await;
    assert_eq!(other["code"], "unknown_run", "the daemon lives: {other:#}");
}
