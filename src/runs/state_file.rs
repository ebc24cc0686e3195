//! `adw_state.json`, read tolerantly (`spec/adw.md` §1 and the layouts of the world).
//!
//! Python is the only writer. The daemon reads what it knows, keeps the whole object for those who
//! ask, and treats a torn or empty file as "not yet": the last good value stays.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::view::{FailureClass, Usage};
use crate::limits;

/// Why a state file could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateProblem {
    /// Zero bytes, or only blanks: a writer was caught between truncate and write.
    #[error("adw_state.json is empty; the last good copy is shown")]
    Empty,
    /// Not JSON, or cut short.
    #[error("adw_state.json is not valid JSON ({0}); the last good copy is shown")]
    Torn(String),
    /// JSON, but not an object.
    #[error("adw_state.json holds {0}, not an object; the last good copy is shown")]
    NotAnObject(&'static str),
    /// Larger than is read.
    #[error("adw_state.json has {bytes} bytes; at most {max} are read")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// It belongs to another run.
    #[error("adw_state.json names run {found:?}, not this one")]
    Foreign {
        /// The id it names.
        found: String,
    },
}

/// The last review that the state holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// The reviewer's own verdict.
    pub success: bool,
    /// Its summary.
    pub summary: String,
    /// How many findings have severity `blocker`.
    pub blockers: usize,
    /// When it was made, where the layout tells.
    pub reviewed_at: Option<String>,
}

/// What the last failing phase said of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct StateError {
    /// The phase.
    pub phase: Option<String>,
    /// The class, where it is one of ours.
    pub class: Option<FailureClass>,
    /// The sentence.
    pub message: String,
    /// Whether a retry can help.
    pub retryable: bool,
}

/// The state as the daemon understands it, with the whole object kept.
#[derive(Clone, Debug, PartialEq)]
pub struct AdwState {
    /// The whole object.
    pub raw: Map<String, Value>,
}

impl AdwState {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// A [`StateProblem`] that says what is wrong; none of them is a reason to forget what was
    /// known before.
    pub fn parse(bytes: &[u8]) -> Result<AdwState, StateProblem> {
        if bytes.len() as u64 > limits::STATE_FILE_BYTES {
            return Err(StateProblem::TooLarge {
                bytes: bytes.len() as u64,
                max: limits::STATE_FILE_BYTES,
            });
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(StateProblem::Empty);
        }
        match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Object(raw)) => Ok(AdwState { raw }),
            Ok(Value::Array(_)) => Err(StateProblem::NotAnObject("an array")),
            Ok(_) => Err(StateProblem::NotAnObject("a plain value")),
            Err(e) => Err(StateProblem::Torn(e.to_string())),
        }
    }

    /// Refuses a state that names another run; one that names none is taken.
    ///
    /// # Errors
    /// [`StateProblem::Foreign`].
    pub fn of_run(self, adw_id: &str) -> Result<AdwState, StateProblem> {
        match self.prose("adw_id") {
            Some(found) if found != adw_id => Err(StateProblem::Foreign { found }),
            _ => Ok(self),
        }
    }

    /// A name under a key: a non-empty text of at most [`limits::STATE_NAME_BYTES`]; a number is
    /// taken as its decimal form.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        text_of(self.raw.get(key)?)
    }

    /// Prose under a key, cut off after [`limits::STATE_PROSE_CHARS`].
    #[must_use]
    pub fn prose(&self, key: &str) -> Option<String> {
        prose_of(self.raw.get(key)?)
    }

    /// A boolean of a key; absent is `None`.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.raw.get(key)?.as_bool()
    }

    /// Title of the issue.
    #[must_use]
    pub fn issue_title(&self) -> Option<String> {
        prose_of(self.raw.get("issue")?.get("title")?)
    }

    /// Status words per phase.
    #[must_use]
    pub fn phase_status(&self) -> BTreeMap<String, String> {
        self.raw
            .get("phase_status")
            .and_then(Value::as_object)
            .map(|o| o.iter().filter_map(|(k, v)| Some((k.clone(), text_of(v)?))).collect())
            .unwrap_or_default()
    }

    /// URL of the pull request, if it has the form of one.
    #[must_use]
    pub fn pr_url(&self) -> Option<String> {
        self.text("pr_url").filter(|u| is_url(u))
    }

    /// The last review: an object, or (in layouts of the world) JSON inside a string.
    #[must_use]
    pub fn last_review(&self) -> Option<Review> {
        let value = match self.raw.get("last_review")? {
            Value::String(text) => serde_json::from_str(text).ok()?,
            other => other.clone(),
        };
        let object = value.as_object()?;
        let issues = object.get("review_issues").and_then(Value::as_array);
        let blockers = issues.map_or(0, |list| list.iter().filter(|i| is_blocker(i)).count());
        Some(Review {
            success: object.get("success")?.as_bool()?,
            summary: object.get("review_summary").and_then(prose_of).unwrap_or_default(),
            blockers,
            reviewed_at: object.get("reviewed_at").and_then(text_of),
        })
    }

    /// Usage of a phase, or `total`.
    #[must_use]
    pub fn usage(&self, part: &str) -> Option<Usage> {
        let o = self.raw.get("usage")?.get(part)?.as_object()?;
        let int = |k: &str| o.get(k).and_then(Value::as_i64).unwrap_or(0).max(0);
        Some(Usage {
            agent_calls: int("agent_calls"),
            input_tokens: int("input_tokens"),
            output_tokens: int("output_tokens"),
            cache_read_tokens: int("cache_read_tokens"),
            cache_creation_tokens: int("cache_creation_tokens"),
            cost_usd: o
                .get("cost_usd")
                .and_then(Value::as_f64)
                .filter(|c| c.is_finite())
                .unwrap_or(0.0),
            ..Usage::default()
        })
    }

    /// Commit at which a phase ended.
    #[must_use]
    pub fn head_commit(&self, phase: &str) -> Option<String> {
        text_of(self.raw.get("head_commit")?.get(phase)?)
    }

    /// What the last failing phase said.
    #[must_use]
    pub fn error(&self) -> Option<StateError> {
        let o = self.raw.get("error")?.as_object()?;
        Some(StateError {
            phase: o.get("phase").and_then(text_of),
            class: o.get("class").and_then(Value::as_str).and_then(FailureClass::parse),
            message: o.get("message").and_then(prose_of)?,
            retryable: o.get("retryable").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

/// A name. A whole page of runs shows theirs, so that none may be as large as a state file is.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(s) if s.len() > limits::STATE_NAME_BYTES => None,
        other => prose_of(other),
    }
}

fn prose_of(value: &Value) -> Option<String> {
    match value {
        // A NUL is no text: PostgreSQL refuses it, and a path with one leads nowhere.
        Value::String(s) if !s.is_empty() && !s.contains('\0') => {
            Some(match s.char_indices().nth(limits::STATE_PROSE_CHARS) {
                Some((end, _)) => format!("{}…", &s[..end]),
                None => s.clone(),
            })
        }
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

fn is_blocker(issue: &Value) -> bool {
    ["severity", "issue_severity"].iter().any(|k| {
        issue.get(*k).and_then(Value::as_str).is_some_and(|s| s.eq_ignore_ascii_case("blocker"))
    })
}

/// Whether a text is one URL and nothing else: a chatty agent's paragraph is not.
#[must_use]
pub fn is_url(text: &str) -> bool {
    let rest = ["https://", "http://", "file://"].iter().find_map(|s| text.strip_prefix(s));
    rest.is_some_and(|r| !r.is_empty())
        && text.len() <= 2048
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(text: &str) -> AdwState {
        AdwState::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn torn_empty_and_foreign_files_are_told_apart() {
        assert_eq!(AdwState::parse(b""), Err(StateProblem::Empty));
        assert_eq!(AdwState::parse(b" \n"), Err(StateProblem::Empty));
        assert!(matches!(AdwState::parse(b"{\"a\":"), Err(StateProblem::Torn(_))));
        assert!(matches!(AdwState::parse(b"[1]"), Err(StateProblem::NotAnObject("an array"))));
        let big = vec![b' '; usize::try_from(limits::STATE_FILE_BYTES).unwrap() + 1];
        assert!(matches!(AdwState::parse(&big), Err(StateProblem::TooLarge { .. })));
        assert!(matches!(
            state(r#"{"adw_id":"b"}"#).of_run("a"),
            Err(StateProblem::Foreign { .. })
        ));
        assert!(state("{}").of_run("a").is_ok());
    }

    #[test]
    fn reads_both_forms_of_a_review() {
        let object = state(
            r#"{"last_review":{"success":true,"review_summary":"ok","review_issues":[{"severity":"Blocker"},{"severity":"minor"}]}}"#,
        );
        let review = object.last_review().unwrap();
        assert_eq!((review.success, review.blockers), (true, 1));
        let text = state(
            r#"{"last_review":"{\"success\":false,\"review_summary\":\"no\",\"review_issues\":[{\"issue_severity\":\"blocker\"}]}"}"#,
        );
        assert_eq!(text.last_review().unwrap().blockers, 1);
        assert!(state(r#"{"last_review":"not json"}"#).last_review().is_none());
    }

    #[test]
    fn issue_numbers_may_be_text_or_number_and_nulls_are_absent() {
        assert_eq!(state(r#"{"issue_number":7}"#).text("issue_number").as_deref(), Some("7"));
        assert_eq!(state(r#"{"issue_number":"7"}"#).text("issue_number").as_deref(), Some("7"));
        assert_eq!(state(r#"{"branch_name":null}"#).text("branch_name"), None);
        assert_eq!(state(r#"{"branch_name":"a\u0000b"}"#).text("branch_name"), None);
    }

    #[test]
    fn a_paragraph_is_not_a_pull_request_url() {
        assert!(is_url("https://forge.test/o/r/pull/8"));
        assert!(!is_url("I created it: https://forge.test/o/r/pull/8"));
        assert!(!is_url("https://"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(s) = AdwState::parse(&bytes) {
                let _ = (s.last_review(), s.usage("total"), s.error(), s.phase_status(), s.pr_url());
            }
        }
    }
}
