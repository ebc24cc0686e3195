//! Books: their iterations and their records.

use super::super::phase::{self, ApprovalType, PhaseStatus, VisitStatus};
use super::super::request::{BookRef, CoverStatus, UpdateBook};
use super::super::sql::Take;
use super::super::sql_books;
use super::super::sql_rows::BookRow;
use super::super::view::{BookCompleted, BookRecord, BookStarted};
use super::approvals::{may_complete, open};
use super::{Answer, Desk, Leave, Work, check_book, from_json, list, load, number, optional_text};
use super::{text, time, to_json};
use crate::limits::{WRITING_TEXT_MAX_CHARS, WRITING_WORD_MAX_CHARS};
use crate::writing::error::WritingError;
use crate::writing::metric::VALUE_MAX;

/// `start_book_iteration`.
pub async fn start(desk: &Desk, q: BookRef) -> Answer<BookStarted> {
    let take = Take { visit: 1, metric: 1, ..Take::default() };
    let (mut tx, ids) = desk.begin(take).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    check_book(&work.row, q.book_number)?;
    if q.book_number == 1 {
        let expected =
            format!("a book from 2 to {}; book 1 begins with the series", work.row.total_books);
        return Err(WritingError::invalid("book_number", 1, expected));
    }
    let problems = may_start(desk, &work, q.book_number);
    if !problems.is_empty() {
        let wanted = format!("start book {}", q.book_number);
        return Err(WritingError::Unmet { workflow_id: q.workflow_id, wanted, unmet: problems });
    }
    let leave = match work.row.phase {
        phase::BOOK_LOOP => Leave::plain(
            VisitStatus::Completed,
            format!("book {} approved; book {} begins", work.row.book, q.book_number),
        ),
        _ => Leave::plain(phase::leaving(&work.facts), format!("left for book {}", q.book_number)),
    };
    desk.leave(&mut tx, &mut work, leave, ids.metric).await?;
    work.row.book = q.book_number;
    work.row.chapter = None;
    desk.enter(&mut tx, &mut work, phase::CHAPTER_PLANNING, ids.visit).await?;
    desk.commit(tx, work.row).await?;
    Ok(BookStarted {
        book_number: q.book_number,
        iteration_started: true,
        current_phase: phase::CHAPTER_PLANNING,
    })
}

/// What must hold before a book begins.
fn may_start(desk: &Desk, work: &Work, book: i64) -> Vec<String> {
    let mut problems = Vec::new();
    let status = work.facts.status;
    if matches!(status, PhaseStatus::Completed | PhaseStatus::Failed) {
        problems.push(format!("the status is {status}"));
    }
    if !desk.enforce() {
        return problems;
    }
    let approved = |number: i64| {
        work.books.iter().any(|book| book.book == number && book.approved_at.is_some())
    };
    if approved(book) {
        problems.push(format!("book {book} is approved already"));
    } else if book == work.row.book {
        problems.push(format!("book {book} has begun already"));
    } else if !approved(book - 1) {
        problems.push(format!(
            "the book_completion of book {} is not approved: complete_book_iteration, then \
             submit_approval",
            book - 1
        ));
    }
    if status == PhaseStatus::WaitingApproval {
        problems.push("an approval is open: submit_approval decides it".to_owned());
    }
    problems
}

/// `complete_book_iteration`.
pub async fn complete(desk: &Desk, q: BookRef) -> Answer<BookCompleted> {
    let take = Take { visit: 1, approval: 1, metric: 1, ..Take::default() };
    let (mut tx, ids) = desk.begin(take).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    check_book(&work.row, q.book_number)?;
    let status = work.facts.status;
    let subject = (ApprovalType::BookCompletion, q.book_number, 0);
    if matches!(status, PhaseStatus::Completed | PhaseStatus::Failed) {
        let message = format!("workflow {} is {status}; no book is in work", work.row.id);
        return Err(WritingError::WrongState { message });
    }
    if desk.enforce() {
        if let Some(message) = may_complete(&work, q.book_number) {
            return Err(WritingError::WrongState { message });
        }
        if status == PhaseStatus::WaitingApproval {
            // Says which one is open, where it is this very approval.
            open(desk, &mut tx, &mut work, ids.approval, subject, &[]).await?;
            let message = "another approval is open; submit_approval decides it".to_owned();
            return Err(WritingError::WrongState { message });
        }
    }
    if work.row.phase != phase::BOOK_LOOP {
        let summary = format!("book {} completed", q.book_number);
        let leave = Leave::plain(VisitStatus::Completed, summary);
        desk.leave(&mut tx, &mut work, leave, ids.metric).await?;
        desk.enter(&mut tx, &mut work, phase::BOOK_LOOP, ids.visit).await?;
    }
    let artifacts = [format!("book {}", q.book_number)];
    open(desk, &mut tx, &mut work, ids.approval, subject, &artifacts).await?;
    let next = q.book_number + 1;
    let answer = BookCompleted {
        book_number: q.book_number,
        completed_at: time(desk.now().0),
        approval_id: ids.approval,
        next_book: (next <= work.row.total_books).then_some(next),
    };
    desk.commit(tx, work.row).await?;
    Ok(answer)
}

/// `update_book_record`.
pub async fn update(desk: &Desk, q: UpdateBook) -> Answer<BookRecord> {
    let title = optional_text("title", q.title.as_deref(), WRITING_WORD_MAX_CHARS)?;
    let blurb = q.blurb.as_deref().map(|b| text("blurb", b, WRITING_TEXT_MAX_CHARS)).transpose()?;
    let keywords = q.keywords.map(|words| distinct("keywords", &words)).transpose()?;
    let categories = q.categories.map(|words| distinct("categories", &words)).transpose()?;
    if let Some(words) = q.target_word_count {
        number("target_word_count", words, 1..=VALUE_MAX)?;
    }
    let nothing = title.is_none() && blurb.is_none() && keywords.is_none() && categories.is_none();
    if nothing && q.cover_status.is_none() && q.ku.is_none() && q.target_word_count.is_none() {
        let expected = "title, blurb, keywords, categories, cover_status, ku or target_word_count";
        return Err(WritingError::invalid("update_book_record", "no field to set", expected));
    }
    let (mut tx, _) = desk.begin(Take::default()).await?;
    let mut work = load(&mut tx, q.workflow_id).await?;
    check_book(&work.row, q.book_number)?;
    sql_books::touch_book(&mut tx, work.row.id, q.book_number, desk.now()).await?;
    work.books = sql_books::books(&mut tx, work.row.id).await?;
    let mut book = work.book(q.book_number)?;
    book.title = title.or(book.title);
    book.blurb = blurb.or(book.blurb);
    book.keywords = keywords.unwrap_or(book.keywords);
    book.categories = categories.unwrap_or(book.categories);
    book.cover = q.cover_status.map_or(book.cover, |cover| cover.as_str().to_owned());
    book.ku = q.ku.unwrap_or(book.ku);
    book.target_words = q.target_word_count.or(book.target_words);
    sql_books::save_book(&mut tx, &book).await?;
    let answer = view(&book, work.row.evidence)?;
    desk.commit(tx, work.row).await?;
    Ok(answer)
}

/// A list of words as JSON, each once.
fn distinct(field: &'static str, given: &[String]) -> Answer<String> {
    let mut kept: Vec<String> = Vec::new();
    for word in list(field, given)? {
        if !kept.iter().any(|other| other.eq_ignore_ascii_case(&word)) {
            kept.push(word);
        }
    }
    Ok(to_json(&kept))
}

/// The record of a book.
pub async fn record(desk: &Desk, q: BookRef) -> Answer<BookRecord> {
    let work = load(&mut desk.db(), q.workflow_id).await?;
    view(&work.book(q.book_number)?, work.row.evidence)
}

/// Words of a text.
pub fn words(text: Option<&str>) -> i64 {
    let count = text.map_or(0, |text| text.split_whitespace().count());
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn view(row: &BookRow, evidence: i64) -> Answer<BookRecord> {
    Ok(BookRecord {
        workflow_id: row.workflow_id,
        book_number: row.book,
        title: row.title.clone(),
        blurb: row.blurb.clone(),
        blurb_words: words(row.blurb.as_deref()),
        keywords: from_json("the keywords of a book", &row.keywords)?,
        categories: from_json("the categories of a book", &row.categories)?,
        cover_status: CoverStatus::parse(&row.cover).unwrap_or(CoverStatus::Missing),
        ku: row.ku,
        target_word_count: row.target_words,
        approved_at: row.approved_at.map(time),
        ready_at: row.ready(evidence).map(time),
        changed_at: row.changed_at.map(time),
    })
}
