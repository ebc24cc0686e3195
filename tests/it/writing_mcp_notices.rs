//! Resources of writing workflows: their addresses in both spellings, completion, prompts, and
//! notices of changes in both eras.

use std::time::Duration;

use rmcp::model::{
    ArgumentInfo, CompleteRequestParams, CompletionContext, ErrorCode, GetPromptRequestParams,
    ReadResourceRequestParams, Reference, SubscribeRequestParams, SubscriptionFilter,
};
use rmcp::service::ServiceError;
use serde_json::{Value, json};

use crate::mcp_support::*;
use crate::writing_mcp_support::*;

async fn read(client: &Client, uri: &str) -> Result<Value, ServiceError> {
    let result = client.read_resource(ReadResourceRequestParams::new(uri)).await?;
    let contents = serde_json::to_value(&result.contents[0]).unwrap();
    assert_eq!(contents["uri"], uri, "clients match the answer by the address they asked for");
    assert_eq!(contents["mimeType"], "application/json");
    Ok(serde_json::from_str(contents["text"].as_str().unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_read_in_both_spellings() {
    let world = World::new().await;
    for way in WAYS {
        let desk = Desk::at(&world, way).await;
        let id = desk.begin().await;
        desk.record(id, 1, "words_written", json!(2847)).await;
        desk.complete(id).await;
        for (path, field, expected) in [
            ("state", "/current_phase", json!(0)),
            ("current-phase", "/phase_name", json!("Premise Development")),
            ("series-progress", "/total_books", json!(5)),
            ("phases", "/phases/0/status", json!("completed")),
            ("approvals", "/approvals", json!([])),
            ("approvals/pending", "/approvals", json!([])),
            ("approvals/history", "/approvals", json!([])),
            ("gates", "/gates", json!([])),
            ("gates/npe-series", "/gates", json!([])),
            ("metrics/summary", "/metrics/total_words_written", json!(2847)),
            ("metrics/velocity", "/velocity/words_per_hour", Value::Null),
            ("metrics/daily", "/stats/0/words_written", json!(2847)),
            ("metrics/daily-stats?range=7", "/stats/0/words_written", json!(2847)),
            ("metrics/by-book", "/by_book/0/words_written", json!(2847)),
            ("metrics/by-phase", "/by_phase/0/phase_number", json!(-1)),
            ("books/1", "/cover_status", json!("MISSING")),
            ("books/1/revision", "/total_passes", json!(6)),
            ("books/1/qa", "/reports", json!([])),
        ] {
            for scheme in ["writing", "workflow"] {
                let uri = format!("{scheme}://{id}/{path}");
                let told = read(&desk.client, &uri).await.unwrap();
                assert_eq!(told.pointer(field), Some(&expected), "{way:?} {uri}: {told:#}");
            }
        }
        let phase = read(&desk.client, "writing://phases/4").await.unwrap();
        assert_eq!(
            (&phase["phase_name"], &phase["gate_type"]),
            (&json!("NPE Validation"), &json!("npe_series"))
        );
        let side = read(&desk.client, "workflow://phases/12/outputs").await.unwrap();
        assert!(side["outputs"].is_array() && side.get("requirements").is_none());
        let analytics = read(&desk.client, "writing://analytics").await.unwrap();
        assert_eq!(analytics["phases"].as_array().unwrap().len(), 14);
        assert!(analytics["global"]["active_workflows"].as_i64().unwrap() >= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let world = World::new().await;
    for way in WAYS {
        let desk = Desk::at(&world, way).await;
        let id = desk.begin().await;
        let expected = match way.1 {
            Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
            Era::Modern => ErrorCode::INVALID_PARAMS,
        };
        for uri in [
            "writing://4711/state".to_owned(),
            "workflow://4711/metrics/summary".to_owned(),
            format!("writing://{id}/books/77/qa"),
            format!("writing://{id}/nonsense"),
            "writing://phases/13".to_owned(),
        ] {
            match read(&desk.client, &uri).await.unwrap_err() {
                ServiceError::McpError(error) => assert_eq!(error.code, expected, "{way:?} {uri}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_are_listed_and_the_rest_is_reached_by_templates_that_complete() {
    let world = World::new().await;
    let desk = Desk::at(&world, (Road::Unix, Era::Modern)).await;
    let mut newest = 0;
    for _ in 0..23 {
        newest = desk.begin().await;
    }
    let listed = desk.client.list_all_resources().await.unwrap();
    let ours: Vec<&str> =
        listed.iter().map(|r| r.uri.as_str()).filter(|uri| uri.starts_with("writing://")).collect();
    assert_eq!(ours.len(), 21, "twenty workflows and the analytics");
    assert_eq!(ours[..2], ["writing://analytics", &format!("writing://{newest}/state")]);
    let templates = desk.client.list_all_resource_templates().await.unwrap();
    let ours = templates.iter().filter(|t| t.uri_template.starts_with("writing://")).count();
    assert_eq!(ours, 9);
    let state = "writing://{workflow_id}/state";
    let typed = newest.to_string();
    let ids = desk.client.complete_resource_simple(state, "workflow_id", &typed).await.unwrap();
    assert!(ids.contains(&typed), "{ids:?}");
    let views = "writing://{workflow_id}/metrics/{view}";
    let views = desk.client.complete_resource_simple(views, "view", "by").await.unwrap();
    assert_eq!(views, ["by-book", "by-phase"]);
    let phases = "writing://phases/{phase_number}";
    let phases = desk.client.complete_resource_simple(phases, "phase_number", "1").await.unwrap();
    assert_eq!(phases, ["1", "10", "11", "12"]);
    assert_eq!(books(&desk.client, Some(&typed)).await, ["1", "2", "3", "4", "5"]);
    assert!(books(&desk.client, Some("4711")).await.is_empty());
    assert!(books(&desk.client, None).await.is_empty());
}

/// Completion of a book's number, after the workflow was named.
async fn books(client: &Client, workflow_id: Option<&str>) -> Vec<String> {
    let mut request = CompleteRequestParams::new(
        Reference::for_resource("writing://{workflow_id}/books/{book_number}/qa"),
        ArgumentInfo::new("book_number", ""),
    );
    if let Some(id) = workflow_id {
        let named = [("workflow_id".to_owned(), id.to_owned())].into();
        request = request.with_context(CompletionContext::with_arguments(named));
    }
    client.complete(request).await.unwrap().completion.values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_old_era_hears_of_changes_under_the_address_it_wrote() {
    let world = World::new().await;
    // Made before the client comes, which must not hear of it.
    let maker = Desk::at(&world, (Road::Http, Era::Modern)).await;
    let (id, other) = (maker.begin().await, maker.begin().await);
    let ear = Ear::named("old");
    let desk = Desk::of(world.connect((Road::Unix, Era::Legacy), ear.clone()).await).await;
    let uris = [format!("workflow://{id}/metrics/summary"), format!("writing://{other}/state")];
    for uri in &uris {
        #[allow(deprecated)]
        desk.client.subscribe(SubscribeRequestParams::new(uri.clone())).await.unwrap();
    }
    desk.record(id, 1, "words_written", json!(1)).await;
    let told = format!("updated {}", uris[0]);
    until("an update", || ear.heard().contains(&told)).await;
    assert!(!ear.heard().iter().any(|heard| heard.contains(&uris[1])), "{:?}", ear.heard());
    desk.begin().await;
    until("list_changed", || ear.heard().contains(&"list_changed".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_new_era_hears_of_changes_under_the_address_it_wrote() {
    for road in [Road::Unix, Road::Http] {
        let world = World::new().await;
        let desk = Desk::at(&world, (road, Era::Modern)).await;
        let id = desk.begin().await;
        let uris = [format!("workflow://{id}/state"), "writing://analytics".to_owned()];
        let filter = SubscriptionFilter::builder()
            .resource_subscriptions(uris.clone())
            .resource_subscription("writing://nonsense")
            .build();
        let mut changes = desk.client.listen(filter).await.unwrap();
        assert_eq!(changes.acknowledged().resource_subscriptions, Some(uris.to_vec()));
        // A change is a hint that can come before the stream listens: made until it is heard.
        let mut heard = String::new();
        for _ in 0..50 {
            desk.record(id, 1, "words_written", json!(1)).await;
            let next = tokio::time::timeout(Duration::from_millis(500), changes.next()).await;
            if let Ok(next) = next {
                heard += &serde_json::to_string(&next.unwrap().unwrap()).unwrap();
            }
            if uris.iter().all(|uri| heard.contains(uri.as_str())) {
                break;
            }
        }
        assert!(uris.iter().all(|uri| heard.contains(uri.as_str())), "{road:?}: {heard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompts_carry_what_they_speak_of() {
    let world = World::new().await;
    for way in WAYS {
        let desk = Desk::at(&world, way).await;
        let id = desk.begin().await;
        for name in ["writing_status", "writing_book_readiness"] {
            let arguments = json!({ "workflow_id": id.to_string() });
            let get = GetPromptRequestParams::new(name)
                .with_arguments(arguments.as_object().cloned().unwrap());
            let prompt = desk.client.get_prompt(get).await.unwrap();
            let text = serde_json::to_string(&prompt.messages).unwrap();
            assert!(text.contains(&format!("writing://{id}/")), "{name}: {text}");
            let ids = desk.client.complete_prompt_simple(name, "workflow_id", "").await.unwrap();
            assert!(ids.contains(&id.to_string()));
        }
        let get = GetPromptRequestParams::new("writing_status");
        assert!(desk.client.get_prompt(get).await.is_err(), "it needs the workflow's id");
    }
}
