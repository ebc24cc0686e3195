//! The QA checklist on what is stored, its reports, and the mark that rests on them.

use std::collections::BTreeMap;

use super::super::ledger;
use super::super::pass::{FINAL_QA, PassStatus};
use super::super::phase::GateType;
use super::super::qa::{self, Evidence, QaStatus};
use super::super::request::{BookRef, CoverStatus, ReportQuery};
use super::super::sql::{Read, Take};
use super::super::sql_books;
use super::super::sql_gates;
use super::super::sql_metrics;
use super::super::sql_rows::{BookRow, ReportRow};
use super::super::sums::of_book;
use super::super::velocity;
use super::super::view::{MarkedReady, QaReport, QaReports};
use super::books::words;
use super::{Answer, Desk, Work, from_json, limit, load, time, to_json};
use crate::limits::WRITING_REPORTS_MAX_COUNT;
use crate::writing::error::WritingError;

/// `run_qa_checklist`.
pub async fn run(desk: &Desk, q: BookRef) -> Answer<QaReport> {
    let (mut tx, ids) = desk.begin(Take { report: 1, ..Take::default() }).await?;
    let work = load(&mut tx, q.workflow_id).await?;
    let book = work.book(q.book_number)?;
    let verdict = qa::judge(&evidence(&mut tx, &work, &book).await?);
    let now = desk.now();
    let report = QaReport {
        report_id: ids.report,
        workflow_id: work.row.id,
        book_title: book.title.clone().unwrap_or_else(|| format!("Book {}", q.book_number)),
        book_number: q.book_number,
        date: now.rfc3339(),
        status: verdict.status,
        categories: verdict.categories,
        blocker_count: i64::try_from(verdict.blockers.len()).unwrap_or(i64::MAX),
        blockers: verdict.blockers,
        warnings: verdict.warnings,
        recommendations: verdict.recommendations,
        estimated_time_to_ready_hours: verdict.hours,
    };
    let stored = ReportRow {
        id: ids.report,
        workflow_id: work.row.id,
        book: q.book_number,
        ready: report.status == QaStatus::Ready,
        revision: book.revision,
        evidence: work.row.evidence,
        report: to_json(&report),
        created_at: now.0,
    };
    sql_books::insert_report(&mut tx, &stored).await?;
    desk.commit(tx, work.row).await?;
    Ok(report)
}

/// Everything that is known of a book.
async fn evidence(read: &mut impl Read, work: &Work, book: &BookRow) -> Answer<Evidence> {
    let (workflow, number) = (work.row.id, book.book);
    let series = GateType::NpeSeries.as_str();
    let npe_series = sql_gates::gates(read, workflow, Some(series), 1).await?;
    let (scenes, scenes_failed) = sql_gates::scenes_of_book(read, workflow, number).await?;
    let (mut gauges, mut cliffhangers, mut act_breaks) = (BTreeMap::new(), vec![], vec![]);
    // Those of the series come first, so that a book's own take their place.
    for gauge in sql_metrics::gauges(read, workflow, number).await? {
        match gauge.metric_type.as_str() {
            "cliffhanger_rating" if gauge.book != 0 => {
                cliffhangers.push((gauge.chapter, gauge.value));
            }
            "act_break_rating" if gauge.book != 0 => act_breaks.push((gauge.chapter, gauge.value)),
            _ => drop(gauges.insert(gauge.metric_type, gauge.value)),
        }
    }
    let sums = ledger::all(read, workflow).await?;
    let stored = sql_books::passes(read, workflow, number).await?;
    let status = |pass: i64| {
        let found = stored.iter().find(|row| row.pass == pass);
        found.and_then(|row| PassStatus::parse(&row.status)).unwrap_or(PassStatus::Pending)
    };
    let entries = |what: &'static str, json: &str| -> Answer<i64> {
        let list: Vec<String> = from_json(what, json)?;
        Ok(i64::try_from(list.len()).unwrap_or(i64::MAX))
    };
    Ok(Evidence {
        book: number,
        total_books: work.row.total_books,
        title: book.title.clone(),
        blurb_words: words(book.blurb.as_deref()),
        keywords: entries("the keywords of a book", &book.keywords)?,
        categories: entries("the categories of a book", &book.categories)?,
        has_cover: book.cover != CoverStatus::Missing.as_str(),
        ku: book.ku,
        npe_series: npe_series.first().map(|gate| gate.score),
        scenes,
        scenes_failed,
        gauges,
        cliffhangers,
        act_breaks,
        words: of_book(&sums, "words_written", number),
        passes: (1..FINAL_QA).map(status).collect(),
        words_per_hour: velocity::words_per_hour(&sums),
    })
}

/// `get_qa_report`.
pub async fn reports(desk: &Desk, q: ReportQuery) -> Answer<QaReports> {
    let limit = limit(q.limit, 1, WRITING_REPORTS_MAX_COUNT)?;
    let db = &mut desk.db();
    let work = load(db, q.workflow_id).await?;
    let book = work.book(q.book_number)?;
    let rows = sql_books::reports(db, work.row.id, q.book_number, limit).await?;
    let total = sql_books::report_count(db, work.row.id, q.book_number).await?;
    let current = rows.first().is_some_and(|newest| is_current(newest, &work, &book));
    let reports = rows
        .iter()
        .map(|row| from_json("a QA report", &row.report))
        .collect::<Answer<Vec<QaReport>>>()?;
    Ok(QaReports {
        workflow_id: work.row.id,
        book_number: q.book_number,
        reports,
        total,
        current,
        ready_at: book.ready(work.row.evidence).map(time),
    })
}

/// Whether nothing that a report looks at has changed since it was made. Counted in changes, not
/// in time: two things can happen in one millisecond.
fn is_current(report: &ReportRow, work: &Work, book: &BookRow) -> bool {
    report.revision == book.revision && report.evidence == work.row.evidence
}

/// `mark_ready_to_publish`.
pub async fn mark_ready(desk: &Desk, q: BookRef) -> Answer<MarkedReady> {
    let (mut tx, _) = desk.begin(Take::default()).await?;
    let work = load(&mut tx, q.workflow_id).await?;
    let mut book = work.book(q.book_number)?;
    let newest = sql_books::reports(&mut tx, work.row.id, q.book_number, 1).await?;
    let refuse = |reason: String| WritingError::NotReady { book_number: q.book_number, reason };
    let report = newest
        .first()
        .ok_or_else(|| refuse("there is no QA report; run_qa_checklist makes one".to_owned()))?;
    if !report.ready {
        let reason =
            format!("report {} says NOT_READY; get_qa_report shows what is in the way", report.id);
        return Err(refuse(reason));
    }
    if !is_current(report, &work, &book) {
        let reason =
            format!("the book has changed since report {}; run_qa_checklist again", report.id);
        return Err(refuse(reason));
    }
    let answer = |at: i64, message: String| MarkedReady {
        workflow_id: q.workflow_id,
        book_number: q.book_number,
        status: QaStatus::Ready,
        report_id: report.id,
        ready_at: time(at),
        message,
    };
    if let Some(at) = book.ready(work.row.evidence) {
        tx.rollback().await?;
        return Ok(answer(at, format!("Book {} is marked as ready already", q.book_number)));
    }
    let now = desk.now();
    book.ready_at = Some(now.0);
    book.ready_revision = Some(book.revision);
    book.ready_evidence = Some(work.row.evidence);
    sql_books::save_book(&mut tx, &book).await?;
    desk.commit(tx, work.row).await?;
    Ok(answer(now.0, format!("Book {} marked as ready to publish", q.book_number)))
}
