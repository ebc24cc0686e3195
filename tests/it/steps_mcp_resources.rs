//! What step workflows have to read: lists that every client can parse, and both seeds' shapes.

use std::collections::HashMap;

use reqwest::Url;
use rmcp::model::{
    ArgumentInfo, CompleteRequestParams, CompletionContext, ErrorCode, GetPromptRequestParams,
    ReadResourceRequestParams, Reference,
};
use serde_json::{Value, json};

use crate::mcp_support::*;
use crate::steps_mcp::*;

/// A client, and an execution of `tiny` whose first step is done.
async fn halfway(world: &World, way: (Road, Era)) -> (Client, String) {
    let client = world.client(way).await;
    let started = start(&client, Dialect::Seed003, "tiny").await;
    let token = started["new_token"].as_str().unwrap();
    let submission = Dialect::Seed003.submission(token, output("first"));
    done(&client, "workflow_next_step", submission).await;
    (client, started["execution_id"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_listed_parses_strictly_and_can_be_read() {
    let world = world().await;
    for way in WAYS {
        let (client, id) = halfway(&world, way).await;
        let listed = client.list_all_resources().await.unwrap();
        let uris: Vec<String> = listed.iter().map(|resource| resource.uri.clone()).collect();
        for uri in &uris {
            let parsed = Url::parse(uri).unwrap_or_else(|error| panic!("{uri}: {error}"));
            assert!(!parsed.scheme().contains('_'), "{uri}");
            let (mime, _) = read_text(&client, uri).await.unwrap();
            let entry = listed.iter().find(|resource| resource.uri == *uri).unwrap();
            assert_eq!(entry.mime_type.as_ref(), Some(&mime), "{uri}");
        }
        for expected in [
            "midex://workflow/available_workflows".to_owned(),
            "midex://workflow/telemetry".to_owned(),
            "guardrails://active".to_owned(),
            "persona://default".to_owned(),
            "midex://workflow/workflow_details/bug-fix".to_owned(),
            "midex://workflow/workflow_details/odd%20n%C3%A4me".to_owned(),
            format!("midex://workflow/current_step/{id}"),
            format!("midex://workflow/workflow_status/{id}"),
        ] {
            assert!(uris.contains(&expected), "{expected}: {uris:?}");
        }
        assert!(!uris.iter().any(|uri| uri.contains("broken")), "it cannot be started");
        let mut again: Vec<String> =
            client.list_all_resources().await.unwrap().iter().map(|r| r.uri.clone()).collect();
        assert_eq!(uris, again, "the order is stable");
        again.sort();
        again.dedup();
        assert_eq!(again.len(), uris.len(), "nothing is listed twice");
        for template in client.list_all_resource_templates().await.unwrap() {
            let scheme = template.uri_template.split("://").next().unwrap().to_owned();
            assert!(Url::parse(&format!("{scheme}://x")).is_ok(), "{}", template.uri_template);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn canonical_addresses_have_the_shapes_of_seed_003() {
    let world = world().await;
    for way in WAYS {
        let (client, id) = halfway(&world, way).await;
        let workflows = read(&client, "midex://workflow/available_workflows").await;
        let tiny = workflows.as_array().unwrap().iter().find(|w| w["name"] == "tiny").unwrap();
        assert_eq!(tiny["complexity"], "simple");
        assert_eq!(
            (&tiny["phases"][0]["phase"], &tiny["phases"][0]["agent"]),
            (&json!("first"), &json!("worker"),)
        );
        let broken = workflows.as_array().unwrap().iter().find(|w| w["name"] == "broken").unwrap();
        assert_eq!(broken["startable"], false);
        assert!(broken["problems"].to_string().contains("depends on itself"), "{broken}");
        let details = read(&client, "midex://workflow/workflow_details/tiny").await;
        assert!(details["content"].as_str().unwrap().contains("Text of tiny."));

        let current = read(&client, &format!("midex://workflow/current_step/{id}")).await;
        for (key, expected) in [
            ("execution_id", json!(id)),
            ("workflow_name", json!("tiny")),
            ("workflow_state", json!("running")),
            ("current_step", json!("second")),
            ("step_status", json!("running")),
            ("agent_name", json!("worker")),
            ("progress", json!("2/2")),
        ] {
            assert_eq!(current[key], expected, "{key}: {current}");
        }
        assert!(current["agent_content"].as_str().unwrap().contains("You work."));
        assert!(current["instructions"].as_str().unwrap().contains("continuation_token"));
        let status = read(&client, &format!("midex://workflow/workflow_status/{id}")).await;
        assert_eq!(status["steps"]["total"], 2);
        assert_eq!(
            (&status["steps"]["completed"], &status["steps"]["running"]),
            (&json!(1), &json!(1),)
        );
        assert_eq!(status["completed_at"], Value::Null);
        assert!(status["started_at"].as_str().unwrap().ends_with('Z'), "{status}");
        assert!(status["allowed_actions"].as_array().unwrap().contains(&json!("pause")));
        let history = read(&client, &format!("midex://workflow/step_history/{id}")).await;
        assert_eq!(history.as_array().unwrap().len(), 2);
        assert_eq!(history[0]["status"], "completed");
        assert_eq!(history[0]["output"]["summary"], "did first");
        assert!(history[0]["duration_ms"].is_i64(), "{history}");
        assert_eq!(
            (&history[1]["status"], &history[1]["output"]),
            (&json!("running"), &Value::Null)
        );

        // The token of the resource is as good as the one of the answer.
        let submission = Dialect::Seed003
            .submission(current["continuation_token"].as_str().unwrap(), output("second"));
        let last = done(&client, "workflow_next_step", submission).await;
        assert_eq!(last["workflow_state"], "completed");
        let current = read(&client, &format!("midex://workflow/current_step/{id}")).await;
        assert_eq!((&current["current_step"], &current["progress"]), (&Value::Null, &json!("2/2")));
        assert_eq!(current.get("continuation_token"), None);
        let status = read(&client, &format!("midex://workflow/workflow_status/{id}")).await;
        assert_eq!(
            (&status["state"], &status["steps"]["completed"]),
            (&json!("completed"), &json!(2),)
        );
        assert!(status["duration_ms"].is_i64(), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spellings_of_seed_001_have_the_shapes_of_seed_001() {
    let world = world().await;
    for way in WAYS {
        let (client, id) = halfway(&world, way).await;
        for sign in ["_", "-"] {
            let uri = |scheme: &str, rest: &str| format!("{}://{rest}", scheme.replace('_', sign));
            let step = read(&client, &uri("current_step", &id)).await;
            assert_eq!((&step["status"], &step["progress"]), (&json!("running"), &json!(50)));
            assert_eq!(step["current_step"], "second");
            let artifact = &step["artifacts"][0];
            assert_eq!(
                (&artifact["type"], &artifact["content"]),
                (&json!("markdown"), &json!("# first\n"),)
            );
            for absent in ["continuation_token", "agent_content", "workflow_state"] {
                assert_eq!(step.get(absent), None, "no token and no persona: {step}");
            }
            let active = read(&client, &uri("current_step", "active")).await;
            assert_eq!(active["execution_id"], json!(id), "the newest open one");

            let status = read(&client, &uri("workflow_status", &id)).await;
            assert_eq!(status["steps"][0]["artifacts"][0]["title"], "About first");
            assert_eq!(status["steps"][1]["status"], "running");
            let workflows = read(&client, &uri("available_workflows", "all")).await;
            let list = workflows["workflows"].as_array().unwrap();
            let tiny = list.iter().find(|w| w["name"] == "tiny").unwrap();
            assert_eq!((&tiny["steps_count"], &tiny["type"]), (&json!(2), &json!("sequential")));
            assert!(!list.iter().any(|w| w["name"] == "broken"));
            for pattern in ["recent?limit=50", "type/markdown?limit=100", &id] {
                let list = read(&client, &uri("workflow_artifacts", pattern)).await;
                let first = &list["artifacts"][0];
                assert_eq!(first["content"], "# first\n", "{pattern}");
                assert_eq!(
                    (&first["is_final"], &first["content_size_bytes"]),
                    (&json!(false), &json!(8),)
                );
            }
            for pattern in [format!("final/{id}"), format!("{id}?final=true")] {
                let list = read(&client, &uri("workflow_artifacts", &pattern)).await;
                assert_eq!((&list["total"], &list["query"]["is_final"]), (&json!(0), &json!(true)));
            }
        }
        let (mime, persona) = read_text(&client, "persona://worker").await.unwrap();
        assert_eq!(mime, "text/markdown");
        assert!(persona.contains("You work."));
        let (_, default) = read_text(&client, "persona://default").await.unwrap();
        assert!(default.contains("You look after it."), "{default}");
        let (mime, rules) = read_text(&client, "guardrails://active").await.unwrap();
        assert_eq!(mime, "text/markdown");
        assert!(rules.starts_with("# Active Guardrails"), "{rules}");
        assert!(rules.contains("## Rule: careful") && rules.contains("**NEVER** push"), "{rules}");
        let of = format!("midex://guardrails/execution/{id}");
        assert!(read_text(&client, &of).await.unwrap().1.contains("## Rule: careful"));
        cancel(&client, &id).await;
    }
}

async fn cancel(client: &Client, id: &str) {
    let abandon = json!({ "execution_id": id, "action": "abandon" });
    done(client, "workflow_control", abandon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_listed_by_step_and_read_with_their_content() {
    let world = world().await;
    for way in WAYS {
        let client = world.client(way).await;
        let started = start(&client, Dialect::Seed003, "odd näme").await;
        let id = started["execution_id"].as_str().unwrap();
        assert_eq!(started["step_name"], "a/b ü");
        let token = started["new_token"].as_str().unwrap();
        let submission = Dialect::Seed003.submission(token, output("a/b ü"));
        done(&client, "workflow_next_step", submission).await;
        // A name with a slash is one segment: decoded once, never taken apart.
        let uri = format!("midex://workflow/workflow_artifacts/{id}/a%2Fb%20%C3%BC");
        let list = read(&client, &uri).await;
        let artifact = &list[0];
        assert_eq!(
            (&artifact["name"], &artifact["step_name"]),
            (&json!("About a/b ü"), &json!("a/b ü"),)
        );
        assert_eq!(
            (&artifact["artifact_type"], &artifact["type"]),
            (&json!("report"), &json!("markdown"),)
        );
        assert_eq!(artifact.get("content"), None);
        let (mime, text) = read_text(&client, artifact["uri"].as_str().unwrap()).await.unwrap();
        assert_eq!((mime.as_str(), text.as_str()), ("text/markdown", "# a/b ü\n"));
        // The execution is completed: its artifacts are final, the synthesis is among them.
        let all = read(&client, &format!("midex://workflow/workflow_artifacts/{id}")).await;
        assert!(all.as_array().unwrap().iter().all(|a| a["is_final"] == true), "{all}");
        let list = read(&client, &format!("workflow_artifacts://final/{id}")).await;
        let titles = list["artifacts"].to_string();
        assert!(titles.contains("Workflow Synthesis"), "{titles}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_shows_all_its_artifacts_however_many() {
    let world = world().await;
    let client = world.client(WAYS[0]).await;
    let mut answer = start(&client, Dialect::Seed003, "tiny").await;
    let id = answer["execution_id"].as_str().unwrap().to_owned();
    let artifact = |n| json!({ "type": "adr", "title": format!("n{n}"), "content": "short" });
    let artifacts: Vec<Value> = (0..100).map(artifact).collect();
    while let Some((_, token)) = Dialect::Seed003.step(&answer) {
        let output = json!({ "summary": "s", "artifacts": artifacts });
        let submission = Dialect::Seed003.submission(&token, output);
        answer = done(&client, "workflow_next_step", submission).await;
    }
    let all = read(&client, &format!("midex://workflow/workflow_artifacts/{id}")).await;
    assert_eq!(all.as_array().unwrap().len(), 201);
    let seed = read(&client, &format!("workflow_artifacts://{id}")).await;
    assert_eq!(seed["total"], 201);
    assert!(seed["artifacts"].as_array().unwrap().iter().all(|a| a["content"].is_string()));
    let current = read(&client, &format!("current_step://{id}")).await;
    assert_eq!(current["artifacts"].as_array().unwrap().len(), 201);
    let status = read(&client, &format!("workflow_status://{id}")).await;
    for step in status["steps"].as_array().unwrap() {
        assert_eq!(step["artifacts"].as_array().unwrap().len(), 100, "{}", step["step_name"]);
    }
    let some = read(&client, &format!("workflow_artifacts://{id}?limit=7")).await;
    assert_eq!((&some["total"], &some["query"]["limit"]), (&json!(7), &json!(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_carries_only_so_much_content_and_says_where_the_rest_is() {
    let world = world().await;
    for way in WAYS {
        let client = world.client(way).await;
        let started = start(&client, Dialect::Seed003, "tiny").await;
        let large = "abcdefg\n".repeat(1 << 17);
        let artifacts: Vec<Value> = (0..3)
            .map(|n| json!({ "type": "json", "title": format!("n{n}"), "content": large }))
            .collect();
        let output = json!({ "summary": "much", "artifacts": artifacts });
        let token = started["new_token"].as_str().unwrap();
        done(&client, "workflow_next_step", Dialect::Seed003.submission(token, output)).await;
        let id = started["execution_id"].as_str().unwrap();
        let list = read(&client, &format!("workflow-artifacts://{id}")).await;
        let list = list["artifacts"].as_array().unwrap();
        let carried = list.iter().filter(|artifact| artifact["content"] == json!(large)).count();
        assert_eq!((list.len(), carried), (3, 2), "{way:?}");
        let (mime, text) =
            read_text(&client, list[2]["content_uri"].as_str().unwrap()).await.unwrap();
        assert_eq!((mime.as_str(), text.len()), ("application/json", large.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_is_newest_first_and_can_be_narrowed() {
    let world = world().await;
    let (client, id) = halfway(&world, (Road::Unix, Era::Modern)).await;
    let all = read(&client, &format!("midex://workflow/telemetry/{id}")).await;
    let all = all.as_array().unwrap();
    assert!(all.windows(2).all(|pair| pair[0]["id"].as_i64() > pair[1]["id"].as_i64()));
    let of = |word: &str| all.iter().filter(|event| event["event_type"] == word).count();
    assert_eq!((of("workflow_created"), of("step_started"), of("artifact_stored")), (1, 2, 1));
    assert!(all.iter().all(|event| event["execution_id"] == json!(id)));
    let uri = format!("midex://workflow/telemetry/{id}?event_type=step_started&limit=1");
    let one = read(&client, &uri).await;
    assert_eq!((one.as_array().unwrap().len(), &one[0]["step_name"]), (1, &json!("second")));
    assert_eq!(
        read(&client, "midex://workflow/telemetry?limit=3").await.as_array().unwrap().len(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_changes_nothing() {
    let world = world().await;
    let (client, id) = halfway(&world, (Road::Http, Era::Modern)).await;
    let events = format!("midex://workflow/telemetry/{id}?limit=1000");
    let before = read(&client, &events).await;
    let step = format!("midex://workflow/current_step/{id}");
    let token = read(&client, &step).await["continuation_token"].clone();
    for resource in client.list_all_resources().await.unwrap() {
        let _ = read_text(&client, &resource.uri).await;
    }
    for uri in [format!("current_step://{id}"), "project_context://nobody".to_owned()] {
        let _ = read_text(&client, &uri).await;
    }
    assert_eq!(read(&client, &events).await, before);
    assert_eq!(read(&client, &step).await["continuation_token"], token);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_an_error_with_its_address() {
    let world = world().await;
    for way in WAYS {
        let (client, id) = halfway(&world, way).await;
        let expected = match way.1 {
            Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
            Era::Modern => ErrorCode::INVALID_PARAMS,
        };
        for (uri, part) in [
            ("midex://workflow/current_step/nobody", "nobody"),
            ("midex://workflow/workflow_status/nobody", "nobody"),
            ("midex://workflow/step_history/nobody", "nobody"),
            ("midex://workflow/workflow_artifacts/nobody", "nobody"),
            ("midex://workflow/telemetry/nobody", "nobody"),
            ("midex://workflow/artifact/nobody", "nobody"),
            ("midex://workflow/workflow_details/nobody", "tiny"),
            ("midex://workflow/telemetry?limit=5000", "1 to 1000"),
            ("midex://workflow/step_history/a%2Fb", "execution id"),
            ("midex://guardrails/execution/nobody", "nobody"),
            ("midex://nothing", "nothing"),
            ("current_step://nobody", "nobody"),
            ("workflow_artifacts://nobody", "nobody"),
            ("persona://nobody", "worker"),
            ("project_context://nobody", "nobody"),
            ("guardrails://%zz", "percent"),
        ] {
            let error = read_text(&client, uri).await.unwrap_err();
            assert_eq!(error.code, expected, "{way:?} {uri}");
            assert_eq!(error.data.unwrap()["uri"], uri);
            assert!(error.message.contains(part), "{uri}: {}", error.message);
        }
        cancel(&client, &id).await;
        let error = read_text(&client, "current_step://active").await.unwrap_err();
        assert!(error.message.contains("no execution is open"), "{}", error.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_known_by_its_runs_or_by_its_executions() {
    let world = world().await;
    let client = world.client((Road::Unix, Era::Legacy)).await;
    let served = read(&client, "project_context://demo").await;
    assert_eq!(
        (&served["project"]["name"], &served["active_task"]),
        (&json!("demo"), &Value::Null,)
    );
    assert!(served["project"]["path"].as_str().unwrap().ends_with("/repo-demo"));
    let arguments = json!({ "workflow_name": "tiny", "project": "shop" });
    let id = done(&client, "workflow_start", arguments).await["execution_id"].clone();
    for uri in ["project_context://shop", "project-context://shop", "midex://project/shop"] {
        let shop = read(&client, uri).await;
        assert_eq!(
            (&shop["project"]["id"], &shop["active_task"]["task_id"]),
            (&json!("shop"), &id)
        );
        assert_eq!(shop["active_task"]["progress"], 0);
    }
    let of = read(&client, "midex://workflow/executions?project=shop&open=true").await;
    assert_eq!((of.as_array().unwrap().len(), &of[0]["execution_id"]), (1, &id));
    let mine = read(&client, "current_step://active?project=shop").await;
    assert_eq!(mine["execution_id"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_never_kept_and_content_for_a_while() {
    let world = world().await;
    let (client, id) = halfway(&world, (Road::Http, Era::Modern)).await;
    for (uri, ttl) in [
        (format!("midex://workflow/current_step/{id}"), 0),
        (format!("current-step://{id}"), 0),
        (format!("midex://workflow/step_history/{id}"), 0),
        ("midex://workflow/telemetry".to_owned(), 0),
        ("persona://worker".to_owned(), 300_000),
        ("midex://workflow/workflow_details/tiny".to_owned(), 300_000),
    ] {
        let result = client.read_resource(ReadResourceRequestParams::new(&uri)).await.unwrap();
        let result = serde_json::to_value(result).unwrap();
        assert_eq!(
            (&result["ttlMs"], &result["cacheScope"]),
            (&json!(ttl), &json!("private")),
            "{uri}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_argument_of_a_template_is_completed() {
    let world = world().await;
    for way in WAYS {
        let (client, id) = halfway(&world, way).await;
        let of = async |template: &str, name: &str, typed: &str, context: &[(&str, &str)]| {
            let mut request = CompleteRequestParams::new(
                Reference::for_resource(template),
                ArgumentInfo::new(name, typed),
            );
            let given: HashMap<String, String> =
                context.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            request = request.with_context(CompletionContext::with_arguments(given));
            client.complete(request).await.unwrap().completion.values
        };
        let details = "midex://workflow/workflow_details/{workflowName}";
        assert_eq!(of(details, "workflowName", "ti", &[]).await, ["tiny"]);
        let step = "midex://workflow/workflow_artifacts/{executionId}/{stepName}";
        assert_eq!(of(step, "executionId", "exec_", &[]).await[0], id, "the newest first");
        let known = [("executionId", id.as_str())];
        assert_eq!(of(step, "stepName", "", &known).await, ["first", "second"]);
        assert_eq!(of(step, "stepName", "s", &known).await, ["second"]);
        assert_eq!(of("persona://{agent}", "agent", "work", &[]).await, ["worker"]);
        assert_eq!(of("current-step://{task_id}", "task_id", &id, &[]).await, [id.as_str()]);
        let telemetry = "midex://workflow/telemetry{?event_type,limit}";
        let events = of(telemetry, "event_type", "token_r", &[]).await;
        assert_eq!(events, ["token_rejected"]);
        let projects = of("midex://project/{projectId}", "projectId", "de", &[]).await;
        assert_eq!(projects, ["demo"]);
        let kinds = of("midex://workflow/artifacts/type/{type}{?limit}", "type", "mark", &[]).await;
        assert_eq!(kinds, ["markdown"]);
        assert!(of("midex://nothing/{x}", "x", "", &[]).await.is_empty());
        let project = client.complete_prompt_simple("tiny", "project", "de").await.unwrap();
        assert_eq!(project, ["demo"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_workflow_that_can_be_started_is_a_prompt_that_says_how() {
    let world = world().await;
    for way in WAYS {
        let client = world.client(way).await;
        let prompts = client.list_all_prompts().await.unwrap();
        let names: Vec<&str> = prompts.iter().map(|prompt| prompt.name.as_str()).collect();
        assert_eq!(names[..3], ["run_issue", "diagnose_run", "summarize_runs"]);
        for name in ["bug-fix", "tiny", "odd-n-me"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert!(!names.contains(&"broken"));
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        assert!(names.iter().all(|name| name.len() <= 64 && name.bytes().all(legal)));
        let arguments = json!({ "task": "Mend it" }).as_object().cloned().unwrap();
        let get = GetPromptRequestParams::new("odd-n-me").with_arguments(arguments);
        let text = serde_json::to_string(&client.get_prompt(get).await.unwrap()).unwrap();
        for part in ["Mend it", "odd näme", "a/b ü", "workflow_start", "workflow_next_step"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            client.get_prompt(GetPromptRequestParams::new("tiny")).await.is_err(),
            "needs a task"
        );
        let error = client.get_prompt(GetPromptRequestParams::new("tinny")).await.unwrap_err();
        assert!(error.to_string().contains("did you mean \"tiny\""), "{error}");
    }
}
