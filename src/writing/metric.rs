//! Figures: exact hundredths, and the registry of what can be recorded.
//!
//! A figure is a whole number of hundredths, in the program and in both databases, so that sums are
//! exact and equal everywhere. A JSON number is read from its decimal digits.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::word::words;

/// The largest figure that can be recorded at once, in whole units.
///
/// Ninety million of them fit into a sum (`spec/writing.md` §2: upstream overflowed at 10⁸), and
/// each has few enough digits for a JSON number to hold its hundredths exactly.
pub const VALUE_MAX: i64 = 1_000_000_000;

/// A decimal figure in hundredths: 12.34 is `Hundredths(1234)`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hundredths(pub i64);

impl Hundredths {
    /// The whole number `n`.
    #[must_use]
    pub fn whole(n: i64) -> Hundredths {
        Hundredths(n.saturating_mul(100))
    }

    /// Minutes of a duration in milliseconds, rounded half up: 1 s is 0.02.
    #[must_use]
    pub fn minutes_of_ms(ms: i64) -> Hundredths {
        Hundredths((ms.max(0) + 300).div_euclid(600))
    }

    /// Reads decimal digits, `-12.345` or `1.5e3`; what is finer than a hundredth is rounded half
    /// away from zero, as PostgreSQL rounds into `DECIMAL(10,2)`.
    ///
    /// # Errors
    /// A sentence, where the text is no decimal number or beyond ±[`VALUE_MAX`].
    pub fn parse(text: &str) -> Result<Hundredths, String> {
        let no_number = || format!("{text:?} is not a decimal number");
        let too_large = || format!("expected a number from -{VALUE_MAX} to {VALUE_MAX}");
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                (mantissa, exponent.parse::<i32>().map_err(|_| no_number())?)
            }
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(no_number());
        }
        // How many of the digits are hundredths or more.
        let whole_digits = i32::try_from(whole.len()).map_err(|_| too_large())?;
        let kept = whole_digits.saturating_add(exponent).saturating_add(2);
        let mut value: i64 = 0;
        for at in 0..kept.max(0) {
            let index = usize::try_from(at).unwrap_or(usize::MAX);
            let digit = digits.get(index).map_or(0, |d| i64::from(d - b'0'));
            if index >= digits.len() && value == 0 {
                break;
            }
            value =
                value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or_else(too_large)?;
        }
        let next = usize::try_from(kept).ok().and_then(|at| digits.get(at));
        if next.is_some_and(|d| *d >= b'5') {
            value += 1;
        }
        if value > VALUE_MAX * 100 {
            return Err(too_large());
        }
        Ok(Hundredths(if negative { -value } else { value }))
    }

    /// The figure as the nearest double, for rates and for JSON.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "below 2^53 for every figure that is shown")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 100.0
    }

    /// The decimal text, without needless zeros: `12.34`, `5`, `-0.5`.
    #[must_use]
    pub fn text(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, part) = (self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100);
        match part {
            0 => format!("{sign}{whole}"),
            part if part % 10 == 0 => format!("{sign}{whole}.{}", part / 10),
            part => format!("{sign}{whole}.{part:02}"),
        }
    }
}

impl Serialize for Hundredths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 100 == 0 {
            serializer.serialize_i64(self.0 / 100)
        } else {
            serializer.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Hundredths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hundredths, D::Error> {
        // The shortest text of a double is the decimal that was written, up to 15 digits.
        let number = serde_json::Number::deserialize(deserializer)?;
        Hundredths::parse(&number.to_string()).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Hundredths {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hundredths".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}

words! {
    /// How the values of a metric belong together.
    pub enum MetricKind {
        /// Adds up: each value is an amount more.
        Counter = "counter",
        /// Stands: the latest value holds; several are averaged, never added.
        Gauge = "gauge",
    }
}

/// A column of the daily row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Daily {
    /// Words.
    Words,
    /// Chapters.
    Chapters,
    /// Scenes.
    Scenes,
    /// Minutes.
    Minutes,
}

/// A metric type that the program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricType {
    /// Its name on the wire.
    pub name: &'static str,
    /// How its values belong together.
    pub kind: MetricKind,
    /// The column of the daily row that it adds to.
    pub daily: Option<Daily>,
    /// Whether a value tells that the book itself has changed, so that an older QA report no longer
    /// speaks of it.
    pub changes_book: bool,
    /// Whether a negative value may correct what was recorded, when the call declares it as one.
    pub correctable: bool,
    /// The largest value, in whole units.
    pub max: i64,
    /// Whether it is kept for each chapter, so that the chapter must be given.
    pub per_chapter: bool,
    /// Whether it is summed for each phase.
    pub by_phase: bool,
    /// What it is, for people.
    pub about: &'static str,
}

const fn counter(name: &'static str, about: &'static str) -> MetricType {
    MetricType {
        name,
        kind: MetricKind::Counter,
        daily: None,
        changes_book: false,
        correctable: true,
        max: VALUE_MAX,
        per_chapter: false,
        by_phase: false,
        about,
    }
}

const fn written(name: &'static str, daily: Daily, about: &'static str) -> MetricType {
    MetricType { daily: Some(daily), changes_book: true, ..counter(name, about) }
}

const fn gauge(name: &'static str, max: i64, about: &'static str) -> MetricType {
    MetricType {
        kind: MetricKind::Gauge,
        correctable: false,
        changes_book: true,
        max,
        ..counter(name, about)
    }
}

const fn rating(name: &'static str, about: &'static str) -> MetricType {
    gauge(name, 10, about)
}

const fn chapter_rating(name: &'static str, about: &'static str) -> MetricType {
    MetricType { per_chapter: true, ..rating(name, about) }
}

/// A count of things, as a gauge.
const COUNT_MAX: i64 = 1_000_000;

/// Every known type (`spec/writing.md` §1b, §5). Others may be recorded and count as counters.
pub const KNOWN: &[MetricType] = &[
    written("words_written", Daily::Words, "words of prose"),
    written("chapters_completed", Daily::Chapters, "chapters finished"),
    written("scenes_written", Daily::Scenes, "scenes with prose"),
    MetricType {
        daily: Some(Daily::Minutes),
        ..counter("writing_time_minutes", "minutes spent writing")
    },
    counter("scenes_validated", "scenes that were validated"),
    counter("planning_time_minutes", "minutes spent planning"),
    counter("revision_time_minutes", "minutes spent revising; passes record it themselves"),
    MetricType {
        by_phase: true,
        ..counter("phase_duration_minutes", "minutes a phase took; phases record it themselves")
    },
    counter("agent_invocations", "calls of an agent"),
    MetricType { changes_book: false, ..gauge("npe_score", 100, "NPE score, 0 to 100") },
    MetricType { changes_book: false, ..gauge("commercial_score", 10, "market score, 0 to 10") },
    MetricType {
        changes_book: false,
        by_phase: true,
        ..gauge("gate_score", 100, "score of a gate, 0 to 100; gates record it themselves")
    },
    chapter_rating("cliffhanger_rating", "rating of a chapter's end, 0 to 10"),
    chapter_rating("act_break_rating", "rating of an act break, 0 to 10"),
    rating("opening_hook_rating", "rating of the opening, 0 to 10"),
    rating("inter_book_satisfaction", "how much the end satisfies, 0 to 10"),
    rating("inter_book_urgency", "how much the end asks for the next book, 0 to 10"),
    rating("finale_closure", "how well the last book closes the series, 0 to 10"),
    gauge("setup_payoff_unresolved", COUNT_MAX, "setups without payoff"),
    gauge("emotional_beats_unvalidated", COUNT_MAX, "emotional beats not validated"),
    gauge("continuity_critical_unresolved", COUNT_MAX, "critical continuity findings not resolved"),
    gauge(
        "continuity_moderate_unacknowledged",
        COUNT_MAX,
        "moderate continuity findings neither resolved nor acknowledged",
    ),
    gauge("knowledge_conflicts", COUNT_MAX, "characters who know what they cannot know"),
    gauge("timeline_conflicts", COUNT_MAX, "contradictions of the timeline"),
    gauge("chapters_planned", COUNT_MAX, "chapters that the book shall have"),
    gauge("chapter_outlines_approved", COUNT_MAX, "chapter outlines that are approved"),
    gauge("scenes_planned", COUNT_MAX, "scenes that the book shall have"),
    gauge("scenes_with_prose", COUNT_MAX, "scenes that are written"),
];

/// The known type of that name.
#[must_use]
pub fn known(name: &str) -> Option<&'static MetricType> {
    KNOWN.iter().find(|known| known.name == name)
}

/// The kind of a type; one that is not known counts.
#[must_use]
pub fn kind(name: &str) -> MetricKind {
    known(name).map_or(MetricKind::Counter, |known| known.kind)
}

/// Length of a metric type's name.
const NAME_MAX_CHARS: usize = 64;

/// Whether a text can name a metric type: letters, digits, `_`, `.` and `-`, a letter first.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX_CHARS
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Checks a value against what its type takes.
///
/// # Errors
/// What would be right, in words.
pub fn check_value(name: &str, value: Hundredths, correction: bool) -> Result<(), String> {
    let known = known(name);
    let correctable = known.is_some_and(|known| known.correctable);
    if correction && !correctable {
        let able: Vec<&str> = KNOWN.iter().filter(|k| k.correctable).map(|k| k.name).collect();
        return Err(format!("corrections are for {} only", able.join(", ")));
    }
    if value.0 < 0 && !correction {
        return Err(if correctable {
            "0 or more; with \"correction\": true a negative value takes back what was recorded"
                .to_owned()
        } else {
            "0 or more".to_owned()
        });
    }
    let max = known.map_or(VALUE_MAX, |known| known.max);
    if value.0.abs() > max * 100 {
        return Err(format!("a number up to {max}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> i64 {
        Hundredths::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).0
    }

    #[test]
    fn decimals_are_read_digit_by_digit() {
        for (text, hundredths) in [
            ("0", 0),
            ("2847", 284_700),
            ("2847.00", 284_700),
            ("45.5", 4_550),
            ("0.1", 10),
            ("0.29", 29),
            ("1.005", 101),
            ("-1.005", -101),
            ("1.004999999", 100),
            ("0.125", 13),
            ("0.004", 0),
            ("0.005", 1),
            ("0.0005", 0),
            ("1.5e3", 150_000),
            ("1e-2", 1),
            ("5e-3", 1),
            ("5e-4", 0),
            ("1e9", 100_000_000_000),
            ("0e99", 0),
        ] {
            assert_eq!(parse(text), hundredths, "{text}");
        }
    }

    #[test]
    fn what_is_no_decimal_or_too_large_is_refused() {
        for text in ["", "-", ".", "NaN", "inf", "1,5", "0x10", "1e", "1e+x", "1.2.3", " 1"] {
            assert!(Hundredths::parse(text).is_err(), "{text}");
        }
        for text in ["1000000000.01", "1e10", "1e300", "-1e10", "99999999999999999999"] {
            let error = Hundredths::parse(text).unwrap_err();
            assert!(error.contains("1000000000"), "{text}: {error}");
        }
    }

    #[test]
    fn a_second_is_two_hundredths_of_a_minute() {
        assert_eq!(Hundredths::minutes_of_ms(1_000), Hundredths(2));
        assert_eq!(Hundredths::minutes_of_ms(60_000), Hundredths(100));
        assert_eq!(Hundredths::minutes_of_ms(-5), Hundredths(0));
    }

    #[test]
    fn json_shows_whole_numbers_as_integers() {
        let shown = serde_json::to_string(&[Hundredths(284_700), Hundredths(4_550), Hundredths(1)]);
        assert_eq!(shown.unwrap(), "[2847,45.5,0.01]");
        assert_eq!(Hundredths(-50).text(), "-0.5");
        assert_eq!(Hundredths(1_234).text(), "12.34");
        assert_eq!(Hundredths(105).text(), "1.05");
    }

    #[test]
    fn names_are_unique_and_valid() {
        for (index, known) in KNOWN.iter().enumerate() {
            assert!(is_name(known.name));
            assert!(KNOWN[..index].iter().all(|other| other.name != known.name));
        }
        for bad in ["", "1a", "a b", "_a", "a;b", "é", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn corrections_are_declared_and_only_counters_know_them() {
        assert!(check_value("words_written", Hundredths(-100), true).is_ok());
        assert!(check_value("words_written", Hundredths(-100), false).is_err());
        assert!(check_value("npe_score", Hundredths(-100), true).is_err());
        assert!(check_value("npe_score", Hundredths(10_001), false).is_err());
        assert!(check_value("my_own", Hundredths(-1), false).is_err());
        assert!(check_value("my_own", Hundredths(-1), true).is_err());
    }

    proptest! {
        #[test]
        fn every_hundredth_survives_json(value in -VALUE_MAX * 100..=VALUE_MAX * 100) {
            let json = serde_json::to_string(&Hundredths(value)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Hundredths>(&json).unwrap(), Hundredths(value));
            prop_assert_eq!(Hundredths::parse(&Hundredths(value).text()), Ok(Hundredths(value)));
        }

        #[test]
        fn parsing_never_panics(text in "[-+]?[0-9.eE+-]{0,40}") {
            let _ = Hundredths::parse(&text);
        }
    }
}
