//! Environments with less in them than a shell has: no home, an unwritable one, nothing at all, a
//! thin search path, Python's buffering as it comes; and a uv or git that is not what it was.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::crash_support::{
    attempt_dir, counts, ends_well, nothing_is_left, resume, shop, trigger_issue,
};
use crate::machine_support::says;
use crate::observe_support::get;
use crate::world::{
    Agent, SOON, World, eventually, quoted, state, wait_ended, wait_removed, wait_status,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_needs_no_home_folder() {
    for home in [None, Some("/proc/nonexistent/home"), Some("/proc")] {
        let world = World::new().await;
        world.set_env("HOME", home);
        // With no home, and no cache named, uv gets one in the state folder.
        world.set_env("UV_CACHE_DIR", None);
        let repo = world.repo("shop");
        world.serve(&repo, "check_command = \"true\"\n");
        let daemon = world.daemon().await;
        let client = daemon.client().await;
        let id = trigger_issue(&client, 1).await;
        let run = wait_status(&client, &id, "completed").await;
        assert_eq!(counts(&run), [1, 1, 1], "HOME={home:?}: {run:#}");
        assert!(world.state_dir().join("uv-cache").is_dir(), "HOME={home:?}");
        wait_removed(&client, &id).await;
        nothing_is_left(&world, &repo).await;
        world.cli(&["list"]).await.with_code(0);
    }
}

/// `env -i`: what a service manager gives, or less.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_an_empty_environment_works_with_what_it_was_told() {
    let world = World::new().await;
    let uv = format!("{}/uv", world.env()["PATH"].split(':').next().unwrap());
    world.set("uv.path", &quoted(&uv));
    let cache = world.env()["UV_CACHE_DIR"].clone();
    let repo = world.repo("shop");
    for (name, value) in [("user.name", "A Tester"), ("user.email", "tester@example.org")] {
        repo.git(&["config", name, value]);
    }
    world.serve(
        &repo,
        &format!("check_command = \"true\"\n[project.env]\nUV_CACHE_DIR = {}\n", quoted(&cache)),
    );
    let flags = format!(
        "--config {} --state-dir {} --runtime-dir {}",
        world.config_file().display(),
        world.state_dir().display(),
        world.path("run/adwd").display(),
    );
    let script = format!("exec env -i PATH=/usr/bin:/bin \"$@\" {flags}");
    world.launch_by(["sh", "-c", &script, "sh"].map(str::to_owned).to_vec());
    let daemon = world.daemon().await;
    let environ = fs::read(format!("/proc/{}/environ", daemon.pid())).unwrap();
    assert_eq!(environ, b"PATH=/usr/bin:/bin\0");
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = wait_status(&client, &id, "completed").await;
    assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
    wait_removed(&client, &id).await;
    nothing_is_left(&world, &repo).await;
}

/// Python keeps back what it prints into a file unless it is told otherwise; the daemon tells it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_phase_says_arrives_while_it_works() {
    for unbuffered in [None, Some("")] {
        let world = World::new().await;
        world.set_env("PYTHONUNBUFFERED", unbuffered);
        let repo = shop(&world, &Agent::good().on("planner", "gate plan"));
        let daemon = world.daemon().await;
        let environ = fs::read_to_string(format!("/proc/{}/environ", daemon.pid())).unwrap();
        assert!(!environ.contains("PYTHONUNBUFFERED=1"), "{environ}");
        let client = daemon.client().await;
        let id = trigger_issue(&client, 1).await;
        world.at_gate("plan").await;
        let log = attempt_dir(&repo, &id, "plan", 1).join("execution.log");
        eventually("its first words are in the log", SOON, async || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let heard = ["ADW_ID=", "WORKTREE_PATH=", "PHASE=plan", "STATUS=started"];
            if heard.iter().all(|word| said.contains(word)) { Ok(()) } else { Err(said) }
        })
        .await;
        assert_eq!(state(&client, &id).await["status"], "running");
        world.open_gate("plan");
        ends_well(&world, &repo, &client, &id).await;
    }
}

/// In the middle of an upgrade there is none for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_uv_that_goes_away_between_two_phases_is_named_and_comes_back() {
    let world = World::new().await;
    let real = format!("{}/uv", world.env()["PATH"].split(':').next().unwrap());
    fs::create_dir_all(world.path("tools")).unwrap();
    let uv = world.path("tools/uv");
    symlink(&real, &uv).unwrap();
    world.set("uv.path", &quoted(&uv.display().to_string()));
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    fs::remove_file(&uv).unwrap();
    world.open_gate("build");
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["failure"]["class"], "environment", "{run:#}");
    says(
        run["failure"]["message"].as_str().unwrap(),
        &["review", "uv is gone", "tools/uv", "uv.path"],
    );
    assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
    world.quiet().await;
    symlink(&real, &uv).unwrap();
    resume(&client, &id).await;
    wait_status(&client, &id, "completed").await;
    let run = wait_removed(&client, &id).await;
    assert_eq!(counts(&run), [1, 1, 2], "{run:#}");
    nothing_is_left(&world, &repo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_git_is_refused_before_a_run_begins() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let path = world.env()["PATH"].clone();
    let old = "#!/bin/sh\nif [ \"$1\" = --version ]; then echo git version 2.30.2; exit; fi\nPATH=${PATH#*:} exec git \"$@\"\n";
    let git = world.program("old/git", old);
    world.set_env("PATH", Some(&format!("{}:{path}", world.path("old").display())));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = wait_ended(&client, &id).await;
    assert_eq!(
        (&run["status"], &run["failure"]["class"]),
        (&json!("failed"), &json!("preflight")),
        "{run:#}"
    );
    says(run["failure"]["message"].as_str().unwrap(), &["git", "2.30", "2.39", "old/git"]);
    assert_eq!(counts(&run), [0, 0, 0], "{run:#}");
    let health = get(&daemon.url().replace("/mcp", "/mcp/health")).await;
    let check = health.check("git");
    assert_eq!(check["status"], "failed", "{check:#}");
    says(check["message"].as_str().unwrap(), &["2.30.2", "older than 2.39"]);
    let doctor = world.cli_in(&repo.root, &["doctor", "--offline"]).await.with_code(1);
    says(&doctor.stdout, &["2.30.2", "older than 2.39", "upgrade git"]);
    nothing_is_left(&world, &repo).await;
    // Upgraded where it is, it is good without a restart.
    fs::write(&git, "#!/bin/sh\nPATH=${PATH#*:} exec git \"$@\"\n").unwrap();
    resume(&client, &id).await;
    ends_well(&world, &repo, &client, &id).await;
}
