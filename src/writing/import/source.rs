//! The database that is imported from: which tables it has, and their rows as JSON.

use serde_json::Value;

use super::super::error::WritingError;
use super::super::metric::Hundredths;
use super::super::request::Object;
use crate::args;
use crate::clock::Millis;
use crate::db::{Db, Engine};

/// The tables that are read, in this order: what others belong to comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `workflow_instances`, each with its history.
    Workflows,
    /// `workflow_phase_history`: what was not taken with its workflow.
    History,
    /// `books`.
    Books,
    /// `workflow_approvals`.
    Approvals,
    /// `workflow_quality_gates`.
    Gates,
    /// `revision_passes`.
    Passes,
    /// `production_metrics`.
    Metrics,
    /// `daily_writing_stats`, after the metrics that make most of it.
    Daily,
    /// `qa_reports`.
    Reports,
}

macro_rules! page {
    ($table:literal) => {
        concat!(
            "SELECT CAST(t.id AS BIGINT), CAST(to_jsonb(t) AS TEXT) FROM ",
            $table,
            " t WHERE CAST(t.id AS BIGINT) > $1 ORDER BY t.id LIMIT $2"
        )
    };
}

impl Table {
    pub const ALL: [Table; 9] = [
        Table::Workflows,
        Table::History,
        Table::Books,
        Table::Approvals,
        Table::Gates,
        Table::Passes,
        Table::Metrics,
        Table::Daily,
        Table::Reports,
    ];

    pub fn name(self) -> &'static str {
        self.texts().0
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Table::Workflows => ("workflow_instances", page!("workflow_instances")),
            Table::History => ("workflow_phase_history", page!("workflow_phase_history")),
            Table::Books => ("books", page!("books")),
            Table::Approvals => ("workflow_approvals", page!("workflow_approvals")),
            Table::Gates => ("workflow_quality_gates", page!("workflow_quality_gates")),
            Table::Passes => ("revision_passes", page!("revision_passes")),
            Table::Metrics => ("production_metrics", page!("production_metrics")),
            Table::Daily => ("daily_writing_stats", page!("daily_writing_stats")),
            Table::Reports => ("qa_reports", page!("qa_reports")),
        }
    }
}

/// The source; only read.
pub struct Source<'s> {
    db: &'s Db,
    tables: Vec<String>,
}

impl<'s> Source<'s> {
    /// Looks what is there.
    ///
    /// # Errors
    /// A database that is no PostgreSQL, or has no workflows.
    pub async fn open(db: &'s Db) -> Result<Source<'s>, WritingError> {
        let wrong = |expected: &str| WritingError::invalid("from", db.engine().name(), expected);
        if db.engine() != Engine::Postgres {
            return Err(wrong("a postgres:// URL"));
        }
        let rows: Vec<(String,)> = db
            .all(
                "SELECT CAST(table_name AS TEXT) FROM information_schema.tables \
                 WHERE table_schema = ANY (current_schemas(FALSE))",
                args![],
            )
            .await?;
        let source = Source { db, tables: rows.into_iter().map(|(name,)| name).collect() };
        if !source.has(Table::Workflows) {
            let expected = "a database with the table workflow_instances (schema of migration \
                            025 to 027) on its search path";
            return Err(wrong(expected));
        }
        Ok(source)
    }

    pub fn has(&self, table: Table) -> bool {
        self.has_named(table.name())
    }

    fn has_named(&self, table: &str) -> bool {
        self.tables.iter().any(|known| known == table)
    }

    /// A name that is the same however the database is reached.
    pub async fn name(&self) -> Result<String, WritingError> {
        let (database,): (String,) =
            self.db.one("SELECT CAST(current_database() AS TEXT)", args![]).await?;
        let first = self.page(Table::Workflows, i64::MIN, 1).await?;
        let born = match first.first() {
            Some((_, json)) => Row::parse(json).ok().and_then(|row| row.text("created_at")),
            None => None,
        };
        Ok(format!("{database}@{}", born.unwrap_or_default()))
    }

    /// Rows after an id, each as JSON.
    pub async fn page(
        &self,
        table: Table,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, String)>, WritingError> {
        Ok(self.db.all(table.texts().1, args![after, limit]).await?)
    }

    /// The history of a workflow, oldest first.
    pub async fn history(&self, workflow: i64) -> Result<Vec<(i64, String)>, WritingError> {
        if !self.has(Table::History) {
            return Ok(Vec::new());
        }
        let sql = "SELECT CAST(t.id AS BIGINT), CAST(to_jsonb(t) AS TEXT) \
                   FROM workflow_phase_history t WHERE CAST(t.workflow_id AS BIGINT) = $1 \
                   ORDER BY t.started_at, t.id";
        Ok(self.db.all(sql, args![workflow]).await?)
    }

    /// The title of a series.
    pub async fn series_title(&self, series: i64) -> Result<Option<String>, WritingError> {
        if !self.has_named("series") {
            return Ok(None);
        }
        let sql = "SELECT CAST(to_jsonb(t) AS TEXT) FROM series t WHERE CAST(t.id AS BIGINT) = $1";
        let found: Option<(String,)> = self.db.optional(sql, args![series]).await?;
        Ok(found.and_then(|(json,)| Row::parse(&json).ok()).and_then(|row| row.text("title")))
    }
}

/// A row of the source.
pub struct Row(Object);

impl Row {
    pub fn parse(json: &str) -> Result<Row, String> {
        serde_json::from_str(json).map(Row).map_err(|error| format!("it is no row: {error}"))
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Option<String> {
        let text = self.value(name)?.as_str()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A whole number; an error where there is something else.
    pub fn int(&self, name: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let whole = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        whole.map(Some).ok_or_else(|| format!("{name} is {value}, not a whole number"))
    }

    pub fn need_int(&self, name: &str) -> Result<i64, String> {
        self.int(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    /// A decimal number; an error where there is something else, NaN included.
    pub fn figure(&self, name: &str) -> Result<Option<Hundredths>, String> {
        let text = match self.value(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let read = Hundredths::parse(text.trim());
        read.map(Some).map_err(|problem| format!("{name}: {problem}"))
    }

    /// A moment; a naive one is UTC.
    pub fn time(&self, name: &str) -> Result<Option<Millis>, String> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let at = value.as_str().and_then(|text| Millis::parse_rfc3339(&text.replace(' ', "T")));
        at.map(Some).ok_or_else(|| format!("{name} is {value}, not a moment"))
    }

    pub fn bool(&self, name: &str) -> Option<bool> {
        self.value(name)?.as_bool()
    }

    /// JSON, whether the column is JSONB or text.
    pub fn json(&self, name: &str) -> Option<Value> {
        match self.value(name)? {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        }
    }

    pub fn object(&self, name: &str) -> Object {
        match self.json(name) {
            Some(Value::Object(object)) => object,
            _ => Object::new(),
        }
    }

    /// The texts of a JSON list.
    pub fn list(&self, name: &str) -> Vec<String> {
        let Some(Value::Array(items)) = self.json(name) else { return Vec::new() };
        let text = |item: Value| match item {
            Value::String(text) => text,
            other => other.to_string(),
        };
        items.into_iter().map(text).collect()
    }
}
