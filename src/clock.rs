//! Time as the program sees it: epoch milliseconds, read through an injected clock.
//!
//! Nothing else may ask the operating system for the time of day (clippy's
//! `disallowed-methods` enforces it), so every time-dependent rule can be tested by moving a
//! [`TestClock`] by hand.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
///
/// It is what the database stores and what the wire shows (as RFC 3339 or as the number).
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub i64);

/// First and last moment that RFC 3339 can write (years 0000 to 9999), in epoch ms.
const RFC3339_RANGE_MS: (i64, i64) = (-62_167_219_200_000, 253_402_300_799_999);

impl Millis {
    /// The moment as RFC 3339 in UTC with milliseconds, `2026-11-21T09:27:00.000Z`.
    ///
    /// A moment outside the years 0000 to 9999 is shown as the nearest one inside.
    pub fn rfc3339(self) -> String {
        let ms = self.0.clamp(RFC3339_RANGE_MS.0, RFC3339_RANGE_MS.1);
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
    }

    /// The day in UTC as `YYYY-MM-DD`, the form in which days are stored.
    pub fn day(self) -> String {
        let mut text = self.rfc3339();
        text.truncate("YYYY-MM-DD".len());
        text
    }

    /// Reads RFC 3339 with any offset; what is finer than a millisecond is cut off.
    ///
    /// Python's `isoformat()` without an offset is read as UTC, because the scripts write it so.
    pub fn parse_rfc3339(text: &str) -> Option<Millis> {
        let text = text.trim();
        let at = OffsetDateTime::parse(text, &Rfc3339)
            .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339))
            .ok()?;
        // Not turned to UTC before: the last hours of 9999 west of it are no time there.
        let ms = at.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(ms).ok().map(Millis)
    }

    /// The moment `ms` milliseconds later (earlier when negative); saturates.
    pub fn plus_ms(self, ms: i64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; negative when `earlier` is later; saturates.
    pub fn since_ms(self, earlier: Millis) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where the time of day comes from.
pub trait Clock: Send + Sync + Debug {
    /// The present moment.
    fn now(&self) -> Millis;
}

/// The operating system's clock.
#[derive(Copy, Clone, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    // The one place that may ask: everything else is handed a `Clock`.
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock set before 1970 is a broken clock; zero keeps the program going.
        Millis(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct TestClock(AtomicI64);

impl TestClock {
    /// A clock that stands at `at`.
    pub fn new(at: Millis) -> TestClock {
        TestClock(AtomicI64::new(at.0))
    }

    /// Moves the clock to `at`, also backwards.
    pub fn set(&self, at: Millis) {
        self.0.store(at.0, Ordering::SeqCst);
    }

    /// Moves the clock by `ms` milliseconds and returns the new moment.
    pub fn advance(&self, ms: i64) -> Millis {
        Millis(self.0.fetch_add(ms, Ordering::SeqCst).saturating_add(ms))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc3339_has_milliseconds_and_z() {
        assert_eq!(Millis(0).rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Millis(1_795_253_220_042).rfc3339(), "2026-11-21T09:27:00.042Z");
        assert_eq!(Millis(1_795_253_220_042).day(), "2026-11-21");
        assert_eq!(Millis(i64::MAX).rfc3339(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn parsing_takes_offsets_fractions_and_pythons_naive_form() {
        let at = Millis::parse_rfc3339("2026-11-21T10:27:00.042999+01:00");
        assert_eq!(at, Some(Millis(1_795_253_220_042)));
        let naive = Millis::parse_rfc3339("2026-11-21T09:27:00.042999");
        assert_eq!(naive, Some(Millis(1_795_253_220_042)));
        // Both panicked: in UTC they are years 10000 and -1.
        let last = Millis::parse_rfc3339("9999-12-31T23:59:59-23:59").unwrap();
        assert_eq!(last.rfc3339(), "9999-12-31T23:59:59.999Z");
        let first = Millis::parse_rfc3339("0000-01-01T00:00:00+23:59").unwrap();
        assert_eq!(first.rfc3339(), "0000-01-01T00:00:00.000Z");
        assert_eq!(Millis::parse_rfc3339("yesterday"), None);
        assert_eq!(Millis::parse_rfc3339(""), None);
    }

    #[test]
    fn the_test_clock_moves_only_by_hand() {
        let clock = TestClock::new(Millis(5));
        assert_eq!(clock.now(), Millis(5));
        assert_eq!(clock.advance(10), Millis(15));
        clock.set(Millis(1));
        assert_eq!(clock.now(), Millis(1));
        assert!(SystemClock.now() > Millis(1_700_000_000_000));
    }

    proptest! {
        #[test]
        fn print_then_parse_is_identity(ms in RFC3339_RANGE_MS.0..=RFC3339_RANGE_MS.1) {
            prop_assert_eq!(Millis::parse_rfc3339(&Millis(ms).rfc3339()), Some(Millis(ms)));
        }
    }
}
