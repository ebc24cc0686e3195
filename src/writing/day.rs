//! Days: which day a moment belongs to in a time zone, and where a day begins.
//!
//! The zones are those the program carries, so that a day is the same on every machine.

use std::sync::OnceLock;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

use crate::clock::Millis;

/// A time zone.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

fn zones() -> &'static TimeZoneDatabase {
    static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
    ZONES.get_or_init(TimeZoneDatabase::bundled)
}

/// First and last moment whose day is computed; others count as the nearest one (years −9000 to
/// 9999 would fit, and nobody writes then).
const MOMENTS_MS: (i64, i64) = (-62_135_596_800_000, 253_370_764_800_000);

impl Zone {
    /// The zone of that IANA name; `UTC` is one.
    ///
    /// # Errors
    /// What would be right, in words.
    pub fn parse(name: &str) -> Result<Zone, String> {
        zones()
            .get(name)
            .map(Zone)
            .map_err(|_| "an IANA time zone, as in UTC or Europe/Berlin".to_owned())
    }

    /// The day of a moment, `YYYY-MM-DD`.
    #[must_use]
    pub fn day(&self, at: Millis) -> String {
        self.date(at).to_string()
    }

    /// The moment at which a day begins.
    #[must_use]
    pub fn start(&self, day: Day) -> Millis {
        let start = day.0.to_zoned_datetime(self.0.clone());
        Millis(start.map_or(0, |at| at.timestamp().as_millisecond()))
    }

    /// The day of a moment.
    #[must_use]
    pub fn day_of(&self, at: Millis) -> Day {
        Day(self.date(at))
    }

    fn date(&self, at: Millis) -> Date {
        let ms = at.0.clamp(MOMENTS_MS.0, MOMENTS_MS.1);
        let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
        self.0.to_datetime(at).date()
    }
}

/// Reads a moment that says its offset (`…Z`, `…+02:00`). One that does not could be meant in any
/// zone, and near midnight would count on the wrong day.
#[must_use]
pub fn moment(text: &str) -> Option<Millis> {
    let told = text.trim().get("2026-01-31T12:00:00".len()..)?;
    let offset = told.ends_with(['Z', 'z']) || told.contains(['+', '-']);
    offset.then(|| Millis::parse_rfc3339(text)).flatten()
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(Date);

impl Day {
    /// Reads `YYYY-MM-DD` of the years 1900 to 9998; nothing else is a day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Day> {
        let shape = text.len() == 10
            && text.bytes().enumerate().all(|(at, b)| match at {
                4 | 7 => b == b'-',
                _ => b.is_ascii_digit(),
            });
        let day = text.parse::<Date>().ok().filter(|_| shape)?;
        (1900..=9998).contains(&day.year()).then_some(Day(day))
    }

    /// So many days later, earlier when negative; the last day that can be written where that is
    /// beyond it.
    #[must_use]
    pub fn plus(self, days: i64) -> Day {
        let days = days.clamp(-3_000_000, 3_000_000);
        Day(self.0.checked_add(days.days()).unwrap_or(Date::MAX))
    }

    /// Days from `earlier` to this one.
    #[must_use]
    pub fn since(self, earlier: Day) -> i64 {
        self.0.since(earlier.0).map_or(0, |span| i64::from(span.get_days()))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Millis {
        Millis::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn the_same_moment_is_another_day_elsewhere() {
        let late = at("2026-01-05T20:00:00Z");
        assert_eq!(Zone::parse("UTC").unwrap().day(late), "2026-01-05");
        assert_eq!(Zone::parse("Asia/Tokyo").unwrap().day(late), "2026-01-06");
        assert_eq!(Zone::parse("America/New_York").unwrap().day(late), "2026-01-05");
        assert!(Zone::parse("Mars/Olympus").is_err());
        assert!(Zone::parse("").is_err());
    }

    #[test]
    fn a_day_begins_at_midnight_of_its_zone_also_when_clocks_change() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let day = Day::parse("2026-03-29").unwrap();
        assert_eq!(berlin.start(day), at("2026-03-28T23:00:00Z"));
        assert_eq!(berlin.start(day.plus(1)), at("2026-03-29T22:00:00Z"), "23 hours later");
    }

    #[test]
    fn a_moment_says_its_offset() {
        assert_eq!(moment("2026-01-05T20:00:00+01:00"), Some(at("2026-01-05T19:00:00Z")));
        assert_eq!(moment(" 2026-01-05T19:00:00.5Z"), Some(at("2026-01-05T19:00:00.5Z")));
        for bad in
            ["2026-01-05T20:00:00", "2026-01-05T20:00:00.5", "2026-01-05", "", "Z", "tomorrow Z"]
        {
            assert_eq!(moment(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_are_written_in_one_form_only() {
        for bad in ["", "2026-1-5", "2026-02-30", "20260105", "2026-01-05T00:00:00Z", "0001-01-01"]
        {
            assert!(Day::parse(bad).is_none(), "{bad}");
        }
        let day = Day::parse("2026-02-27").unwrap();
        assert_eq!(day.plus(2).to_string(), "2026-03-01");
        assert_eq!(day.plus(370).since(day), 370);
        assert_eq!(day.plus(i64::MAX).to_string(), "9999-12-31");
    }
}
