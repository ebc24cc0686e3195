//! Export: everything that is stored of workflows, as JSON Lines or as CSV.
//!
//! JSON Lines hold each row as one object with the name of its `table`. CSV holds one table, since
//! a CSV file has one header: the metrics, the days, or the phases. Rows are read in steps, so an
//! export of a million metrics takes little memory.

use std::io::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::desk;
use super::desk::Desk;
use super::error::WritingError;
use super::metric::Hundredths;
use super::phase;
use super::request::{BookRef, WorkflowRef};
use super::sql;
use super::sql_export;
use super::sql_metrics;
use super::sql_rows::{DailyRow, MetricRow, VisitRow};
use super::view::QaReport;
use crate::clock::Millis;
use crate::limits::{WRITING_DAYS_MAX_COUNT, WRITING_STEP_COUNT};

/// What an export looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Everything, one JSON object a line, each with its `table`.
    JsonLines,
    /// One table with a header.
    Csv(CsvTable),
}

/// The tables that can be had as CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvTable {
    /// Every recorded metric.
    Metrics,
    /// Every day.
    Daily,
    /// Every visit of a phase.
    Phases,
}

impl CsvTable {
    /// All of them, with their names.
    pub const ALL: [(&'static str, CsvTable); 3] =
        [("metrics", CsvTable::Metrics), ("daily", CsvTable::Daily), ("phases", CsvTable::Phases)];

    /// The table of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<CsvTable> {
        CsvTable::ALL.iter().find(|(known, _)| *known == name).map(|(_, table)| *table)
    }

    fn header(self) -> &'static [&'static str] {
        match self {
            CsvTable::Metrics => &METRIC_COLUMNS,
            CsvTable::Daily => &DAILY_COLUMNS,
            CsvTable::Phases => &PHASE_COLUMNS,
        }
    }
}

const METRIC_COLUMNS: [&str; 9] = [
    "metric_id",
    "workflow_id",
    "metric_type",
    "metric_value",
    "phase_number",
    "book_number",
    "chapter_number",
    "recorded_at",
    "metadata",
];
const DAILY_COLUMNS: [&str; 7] = [
    "workflow_id",
    "stat_date",
    "words_written",
    "chapters_completed",
    "scenes_written",
    "writing_time_minutes",
    "phases_completed",
];
const PHASE_COLUMNS: [&str; 8] = [
    "workflow_id",
    "phase_number",
    "phase_name",
    "book_number",
    "status",
    "started_at",
    "completed_at",
    "output_summary",
];

/// Reads rows in steps, each step after the last id of the one before, and does something with
/// each.
macro_rules! pages {
    (|$after:ident| $page:expr, |$row:ident| $each:block) => {
        let mut $after = i64::MIN;
        loop {
            let rows = $page.await?;
            let Some(last) = rows.last().map(|row| row.id) else { break };
            $after = last;
            for $row in rows $each
        }
    };
}

type Answer<T> = Result<T, WritingError>;

/// Where rows go, and how many went.
struct Sink<'o> {
    out: &'o mut (dyn Write + Send),
    format: Format,
    rows: u64,
}

impl Sink<'_> {
    /// A row of a table that CSV knows too.
    fn row(&mut self, table: &'static str, columns: &[&str], values: Vec<Value>) -> Answer<()> {
        match self.format {
            Format::JsonLines => {
                let mut line = super::request::Object::new();
                line.insert("table".to_owned(), json!(table));
                line.extend(columns.iter().map(|name| (*name).to_owned()).zip(values));
                self.line(&Value::Object(line))
            }
            Format::Csv(_) => {
                let cells: Vec<String> = values.iter().map(cell).collect();
                self.rows += 1;
                Ok(writeln!(self.out, "{}", cells.join(","))?)
            }
        }
    }

    /// A line of a table that only JSON Lines know.
    fn object<T: Serialize>(&mut self, table: &'static str, value: &T) -> Answer<()> {
        let mut line = super::request::Object::new();
        line.insert("table".to_owned(), json!(table));
        if let Ok(Value::Object(fields)) = serde_json::to_value(value) {
            line.extend(fields);
        }
        self.line(&Value::Object(line))
    }

    fn line(&mut self, line: &Value) -> Answer<()> {
        self.rows += 1;
        Ok(writeln!(self.out, "{line}")?)
    }

    fn wants(&self, table: CsvTable) -> bool {
        matches!(self.format, Format::JsonLines) || self.format == Format::Csv(table)
    }
}

/// A cell as RFC 4180 has it. A text that a spreadsheet would take for a formula gets an apostrophe
/// in front.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            format!("'{text}")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// Writes an export; answers the rows written.
pub(super) async fn export(
    desk: &Desk,
    workflow: Option<i64>,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Answer<u64> {
    let mut sink = Sink { out, format, rows: 0 };
    if let Format::Csv(table) = format {
        writeln!(sink.out, "{}", table.header().join(","))?;
    }
    if let Some(id) = workflow {
        one(desk, id, &mut sink).await?;
        return Ok(sink.rows);
    }
    // Oldest first; the ids are few.
    let mut ids = Vec::new();
    let mut before = i64::MAX;
    loop {
        let page = sql::workflow_ids(&mut &desk.deps.db, before, WRITING_STEP_COUNT).await?;
        let Some((last,)) = page.last().copied() else { break };
        before = last;
        ids.extend(page.into_iter().map(|(id,)| id));
    }
    for id in ids.into_iter().rev() {
        one(desk, id, &mut sink).await?;
    }
    Ok(sink.rows)
}

async fn one(desk: &Desk, id: i64, sink: &mut Sink<'_>) -> Answer<()> {
    let state = desk::state::state(desk, WorkflowRef { workflow_id: id }).await?;
    let total_books = state.total_books;
    if sink.format == Format::JsonLines {
        sink.object("workflow", &state)?;
        others(desk, id, total_books, sink).await?;
    }
    if sink.wants(CsvTable::Phases) {
        phases(desk, id, sink).await?;
    }
    if sink.wants(CsvTable::Daily) {
        daily(desk, id, sink).await?;
    }
    if sink.wants(CsvTable::Metrics) {
        metrics(desk, id, sink).await?;
    }
    Ok(())
}

/// What only JSON Lines hold: approvals, gates, books, passes and reports.
async fn others(desk: &Desk, id: i64, total_books: i64, sink: &mut Sink<'_>) -> Answer<()> {
    let db = &mut &desk.deps.db;
    pages!(|after| sql_export::approvals_after(db, id, after, WRITING_STEP_COUNT), |row| {
        sink.object("approval", &with_workflow(id, &desk::approvals::view(row)?))?;
    });
    pages!(|after| sql_export::gates_after(db, id, after, WRITING_STEP_COUNT), |row| {
        sink.object("gate", &with_workflow(id, &desk::gates::view(row)?))?;
    });
    for book_number in 1..=total_books {
        let book = || BookRef { workflow_id: id, book_number };
        sink.object("book", &desk::books::record(desk, book()).await?)?;
        let revision = desk::passes::status(desk, book()).await?;
        for pass in revision.passes.iter().filter(|pass| pass.pass_id.is_some()) {
            let mut line = with_workflow(id, pass);
            line["book_number"] = json!(book_number);
            sink.object("revision_pass", &line)?;
        }
        let of = (id, book_number);
        pages!(|after| sql_export::reports_after(db, of, after, WRITING_STEP_COUNT), |row| {
            let report: QaReport = desk::from_json("a QA report", &row.report)?;
            sink.object("qa_report", &report)?;
        });
    }
    Ok(())
}

fn with_workflow<T: Serialize>(id: i64, value: &T) -> Value {
    let mut line = json!({ "workflow_id": id });
    if let (Some(line), Ok(Value::Object(fields))) =
        (line.as_object_mut(), serde_json::to_value(value))
    {
        line.extend(fields);
    }
    line
}

async fn phases(desk: &Desk, id: i64, sink: &mut Sink<'_>) -> Answer<()> {
    let db = &mut &desk.deps.db;
    pages!(|after| sql_export::visits_after(db, id, after, WRITING_STEP_COUNT), |row| {
        sink.row("phase", &PHASE_COLUMNS, phase_values(&row))?;
    });
    Ok(())
}

fn phase_values(row: &VisitRow) -> Vec<Value> {
    vec![
        json!(row.workflow_id),
        json!(row.phase),
        json!(phase::name(row.phase)),
        json!(row.book),
        json!(row.status),
        json!(Millis(row.started_at).rfc3339()),
        json!(row.ended_at.map(|at| Millis(at).rfc3339())),
        json!(row.summary),
    ]
}

async fn daily(desk: &Desk, id: i64, sink: &mut Sink<'_>) -> Answer<()> {
    let mut last = "9999-12-31".to_owned();
    loop {
        let db = &mut &desk.deps.db;
        let range = ("", last.as_str());
        let page = sql_metrics::days_of_workflow(db, id, range, WRITING_DAYS_MAX_COUNT).await?;
        for row in &page {
            sink.row("day", &DAILY_COLUMNS, daily_values(row))?;
        }
        let Some(oldest) = page.last().and_then(|row| super::day::Day::parse(&row.day)) else {
            return Ok(());
        };
        last = oldest.plus(-1).to_string();
    }
}

fn daily_values(row: &DailyRow) -> Vec<Value> {
    let figures = [row.words, row.chapters, row.scenes, row.minutes, row.phases];
    let mut values = vec![json!(row.workflow_id), json!(row.day)];
    values.extend(figures.map(|figure| json!(Hundredths(figure))));
    values
}

async fn metrics(desk: &Desk, id: i64, sink: &mut Sink<'_>) -> Answer<()> {
    let mut after = (i64::MIN, i64::MIN);
    loop {
        let db = &mut &desk.deps.db;
        let page = sql_export::metrics_after(db, id, after, WRITING_STEP_COUNT).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = (last.recorded_at, last.id);
        for row in &page {
            sink.row("metric", &METRIC_COLUMNS, metric_values(row))?;
        }
    }
}

fn metric_values(row: &MetricRow) -> Vec<Value> {
    vec![
        json!(row.id),
        json!(row.workflow_id),
        json!(row.metric_type),
        json!(Hundredths(row.value)),
        json!(row.phase),
        json!(row.book),
        json!(row.chapter),
        json!(Millis(row.recorded_at).rfc3339()),
        json!(row.metadata),
    ]
}
