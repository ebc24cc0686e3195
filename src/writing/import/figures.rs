//! Passes, metrics, days and reports.

use std::collections::btree_map::Entry;

use serde_json::Value;

use super::super::day::Day;
use super::super::desk::{self, to_json};
use super::super::ledger::Ledger;
use super::super::metric::{self, Hundredths};
use super::super::pass::{self, PassStatus};
use super::super::phase;
use super::super::qa::{Blocker, Categories, Category, CategoryStatus, QaStatus, Severity};
use super::super::request::Object;
use super::super::sql::Ids;
use super::super::sql_books;
use super::super::sql_metrics;
use super::super::sql_rows::{DailyRow, MetricRow, PassRow, ReportRow};
use super::super::view::QaReport;
use super::flow::minutes;
use super::source::{Row, Table};
use super::{Import, Refusal, next};
use crate::clock::Millis;
use crate::db::Tx;
use crate::limits::WRITING_CHAPTERS_MAX_COUNT;

type Taken = Result<(i64, i64), Refusal>;

impl Import<'_> {
    pub(super) async fn pass(
        &mut self,
        tx: &mut Tx,
        (source_id, row): (i64, Row),
        ids: &mut Ids,
    ) -> Taken {
        let workflow = self.workflow_of(&row)?;
        let number = row.need_int("pass_number")?;
        let name =
            pass::name(number).ok_or_else(|| format!("pass_number is {number}, not 1 to 6"))?;
        let book = self.book_of(tx, workflow, &row).await?;
        let book = book.ok_or_else(|| "book_number is missing".to_owned())?;
        let word = row.text("status").unwrap_or_default();
        let status = match word.as_str() {
            "not_started" => PassStatus::Pending,
            "completed" => PassStatus::Complete,
            other => {
                PassStatus::parse(other).ok_or_else(|| format!("status {other:?} is not known"))?
            }
        };
        let here = sql_books::passes(tx, workflow, book).await?;
        if here.iter().any(|row| row.pass == number) {
            return Err(format!("pass {number} of book {book} is here already").into());
        }
        let given = row.text("pass_name").unwrap_or_default();
        if !pass::is_named(number, &given) {
            let mended = format!("pass_name {given:?} is not that of pass {number}: {name}");
            self.note(Table::Passes, source_id, false, mended);
        }
        let complete = status == PassStatus::Complete;
        let begun = status != PassStatus::Pending;
        let stored = PassRow {
            workflow_id: workflow,
            book,
            pass: number,
            id: next(&mut ids.pass),
            name: name.to_owned(),
            status: status.as_str().to_owned(),
            run_count: i64::from(begun),
            runs_completed: i64::from(complete),
            started_at: row.time("started_at")?.map(|at| at.0),
            ended_at: row.time("completed_at")?.filter(|_| complete).map(|at| at.0),
            duration: minutes(&row, "duration_minutes")?.filter(|_| complete),
            findings: row.text("findings_summary"),
            edits_made: row.bool("edits_made"),
            user_approved: row.bool("user_approved"),
            reason: None,
            report_id: None,
        };
        sql_books::put_pass(tx, &stored).await?;
        sql_books::touch_book(tx, workflow, book, self.now()).await?;
        Ok((stored.id, workflow))
    }

    /// The book of a row, which must be one of its series.
    async fn book_of(
        &mut self,
        tx: &mut Tx,
        workflow: i64,
        row: &Row,
    ) -> Result<Option<i64>, Refusal> {
        let Some(book) = row.int("book_number")? else { return Ok(None) };
        let total = match self.ledgers.get(&workflow) {
            Some((owner, ..)) => owner.total_books,
            None => desk::row(tx, workflow).await?.total_books,
        };
        if (1..=total).contains(&book) {
            return Ok(Some(book));
        }
        Err(format!("book_number is {book}, of {total} books").into())
    }

    pub(super) async fn metric(
        &mut self,
        tx: &mut Tx,
        (_, row): (i64, Row),
        ids: &mut Ids,
    ) -> Taken {
        let workflow = self.workflow_of(&row)?;
        let name = row.text("metric_type").unwrap_or_default();
        if !metric::is_name(&name) {
            return Err(format!("metric_type {name:?} is not a name").into());
        }
        let value =
            row.figure("metric_value")?.ok_or_else(|| "metric_value is missing".to_owned())?;
        metric::check_value(&name, value, false)
            .map_err(|expected| format!("metric_value is {}; expected {expected}", value.text()))?;
        let phase = row.int("phase_number")?;
        if phase.is_some_and(|number| phase::get(number).is_none()) {
            return Err(format!("phase_number is {}, not -1 to 12", phase.unwrap_or(0)).into());
        }
        let chapter = row.int("chapter_number")?;
        if chapter.is_some_and(|number| !(1..=WRITING_CHAPTERS_MAX_COUNT).contains(&number)) {
            return Err(format!("chapter_number is {}", chapter.unwrap_or(0)).into());
        }
        let book = self.book_of(tx, workflow, &row).await?;
        if metric::known(&name).is_some_and(|known| known.per_chapter)
            && (book.is_none() || chapter.is_none())
        {
            return Err(format!("{name} needs a book_number and a chapter_number").into());
        }
        let at = row.time("recorded_at")?.ok_or_else(|| "recorded_at is missing".to_owned())?;
        if at < Millis(0) {
            return Err(format!("recorded_at is {}, before 1970", at.rfc3339()).into());
        }
        if at > self.now() {
            return Err(format!("recorded_at is {}, in the future", at.rfc3339()).into());
        }
        let about = row.object("metadata");
        let stored = MetricRow {
            id: next(&mut ids.metric),
            workflow_id: workflow,
            metric_type: name,
            value: value.0,
            phase,
            book,
            chapter,
            recorded_at: at.0,
            idempotency_key: None,
            digest: None,
            metadata: (!about.is_empty()).then(|| to_json(&about)),
        };
        let id = stored.id;
        self.add(tx, stored).await?;
        Ok((id, workflow))
    }

    /// Adds a figure to those of the step.
    pub(super) async fn add(&mut self, tx: &mut Tx, metric: MetricRow) -> Result<(), Refusal> {
        let id = metric.workflow_id;
        let (row, zone, ledger) = match self.ledgers.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let row = desk::row(tx, id).await?;
                let zone = desk::zone(&row)?;
                free.insert((row, zone, Ledger::default()))
            }
        };
        let chapter = row.chapter;
        ledger.add(row, zone, metric);
        // History says nothing about the chapter that is worked on now.
        row.chapter = chapter;
        Ok(())
    }

    /// A day: raised to what the source says, where that is more than its metrics have made.
    pub(super) async fn daily(&mut self, tx: &mut Tx, (source_id, row): (i64, Row)) -> Taken {
        let workflow = self.workflow_of(&row)?;
        let text = row.text("stat_date").unwrap_or_default();
        let day = Day::parse(text.get(..10).unwrap_or(&text));
        let day = day.ok_or_else(|| format!("stat_date {text:?} is not a day"))?.to_string();
        let owner = desk::row(tx, workflow).await?;
        let mut theirs = [0; 5];
        let columns = [
            "words_written",
            "chapters_completed",
            "scenes_written",
            "writing_time_minutes",
            "phases_completed",
        ];
        for (value, name) in theirs.iter_mut().zip(columns) {
            *value = row.figure(name)?.map_or(0, |Hundredths(figure)| figure);
            if *value < 0 {
                return Err(format!("{name} is {}", Hundredths(*value).text()).into());
            }
        }
        let stored = sql_metrics::days_of_workflow(tx, workflow, (&day, &day), 1).await?;
        let ours = stored
            .first()
            .map_or([0; 5], |row| [row.words, row.chapters, row.scenes, row.minutes, row.phases]);
        let more = |at: usize| (theirs[at] - ours[at]).max(0);
        let raise = DailyRow {
            workflow_id: workflow,
            day,
            words: more(0),
            chapters: more(1),
            scenes: more(2),
            minutes: more(3),
            phases: more(4),
        };
        sql_metrics::add_day(tx, owner.author_id, &raise).await?;
        Ok((source_id, workflow))
    }

    /// A report, as history: it speaks of no state that this program knows, so nothing can be
    /// marked ready by it.
    pub(super) async fn report(
        &mut self,
        tx: &mut Tx,
        (_, row): (i64, Row),
        ids: &mut Ids,
    ) -> Taken {
        let workflow = self.workflow_of(&row)?;
        let book = self.book_of(tx, workflow, &row).await?;
        let book = book.ok_or_else(|| "book_number is missing".to_owned())?;
        let word = row.text("status").unwrap_or_default();
        let status =
            QaStatus::parse(&word).ok_or_else(|| format!("status {word:?} is not known"))?;
        let at = row.time("report_date")?.or(row.time("created_at")?);
        let at = at.unwrap_or_else(|| self.now());
        let report = view(&row, (next(&mut ids.report), workflow, book), status, at)?;
        let stored = ReportRow {
            id: report.report_id,
            workflow_id: workflow,
            book,
            ready: status == QaStatus::Ready,
            revision: -1,
            evidence: -1,
            report: to_json(&report),
            created_at: at.0,
        };
        sql_books::insert_report(tx, &stored).await?;
        Ok((stored.id, workflow))
    }
}

fn view(
    row: &Row,
    (report_id, workflow_id, book_number): (i64, i64, i64),
    status: QaStatus,
    at: Millis,
) -> Result<QaReport, String> {
    let category = |name: &str, column: &str| category(name, &row.object(column));
    let categories = Categories {
        npe: category("npe", "npe_validation"),
        continuity: category("continuity", "continuity_validation"),
        ku: category("ku", "ku_optimization"),
        production: category("production", "production_completeness"),
        metadata: category("metadata", "metadata_validation"),
    };
    let blockers: Vec<Blocker> = row.list("blockers").into_iter().map(|b| blocker("", b)).collect();
    let hours = row.figure("estimated_time_to_ready_hours")?;
    Ok(QaReport {
        report_id,
        workflow_id,
        book_title: format!("Book {book_number}"),
        book_number,
        date: at.rfc3339(),
        status,
        categories,
        blocker_count: i64::try_from(blockers.len()).unwrap_or(i64::MAX),
        blockers,
        warnings: Vec::new(),
        recommendations: row.list("recommendations"),
        estimated_time_to_ready_hours: hours.map_or(0.0, Hundredths::as_f64),
    })
}

fn category(name: &str, object: &Object) -> Category {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let score = object.get("score").map(ToString::to_string);
    let blockers = match object.get("blockers") {
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    };
    Category {
        status: text("status").and_then(CategoryStatus::parse).unwrap_or(CategoryStatus::Fail),
        message: text("message").unwrap_or("imported").to_owned(),
        score: score.and_then(|score| Hundredths::parse(score.trim_matches('"')).ok()),
        blockers: blockers.iter().map(|item| blocker(name, item.to_string())).collect(),
    }
}

/// A blocker of the old form: a text, or `{category, blocker}`.
fn blocker(category: &str, text: String) -> Blocker {
    let value = serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text));
    let part = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let message = match &value {
        Value::String(message) => message.clone(),
        other => part("blocker").or(part("message")).unwrap_or_else(|| other.to_string()),
    };
    Blocker {
        category: part("category").unwrap_or_else(|| category.to_owned()),
        severity: Severity::High,
        code: "imported".to_owned(),
        message,
        recommendation: String::new(),
        estimated_hours: Hundredths(0),
    }
}
