//! Hooks: who is told when runs end, against the real binary and a receiver on loopback.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::crash_support::trigger_issue;
use crate::mcp_support::{Client, ok};
use crate::outside_support::Receiver;
use crate::world::{RUN, SOON, World, eventually, quoted, wait_ended};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Adds a hook to the configuration.
fn hook(world: &World, name: &str, url: &str, extra: &str) {
    let path = world.config_file();
    let text = std::fs::read_to_string(&path).unwrap();
    let (name, url) = (quoted(name), quoted(url));
    std::fs::write(path, format!("{text}\n[[hook]]\nname = {name}\nurl = {url}\n{extra}\n"))
        .unwrap();
}

/// A world whose runs end at once: the issues are not there.
async fn quick() -> World {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    world.set("retry.max_attempts", "1");
    world
}

/// Runs an issue that does not exist, to its bad end; its id.
async fn bad_end(client: &Client, issue: u32) -> String {
    let id = trigger_issue(client, issue).await;
    let run = wait_ended(client, &id).await;
    assert_eq!(run["status"], "failed", "{run:#}");
    id
}

async fn dead(world: &World) -> Vec<Value> {
    let list = world.cli(&["hook", "dead", "--json"]).await.with_code(0).json();
    list["notices"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_is_told_signed_so_that_the_readmes_python_verifies_it() {
    let world = quick().await;
    let (receiver, chat, deaf) =
        (Receiver::new().await, Receiver::new().await, Receiver::new().await);
    hook(&world, "ops", &receiver.url, &format!("secret = \"{SECRET}\""));
    hook(&world, "chat", &chat.url, "format = \"slack\"");
    hook(&world, "other", &deaf.url, "format = \"slack\"\nprojects = [\"another\"]");
    hook(&world, "good", &deaf.url, "format = \"slack\"\nevents = [\"completed\"]");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = bad_end(&client, 99).await;
    let got = receiver.wait(1).await.remove(0);
    let told = got.json();
    assert_eq!((&told["type"], &told["event"]), (&json!("run.failed"), &json!("failed")));
    assert_eq!(told["adwd_version"], env!("CARGO_PKG_VERSION"));
    let mut run = ok(&client, "get_adw_state", json!({ "adw_id": id })).await;
    for key in ["state", "state_age_ms", "state_problem"] {
        run.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(told["timestamp"], run["ended_at"]);
    assert_eq!(told["run"]["adw_id"], run["adw_id"]);
    assert_eq!(told["run"]["failure"], run["failure"]);
    assert_eq!(told["run"].get("state"), None);
    assert!(got.headers["webhook-id"].starts_with("msg_"));
    assert_eq!(got.headers["content-type"], "application/json");

    let readme = include_str!("../../README.md");
    let code =
        readme.split("```python\n# verify.py\n").nth(1).unwrap().split("```").next().unwrap();
    let (body, headers) = (quoted(&got.body), serde_json::to_string(&got.headers).unwrap());
    let check = format!(
        "{code}\nimport json, sys\nheaders = json.loads({})\nbody = json.loads({}).encode()\n\
         print(verify({}, headers, body), verify({}, headers, body + b' '), \
         verify('whsec_AAAA', headers, body))\n",
        quoted(&headers),
        quoted(&body),
        quoted(SECRET),
        quoted(SECRET),
    );
    let script = world.write("verify.py", &check);
    let ran = world.run_in(&world.root, "python3", &[script.to_str().unwrap()]).await;
    assert_eq!(ran.stdout.trim(), "True False False", "{ran:?}");

    let message = chat.wait(1).await.remove(0);
    assert!(!message.headers.contains_key("webhook-signature"));
    let text = message.json()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("shop #99: failed\n") && text.contains(&id), "{text}");
    assert!(message.json()["blocks"].is_array());
    let list = world.cli(&["hook", "list", "--json"]).await.with_code(0).json();
    let counts = |name: &str| {
        let all = list["hooks"].as_array().unwrap();
        all.iter().find(|hook| hook["name"] == name).unwrap().clone()
    };
    assert_eq!(counts("ops")["url"], receiver.url.replace("/in", "/***"));
    eventually("both are listed as delivered", SOON, async || {
        let list = world.cli(&["hook", "list", "--json"]).await.json();
        let delivered = |n: usize| list["hooks"][n]["delivered"] == 1;
        if delivered(0) && delivered(1) { Ok(()) } else { Err(list.to_string()) }
    })
    .await;
    assert!(deaf.got().is_empty());
    assert!(!world.last_words().contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_under_one_id_and_what_cannot_help_is_listed_as_dead() {
    let world = quick().await;
    let receiver = Receiver::new().await;
    hook(&world, "ops", &receiver.url, &format!("secret = \"{SECRET}\""));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    receiver.next(503, Some(("retry-after", "1")));
    bad_end(&client, 97).await;
    let got = receiver.wait(2).await;
    let ids: BTreeSet<&str> = got.iter().map(|g| g.headers["webhook-id"].as_str()).collect();
    assert_eq!(ids.len(), 1, "{got:#?}");
    assert_eq!(got[0].body, got[1].body);
    assert_ne!(got[0].headers["webhook-timestamp"], got[1].headers["webhook-timestamp"]);
    assert_eq!(dead(&world).await, Vec::<Value>::new());

    // A redirect is not followed: it would carry what was signed for this one to another.
    receiver.next(302, Some(("location", "/elsewhere")));
    let id = bad_end(&client, 98).await;
    let notice = eventually("it is dead", SOON, async || {
        dead(&world).await.into_iter().next().ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!((&notice["adw_id"], &notice["attempts"]), (&json!(id), &json!(1)));
    let why = notice["last_error"].as_str().unwrap();
    assert!(why.contains("HTTP 302 (redirects are not followed): said the receiver"), "{why}");
    assert_eq!(receiver.got().len(), 3);
    let unknown = world.cli(&["hook", "retry", "msg_none"]).await.with_code(5);
    assert!(unknown.stderr.contains("adwd hook dead"), "{unknown:?}");
    let notice_id = notice["id"].as_str().unwrap();
    world.cli(&["hook", "retry", notice_id]).await.with_code(0);
    let got = receiver.wait(4).await;
    assert_eq!(got[3].headers["webhook-id"], notice_id);
    eventually("it is no longer dead", SOON, async || {
        if dead(&world).await.is_empty() { Ok(()) } else { Err("dead".to_owned()) }
    })
    .await;
    world.cli(&["hook", "retry", notice_id]).await.with_code(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_no_end_and_tells_none_under_two_ids() {
    let world = quick().await;
    let receiver = Receiver::new().await;
    hook(&world, "ops", &receiver.url, &format!("secret = \"{SECRET}\""));
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    // In the middle of a delivery: the receiver has it and has not answered.
    receiver.hold(true);
    let id = bad_end(&client, 90).await;
    let first = receiver.wait(1).await.remove(0);
    daemon.kill9().await;
    receiver.hold(false);
    daemon.start().await;
    let again = receiver.wait(2).await.remove(1);
    assert_eq!(first.headers["webhook-id"], again.headers["webhook-id"]);
    assert_eq!(first.body, again.body);
    assert_eq!(again.json()["run"]["adw_id"], id.as_str());

    // At any moment around an end.
    let mut expected = BTreeSet::from([id]);
    for issue in 91..=94 {
        let client = daemon.client().await;
        expected.insert(trigger_issue(&client, issue).await);
        drop(client);
        daemon.kill9().await;
        daemon.start().await;
    }
    eventually("every end was told", RUN, async || {
        let got = receiver.got();
        let told = got.iter().map(|g| g.json()["run"]["adw_id"].as_str().unwrap().to_owned());
        let told: BTreeSet<String> = told.collect();
        if told == expected { Ok(()) } else { Err(format!("{told:?} of {expected:?}")) }
    })
    .await;
    let got = receiver.got();
    let pairs: BTreeSet<(String, String)> = got
        .iter()
        .map(|g| {
            let run = &g.json()["run"];
            (g.headers["webhook-id"].clone(), format!("{}{}", run["adw_id"], run["ended_at"]))
        })
        .collect();
    let ends: BTreeSet<&String> = pairs.iter().map(|(_, end)| end).collect();
    assert_eq!(pairs.len(), ends.len(), "one id for each end: {pairs:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_hook_is_not_told_of_old_ends_and_a_trial_needs_no_daemon() {
    let world = quick().await;
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    bad_end(&client, 95).await;
    drop(client);
    daemon.terminate().await;
    let receiver = Receiver::new().await;
    hook(&world, "ops", &receiver.url, &format!("secret = \"{SECRET}\""));
    let tried = world.cli(&["hook", "test", "ops", "--json"]).await.with_code(0).json();
    assert_eq!((&tried["delivered"], &tried["status"]), (&json!(true), &json!(204)));
    let trial = receiver.wait(1).await.remove(0);
    assert_eq!(trial.json()["type"], "adwd.test");
    assert!(trial.headers["webhook-signature"].starts_with("v1,"));
    receiver.next(401, None);
    let refused = world.cli(&["hook", "test", "ops"]).await.with_code(1);
    assert!(refused.stderr.contains("HTTP 401: said the receiver"), "{refused:?}");
    let unknown = world.cli(&["hook", "test", "opps"]).await.with_code(5);
    assert!(unknown.stderr.contains("known: ops"), "{unknown:?}");

    daemon.start().await;
    let client = daemon.client().await;
    let id = bad_end(&client, 96).await;
    let got = receiver.wait(3).await;
    assert_eq!(got.len(), 3, "two trials, and the one that ended since");
    assert_eq!(got[2].json()["run"]["adw_id"], id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_keeps_no_other_from_being_told() {
    let world = quick().await;
    let (slow, quick) = (Receiver::new().await, Receiver::new().await);
    hook(&world, "slow", &slow.url, "format = \"slack\"");
    hook(&world, "quick", &quick.url, "format = \"slack\"");
    slow.hold(true);
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    bad_end(&client, 95).await;
    slow.wait(1).await;
    bad_end(&client, 96).await;
    quick.wait(2).await;
    assert_eq!(slow.got().len(), 1);
    slow.hold(false);
    slow.wait(2).await;
}
