//! What is asked twice, asked wrongly or asked for what is not there: a clear answer, and nothing
//! changed on disk or in the database.

use serde_json::{Value, json};

use crate::mcp_support::{Client, ok, refused};
use crate::world::snapshot::assert_same;
use crate::world::{Agent, Repo, SOON, World, eventually, state, wait_removed, wait_status};

const TRIGGER: &str = "trigger_adw_workflow";

/// A refusal with that code, after which everything is as it was; its message.
async fn refuses(
    world: &World,
    repo: &Repo,
    client: &Client,
    tool: &str,
    given: Value,
    code: &str,
) -> String {
    let before = world.snapshot(&[repo]).await;
    let error = refused(client, tool, given.clone()).await;
    assert_eq!(error["code"], code, "{tool} {given}: {error:#}");
    assert_same(&before, &world.snapshot(&[repo]).await, &format!("{tool} {given}"));
    let message = error["message"].as_str().unwrap();
    let hint = error["hint"].as_str().unwrap_or_default();
    format!("{message} {hint}")
}

async fn malformed_requests_change_nothing(world: World) {
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let phase = "trigger_adw_phase";
    let cases = [
        (TRIGGER, json!({ "issue_number": "12a" }), "invalid_argument", "12a"),
        (TRIGGER, json!({ "issue_number": "" }), "invalid_argument", "issue_number"),
        (TRIGGER, json!({ "issue_number": "12345678901" }), "invalid_argument", "12345678901"),
        (TRIGGER, json!({ "issue_number": -1 }), "invalid_argument", "-1"),
        (TRIGGER, json!({ "issue_number": "1; rm -rf /" }), "invalid_argument", "rm -rf"),
        (
            TRIGGER,
            json!({ "issue_number": "1", "adw_id": "../../x" }),
            "invalid_argument",
            "../../x",
        ),
        (TRIGGER, json!({ "issue_number": "1", "adw_id": "-rf" }), "invalid_argument", "-rf"),
        (
            TRIGGER,
            json!({ "issue_number": "1", "adw_id": "a".repeat(65) }),
            "invalid_argument",
            "64",
        ),
        (TRIGGER, json!({ "issue_number": "1", "model": "--help" }), "invalid_argument", "--help"),
        (TRIGGER, json!({ "issue_number": "1", "priority": 101 }), "invalid_argument", "100"),
        (TRIGGER, json!({ "issue_number": "1", "phases": [] }), "invalid_argument", "plan"),
        (
            TRIGGER,
            json!({ "issue_number": "1", "phases": ["deploy"] }),
            "unknown_phase",
            "plan, build, review",
        ),
        (TRIGGER, json!({ "issue_number": "1", "project": "nowhere" }), "unknown_project", "shop"),
        (TRIGGER, json!({ "issue": "1" }), "unknown_argument", "issue_number"),
        (TRIGGER, json!({}), "invalid_argument", "issue_number"),
        (
            phase,
            json!({ "issue_number": "1", "phase": "deploy" }),
            "unknown_phase",
            "plan, build, review",
        ),
        (phase, json!({ "issue_number": "1", "phase": "../plan" }), "invalid_argument", "../plan"),
        (phase, json!({ "issue_number": "1", "phase": "build" }), "wrong_state", "plan"),
        (
            phase,
            json!({ "issue_number": "1", "phase": "build", "adw_id": "nobody" }),
            "unknown_run",
            "nobody",
        ),
        ("get_adw_state", json!({ "adw_id": "../../x" }), "unknown_run", "../../x"),
        ("get_adw_logs", json!({ "adw_id": "nobody" }), "unknown_run", "nobody"),
        ("cancel_adw_workflow", json!({ "adw_id": "nobody" }), "unknown_run", "nobody"),
        ("resume_adw_workflow", json!({ "adw_id": "nobody" }), "unknown_run", "nobody"),
        ("add_adw_project", json!({ "path": "/proc" }), "bad_project", "/proc"),
        ("add_adw_project", json!({ "path": "shop" }), "bad_project", "shop"),
        ("remove_adw_project", json!({ "name": "nowhere" }), "unknown_project", "nowhere"),
    ];
    for (tool, given, code, word) in cases {
        let said = refuses(&world, &repo, &client, tool, given.clone(), code).await;
        assert!(said.contains(word), "{tool} {given} should speak of {word:?}: {said}");
    }
    world.quiet().await;
}

crate::in_worlds_on_both_engines!(
    malformed_requests_change_nothing,
    a_request_made_twice_is_one_run
);

/// While a run is active; then when it has ended.
async fn a_request_made_twice_is_one_run(world: World) {
    let repo = world.repo("shop");
    let agent = Agent::good().on("planner", "gate plan");
    world.serve(&repo, &world.agent_lines("slow", &agent));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let asked = json!({ "issue_number": "1", "idempotency_key": "k" });
    let first = ok(&client, TRIGGER, asked.clone()).await;
    let id = first["adw_id"].as_str().unwrap().to_owned();
    assert_eq!(first["already_running"], false, "{first:#}");
    world.at_gate("plan").await;

    // The phase stands still at its gate; once the daemon has stored the last state that it wrote and
    // what its agents used so far, nothing moves any more.
    let file = repo.root.join(format!("automation/agents/{id}/adw_state.json"));
    eventually("the daemon has stored the state of the waiting phase", SOON, async || {
        let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let run = state(&client, &id).await;
        let stored = run["state"] == written && run["usage"].is_object();
        if stored { Ok(()) } else { Err(run.to_string()) }
    })
    .await;
    let before = world.snapshot(&[&repo]).await;
    let again = ok(&client, TRIGGER, asked.clone()).await;
    assert_eq!((&again["adw_id"], &again["already_running"]), (&json!(id), &json!(false)));
    for joins in [json!({ "issue_number": 1 }), json!({ "issue_number": "1", "adw_id": id })] {
        let joined = ok(&client, TRIGGER, joins).await;
        assert_eq!((&joined["adw_id"], &joined["already_running"]), (&json!(id), &json!(true)));
    }
    assert_same(&before, &world.snapshot(&[&repo]).await, "asking again");
    let clashes = [
        json!({ "issue_number": "1", "model": "opus" }),
        json!({ "issue_number": "1", "phases": ["plan"] }),
        json!({ "issue_number": "1", "adw_id": "another" }),
        json!({ "issue_number": "2", "idempotency_key": "k" }),
        json!({ "issue_number": "2", "adw_id": id }),
    ];
    for given in &clashes {
        let said = refuses(&world, &repo, &client, TRIGGER, given.clone(), "conflict").await;
        assert!(said.contains(&id), "{given} should name {id}: {said}");
    }

    world.open_gate("plan");
    wait_status(&client, &id, "completed").await;
    wait_removed(&client, &id).await;
    world.quiet().await;
    let replayed = ok(&client, TRIGGER, asked).await;
    assert_eq!(replayed["adw_id"], id.as_str());
    assert_eq!(replayed["status"], "completed", "{replayed:#}");
    for issue in ["1", "2"] {
        let given = json!({ "issue_number": issue, "adw_id": id });
        let said = refuses(&world, &repo, &client, TRIGGER, given, "conflict").await;
        assert!(said.contains(&id), "{said}");
    }
    let before = world.snapshot(&[&repo]).await;
    let fresh = ok(&client, TRIGGER, json!({ "issue_number": "1" })).await;
    assert_ne!(before, world.snapshot(&[&repo]).await, "else this test could prove nothing");
    assert_ne!(fresh["adw_id"], id.as_str(), "an ended run makes room for a new one");
    wait_status(&client, fresh["adw_id"].as_str().unwrap(), "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn which_project_must_be_clear() {
    let world = World::new().await;
    let (shop, depot) = (world.repo("shop"), world.repo("depot"));
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let given = json!({ "issue_number": "1" });
    let said = refuses(&world, &shop, &client, TRIGGER, given.clone(), "no_project").await;
    assert!(said.contains("adwd project add"), "{said}");
    world.serve(&shop, "");
    world.serve(&depot, "");
    daemon.restart().await;
    let client = daemon.client().await;
    let said = refuses(&world, &shop, &client, TRIGGER, given, "project_needed").await;
    assert!(said.contains("shop") && said.contains("depot"), "{said}");

    // The shell knows by its folder; a subfolder is as good.
    let folder = depot.root.join("issues");
    let ran = world.cli_in(&folder, &["trigger", "#2", "--wait", "--json"]).await.with_code(0);
    assert_eq!(ran.json()["project"], "depot");
    let ran = world.cli(&["trigger", "2", "--json"]).await.with_code(4);
    assert_eq!(ran.json()["error"]["code"], "project_needed");
    let ran = world.cli(&["trigger", "2", "--project", "nowhere", "--json"]).await.with_code(5);
    assert_eq!(ran.json()["error"]["code"], "unknown_project");
    world.cli(&["trigger", "12a", "--project", "shop"]).await.with_code(2);
    world.cli(&["phase", "deploy", "1", "--project", "shop"]).await.with_code(5);
    world.cli(&["state", "nobody"]).await.with_code(5);
    assert_eq!(shop.remote_branches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_file_is_read_when_work_is_asked_for() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let mut daemon = world.daemon().await;
    let trigger = ["trigger", "1", "--wait", "--json"];
    world.cli_in(&repo.root, &["project", "add", "."]).await.with_code(0);

    // Edited while the daemon runs: what it says counts, for the daemon as for the scripts.
    repo.write(".adw.toml", "remote = \"elsewhere\"\n");
    let run = world.cli_in(&repo.root, &trigger).await.with_code(1).json();
    assert_eq!(run["failure"]["class"], "preflight");
    assert!(run["failure"]["message"].as_str().unwrap().contains("elsewhere"), "{run:#}");
    repo.write(".adw.toml", "agnt = \"patch\"\n");
    let said = world.cli_in(&repo.root, &trigger).await.with_code(4).json();
    assert!(said["error"]["message"].as_str().unwrap().contains("unknown key \"agnt\""), "{said}");

    // Broken, also over a restart, it is named; mended, the project is served as before.
    repo.write(".adw.toml", "agent = [\n");
    for _ in 0..2 {
        let said = world.cli_in(&repo.root, &trigger).await.with_code(4).json();
        assert_eq!(said["error"]["code"], "bad_project");
        assert!(said["error"]["message"].as_str().unwrap().contains(".adw.toml line 1"), "{said}");
        daemon.restart().await;
    }
    repo.write(".adw.toml", "");
    let run = world.cli_in(&repo.root, &trigger).await.with_code(0).json();
    assert_eq!(run["project"], "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_whose_folder_is_gone_keeps_its_name_until_it_is_removed() {
    let world = World::new().await;
    let (old, new) = (world.repo("a/shop"), world.repo("b/shop"));
    let mut daemon = world.daemon().await;
    world.cli_in(&old.root, &["project", "add", "."]).await.with_code(0);
    std::fs::remove_dir_all(&old.root).unwrap();
    daemon.restart().await;
    let added = world.cli_in(&new.root, &["project", "add", ".", "--json"]).await.with_code(0);
    assert_eq!(added.json()["name"], "shop-2");
    world.cli(&["project", "remove", "shop"]).await.with_code(0);
    world.cli(&["project", "remove", "shop"]).await.with_code(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_cannot_be_served_is_shown_with_why_and_comes_back_by_itself() {
    let world = World::new().await;
    let (shop, depot) = (world.repo("shop"), world.repo("depot"));
    world.serve(&shop, "");
    world.serve(&depot, "");
    let mut daemon = world.daemon().await;
    let given = ["trigger", "1", "--project", "shop", "--adw-id", "aa1", "--wait", "--json"];
    world.cli(&given).await.with_code(0);
    // Its disk is away when the daemon starts.
    let away = world.path("away");
    std::fs::rename(&shop.root, &away).unwrap();
    daemon.restart().await;
    let listed = world.cli(&["project", "list", "--json"]).await.with_code(0).json();
    let all = listed["projects"].as_array().unwrap();
    let found = all.iter().find(|p| p["name"] == "shop").unwrap();
    assert!(found["problem"].as_str().unwrap().contains("not a folder"), "{listed:#}");
    assert!(all.iter().any(|p| p["name"] == "depot" && p.get("problem").is_none()), "{listed:#}");
    let table = world.cli(&["project", "list"]).await.with_code(0).stdout;
    assert!(table.contains("not served: it is not a folder"), "{table}");
    let report = world.cli(&["doctor", "--offline", "--json"]).await.with_code(1).json();
    let checks = report["checks"].as_array().unwrap();
    let told = checks.iter().find(|c| c["check"] == "projects").unwrap();
    assert!(told["message"].as_str().unwrap().contains("shop is not served"), "{told:#}");
    let said = world.cli(&["trigger", "1", "--project", "shop", "--json"]).await.with_code(4);
    assert_eq!(said.json()["error"]["code"], "bad_project");
    // What is past stays to be seen.
    let past = world.cli(&["list", "--project", "shop", "--json"]).await.with_code(0).json();
    assert_eq!((&past["total"], &past["workflows"][0]["adw_id"]), (&json!(1), &json!("aa1")));

    std::fs::rename(&away, &shop.root).unwrap();
    let given = ["trigger", "2", "--project", "shop", "--wait", "--json"];
    world.cli(&given).await.with_code(0);
    let listed = world.cli(&["project", "list", "--json"]).await.with_code(0).json();
    assert!(listed["projects"].as_array().unwrap().iter().all(|p| p.get("problem").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_project_is_never_served_without_its_settings() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let mut daemon = world.daemon().await;
    world.cli_in(&repo.root, &["project", "add", "."]).await.with_code(0);
    world.serve(&repo, "profile = \"kotadb\"");
    daemon.restart().await;
    let said = world.cli_in(&repo.root, &["trigger", "1", "--json"]).await.with_code(4).json();
    assert_eq!(said["error"]["code"], "bad_project");
    assert!(said["error"]["message"].as_str().unwrap().contains("kotadb"), "{said}");
    world.cli(&["config", "check"]).await.with_code(2);
}
