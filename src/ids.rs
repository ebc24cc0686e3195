//! Names of things as validated newtypes, and the randomness they are made from.
//!
//! A value of one of these types has been checked: it is safe as a file name, as a git ref
//! component, as an argument and in a log line. The check sits in one place, at the edge.

use std::fmt::{self, Debug, Display};
use std::str::FromStr;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How much of a refused value is repeated in the error, in characters.
const GIVEN_SHOWN_MAX_CHARS: usize = 40;

/// Length of a generated run id in characters.
const RUN_ID_CHARS: usize = 8;

/// Length of the random part of a generated execution id in characters.
const EXECUTION_ID_CHARS: usize = 12;

/// A value that is not a valid identifier of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{given} is not a valid {kind}: expected {expected}")]
pub struct IdError {
    /// What the value should have been: `run id`, `issue number`...
    pub kind: &'static str,
    /// The value that was given, quoted, escaped and clipped.
    pub given: String,
    /// The rule, in words a caller can follow.
    pub expected: &'static str,
}

impl IdError {
    fn new(kind: &'static str, given: &str, expected: &'static str) -> IdError {
        let mut shown: String = given.chars().take(GIVEN_SHOWN_MAX_CHARS).collect();
        if shown.len() < given.len() {
            shown.push('…');
        }
        IdError { kind, given: format!("{shown:?}"), expected }
    }
}

/// True when `text` is one `first` character and then up to `max_chars - 1` of `rest`.
fn matches(text: &str, max_chars: usize, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match bytes.split_first() {
        Some((head, tail)) => {
            bytes.len() <= max_chars && first(*head) && tail.iter().all(|b| rest(*b))
        }
        None => false,
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $canonical:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and makes the identifier.
            pub fn parse(text: &str) -> Result<$name, IdError> {
                let canonical: fn(&str) -> Option<String> = $canonical;
                match canonical(text) {
                    Some(text) => Ok($name(text)),
                    None => Err(IdError::new($kind, text, $expected)),
                }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<$name, IdError> {
                $name::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<$name, IdError> {
                $name::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &$name) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
    };
}

macro_rules! ordered_as_text {
    ($($name:ident),*) => {$(
        impl Ord for $name {
            fn cmp(&self, other: &$name) -> std::cmp::Ordering {
                self.0.cmp(&other.0)
            }
        }
    )*};
}

identifier!(
    /// Id of a run (`adw_id` on the wire).
    RunId,
    "run id (adw_id)",
    "1 to 64 letters, digits, '_' or '-', starting with a letter or digit, as in \"k3v9x2ab\"",
    |text| {
        matches(
            text,
            64,
            |b| b.is_ascii_alphanumeric(),
            |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-',
        )
        .then(|| text.to_owned())
    }
);

identifier!(
    /// Number of an issue on the forge, in decimal.
    ///
    /// `007` is accepted and means `7`: the canonical form has no leading zeros, so that one issue
    /// never has two names. Ordered as a number.
    IssueNumber,
    "issue number",
    "1 to 10 decimal digits without sign or '#', as in \"42\"",
    |text| {
        matches(text, 10, |b| b.is_ascii_digit(), |b| b.is_ascii_digit()).then(|| {
            let digits = text.trim_start_matches('0');
            if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
        })
    }
);

identifier!(
    /// Name of a phase: `plan`, `build`, `review` or one that a profile adds.
    PhaseName,
    "phase name",
    "1 to 32 lower-case letters, digits or '_', starting with a letter, as in \"plan\"",
    |text| {
        matches(
            text,
            32,
            |b| b.is_ascii_lowercase(),
            |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_',
        )
        .then(|| text.to_owned())
    }
);

identifier!(
    /// Name under which a project is served.
    ProjectName,
    "project name",
    "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit, as in \"my-app\"",
    |text| {
        matches(
            text,
            64,
            |b| b.is_ascii_alphanumeric(),
            |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'),
        )
        .then(|| text.to_owned())
    }
);

identifier!(
    /// Id of a step workflow's execution (`execution_id`, `task_id` on the wire). Words that mean
    /// something else in its place in a URI are taken (`spec/steps.md` §2.4).
    ExecutionId,
    "execution id",
    "1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit, and none of \
     recent, final, type, active, all, default",
    |text| {
        let form = matches(
            text,
            128,
            |b| b.is_ascii_alphanumeric(),
            |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'),
        );
        let taken = ["recent", "final", "type", "active", "all", "default"].contains(&text);
        (form && !taken).then(|| text.to_owned())
    }
);

ordered_as_text!(RunId, PhaseName, ProjectName, ExecutionId);

impl Ord for IssueNumber {
    fn cmp(&self, other: &IssueNumber) -> std::cmp::Ordering {
        // Canonical decimals: the longer one is the larger one.
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl RunId {
    /// Makes a new id: 8 of `[0-9a-z]`, the first a letter.
    ///
    /// The letter keeps an id from ever reading as a number (`12345678`, `1e234567`), which YAML,
    /// shells and people would take for an issue.
    pub fn generate(rng: &dyn Rng) -> RunId {
        RunId(random_text(rng, RUN_ID_CHARS))
    }
}

impl ExecutionId {
    /// Makes a new id: `exec_` and 12 of `[0-9a-z]`.
    pub fn generate(rng: &dyn Rng) -> ExecutionId {
        ExecutionId(format!("exec_{}", random_text(rng, EXECUTION_ID_CHARS)))
    }
}

/// So many of `[0-9a-z]`, the first a letter.
fn random_text(rng: &dyn Rng, chars: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let mut byte = [0_u8];
        rng.fill(&mut byte);
        let letters = if text.is_empty() { 26_u8 } else { 36 };
        // Bytes past the last whole multiple would make the first letters likelier.
        if byte[0] < letters * (u8::MAX / letters) {
            text.push(char::from(ALPHABET[usize::from(byte[0] % letters)]));
        }
    }
    text
}

/// A source of random bytes.
pub trait Rng: Send + Sync + Debug {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's random generator.
#[derive(Copy, Clone, Debug, Default)]
pub struct OsRng;

impl Rng for OsRng {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness ids and keys would be guessable: going on would be the worse failure.
        if let Err(error) = getrandom::fill(bytes) {
            panic!("cannot read random bytes from the operating system: {error}");
        }
    }
}

/// A generator that repeats itself for the same seed. For tests only.
#[derive(Debug)]
pub struct TestRng(Mutex<u64>);

impl TestRng {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> TestRng {
        TestRng(Mutex::new(seed))
    }
}

impl Rng for TestRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            // splitmix64
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_error_says_what_is_right() {
        let error = RunId::parse("-bad").unwrap_err().to_string();
        assert!(error.starts_with("\"-bad\" is not a valid run id"), "{error}");
        assert!(error.contains("1 to 64 letters"), "{error}");
        let hostile = format!("\u{1b}[2J{}", "x".repeat(500));
        let error = RunId::parse(&hostile).unwrap_err();
        assert!(error.given.chars().count() < 60 && !error.given.contains('\u{1b}'));
    }

    #[test]
    fn each_kind_has_its_own_rule() {
        for good in ["a", "0", "A-b_C", &"x".repeat(64)] {
            assert!(RunId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", "-a", "a/b", "..", "a b", "é", "a\n", &"x".repeat(65)] {
            assert!(RunId::parse(bad).is_err(), "{bad}");
        }
        for good in ["a", "exec_001", "A.b-c_D", &"x".repeat(128), "allx"] {
            assert!(ExecutionId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "a b", "a/b", "é", "recent", "all", "default", &"x".repeat(129)] {
            assert!(ExecutionId::parse(bad).is_err(), "{bad}");
        }
        assert!(PhaseName::parse("plan_2").is_ok());
        assert!(PhaseName::parse("Plan").is_err());
        assert!(ProjectName::parse("my.app-1").is_ok());
        assert!(ProjectName::parse("..").is_err());
        assert!(ProjectName::parse(".git").is_err());
    }

    #[test]
    fn an_issue_number_has_one_name_and_sorts_as_a_number() {
        let parse = |text: &str| IssueNumber::parse(text).map(String::from);
        assert_eq!(parse("007").as_deref(), Ok("7"));
        assert_eq!(parse("000").as_deref(), Ok("0"));
        for bad in ["", "#7", "-7", "7 ", "12345678901", "7.0"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let (nine, ten) = (IssueNumber::parse("9").unwrap(), IssueNumber::parse("10").unwrap());
        assert!(nine < ten);
    }

    #[test]
    fn serde_validates() {
        let id: RunId = serde_json::from_str("\"abc\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"abc\"");
        assert!(serde_json::from_str::<RunId>("\"a b\"").is_err());
    }

    #[test]
    fn generated_ids_are_valid_distinct_and_repeatable_by_seed() {
        let rng = TestRng::new(1);
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| RunId::generate(&rng)).collect();
        assert_eq!(ids.len(), 1000);
        for id in &ids {
            assert_eq!(id.as_str().len(), RUN_ID_CHARS);
            assert!(id.as_str().as_bytes()[0].is_ascii_lowercase());
            assert!(RunId::parse(id.as_str()).is_ok());
        }
        assert_eq!(RunId::generate(&TestRng::new(7)), RunId::generate(&TestRng::new(7)));
        assert_ne!(RunId::generate(&OsRng), RunId::generate(&OsRng));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_idempotent(text in ".*") {
            if let Ok(id) = IssueNumber::parse(&text) {
                prop_assert_eq!(IssueNumber::parse(id.as_str()).unwrap(), id);
            }
            if let Ok(id) = RunId::parse(&text) {
                prop_assert_eq!(id.as_str(), &text);
            }
        }
    }
}
