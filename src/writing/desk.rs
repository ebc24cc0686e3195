//! The desk: one transaction a tool.
//!
//! A tool that writes takes its ids first (which puts it at the head of all writers), reads what
//! its rule looks at, asks the pure core, writes, commits, and only then tells the change and
//! answers. Where it refuses, nothing is stored.

pub mod approvals;
pub mod books;
pub mod figures;
pub mod gates;
pub mod passes;
pub mod phases;
pub mod quality;
pub mod recorder;
pub mod state;
pub mod velocity;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::WritingDeps;
use super::day::Zone;
use super::error::WritingError;
use super::ledger::Ledger;
use super::phase::{self, ApprovalType, Facts, PhaseStatus, VisitStatus};
use super::request::Object;
use super::sql::{self, Ids, Read, Take, VisitEnd};
use super::sql_books;
use super::sql_gates;
use super::sql_metrics;
use super::sql_rows::{BookRow, MetricRow, VisitRow, WorkflowRow};
use crate::changes::Changed;
use crate::clock::Millis;
use crate::db::{Db, DbError, Tx};
use crate::limits;

type Answer<T> = Result<T, WritingError>;

/// What every tool shares.
pub struct Desk {
    pub(super) deps: WritingDeps,
}

/// A workflow with what the rules look at.
pub struct Work {
    /// Its row; changed here, then stored.
    pub row: WorkflowRow,
    /// The facts, as they were read.
    pub facts: Facts,
    /// Its time zone.
    pub zone: Zone,
    /// Books of which something is known.
    pub books: Vec<BookRow>,
}

impl Work {
    /// The record of a book that exists.
    pub fn book(&self, number: i64) -> Answer<BookRow> {
        check_book(&self.row, number)?;
        let known = self.books.iter().find(|book| book.book == number);
        Ok(known.cloned().unwrap_or_else(|| BookRow::unknown(self.row.id, number)))
    }
}

/// Refuses a book that the series does not have.
pub fn check_book(row: &WorkflowRow, number: i64) -> Answer<()> {
    if (1..=row.total_books).contains(&number) {
        return Ok(());
    }
    Err(WritingError::UnknownBook {
        workflow_id: row.id,
        book_number: number,
        total_books: row.total_books,
    })
}

impl Desk {
    /// The desk on a database.
    pub fn new(deps: WritingDeps) -> Arc<Desk> {
        Arc::new(Desk { deps })
    }

    fn db(&self) -> &Db {
        &self.deps.db
    }

    fn now(&self) -> Millis {
        self.deps.clock.now()
    }

    fn enforce(&self) -> bool {
        self.deps.config.enforce
    }

    /// Begins a transaction that writes.
    async fn begin(&self, take: Take) -> Answer<(Tx, Ids)> {
        let mut tx = self.db().begin().await?;
        let ids = sql::take(&mut tx, take).await?;
        Ok((tx, ids))
    }

    /// Stores the workflow, commits, tells the change.
    async fn commit(&self, mut tx: Tx, mut row: WorkflowRow) -> Answer<()> {
        row.updated_at = self.now().0;
        if !sql::save_workflow(&mut tx, &row).await? {
            let message = format!("workflow {} was changed meanwhile; ask again", row.id);
            return Err(WritingError::WrongState { message });
        }
        committed(tx.commit().await)?;
        self.tell(row.id);
        Ok(())
    }

    pub(super) fn tell(&self, workflow: i64) {
        self.deps.changes.send(Changed::Writing(workflow.to_string()));
    }
}

/// What came of a commit. Where it got no answer it may have been carried out: to ask again could
/// then do it twice.
fn committed(outcome: Result<(), DbError>) -> Answer<()> {
    outcome.map_err(|error| match error {
        DbError::Unavailable { .. } => {
            tracing::error!(%error, "it is not known whether a change was stored");
            WritingError::Unsure
        }
        other => other.into(),
    })
}

/// The workflow's row.
pub async fn row(read: &mut impl Read, workflow_id: i64) -> Answer<WorkflowRow> {
    sql::workflow(read, workflow_id).await?.ok_or(WritingError::UnknownWorkflow { workflow_id })
}

/// The workflow's zone.
pub fn zone(row: &WorkflowRow) -> Answer<Zone> {
    Zone::parse(&row.time_zone)
        .map_err(|problem| WritingError::Stored { what: "the time zone", problem })
}

/// Reads a workflow and everything that the rules of phases look at.
pub async fn load(read: &mut impl Read, workflow_id: i64) -> Answer<Work> {
    let row = row(read, workflow_id).await?;
    let books = sql_books::books(read, workflow_id).await?;
    let approved = |book: &&BookRow| book.approved_at.is_some() && book.book <= row.total_books;
    let books_approved = books.iter().filter(approved).count();
    let at = phase::get(row.phase);
    let gates = match at.and_then(|phase| phase.gate) {
        Some(gate) => sql_gates::gate_facts(read, row.visit_id, gate.as_str()).await?,
        None => phase::GateFacts::default(),
    };
    let plan = ApprovalType::SeriesPlan;
    let plan_approved =
        at.is_some_and(|phase| phase.approval == Some(plan)) && plan_approved(read, &row).await?;
    let facts = Facts {
        phase: row.phase,
        status: row.status(),
        book: row.book,
        total_books: row.total_books,
        books_approved: i64::try_from(books_approved).unwrap_or(i64::MAX),
        book_approved: books.iter().filter(approved).any(|book| book.book == row.book),
        gates,
        plan_approved,
    };
    Ok(Work { zone: zone(&row)?, row, facts, books })
}

/// Whether the newest approval of the plan is given, and the plan is still what it was: no phase
/// up to Commercial Validation was entered after it was asked for.
async fn plan_approved(read: &mut impl Read, row: &WorkflowRow) -> Result<bool, DbError> {
    let kind = ApprovalType::SeriesPlan.as_str();
    let Some(newest) = sql_gates::last_approval(read, row.id, kind).await? else {
        return Ok(false);
    };
    if newest.status != "approved" {
        return Ok(false);
    }
    let planned = sql::last_visit_up_to(read, row.id, phase::USER_APPROVAL - 2).await?;
    Ok(planned.is_none_or(|visit| visit <= newest.visit_id))
}

/// How a visit is left.
pub struct Leave {
    /// How it ended.
    pub status: VisitStatus,
    /// What is said of it.
    pub summary: Option<String>,
    /// What it made.
    pub artifacts: Vec<String>,
    /// Anything else.
    pub output: Option<Object>,
}

impl Leave {
    fn plain(status: VisitStatus, summary: impl Into<String>) -> Leave {
        Leave { status, summary: Some(summary.into()), artifacts: Vec::new(), output: None }
    }
}

impl Desk {
    /// Leaves the present visit: closes it, counts it, records how long it took. Answers that time
    /// in ms; 0 where it was closed before.
    async fn leave(&self, tx: &mut Tx, work: &mut Work, leave: Leave, metric: i64) -> Answer<i64> {
        let now = self.now();
        let end = VisitEnd {
            status: leave.status.as_str(),
            summary: leave.summary,
            artifacts: to_json(&leave.artifacts),
            output: leave.output.as_ref().map(to_json),
        };
        let Some((phase, started)) = sql::end_visit(tx, work.row.visit_id, &end, now).await? else {
            return Ok(0);
        };
        let took = (now.0 - started).max(0);
        let completed = leave.status == VisitStatus::Completed;
        if completed || leave.status == VisitStatus::Failed {
            sql_metrics::add_visit(tx, phase, completed, took, now).await?;
        }
        if completed {
            let mut ledger = Ledger::default();
            let minutes = super::metric::Hundredths::minutes_of_ms(took);
            let duration = MetricRow {
                id: metric,
                metric_type: "phase_duration_minutes".to_owned(),
                value: minutes.0,
                phase: Some(phase),
                ..own_metric(&work.row, now)
            };
            ledger.add(&mut work.row, &work.zone, duration);
            ledger.phase_completed(work.row.id, work.zone.day(now));
            ledger.store(tx, &work.row, now).await?;
        }
        Ok(took)
    }

    /// Enters a phase: a new visit, in progress.
    async fn enter(&self, tx: &mut Tx, work: &mut Work, phase: i64, visit: i64) -> Answer<()> {
        work.row.phase = phase;
        work.row.visit_id = visit;
        work.row.set_status(PhaseStatus::InProgress);
        let started = visit_row(&work.row, self.now());
        sql::insert_visit(tx, &started).await?;
        Ok(())
    }
}

/// The visit that a workflow's row names, just begun.
fn visit_row(row: &WorkflowRow, now: Millis) -> VisitRow {
    VisitRow {
        id: row.visit_id,
        workflow_id: row.id,
        phase: row.phase,
        book: row.book,
        status: VisitStatus::Started.as_str().to_owned(),
        started_at: now.0,
        ended_at: None,
        input: None,
        summary: None,
        artifacts: "[]".to_owned(),
        output: None,
        score: None,
    }
}

/// A metric that the program records itself, without type and value.
fn own_metric(row: &WorkflowRow, now: Millis) -> MetricRow {
    MetricRow {
        id: 0,
        workflow_id: row.id,
        metric_type: String::new(),
        value: 0,
        phase: None,
        book: None,
        chapter: None,
        recorded_at: now.0,
        idempotency_key: None,
        digest: None,
        metadata: None,
    }
}

/// Plain data as JSON text.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> String {
    // Strings, numbers and maps with text keys: there is nothing in them that can fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// Stored JSON text as data.
pub fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Answer<T> {
    serde_json::from_str(text)
        .map_err(|error| WritingError::Stored { what, problem: error.to_string() })
}

fn time(at: i64) -> String {
    Millis(at).rfc3339()
}

/// 0 in the database is "none" on the wire.
fn some(number: i64) -> Option<i64> {
    (number != 0).then_some(number)
}

/// A text of a caller, trimmed; refused when it is empty or too long.
fn text(field: &'static str, given: &str, max_chars: usize) -> Answer<String> {
    let trimmed = given.trim();
    if trimmed.is_empty() {
        return Err(WritingError::invalid(field, given, "a text that is not empty"));
    }
    if trimmed.chars().count() > max_chars {
        let expected = format!("a text of at most {max_chars} characters");
        return Err(WritingError::invalid(field, given, expected));
    }
    Ok(trimmed.to_owned())
}

fn optional_text(
    field: &'static str,
    given: Option<&str>,
    max_chars: usize,
) -> Answer<Option<String>> {
    given.map(|given| text(field, given, max_chars)).transpose()
}

fn number(field: &'static str, given: i64, range: std::ops::RangeInclusive<i64>) -> Answer<i64> {
    if range.contains(&given) {
        return Ok(given);
    }
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    Err(WritingError::invalid(field, given, expected))
}

fn list(field: &'static str, given: &[String]) -> Answer<Vec<String>> {
    if given.len() > limits::WRITING_LIST_MAX_COUNT {
        let expected = format!("at most {} entries", limits::WRITING_LIST_MAX_COUNT);
        return Err(WritingError::invalid(field, given.len(), expected));
    }
    given.iter().map(|entry| text(field, entry, limits::WRITING_WORD_MAX_CHARS)).collect()
}

fn object(field: &'static str, given: Option<&Object>) -> Answer<Option<String>> {
    let Some(json) = given.map(to_json) else { return Ok(None) };
    if json.len() > limits::WRITING_METADATA_MAX_BYTES {
        let expected = format!("at most {} bytes of JSON", limits::WRITING_METADATA_MAX_BYTES);
        return Err(WritingError::invalid(field, json.len(), expected));
    }
    Ok(Some(json))
}

fn limit(given: Option<i64>, default: i64, max: i64) -> Answer<i64> {
    number("limit", given.unwrap_or(default), 1..=max)
}

fn phase_number(field: &'static str, given: i64, from: i64) -> Answer<i64> {
    number(field, given, from..=phase::BOOK_LOOP)
}
