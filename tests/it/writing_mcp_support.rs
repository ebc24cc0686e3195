//! A client at the desk of a book series: whatever it is answered fits the tool's schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::mcp_support::*;

/// Every tool of the family, as the specification names them (`spec/writing.md` §1, issue 4).
pub const TOOLS: [&str; 31] = [
    "create_workflow",
    "get_workflow_state",
    "advance_to_phase",
    "complete_current_phase",
    "execute_phase",
    "record_quality_gate",
    "request_approval",
    "submit_approval",
    "get_pending_approvals",
    "start_book_iteration",
    "complete_book_iteration",
    "get_series_progress",
    "start_revision_pass",
    "complete_revision_pass",
    "get_revision_status",
    "run_qa_checklist",
    "mark_ready_to_publish",
    "record_production_metric",
    "get_workflow_metrics",
    "get_workflow_velocity",
    "get_daily_writing_stats",
    "get_phase_analytics",
    "update_daily_stats",
    "skip_revision_pass",
    "get_qa_report",
    "check_gate_status",
    "get_phase_history",
    "list_active_workflows",
    "retry_failed_phase",
    "skip_phase",
    "update_book_record",
];

/// Names of the passes, in order.
pub const PASSES: [&str; 6] =
    ["structural", "continuity", "dialogue", "emotional", "line_edit", "final_qa"];

struct Schemas {
    input: Validator,
    output: Validator,
    /// Fields that the schema of the answer names.
    told: BTreeSet<String>,
}

/// A client that holds every tool to its word.
pub struct Desk {
    pub client: Client,
    schemas: BTreeMap<String, Schemas>,
    asked: Mutex<BTreeSet<String>>,
}

impl Desk {
    pub async fn at(world: &World, way: (Road, Era)) -> Desk {
        Desk::of(world.client(way).await).await
    }

    pub async fn of(client: Client) -> Desk {
        let compile = |schema: &Value| jsonschema::draft202012::new(schema).unwrap();
        let mut schemas = BTreeMap::new();
        for tool in client.list_all_tools().await.unwrap() {
            let input = Value::Object(tool.input_schema.as_ref().clone());
            let output = Value::Object(tool.output_schema.as_ref().unwrap().as_ref().clone());
            let told = output["properties"].as_object().unwrap().keys().cloned().collect();
            let compiled = Schemas { input: compile(&input), output: compile(&output), told };
            schemas.insert(tool.name.to_string(), compiled);
        }
        Desk { client, schemas, asked: Mutex::default() }
    }

    /// The answer of a call that must succeed.
    pub async fn ask(&self, tool: &str, arguments: Value) -> Value {
        let schemas = &self.schemas[tool];
        if let Err(error) = schemas.input.validate(&arguments) {
            panic!("{tool} {arguments}: a client that checks would not send it: {error}");
        }
        let answer = ok(&self.client, tool, arguments.clone()).await;
        self.fits(tool, &answer);
        self.asked.lock().unwrap().insert(tool.to_owned());
        answer
    }

    /// The error of a call that must be refused; it says what is wrong without naming the database.
    pub async fn refuse(&self, tool: &str, arguments: Value) -> Value {
        let error = refused(&self.client, tool, arguments).await;
        self.fits(tool, &json!({ "error": error }));
        let text = error.to_string().to_lowercase();
        for word in ["select ", "insert ", "update ", "sqlite", "postgres", "column", "constraint"]
        {
            assert!(!text.contains(word), "{tool} shows the database: {error}");
        }
        error
    }

    /// The code of a refusal.
    pub async fn code(&self, tool: &str, arguments: Value) -> String {
        self.refuse(tool, arguments).await["code"].as_str().unwrap().to_owned()
    }

    fn fits(&self, tool: &str, answer: &Value) {
        let schemas = &self.schemas[tool];
        if let Err(error) = schemas.output.validate(answer) {
            panic!(
                "{tool} answers beside its schema: {error} at {}: {answer:#}",
                error.instance_path()
            );
        }
        let told: BTreeSet<String> = answer.as_object().unwrap().keys().cloned().collect();
        assert!(told.is_subset(&schemas.told), "{tool}: {told:?}");
    }

    /// Tools of the family that were not asked yet.
    pub fn unasked(&self) -> Vec<&'static str> {
        let asked = self.asked.lock().unwrap();
        TOOLS.into_iter().filter(|tool| !asked.contains(*tool)).collect()
    }

    /// A new workflow.
    pub async fn begin(&self) -> i64 {
        let made = self
            .ask("create_workflow", json!({ "series_id": 3, "user_id": 1, "concept": "A crown" }))
            .await;
        made["workflow_id"].as_i64().unwrap()
    }

    /// Completes the present phase; the one it is in then.
    pub async fn complete(&self, workflow_id: i64) -> Value {
        let output = json!({ "summary": "done" });
        let done = self
            .ask("complete_current_phase", json!({ "workflow_id": workflow_id, "output": output }))
            .await;
        done["next_phase"].clone()
    }

    /// Records a figure of a book.
    pub async fn record(&self, workflow_id: i64, book: i64, metric: &str, value: Value) {
        let context = json!({ "book_number": book });
        self.ask(
            "record_production_metric",
            json!({ "workflow_id": workflow_id, "metric_type": metric, "metric_value": value,
                "context": context }),
        )
        .await;
    }

    /// Starts and completes a revision pass.
    pub async fn revise(&self, workflow_id: i64, book: i64, pass: usize) {
        let which = json!({ "workflow_id": workflow_id, "book_number": book, "pass_number": pass });
        let with = |more: Value| {
            let mut all = which.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        self.ask("start_revision_pass", with(json!({ "pass_name": PASSES[pass - 1] }))).await;
        let found = json!({
            "findings_summary": format!("Pass {pass} complete"), "edits_made": true,
            "user_approved": true,
        });
        self.ask("complete_revision_pass", with(found)).await;
    }
}
