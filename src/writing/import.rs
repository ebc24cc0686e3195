//! Import from an installation whose schema is the seed's (its migrations 026 and 027).
//!
//! Rows are read as JSON, so that columns which some installations lack are absent and not an
//! error; the statements on the source are the only ones that are PostgreSQL's alone. What was
//! imported is remembered by its source id in the transaction that stores it, so an import can be
//! repeated and takes only what is new. A row that cannot be taken is told with its reason and
//! stops nothing.

mod figures;
mod flow;
mod source;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::desk::Desk;
use super::error::WritingError;
use super::ledger::Ledger;
use super::sql::{self, Ids, Take};
use super::sql_imports;
use crate::clock::Millis;
use crate::db::{Db, DbError, Tx};
use crate::limits::WRITING_STEP_COUNT;
use source::{Source, Table};

/// What may be said about an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// The zone of the workflows; the daemon's setting unless given.
    pub time_zone: Option<String>,
    /// The name under which what was imported is remembered; made of the database's name and its
    /// first workflow unless given, so that the same database is the same source however it is
    /// reached.
    pub source: Option<String>,
}

/// What became of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// The table of the source.
    pub table: String,
    /// Rows that were read.
    pub read: i64,
    /// Rows that are now here.
    pub imported: i64,
    /// Rows that were here before.
    pub known: i64,
    /// Rows that could not be taken.
    pub rejected: i64,
}

/// A row that was not taken as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The table of the source.
    pub table: String,
    /// The row's id there.
    pub source_id: i64,
    /// Whether it was left out; else it was taken, mended.
    pub rejected: bool,
    /// Why, or what was mended.
    pub reason: String,
}

/// The outcome of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// The name under which it is remembered.
    pub source: String,
    /// Each table of the source that is there.
    pub tables: Vec<TableReport>,
}

impl ImportReport {
    /// The rows of all tables that could not be taken.
    #[must_use]
    pub fn rejected(&self) -> i64 {
        self.tables.iter().map(|table| table.rejected).sum()
    }
}

/// Why a row was not taken.
enum Refusal {
    /// It cannot be.
    Reject(String),
    /// The import cannot go on.
    Fail(WritingError),
}

impl From<WritingError> for Refusal {
    fn from(error: WritingError) -> Refusal {
        Refusal::Fail(error)
    }
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Refusal {
        Refusal::Fail(error.into())
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal::Reject(reason)
    }
}

/// What an import says while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum News<'n> {
    /// A row was rejected or mended.
    Row(&'n Told),
    /// A page of a table was taken: the table as it now stands.
    Page(&'n TableReport),
}

/// Whom the import tells, as it goes on.
pub type Teller<'t> = &'t mut (dyn FnMut(News<'_>) + Send);

/// An import in work.
struct Import<'i> {
    desk: &'i Desk,
    source: Source<'i>,
    name: String,
    time_zone: String,
    /// Our workflows by the source's ids.
    workflows: BTreeMap<i64, i64>,
    /// Rows of the history that came with their workflow in this import, and whether they were
    /// taken; what is to be said of them was said there.
    history: BTreeMap<i64, bool>,
    /// Figures of the step, by workflow.
    ledgers: BTreeMap<i64, (super::sql_rows::WorkflowRow, super::day::Zone, Ledger)>,
    notes: Vec<Told>,
}

/// Imports everything from `from`, which is only read.
pub(super) async fn import(
    desk: &Desk,
    from: &Db,
    options: &ImportOptions,
    tell: Teller<'_>,
) -> Result<ImportReport, WritingError> {
    let source = Source::open(from).await?;
    let name = match &options.source {
        Some(name) => name.clone(),
        None => source.name().await?,
    };
    let time_zone = options.time_zone.clone().unwrap_or(desk.deps.config.time_zone.clone());
    super::day::Zone::parse(&time_zone)
        .map_err(|expected| WritingError::invalid("time_zone", &time_zone, expected))?;
    let mut import = Import {
        desk,
        source,
        name,
        time_zone,
        workflows: BTreeMap::new(),
        history: BTreeMap::new(),
        ledgers: BTreeMap::new(),
        notes: Vec::new(),
    };
    let mut report = ImportReport { source: import.name.clone(), tables: Vec::new() };
    for table in Table::ALL {
        if import.source.has(table) {
            report.tables.push(import.table(table, &mut *tell).await?);
        }
        if table == Table::Workflows {
            import.load_workflows().await?;
        }
    }
    Ok(report)
}

impl Import<'_> {
    async fn load_workflows(&mut self) -> Result<(), WritingError> {
        let table = Table::Workflows.name();
        let db = &mut &self.desk.deps.db;
        self.workflows = sql_imports::all(db, &self.name, table).await?.into_iter().collect();
        Ok(())
    }

    async fn table(&mut self, table: Table, tell: Teller<'_>) -> Result<TableReport, WritingError> {
        let mut report = TableReport { table: table.name().to_owned(), ..TableReport::default() };
        let mut after = i64::MIN;
        loop {
            let rows = self.source.page(table, after, WRITING_STEP_COUNT).await?;
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else { break };
            let (first, last) = (first.0, last.0);
            after = last;
            self.step(table, &rows, (first, last), &mut report).await?;
            for note in self.notes.drain(..) {
                tell(News::Row(&note));
            }
            tell(News::Page(&report));
        }
        Ok(report)
    }

    /// Takes a page of rows in one transaction.
    async fn step(
        &mut self,
        table: Table,
        rows: &[(i64, String)],
        range: (i64, i64),
        report: &mut TableReport,
    ) -> Result<(), WritingError> {
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let mut tx = self.desk.deps.db.begin().await?;
        let mut ids = sql::take(&mut tx, Self::ids_of(table, count)).await?;
        rewind(&mut ids, Self::ids_of(table, count));
        let known = sql_imports::known(&mut tx, &self.name, table.name(), range).await?;
        let mut touched = Vec::new();
        for (source_id, json) in rows {
            report.read += 1;
            if let Some(taken) = self.history.get(source_id).filter(|_| table == Table::History) {
                *(if *taken { &mut report.imported } else { &mut report.rejected }) += 1;
                continue;
            }
            if known.contains(&(*source_id,)) {
                report.known += 1;
                continue;
            }
            let taken = match source::Row::parse(json) {
                Ok(row) => self.take(&mut tx, table, (*source_id, row), &mut ids).await,
                Err(problem) => Err(Refusal::Reject(problem)),
            };
            match taken {
                Ok((ours, workflow)) => {
                    report.imported += 1;
                    touched.push(workflow);
                    let entry = (table.name(), *source_id, ours);
                    sql_imports::insert(&mut tx, &self.name, entry).await?;
                }
                Err(Refusal::Reject(reason)) => {
                    report.rejected += 1;
                    self.note(table, *source_id, true, reason);
                }
                Err(Refusal::Fail(error)) => return Err(error),
            }
        }
        let now = self.desk.deps.clock.now();
        for (_, (mut row, _, ledger)) in std::mem::take(&mut self.ledgers) {
            row.updated_at = now.0;
            ledger.store(&mut tx, &row, now).await?;
            if !sql::save_workflow(&mut tx, &row).await? {
                let message = format!("workflow {} was changed meanwhile; import again", row.id);
                return Err(WritingError::WrongState { message });
            }
        }
        tx.commit().await?;
        touched.sort_unstable();
        touched.dedup();
        for workflow in touched {
            self.desk.tell(workflow);
        }
        Ok(())
    }

    /// Ids that a step may need.
    fn ids_of(table: Table, count: i64) -> Take {
        match table {
            Table::Workflows => Take { workflow: count, ..Take::default() },
            Table::Approvals => Take { approval: count, ..Take::default() },
            Table::Gates => Take { gate: count, metric: 2 * count, ..Take::default() },
            Table::Passes => Take { pass: count, ..Take::default() },
            Table::Metrics => Take { metric: count, ..Take::default() },
            Table::Reports => Take { report: count, ..Take::default() },
            Table::Books | Table::History | Table::Daily => Take::default(),
        }
    }

    /// Takes one row; answers its id here and its workflow.
    async fn take(
        &mut self,
        tx: &mut Tx,
        table: Table,
        row: (i64, source::Row),
        ids: &mut Ids,
    ) -> Result<(i64, i64), Refusal> {
        match table {
            Table::Workflows => self.workflow(tx, row, ids).await,
            Table::History => Err(Refusal::Reject(
                "its workflow was not imported, or was imported before this row was written"
                    .to_owned(),
            )),
            Table::Books => self.book(tx, row).await,
            Table::Approvals => self.approval(tx, row, ids).await,
            Table::Gates => self.gate(tx, row, ids).await,
            Table::Passes => self.pass(tx, row, ids).await,
            Table::Metrics => self.metric(tx, row, ids).await,
            Table::Daily => self.daily(tx, row).await,
            Table::Reports => self.report(tx, row, ids).await,
        }
    }

    /// Our workflow of a row.
    fn workflow_of(&self, row: &source::Row) -> Result<i64, Refusal> {
        let theirs = row.need_int("workflow_id")?;
        let ours = self.workflows.get(&theirs).copied();
        ours.ok_or_else(|| format!("its workflow {theirs} was not imported").into())
    }

    fn note(&mut self, table: Table, source_id: i64, rejected: bool, reason: String) {
        self.notes.push(Told { table: table.name().to_owned(), source_id, rejected, reason });
    }

    fn now(&self) -> Millis {
        self.desk.deps.clock.now()
    }
}

/// From the last ids that were taken to those before the first.
fn rewind(ids: &mut Ids, taken: Take) {
    ids.workflow -= taken.workflow;
    ids.approval -= taken.approval;
    ids.gate -= taken.gate;
    ids.pass -= taken.pass;
    ids.metric -= taken.metric;
    ids.report -= taken.report;
}

/// The next id of a kind.
fn next(id: &mut i64) -> i64 {
    *id += 1;
    *id
}
