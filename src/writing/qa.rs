//! The QA checklist: evidence in, verdict out (`spec/writing.md` §5).
//!
//! Nothing passes without evidence: what was never recorded is a blocker with the code `no_data`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metric::Hundredths;
use super::pass::{self, PassStatus};
use super::phase::NPE_SERIES_PASS;
use super::word::words;

words! {
    /// The verdict on a book.
    pub enum QaStatus {
        /// Nothing is in the way.
        Ready = "READY_TO_PUBLISH",
        /// Something is.
        NotReady = "NOT_READY",
    }

    /// The verdict on a category.
    pub enum CategoryStatus {
        /// Everything is right.
        Pass = "PASS",
        /// Nothing is in the way, yet not all is right.
        Warning = "WARNING",
        /// Something is in the way.
        Fail = "FAIL",
        /// It does not concern this book.
        NotApplicable = "NOT_APPLICABLE",
    }

    /// How bad something is.
    pub enum Severity {
        /// The book cannot be published with it.
        Critical = "CRITICAL",
        /// It must be mended before publishing.
        High = "HIGH",
    }
}

/// Something in the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Blocker {
    /// `npe`, `continuity`, `ku`, `production` or `metadata`.
    pub category: String,
    /// How bad it is.
    pub severity: Severity,
    /// Stable word for programs; `no_data` where nothing was recorded.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub recommendation: String,
    /// Hours it will take.
    pub estimated_hours: Hundredths,
}

/// Something that is not right and not in the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// The category.
    pub category: String,
    /// Stable word for programs.
    pub code: String,
    /// What is not right.
    pub message: String,
}

/// The verdict on a category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Category {
    /// The verdict.
    pub status: CategoryStatus,
    /// What it rests on.
    pub message: String,
    /// The score, where the category has one.
    pub score: Option<Hundredths>,
    /// What is in the way.
    pub blockers: Vec<Blocker>,
}

/// The five categories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Categories {
    /// Narrative soundness.
    pub npe: Category,
    /// Continuity.
    pub continuity: Category,
    /// Fitness for Kindle Unlimited.
    pub ku: Category,
    /// Completeness.
    pub production: Category,
    /// What the shop needs.
    pub metadata: Category,
}

/// What is known of a book. Scores, ratings and counts are in hundredths; `None` is "never
/// recorded".
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The book, from 1.
    pub book: i64,
    /// Books of the series.
    pub total_books: i64,
    /// Title.
    pub title: Option<String>,
    /// Words of the blurb.
    pub blurb_words: i64,
    /// Keywords.
    pub keywords: i64,
    /// Categories of the shop.
    pub categories: i64,
    /// Whether there is a cover, or one is being made.
    pub has_cover: bool,
    /// Whether it goes to Kindle Unlimited.
    pub ku: bool,
    /// Score of the latest npe_series gate.
    pub npe_series: Option<i64>,
    /// Scenes of the book that have a gate.
    pub scenes: i64,
    /// Those whose latest gate failed.
    pub scenes_failed: i64,
    /// Latest values of the gauges.
    pub gauges: BTreeMap<String, i64>,
    /// Latest cliffhanger rating by chapter.
    pub cliffhangers: Vec<(i64, i64)>,
    /// Latest act break rating by chapter.
    pub act_breaks: Vec<(i64, i64)>,
    /// Words written.
    pub words: Option<i64>,
    /// The passes 1 to 5.
    pub passes: Vec<PassStatus>,
    /// Pace, for the time that missing words take.
    pub words_per_hour: Option<f64>,
}

/// A verdict with everything it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Ready or not.
    pub status: QaStatus,
    /// The five categories.
    pub categories: Categories,
    /// All blockers, by category.
    pub blockers: Vec<Blocker>,
    /// All warnings.
    pub warnings: Vec<Warning>,
    /// What to do, in order.
    pub recommendations: Vec<String>,
    /// Hours, 1 decimal.
    pub hours: f64,
}

/// Words that Kindle Unlimited asks for at least.
pub const WORDS_MIN: i64 = 75_000;
/// Words of a page.
const PAGE_WORDS: i64 = 250;
/// Pace where none is known, words an hour.
const DEFAULT_WORDS_PER_HOUR: f64 = 1_000.0;

/// Where a recommendation stands in the order of work (`spec/writing.md` §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Prose,
    Continuity,
    Setups,
    Beats,
    Hook,
    Cliffhangers,
    Balance,
    NpeScore,
    Scenes,
    Words,
    Passes,
    Title,
    Blurb,
    Keywords,
    Categories,
    Cover,
    Outlines,
}

/// One category while it is being judged.
struct Judge {
    name: &'static str,
    found: Vec<(Rank, Blocker)>,
    warnings: Vec<Warning>,
}

impl Judge {
    fn new(name: &'static str) -> Judge {
        Judge { name, found: Vec::new(), warnings: Vec::new() }
    }

    fn block(
        &mut self,
        rank: Rank,
        severity: Severity,
        code: &str,
        hours: i64,
        message: String,
        recommendation: impl Into<String>,
    ) {
        let blocker = Blocker {
            category: self.name.to_owned(),
            severity,
            code: code.to_owned(),
            message,
            recommendation: recommendation.into(),
            estimated_hours: Hundredths(hours),
        };
        self.found.push((rank, blocker));
    }

    fn no_data(&mut self, rank: Rank, severity: Severity, what: &str, how: &str) {
        let message = format!("{what}: nothing was recorded");
        self.block(rank, severity, "no_data", 100, message, format!("Record it: {how}"));
    }

    fn warn(&mut self, code: &str, message: String) {
        let category = self.name.to_owned();
        self.warnings.push(Warning { category, code: code.to_owned(), message });
    }

    /// A count that must be 0; `each` is the time one takes, in hundredths of an hour.
    fn must_be_zero(
        &mut self,
        (rank, severity): (Rank, Severity),
        e: &Evidence,
        gauge: &str,
        what: &str,
        each: i64,
    ) {
        match e.gauges.get(gauge) {
            None => self.no_data(rank, severity, what, &metric_call(gauge)),
            Some(0) => {}
            Some(count) => {
                let shown = Hundredths(*count).text();
                let hours = count.saturating_mul(each) / 100;
                let message = format!("{what}: {shown}, must be 0");
                let advice = format!("Resolve {shown} {what}, then record {gauge} again");
                self.block(rank, severity, gauge, hours, message, advice);
            }
        }
    }

    fn finish(&self, right: String, score: Option<i64>) -> Category {
        let status = match (self.found.is_empty(), self.warnings.is_empty()) {
            (false, _) => CategoryStatus::Fail,
            (true, false) => CategoryStatus::Warning,
            (true, true) => CategoryStatus::Pass,
        };
        let message = if let Some((_, first)) = self.found.first() {
            match self.found.len() {
                1 => first.message.clone(),
                n => format!("{} (and {} more)", first.message, n - 1),
            }
        } else if let Some(first) = self.warnings.first() {
            first.message.clone()
        } else {
            right
        };
        let blockers = self.found.iter().map(|(_, blocker)| blocker.clone()).collect();
        Category { status, message, score: score.map(Hundredths), blockers }
    }
}

fn metric_call(gauge: &str) -> String {
    format!("record_production_metric with metric_type {gauge} and the book_number")
}

/// Judges a book.
#[must_use]
pub fn judge(e: &Evidence) -> Verdict {
    let judged = [npe(e), continuity(e), ku(e), production(e), metadata(e)];
    let mut ranked: Vec<(Rank, String)> = Vec::new();
    let (mut blockers, mut warnings) = (Vec::new(), Vec::new());
    for (judge, _) in &judged {
        ranked.extend(judge.found.iter().map(|(rank, b)| (*rank, b.recommendation.clone())));
        blockers.extend(judge.found.iter().map(|(_, blocker)| blocker.clone()));
        warnings.extend(judge.warnings.iter().cloned());
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let hundredths: i64 = blockers.iter().map(|b| b.estimated_hours.0).sum();
    let [npe, continuity, ku, production, metadata] = judged.map(|(_, category)| category);
    Verdict {
        status: if blockers.is_empty() { QaStatus::Ready } else { QaStatus::NotReady },
        categories: Categories { npe, continuity, ku, production, metadata },
        blockers,
        warnings,
        recommendations: ranked.into_iter().map(|(_, advice)| advice).collect(),
        hours: (Hundredths(hundredths).as_f64() * 10.0).round() / 10.0,
    }
}

fn npe(e: &Evidence) -> (Judge, Category) {
    let mut judge = Judge::new("npe");
    match e.npe_series {
        None => judge.no_data(
            Rank::NpeScore,
            Severity::Critical,
            "NPE validation of the series",
            "record_quality_gate with gate_type npe_series",
        ),
        Some(score) if score < NPE_SERIES_PASS => judge.block(
            Rank::NpeScore,
            Severity::Critical,
            "npe_series_below_80",
            400,
            format!("the latest npe_series gate scored {}, needs 80", Hundredths(score).text()),
            "Rework the series structure and validate it again (npe_series of 80 or more)",
        ),
        Some(_) => {}
    }
    if e.scenes == 0 {
        let how = "record_quality_gate with gate_type npe_scene, book_number, chapter_number and \
                   scene_number";
        judge.no_data(Rank::Scenes, Severity::Critical, "NPE validation of scenes", how);
    } else if e.scenes_failed > 0 {
        judge.block(
            Rank::Scenes,
            Severity::Critical,
            "npe_scene_failed",
            e.scenes_failed * 50,
            format!(
                "the latest npe_scene gate of {} of {} scenes failed",
                e.scenes_failed, e.scenes
            ),
            format!("Revise {} scene(s) and validate them again", e.scenes_failed),
        );
    }
    let critical = |rank| (rank, Severity::Critical);
    let setups = "setups without payoff";
    judge.must_be_zero(critical(Rank::Setups), e, "setup_payoff_unresolved", setups, 100);
    let beats = "emotional beats not validated";
    judge.must_be_zero(critical(Rank::Beats), e, "emotional_beats_unvalidated", beats, 50);
    let score = e.npe_series.unwrap_or_default();
    let right = format!("NPE {} and all {} scenes passed", Hundredths(score).text(), e.scenes);
    let category = judge.finish(right, e.npe_series);
    (judge, category)
}

fn continuity(e: &Evidence) -> (Judge, Category) {
    let mut judge = Judge::new("continuity");
    let rank = Rank::Continuity;
    for (gauge, what, severity, hours) in [
        ("continuity_critical_unresolved", "critical continuity findings", Severity::Critical, 100),
        (
            "continuity_moderate_unacknowledged",
            "moderate continuity findings not acknowledged",
            Severity::High,
            50,
        ),
        ("knowledge_conflicts", "conflicts of what characters know", Severity::Critical, 100),
        ("timeline_conflicts", "contradictions of the timeline", Severity::Critical, 100),
    ] {
        judge.must_be_zero((rank, severity), e, gauge, what, hours);
    }
    let category = judge.finish("no open continuity findings".to_owned(), None);
    (judge, category)
}

fn ku(e: &Evidence) -> (Judge, Category) {
    let mut judge = Judge::new("ku");
    if !e.ku {
        let message = "the book does not go to Kindle Unlimited".to_owned();
        let status = CategoryStatus::NotApplicable;
        return (judge, Category { status, message, score: None, blockers: Vec::new() });
    }
    cliffhangers(&mut judge, e);
    for (chapter, rating) in e.act_breaks.iter().filter(|(_, rating)| *rating < 900) {
        let shown = Hundredths(*rating).text();
        judge
            .warn("act_break_weak", format!("act break in chapter {chapter} is {shown}, better 9"));
    }
    let critical = Severity::Critical;
    if e.book == 1 {
        let hook = ("opening_hook_rating", "opening hook", 800, 1_000);
        rated(&mut judge, e, (Rank::Hook, critical), hook);
    }
    let high = (Rank::Balance, Severity::High);
    if e.book < e.total_books {
        let what = "satisfaction at the end of the book";
        rated(&mut judge, e, high, ("inter_book_satisfaction", what, 700, 900));
        let what = "urgency towards the next book";
        rated(&mut judge, e, high, ("inter_book_urgency", what, 700, 900));
    } else {
        let closure = ("finale_closure", "closure of the series", 900, 1_000);
        rated(&mut judge, e, high, closure);
    }
    let right = format!("{} chapters rated", e.cliffhangers.len());
    let category = judge.finish(right, None);
    (judge, category)
}

/// A rating that must lie within bounds, which are in hundredths.
fn rated(
    judge: &mut Judge,
    e: &Evidence,
    (rank, severity): (Rank, Severity),
    (gauge, what, low, high): (&str, &str, i64, i64),
) {
    let range = match high {
        1_000 => format!("{} or more", low / 100),
        _ => format!("{} to {}", low / 100, high / 100),
    };
    match e.gauges.get(gauge) {
        None => judge.no_data(rank, severity, what, &metric_call(gauge)),
        Some(rating) if (low..=high).contains(rating) => {}
        Some(rating) => {
            let message = format!("{what} is {}, needs {range}", Hundredths(*rating).text());
            let advice = format!("Rework the {what} until it is rated {range}");
            judge.block(rank, severity, gauge, 200, message, advice);
        }
    }
}

/// At least 90 % of the chapters end with a cliffhanger of 7 or more, none below 5.
fn cliffhangers(judge: &mut Judge, e: &Evidence) {
    let (rank, critical) = (Rank::Cliffhangers, Severity::Critical);
    let how = "record_production_metric with metric_type cliffhanger_rating, book_number and \
               chapter_number";
    let rated = i64::try_from(e.cliffhangers.len()).unwrap_or(i64::MAX);
    if rated == 0 {
        return judge.no_data(rank, critical, "cliffhanger ratings", how);
    }
    let planned = e.gauges.get("chapters_planned").map_or(0, |count| count / 100);
    if planned > rated {
        let what = format!("cliffhanger ratings of {} chapter(s)", planned - rated);
        judge.no_data(rank, critical, &what, how);
    }
    let list = |weak: &[&(i64, i64)]| {
        let shown: Vec<String> = weak.iter().take(10).map(|(c, _)| c.to_string()).collect();
        let more = if weak.len() > 10 { ", …" } else { "" };
        format!("{}{more}", shown.join(", "))
    };
    let hours = |count: usize| i64::try_from(count).unwrap_or(i64::MAX / 50) * 50;
    let broken: Vec<&(i64, i64)> = e.cliffhangers.iter().filter(|(_, r)| *r < 500).collect();
    let weak: Vec<&(i64, i64)> =
        e.cliffhangers.iter().filter(|(_, r)| (500..700).contains(r)).collect();
    if !broken.is_empty() {
        let message = format!("cliffhangers below 5 in chapter(s) {}", list(&broken));
        let advice = format!("Rewrite the ends of chapter(s) {}", list(&broken));
        judge.block(rank, critical, "cliffhanger_below_5", hours(broken.len()), message, advice);
    }
    let strong = e.cliffhangers.len() - broken.len() - weak.len();
    if strong * 10 < e.cliffhangers.len() * 9 {
        let message = format!(
            "{strong} of {} chapters end with a cliffhanger of 7 or more, needs 90 %",
            rated
        );
        let all: Vec<&(i64, i64)> = e.cliffhangers.iter().filter(|(_, r)| *r < 700).collect();
        let advice = format!("Strengthen the ends of chapter(s) {}", list(&all));
        judge.block(rank, critical, "cliffhangers_below_90", hours(weak.len()), message, advice);
    } else if !weak.is_empty() {
        let message = format!("cliffhangers of 5 to 7 in chapter(s) {}", list(&weak));
        judge.warn("cliffhanger_weak", message);
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "hours of words")]
fn production(e: &Evidence) -> (Judge, Category) {
    let mut judge = Judge::new("production");
    let (critical, high) = (Severity::Critical, Severity::High);
    let words = e.words.unwrap_or_default() / 100;
    let pages = words / PAGE_WORDS;
    if e.words.is_none_or(|words| words <= 0) {
        let what = "words of the book";
        judge.no_data(Rank::Words, critical, what, &metric_call("words_written"));
    } else if words < WORDS_MIN {
        let deficit = WORDS_MIN - words;
        let pace = e.words_per_hour.filter(|pace| *pace > 0.0).unwrap_or(DEFAULT_WORDS_PER_HOUR);
        let hours = (deficit as f64 / pace * 100.0).round() as i64;
        let message = format!("{words} words ({pages} pages), needs {WORDS_MIN} (300 pages)");
        let advice = format!("Write {deficit} more words");
        judge.block(Rank::Words, critical, "words_below_minimum", hours, message, advice);
    }
    let scenes = ("scenes_planned", "scenes_with_prose", "scenes with prose", 75);
    counted(&mut judge, e, (Rank::Prose, critical), scenes);
    let outlines = ("chapters_planned", "chapter_outlines_approved", "approved outlines", 50);
    counted(&mut judge, e, (Rank::Outlines, high), outlines);
    for (number, status) in (1..).zip(&e.passes) {
        let name = pass::name(number).unwrap_or_default();
        let hours = [400, 250, 250, 150, 500];
        match status {
            PassStatus::Complete => {}
            PassStatus::Skipped => {
                judge.warn("pass_skipped", format!("revision pass {number} ({name}) was skipped"));
            }
            PassStatus::Pending | PassStatus::InProgress => judge.block(
                Rank::Passes,
                high,
                "pass_incomplete",
                usize::try_from(number - 1)
                    .ok()
                    .and_then(|at| hours.get(at))
                    .copied()
                    .unwrap_or(100),
                format!("revision pass {number} ({name}) is {status}"),
                format!("Complete revision pass {number} ({name})"),
            ),
        }
    }
    let right = format!("{words} words ({pages} pages), outlines, scenes and passes complete");
    let category = judge.finish(right, None);
    (judge, category)
}

/// Two gauges of which the second must reach the first; `each` is in hundredths of an hour.
fn counted(
    judge: &mut Judge,
    e: &Evidence,
    (rank, severity): (Rank, Severity),
    (planned, done, what, each): (&str, &str, &str, i64),
) {
    let Some(plan) = e.gauges.get(planned).filter(|plan| **plan > 0) else {
        return judge.no_data(rank, severity, planned, &metric_call(planned));
    };
    let Some(have) = e.gauges.get(done) else {
        return judge.no_data(rank, severity, done, &metric_call(done));
    };
    if have < plan {
        let missing = Hundredths(plan - have).text();
        let message =
            format!("{} of {} {what}", Hundredths(*have).text(), Hundredths(*plan).text());
        let hours = (plan - have).saturating_mul(each) / 100;
        let advice = format!("Complete the {what}: {missing} missing");
        judge.block(rank, severity, done, hours, message, advice);
    }
}

fn metadata(e: &Evidence) -> (Judge, Category) {
    let mut judge = Judge::new("metadata");
    let (critical, high) = (Severity::Critical, Severity::High);
    if e.title.as_deref().is_none_or(|title| title.trim().is_empty()) {
        let message = "the book has no title".to_owned();
        let advice = "Set the title with update_book_record";
        judge.block(Rank::Title, critical, "title_missing", 25, message, advice);
    }
    if !(150..=300).contains(&e.blurb_words) {
        let code = if e.blurb_words == 0 { "blurb_missing" } else { "blurb_length" };
        let message = format!("the blurb has {} words, needs 150 to 300", e.blurb_words);
        let advice = "Write a blurb of 150 to 300 words and store it with update_book_record";
        judge.block(Rank::Blurb, critical, code, 100, message, advice);
    }
    for (rank, code, what, have, need) in [
        (Rank::Keywords, "keywords_missing", "keywords", e.keywords, 7),
        (Rank::Categories, "categories_missing", "categories", e.categories, 2),
    ] {
        if have < need {
            let message = format!("{have} {what}, needs {need}");
            let advice = format!("Add {} {what} with update_book_record", need - have);
            judge.block(rank, high, code, (need - have) * 10, message, advice);
        }
    }
    if !e.has_cover {
        let message = "the cover is missing".to_owned();
        let advice = "Make a cover and set cover_status with update_book_record";
        judge.block(Rank::Cover, high, "cover_missing", 200, message, advice);
    }
    let category = judge.finish("title, blurb, keywords, categories and cover".to_owned(), None);
    (judge, category)
}

#[cfg(test)]
#[path = "qa_tests.rs"]
mod tests;
