//! Revision passes.

use super::super::ledger::Ledger;
use super::super::metric::Hundredths;
use super::super::pass::{self, Act, PassStatus};
use super::super::request::{BookRef, CompletePass, SkipPass, StartPass};
use super::super::sql::{Ids, Take};
use super::super::sql_books;
use super::super::sql_rows::{MetricRow, PassRow, PassRunRow};
use super::super::view::{Pass, PassCompleted, PassRun, PassSkipped, PassStarted, RevisionStatus};
use super::{Answer, Desk, Work, check_book, load, number, optional_text, own_metric, row, text};
use super::{time, to_json};
use crate::db::Tx;
use crate::limits::{WRITING_TEXT_MAX_CHARS, WRITING_WORD_MAX_CHARS};
use crate::writing::error::WritingError;

/// A pass in a transaction that changes it.
struct Open {
    tx: Tx,
    ids: Ids,
    work: Work,
    pass: PassRow,
}

/// Reads a pass to change it; one that was never begun is pending.
async fn open(desk: &Desk, (workflow, book, pass): (i64, i64, i64), act: Act) -> Answer<Open> {
    number("pass_number", pass, 1..=pass::TOTAL)?;
    let take = Take { pass: 1, metric: 1, ..Take::default() };
    let (mut tx, ids) = desk.begin(take).await?;
    let work = load(&mut tx, workflow).await?;
    check_book(&work.row, book)?;
    let stored = sql_books::passes(&mut tx, workflow, book).await?;
    let found = stored.into_iter().find(|stored| stored.pass == pass);
    let mut row = found.unwrap_or_else(|| fresh(workflow, book, pass, ids.pass));
    let from = PassStatus::parse(&row.status).unwrap_or(PassStatus::Pending);
    let to = pass::after(pass, from, act).map_err(|problem| {
        let name = pass::name(pass).unwrap_or_default();
        let message = format!("pass {pass} ({name}) of book {book} is {from}: {problem}");
        WritingError::WrongState { message }
    })?;
    if act == Act::Start && matches!(from, PassStatus::Complete | PassStatus::Skipped) {
        sql_books::keep_run(&mut tx, &row).await?;
    }
    to.as_str().clone_into(&mut row.status);
    Ok(Open { tx, ids, work, pass: row })
}

fn fresh(workflow_id: i64, book: i64, pass: i64, id: i64) -> PassRow {
    PassRow {
        workflow_id,
        book,
        pass,
        id,
        name: pass::name(pass).unwrap_or_default().to_owned(),
        status: PassStatus::Pending.as_str().to_owned(),
        run_count: 0,
        runs_completed: 0,
        started_at: None,
        ended_at: None,
        duration: None,
        findings: None,
        edits_made: None,
        user_approved: None,
        reason: None,
        report_id: None,
    }
}

/// Stores a pass. The final QA changes nothing in the book, the others may.
async fn store(desk: &Desk, open: Open) -> Answer<PassRow> {
    let Open { mut tx, work, pass, .. } = open;
    sql_books::put_pass(&mut tx, &pass).await?;
    if pass.pass != pass::FINAL_QA {
        sql_books::touch_book(&mut tx, pass.workflow_id, pass.book, desk.now()).await?;
    }
    desk.commit(tx, work.row).await?;
    Ok(pass)
}

/// `start_revision_pass`.
pub async fn start(desk: &Desk, q: StartPass) -> Answer<PassStarted> {
    number("pass_number", q.pass_number, 1..=pass::TOTAL)?;
    if !pass::is_named(q.pass_number, &q.pass_name) {
        let name = pass::name(q.pass_number).unwrap_or_default();
        let expected =
            format!("{name:?} for pass {}; the passes are {}", q.pass_number, pass::list());
        return Err(WritingError::invalid("pass_name", &q.pass_name, expected));
    }
    let subject = (q.workflow_id, q.book_number, q.pass_number);
    let mut open = open(desk, subject, Act::Start).await?;
    let now = desk.now();
    open.pass = PassRow {
        run_count: open.pass.run_count + 1,
        started_at: Some(now.0),
        ended_at: None,
        duration: None,
        findings: None,
        edits_made: None,
        user_approved: None,
        reason: None,
        report_id: None,
        ..open.pass
    };
    let pass = store(desk, open).await?;
    let again =
        if pass.run_count > 1 { format!(", run {}", pass.run_count) } else { String::new() };
    Ok(PassStarted {
        pass_id: pass.id,
        started_at: time(now.0),
        run_count: pass.run_count,
        message: format!("Started {} revision pass for Book {}{again}", pass.name, pass.book),
    })
}

/// `complete_revision_pass`.
pub async fn complete(desk: &Desk, q: CompletePass) -> Answer<PassCompleted> {
    let findings = q.findings_summary.as_deref();
    let findings = optional_text("findings_summary", findings, WRITING_TEXT_MAX_CHARS)?;
    let subject = (q.workflow_id, q.book_number, q.pass_number);
    let mut open = open(desk, subject, Act::Complete).await?;
    let now = desk.now();
    let minutes = Hundredths::minutes_of_ms(now.0 - open.pass.started_at.unwrap_or(now.0));
    let pass = &mut open.pass;
    pass.runs_completed += 1;
    pass.ended_at = Some(now.0);
    pass.duration = Some(minutes.0);
    pass.findings = findings;
    pass.edits_made = q.edits_made;
    pass.user_approved = q.user_approved;
    if pass.pass == pass::FINAL_QA {
        let newest = sql_books::reports(&mut open.tx, pass.workflow_id, pass.book, 1).await?;
        pass.report_id = newest.first().map(|report| report.id);
    }
    let mut ledger = Ledger::default();
    let about = serde_json::json!({ "pass_number": pass.pass, "pass_name": pass.name });
    let spent = MetricRow {
        id: open.ids.metric,
        metric_type: "revision_time_minutes".to_owned(),
        value: minutes.0,
        book: Some(pass.book),
        metadata: Some(to_json(&about)),
        ..own_metric(&open.work.row, now)
    };
    ledger.add(&mut open.work.row, &open.work.zone, spent);
    ledger.store(&mut open.tx, &open.work.row, now).await?;
    let pass = store(desk, open).await?;
    Ok(PassCompleted {
        pass_id: pass.id,
        duration_minutes: minutes,
        completed_at: time(now.0),
        report_id: pass.report_id,
        message: format!("Completed revision pass {} for Book {}", pass.pass, pass.book),
    })
}

/// `skip_revision_pass`.
pub async fn skip(desk: &Desk, q: SkipPass) -> Answer<PassSkipped> {
    let reason = text("reason", &q.reason, WRITING_WORD_MAX_CHARS)?;
    let subject = (q.workflow_id, q.book_number, q.pass_number);
    let mut open = open(desk, subject, Act::Skip).await?;
    open.pass.ended_at = Some(desk.now().0);
    open.pass.reason = Some(reason);
    let pass = store(desk, open).await?;
    Ok(PassSkipped {
        pass_id: pass.id,
        status: PassStatus::Skipped,
        message: format!("Skipped revision pass {} for Book {}", pass.pass, pass.book),
    })
}

/// `get_revision_status`.
#[allow(clippy::cast_precision_loss, reason = "at most six")]
pub async fn status(desk: &Desk, q: BookRef) -> Answer<RevisionStatus> {
    let db = &mut desk.db();
    let row = row(db, q.workflow_id).await?;
    check_book(&row, q.book_number)?;
    let stored = sql_books::passes(db, row.id, q.book_number).await?;
    let runs = sql_books::runs(db, row.id, q.book_number).await?;
    let passes: Vec<Pass> = (1..=pass::TOTAL)
        .map(|number| {
            let known = stored.iter().find(|stored| stored.pass == number).cloned();
            let id = known.as_ref().map(|row| row.id);
            let row = known.unwrap_or_else(|| fresh(row.id, q.book_number, number, 0));
            view(row, id, runs.iter().filter(|run| run.pass == number))
        })
        .collect();
    let count = |status: PassStatus| {
        i64::try_from(passes.iter().filter(|pass| pass.status == status).count()).unwrap_or(0)
    };
    let completed = count(PassStatus::Complete);
    let statuses: Vec<_> = passes.iter().map(|pass| (pass.pass_number, pass.status)).collect();
    Ok(RevisionStatus {
        workflow_id: row.id,
        book_number: q.book_number,
        passes_completed: completed,
        passes_skipped: count(PassStatus::Skipped),
        total_passes: pass::TOTAL,
        progress_percentage: (completed as f64 / pass::TOTAL as f64 * 1_000.0).round() / 10.0,
        ready_for_qa: pass::ready_for_qa(&statuses),
        passes,
    })
}

fn view<'r>(row: PassRow, id: Option<i64>, runs: impl Iterator<Item = &'r PassRunRow>) -> Pass {
    Pass {
        pass_number: row.pass,
        pass_name: row.name,
        status: PassStatus::parse(&row.status).unwrap_or(PassStatus::Pending),
        pass_id: id,
        run_count: row.run_count,
        started_at: row.started_at.map(time),
        completed_at: row.ended_at.map(time),
        duration_minutes: row.duration.map(Hundredths),
        findings_summary: row.findings,
        edits_made: row.edits_made,
        user_approved: row.user_approved,
        skip_reason: row.reason,
        earlier_runs: runs.map(run_view).collect(),
    }
}

fn run_view(row: &PassRunRow) -> PassRun {
    PassRun {
        run: row.run,
        status: PassStatus::parse(&row.status).unwrap_or(PassStatus::Complete),
        started_at: row.started_at.map(time),
        completed_at: row.ended_at.map(time),
        duration_minutes: row.duration.map(Hundredths),
        findings_summary: row.findings.clone(),
        edits_made: row.edits_made,
        user_approved: row.user_approved,
    }
}
