//! The embedded database in bad company: another program holds it, takes it away, replaces it, or
//! leaves rubbish in its place.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::crash_support::{attempt_dir, ends_well, recorded, shop, trigger_issue};
use crate::machine_support::{integrity, on_small_disks, says};
use crate::mcp_support::{Client, call, ok};
use crate::observe_support::get;
use crate::world::{Agent, SOON, World, eventually, state};

/// Another program that holds the database until it is dropped.
struct Holder(Child);

impl Holder {
    fn of(world: &World) -> Holder {
        let script = "import sqlite3, sys\n\
                      db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n\
                      db.execute('BEGIN EXCLUSIVE')\n\
                      print('held', flush=True)\n\
                      sys.stdin.read()\n\
                      db.execute('ROLLBACK')\n";
        let file = world.state_dir().join("adwd.db");
        let mut child = Command::new("python3")
            .args(["-c", script, file.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The error of a trigger for the database's sake.
async fn refused_trigger(client: &Client, n: u32) -> Value {
    eventually("a trigger is refused", SOON, async || {
        let given = json!({ "issue_number": n, "idempotency_key": format!("issue {n}") });
        let answer = call(client, "trigger_adw_workflow", given).await;
        if answer.is_error == Some(true) {
            let error = answer.structured_content.unwrap()["error"].clone();
            assert_eq!(error["code"], "database", "{error:#}");
            Ok(error)
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_another_program_holds_the_database_reads_are_answered_and_writes_say_why() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    let holder = Holder::of(&world);
    assert_eq!(state(&client, &id).await["status"], "running");
    let error = refused_trigger(&client, 2).await;
    says(error["message"].as_str().unwrap(), &["busy with another writer"]);
    // A phase that ends meanwhile is judged when it can be stored.
    world.open_gate("build");
    recorded(&attempt_dir(&repo, &id, "build", 1)).await;
    assert_eq!(state(&client, &id).await["status"], "running");
    drop(holder);
    ends_well(&world, &repo, &client, &id).await;
    let given = json!({ "issue_number": 2, "idempotency_key": "issue 2" });
    let second = ok(&client, "trigger_adw_workflow", given).await;
    ends_well(&world, &repo, &client, second["adw_id"].as_str().unwrap()).await;
    let list = ok(&client, "list_adw_workflows", json!({})).await;
    assert_eq!(list["workflows"].as_array().unwrap().len(), 2, "{list:#}");
    integrity(&world.database_url()).await;
}

/// An open file without a name takes writes that nobody ever reads again: no answer may rest on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_taken_away_or_replaced_is_not_written_until_it_is_back() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let base = daemon.url().replace("/mcp", "");
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    let (file, aside) = (world.state_dir().join("adwd.db"), world.path("aside.db"));
    fs::rename(&file, &aside).unwrap();
    let error = refused_trigger(&client, 2).await;
    says(error["message"].as_str().unwrap(), &["removed or replaced", "put it back"]);
    assert_eq!(get(&format!("{base}/readyz")).await.status, 503);
    fs::write(&file, "").unwrap();
    let error = refused_trigger(&client, 2).await;
    says(error["message"].as_str().unwrap(), &["removed or replaced"]);
    let health = get(&format!("{base}/mcp/health")).await;
    assert_eq!(health.check("database")["status"], "failed", "{health:?}");
    world.open_gate("build");
    recorded(&attempt_dir(&repo, &id, "build", 1)).await;
    fs::rename(&aside, &file).unwrap();
    ends_well(&world, &repo, &client, &id).await;
    let second = trigger_issue(&client, 2).await;
    ends_well(&world, &repo, &client, &second).await;
    integrity(&world.database_url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_none_keeps_the_daemon_from_starting_and_is_kept() {
    let world = World::new().await;
    let mut daemon = world.daemon().await;
    daemon.terminate().await;
    let file = world.state_dir().join("adwd.db");
    let good = fs::read(&file).unwrap();
    let mut torn = good.clone();
    torn[..4096].fill(0xa5);
    let mut cut = good.clone();
    cut.truncate(good.len() / 2 + 100);
    for (what, bytes) in
        [("rubbish", b"not a database at all, but a letter".to_vec()), ("torn", torn), ("cut", cut)]
    {
        fs::write(&file, &bytes).unwrap();
        let ran = world.cli(&["serve"]).await;
        assert_ne!(ran.code, 0, "{what}: {ran:?}");
        says(&ran.stderr, &["database", &file.display().to_string()]);
        assert_eq!(fs::read(&file).unwrap(), bytes, "{what}: it is kept as it is");
    }
    fs::write(&file, &good).unwrap();
    daemon.start().await;
    assert_eq!(
        ok(&daemon.client().await, "list_adw_workflows", json!({})).await["workflows"],
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_cannot_be_written_keeps_the_daemon_from_starting() {
    let world = World::new().await;
    fs::create_dir_all(world.state_dir()).unwrap();
    if !on_small_disks(&world, &[("ro", "state/adwd")]) {
        return;
    }
    let words = world.serve_words();
    let rest: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    let ran = world.run_in(&world.root, &words[0], &rest).await;
    assert_ne!(ran.code, 0, "{ran:?}");
    says(&ran.stderr, &["Read-only file system", &world.state_dir().display().to_string()]);
    assert_eq!(fs::read_dir(world.state_dir()).unwrap().count(), 0);
    world.quiet().await;
}

/// What is open stays open; what is new cannot be made, and readiness says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_turns_read_only_makes_the_daemon_unready_and_loses_no_run() {
    let world = World::new().await;
    if !on_small_disks(&world, &[]) {
        return;
    }
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let base = daemon.url().replace("/mcp", "");
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    let inside = crate::machine_support::Inside::of(daemon.pid());
    let folder = world.state_dir().display().to_string();
    inside.run(&world.root, &["mount", "--bind", &folder, &folder]);
    inside.run(&world.root, &["mount", "-o", "remount,bind,ro", &folder]);
    eventually("it is not ready", SOON, async || {
        let ready = get(&format!("{base}/readyz")).await;
        if ready.status == 503 { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
    let ready = get(&format!("{base}/readyz")).await;
    says(ready.check("state_dir")["message"].as_str().unwrap(), &["Read-only file system"]);
    world.open_gate("build");
    ends_well(&world, &repo, &client, &id).await;
    inside.run(&world.root, &["umount", &folder]);
    eventually("it is ready", SOON, async || {
        let ready = get(&format!("{base}/readyz")).await;
        if ready.status == 200 { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
    drop(client);
}
