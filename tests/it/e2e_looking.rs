//! Looking: lists with filters and pages, logs with pages and a follower, one daemon a user.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::mcp_support::{Client, ok, refused};
use crate::world::{World, wait_removed, wait_status};

async fn list(client: &Client, given: Value) -> (Vec<String>, i64, Option<String>) {
    let page = ok(client, "list_adw_workflows", given).await;
    let runs = page["workflows"].as_array().unwrap().iter();
    let ids = runs.map(|run| run["adw_id"].as_str().unwrap().to_owned()).collect();
    let cursor = page["next_cursor"].as_str().map(str::to_owned);
    (ids, page["total"].as_i64().unwrap(), cursor)
}

async fn lists_filter_and_page(world: World) {
    let (shop, depot) = (world.repo("shop"), world.repo("depot"));
    shop.issue_text(4, "Nothing to do", "wontfix", "");
    world.set("limits.max_running", "2");
    world.serve(&shop, "");
    world.serve(&depot, "");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let asked = [
        ("shop", "1", "aa1"),
        ("shop", "4", "aa2"),
        ("depot", "1", "bb1"),
        ("depot", "404", "bb2"),
    ];
    for (project, issue, id) in asked {
        let given = json!({ "project": project, "issue_number": issue, "adw_id": id });
        ok(&client, "trigger_adw_workflow", given).await;
    }
    wait_status(&client, "aa1", "completed").await;
    wait_status(&client, "aa2", "skipped").await;
    wait_status(&client, "bb1", "completed").await;
    let failed = wait_status(&client, "bb2", "failed").await;
    let all = vec!["bb2".to_owned(), "bb1".to_owned(), "aa2".to_owned(), "aa1".to_owned()];
    assert_eq!(list(&client, json!({})).await, (all.clone(), 4, None), "newest first");

    let filters = [
        (json!({ "adw_id_filter": "aa" }), vec!["aa2", "aa1"]),
        (json!({ "adw_id_filter": "a" , "status_filter": "skipped" }), vec!["aa2"]),
        (json!({ "adw_id_filter": "%" }), vec![]),
        (json!({ "adw_id_filter": "a_" }), vec![]),
        (json!({ "status_filter": "completed" }), vec!["bb1", "aa1"]),
        (json!({ "status_filter": "queued" }), vec![]),
        (json!({ "project": "depot" }), vec!["bb2", "bb1"]),
        (json!({ "issue_number": 1 }), vec!["bb1", "aa1"]),
        (json!({ "issue_number": "1", "project": "shop" }), vec!["aa1"]),
        (json!({ "since": failed["created_at"] }), vec!["bb2"]),
        (json!({ "since": "2999-01-01T00:00:00Z" }), vec![]),
    ];
    for (given, wanted) in filters {
        let (ids, total, cursor) = list(&client, given.clone()).await;
        assert_eq!(ids, wanted, "{given}");
        assert_eq!((total, cursor), (ids.len() as i64, None), "{given}");
    }
    for (given, word) in [
        (json!({ "status_filter": "done" }), "completed"),
        (json!({ "project": "nowhere" }), "shop"),
        (json!({ "limit": 0 }), "100"),
        (json!({ "cursor": "rubbish" }), "next_cursor"),
    ] {
        let error = refused(&client, "list_adw_workflows", given).await;
        assert!(error.to_string().contains(word), "{error:#}");
    }

    // Pages stay the same though newer runs come between them.
    let (one, total, cursor) = list(&client, json!({ "limit": 3 })).await;
    assert_eq!((one.as_slice(), total), (&all[..3], 4));
    let given = json!({ "project": "shop", "issue_number": "2", "adw_id": "cc1" });
    ok(&client, "trigger_adw_workflow", given).await;
    let (two, _, end) = list(&client, json!({ "limit": 3, "cursor": cursor.unwrap() })).await;
    assert_eq!((two.as_slice(), end), (&all[3..], None));
    wait_status(&client, "cc1", "completed").await;

    let ran = world.cli(&["list", "--status", "failed", "--json"]).await.with_code(0);
    assert_eq!(ran.json()["workflows"][0]["adw_id"], "bb2");
    let table = world.cli(&["list", "--project", "shop"]).await.with_code(0).stdout;
    let ids: Vec<&str> = table.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(ids, ["cc1", "aa2", "aa1"]);
    world.quiet().await;
}

crate::in_worlds_on_both_engines!(lists_filter_and_page);

async fn page(client: &Client, given: Value) -> Value {
    ok(client, "get_adw_logs", given).await
}

fn lines(page: &Value) -> Vec<String> {
    page["lines"].as_array().unwrap().iter().map(|l| l.as_str().unwrap().to_owned()).collect()
}

/// Reads the log that still grows two lines at a time, and opens the gate of the check when there
/// is nothing more to read; phases and lines.
async fn page_by_page(world: &World, client: &Client) -> Vec<(String, String)> {
    let mut read = vec![];
    let mut given = json!({ "adw_id": "aa1", "limit": 2 });
    let mut opened = false;
    loop {
        let page = page(client, given).await;
        assert!(lines(&page).len() <= 2, "{page:#}");
        let phase = page["phase"].as_str().unwrap();
        read.extend(lines(&page).into_iter().map(|line| (phase.to_owned(), line)));
        if page["ended"] == true && page["more"] == false {
            return read;
        }
        if page["more"] == false && !opened {
            assert_eq!(page["phase"], "build", "all of the plan, and what the build has said");
            world.open_check();
            opened = true;
        }
        given = json!({ "adw_id": "aa1", "limit": 2, "after": page["next"] });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_page_by_page_are_the_whole_log_of_every_phase() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    world.close_check();
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let given = json!({ "issue_number": "1", "adw_id": "aa1" });
    ok(&client, "trigger_adw_workflow", given).await;
    world.at_check().await;
    let home = world.home();
    let follower = world.cli_in(&home, &["logs", "-f", "--all", "aa1"]);
    let late = world.cli_in(&home, &["logs", "-f", "aa1"]);
    let story = page_by_page(&world, &client);
    let (followed, late, read) = tokio::join!(follower, late, story);
    wait_status(&client, "aa1", "completed").await;
    let mut whole = vec![];
    for phase in ["plan", "build", "review"] {
        let all = page(&client, json!({ "adw_id": "aa1", "phase": phase, "limit": 1000 })).await;
        assert_eq!((&all["more"], &all["ended"]), (&json!(false), &json!(true)), "{all:#}");
        let own: Vec<String> = lines(&all);
        let read: Vec<&String> = read.iter().filter(|(p, _)| p == phase).map(|(_, l)| l).collect();
        assert_eq!(own.iter().collect::<Vec<_>>(), read, "{phase}");
        assert!(own.contains(&"STATUS=completed".to_owned()), "{phase}: {own:?}");
        whole.extend(own);
    }
    let printed = |ran: &crate::world::Ran| -> Vec<String> {
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout
            .lines()
            .filter(|line| whole.iter().any(|w| w == line))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(printed(&followed), whole, "a follower from the beginning sees everything once");
    let seen: BTreeSet<String> = printed(&late).into_iter().collect();
    let review = page(&client, json!({ "adw_id": "aa1", "phase": "review" })).await;
    assert!(lines(&review).iter().all(|line| seen.contains(line)), "{late:?}");

    let ran = world.cli(&["logs", "aa1", "--all"]).await.with_code(0);
    assert_eq!(printed(&ran), whole, "--all is everything");
    let tail =
        page(&client, json!({ "adw_id": "aa1", "phase": "plan", "tail": true, "limit": 3 })).await;
    let plan = page(&client, json!({ "adw_id": "aa1", "phase": "plan", "limit": 1000 })).await;
    let plan = lines(&plan);
    assert_eq!(lines(&tail), plan[plan.len() - 3..]);
    for (given, code) in [
        (json!({ "adw_id": "aa1", "phase": "deploy" }), "unknown_phase"),
        (json!({ "adw_id": "aa1", "after": "../../etc/passwd" }), "invalid_argument"),
        (json!({ "adw_id": "aa1", "after": "plan.9.0" }), "invalid_argument"),
    ] {
        assert_eq!(refused(&client, "get_adw_logs", given).await["code"], code);
    }
    wait_removed(&client, "aa1").await;
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
    let world = World::new().await;
    let mut daemon = world.daemon().await;
    let before = world.snapshot(&[]).await;
    let ran = world.cli(&["serve"]).await.with_code(3);
    assert!(ran.stderr.contains(&format!("pid {}", daemon.pid())), "{ran:?}");
    assert!(ran.stderr.contains("adwd stop"), "{ran:?}");
    let ran = world.cli(&["serve", "--json"]).await.with_code(3);
    assert_eq!(ran.json()["error"]["code"], "already_running", "{ran:?}");
    crate::world::snapshot::assert_same(&before, &world.snapshot(&[]).await, "the second daemon");
    ok(&daemon.client().await, "list_adw_projects", json!({})).await;

    // Killed, it leaves no lie behind: the next one starts, on the same socket.
    daemon.kill9().await;
    world.cli(&["list"]).await.with_code(3);
    daemon.start().await;
    world.cli(&["list"]).await.with_code(0);
    world.cli(&["stop"]).await.with_code(0);
    world.cli(&["stop"]).await.with_code(3);
}
