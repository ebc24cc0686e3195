//! A scripted model is led through `bug-fix` by nothing but what the server says.
//!
//! The script knows how to read: it finds the name of the tool and of the arguments in the text
//! that the server hands it, and takes values from where the text says they stand. It knows no
//! workflow, no step and no dialect.

use serde_json::{Map, Value, json};

use crate::mcp_support::*;
use crate::steps_mcp::{done, read};

/// A call that a text asks for: the tool, and its arguments with where their values come from.
#[derive(Debug)]
struct Asked {
    tool: String,
    arguments: Vec<(String, String)>,
}

/// Reads `call TOOL with:` and the list below it, as any model would.
fn asked(text: &str) -> Option<Asked> {
    let (before, rest) = text.rsplit_once(" with:\n")?;
    let (_, tool) = before.rsplit_once("call ")?;
    let items = rest.lines().map_while(|line| line.strip_prefix("- ")?.split_once(": "));
    let arguments = items.map(|(name, from)| (name.to_owned(), from.to_owned())).collect();
    Some(Asked { tool: tool.to_owned(), arguments })
}

/// The field that a description such as "the new_token that stands beside this text" names.
fn beside(from: &str) -> Option<&str> {
    from.strip_prefix("the ")?.split_whitespace().next()
}

/// What the model makes of a step: it has to have read who it is and what it is to do.
fn work(told: &str, keys: &str) -> Value {
    let mut output = Map::new();
    for key in keys.split(['{', '}', ',', ':', '[', ']']).map(str::trim) {
        match key {
            "summary" => drop(
                output.insert(key.to_owned(), json!(format!("read {} characters", told.len()))),
            ),
            "references" => drop(output.insert(key.to_owned(), json!(["src/login.rs"]))),
            "confidence" => drop(output.insert(key.to_owned(), json!(0.7))),
            "artifacts" => drop(output.insert(
                key.to_owned(),
                json!([{ "type": "markdown", "title": "What I did", "content": told }]),
            )),
            _ => {}
        }
    }
    Value::Object(output)
}

/// Follows the texts until none asks for a call; how many steps were done, and the last answer.
async fn follow(client: &Client, mut answer: Value, text_in: &str) -> (usize, Value) {
    let mut steps = 0;
    while let Some(asked) = answer[text_in].as_str().and_then(asked) {
        assert!(steps < 32, "it does not end: {answer}");
        let told = answer.as_object().unwrap().values().filter_map(Value::as_str);
        let told = told.max_by_key(|text| text.len()).unwrap().to_owned();
        let mut arguments = Map::new();
        for (name, from) in &asked.arguments {
            let value = match beside(from) {
                Some(field) => answer[field].clone(),
                None => work(&told, from),
            };
            assert!(!value.is_null(), "{name} comes from nowhere: {from}: {answer}");
            arguments.insert(name.clone(), value);
        }
        answer = done(client, &asked.tool, Value::Object(arguments)).await;
        steps += 1;
        // A person stands by, reads the message, and approves.
        if answer["workflow_state"] == "paused" {
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains("approve"), "{message}");
            let approve = json!({ "execution_id": answer["execution_id"], "action": "approve" });
            let approved = done(client, "workflow_control", approve).await;
            // The person's client speaks seed 003; the model reads its step for itself.
            assert_eq!(approved["workflow_state"], "running");
            answer = match text_in {
                "instructions" => approved,
                _ => {
                    let again = json!({ "step_token": approved["new_token"] });
                    done(client, "workflow_next_step", again).await
                }
            };
        }
    }
    (steps, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_led_through_bug_fix_by_what_the_server_says() {
    let world = World::new().await;
    for way in WAYS {
        let client = world.client(way).await;
        // How to begin is said in the server's instructions: the address of the list, and the tool.
        let instructions = client.peer_info().unwrap().instructions.clone().unwrap();
        let list = instructions.split_whitespace().find(|word| word.starts_with("midex://"));
        let workflows = read(&client, list.unwrap()).await;
        let about_bugs = |w: &&Value| w["keywords"].as_array().unwrap().contains(&json!("bug"));
        let chosen = workflows.as_array().unwrap().iter().find(about_bugs).unwrap();
        assert_eq!(chosen["name"], "bug-fix");
        let phases = chosen["phases"].as_array().unwrap().len();
        let tools = client.list_all_tools().await.unwrap();
        let start = tools.iter().find(|t| {
            instructions.contains(&*t.name)
                && t.description.as_ref().unwrap().starts_with("Starts a step")
        });
        let start = &start.unwrap().name;
        for (name, text_in) in
            [("workflow_name", "instructions"), ("template_name", "human_message")]
        {
            let started = done(&client, start, json!({ name: chosen["name"] })).await;
            let id = started["execution_id"].as_str().unwrap().to_owned();
            let (steps, last) = follow(&client, started, text_in).await;
            assert_eq!(steps, phases, "{last}");
            assert_eq!(last["workflow_state"], "completed", "{last}");
            assert_eq!(last["synthesis"]["model_output"]["steps_completed"], json!(phases));
            // What it made is there, and shows that each step brought the persona of its agent.
            let list = read(&client, &format!("workflow_artifacts://final/{id}")).await;
            for phase in chosen["phases"].as_array().unwrap() {
                let of = |a: &&Value| a["step_name"] == phase["phase"];
                let artifact = list["artifacts"].as_array().unwrap().iter().find(of).unwrap();
                let agent = format!("persona://{}", phase["agent"].as_str().unwrap());
                let (_, persona) = crate::steps_mcp::read_text(&client, &agent).await.unwrap();
                let told = artifact["content"].as_str().unwrap();
                assert!(told.contains(persona.trim()), "{}: {told}", phase["phase"]);
            }
        }
    }
}
