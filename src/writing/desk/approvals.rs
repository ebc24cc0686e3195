//! Approvals: asked for once, decided once.

use super::super::phase::{self, ApprovalStatus, ApprovalType, Decision, PhaseStatus, VisitStatus};
use super::super::request::{RequestApproval, SubmitApproval, WorkflowRef};
use super::super::sql::Take;
use super::super::sql_books;
use super::super::sql_gates;
use super::super::sql_rows::ApprovalRow;
use super::super::view::{Approval, ApprovalDecided, ApprovalList, ApprovalRequested};
use super::{Answer, Desk, Leave, Work, check_book, from_json, list, load, number, optional_text};
use super::{row, some, time, to_json};
use crate::db::Tx;
use crate::limits::{
    WRITING_CHAPTERS_MAX_COUNT, WRITING_PAGE_MAX_COUNT, WRITING_TEXT_MAX_CHARS,
    WRITING_WORD_MAX_CHARS,
};
use crate::writing::error::WritingError;

/// `request_approval`.
pub async fn request(desk: &Desk, q: RequestApproval) -> Answer<ApprovalRequested> {
    let artifacts = list("artifacts", &q.artifacts)?;
    if let Some(chapter) = q.chapter_number {
        number("chapter_number", chapter, 1..=WRITING_CHAPTERS_MAX_COUNT)?;
    }
    let (mut tx, ids) = desk.begin(Take { approval: 1, ..Take::default() }).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    let (book, chapter) = subject(&work, &q)?;
    if desk.enforce() {
        may_ask(&work, q.approval_type, book)?;
    }
    let asked = (q.approval_type, book, chapter);
    open(desk, &mut tx, &mut work, ids.approval, asked, &artifacts).await?;
    let requested_at = time(desk.now().0);
    desk.commit(tx, work.row).await?;
    let status = ApprovalStatus::Pending;
    Ok(ApprovalRequested { approval_id: ids.approval, status, requested_at })
}

/// The book and the chapter that an approval is about; 0 for none.
fn subject(work: &Work, q: &RequestApproval) -> Answer<(i64, i64)> {
    let series = q.approval_type == ApprovalType::SeriesPlan;
    if series && (q.book_number.is_some() || q.chapter_number.is_some()) {
        let field = if q.book_number.is_some() { "book_number" } else { "chapter_number" };
        let given = q.book_number.or(q.chapter_number).unwrap_or_default();
        return Err(WritingError::invalid(field, given, "nothing: a series_plan is of all books"));
    }
    if series {
        return Ok((0, 0));
    }
    let book = q.book_number.unwrap_or(work.row.book);
    check_book(&work.row, book)?;
    match (q.approval_type, q.chapter_number) {
        (ApprovalType::BookCompletion, Some(chapter)) => {
            let expected = "nothing: a book_completion is of the whole book";
            Err(WritingError::invalid("chapter_number", chapter, expected))
        }
        (_, chapter) => Ok((book, chapter.unwrap_or(0))),
    }
}

/// What must hold before an approval is asked for.
fn may_ask(work: &Work, kind: ApprovalType, book: i64) -> Answer<()> {
    let status = work.facts.status;
    if matches!(status, PhaseStatus::Completed | PhaseStatus::Failed) {
        let message = format!("workflow {} is {status}; nothing can be approved", work.row.id);
        return Err(WritingError::WrongState { message });
    }
    let problem = match kind {
        ApprovalType::SeriesPlan => None,
        ApprovalType::ChapterPlan if book != 1 => {
            Some("the plans of chapters are approved for book 1 only".to_owned())
        }
        ApprovalType::ChapterPlan => None,
        ApprovalType::BookCompletion => may_complete(work, book),
    };
    problem.map_or(Ok(()), |message| Err(WritingError::WrongState { message }))
}

/// Why a book cannot be completed now; `None` when it can.
pub fn may_complete(work: &Work, book: i64) -> Option<String> {
    let row = &work.row;
    if book != row.book {
        return Some(format!("book {} is the current one, not book {book}", row.book));
    }
    if work.facts.book_approved {
        return Some(format!("book {book} is approved already"));
    }
    (row.phase < phase::WRITING_EXECUTION).then(|| {
        format!(
            "book {book} is in phase {} ({}); it can be completed from phase {} on",
            row.phase,
            phase::name(row.phase),
            phase::WRITING_EXECUTION
        )
    })
}

/// Stores an open approval; the workflow waits for it.
pub async fn open(
    desk: &Desk,
    tx: &mut Tx,
    work: &mut Work,
    id: i64,
    (kind, book, chapter): (ApprovalType, i64, i64),
    artifacts: &[String],
) -> Answer<()> {
    let row = ApprovalRow {
        id,
        workflow_id: work.row.id,
        visit_id: work.row.visit_id,
        phase: work.row.phase,
        kind: kind.as_str().to_owned(),
        book,
        chapter,
        artifacts: to_json(artifacts),
        status: ApprovalStatus::Pending.as_str().to_owned(),
        requested_at: desk.now().0,
        decided_at: None,
        decided_by: None,
        feedback: None,
    };
    if !sql_gates::insert_approval(tx, &row).await? {
        let subject = ((work.row.id, kind.as_str()), (book, chapter));
        let open = sql_gates::open_approval(tx, subject.0, subject.1).await?;
        let approval_id = open.map_or(0, |(id,)| id);
        return Err(WritingError::ApprovalPending { approval_type: kind.as_str(), approval_id });
    }
    work.row.set_status(PhaseStatus::WaitingApproval);
    Ok(())
}

/// `submit_approval`.
pub async fn submit(desk: &Desk, q: SubmitApproval) -> Answer<ApprovalDecided> {
    let feedback = optional_text("feedback", q.feedback.as_deref(), WRITING_TEXT_MAX_CHARS)?;
    let by = optional_text("decided_by", q.decided_by.as_deref(), WRITING_WORD_MAX_CHARS)?;
    let (mut tx, ids) = desk.begin(Take { metric: 1, ..Take::default() }).await?;
    let unknown = WritingError::UnknownApproval { approval_id: q.approval_id };
    let mut approval = sql_gates::approval(&mut tx, q.approval_id).await?.ok_or(unknown)?;
    if let Some(status) = ApprovalStatus::parse(&approval.status)
        && status != ApprovalStatus::Pending
    {
        let (approval_id, status) = (q.approval_id, status.as_str());
        return Err(WritingError::AlreadyDecided { approval_id, status });
    }
    let mut work = load(&mut tx, approval.workflow_id).await?;
    let now = desk.now();
    q.decision.as_str().clone_into(&mut approval.status);
    approval.decided_at = Some(now.0);
    approval.feedback = feedback;
    approval.decided_by = by;
    if !sql_gates::decide(&mut tx, &approval).await? {
        let (approval_id, status) = (q.approval_id, "by somebody else just now");
        return Err(WritingError::AlreadyDecided { approval_id, status });
    }
    if approval.kind == ApprovalType::BookCompletion.as_str() && q.decision == Decision::Approved {
        sql_books::approve_book(&mut tx, work.row.id, approval.book, now).await?;
    }
    settle(desk, &mut tx, &mut work, &approval, q.decision, ids.metric).await?;
    let phase_status = work.row.status();
    desk.commit(tx, work.row).await?;
    let approved = q.decision == Decision::Approved;
    Ok(ApprovalDecided {
        approval_id: q.approval_id,
        status: q.decision.status(),
        approved_at: approved.then(|| time(now.0)),
        decided_at: time(now.0),
        next_action: next_action(&approval.kind, q.decision),
        phase_status,
    })
}

fn next_action(kind: &str, decision: Decision) -> String {
    let series = kind == ApprovalType::SeriesPlan.as_str();
    match decision {
        Decision::Approved if series => {
            format!("advance_to_phase_{}", phase::USER_APPROVAL + 1)
        }
        Decision::Approved => "advance_next_phase".to_owned(),
        Decision::Rejected => "retry_failed_phase".to_owned(),
        Decision::RevisionRequested => "revise".to_owned(),
    }
}

/// The status after a decision. One that comes when the workflow has moved on changes nothing.
async fn settle(
    desk: &Desk,
    tx: &mut Tx,
    work: &mut Work,
    approval: &ApprovalRow,
    decision: Decision,
    metric: i64,
) -> Answer<()> {
    if work.facts.status != PhaseStatus::WaitingApproval {
        return Ok(());
    }
    if decision == Decision::Rejected {
        let leave = Leave::plain(VisitStatus::Failed, format!("{} rejected", approval.kind));
        desk.leave(tx, work, leave, metric).await?;
        work.row.set_status(PhaseStatus::Failed);
    } else if sql_gates::open_count(tx, work.row.id).await? == 0 {
        work.row.set_status(PhaseStatus::InProgress);
    }
    Ok(())
}

/// `get_pending_approvals`.
pub async fn pending(desk: &Desk, q: WorkflowRef) -> Answer<ApprovalList> {
    let db = &mut desk.db();
    let row = row(db, q.workflow_id).await?;
    let rows = sql_gates::open_approvals(db, row.id, WRITING_PAGE_MAX_COUNT).await?;
    views(row.id, rows)
}

/// All approvals, newest first.
pub async fn all(desk: &Desk, workflow: i64) -> Answer<ApprovalList> {
    let db = &mut desk.db();
    let row = row(db, workflow).await?;
    let rows = sql_gates::approvals(db, row.id, WRITING_PAGE_MAX_COUNT).await?;
    views(row.id, rows)
}

fn views(workflow_id: i64, rows: Vec<ApprovalRow>) -> Answer<ApprovalList> {
    let approvals = rows.into_iter().map(view).collect::<Answer<_>>()?;
    Ok(ApprovalList { workflow_id, approvals })
}

/// A row as it is told.
pub fn view(row: ApprovalRow) -> Answer<Approval> {
    let stored =
        |word: &str| WritingError::Stored { what: "an approval", problem: word.to_owned() };
    Ok(Approval {
        approval_id: row.id,
        approval_type: ApprovalType::parse(&row.kind).ok_or_else(|| stored(&row.kind))?,
        status: ApprovalStatus::parse(&row.status).ok_or_else(|| stored(&row.status))?,
        phase_number: row.phase,
        book_number: some(row.book),
        chapter_number: some(row.chapter),
        requested_at: time(row.requested_at),
        decided_at: row.decided_at.map(time),
        decided_by: row.decided_by,
        feedback: row.feedback,
        artifacts: from_json("the artifacts of an approval", &row.artifacts)?,
    })
}
