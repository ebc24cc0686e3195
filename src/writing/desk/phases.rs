//! Moving through the phases.

use super::super::phase::{self, Move, PhaseStatus, Unmet, VisitStatus};
use super::super::request::{
    AdvanceToPhase, CompletePhase, CreateWorkflow, ExecutePhase, PhaseRef, SkipPhase,
};
use super::super::sql::{self, Take};
use super::super::sql_rows::WorkflowRow;
use super::super::view::{
    ExecutionOutput, PhaseCompleted, PhaseExecuted, PhaseMoved, WorkflowCreated,
};
use super::{
    Answer, Desk, Leave, Work, committed, list, load, number, object, optional_text, phase_number,
    text,
};
use crate::limits::{WRITING_BOOKS_MAX_COUNT, WRITING_TEXT_MAX_CHARS, WRITING_WORD_MAX_CHARS};
use crate::writing::day::Zone;
use crate::writing::error::WritingError;

const MOVE: Take =
    Take { workflow: 0, visit: 1, approval: 0, gate: 0, pass: 0, metric: 1, report: 0 };

/// `create_workflow`.
pub async fn create(desk: &Desk, q: CreateWorkflow) -> Answer<WorkflowCreated> {
    let series_id = number("series_id", q.series_id, 0..=i64::MAX)?;
    let author_id = number("user_id", q.user_id, 0..=i64::MAX)?;
    let concept = text("concept", &q.concept, WRITING_TEXT_MAX_CHARS)?;
    let title = optional_text("series_title", q.series_title.as_deref(), WRITING_WORD_MAX_CHARS)?;
    let books = q.total_books.unwrap_or(phase::DEFAULT_TOTAL_BOOKS);
    let total_books = number("total_books", books, 1..=WRITING_BOOKS_MAX_COUNT)?;
    let time_zone = q.time_zone.unwrap_or_else(|| desk.deps.config.time_zone.clone());
    Zone::parse(&time_zone).map_err(|e| WritingError::invalid("time_zone", &time_zone, e))?;
    let metadata = object("metadata", q.metadata.as_ref())?.unwrap_or_else(|| "{}".to_owned());
    let (mut tx, ids) = desk.begin(Take { workflow: 1, visit: 1, ..Take::default() }).await?;
    let now = desk.now();
    let row = WorkflowRow {
        id: ids.workflow,
        series_id,
        series_title: title,
        author_id,
        concept,
        total_books,
        time_zone,
        phase: phase::NOT_STARTED,
        status: PhaseStatus::InProgress.as_str().to_owned(),
        active: true,
        book: 1,
        chapter: None,
        visit_id: ids.visit,
        revision: 1,
        evidence: 0,
        first_metric_at: None,
        metadata,
        created_at: now.0,
        updated_at: now.0,
        completed_at: None,
    };
    sql::insert_workflow(&mut tx, &row).await?;
    sql::insert_visit(&mut tx, &super::visit_row(&row, now)).await?;
    committed(tx.commit().await)?;
    desk.tell(row.id);
    Ok(WorkflowCreated {
        workflow_id: row.id,
        current_phase: row.phase,
        phase_status: row.status(),
    })
}

/// `advance_to_phase`.
pub async fn advance(desk: &Desk, q: AdvanceToPhase) -> Answer<PhaseMoved> {
    let target = phase_number("target_phase", q.target_phase, 0)?;
    let (mut tx, ids) = desk.begin(MOVE).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    let from = work.row.phase;
    let moved = go(desk, &mut tx, &mut work, target, (ids.visit, ids.metric)).await?;
    let message = match moved {
        Move::Stay => format!("already in phase {target} ({})", phase::name(target)),
        Move::Back(_) => format!("back from phase {from} to {target} ({})", phase::name(target)),
        Move::Forward => format!("advanced to phase {target} ({})", phase::name(target)),
    };
    let (current_phase, phase_status) = (work.row.phase, work.row.status());
    if moved == Move::Stay {
        tx.rollback().await?;
    } else {
        desk.commit(tx, work.row).await?;
    }
    Ok(PhaseMoved { success: true, current_phase, phase_status, message })
}

/// Moves to a phase where that is allowed.
async fn go(
    desk: &Desk,
    tx: &mut crate::db::Tx,
    work: &mut Work,
    target: i64,
    (visit, metric): (i64, i64),
) -> Answer<Move> {
    let wanted = format!("go from phase {} to phase {target}", work.row.phase);
    let judged = phase::judge_move(&work.facts, target, desk.enforce());
    let moved = judged.map_err(|unmet| refuse(work, wanted, unmet))?;
    let leave = match &moved {
        Move::Stay => return Ok(moved),
        Move::Back(status) => Leave::plain(*status, format!("left for phase {target}")),
        Move::Forward => Leave::plain(VisitStatus::Completed, format!("advanced to {target}")),
    };
    desk.leave(tx, work, leave, metric).await?;
    desk.enter(tx, work, target, visit).await?;
    Ok(moved)
}

fn refuse(work: &Work, wanted: String, unmet: Vec<String>) -> WritingError {
    let workflow_id = work.row.id;
    let gate = work.facts.unmet().iter().any(|unmet| matches!(unmet, Unmet::Gate { .. }));
    if gate {
        WritingError::GateRequired { workflow_id, wanted, unmet }
    } else {
        WritingError::Unmet { workflow_id, wanted, unmet }
    }
}

/// `complete_current_phase`.
pub async fn complete(desk: &Desk, q: CompletePhase) -> Answer<PhaseCompleted> {
    let leave = Leave {
        status: VisitStatus::Completed,
        summary: Some(text("output.summary", &q.output.summary, WRITING_TEXT_MAX_CHARS)?),
        artifacts: list("output.artifacts", &q.output.artifacts)?,
        output: q.output.metadata,
    };
    object("output.metadata", leave.output.as_ref())?;
    let (mut tx, ids) = desk.begin(MOVE).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    let phase = work.row.phase;
    let finished = work.facts.status == PhaseStatus::Completed;
    let unmet = if desk.enforce() || finished { work.facts.unmet() } else { Vec::new() };
    if !unmet.is_empty() {
        let words = unmet.iter().map(ToString::to_string).collect();
        let refusal = refuse(&work, format!("complete phase {phase}"), words);
        let gate = unmet.iter().any(|unmet| matches!(unmet, Unmet::Gate { .. }));
        if gate && work.facts.status == PhaseStatus::InProgress {
            // The refusal is a fact too: the workflow now waits for its gate (§1d).
            work.row.set_status(PhaseStatus::WaitingQualityGate);
            desk.commit(tx, work.row).await?;
        }
        return Err(refusal);
    }
    let took = desk.leave(&mut tx, &mut work, leave, ids.metric).await?;
    let next_phase = (phase < phase::BOOK_LOOP).then_some(phase + 1);
    match next_phase {
        Some(next) => desk.enter(&mut tx, &mut work, next, ids.visit).await?,
        None => {
            work.row.set_status(PhaseStatus::Completed);
            work.row.completed_at = Some(desk.now().0);
        }
    }
    let phase_status = work.row.status();
    desk.commit(tx, work.row).await?;
    Ok(PhaseCompleted {
        completed_phase: phase,
        next_phase,
        phase_status,
        duration_minutes: crate::writing::metric::Hundredths::minutes_of_ms(took),
    })
}

/// `execute_phase`.
pub async fn execute(desk: &Desk, q: ExecutePhase) -> Answer<PhaseExecuted> {
    let target = phase_number("phase_number", q.phase_number, phase::NOT_STARTED)?;
    let input = object("input", Some(&q.input))?.unwrap_or_default();
    let (mut tx, ids) = desk.begin(MOVE).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    go(desk, &mut tx, &mut work, target, (ids.visit, ids.metric)).await?;
    if work.row.status() == PhaseStatus::Failed {
        let message = format!("phase {target} has failed; retry_failed_phase begins it again");
        return Err(WritingError::WrongState { message });
    }
    sql::set_visit_input(&mut tx, work.row.visit_id, &input).await?;
    let status = work.row.status();
    desk.commit(tx, work.row).await?;
    let message = format!("phase {target} ({}) is {status}", phase::name(target));
    let output = ExecutionOutput { message, input_echo: q.input };
    Ok(PhaseExecuted { phase_number: target, status, output })
}

/// Refuses a phase that is not the current one.
fn current(work: &Work, phase: i64) -> Answer<()> {
    if work.row.phase == phase {
        return Ok(());
    }
    let message = format!(
        "workflow {} is in phase {} ({}), not in phase {phase}",
        work.row.id,
        work.row.phase,
        phase::name(work.row.phase)
    );
    Err(WritingError::WrongState { message })
}

/// `retry_failed_phase`.
pub async fn retry(desk: &Desk, q: PhaseRef) -> Answer<PhaseMoved> {
    let phase = phase_number("phase_number", q.phase_number, phase::NOT_STARTED)?;
    let (mut tx, ids) = desk.begin(MOVE).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    current(&work, phase)?;
    if phase::leaving(&work.facts) != VisitStatus::Failed {
        let message = format!(
            "phase {phase} of workflow {} has not failed: its status is {}",
            work.row.id, work.facts.status
        );
        return Err(WritingError::WrongState { message });
    }
    let leave = Leave::plain(VisitStatus::Failed, "retried");
    desk.leave(&mut tx, &mut work, leave, ids.metric).await?;
    desk.enter(&mut tx, &mut work, phase, ids.visit).await?;
    let phase_status = work.row.status();
    desk.commit(tx, work.row).await?;
    let message = format!("phase {phase} ({}) begins again", phase::name(phase));
    Ok(PhaseMoved { success: true, current_phase: phase, phase_status, message })
}

/// `skip_phase`.
pub async fn skip(desk: &Desk, q: SkipPhase) -> Answer<PhaseMoved> {
    let phase = phase_number("phase_number", q.phase_number, phase::NOT_STARTED)?;
    let reason = text("reason", &q.reason, WRITING_WORD_MAX_CHARS)?;
    let (mut tx, ids) = desk.begin(MOVE).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    current(&work, phase)?;
    let guarded = phase::get(phase).is_some_and(|p| p.gate.is_some() || p.approval.is_some());
    let wrong = |message: String| Err(WritingError::WrongState { message });
    if phase == phase::BOOK_LOOP {
        return wrong("the last phase cannot be skipped; there is none after it".to_owned());
    }
    if desk.enforce() {
        if guarded {
            let name = phase::name(phase);
            return wrong(format!(
                "phase {phase} ({name}) cannot be skipped: it has a gate or an approval that \
                 what follows rests on"
            ));
        }
        if work.facts.status != PhaseStatus::InProgress {
            let unmet = work.facts.unmet().iter().map(ToString::to_string).collect();
            return Err(refuse(&work, format!("skip phase {phase}"), unmet));
        }
    } else if work.facts.status == PhaseStatus::Completed {
        return wrong("the series is finished; nothing moves it any more".to_owned());
    }
    let leave = Leave::plain(VisitStatus::Skipped, reason);
    desk.leave(&mut tx, &mut work, leave, ids.metric).await?;
    desk.enter(&mut tx, &mut work, phase + 1, ids.visit).await?;
    let phase_status = work.row.status();
    desk.commit(tx, work.row).await?;
    let message = format!("phase {phase} skipped; now in phase {}", phase + 1);
    Ok(PhaseMoved { success: true, current_phase: phase + 1, phase_status, message })
}
