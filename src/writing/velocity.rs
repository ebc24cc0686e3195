//! Pace, efficiency and projections (`spec/writing.md` §4). What is undefined is `None`.

use super::day::Day;
use super::sums::{Sums, of_book, of_type};
use super::view::{Efficiency, Projections, TimeWindow, Velocity};

/// A length of book of which nothing is known: what Kindle Unlimited asks for.
const DEFAULT_TARGET_WORDS: f64 = 75_000.0;

/// A book, for projections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Book {
    /// Its number.
    pub number: i64,
    /// Whether its completion is approved.
    pub approved: bool,
    /// Words it shall have.
    pub target: Option<i64>,
}

/// What the figures are computed from.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Sums of everything.
    pub all: &'a Sums,
    /// Sums of the window.
    pub window: &'a Sums,
    /// Days of the window; `None` before anything was recorded.
    pub window_days: Option<i64>,
    /// Days of it on which something was written.
    pub active_days: i64,
    /// Every book of the series.
    pub books: &'a [Book],
    /// Completed runs of the passes 1 to 5, by book.
    pub runs: &'a [(i64, i64)],
    /// Scenes with a gate, and those that passed at the first try.
    pub tries: (i64, i64),
    /// The present day in the workflow's zone.
    pub today: Day,
}

/// Days of a window, given the days since the first figure was recorded.
///
/// `calendar` counts both ends; `elapsed_ms` is the time since.
#[must_use]
pub fn window_days(window: TimeWindow, calendar: i64, elapsed_ms: i64) -> i64 {
    const DAY_MS: i64 = 86_400_000;
    match window {
        TimeWindow::Day => 1,
        TimeWindow::Week => (elapsed_ms.max(0) + DAY_MS - 1).div_euclid(DAY_MS).clamp(1, 7),
        TimeWindow::All => calendar.max(1),
    }
}

/// Rounds to so many decimals, half away from zero.
#[must_use]
pub fn round(value: f64, decimals: u32) -> f64 {
    let factor = 10_f64.powi(i32::try_from(decimals).unwrap_or(0));
    (value * factor).round() / factor
}

#[allow(clippy::cast_precision_loss, reason = "hundredths below 2^53")]
fn figure(sums: &Sums, metric_type: &str) -> f64 {
    of_type(sums, metric_type).map_or(0.0, |(total, _)| total as f64 / 100.0)
}

/// `a / b`, where that is defined.
fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

/// Words an hour of writing, rounded; `None` where no time was recorded.
#[must_use]
pub fn words_per_hour(sums: &Sums) -> Option<f64> {
    exact_words_per_hour(sums).map(|pace| round(pace, 0))
}

fn exact_words_per_hour(sums: &Sums) -> Option<f64> {
    ratio(figure(sums, "words_written") * 60.0, figure(sums, "writing_time_minutes"))
}

#[allow(clippy::cast_precision_loss, reason = "days")]
fn per_day(facts: &Facts<'_>, metric_type: &str) -> Option<f64> {
    facts.window_days.and_then(|days| ratio(figure(facts.window, metric_type), days as f64))
}

/// How fast.
#[must_use]
pub fn velocity(facts: &Facts<'_>) -> Velocity {
    let window = facts.window;
    let hours = figure(window, "writing_time_minutes") / 60.0;
    Velocity {
        words_per_hour: words_per_hour(window),
        words_per_day: per_day(facts, "words_written").map(|pace| round(pace, 0)),
        chapters_per_day: per_day(facts, "chapters_completed").map(|pace| round(pace, 2)),
        scenes_per_hour: ratio(figure(window, "scenes_written"), hours).map(|v| round(v, 2)),
        active_days: facts.active_days,
        window_days: facts.window_days,
    }
}

/// How well.
///
/// Revision runs and the chapters they are weighed with are those of all time: a pass has no moment
/// that a window could hold.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts")]
pub fn efficiency(facts: &Facts<'_>) -> Efficiency {
    let planning = figure(facts.window, "planning_time_minutes");
    let (mut touched, mut chapters) = (0.0, 0.0);
    for book in facts.books {
        let written =
            of_book(facts.all, "chapters_completed", book.number).unwrap_or(0) as f64 / 100.0;
        let runs = facts.runs.iter().find(|(number, _)| *number == book.number);
        touched += runs.map_or(0, |(_, runs)| *runs) as f64 * written;
        chapters += written;
    }
    let (scenes, passed) = facts.tries;
    Efficiency {
        planning_to_writing_ratio: ratio(planning, figure(facts.window, "writing_time_minutes"))
            .map(|v| round(v, 2)),
        revision_rate: ratio(touched, chapters).map(|v| round(v, 2)),
        npe_pass_rate: ratio(100.0 * passed as f64, scenes as f64).map(|v| round(v, 1)),
    }
}

/// Where to: what is left of all time, at the window's pace.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "words and days")]
pub fn projections(facts: &Facts<'_>) -> Projections {
    let words = |book: i64| {
        (of_book(facts.all, "words_written", book).unwrap_or(0) as f64 / 100.0).max(0.0)
    };
    let done: Vec<f64> =
        facts.books.iter().filter(|b| b.approved).map(|b| words(b.number)).collect();
    let mean = ratio(done.iter().sum(), done.len() as f64).filter(|mean| *mean > 0.0);
    let (mut total, mut remaining) = (done.iter().sum::<f64>(), 0.0);
    let mut books_remaining = 0;
    for book in facts.books.iter().filter(|book| !book.approved) {
        let target = book.target.map(|t| t as f64).or(mean).unwrap_or(DEFAULT_TARGET_WORDS);
        let written = words(book.number);
        total += written.max(target);
        remaining += (target - written).max(0.0);
        books_remaining += 1;
    }
    let finished = remaining == 0.0;
    let hours = match exact_words_per_hour(facts.window).filter(|pace| *pace > 0.0) {
        _ if finished => Some(0.0),
        pace => pace.map(|pace| round(remaining / pace, 1)),
    };
    let days = match per_day(facts, "words_written").filter(|pace| *pace > 0.0) {
        _ if finished => Some(0),
        pace => pace.map(|pace| (remaining / pace).ceil() as i64),
    };
    Projections {
        estimated_completion_date: days.map(|days| facts.today.plus(days).to_string()),
        estimated_total_words: Some(round(total, 2)),
        books_remaining,
        hours_remaining: hours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(rows: &[(&str, i64, i64)]) -> Sums {
        let mut sums = Sums::new();
        for (name, book, total) in rows {
            sums.insert(((*name).to_owned(), *book, -2), (total * 100, 1));
        }
        sums
    }

    fn books(approved: i64) -> Vec<Book> {
        (1..=5).map(|n| Book { number: n, approved: n <= approved, target: None }).collect()
    }

    fn facts<'a>(all: &'a Sums, books: &'a [Book]) -> Facts<'a> {
        Facts {
            all,
            window: all,
            window_days: Some(4),
            active_days: 3,
            books,
            runs: &[(1, 5)],
            tries: (3, 2),
            today: Day::parse("2026-01-10").unwrap(),
        }
    }

    #[test]
    fn nothing_recorded_means_nothing_defined() {
        let (none, five) = (Sums::new(), books(0));
        let facts = Facts {
            window_days: None,
            active_days: 0,
            runs: &[],
            tries: (0, 0),
            ..facts(&none, &five)
        };
        let pace = velocity(&facts);
        assert_eq!(pace.words_per_hour, None);
        assert_eq!(pace.words_per_day, None);
        let how = efficiency(&facts);
        assert_eq!((how.revision_rate, how.npe_pass_rate), (None, None));
        let to = projections(&facts);
        assert_eq!(to.estimated_total_words, Some(375_000.0), "five times the minimum");
        assert_eq!(to.estimated_completion_date, None);
        assert_eq!(to.hours_remaining, None);
        assert_eq!(to.books_remaining, 5);
    }

    #[test]
    fn the_formulas_are_the_specifications() {
        let all = sums(&[
            ("words_written", 1, 60_000),
            ("words_written", 2, 20_000),
            ("writing_time_minutes", 1, 2_400),
            ("planning_time_minutes", 1, 600),
            ("chapters_completed", 1, 30),
            ("chapters_completed", 2, 10),
            ("scenes_written", 1, 100),
        ]);
        let five = books(1);
        let facts = facts(&all, &five);
        let pace = velocity(&facts);
        assert_eq!(pace.words_per_hour, Some(2_000.0));
        assert_eq!(pace.words_per_day, Some(20_000.0));
        assert_eq!(pace.chapters_per_day, Some(10.0));
        assert_eq!(pace.scenes_per_hour, Some(2.5));
        let how = efficiency(&facts);
        assert_eq!(how.planning_to_writing_ratio, Some(0.25));
        assert_eq!(how.revision_rate, Some(3.75), "5 passes over 30 of 40 chapters");
        assert_eq!(how.npe_pass_rate, Some(66.7));
        // The mean of the approved book is the target of the others: 40 000 and 3 times 60 000.
        let to = projections(&facts);
        assert_eq!(to.estimated_total_words, Some(300_000.0));
        assert_eq!(to.hours_remaining, Some(110.0));
        assert_eq!(to.estimated_completion_date.as_deref(), Some("2026-01-21"));
        assert_eq!(to.books_remaining, 4);
    }

    #[test]
    fn a_finished_series_is_finished_today() {
        let (all, five) = (sums(&[("words_written", 1, 10)]), books(5));
        let to = projections(&facts(&all, &five));
        assert_eq!(to.estimated_completion_date.as_deref(), Some("2026-01-10"));
        assert_eq!((to.hours_remaining, to.books_remaining), (Some(0.0), 0));
    }

    #[test]
    fn windows_have_days() {
        const DAY: i64 = 86_400_000;
        assert_eq!(window_days(TimeWindow::Day, 40, 40 * DAY), 1);
        assert_eq!(window_days(TimeWindow::Week, 1, 0), 1);
        assert_eq!(window_days(TimeWindow::Week, 3, 2 * DAY + 1), 3);
        assert_eq!(window_days(TimeWindow::Week, 40, 40 * DAY), 7);
        assert_eq!(window_days(TimeWindow::All, 40, 39 * DAY), 40);
    }
}
