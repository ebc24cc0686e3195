//! Resources of writing workflows, as JSON.

use rmcp::ErrorData;
use rmcp::model::{Resource, ResourceTemplate};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::resource_error;
use super::uri::{
    ANALYTICS, APPROVALS_TEMPLATE, BOOK_TEMPLATE, Decided, GATES, GATES_TEMPLATE, METRICS_TEMPLATE,
    PHASE_TEMPLATE, PHASES_TEMPLATE, Part, QA_TEMPLATE, REVISION_TEMPLATE, STATE_TEMPLATE, Side,
    WritingUri,
};
use crate::clock::Clock;
use crate::mcp::bounds::{LISTED_SERIES_COUNT, STATIC_TTL_MS};
use crate::mcp::error::{ToolError, pretty};
use crate::mcp::resources::{JSON, Reading};
use crate::writing::day::Zone;
use crate::writing::phase::{self, Phase};
use crate::writing::{
    AnalyticsQuery, ApprovalStatus, BookRef, DailyQuery, DateRange, GateType, HistoryQuery,
    ListWorkflows, MetricsQuery, PhaseAnalyticsList, ReportQuery, VelocityQuery, WorkflowItem,
    WorkflowRef, Writing, WritingError,
};

/// The analytics, and where each workflow in work stands.
///
/// # Errors
/// The database's.
pub async fn list(writing: &Writing) -> Result<Vec<Resource>, ErrorData> {
    let newest = ListWorkflows {
        user_id: None,
        limit: Some(i64::from(LISTED_SERIES_COUNT)),
        before_id: None,
    };
    let open = writing.list_active_workflows(newest).await;
    let open = open.map_err(|error| ToolError::from(error).into_protocol())?;
    let mut listed = vec![
        Resource::new(ANALYTICS, "writing-analytics")
            .with_title("Book series: how phases perform")
            .with_description("Executions, durations and quality of phases over all book series")
            .with_mime_type(JSON),
    ];
    listed.extend(open.workflows.iter().map(entry));
    Ok(listed)
}

/// Nothing in an entry changes as the work goes on, so the list changes only with new workflows.
fn entry(item: &WorkflowItem) -> Resource {
    let title = item.series_title.clone().unwrap_or_else(|| format!("series {}", item.series_id));
    let uri = WritingUri::Of(item.workflow_id, Part::State).to_string();
    Resource::new(uri, format!("writing-{}", item.workflow_id))
        .with_title(format!("Book series {}: {title}", item.workflow_id))
        .with_description("Phase, status, book, and what is missing")
        .with_mime_type(JSON)
}

/// The templates.
#[must_use]
pub fn templates() -> Vec<ResourceTemplate> {
    [
        (STATE_TEMPLATE, "writing-state", "A book series", "Phase, status, book, what is missing"),
        (PHASES_TEMPLATE, "writing-phases", "A series' phases", "Visits of phases, oldest first"),
        (APPROVALS_TEMPLATE, "writing-approvals", "A series' decisions", "Open and made ones"),
        (GATES_TEMPLATE, "writing-gates", "A series' gates", "Recorded gates, newest first"),
        (
            METRICS_TEMPLATE,
            "writing-metrics",
            "A series' figures",
            "summary, velocity, daily, by-book or by-phase",
        ),
        (BOOK_TEMPLATE, "writing-book", "A book", "Title, blurb, keywords, categories, cover"),
        (REVISION_TEMPLATE, "writing-revision", "A book's revision", "All six passes"),
        (QA_TEMPLATE, "writing-qa", "A book's QA report", "The newest stored report"),
        (PHASE_TEMPLATE, "writing-phase", "What a phase is", "Name, requirements and outputs"),
    ]
    .map(|(uri, name, title, about)| {
        ResourceTemplate::new(uri, name)
            .with_title(title)
            .with_description(about)
            .with_mime_type(JSON)
    })
    .to_vec()
}

/// What is at an address.
///
/// # Errors
/// "Not found" where the workflow or the book is unknown.
pub async fn read(
    writing: &Writing,
    clock: &dyn Clock,
    uri: &str,
    address: &WritingUri,
) -> Result<Reading, ErrorData> {
    let read = match address {
        WritingUri::Phase(number, side) => return Ok(told_phase(*number, *side)),
        WritingUri::Of(id, part) => of(writing, clock, *id, *part).await,
        WritingUri::Analytics => analytics(writing).await,
        WritingUri::Performance(phase_number) => {
            value(writing.get_phase_analytics(AnalyticsQuery { phase_number: *phase_number })).await
        }
        WritingUri::GlobalStats => global_stats(writing).await,
    };
    read.map(|value| Reading::live(&value)).map_err(|error| resource_error(uri, error))
}

async fn of(
    writing: &Writing,
    clock: &dyn Clock,
    workflow_id: i64,
    part: Part,
) -> Result<Value, WritingError> {
    let workflow = WorkflowRef { workflow_id };
    match part {
        Part::State => value(writing.get_workflow_state(workflow)).await,
        Part::CurrentPhase => current_phase(writing, workflow).await,
        Part::Progress => value(writing.get_series_progress(workflow)).await,
        Part::Phases => {
            let all = HistoryQuery { workflow_id, phase_number: None, limit: None };
            value(writing.get_phase_history(all)).await
        }
        Part::Approvals(Decided::Open) => value(writing.get_pending_approvals(workflow)).await,
        Part::Approvals(Decided::Any) => value(writing.approvals(workflow_id)).await,
        Part::Approvals(Decided::Done) => {
            let mut list = writing.approvals(workflow_id).await?;
            list.approvals.retain(|approval| approval.status != ApprovalStatus::Pending);
            Ok(json!(list))
        }
        Part::Gates(word) => value(writing.gates(workflow_id, word.and_then(gate_type))).await,
        Part::Summary | Part::ByBook | Part::ByPhase => metrics(writing, workflow_id, part).await,
        Part::Velocity => {
            value(writing.get_workflow_velocity(VelocityQuery { workflow_id, time_window: None }))
                .await
        }
        Part::Daily(days) => daily(writing, clock, workflow_id, days).await,
        Part::Book(book_number) => {
            value(writing.book_record(BookRef { workflow_id, book_number })).await
        }
        Part::Revision(book_number) => {
            value(writing.get_revision_status(BookRef { workflow_id, book_number })).await
        }
        Part::Qa(book_number) => {
            value(writing.get_qa_report(ReportQuery { workflow_id, book_number, limit: None }))
                .await
        }
    }
}

async fn value<T: Serialize>(
    asked: impl Future<Output = Result<T, WritingError>>,
) -> Result<Value, WritingError> {
    asked.await.map(|answer| json!(answer))
}

fn gate_type(word: &str) -> Option<GateType> {
    let (_, name) = GATES.iter().find(|(spelled, _)| *spelled == word)?;
    GateType::parse(name)
}

async fn current_phase(writing: &Writing, workflow: WorkflowRef) -> Result<Value, WritingError> {
    let state = writing.get_workflow_state(workflow).await?;
    Ok(json!({
        "workflow_id": state.workflow_id,
        "current_phase": state.current_phase,
        "phase_name": state.phase_name,
        "phase_status": state.phase_status,
        "unmet": state.unmet,
        "updated_at": state.updated_at,
    }))
}

async fn metrics(writing: &Writing, workflow_id: i64, part: Part) -> Result<Value, WritingError> {
    let all = MetricsQuery { workflow_id, metric_types: None, date_range: None };
    let figures = writing.get_workflow_metrics(all).await?;
    Ok(match part {
        Part::ByBook => json!({ "workflow_id": workflow_id, "by_book": figures.by_book }),
        Part::ByPhase => json!({ "workflow_id": workflow_id, "by_phase": figures.by_phase }),
        _ => json!({ "workflow_id": workflow_id, "metrics": figures.metrics,
            "by_type": figures.by_type }),
    })
}

/// All days, or the last ones, today included, as days are counted in the workflow's zone.
async fn daily(
    writing: &Writing,
    clock: &dyn Clock,
    workflow_id: i64,
    days: Option<u32>,
) -> Result<Value, WritingError> {
    let mut query = DailyQuery { workflow_id: Some(workflow_id), ..DailyQuery::default() };
    if let Some(days) = days {
        let state = writing.get_workflow_state(WorkflowRef { workflow_id }).await?;
        let zone = Zone::parse(&state.time_zone)
            .map_err(|problem| WritingError::Stored { what: "a time zone", problem })?;
        let first = zone.day_of(clock.now()).plus(1 - i64::from(days));
        query.date_range = Some(DateRange { start: Some(first.to_string()), end: None });
    }
    value(writing.get_daily_writing_stats(query)).await
}

async fn analytics(writing: &Writing) -> Result<Value, WritingError> {
    let phases = writing.get_phase_analytics(AnalyticsQuery::default()).await?;
    let global = global(writing, &phases).await?;
    Ok(json!({ "phases": phases.phases, "global": global }))
}

async fn global_stats(writing: &Writing) -> Result<Value, WritingError> {
    let phases = writing.get_phase_analytics(AnalyticsQuery::default()).await?;
    global(writing, &phases).await
}

async fn global(writing: &Writing, phases: &PhaseAnalyticsList) -> Result<Value, WritingError> {
    let one = ListWorkflows { user_id: None, limit: Some(1), before_id: None };
    let active = writing.list_active_workflows(one).await?.total;
    let sum = |count: fn(&crate::writing::PhaseAnalytics) -> i64| -> i64 {
        phases.phases.iter().map(count).sum()
    };
    Ok(json!({
        "active_workflows": active,
        "total_executions": sum(|phase| phase.total_executions),
        "successful_executions": sum(|phase| phase.successful_executions),
        "failed_executions": sum(|phase| phase.failed_executions),
    }))
}

/// What a phase is, which changes with the program only.
fn told_phase(number: i64, side: Option<Side>) -> Reading {
    // An address holds no other number.
    let phase = phase::get(number).unwrap_or(&phase::PHASES[0]);
    let value = match side {
        None => whole(phase),
        Some(side) => {
            let mut value = json!({ "phase_number": phase.number, "phase_name": phase.name });
            match side {
                Side::Description => value["description"] = json!(phase.description),
                Side::Requirements => value["requirements"] = json!(phase.requirements),
                Side::Outputs => value["outputs"] = json!(phase.outputs),
            }
            value
        }
    };
    Reading { text: pretty(&value), mime: JSON.into(), ttl_ms: STATIC_TTL_MS }
}

fn whole(phase: &Phase) -> Value {
    json!({
        "phase_number": phase.number,
        "phase_name": phase.name,
        "description": phase.description,
        "requirements": phase.requirements,
        "outputs": phase.outputs,
        "gate_type": phase.gate,
        "approval_type": phase.approval,
    })
}
