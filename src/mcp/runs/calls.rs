//! The tools over runs: from checked arguments to the slice and back.

use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ContentBlock, CreateTaskResult, ProtocolVersion,
    Resource,
};
use rmcp::service::RequestContext;
use serde_json::{Value, json};

use super::resources::RunUri;
use super::table::{AddedProject, Projects, RemovedProject, Waited};
use super::{tasks, wait};
use crate::auth::{Scope, Tier};
use crate::ids::RunId;
use crate::mcp::args::Args;
use crate::mcp::bounds::{WAIT_DEFAULT_S, WAIT_MAX_S};
use crate::mcp::caller::{caller, idempotency_key};
use crate::mcp::error::{ToolError, pretty};
use crate::mcp::resources::JSON;
use crate::mcp::server::AdwServer;
use crate::mcp::tools::{Answer, ToolDef, answer, success};
use crate::runs::{
    ListFilter, LogQuery, RunStatus, RunView, TriggerRequest, Triggered, UsageBy, UsageRequest,
};

/// One call of a tool that exists and that the caller may use.
pub async fn call(
    server: &AdwServer,
    def: &ToolDef,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Answer {
    let given = request.arguments.clone().unwrap_or_default();
    let args = Args::read(def.name, def.fields, &given)?;
    let call = Call { server, def, args, request, context };
    match def.name {
        "trigger_adw_workflow" => call.trigger().await,
        "trigger_adw_phase" => call.trigger_phase().await,
        "get_adw_state" => call.get().await,
        "list_adw_workflows" => call.list().await,
        "get_adw_logs" => call.logs().await,
        "wait_adw_workflow" => call.wait().await,
        "cancel_adw_workflow" => call.cancel().await,
        "resume_adw_workflow" => call.resume().await,
        "get_usage" => call.usage().await,
        "list_adw_projects" => call.projects().await,
        "add_adw_project" => call.add_project().await,
        "remove_adw_project" => call.remove_project().await,
        other => Err(ToolError::new(
            "internal",
            format!("tool {other} is listed but has no body"),
            "report this as a defect",
        )),
    }
}

struct Call<'a> {
    server: &'a AdwServer,
    def: &'a ToolDef,
    args: Args,
    request: &'a CallToolRequestParams,
    context: &'a RequestContext<RoleServer>,
}

impl Call<'_> {
    async fn trigger(&self) -> Answer {
        let caller = caller(self.server.principal(), self.context);
        let (runs, request) = (self.server.runs(), self.trigger_request());
        // Who takes a task asks after it: the answer need not wait for what becomes of the run.
        if tasks::declared(self.context) {
            let run = runs.enqueued(&caller, request).await?;
            return Ok(CreateTaskResult::new(tasks::task(&run)).into());
        }
        self.triggered(runs.trigger(&caller, request).await?).await
    }

    async fn trigger_phase(&self) -> Answer {
        let caller = caller(self.server.principal(), self.context);
        let phase = self.args.needed("phase");
        let request = self.trigger_request();
        let triggered = self.server.runs().trigger_phase(&caller, &phase, request).await?;
        self.triggered(triggered).await
    }

    fn trigger_request(&self) -> TriggerRequest {
        let empty = rmcp::model::JsonObject::new();
        TriggerRequest {
            issue_number: self.args.needed("issue_number"),
            project: self.args.text("project"),
            adw_id: self.args.text("adw_id"),
            model: self.args.text("model"),
            skip_cleanup: self.args.flag("skip_cleanup"),
            phases: self.args.list("phases"),
            priority: self.args.int("priority"),
            idempotency_key: idempotency_key(
                self.args.text("idempotency_key"),
                self.server.principal(),
                &self.context.meta,
                self.def.name,
                self.request.arguments.as_ref().unwrap_or(&empty),
            ),
        }
    }

    /// The run is stored by now; a client that knows tasks gets it as one.
    async fn triggered(&self, triggered: Triggered) -> Answer {
        if tasks::declared(self.context) {
            let run = self.server.runs().get(&triggered.adw_id).await?;
            return Ok(CreateTaskResult::new(tasks::task(&run)).into());
        }
        let link = self.link(&triggered);
        let mut result = success(&triggered)?;
        result.content.extend(link);
        Ok(result.into())
    }

    /// A link to the run for clients whose revision knows links in results (2025-06-18).
    fn link(&self, triggered: &Triggered) -> Option<ContentBlock> {
        let version = self.context.protocol_version()?;
        if version.as_str() < ProtocolVersion::V_2025_06_18.as_str() {
            return None;
        }
        let uri = RunUri::Run(RunId::parse(&triggered.adw_id).ok()?);
        let link = Resource::new(uri.to_string(), triggered.adw_id.clone())
            .with_title(format!("Run {}", triggered.adw_id))
            .with_mime_type(JSON);
        Some(ContentBlock::ResourceLink(link))
    }

    async fn get(&self) -> Answer {
        run_answer(self.server.runs().get(&self.args.needed("adw_id")).await?)
    }

    async fn list(&self) -> Answer {
        let status = self.args.text("status_filter");
        let pending = status.as_deref() == Some("pending");
        let filter = ListFilter {
            adw_id_prefix: self.args.text("adw_id_filter"),
            status: status.filter(|_| !pending).and_then(|word| RunStatus::parse(&word)),
            pending,
            project: self.args.text("project"),
            issue_number: self.args.text("issue_number"),
            since_ms: self.args.int("since"),
            limit: self.args.count("limit"),
            cursor: self.args.text("cursor"),
            ..ListFilter::default()
        };
        answer(&self.server.runs().list(&filter).await?)
    }

    async fn logs(&self) -> Answer {
        let query = LogQuery {
            phase: self.args.text("phase"),
            after: self.args.text("after"),
            limit: self.args.count("limit"),
            tail: self.args.flag("tail"),
        };
        if query.tail && query.after.is_some() {
            return Err(ToolError::argument(
                "tail and after exclude each other",
                "tail shows the end of the log; leave it out to go on from after",
            ));
        }
        answer(&self.server.runs().logs(&self.args.needed("adw_id"), &query).await?)
    }

    async fn wait(&self) -> Answer {
        let id = self.args.needed("adw_id");
        let run = self.server.runs().get(&id).await?;
        let asked = self.args.int("timeout_s").and_then(|s| u64::try_from(s).ok());
        if run.status.is_terminal() {
            return waited(run);
        }
        if asked.is_none() && tasks::declared(self.context) {
            return Ok(CreateTaskResult::new(tasks::task(&run)).into());
        }
        let limit = Duration::from_secs(asked.unwrap_or(WAIT_DEFAULT_S).min(WAIT_MAX_S));
        waited(wait::wait(self.server, self.context, run, limit).await?)
    }

    async fn cancel(&self) -> Answer {
        let caller = caller(self.server.principal(), self.context);
        run_answer(self.server.runs().cancel(&caller, &self.args.needed("adw_id")).await?)
    }

    async fn resume(&self) -> Answer {
        let caller = caller(self.server.principal(), self.context);
        let from = self.args.text("from_phase");
        let id = self.args.needed("adw_id");
        run_answer(self.server.runs().resume(&caller, &id, from.as_deref()).await?)
    }

    async fn usage(&self) -> Answer {
        let principal = self.server.principal();
        let request = UsageRequest {
            by: self.args.text("by").and_then(|w| UsageBy::parse(&w)).unwrap_or_default(),
            since_ms: self.args.int("since"),
            until_ms: self.args.int("until"),
            project: self.args.text("project"),
            user: self.args.text("user"),
            adw_id: self.args.text("adw_id"),
            limit: self.args.count("limit"),
            cursor: self.args.text("cursor"),
            viewer: principal.user_id.clone(),
            everything: principal.tier >= Tier::Admin && principal.scope == Scope::All,
            projects: match &principal.scope {
                Scope::All => None,
                Scope::Projects(names) => Some(names.as_ref().clone()),
            },
        };
        answer(&self.server.runs().usage(&request).await?)
    }

    async fn projects(&self) -> Answer {
        answer(&Projects { projects: self.server.runs().projects().await? })
    }

    async fn add_project(&self) -> Answer {
        let (path, name) = (self.args.needed("path"), self.args.text("name"));
        let (project, added) = self.server.runs().add_project(&path, name.as_deref()).await?;
        answer(&AddedProject { project, added })
    }

    async fn remove_project(&self) -> Answer {
        let name = self.args.needed("name");
        self.server.runs().remove_project(&name).await?;
        answer(&RemovedProject { name, removed: true })
    }
}

fn run_answer(run: RunView) -> Answer {
    answer(&tidy(run))
}

/// The scripts' state file is left out: whoever waits asks again and again.
fn waited(run: RunView) -> Answer {
    let ended = run.status.is_terminal();
    answer(&Waited { run: RunView { state: None, ..run }, ended })
}

/// The schema promises that `state` is an object; a script may have written anything.
#[must_use]
pub fn tidy(mut run: RunView) -> RunView {
    run.state = run.state.filter(Value::is_object);
    run
}

/// What a task that ended answers: the run, under the schemas of both tools that make tasks.
///
/// A run that failed is an error *result*: the protocol keeps the task status `failed` for calls
/// that could not be made at all.
#[must_use]
pub fn ended_result(run: RunView) -> CallToolResult {
    let failed = !matches!(run.status, RunStatus::Completed | RunStatus::Skipped);
    let error = failed.then(|| run_error(&run));
    let run = tidy(run);
    let mut value = json!(Waited { run, ended: true });
    if let Value::Object(object) = &mut value {
        object.insert("already_running".to_owned(), json!(false));
        if let Some(error) = error {
            object.insert("error".to_owned(), json!(error));
        }
    }
    let text = vec![ContentBlock::text(pretty(&value))];
    let mut result =
        if failed { CallToolResult::error(text) } else { CallToolResult::success(text) };
    result.structured_content = Some(value);
    result
}

fn run_error(run: &RunView) -> ToolError {
    let why = run.failure.as_ref().map_or_else(|| "no cause is known", |f| f.message.as_str());
    let hint = match &run.failure {
        Some(failure) if failure.retryable => "call resume_adw_workflow to try again",
        _ => "read get_adw_logs; once mended, call resume_adw_workflow",
    };
    ToolError::new("run_failed", format!("run {} {}: {why}", run.adw_id, run.status), hint)
}
