//! A clock that jumps, both ways, under a living daemon (libfaketime, its offset in a file): nothing
//! times out that did not take its time, nothing that was spent or reviewed is lost of sight.
//!
//! Unless a test hands it on, only the daemon's own clock jumps. What its phases write keeps the
//! machine's time, so a daemon that goes back from a time ahead sees what it would see where the
//! machine's clock was set back.

use std::fs;
use std::path::PathBuf;

use adwd::clock::Millis;
use serde_json::{Value, json};

use crate::crash_support::{
    CALLS_ONCE, attempts, calls, counts, ends_well, kill9, monitor, nothing_is_left, shop,
    trigger_issue,
};
use crate::machine_support::skipped;
use crate::mcp_support::{Client, ok};
use crate::observe_support::send;
use crate::world::{Agent, SOON, World, eventually, state, wait_ended, wait_removed, wait_status};

const DAY_MS: i64 = 86_400_000;

/// The clock of a world's daemons.
struct Jumping<'w>(&'w World);

impl Jumping<'_> {
    /// `None`, loudly, where there is no libfaketime.
    fn of(world: &World) -> Option<Jumping<'_>> {
        let name = "faketime/libfaketimeMT.so.1";
        let roots = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|e| e.path());
        let all = roots.chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/lib64")]);
        let Some(library) = all.map(|root| root.join(name)).find(|path| path.exists()) else {
            skipped("no libfaketime: apt-get install faketime; a clock that jumps was not tried");
            return None;
        };
        let clock = Jumping(world);
        clock.jump("+0");
        let file = world.path("clock");
        let words = [
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            // A clock that is set does not change how fast time passes.
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
            "NO_FAKE_STAT=1".to_owned(),
        ];
        world.launch_by(words.to_vec());
        Some(clock)
    }

    /// Sets the clock to so far from the machine's.
    fn jump(&self, offset: &str) {
        let new = self.0.write("clock.new", offset);
        fs::rename(new, self.0.path("clock")).unwrap();
    }
}

fn at(run: &Value, key: &str) -> i64 {
    Millis::parse_rfc3339(run[key].as_str().unwrap()).unwrap().0
}

/// The ids of the runs, as they are listed.
async fn listed(client: &Client) -> Vec<String> {
    let list = ok(client, "list_adw_workflows", json!({})).await;
    let runs = list["workflows"].as_array().unwrap().iter();
    runs.map(|run| run["adw_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_forth_and_back_times_no_run_out_and_keeps_their_order() {
    let world = World::new().await;
    let Some(clock) = Jumping::of(&world) else { return };
    world.set("phases.build.wall_s", "900");
    world.set("phases.build.silence_s", "900");
    // Here the phases' clock jumps with it.
    world.set(
        "env_allow",
        "[\"LD_PRELOAD\", \"FAKETIME_*\", \"DONT_FAKE_MONOTONIC\", \"NO_FAKE_STAT\"]",
    );
    let orders = "if [ \"$ADW_ISSUE_NUMBER\" = 1 ]; then gate build; fi";
    let repo = shop(&world, &Agent::good().on("implementor", orders));
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let first = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    // With its monitor the phase would lose who bounds its time: then the daemon does.
    kill9(monitor(&world).await.pid);

    clock.jump("+2d");
    let second = trigger_issue(&client, 2).await;
    let ahead = ends_well_beside(&client, &second).await;
    let begun = state(&client, &first).await;
    assert_eq!(begun["status"], "running", "{begun:#}");
    assert!(at(&ahead, "created_at") - at(&begun, "created_at") > DAY_MS, "it did jump");

    clock.jump("-2d");
    let third = trigger_issue(&client, 3).await;
    let behind = ends_well_beside(&client, &third).await;
    assert!(at(&begun, "created_at") - at(&behind, "created_at") > DAY_MS, "it did jump");
    assert_eq!(state(&client, &first).await["status"], "running");
    // In the order in which they came, whatever the clock said.
    assert_eq!(listed(&client).await, [third.clone(), second.clone(), first.clone()]);

    // A daemon that starts with the clock behind finds everything all the same.
    daemon.kill9().await;
    daemon.start().await;
    let client = daemon.client().await;
    assert_eq!(state(&client, &first).await["status"], "running");
    world.open_gate("build");
    wait_status(&client, &first, "completed").await;
    let run = wait_removed(&client, &first).await;
    assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
    for id in [&first, &second, &third] {
        assert_eq!(calls(&repo, id), CALLS_ONCE);
    }
    assert_eq!(listed(&client).await, [third, second, first]);
    nothing_is_left(&world, &repo).await;
}

/// The good end of a run beside which others work.
async fn ends_well_beside(client: &Client, id: &str) -> Value {
    wait_status(client, id, "completed").await;
    let run = wait_removed(client, id).await;
    assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
    run
}

/// Set back in the middle of a phase, the clock makes everything that the phase writes look older
/// than the phase.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_phase_writes_after_the_clock_was_set_back_is_its_own() {
    let world = World::new().await;
    let Some(clock) = Jumping::of(&world) else { return };
    clock.jump("+2d");
    let agent = Agent::good()
        .on("implementor", "gate build\necho '{\"usage\": {\"cost_usd\": 0.4, \"output_tokens\": 10}}'\ngate spent")
        .on("reviewer", "gate review");
    let repo = shop(&world, &agent);
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    clock.jump("+0");
    world.open_gate("build");
    eventually("what it spends is counted while it works", SOON, async || {
        let run = state(&client, &id).await;
        if run["usage"]["cost_usd"] == 0.4 { Ok(()) } else { Err(format!("{:#}", run["usage"])) }
    })
    .await;
    clock.jump("+2d");
    world.open_gate("spent");
    world.at_gate("review").await;
    clock.jump("+0");
    world.open_gate("review");
    let run = ends_well(&world, &repo, &client, &id).await;
    assert_eq!(run["usage"]["cost_usd"], 0.4, "{run:#}");
}

/// What waits for a time waits no longer than it was to, whatever becomes of the clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_before_the_next_try_does_not_grow_when_the_clock_is_set_back() {
    let world = World::new().await;
    let Some(clock) = Jumping::of(&world) else { return };
    clock.jump("+2d");
    // So long that the test sees the pause, and no run would see its end.
    world.set("retry.base_delay_s", "3600");
    world.set("retry.max_delay_s", "3600");
    let tries = "[ -e \"$HOME/open-better\" ] || { echo 'the model is overloaded' >&2; exit 1; }";
    shop(&world, &Agent::good().on("planner", tries));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    eventually("it waits for its next try", SOON, async || {
        let run = state(&client, &id).await;
        let first = attempts(&run, "plan").first().cloned().unwrap_or_default();
        if first["status"] == "failed" { Ok(()) } else { Err(format!("{run:#}")) }
    })
    .await;
    world.open_gate("better");
    clock.jump("+0");
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    assert_eq!(counts(&run), [2, 1, 1], "{run:#}");
    world.quiet().await;
}

/// Quotas and keys of callers: nobody is shut out by a clock that came back.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_not_shut_out_by_a_clock_that_came_back() {
    let world = World::new().await;
    let Some(clock) = Jumping::of(&world) else { return };
    world.set("http.trust_loopback", "false");
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let daemon = world.daemon().await;
    clock.jump("+2d");
    let made = world.cli(&["key", "create", "--name", "ada", "--tier", "free", "--json"]).await;
    let key = made.with_code(0).json()["key"].as_str().unwrap().to_owned();
    let ask = async || {
        let headers = [("authorization", format!("Bearer {key}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        send("GET", &daemon.url().replace("/mcp", "/metrics"), &headers).await.status
    };
    assert_eq!(ask().await, 200);
    clock.jump("-2d");
    assert_eq!(ask().await, 200, "a key that is older than the clock says is good");
    clock.jump("+0");
    assert_eq!(ask().await, 200);
}
