//! Who watches hears of it: executions and content, in both eras, under the spelling they chose.

use std::time::Duration;

use rmcp::model::{SubscribeRequestParams, SubscriptionFilter};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::mcp_support::*;
use crate::steps_mcp::*;
use crate::world::RUN;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_old_era_hears_of_an_execution_under_its_own_spelling() {
    let world = world().await;
    let ear = Ear::named("old");
    let client = world.connect((Road::Unix, Era::Legacy), ear.clone()).await;
    let started = start(&client, Dialect::Seed003, "tiny").await;
    until("list_changed", || ear.heard().contains(&"list_changed".to_owned())).await;
    let id = started["execution_id"].as_str().unwrap();
    let watched = [
        format!("current_step://{id}"),
        format!("workflow-status://{id}"),
        format!("midex://workflow/step_history/{id}"),
        "workflow_artifacts://recent".to_owned(),
    ];
    for uri in watched.iter().cloned().chain(["current_step://another".to_owned()]) {
        #[allow(deprecated)]
        client.subscribe(SubscribeRequestParams::new(uri)).await.unwrap();
    }
    let token = started["new_token"].as_str().unwrap();
    let submission = Dialect::Seed003.submission(token, output("first"));
    done(&client, "workflow_next_step", submission).await;
    for uri in &watched {
        let told = format!("updated {uri}");
        until(&told, || ear.heard().contains(&told)).await;
    }
    assert!(!ear.heard().iter().any(|heard| heard.contains("another")));
    ear.heard.lock().unwrap().clear();
    done(&client, "workflow_control", json!({ "execution_id": id, "action": "abandon" })).await;
    until("list_changed", || ear.heard().contains(&"list_changed".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_during_the_handshake_is_told_after_it() {
    let world = world().await;
    let mut old = BufReader::new(UnixStream::connect(&world.socket).await.unwrap());
    let mut line = String::new();
    let hello = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-11-25", "capabilities": {},
                    "clientInfo": { "name": "old", "version": "1" } },
    });
    old.write_all(format!("{hello}\n").as_bytes()).await.unwrap();
    old.read_line(&mut line).await.unwrap();
    start(&world.client((Road::Unix, Era::Modern)).await, Dialect::Seed003, "tiny").await;
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    old.write_all(format!("{ready}\n").as_bytes()).await.unwrap();
    line.clear();
    let told = tokio::time::timeout(Duration::from_secs(RUN), old.read_line(&mut line)).await;
    told.expect("the list is another than before the handshake").unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["method"], "notifications/resources/list_changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_the_new_era_hears_of_an_execution_on_both_roads() {
    for road in [Road::Unix, Road::Http] {
        let world = world().await;
        let client = world.client((road, Era::Modern)).await;
        let started = start(&client, Dialect::Seed001, "tiny").await;
        let id = started["execution_id"].as_str().unwrap();
        let alias = format!("current_step://{id}");
        let canonical = format!("midex://workflow/workflow_status/{id}");
        let filter = SubscriptionFilter::builder()
            .resource_subscription(alias.clone())
            .resource_subscription(canonical.clone())
            .resource_subscription("current_step://%zz")
            .build();
        let mut changes = client.listen(filter).await.unwrap();
        let accepted = changes.acknowledged().resource_subscriptions.clone().unwrap();
        assert_eq!(accepted, [alias.clone(), canonical.clone()]);
        let pause = json!({ "task_id": id, "action": "pause" });
        // The stream is set up after its acknowledgement is out; a change may come before it.
        let mut heard = String::new();
        let resume = json!({ "task_id": id, "action": "resume" });
        for action in [&pause, &resume].into_iter().cycle().take(40) {
            done(&client, "workflow_control", action.clone()).await;
            let next = tokio::time::timeout(Duration::from_millis(500), changes.next()).await;
            if let Ok(Ok(Some(notice))) = next {
                heard += &serde_json::to_string(&notice).unwrap();
            }
            if heard.contains(&alias) && heard.contains(&canonical) {
                break;
            }
        }
        assert!(heard.contains(&alias) && heard.contains(&canonical), "{road:?}: {heard}");
    }
}

const FRESH: &str = "---\nname: fresh\ndescription: New\ncomplexity: simple\n\
    phases:\n  - phase: only\n    agent: worker\n    description: Do it\n---\nFresh.\n";

#[tokio::test(flavor = "multi_thread")]
async fn edited_content_changes_the_lists_of_resources_and_prompts() {
    let world = world().await;
    let ear = Ear::named("old");
    let old = world.connect((Road::Unix, Era::Legacy), ear.clone()).await;
    let new = world.client((Road::Http, Era::Modern)).await;
    let filter = SubscriptionFilter::builder()
        .resources_list_changed()
        .prompts_list_changed()
        .resource_subscription("available_workflows://all")
        .build();
    let mut changes = new.listen(filter).await.unwrap();
    assert_eq!(changes.acknowledged().prompts_list_changed, Some(true));
    let persona = "persona://worker";
    #[allow(deprecated)]
    old.subscribe(SubscribeRequestParams::new(persona)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;

    // Written like a user would; the daemon notices by itself.
    put(&world, "workflows/fresh.md", FRESH);
    let mut heard = String::new();
    let all = ["resources/list_changed", "prompts/list_changed", "available_workflows://all"];
    while !all.iter().all(|part| heard.contains(part)) {
        let next = tokio::time::timeout(Duration::from_secs(20), changes.next()).await;
        heard += &serde_json::to_string(&next.expect(&heard).unwrap().unwrap()).unwrap();
    }
    for what in ["list_changed", "prompts_changed", &format!("updated {persona}")] {
        until(what, || ear.heard().contains(&what.to_owned())).await;
    }
    let prompts = old.list_all_prompts().await.unwrap();
    assert!(prompts.iter().any(|prompt| prompt.name == "fresh"));
    let listed = new.list_all_resources().await.unwrap();
    assert!(listed.iter().any(|r| r.uri == "midex://workflow/workflow_details/fresh"));
    assert_eq!(start(&new, Dialect::Seed003, "fresh").await["step_name"], "only");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_can_be_told_is_promised_to_be_told() {
    let world = world().await;
    for way in WAYS {
        let client = world.client(way).await;
        let capabilities = client.peer_info().unwrap().capabilities.clone();
        let promised = capabilities.prompts.unwrap().list_changed == Some(true);
        assert_eq!(promised, way != (Road::Http, Era::Legacy), "{way:?}");
    }
}
