//! Where workflows stand: state, lists, history, progress.

use super::super::phase::{self, VisitStatus};
use super::super::request::{HistoryQuery, ListWorkflows, WorkflowRef};
use super::super::sql;
use super::super::sql_rows::{VisitRow, WorkflowRow};
use super::super::view::{
    PhaseHistory, SeriesProgress, Visit, WorkflowItem, WorkflowList, WorkflowState,
};
use super::{Answer, Desk, from_json, limit, load, phase_number, row, time};
use crate::limits::{
    WRITING_HISTORY_COUNT, WRITING_HISTORY_MAX_COUNT, WRITING_PAGE_COUNT, WRITING_PAGE_MAX_COUNT,
};
use crate::writing::metric::Hundredths;

/// `get_workflow_state`.
pub async fn state(desk: &Desk, q: WorkflowRef) -> Answer<WorkflowState> {
    let work = load(&mut desk.db(), q.workflow_id).await?;
    let unmet = work.facts.unmet().iter().map(ToString::to_string).collect();
    let row = work.row;
    Ok(WorkflowState {
        workflow_id: row.id,
        series_id: row.series_id,
        user_id: row.author_id,
        current_phase: row.phase,
        phase_name: phase::name(row.phase).to_owned(),
        phase_status: row.status(),
        current_book: row.book,
        current_chapter: row.chapter,
        total_books: row.total_books,
        unmet,
        metadata: from_json("the metadata of a workflow", &row.metadata)?,
        revision: row.revision,
        created_at: time(row.created_at),
        updated_at: time(row.updated_at),
        completed_at: row.completed_at.map(time),
        series_title: row.series_title,
        concept: row.concept,
        time_zone: row.time_zone,
    })
}

/// `list_active_workflows`.
pub async fn list(desk: &Desk, q: ListWorkflows) -> Answer<WorkflowList> {
    let limit = limit(q.limit, WRITING_PAGE_COUNT, WRITING_PAGE_MAX_COUNT)?;
    let before = q.before_id.unwrap_or(i64::MAX);
    let (mut rows, total) =
        sql::active_workflows(&mut desk.db(), q.user_id, before, limit + 1).await?;
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > page;
    rows.truncate(page);
    let next_before_id = rows.last().filter(|_| more).map(|row| row.id);
    let workflows = rows.into_iter().map(item).collect();
    Ok(WorkflowList { workflows, total, next_before_id })
}

fn item(row: WorkflowRow) -> WorkflowItem {
    WorkflowItem {
        workflow_id: row.id,
        series_id: row.series_id,
        user_id: row.author_id,
        current_phase: row.phase,
        phase_name: phase::name(row.phase).to_owned(),
        phase_status: row.status(),
        current_book: row.book,
        total_books: row.total_books,
        updated_at: time(row.updated_at),
        series_title: row.series_title,
    }
}

/// `get_phase_history`.
#[allow(clippy::cast_precision_loss, reason = "hours")]
pub async fn history(desk: &Desk, q: HistoryQuery) -> Answer<PhaseHistory> {
    let phase = q
        .phase_number
        .map(|phase| phase_number("phase_number", phase, phase::NOT_STARTED))
        .transpose()?;
    let limit = limit(q.limit, WRITING_HISTORY_COUNT, WRITING_HISTORY_MAX_COUNT)?;
    let db = &mut desk.db();
    let row = row(db, q.workflow_id).await?;
    let mut visits = sql::visits(db, row.id, phase, limit).await?;
    visits.reverse();
    let (total, ms) = sql::visit_sums(db, row.id, phase).await?;
    Ok(PhaseHistory {
        workflow_id: row.id,
        created_at: time(row.created_at),
        phases: visits.into_iter().map(visit).collect::<Answer<_>>()?,
        total,
        total_duration_hours: (ms as f64 / 36_000.0).round() / 100.0,
    })
}

fn visit(row: VisitRow) -> Answer<Visit> {
    let took = row.ended_at.map(|ended| Hundredths::minutes_of_ms(ended - row.started_at));
    Ok(Visit {
        visit_id: row.id,
        phase_number: row.phase,
        phase_name: phase::name(row.phase).to_owned(),
        book_number: row.book,
        status: VisitStatus::parse(&row.status).unwrap_or(VisitStatus::Started),
        started_at: time(row.started_at),
        completed_at: row.ended_at.map(time),
        duration_minutes: took,
        output_summary: row.summary,
        artifacts: from_json("the artifacts of a phase", &row.artifacts)?,
        validation_score: row.score.map(Hundredths),
    })
}

/// `get_series_progress`.
pub async fn progress(desk: &Desk, q: WorkflowRef) -> Answer<SeriesProgress> {
    let work = load(&mut desk.db(), q.workflow_id).await?;
    Ok(SeriesProgress {
        total_books: work.facts.total_books,
        books_completed: work.facts.books_approved,
        current_book: work.facts.book,
        current_phase: work.facts.phase,
        percent_complete: phase::percent(&work.facts),
    })
}

/// Ids that begin with these digits, newest first; for completion.
pub async fn complete_ids(desk: &Desk, prefix: &str, limit: usize) -> Answer<Vec<i64>> {
    let mut found = Vec::new();
    let mut before = i64::MAX;
    while found.len() < limit {
        let page = sql::workflow_ids(&mut desk.db(), before, WRITING_HISTORY_MAX_COUNT).await?;
        let Some((last,)) = page.last().copied() else { break };
        before = last;
        found.extend(
            page.into_iter().map(|(id,)| id).filter(|id| id.to_string().starts_with(prefix)),
        );
    }
    found.truncate(limit);
    Ok(found)
}
