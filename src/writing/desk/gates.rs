//! Gates: recorded with their scores, judged by their thresholds.

use super::super::ledger::Ledger;
use super::super::phase::{self, GateType, PhaseStatus};
use super::super::request::{PhaseRef, RecordGate};
use super::super::sql::{self, Take};
use super::super::sql_books;
use super::super::sql_gates;
use super::super::sql_metrics;
use super::super::sql_rows::{GateRow, MetricRow, WorkflowRow};
use super::super::view::{Gate, GateList, GateRecorded, GateStatus};
use super::{Answer, Desk, Work, check_book, from_json, load, number, own_metric, row, to_json};
use super::{optional_text, phase_number, some, text, time};
use crate::clock::Millis;
use crate::db::Tx;
use crate::limits::{
    WRITING_CHAPTERS_MAX_COUNT, WRITING_LIST_MAX_COUNT, WRITING_PAGE_MAX_COUNT,
    WRITING_TEXT_MAX_CHARS, WRITING_WORD_MAX_CHARS,
};
use crate::writing::error::WritingError;
use crate::writing::metric::Hundredths;

/// `record_quality_gate`.
pub async fn record(desk: &Desk, q: RecordGate) -> Answer<GateRecorded> {
    check(desk, &q)?;
    let take = Take { gate: 1, metric: 2, ..Take::default() };
    let (mut tx, ids) = desk.begin(take).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    if let Some(book) = q.book_number {
        check_book(&work.row, book)?;
    }
    let now = desk.now();
    let gate = GateRow {
        id: ids.gate,
        workflow_id: work.row.id,
        visit_id: work.row.visit_id,
        kind: q.gate_type.as_str().to_owned(),
        score: q.score.0,
        passed: q.passed,
        violations: to_json(&q.violations),
        book: q.book_number.unwrap_or(0),
        chapter: q.chapter_number.unwrap_or(0),
        scene: q.scene_number.unwrap_or(0),
        executed_at: now.0,
    };
    sql_gates::insert_gate(&mut tx, &gate).await?;
    let phase = q.gate_type.phase();
    sql_metrics::add_quality(&mut tx, phase, q.gate_type.normalised(q.score.0)).await?;
    measure(&mut tx, &mut work, q.gate_type, &gate, ids.metric, now).await?;
    if q.gate_type == GateType::NpeScene {
        sql_gates::put_scene(&mut tx, &gate).await?;
    }
    match (q.gate_type, q.book_number) {
        (GateType::NpeScene, Some(book)) => {
            sql_books::touch_book(&mut tx, work.row.id, book, now).await?;
        }
        (GateType::NpeScene | GateType::NpeSeries, _) => work.row.evidence += 1,
        (GateType::Commercial, _) => {}
    }
    if work.row.phase == phase {
        sql::set_visit_score(&mut tx, work.row.visit_id, q.score.0).await?;
        if desk.enforce() {
            settle(&mut tx, &mut work.row, q.gate_type).await?;
        }
    }
    let phase_status = work.row.status();
    desk.commit(tx, work.row).await?;
    Ok(GateRecorded {
        gate_id: ids.gate,
        passed: q.passed,
        next_action: q.gate_type.next_action(q.passed),
        phase_status,
    })
}

fn check(desk: &Desk, q: &RecordGate) -> Answer<()> {
    let max = q.gate_type.max();
    if !(0..=max * 100).contains(&q.score.0) {
        let expected = format!("a score from 0 to {max} for {}", q.gate_type);
        return Err(WritingError::invalid("score", format_args!("{}", q.score.text()), expected));
    }
    if let Some(passes) = q.gate_type.passes(q.score.0).filter(|_| desk.enforce())
        && passes != q.passed
    {
        let expected = format!("{passes}, because {}", q.gate_type.rule());
        return Err(WritingError::invalid("passed", q.passed, expected));
    }
    if q.violations.len() > WRITING_LIST_MAX_COUNT {
        let expected = format!("at most {WRITING_LIST_MAX_COUNT} entries");
        return Err(WritingError::invalid("violations", q.violations.len(), expected));
    }
    for violation in &q.violations {
        text("violations.message", &violation.message, WRITING_TEXT_MAX_CHARS)?;
        let short = [&violation.category, &violation.severity];
        for word in short {
            optional_text("violations", word.as_deref(), WRITING_WORD_MAX_CHARS)?;
        }
        let suggestion = violation.suggestion.as_deref();
        optional_text("violations.suggestion", suggestion, WRITING_TEXT_MAX_CHARS)?;
    }
    for (field, given) in [("chapter_number", q.chapter_number), ("scene_number", q.scene_number)] {
        if let Some(given) = given {
            number(field, given, 1..=WRITING_CHAPTERS_MAX_COUNT)?;
        }
    }
    if q.book_number.is_none() && (q.chapter_number.is_some() || q.scene_number.is_some()) {
        return Err(WritingError::invalid("book_number", (), "the book of that chapter or scene"));
    }
    Ok(())
}

/// The figures that a gate leaves: its score by phase, and the series' own.
async fn measure(
    tx: &mut Tx,
    work: &mut Work,
    gate_type: GateType,
    gate: &GateRow,
    last_metric: i64,
    now: Millis,
) -> Answer<()> {
    let named = match gate_type {
        GateType::NpeSeries => Some("npe_score"),
        GateType::Commercial => Some("commercial_score"),
        GateType::NpeScene => None,
    };
    let base = MetricRow {
        phase: Some(gate_type.phase()),
        book: some(gate.book),
        ..own_metric(&work.row, now)
    };
    let mut ledger = Ledger::default();
    let score = MetricRow {
        id: last_metric - 1,
        metric_type: "gate_score".to_owned(),
        value: gate_type.normalised(gate.score),
        ..base.clone()
    };
    ledger.add(&mut work.row, &work.zone, score);
    if let Some(name) = named {
        let own =
            MetricRow { id: last_metric, metric_type: name.to_owned(), value: gate.score, ..base };
        ledger.add(&mut work.row, &work.zone, own);
    }
    Ok(ledger.store(tx, &work.row, now).await?)
}

/// The status after a gate of the current phase: it waits until the gate is passed.
async fn settle(tx: &mut Tx, row: &mut WorkflowRow, gate: GateType) -> Answer<()> {
    let facts = sql_gates::gate_facts(tx, row.visit_id, gate.as_str()).await?;
    match (row.status(), facts.passed()) {
        (PhaseStatus::WaitingQualityGate, true) => row.set_status(PhaseStatus::InProgress),
        (PhaseStatus::InProgress, false) => row.set_status(PhaseStatus::WaitingQualityGate),
        _ => {}
    }
    Ok(())
}

/// `check_gate_status`.
pub async fn check_status(desk: &Desk, q: PhaseRef) -> Answer<GateStatus> {
    let number = phase_number("phase_number", q.phase_number, phase::NOT_STARTED)?;
    let db = &mut desk.db();
    let row = row(db, q.workflow_id).await?;
    let gate_type = phase::get(number).and_then(|phase| phase.gate);
    let none = GateStatus {
        has_gate: gate_type.is_some(),
        gate_type,
        passed: gate_type.map(|_| false),
        score: None,
        violations: Vec::new(),
        recorded: 0,
    };
    let Some(gate) = gate_type else { return Ok(none) };
    let visits = sql::visits(db, row.id, Some(number), 1).await?;
    let Some(visit) = visits.first() else { return Ok(none) };
    let facts = sql_gates::gate_facts(db, visit.id, gate.as_str()).await?;
    let Some(last) = sql_gates::last_gate(db, visit.id, gate.as_str()).await? else {
        return Ok(none);
    };
    Ok(GateStatus {
        passed: Some(facts.passed()),
        score: Some(Hundredths(last.score)),
        violations: from_json("the violations of a gate", &last.violations)?,
        recorded: facts.recorded,
        ..none
    })
}

/// Gates of a workflow, newest first.
pub async fn gates(desk: &Desk, workflow: i64, gate_type: Option<GateType>) -> Answer<GateList> {
    let db = &mut desk.db();
    let row = row(db, workflow).await?;
    let kind = gate_type.map(GateType::as_str);
    let rows = sql_gates::gates(db, row.id, kind, WRITING_PAGE_MAX_COUNT).await?;
    let total = sql_gates::gate_count(db, row.id, kind).await?;
    let gates = rows.into_iter().map(view).collect::<Answer<_>>()?;
    Ok(GateList { workflow_id: row.id, gates, total })
}

/// A row as it is told.
pub fn view(row: GateRow) -> Answer<Gate> {
    let unknown = || WritingError::Stored { what: "a gate", problem: row.kind.clone() };
    let gate_type = GateType::parse(&row.kind).ok_or_else(unknown)?;
    Ok(Gate {
        gate_id: row.id,
        gate_type,
        phase_number: gate_type.phase(),
        score: Hundredths(row.score),
        passed: row.passed,
        violations: from_json("the violations of a gate", &row.violations)?,
        book_number: some(row.book),
        chapter_number: some(row.chapter),
        scene_number: some(row.scene),
        executed_at: time(row.executed_at),
    })
}
