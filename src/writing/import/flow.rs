//! Workflows with their history, approvals, gates and books.

use super::super::desk::to_json;
use super::super::metric::Hundredths;
use super::super::phase::{self, ApprovalStatus, ApprovalType, GateType, PhaseStatus, VisitStatus};
use super::super::request::{CoverStatus, Object, Violation};
use super::super::sql::{self, Ids, Take};
use super::super::sql_books;
use super::super::sql_gates;
use super::super::sql_imports;
use super::super::sql_metrics;
use super::super::sql_rows::{ApprovalRow, BookRow, GateRow, MetricRow, VisitRow, WorkflowRow};
use super::source::{Row, Table};
use super::{Import, Refusal, next};
use crate::clock::Millis;
use crate::db::Tx;
use crate::limits::{WRITING_BOOKS_MAX_COUNT, WRITING_CHAPTERS_MAX_COUNT};

type Taken = Result<(i64, i64), Refusal>;

impl Import<'_> {
    /// A workflow, its history, and the visit it is in.
    pub(super) async fn workflow(
        &mut self,
        tx: &mut Tx,
        (source_id, row): (i64, Row),
        ids: &mut Ids,
    ) -> Taken {
        let mut workflow = self.workflow_row(&row).await?;
        if row.int("current_phase")? == Some(phase::BOOK_LOOP + 1) {
            let mended = "phase 13 does not exist: phase 12, completed".to_owned();
            self.note(Table::Workflows, source_id, false, mended);
        }
        if !row.object("metadata").get("books_ready_to_publish").is_none_or(is_empty) {
            let mended = "marks of ready books are not taken: run_qa_checklist, then \
                          mark_ready_to_publish";
            self.note(Table::Workflows, source_id, false, mended.to_owned());
        }
        workflow.id = next(&mut ids.workflow);
        let history = self.source.history(source_id).await?;
        let count = i64::try_from(history.len()).unwrap_or(0) + 1;
        let last = sql::take(tx, Take { visit: count, ..Take::default() }).await?;
        workflow.visit_id = last.visit;
        sql::insert_workflow(tx, &workflow).await?;
        let mut open = workflow.updated_at;
        for ((history_id, json), visit) in history.iter().zip(last.visit - count + 1..) {
            match self.visit(tx, (&workflow, visit), json, &mut open).await {
                Ok(()) => {}
                Err(Refusal::Reject(reason)) => {
                    self.note(Table::History, *history_id, true, reason);
                    self.history.insert(*history_id, false);
                    continue;
                }
                Err(fail) => return Err(fail),
            }
            self.history.insert(*history_id, true);
            let entry = (Table::History.name(), *history_id, visit);
            sql_imports::insert(tx, &self.name, entry).await?;
        }
        let ended = workflow.status() == PhaseStatus::Completed;
        let status = match workflow.status() {
            PhaseStatus::Completed => VisitStatus::Completed,
            PhaseStatus::Failed => VisitStatus::Failed,
            _ => VisitStatus::Started,
        };
        let present = VisitRow {
            id: workflow.visit_id,
            status: status.as_str().to_owned(),
            started_at: open,
            ended_at: (status != VisitStatus::Started)
                .then(|| workflow.completed_at.filter(|_| ended).unwrap_or(workflow.updated_at)),
            ..blank_visit(&workflow)
        };
        sql::insert_visit(tx, &present).await?;
        self.workflows.insert(source_id, workflow.id);
        Ok((workflow.id, workflow.id))
    }

    async fn workflow_row(&self, row: &Row) -> Result<WorkflowRow, Refusal> {
        let theirs = row.int("current_phase")?.unwrap_or(phase::NOT_STARTED);
        let past_the_end = theirs == phase::BOOK_LOOP + 1;
        let at = if past_the_end { phase::BOOK_LOOP } else { theirs };
        if phase::get(at).is_none() {
            return Err(format!("current_phase is {at}, not -1 to 12").into());
        }
        let word = row.text("phase_status").unwrap_or_else(|| "in_progress".to_owned());
        let mut status = PhaseStatus::parse(&word)
            .ok_or_else(|| format!("phase_status {word:?} is not known"))?;
        if past_the_end {
            status = PhaseStatus::Completed;
        }
        let metadata = row.object("metadata");
        let book = row.int("current_book")?.unwrap_or(1);
        if !(1..=WRITING_BOOKS_MAX_COUNT).contains(&book) {
            return Err(
                format!("current_book is {book}, not 1 to {WRITING_BOOKS_MAX_COUNT}").into()
            );
        }
        let total = metadata.get("total_books").and_then(serde_json::Value::as_i64);
        let total = total.unwrap_or(phase::DEFAULT_TOTAL_BOOKS).clamp(1, WRITING_BOOKS_MAX_COUNT);
        let series_id = row.int("series_id")?.unwrap_or(0);
        let concept = metadata.get("concept").and_then(serde_json::Value::as_str);
        let created = row.time("created_at")?.unwrap_or_else(|| self.now());
        let updated = row.time("updated_at")?.unwrap_or(created);
        let completed = row.time("completed_at")?.map(|at| at.0);
        let mut workflow = WorkflowRow {
            id: 0,
            series_id,
            series_title: self.source.series_title(series_id).await?,
            author_id: row.int("author_id")?.unwrap_or(0),
            concept: concept.unwrap_or("imported").to_owned(),
            total_books: total.max(book),
            time_zone: self.time_zone.clone(),
            phase: at,
            status: String::new(),
            active: true,
            book,
            chapter: row.int("current_chapter")?.filter(|chapter| *chapter > 0),
            visit_id: 0,
            revision: 1,
            evidence: 0,
            first_metric_at: None,
            metadata: to_json(&metadata),
            created_at: created.0,
            updated_at: updated.0,
            completed_at: completed.filter(|_| status == PhaseStatus::Completed),
        };
        workflow.set_status(status);
        Ok(workflow)
    }

    /// One visit of a phase. The open one of the present phase is the present visit: it only tells
    /// when that began.
    async fn visit(
        &mut self,
        tx: &mut Tx,
        (workflow, id): (&WorkflowRow, i64),
        json: &str,
        open: &mut i64,
    ) -> Result<(), Refusal> {
        let row = Row::parse(json)?;
        let number = row.need_int("phase_number")?;
        if phase::get(number).is_none() {
            return Err(format!("phase_number is {number}, not -1 to 12").into());
        }
        let started = row.time("started_at")?.ok_or_else(|| "started_at is missing".to_owned())?;
        let word = row.text("status").unwrap_or_else(|| "started".to_owned());
        let status =
            VisitStatus::parse(&word).ok_or_else(|| format!("status {word:?} is not known"))?;
        if status == VisitStatus::Started && number == workflow.phase {
            *open = started.0;
            return Ok(());
        }
        let ended = row.time("completed_at")?.unwrap_or(started).max(started);
        let score = row.figure("validation_score")?.map(|score| score.0);
        // Nothing may be refused after this.
        let timed = matches!(status, VisitStatus::Completed | VisitStatus::Failed);
        if timed {
            let success = status == VisitStatus::Completed;
            sql_metrics::add_visit(tx, number, success, ended.since_ms(started), ended).await?;
        }
        let never_closed = status == VisitStatus::Started;
        let output = row.object("metadata");
        let visit = VisitRow {
            id,
            phase: number,
            status: if never_closed { VisitStatus::Skipped } else { status }.as_str().to_owned(),
            started_at: started.0,
            ended_at: Some(ended.0),
            summary: row.text("output_summary"),
            output: (!output.is_empty()).then(|| to_json(&output)),
            score,
            ..blank_visit(workflow)
        };
        sql::insert_visit(tx, &visit).await?;
        Ok(())
    }

    pub(super) async fn approval(
        &mut self,
        tx: &mut Tx,
        (source_id, row): (i64, Row),
        ids: &mut Ids,
    ) -> Taken {
        let workflow = self.workflow_of(&row)?;
        let word = row.text("approval_type").unwrap_or_default();
        let kind = ApprovalType::parse(&word)
            .ok_or_else(|| format!("approval_type {word:?} is not known"))?;
        let word = row.text("status").unwrap_or_default();
        let status =
            ApprovalStatus::parse(&word).ok_or_else(|| format!("status {word:?} is not known"))?;
        let requested =
            row.time("requested_at")?.ok_or_else(|| "requested_at is missing".to_owned())?;
        let decided = match status {
            ApprovalStatus::Pending => None,
            _ => Some(row.time("approved_at")?.or(row.time("updated_at")?).unwrap_or(requested)),
        };
        let about = row.object("metadata");
        let stated = about.get("book_number").and_then(serde_json::Value::as_i64);
        let books = sql_books::books(tx, workflow).await?;
        // Upstream stored no book: each approval is of the first one that is not approved yet.
        let approved = books.iter().filter(|book| book.approved_at.is_some()).count();
        let following = i64::try_from(approved).unwrap_or(0) + 1;
        let book = match kind {
            ApprovalType::SeriesPlan => 0,
            ApprovalType::ChapterPlan => stated.unwrap_or(1),
            ApprovalType::BookCompletion => stated.unwrap_or(following),
        };
        let owner = super::super::desk::row(tx, workflow).await?;
        if book != 0 && !(1..=owner.total_books).contains(&book) {
            return Err(format!("it is of book {book}, of {}", owner.total_books).into());
        }
        let chapter = about.get("chapter_number").and_then(serde_json::Value::as_i64).unwrap_or(0);
        let approval = ApprovalRow {
            id: next(&mut ids.approval),
            workflow_id: workflow,
            visit_id: self.visit_at(tx, &owner, requested).await?,
            phase: row
                .int("phase_number")?
                .filter(|n| phase::get(*n).is_some())
                .unwrap_or(owner.phase),
            kind: kind.as_str().to_owned(),
            book,
            chapter: chapter.clamp(0, WRITING_CHAPTERS_MAX_COUNT),
            artifacts: to_json(&row.list("artifacts")),
            status: status.as_str().to_owned(),
            requested_at: requested.0,
            decided_at: decided.map(|at| at.0),
            decided_by: row.text("approved_by"),
            feedback: row.text("feedback"),
        };
        if !sql_gates::insert_approval(tx, &approval).await? {
            return Err("the same is open already".to_owned().into());
        }
        if kind == ApprovalType::BookCompletion
            && let Some(at) = decided.filter(|_| status == ApprovalStatus::Approved)
        {
            sql_books::approve_book(tx, workflow, book, at).await?;
            if stated.is_none() {
                let mended = format!("it names no book: taken for book {book}");
                self.note(Table::Approvals, source_id, false, mended);
            }
        }
        Ok((approval.id, workflow))
    }

    /// The visit in which something happened.
    async fn visit_at(
        &self,
        tx: &mut Tx,
        workflow: &WorkflowRow,
        at: Millis,
    ) -> Result<i64, Refusal> {
        let visit = sql_imports::visit_at(tx, workflow.id, at.0).await?;
        Ok(visit.unwrap_or(workflow.visit_id))
    }

    pub(super) async fn gate(
        &mut self,
        tx: &mut Tx,
        (source_id, row): (i64, Row),
        ids: &mut Ids,
    ) -> Taken {
        let workflow = self.workflow_of(&row)?;
        let word = row.text("gate_type").unwrap_or_default();
        let kind =
            GateType::parse(&word).ok_or_else(|| format!("gate_type {word:?} is not known"))?;
        let score = row.figure("score")?.ok_or_else(|| "score is missing".to_owned())?;
        if !(0..=kind.max() * 100).contains(&score.0) {
            return Err(format!("score is {}, not 0 to {}", score.text(), kind.max()).into());
        }
        let reported = row.bool("passed").unwrap_or(false);
        let passed = kind.passes(score.0).unwrap_or(reported);
        if passed != reported {
            let mended = format!("reported passed: {reported}, but {}", kind.rule());
            self.note(Table::Gates, source_id, false, mended);
        }
        let at = row.time("executed_at")?.unwrap_or_else(|| self.now());
        let about = row.object("metadata");
        let number = |name: &str| {
            about.get(name).and_then(serde_json::Value::as_i64).filter(|n| *n > 0).unwrap_or(0)
        };
        let owner = super::super::desk::row(tx, workflow).await?;
        let book = Some(number("book_number")).filter(|book| *book <= owner.total_books);
        let gate = GateRow {
            id: next(&mut ids.gate),
            workflow_id: workflow,
            visit_id: self.visit_at(tx, &owner, at).await?,
            kind: kind.as_str().to_owned(),
            score: score.0,
            passed,
            violations: to_json(&violations(&row)),
            book: book.unwrap_or(0),
            chapter: book.map_or(0, |_| number("chapter_number")),
            scene: book.map_or(0, |_| number("scene_number")),
            executed_at: at.0,
        };
        sql_gates::insert_gate(tx, &gate).await?;
        sql_metrics::add_quality(tx, kind.phase(), kind.normalised(score.0)).await?;
        if kind == GateType::NpeScene {
            sql_gates::put_scene(tx, &gate).await?;
        }
        self.gate_figures(tx, &gate, kind, ids).await?;
        Ok((gate.id, workflow))
    }

    /// What a gate leaves among the figures. The series' score is not recorded once more: where
    /// upstream had it as a metric, it comes as one.
    async fn gate_figures(
        &mut self,
        tx: &mut Tx,
        gate: &GateRow,
        kind: GateType,
        ids: &mut Ids,
    ) -> Result<(), Refusal> {
        let score = MetricRow {
            id: next(&mut ids.metric),
            workflow_id: gate.workflow_id,
            metric_type: "gate_score".to_owned(),
            value: kind.normalised(gate.score),
            phase: Some(kind.phase()),
            book: Some(gate.book).filter(|book| *book > 0),
            chapter: None,
            recorded_at: gate.executed_at,
            idempotency_key: None,
            digest: None,
            metadata: None,
        };
        self.add(tx, score).await
    }

    pub(super) async fn book(&mut self, tx: &mut Tx, (source_id, row): (i64, Row)) -> Taken {
        let series = row.need_int("series_id")?;
        let number = row.int("book_number")?.or(row.int("series_order")?);
        let number = number.ok_or_else(|| "book_number is missing".to_owned())?;
        let of_series = sql_imports::workflows_of_series(tx, &self.name, series).await?;
        let Some((first, _)) = of_series.first().copied() else {
            return Err(format!("no workflow of its series {series} was imported").into());
        };
        for (workflow, total) in of_series {
            if !(1..=total).contains(&number) {
                return Err(format!("book_number is {number}, of {total} books").into());
            }
            sql_books::touch_book(tx, workflow, number, self.now()).await?;
            let stored = sql_books::book(tx, workflow, number).await?;
            let stored = stored.unwrap_or_else(|| BookRow::unknown(workflow, number));
            let cover = match row.text("cover_image_url") {
                Some(_) if stored.cover == CoverStatus::Missing.as_str() => {
                    CoverStatus::Complete.as_str().to_owned()
                }
                _ => stored.cover.clone(),
            };
            // What was set here stays.
            let merged = BookRow {
                title: stored.title.clone().or(row.text("title")),
                blurb: stored.blurb.clone().or(row.text("blurb")),
                target_words: stored
                    .target_words
                    .or(row.int("target_word_count")?.filter(|n| *n > 0)),
                cover,
                ..stored
            };
            sql_books::save_book(tx, &merged).await?;
        }
        Ok((source_id, first))
    }
}

fn is_empty(value: &serde_json::Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

fn blank_visit(workflow: &WorkflowRow) -> VisitRow {
    VisitRow {
        id: 0,
        workflow_id: workflow.id,
        phase: workflow.phase,
        book: workflow.book,
        status: String::new(),
        started_at: 0,
        ended_at: None,
        input: None,
        summary: None,
        artifacts: "[]".to_owned(),
        output: None,
        score: None,
    }
}

/// Violations in our form; a text alone is a message.
fn violations(row: &Row) -> Vec<Violation> {
    let Some(serde_json::Value::Array(items)) = row.json("violations") else { return Vec::new() };
    let text = |object: &Object, name: &str| {
        object.get(name).and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    items
        .iter()
        .map(|item| match item {
            serde_json::Value::Object(object) => Violation {
                category: text(object, "category"),
                severity: text(object, "severity"),
                message: text(object, "message").unwrap_or_else(|| item.to_string()),
                suggestion: text(object, "suggestion"),
            },
            serde_json::Value::String(message) => plain(message.clone()),
            other => plain(other.to_string()),
        })
        .collect()
}

fn plain(message: String) -> Violation {
    Violation { category: None, severity: None, message, suggestion: None }
}

/// A duration in minutes, as it is kept.
pub(super) fn minutes(row: &Row, name: &str) -> Result<Option<i64>, String> {
    Ok(row.figure(name)?.map(|Hundredths(minutes)| minutes.max(0)))
}
