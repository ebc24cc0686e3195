//! Moments that a cron expression names, in a time zone.
//!
//! The five fields of Vixie's cron, and its rules for the days on which clocks are changed: a fixed
//! time that does not exist that day comes as soon as the gap is over, one that comes twice counts
//! the first time; what is told by `*` or `*/n` goes by the wall clock, in both of a repeated hour
//! and in none of a missing one. The zones are those the program carries, so that a schedule means
//! the same on every machine.

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

use crate::clock::Millis;

/// How far a moment is looked for, in days: between two 29ths of February may lie eight years.
const HORIZON_DAYS: i64 = 366 * 9;
/// Moments outside of these count as the nearest one; so far ahead nothing is scheduled.
const MOMENTS_MS: (i64, i64) = (0, 253_000_000_000_000);

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Words for a whole expression.
const ALIASES: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

/// A field of an expression: its name, its bounds, the words for its numbers.
struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, words: &[] },
    Field { name: "hour", low: 0, high: 23, words: &[] },
    Field { name: "day of month", low: 1, high: 31, words: &[] },
    Field { name: "month", low: 1, high: 12, words: &MONTHS },
    Field { name: "day of week", low: 0, high: 7, words: &WEEKDAYS },
];

/// An expression with its zone. Each set has the bit of every number that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    zone_name: String,
    zone: TimeZone,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day must be in both sets: one of the fields begins with `*`.
    both: bool,
    /// Whether it names times of day, and no interval.
    fixed: bool,
}

impl Cron {
    /// Reads `MINUTE HOUR DAY MONTH WEEKDAY` (numbers, `*`, `a-b`, `*/n`, `a-b/n`, lists with
    /// commas, `jan`, `mon`), or one of `@hourly @daily @weekly @monthly @yearly`.
    ///
    /// # Errors
    /// What is wrong and what would be right, in words.
    pub fn parse(text: &str, zone_name: &str) -> Result<Cron, String> {
        let zone = TimeZoneDatabase::bundled().get(zone_name).map_err(|_| {
            format!("{zone_name:?} is no time zone: expected an IANA name, as in \"Europe/Berlin\"")
        })?;
        let plain = ALIASES.iter().find(|(alias, _)| *alias == text.trim());
        let plain = plain.map_or(text, |(_, plain)| plain);
        let parts: Vec<&str> = plain.split_whitespace().collect();
        if parts.len() != FIELDS.len() {
            return Err(format!(
                "it has {} fields and needs 5: minute, hour, day of month, month, day of week, as in \"0 3 * * *\"",
                parts.len()
            ));
        }
        let mut sets = [0_u64; 5];
        for ((set, part), field) in sets.iter_mut().zip(&parts).zip(&FIELDS) {
            *set = field.read(part)?;
        }
        let [minutes, hours, days, months, mut weekdays] = sets;
        // 7 is Sunday as well.
        weekdays |= (weekdays >> 7) & 1;
        let open = |at: usize| parts[at].starts_with('*');
        let cron = Cron {
            text: text.trim().to_owned(),
            zone_name: zone_name.to_owned(),
            zone,
            minutes,
            hours,
            days,
            months,
            weekdays,
            both: open(2) || open(4),
            fixed: !open(0) && !open(1),
        };
        match cron.next(Millis(MOMENTS_MS.0)) {
            Some(_) => Ok(cron),
            None => Err("no such day ever comes: look at day of month and month".to_owned()),
        }
    }

    /// The expression as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name of its zone.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The first moment after that one.
    #[must_use]
    pub fn next(&self, after: Millis) -> Option<Millis> {
        // From the day before: a time in a gap may be carried over midnight.
        let first = self.date(after).checked_sub(1.day()).ok()?;
        (0..HORIZON_DAYS).find_map(|n| {
            let day = first.checked_add(n.days()).ok()?;
            self.moments(day).into_iter().find(|at| *at > after)
        })
    }

    /// The last moment up to that one, itself included.
    #[must_use]
    pub fn last(&self, until: Millis) -> Option<Millis> {
        let day = self.date(until);
        (0..HORIZON_DAYS).find_map(|n| {
            let day = day.checked_sub(n.days()).ok()?;
            self.moments(day).into_iter().rev().find(|at| *at <= until)
        })
    }

    /// A moment on the clock of the zone, `2026-03-29T03:00:00+02:00`.
    #[must_use]
    pub fn local(&self, at: Millis) -> String {
        timestamp(at)
            .to_zoned_datetime(self.zone.clone())
            .strftime("%Y-%m-%dT%H:%M:%S%:z")
            .to_string()
    }

    fn date(&self, at: Millis) -> Date {
        self.zone.to_datetime(timestamp(at)).date()
    }

    /// The moments of a day of the calendar, in order.
    fn moments(&self, date: Date) -> BTreeSet<Millis> {
        let mut found = BTreeSet::new();
        if !self.has_day(date) {
            return found;
        }
        for hour in (0..24_i8).filter(|hour| self.hours >> hour & 1 == 1) {
            for minute in (0..60_i8).filter(|minute| self.minutes >> minute & 1 == 1) {
                self.instants(date.at(hour, minute, 0, 0), &mut found);
            }
        }
        found
    }

    fn has_day(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let by_day = self.days >> date.day() & 1 == 1;
        let by_weekday = self.weekdays >> weekday & 1 == 1;
        let day = if self.both { by_day && by_weekday } else { by_day || by_weekday };
        day && self.months >> date.month() & 1 == 1
    }

    /// When the wall clock shows this, by the rules of the module.
    fn instants(&self, wall: DateTime, found: &mut BTreeSet<Millis>) {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall);
        let mut add = |at: Option<Timestamp>| {
            found.extend(at.map(|at| Millis(at.as_millisecond())));
        };
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => add(ambiguous.compatible().ok()),
            AmbiguousOffset::Fold { .. } => {
                add(ambiguous.earlier().ok());
                if !self.fixed {
                    add(ambiguous.later().ok());
                }
            }
            AmbiguousOffset::Gap { .. } if self.fixed => {
                // A second later, for a time that is the gap's first: the change itself counts.
                let after = ambiguous.later().ok().and_then(|at| at.checked_add(1.second()).ok());
                add(after.and_then(|at| Some(self.zone.preceding(at).next()?.timestamp())));
            }
            AmbiguousOffset::Gap { .. } => {}
        }
    }
}

fn timestamp(at: Millis) -> Timestamp {
    let ms = at.0.clamp(MOMENTS_MS.0, MOMENTS_MS.1);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Field {
    fn read(&self, text: &str) -> Result<u64, String> {
        let mut set = 0;
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                None => (item, None),
                Some((range, step)) => (range, Some(step)),
            };
            let step = step.map_or(Ok(1), |step| {
                let fits = |n: &u8| *n >= 1 && *n <= self.high;
                step.parse::<u8>().ok().filter(fits).ok_or_else(|| self.wrong(item))
            })?;
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.low, self.high),
                Some((from, to)) => (self.number(from, item)?, self.number(to, item)?),
                // `5/15` begins at 5 and goes on to the end, as everywhere.
                None if item.contains('/') => (self.number(range, item)?, self.high),
                None => (self.number(range, item)?, self.number(range, item)?),
            };
            if from > to {
                return Err(format!("{}: {item:?} goes backwards", self.name));
            }
            set |= (from..=to).step_by(usize::from(step)).fold(0, |set, n| set | 1_u64 << n);
        }
        Ok(set)
    }

    fn number(&self, text: &str, item: &str) -> Result<u8, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = self.words.iter().position(|word| *word == lower) {
            return Ok(self.low + u8::try_from(at).unwrap_or_default());
        }
        let digits =
            !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        let number =
            text.parse::<u8>().ok().filter(|n| digits && (self.low..=self.high).contains(n));
        number.ok_or_else(|| self.wrong(item))
    }

    fn wrong(&self, item: &str) -> String {
        let words = match self.words {
            [] => String::new(),
            words => format!(" or {} to {}", words[0], words[words.len() - 1]),
        };
        format!(
            "{}: {item:?} is none of {} to {}{words}, *, a range (a-b) or a step (*/n)",
            self.name, self.low, self.high
        )
    }
}

#[cfg(test)]
mod tests;
