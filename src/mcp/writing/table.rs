//! The tools over writing workflows: names, words for models, and arguments.
//!
//! Names and fields are those of `spec/writing.md` §1. A writing workflow is about a series of books
//! and about nothing else that is called a workflow here, so every description says so.

mod books;
mod figures;
mod series;

use serde_json::{Value, json};

use crate::limits::{
    WRITING_BOOKS_MAX_COUNT as BOOKS_MAX, WRITING_CHAPTERS_MAX_COUNT as PLACE_MAX,
};
use crate::mcp::args::{Field, Kind, may, need};
use crate::mcp::tools::ToolDef;
use crate::writing::metric::VALUE_MAX;

/// All tools, in the order in which they are listed.
pub fn tools() -> impl Iterator<Item = &'static ToolDef> {
    series::TOOLS.iter().chain(books::TOOLS).chain(figures::TOOLS)
}

/// Words of `gate_type`.
pub const GATE_WORDS: [&str; 3] = ["npe_series", "npe_scene", "commercial"];
/// Words of `approval_type`.
pub const APPROVAL_WORDS: [&str; 3] = ["series_plan", "book_completion", "chapter_plan"];
/// Words of `decision`.
pub const DECISION_WORDS: [&str; 3] = ["approved", "rejected", "revision_requested"];
/// Words of `time_window`.
pub const WINDOW_WORDS: [&str; 3] = ["day", "week", "all"];
/// Words of `cover_status`.
pub const COVER_WORDS: [&str; 3] = ["MISSING", "IN_PROGRESS", "COMPLETE"];

const WORKFLOW: Field =
    need("workflow_id", Kind::Key, "Id of the writing workflow, as create_workflow answered it.");
const BOOK: Field = need("book_number", Kind::Int(1, BOOKS_MAX), "The book in the series, from 1.");
const PASS: Field = need(
    "pass_number",
    Kind::Int(1, 6),
    "The pass: 1 structural, 2 continuity, 3 dialogue, 4 emotional, 5 line_edit, 6 final_qa.",
);
const RANGE: Field = may(
    "date_range",
    Kind::Group(RANGE_FIELDS),
    "Only what was recorded then. Each end may be left out.",
);
const RANGE_FIELDS: &[Field] = &[
    may(
        "start",
        Kind::Text,
        "First day, YYYY-MM-DD in the workflow's zone, or a moment in RFC 3339.",
    ),
    may("end", Kind::Text, "Last day, which counts whole, or a moment in RFC 3339."),
];

/// Anything to keep.
fn open_object() -> Value {
    json!({ "type": "object", "additionalProperties": true })
}

/// Names by which clients of this family's predecessors call an argument, and what is right.
///
/// The contract drifted between a server and its clients (`spec/writing.md` §6); each of these
/// failed there with a message of the database. What no likeness of names would find is here.
const RENAMED: &[(&str, &str, &str)] = &[
    ("advance_to_phase", "phase_number", "target_phase"),
    ("advance_to_phase", "phase", "target_phase"),
    ("execute_phase", "target_phase", "phase_number"),
    ("execute_phase", "output", "input"),
    ("complete_current_phase", "input", "output"),
    ("record_quality_gate", "details", "violations"),
    ("submit_approval", "approved", "decision"),
    ("submit_approval", "status", "decision"),
    ("submit_approval", "notes", "feedback"),
    ("submit_approval", "comment", "feedback"),
    ("request_approval", "type", "approval_type"),
    ("start_book_iteration", "book_id", "book_number"),
    ("complete_book_iteration", "iteration_id", "book_number"),
    ("complete_book_iteration", "book_id", "book_number"),
    ("start_revision_pass", "name", "pass_name"),
    ("complete_revision_pass", "notes", "findings_summary"),
    ("record_production_metric", "value", "metric_value"),
    ("record_production_metric", "type", "metric_type"),
    ("record_production_metric", "metric", "metric_type"),
    ("get_workflow_velocity", "window", "time_window"),
    ("get_daily_writing_stats", "date", "date_range"),
    ("get_daily_writing_stats", "user_id", "author_id"),
    ("get_workflow_metrics", "types", "metric_types"),
    ("create_workflow", "author_id", "user_id"),
    ("create_workflow", "premise", "concept"),
    ("create_workflow", "title", "series_title"),
    ("list_active_workflows", "author_id", "user_id"),
];

/// Arguments that such clients send and that mean nothing here, with what to do instead.
const NEEDLESS: &[(&str, &str, &str)] = &[
    (
        "request_approval",
        "requested_by",
        "leave it out: an approval is asked for by nobody in particular",
    ),
    ("request_approval", "phase_number", "leave it out: the approval belongs to the present phase"),
    ("record_quality_gate", "phase_number", "leave it out: the phase follows from gate_type"),
    (
        "get_phase_analytics",
        "workflow_id",
        "leave it out: the figures are over all workflows; get_workflow_metrics has by_phase of one",
    ),
    (
        "complete_book_iteration",
        "words_written",
        "leave it out: record_production_metric with metric_type words_written records words",
    ),
    (
        "complete_book_iteration",
        "chapters_completed",
        "leave it out: record_production_metric with metric_type chapters_completed records chapters",
    ),
    (
        "update_daily_stats",
        "hours_worked",
        "it is \"writing_time_minutes\" in \"updates\": {\"updates\": {\"writing_time_minutes\": …}}",
    ),
];

/// What to do about an argument that another dialect knows and this tool does not.
#[must_use]
pub fn drift_hint(tool: &str, name: &str) -> Option<String> {
    let known = |list: &'static [(&str, &str, &str)]| {
        list.iter().find(|(of, wrong, _)| *of == tool && *wrong == name).map(|(.., right)| *right)
    };
    known(RENAMED)
        .map(|right| format!("did you mean {right:?}?"))
        .or_else(|| known(NEEDLESS).map(str::to_owned))
}

#[cfg(test)]
mod tests;
