//! Watches of the file system that the kernel does not give: the daemon looks by itself, and says so
//! in its log, its health and its metrics. The limits are those of a user namespace of its own.

use std::fs;

use crate::crash_support::{ends_well, shop, trigger_issue};
use crate::machine_support::{done, log_of, says, skipped};
use crate::observe_support::get;
use crate::world::{Agent, Daemon, SOON, World, eventually};

/// Has the world's daemons run in a user namespace with these limits; `false`, loudly, where there
/// are no such namespaces.
#[allow(clippy::disallowed_methods, reason = "tests may start processes")]
fn with_limits(world: &World, limits: &[(&str, &str)]) -> bool {
    let ours = "echo 5 >/proc/sys/user/max_inotify_watches";
    let tried = std::process::Command::new("unshare").args(["-Ur", "sh", "-c", ours]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        skipped("no user namespaces here: inotify's limits were not tried");
        return false;
    }
    let set: String = limits
        .iter()
        .map(|(name, value)| format!("echo {value} >/proc/sys/user/max_inotify_{name} && "))
        .collect();
    let words = ["unshare", "-Ur", "sh", "-c", &format!("{set}exec \"$@\""), "sh"];
    world.launch_by(words.map(str::to_owned).to_vec());
    true
}

/// It polls, and every place that tells says so.
async fn polls(world: &World, daemon: &Daemon<'_>, words: &[&str]) {
    let base = daemon.url().replace("/mcp", "");
    eventually("the metrics say that it polls", SOON, async || {
        let metrics = get(&format!("{base}/metrics")).await.body;
        let polls = metrics.contains("adwd_watcher{mode=\"poll\"} 1");
        if polls && metrics.contains("adwd_watcher{mode=\"inotify\"} 0") {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
    let health = get(&format!("{base}/mcp/health")).await;
    let check = health.check("inotify");
    assert_eq!(check["status"], "degraded", "{check:#}");
    says(&check.to_string(), &["by looking", "poll", "max_user_watches"]);
    eventually("the log says so", SOON, async || {
        let log = log_of(&world.state_dir());
        if words.iter().all(|word| log.contains(word)) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_instance_of_inotify_the_daemon_polls_from_the_start() {
    let world = World::new().await;
    if !with_limits(&world, &[("instances", "0")]) {
        return;
    }
    let repo = shop(&world, &Agent::good());
    let daemon = world.daemon().await;
    polls(&world, &daemon, &["inotify cannot be had, polling instead"]).await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    ends_well(&world, &repo, &client, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_run_out_while_a_run_works_turn_to_polling() {
    let world = World::new().await;
    if !with_limits(&world, &[]) {
        return;
    }
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let base = daemon.url().replace("/mcp", "");
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    let metrics = get(&format!("{base}/metrics")).await.body;
    assert!(metrics.contains("adwd_watcher{mode=\"inotify\"} 1"), "{metrics}");
    // No further watch, though a new folder below a watched one wants its own.
    let pid = daemon.pid().to_string();
    let none = "echo 0 >/proc/sys/user/max_inotify_watches";
    done(&["nsenter", "-t", &pid, "-U", "--preserve-credentials", "sh", "-c", none]);
    let new = repo.root.join("automation/agents").join(&id).join("new/folder");
    fs::create_dir_all(&new).unwrap();
    polls(&world, &daemon, &["polling for changes from now on"]).await;
    world.open_gate("build");
    ends_well(&world, &repo, &client, &id).await;
    let second = trigger_issue(&client, 2).await;
    ends_well(&world, &repo, &client, &second).await;
}
