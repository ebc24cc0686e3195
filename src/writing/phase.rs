//! The fourteen phases of a series as data, and what moves a workflow from one to another.
//!
//! Source of the list and of every rule: `spec/writing.md` §1d.

pub use super::phase_list::PHASES;
use super::word::words;

words! {
    /// Where the workflow stands in its phase.
    pub enum PhaseStatus {
        /// Work goes on.
        InProgress = "in_progress",
        /// A person must decide.
        WaitingApproval = "waiting_approval",
        /// A gate must be passed.
        WaitingQualityGate = "waiting_quality_gate",
        /// The series is finished.
        Completed = "completed",
        /// An approval was rejected.
        Failed = "failed",
    }

    /// A measured check.
    pub enum GateType {
        /// The series' structure, 0 to 100; passes from 80.
        NpeSeries = "npe_series",
        /// One scene, as reported, 0 to 100.
        NpeScene = "npe_scene",
        /// The market, 0 to 10; passes from 7.
        Commercial = "commercial",
    }

    /// A decision of a person.
    pub enum ApprovalType {
        /// On the plan of the whole series.
        SeriesPlan = "series_plan",
        /// On a finished book.
        BookCompletion = "book_completion",
        /// On the plan of a chapter; of the first book only.
        ChapterPlan = "chapter_plan",
    }

    /// Where an approval stands.
    pub enum ApprovalStatus {
        /// Asked for.
        Pending = "pending",
        /// Granted.
        Approved = "approved",
        /// Refused for good.
        Rejected = "rejected",
        /// Sent back.
        RevisionRequested = "revision_requested",
    }

    /// What a person decides.
    pub enum Decision {
        /// Granted.
        Approved = "approved",
        /// Refused for good.
        Rejected = "rejected",
        /// Sent back.
        RevisionRequested = "revision_requested",
    }

    /// Where one visit of a phase stands.
    pub enum VisitStatus {
        /// The workflow is in it.
        Started = "started",
        /// Left by completing it.
        Completed = "completed",
        /// Left because a gate or an approval failed it.
        Failed = "failed",
        /// Left without completing it.
        Skipped = "skipped",
    }
}

impl Decision {
    /// Where the approval stands after it.
    #[must_use]
    pub fn status(self) -> ApprovalStatus {
        match self {
            Decision::Approved => ApprovalStatus::Approved,
            Decision::Rejected => ApprovalStatus::Rejected,
            Decision::RevisionRequested => ApprovalStatus::RevisionRequested,
        }
    }
}

/// A phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its number, −1 to 12.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// The gate that must be passed in it.
    pub gate: Option<GateType>,
    /// The approval that must be given.
    pub approval: Option<ApprovalType>,
    /// What happens in it.
    pub description: &'static str,
    /// What must hold to complete it.
    pub requirements: &'static [&'static str],
    /// What it leaves.
    pub outputs: &'static [&'static str],
}

/// The first phase: nothing has begun.
pub const NOT_STARTED: i64 = -1;
/// The phase that designs the series; failed gates of the series return here.
pub const SERIES_ARCHITECT: i64 = 3;
/// The phase in which the plan is approved.
pub const USER_APPROVAL: i64 = 7;
/// The first phase of each book; failed scene gates return here.
pub const CHAPTER_PLANNING: i64 = 9;
/// The phase in which prose is written; a book can be completed from here on.
pub const WRITING_EXECUTION: i64 = 11;
/// The last phase, to which each book comes.
pub const BOOK_LOOP: i64 = 12;

/// Books of a series of which nothing else is said.
pub const DEFAULT_TOTAL_BOOKS: i64 = 5;

/// A commercial score that passes, and one below which the idea is rejected, in hundredths.
pub const COMMERCIAL_PASS: i64 = 700;
/// An NPE score of the series that passes, in hundredths.
pub const NPE_SERIES_PASS: i64 = 8_000;

/// The phase of that number.
#[must_use]
pub fn get(number: i64) -> Option<&'static Phase> {
    usize::try_from(number + 1).ok().and_then(|at| PHASES.get(at))
}

/// The phase's name; `Unknown` outside −1 to 12.
#[must_use]
pub fn name(number: i64) -> &'static str {
    get(number).map_or("Unknown", |phase| phase.name)
}

impl GateType {
    /// The phase that asks for it.
    #[must_use]
    pub fn phase(self) -> i64 {
        match self {
            GateType::NpeSeries => 4,
            GateType::Commercial => 5,
            GateType::NpeScene => 10,
        }
    }

    /// The largest score, in whole units.
    #[must_use]
    pub fn max(self) -> i64 {
        match self {
            GateType::NpeSeries | GateType::NpeScene => 100,
            GateType::Commercial => 10,
        }
    }

    /// Whether a score (in hundredths) passes; `None` where the reporter alone can tell.
    #[must_use]
    pub fn passes(self, score: i64) -> Option<bool> {
        match self {
            GateType::NpeSeries => Some(score >= NPE_SERIES_PASS),
            GateType::Commercial => Some(score >= COMMERCIAL_PASS),
            GateType::NpeScene => None,
        }
    }

    /// The score on the scale of 0 to 100, in hundredths.
    #[must_use]
    pub fn normalised(self, score: i64) -> i64 {
        match self {
            GateType::Commercial => score * 10,
            GateType::NpeSeries | GateType::NpeScene => score,
        }
    }

    /// The rule in words.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            GateType::NpeSeries => "npe_series passes from 80 of 100",
            GateType::Commercial => "commercial passes from 7 of 10",
            GateType::NpeScene => "npe_scene passes as reported",
        }
    }

    /// What to do after it.
    #[must_use]
    pub fn next_action(self, passed: bool) -> String {
        let back = match self {
            GateType::NpeSeries | GateType::Commercial => SERIES_ARCHITECT,
            GateType::NpeScene => CHAPTER_PLANNING,
        };
        if passed { "proceed".to_owned() } else { format!("return_to_phase_{back}") }
    }
}

/// What is known of the gates that were recorded during the present visit of a phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateFacts {
    /// Gates of the phase's type.
    pub recorded: i64,
    /// Subjects (the series, or scenes) of which the latest one failed.
    pub failing: i64,
}

impl GateFacts {
    /// Whether the gate is passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.recorded > 0 && self.failing == 0
    }
}

/// What the rules look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The current phase.
    pub phase: i64,
    /// Its status.
    pub status: PhaseStatus,
    /// The current book, from 1.
    pub book: i64,
    /// Books of the series.
    pub total_books: i64,
    /// Books whose completion is approved.
    pub books_approved: i64,
    /// Whether the current one is among them.
    pub book_approved: bool,
    /// Gates of the present visit.
    pub gates: GateFacts,
    /// Whether the newest approval of the series' plan is given, and no phase that makes the plan
    /// was entered after it was asked for.
    pub plan_approved: bool,
}

impl Facts {
    /// What is missing to complete the current phase; empty when nothing is.
    #[must_use]
    pub fn unmet(&self) -> Vec<Unmet> {
        let mut unmet = Vec::new();
        if self.status != PhaseStatus::InProgress {
            unmet.push(Unmet::Status(self.status));
        }
        let Some(phase) = get(self.phase) else { return unmet };
        if let Some(gate) = phase.gate.filter(|_| !self.gates.passed()) {
            unmet.push(Unmet::Gate { gate, failing: self.gates.failing });
        }
        match phase.approval {
            Some(ApprovalType::SeriesPlan) if !self.plan_approved => unmet.push(Unmet::Plan),
            Some(ApprovalType::BookCompletion) if self.books_approved < self.total_books => {
                unmet.push(self.next_book());
            }
            _ => {}
        }
        unmet
    }

    fn next_book(&self) -> Unmet {
        let (approved, of) = (self.books_approved, self.total_books);
        if self.book_approved {
            Unmet::NextBook { book: self.book + 1, approved, of }
        } else {
            Unmet::BookApproval { book: self.book, approved, of }
        }
    }
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The status must be `in_progress`.
    Status(PhaseStatus),
    /// A gate must be passed in this visit.
    Gate {
        /// Which.
        gate: GateType,
        /// Subjects whose latest gate failed; 0 when none was recorded.
        failing: i64,
    },
    /// The plan must be approved.
    Plan,
    /// The current book must be approved.
    BookApproval {
        /// Which.
        book: i64,
        /// Books that are.
        approved: i64,
        /// Of how many.
        of: i64,
    },
    /// The next book must be begun.
    NextBook {
        /// Which.
        book: i64,
        /// Books that are approved.
        approved: i64,
        /// Of how many.
        of: i64,
    },
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unmet::Status(PhaseStatus::WaitingApproval) => f.write_str(
                "the status is waiting_approval: submit_approval decides what \
                 get_pending_approvals lists",
            ),
            Unmet::Status(PhaseStatus::WaitingQualityGate) => f.write_str(
                "the status is waiting_quality_gate: record_quality_gate with a gate that passes, \
                 or advance_to_phase back",
            ),
            Unmet::Status(PhaseStatus::Failed) => {
                f.write_str("the status is failed: retry_failed_phase begins the phase again")
            }
            Unmet::Status(status) => write!(f, "the status is {status}"),
            Unmet::Gate { gate, failing: 0 } => {
                write!(f, "no {gate} gate was recorded since the phase began ({})", gate.rule())
            }
            Unmet::Gate { gate: GateType::NpeScene, failing } => {
                write!(f, "the latest npe_scene gate of {failing} scene(s) failed")
            }
            Unmet::Gate { gate, .. } => {
                write!(f, "the latest {gate} gate failed ({})", gate.rule())
            }
            Unmet::Plan => f.write_str(
                "the series_plan is not approved, or a phase up to 5 was entered after it was \
                 asked for: request_approval, then submit_approval",
            ),
            Unmet::BookApproval { book, approved, of } => write!(
                f,
                "{approved} of {of} books are approved: complete_book_iteration of book {book}, \
                 then submit_approval"
            ),
            Unmet::NextBook { book, approved, of } => write!(
                f,
                "{approved} of {of} books are approved: start_book_iteration of book {book} next"
            ),
        }
    }
}

/// How a request to be in another phase is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// It is there already.
    Stay,
    /// Back; the visit ends with that status.
    Back(VisitStatus),
    /// On to the next one; the present one is completed.
    Forward,
}

/// Judges a move to `target` (`spec/writing.md` §1a: back always, forward only to the next phase
/// when the current one can be completed).
///
/// # Errors
/// What is missing, or why there is no such move.
pub fn judge_move(facts: &Facts, target: i64, enforce: bool) -> Result<Move, Vec<String>> {
    if facts.status == PhaseStatus::Completed {
        return Err(vec!["the series is finished; nothing moves it any more".to_owned()]);
    }
    if target == facts.phase {
        return Ok(Move::Stay);
    }
    if target < facts.phase {
        return Ok(Move::Back(leaving(facts)));
    }
    if !enforce {
        return Ok(Move::Forward);
    }
    let mut problems = Vec::new();
    if target != facts.phase + 1 {
        problems.push(format!(
            "phases are entered one after the other: from {} the next one is {}",
            facts.phase,
            facts.phase + 1
        ));
    }
    problems.extend(facts.unmet().iter().map(ToString::to_string));
    if problems.is_empty() { Ok(Move::Forward) } else { Err(problems) }
}

/// The status of a visit that is left without completing it: failed where its gate failed
/// (`spec/writing.md` §4: "failed += 1 on fail, retry, gate return").
#[must_use]
pub fn leaving(facts: &Facts) -> VisitStatus {
    if facts.gates.failing > 0 || facts.status == PhaseStatus::Failed {
        VisitStatus::Failed
    } else {
        VisitStatus::Skipped
    }
}

/// The progress of the series in per cent (`spec/writing.md` §4): approved books, and the part of
/// the current one. A later book begins at phase 9, so its part counts from there.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small numbers")]
pub fn percent(facts: &Facts) -> i64 {
    let phase = facts.phase as f64;
    let part = if facts.book_approved {
        0.0
    } else if facts.book <= 1 {
        phase.max(0.0) / 12.0
    } else {
        ((phase - 9.0) / 3.0).clamp(0.0, 1.0)
    };
    let books = (facts.books_approved as f64 + part) / facts.total_books.max(1) as f64;
    ((100.0 * books).round() as i64).clamp(0, 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts(phase: i64) -> Facts {
        Facts {
            phase,
            status: PhaseStatus::InProgress,
            book: 1,
            total_books: 5,
            books_approved: 0,
            book_approved: false,
            gates: GateFacts::default(),
            plan_approved: false,
        }
    }

    #[test]
    fn the_fourteen_phases_are_numbered_from_minus_one() {
        for (phase, number) in PHASES.iter().zip(-1..) {
            assert_eq!(phase.number, number);
            assert_eq!(get(number), Some(phase));
            if let Some(gate) = phase.gate {
                assert_eq!(gate.phase(), number);
            }
        }
        assert_eq!(get(-2), None);
        assert_eq!(get(13), None);
        assert_eq!(name(13), "Unknown");
    }

    #[test]
    fn gates_pass_by_their_thresholds() {
        assert_eq!(GateType::NpeSeries.passes(8_000), Some(true));
        assert_eq!(GateType::NpeSeries.passes(7_999), Some(false));
        assert_eq!(GateType::Commercial.passes(700), Some(true));
        assert_eq!(GateType::Commercial.passes(699), Some(false));
        assert_eq!(GateType::NpeScene.passes(0), None);
        assert_eq!(GateType::Commercial.normalised(750), 7_500);
        assert_eq!(GateType::Commercial.next_action(false), "return_to_phase_3");
        assert_eq!(GateType::NpeScene.next_action(false), "return_to_phase_9");
        assert_eq!(GateType::NpeScene.next_action(true), "proceed");
    }

    #[test]
    fn a_gate_phase_needs_a_gate_of_its_own_visit() {
        let mut at = facts(4);
        assert_eq!(at.unmet(), [Unmet::Gate { gate: GateType::NpeSeries, failing: 0 }]);
        at.gates = GateFacts { recorded: 2, failing: 1 };
        assert_eq!(at.unmet(), [Unmet::Gate { gate: GateType::NpeSeries, failing: 1 }]);
        at.gates.failing = 0;
        assert_eq!(at.unmet(), []);
    }

    #[test]
    fn forward_is_one_step_and_back_is_always() {
        assert_eq!(judge_move(&facts(3), 4, true), Ok(Move::Forward));
        assert!(judge_move(&facts(3), 5, true).is_err());
        assert_eq!(judge_move(&facts(3), 5, false), Ok(Move::Forward));
        assert_eq!(judge_move(&facts(3), 3, true), Ok(Move::Stay));
        assert_eq!(judge_move(&facts(3), 0, true), Ok(Move::Back(VisitStatus::Skipped)));
        let mut at = facts(4);
        at.status = PhaseStatus::WaitingQualityGate;
        at.gates = GateFacts { recorded: 1, failing: 1 };
        assert_eq!(judge_move(&at, 3, true), Ok(Move::Back(VisitStatus::Failed)));
        at.status = PhaseStatus::Completed;
        assert!(judge_move(&at, 3, true).is_err());
    }

    #[test]
    fn the_last_phase_names_the_book_that_is_next() {
        let mut at = Facts { books_approved: 1, book_approved: true, ..facts(12) };
        assert_eq!(at.unmet(), [Unmet::NextBook { book: 2, approved: 1, of: 5 }]);
        at.book_approved = false;
        at.book = 2;
        assert_eq!(at.unmet(), [Unmet::BookApproval { book: 2, approved: 1, of: 5 }]);
        at.books_approved = 5;
        assert_eq!(at.unmet(), []);
    }

    #[test]
    fn progress_counts_books_and_the_part_of_the_current_one() {
        assert_eq!(percent(&facts(-1)), 0);
        assert_eq!(percent(&facts(6)), 10);
        assert_eq!(percent(&Facts { book: 2, books_approved: 1, ..facts(9) }), 20);
        assert_eq!(percent(&Facts { book: 2, books_approved: 1, ..facts(12) }), 40);
        let done = Facts { book: 5, books_approved: 5, book_approved: true, ..facts(12) };
        assert_eq!(percent(&done), 100);
    }

    proptest! {
        #[test]
        fn progress_stays_between_0_and_100(
            phase in -1_i64..=12, book in 1_i64..80, approved in 0_i64..80, total in 0_i64..20,
            book_approved: bool,
        ) {
            let at = Facts {
                book, books_approved: approved, total_books: total, book_approved, ..facts(phase)
            };
            prop_assert!((0..=100).contains(&percent(&at)));
        }

        #[test]
        fn no_enforced_move_skips_a_phase(phase in -1_i64..=12, target in -1_i64..=12) {
            if let Ok(Move::Forward) = judge_move(&facts(phase), target, true) {
                prop_assert_eq!(target, phase + 1);
            }
        }
    }
}
