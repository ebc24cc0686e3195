//! The six revision passes of a book, as data and rules (`spec/writing.md` §1b, §3 12–17).

use super::word::words;

/// Passes of a book.
pub const TOTAL: i64 = 6;

/// The pass that is the automated QA report: it changes nothing and cannot be skipped.
pub const FINAL_QA: i64 = 6;

const NAMES: [&str; 6] =
    ["structural", "continuity", "dialogue", "emotional", "line_edit", "final_qa"];

/// The name of a pass; `None` outside 1 to 6.
#[must_use]
pub fn name(number: i64) -> Option<&'static str> {
    usize::try_from(number - 1).ok().and_then(|at| NAMES.get(at).copied())
}

/// All passes with their names, for error texts.
#[must_use]
pub fn list() -> String {
    let numbered: Vec<String> =
        NAMES.iter().enumerate().map(|(at, name)| format!("{} {name}", at + 1)).collect();
    numbered.join(", ")
}

/// Whether `given` names that pass: `Line Edit`, `line-edit` and `line_edit` are one.
#[must_use]
pub fn is_named(number: i64, given: &str) -> bool {
    let plain: String = given
        .trim()
        .chars()
        .map(|c| if matches!(c, ' ' | '-') { '_' } else { c.to_ascii_lowercase() })
        .collect();
    name(number) == Some(plain.as_str())
}

words! {
    /// Where a pass stands.
    pub enum PassStatus {
        /// Not begun.
        Pending = "pending",
        /// Begun.
        InProgress = "in_progress",
        /// Done.
        Complete = "complete",
        /// Left out, with a reason.
        Skipped = "skipped",
    }
}

/// What is done to a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Begin it, perhaps once more.
    Start,
    /// End it with its findings.
    Complete,
    /// Leave it out.
    Skip,
}

/// The status after an act.
///
/// # Errors
/// Why not, and what could be done instead.
pub fn after(number: i64, from: PassStatus, act: Act) -> Result<PassStatus, &'static str> {
    match (act, from) {
        (Act::Start, PassStatus::InProgress) => {
            Err("it is in progress already; complete_revision_pass ends it")
        }
        (Act::Start, _) => Ok(PassStatus::InProgress),
        (Act::Complete, PassStatus::InProgress) => Ok(PassStatus::Complete),
        (Act::Complete, _) => Err("it is not in progress; start_revision_pass begins it"),
        (Act::Skip, _) if number == FINAL_QA => {
            Err("the final QA cannot be skipped; run_qa_checklist can be run at any time")
        }
        (Act::Skip, PassStatus::Complete) => Err("it is complete already"),
        (Act::Skip, PassStatus::Skipped) => Err("it is skipped already"),
        (Act::Skip, _) => Ok(PassStatus::Skipped),
    }
}

/// Whether QA may follow: passes 1 to 5 each complete or skipped.
#[must_use]
pub fn ready_for_qa(statuses: &[(i64, PassStatus)]) -> bool {
    (1..FINAL_QA).all(|number| {
        statuses.iter().any(|(n, status)| {
            *n == number && matches!(status, PassStatus::Complete | PassStatus::Skipped)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_one_number() {
        assert!(is_named(5, "Line Edit") && is_named(5, "line-edit") && is_named(1, " structural"));
        assert!(!is_named(1, "dialogue") && !is_named(9, "nonsense") && !is_named(0, ""));
        assert_eq!(name(6), Some("final_qa"));
        assert_eq!(name(7), None);
        assert_eq!(name(i64::MIN + 1), None);
    }

    #[test]
    fn qa_may_follow_when_the_first_five_are_settled() {
        let all = |status| (1..=6).map(|n| (n, status)).collect::<Vec<_>>();
        assert!(ready_for_qa(&all(PassStatus::Complete)), "also at 6 of 6");
        let mut five = all(PassStatus::Complete);
        five[5].1 = PassStatus::Pending;
        assert!(ready_for_qa(&five));
        five[2].1 = PassStatus::Skipped;
        assert!(ready_for_qa(&five));
        let without_five: Vec<_> =
            [1, 2, 3, 4, 6].map(|n| (n, PassStatus::Complete)).into_iter().collect();
        assert!(!ready_for_qa(&without_five));
    }

    #[test]
    fn a_pass_moves_only_as_it_may() {
        use PassStatus::{Complete, InProgress, Pending, Skipped};
        assert_eq!(after(1, Pending, Act::Start), Ok(InProgress));
        assert_eq!(after(1, Complete, Act::Start), Ok(InProgress));
        assert_eq!(after(1, Skipped, Act::Start), Ok(InProgress));
        assert!(after(1, InProgress, Act::Start).is_err());
        assert_eq!(after(1, InProgress, Act::Complete), Ok(Complete));
        assert!(after(1, Pending, Act::Complete).is_err());
        assert!(after(1, Complete, Act::Complete).is_err());
        assert_eq!(after(3, Pending, Act::Skip), Ok(Skipped));
        assert!(after(6, Pending, Act::Skip).is_err());
        assert!(after(3, Complete, Act::Skip).is_err());
    }
}
