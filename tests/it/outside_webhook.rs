//! Webhooks of GitHub, against the real binary.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::mcp_support::ok;
use crate::outside_support::*;
use crate::world::{SOON, World, eventually, wait_ended, wait_status};

/// All runs that the daemon knows.
async fn runs(client: &crate::mcp_support::Client) -> Vec<Value> {
    let page = ok(client, "list_adw_workflows", json!({})).await;
    page["workflows"].as_array().unwrap().clone()
}

crate::in_worlds_on_both_engines!(a_command_starts_one_run_however_often_it_comes);

async fn a_command_starts_one_run_however_often_it_comes(world: World) {
    let _repo = github_shop(&world, "shop");
    let mut daemon = world.daemon().await;
    let url = endpoint(&daemon);
    let body = comment(7, "/adw run plan model=opus", 1);
    let first = deliver(&url, "d-1", "issue_comment", &body).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(first.body["accepted"], true, "{first:?}");
    let id = first.body["adw_id"].as_str().unwrap().to_owned();
    // The same again: by GitHub's button, at once, after a restart, or by somebody who caught it.
    assert_eq!(deliver(&url, "d-1", "issue_comment", &body).await, first);
    let many = (0..8).map(|_| deliver(&url, "d-1", "issue_comment", &body));
    assert!(futures::future::join_all(many).await.iter().all(|again| *again == first));
    assert_eq!(deliver(&url, "d-other", "issue_comment", &body).await, first, "a caught body");
    daemon.kill9().await;
    daemon.start().await;
    let url = endpoint(&daemon);
    assert_eq!(deliver(&url, "d-1", "issue_comment", &body).await, first);
    // Its id under another body.
    let forged = deliver(&url, "d-1", "issue_comment", &comment(8, "/adw run", 2)).await;
    assert_eq!(forged.status, 409, "{forged:?}");

    let client = daemon.client().await;
    let all = runs(&client).await;
    assert_eq!(all.len(), 1, "{all:#?}");
    let run = ok(&client, "get_adw_state", json!({ "adw_id": id })).await;
    assert_eq!(run["issue_number"], "7");
    assert_eq!((&run["triggered_by"], &run["model"]), (&json!("webhook"), &json!("opus")));
    assert_eq!(run["phases"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_cancel_and_resume_and_a_label_starts() {
    let world = World::new().await;
    let _repo = github_shop(&world, "shop");
    let daemon = world.daemon().await;
    let (url, client) = (endpoint(&daemon), daemon.client().await);
    let mut body = comment(7, "", 1);
    body["action"] = json!("labeled");
    body["label"] = json!({ "name": "adw" });
    body["issue"]["user"] = json!({ "login": "a-stranger", "type": "User" });
    let started = deliver(&url, "d-1", "issues", &body).await;
    let id = started.body["adw_id"].as_str().unwrap_or_else(|| panic!("{started:?}")).to_owned();
    world.at_gate("gh").await;
    wait_status(&client, &id, "running").await;
    let joined = deliver(&url, "d-2", "issue_comment", &comment(7, "/adw run", 2)).await;
    assert_eq!(
        (&joined.body["adw_id"], &joined.body["already_running"]),
        (&json!(id), &json!(true))
    );
    let other = deliver(&url, "d-3", "issue_comment", &comment(7, "/adw run plan", 3)).await;
    assert_eq!((&other.body["accepted"], &other.body["adw_id"]), (&json!(false), &json!(id)));
    assert!(other.body["reason"].as_str().unwrap().contains("other arguments"), "{other:?}");
    let resumed = deliver(&url, "d-4", "issue_comment", &comment(7, "/adw resume", 4)).await;
    assert!(resumed.body["reason"].as_str().unwrap().contains("only an ended run"), "{resumed:?}");
    let cancelled = deliver(&url, "d-5", "issue_comment", &comment(7, "/adw cancel", 5)).await;
    assert_eq!(
        (&cancelled.body["accepted"], &cancelled.body["adw_id"]),
        (&json!(true), &json!(id))
    );
    assert_eq!(wait_ended(&client, &id).await["status"], "cancelled");
    let nothing = deliver(&url, "d-6", "issue_comment", &comment(7, "/adw cancel", 6)).await;
    assert!(nothing.body["reason"].as_str().unwrap().contains("no active run"), "{nothing:?}");
    let resumed = deliver(&url, "d-7", "issue_comment", &comment(7, "/adw resume", 7)).await;
    assert_eq!((&resumed.body["accepted"], &resumed.body["adw_id"]), (&json!(true), &json!(id)));
    assert_eq!(runs(&client).await.len(), 1);
    deliver(&url, "d-8", "issue_comment", &comment(7, "/adw cancel", 8)).await;
    wait_ended(&client, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_proved_or_not_for_us_starts_nothing_and_says_why() {
    let world = World::new().await;
    let _repo = github_shop(&world, "shop");
    let files = world.repo("files");
    world.serve(&files, "forge_repo = \"acme/files\"\n");
    let daemon = world.daemon().await;
    let url = endpoint(&daemon);
    let body = comment(7, "/adw run", 1).to_string().into_bytes();
    let right = signed(SECRET, &body);
    let wrong = signed("another secret of somebody", &body);
    let json_type = ("content-type", "application/json");
    let (id, event) = (("x-github-delivery", "d-1"), ("x-github-event", "issue_comment"));
    let sign = "x-hub-signature-256";
    for (headers, status, part) in [
        (vec![id, event, json_type], 401, "missing"),
        (vec![id, event, json_type, (sign, &wrong)], 401, "not the signature"),
        (vec![id, event, json_type, (sign, "sha256=zz")], 401, "not the signature"),
        (vec![event, json_type, (sign, &right)], 400, "x-github-delivery"),
        (vec![("x-github-delivery", "../x"), event, json_type, (sign, &right)], 400, "no word"),
        (vec![id, json_type, (sign, &right)], 400, "x-github-event"),
        (vec![id, event, (sign, &right)], 415, "application/json"),
    ] {
        let answer = post(&url, &headers, body.clone()).await;
        let reason = answer.body["reason"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(reason.contains(part), "{reason}");
    }
    for bad in ["{", "[]", &format!("{{\"issue\":{}1{}}}", "[".repeat(9_000), "]".repeat(9_000))] {
        let signature = signed(SECRET, bad.as_bytes());
        let headers = [id, event, json_type, (sign, signature.as_str())];
        assert_eq!(post(&url, &headers, bad.as_bytes().to_vec()).await.status, 400, "{bad:.20}");
    }
    let large = vec![b' '; (1 << 20) + 1];
    let signature = signed(SECRET, &large);
    let answer = post(&url, &[id, event, json_type, (sign, signature.as_str())], large).await;
    assert_eq!(answer.status, 413, "{answer:?}");

    let refused = async |delivery: &str, event: &str, body: Value| {
        let answer = deliver(&url, delivery, event, &body).await;
        assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(false)), "{answer:?}");
        answer.body["reason"].as_str().unwrap().to_owned()
    };
    let mut stranger = comment(7, "/adw run", 2);
    stranger["comment"]["author_association"] = json!("NONE");
    assert!(refused("d-2", "issue_comment", stranger).await.contains("may not"));
    let mut bot = comment(7, "/adw run", 3);
    bot["comment"]["user"] = json!({ "login": "robo[bot]", "type": "Bot" });
    assert!(refused("d-3", "issue_comment", bot).await.contains("is a bot"));
    let own = comment(7, "/adw run\n\n<!-- adwd:0011 -->", 4);
    assert!(refused("d-4", "issue_comment", own).await.contains("our own"));
    let elsewhere = |name: &str, nonce| {
        let mut body = comment(7, "/adw run", nonce);
        body["repository"] =
            json!({ "full_name": name, "html_url": format!("https://github.com/{name}") });
        body
    };
    let unknown = refused("d-5", "issue_comment", elsewhere("acme/other", 5)).await;
    assert!(unknown.contains("no served project is github.com/acme/other"), "{unknown}");
    let in_files = refused("d-6", "issue_comment", elsewhere("acme/files", 6)).await;
    assert!(in_files.contains("takes its issues from files"), "{in_files}");
    assert!(refused("d-7", "push", json!({ "ref": "x" })).await.contains("\"push\""));
    let pong = deliver(&url, "d-8", "ping", &json!({ "zen": "Speak like a human." })).await;
    assert_eq!((pong.status, &pong.body["reason"]), (200, &json!("pong")));
    let client = daemon.client().await;
    assert_eq!(runs(&client).await, Vec::<Value>::new());
    let log = world.last_words();
    assert!(log.contains("may not") && !log.contains(SECRET), "each refusal is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_there_is_no_endpoint_and_a_file_of_others_keeps_the_daemon_from_starting()
{
    let world = World::new().await;
    let mut daemon = world.daemon().await;
    let body = json!({ "zen": "x" });
    let answer = deliver(&endpoint(&daemon), "d-1", "ping", &body).await;
    assert_eq!(answer.status, 404);
    assert!(answer.body["reason"].as_str().unwrap().contains("webhook_secret_file"));
    daemon.terminate().await;

    let path = world.write("github-secret", &format!("{SECRET}\n"));
    world.set("github.webhook_secret_file", &crate::world::quoted(path.to_str().unwrap()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = world.cli(&["serve"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("chmod 600") && !refused.stderr.contains(SECRET),
        "{refused:?}"
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    daemon.start().await;
    let answer = deliver(&endpoint(&daemon), "d-1", "ping", &body).await;
    assert_eq!(answer.status, 200);
    // Not behind the guard, whatever that asks of others.
    world.set("http.require_key", "true");
    daemon.restart().await;
    assert_eq!(deliver(&endpoint(&daemon), "d-1", "ping", &body).await.status, 200);
    let shown = world.cli(&["config", "show"]).await;
    assert!(!shown.stdout.contains(SECRET), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_kill_9_cuts_starts_exactly_one_run_when_it_comes_again() {
    let world = World::new().await;
    let _repo = github_shop(&world, "shop");
    let mut daemon = world.daemon().await;
    for n in 1..=6_u32 {
        let url = endpoint(&daemon);
        let body = comment(100 + n, "/adw run plan", n);
        let (id, sent) = (format!("cut-{n}"), body.clone());
        let (delivery, to) = (id.clone(), url.clone());
        let first = tokio::spawn(async move {
            let signature = signed(SECRET, sent.to_string().as_bytes());
            let request = web()
                .post(to)
                .header("x-github-delivery", delivery)
                .header("x-github-event", "issue_comment")
                .header("x-hub-signature-256", signature)
                .header("content-type", "application/json");
            let _ = request.body(sent.to_string()).send().await;
        });
        // Ever later in its handling; the first are cut before anything was stored.
        for _ in 0..(n - 1) * 4 {
            tokio::task::yield_now().await;
        }
        if n % 2 == 0 {
            // Stored as a run, perhaps not yet as answered.
            let db = adwd::db::Db::open(&world.database_url()).await.unwrap();
            eventually("the delivery is stored", SOON, async || {
                let sql = "SELECT COUNT(*) FROM webhook_deliveries WHERE delivery = $1";
                let (count,): (i64,) = db.one(sql, adwd::args![&id]).await.unwrap();
                if count == 1 { Ok(()) } else { Err("not yet".to_owned()) }
            })
            .await;
            db.close().await;
        }
        daemon.kill9().await;
        let _ = first.await;
        daemon.start().await;
        let url = endpoint(&daemon);
        let again = deliver(&url, &id, "issue_comment", &body).await;
        assert_eq!((again.status, &again.body["accepted"]), (202, &json!(true)), "{again:?}");
        let client = daemon.client().await;
        let of_issue: Vec<Value> = runs(&client)
            .await
            .into_iter()
            .filter(|run| run["issue_number"].as_str() == Some(&(100 + n).to_string()))
            .collect();
        assert_eq!(of_issue.len(), 1, "{of_issue:#?}");
        assert_eq!(of_issue[0]["adw_id"], again.body["adw_id"]);
    }
}
