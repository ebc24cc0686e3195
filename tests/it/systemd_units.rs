//! The service under a real systemd: the unit that `adwd service install` writes, for the machine
//! and for a user, through starts, restarts, kills, a watchdog, a stop and a boot, with runs alive.
//! Every run completes under the unit's restrictions, with uv, git and an agent.

use serde_json::{Value, json};

use crate::crash_support::{
    attempt_dir, attempts, counts, ends_well, nothing_is_left, recorded, shop, trigger_issue,
};
use crate::systemd_support::{ACCOUNT, Machine, Service, at_gate, can_boot, hand_over, monitor_of};
use crate::world::{Agent, RUN, Repo, World, eventually, state, wait_removed, wait_status};

/// A world for a machine, and a repository whose planner stands at the gate that is named after the
/// issue, each time.
async fn world() -> Option<(World, Repo)> {
    let world = World::new().await;
    if !can_boot(&world) {
        return None;
    }
    let repo = shop(&world, &Agent::good().on("planner", "gate \"plan-$ADW_ISSUE_NUMBER\""));
    hand_over(&world);
    Some((world, repo))
}

/// What `systemctl start` and `restart` promise: who asks at once is answered.
async fn is_ready(service: &Service<'_, '_>) {
    assert_eq!(service.shows("ActiveState"), "active");
    let status = service.shows("StatusText");
    assert!(status.contains("127.0.0.1:"), "{status}");
    let client = service.machine.client().await;
    let answer = crate::mcp_support::ok(&client, "list_adw_workflows", json!({})).await;
    assert!(answer["workflows"].is_array(), "{answer}");
}

/// Everything that may happen to the daemon while a run is alive, one after the other.
async fn a_run_lives_through(world: &World, repo: &Repo, service: &Service<'_, '_>) {
    let machine = service.machine;
    let id = trigger_issue(&machine.client().await, 1).await;
    at_gate(world, "plan-1").await;
    let monitor = monitor_of(world, &id).await.pid;
    let first = service.shows("MainPID");
    let lives = async |what: &str| {
        is_ready(service).await;
        let run = state(&machine.client().await, &id).await;
        assert_eq!(run["status"], "running", "after {what}: {run:#}");
        assert_eq!(monitor_of(world, &id).await.pid, monitor, "the same one, after {what}");
    };

    service.ctl(&["restart", "adwd"]).fine();
    let second = service.another_than(&first).await;
    lives("a restart").await;

    service.send("-KILL");
    let third = service.another_than(&second).await;
    lives("kill -9").await;

    // Long enough that a busy machine pings in time.
    let drop_in = "[Service]\nWatchdogSec=6\n";
    let folder = match service.user {
        true => format!("/run/user/{}/systemd/user", ACCOUNT.1),
        false => "/run/systemd/system".to_owned(),
    };
    let script = format!(
        "mkdir -p {folder}/adwd.service.d && printf '{drop_in}' >{folder}/adwd.service.d/dog.conf"
    );
    let script = ["sh", "-c", &script];
    if service.user { machine.as_account(&script) } else { machine.run(&script) }.fine();
    service.ctl(&["daemon-reload"]).fine();
    service.ctl(&["restart", "adwd"]).fine();
    let fourth = service.another_than(&third).await;
    service.send("-STOP");
    service.another_than(&fourth).await;
    lives("the watchdog").await;
    let journal = machine.run(&["journalctl", "--no-pager", "-o", "cat"]).fine();
    assert!(journal.contains("adwd.service: Watchdog timeout"), "{journal}");

    world.open_gate("plan-1");
    let run = ends_well(world, repo, &machine.client().await, &id).await;
    assert_eq!(exit_codes(&run), [json!(0), json!(0), json!(0)], "{run:#}");
    assert_eq!(repo.remote_branches(), [run["branch"].as_str().unwrap()]);
}

fn exit_codes(run: &Value) -> [Value; 3] {
    ["plan", "build", "review"].map(|phase| attempts(run, phase)[0]["exit_code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machines_unit_keeps_its_runs_through_everything_and_comes_back_at_boot() {
    let Some((world, repo)) = world().await else { return };
    let machine = Machine::boot(&world).await;
    machine.add_account();
    let service = Service { machine: &machine, user: false };
    service.install();
    is_ready(&service).await;
    assert_eq!(service.shows("User"), ACCOUNT.0);
    assert_eq!(service.ctl(&["is-enabled", "adwd"]).fine().trim(), "enabled");
    assert!(service.journal().contains(" ready: "), "{}", service.journal());
    a_run_lives_through(&world, &repo, &service).await;

    // A stop ends the daemon alone; what the phase came to meanwhile is judged by the next one.
    let id = trigger_issue(&machine.client().await, 2).await;
    at_gate(&world, "plan-2").await;
    let monitor = monitor_of(&world, &id).await.pid;
    service.ctl(&["stop", "adwd"]).fine();
    assert_eq!(service.shows("ActiveState"), "inactive");
    assert_eq!(service.shows("Result"), "success");
    assert_eq!(monitor_of(&world, &id).await.pid, monitor);
    world.open_gate("plan-2");
    assert_eq!(recorded(&attempt_dir(&repo, &id, "plan", 1)).await.code, Some(0));
    world.quiet().await;
    service.ctl(&["start", "adwd"]).fine();
    is_ready(&service).await;
    ends_well(&world, &repo, &machine.client().await, &id).await;

    // The power goes while a run is alive: the next boot starts the daemon by itself, and that one
    // does the lost attempt again.
    let id = trigger_issue(&machine.client().await, 3).await;
    at_gate(&world, "plan-3").await;
    machine.keep_etc();
    drop(machine);
    assert_eq!(world.processes(), [], "the power is off");
    world.open_gate("plan-3");
    let machine = Machine::boot(&world).await;
    let service = Service { machine: &machine, user: false };
    service.another_than("0").await;
    is_ready(&service).await;
    let client = machine.client().await;
    wait_status(&client, &id, "completed").await;
    let run = wait_removed(&client, &id).await;
    assert_eq!(counts(&run), [2, 1, 1], "{run:#}");
    assert_eq!(attempts(&run, "plan")[0]["status"], "lost", "{run:#}");
    nothing_is_left(&world, &repo).await;

    // A wrong setting is no reason to try again and again.
    world.set("limits.max_running", "\"many\"");
    assert!(!service.ctl(&["restart", "adwd"]).ok);
    assert_eq!(service.shows("ActiveState"), "failed");
    assert_eq!(service.shows("ExecMainStatus"), "2");
    assert!(service.journal().contains("limits.max_running"), "{}", service.journal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_unit_gives_each_phase_a_scope_and_keeps_its_runs_through_everything() {
    let Some((world, repo)) = world().await else { return };
    let machine = Machine::boot(&world).await;
    machine.add_account();
    machine.run(&["systemctl", "start", &format!("user@{}.service", ACCOUNT.1)]).fine();
    let service = Service { machine: &machine, user: true };
    service.install();
    is_ready(&service).await;
    assert_eq!(service.ctl(&["is-enabled", "adwd"]).fine().trim(), "enabled");
    assert!(service.journal().contains(" ready: "), "{}", service.journal());

    let scopes = || service.ctl(&["list-units", "--plain", "--no-legend", "adw-*.scope"]).fine();
    let id = trigger_issue(&machine.client().await, 2).await;
    at_gate(&world, "plan-2").await;
    assert!(scopes().contains(&format!("adw-{id}-plan-1.scope")), "{}", scopes());
    world.open_gate("plan-2");
    ends_well(&world, &repo, &machine.client().await, &id).await;
    repo.remote_git(&["branch", "-D", &repo.remote_branches()[0]]);

    a_run_lives_through(&world, &repo, &service).await;
    eventually("no scope is left", RUN, async || {
        let left = scopes();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    service.ctl(&["stop", "adwd"]).fine();
    assert_eq!(service.shows("Result"), "success");
    nothing_is_left(&world, &repo).await;
}
