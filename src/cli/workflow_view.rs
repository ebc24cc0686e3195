//! Step workflows in words and tables, from the JSON that the daemon answers.

use serde_json::Value;

use super::fail::tone;
use super::render::{ago, clip, span, when};
use crate::clock::Millis;
use crate::out::{Cell2, Out, Tone, cell, toned};

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn words(value: &Value, key: &str, between: &str) -> String {
    items(value, key).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(between)
}

/// For a person at most so many characters, for a program all.
fn shown(out: &Out, text: &str, max: usize) -> Cell2 {
    cell(if out.is_terminal() { clip(text, max) } else { text.to_owned() })
}

/// The workflows.
pub fn workflows(out: &Out, list: &Value) {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if out.is_terminal() && list.is_empty() {
        out.line("no workflows; [[content]] in the configuration names a folder with some");
        return;
    }
    let rows: Vec<Vec<Cell2>> = list
        .iter()
        .map(|workflow| {
            let startable = workflow["startable"] == true;
            let state = match (startable, workflow["valid"] == true) {
                (true, true) => toned("ok", Tone::Good),
                (true, false) => toned("stale", Tone::Busy),
                (false, _) => toned("broken", Tone::Bad),
            };
            vec![
                cell(text(workflow, "name")),
                state,
                cell(items(workflow, "phases").len().to_string()),
                cell(text(workflow, "complexity")),
                shown(out, text(workflow, "description"), 70),
            ]
        })
        .collect();
    out.table(&["WORKFLOW", "STATE", "STEPS", "COMPLEXITY", "DESCRIPTION"], &rows);
    for workflow in list {
        for problem in items(workflow, "problems").iter().filter(|p| p["fatal"] == true) {
            let line = problem["line"].as_u64().map_or_else(String::new, |n| format!(":{n}"));
            let place = format!("{}{line}", text(problem, "path"));
            out.note(&format!("{}: {place}: {}", text(workflow, "name"), text(problem, "message")));
        }
    }
}

/// One workflow with its steps.
pub fn workflow(out: &Out, workflow: &Value, with_text: bool) {
    let minutes = workflow["estimated_duration_minutes"].as_u64();
    let facts = [
        ("workflow", text(workflow, "name").to_owned()),
        ("about", text(workflow, "description").to_owned()),
        ("complexity", text(workflow, "complexity").to_owned()),
        ("type", text(workflow, "type").to_owned()),
        ("takes", minutes.map_or_else(String::new, |n| format!("about {n} min"))),
        ("tags", words(workflow, "tags", ", ")),
    ];
    facts_of(out, &facts.map(|(name, value)| (name, value, Tone::Plain)));
    let rows: Vec<Vec<Cell2>> = items(workflow, "phases")
        .iter()
        .map(|phase| {
            let mut notes = Vec::new();
            if phase["requires_approval"] == true {
                notes.push("needs approval");
            }
            if phase["allowParallel"] == false {
                notes.push("runs alone");
            }
            marked(
                out,
                "step",
                vec![
                    cell(text(phase, "phase")),
                    cell(text(phase, "agent")),
                    cell(words(phase, "dependsOn", ", ")),
                    cell(notes.join(", ")),
                    shown(out, text(phase, "description"), 70),
                ],
            )
        })
        .collect();
    out.table(&["STEP", "AGENT", "AFTER", "NOTE", "DESCRIPTION"], &rows);
    if with_text {
        out.line(text(workflow, "content").trim_end());
    }
}

/// Names and values, one a line; what is empty is left out.
fn facts_of(out: &Out, facts: &[(&str, String, Tone)]) {
    for (name, value, tone) in facts.iter().filter(|(_, value, _)| !value.is_empty()) {
        if out.is_terminal() {
            out.painted(&format!("{name:<12} {}", out.paint(value, *tone)));
        } else {
            out.table(&[], &[vec![cell(*name), cell(value.as_str())]]);
        }
    }
}

/// A program is told first what a row is.
fn marked(out: &Out, kind: &str, mut row: Vec<Cell2>) -> Vec<Cell2> {
    if !out.is_terminal() {
        row.insert(0, cell(kind));
    }
    row
}

/// What `start` answered.
pub fn started(out: &Out, started: &Value) {
    let (id, state) = (text(started, "execution_id"), text(started, "workflow_state"));
    let (step, agent) = (text(started, "step_name"), text(started, "agent_name"));
    if !out.is_terminal() {
        out.table(&[], &[[id, state, step, agent].map(cell).to_vec()]);
        return;
    }
    out.line(&format!("{id}: {state}. {}", text(started, "message")));
    out.line(&format!("  watch: adwd workflow status {id}"));
    out.line(&match state {
        "idle" => format!(
            "  begin: adwd workflow control {id} start, or let a model call workflow_control with \
             it"
        ),
        "paused" => format!("  approve: adwd workflow control {id} approve"),
        _ => format!(
            "  a model goes on from midex://workflow/current_step/{id}, or with workflow_control \
             {{\"execution_id\": \"{id}\", \"action\": \"reissue\"}}"
        ),
    });
}

/// What `control` answered.
pub fn controlled(out: &Out, controlled: &Value) {
    let (id, state) = (text(controlled, "execution_id"), text(controlled, "workflow_state"));
    let steps = words(controlled, "current_steps", ",");
    if !out.is_terminal() {
        let before = text(controlled, "previous_state");
        out.table(&[], &[vec![cell(id), cell(before), toned(state, tone(state)), cell(steps)]]);
        return;
    }
    out.line(&format!("{id}: {state}. {}", text(controlled, "message")));
    let actions = words(controlled, "allowed_actions", ", ");
    if !actions.is_empty() {
        out.line(&format!("  it takes: {actions}"));
    }
}

/// A list of executions.
pub fn executions(out: &Out, page: &Value, now: Millis) {
    let list = page.as_array().map(Vec::as_slice).unwrap_or_default();
    if out.is_terminal() && list.is_empty() {
        out.line("no executions; `adwd workflow list` shows what can be started");
        return;
    }
    let rows: Vec<Vec<Cell2>> = list
        .iter()
        .map(|execution| {
            let steps = &execution["steps"];
            let state = text(execution, "state");
            let moment = |key: &str| {
                let at = text(execution, key);
                cell(if out.is_terminal() { ago(at, now) } else { at.to_owned() })
            };
            vec![
                cell(text(execution, "execution_id")),
                toned(state, tone(state)),
                cell(format!("{}/{}", number(&steps["completed"]), number(&steps["total"]))),
                cell(text(execution, "workflow_name")),
                cell(text(execution, "project")),
                moment("created_at"),
                moment("updated_at"),
            ]
        })
        .collect();
    let header = ["EXECUTION", "STATE", "DONE", "WORKFLOW", "PROJECT", "MADE", "CHANGED"];
    out.table(&header, &rows);
}

/// Where an execution stands.
pub fn status(out: &Out, status: &Value, now: Millis) {
    let person = out.is_terminal();
    let moment = |key: &str| match text(status, key) {
        "" => String::new(),
        at => when(at, now, person),
    };
    let state = text(status, "state");
    let steps = &status["steps"];
    let took = status["duration_ms"].as_i64().map_or_else(String::new, span);
    facts_of(
        out,
        &[
            ("execution", text(status, "execution_id").to_owned(), Tone::Plain),
            ("workflow", text(status, "workflow_name").to_owned(), Tone::Plain),
            ("state", state.to_owned(), tone(state)),
            ("because", text(status, "state_reason").to_owned(), Tone::Plain),
            ("project", text(status, "project").to_owned(), Tone::Plain),
            (
                "done",
                format!("{}/{}", number(&steps["completed"]), number(&steps["total"])),
                Tone::Plain,
            ),
            ("now", words(status, "current_steps", ", "), Tone::Busy),
            ("waits for", waits_for(status), Tone::Busy),
            ("made", moment("created_at"), Tone::Plain),
            ("ended", moment("completed_at"), Tone::Plain),
            ("took", took, Tone::Plain),
            ("outcome", text(&status["synthesis"], "outcome_summary").to_owned(), Tone::Good),
            ("it takes", words(status, "allowed_actions", ", "), Tone::Dim),
        ],
    );
    step_table(out, status);
    artifact_table(out, status);
}

fn waits_for(status: &Value) -> String {
    match text(status, "waiting_step") {
        "" => String::new(),
        step => format!(
            "a person's approval of {step}: adwd workflow control {} approve",
            text(status, "execution_id")
        ),
    }
}

fn step_table(out: &Out, status: &Value) {
    let artifacts = items(status, "artifacts");
    let rows: Vec<Vec<Cell2>> = items(status, "step_list")
        .iter()
        .map(|step| {
            let (name, state) = (text(step, "step_name"), text(step, "status"));
            let made = artifacts.iter().filter(|a| text(a, "step_name") == name).count();
            let took = step["duration_ms"].as_i64().map_or_else(String::new, span);
            marked(
                out,
                "step",
                vec![
                    cell(name),
                    toned(state, tone(state)),
                    cell(text(step, "agent_name")),
                    cell(number(&step["attempt"]).to_string()),
                    cell(took),
                    cell(made.to_string()),
                    cell(words(step, "depends_on", ", ")),
                ],
            )
        })
        .collect();
    out.table(&["STEP", "STATUS", "AGENT", "ATTEMPT", "TOOK", "ARTIFACTS", "AFTER"], &rows);
}

fn artifact_table(out: &Out, status: &Value) {
    let rows: Vec<Vec<Cell2>> = items(status, "artifacts")
        .iter()
        .map(|artifact| {
            marked(
                out,
                "artifact",
                vec![
                    cell(text(artifact, "type")),
                    shown(out, text(artifact, "name"), 50),
                    cell(text(artifact, "step_name")),
                    cell(number(&artifact["size_bytes"]).to_string()),
                    cell(text(artifact, "uri")),
                ],
            )
        })
        .collect();
    if !rows.is_empty() {
        out.table(&["ARTIFACT", "TITLE", "STEP", "BYTES", "ADDRESS"], &rows);
    }
}
