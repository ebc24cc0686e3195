//! The verdict on one attempt of a phase: evidence in, outcome out, no I/O.
//!
//! Order of belief (`design.md` §7): an asked-for stop wins; then the exit; then what the script
//! says of itself; and exit 0 counts only when the post-conditions hold. A `STATUS=completed`
//! never beats anything.

use super::marker::StatusMarker;
use super::profile::Post;
use super::state_file::StateError;
use super::view::{Failure, FailureClass};

/// Why the process tree was ended, where it did not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody cancelled the run.
    Cancel,
    /// The wall-clock limit of the phase passed.
    WallLimit,
    /// Nothing was heard for the silence limit.
    Silence,
    /// The log outgrew its bound.
    LogLimit,
    /// The monitor was told to stop by a signal from outside the daemon.
    Signal,
    /// A budget is used up.
    Budget,
}

/// How the leader of the process tree ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with a code.
    Exited(i32),
    /// It was ended by a signal.
    Signalled(i32),
    /// It never began.
    NeverBegan(String),
    /// Nobody recorded how: the monitor died with it.
    Unrecorded,
    /// The folder of its records is gone, so it was ended.
    RecordsGone,
}

/// One checked post-condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Which.
    pub post: Post,
    /// `None` where it holds, else what was found instead.
    pub problem: Option<String>,
}

/// Everything a verdict rests on.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Name of the phase.
    pub phase: String,
    /// A stop that was asked for.
    pub stopped: Option<Stopped>,
    /// The ending.
    pub ending: Ending,
    /// Last `STATUS` marker.
    pub status: Option<StatusMarker>,
    /// The layout's own sign that the issue is out of scope, with its words.
    pub skipped: Option<String>,
    /// The post-conditions.
    pub checks: Vec<Checked>,
    /// What the script wrote of its failure.
    pub error: Option<StateError>,
    /// Whether exit codes mean what `spec/adw.md` §3 says.
    pub our_codes: bool,
    /// Whether at least those from 10 on do.
    pub coded: bool,
    /// The budget that is used up, as a sentence.
    pub budget: Option<String>,
    /// Last lines of the log.
    pub log_tail: Vec<String>,
    /// Limits, for the sentence: wall clock and silence, in milliseconds.
    pub wall_ms: u64,
    /// See `wall_ms`.
    pub silence_ms: u64,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The phase did its work.
    Completed,
    /// The issue is out of scope.
    Skipped(String),
    /// It failed.
    Failed(Failure),
    /// Somebody ended it.
    Cancelled(Failure),
    /// A limit ended it.
    TimedOut(Failure),
    /// Its end is unknown and its work is not there.
    Lost(Failure),
}

impl Verdict {
    /// The failure inside, where there is one.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Verdict::Completed | Verdict::Skipped(_) => None,
            Verdict::Failed(f)
            | Verdict::Cancelled(f)
            | Verdict::TimedOut(f)
            | Verdict::Lost(f) => Some(f),
        }
    }
}

/// Judges one attempt.
#[must_use]
pub fn judge(e: &Evidence) -> Verdict {
    if let Some(stopped) = e.stopped {
        return judge_stopped(e, stopped);
    }
    match &e.ending {
        Ending::NeverBegan(why) => Verdict::Failed(failure(
            e,
            FailureClass::Environment,
            format!("the {} phase could not be started: {why}", e.phase),
            false,
        )),
        Ending::Signalled(signal) => Verdict::Failed(by_signal(e, *signal)),
        Ending::Exited(0) => judge_zero(e),
        Ending::Exited(code) => match &e.skipped {
            // A layout without codes of its own may say "out of scope" with a failing one.
            Some(reason) if !e.our_codes => Verdict::Skipped(reason.clone()),
            _ => Verdict::Failed(by_code(e, *code)),
        },
        Ending::Unrecorded | Ending::RecordsGone => judge_unrecorded(e),
    }
}

fn judge_stopped(e: &Evidence, stopped: Stopped) -> Verdict {
    let minutes = |ms: u64| {
        if ms >= 120_000 { format!("{} min", ms / 60_000) } else { format!("{} s", ms / 1000) }
    };
    match stopped {
        Stopped::Cancel => Verdict::Cancelled(failure(
            e,
            FailureClass::Cancelled,
            format!("cancelled during {}", e.phase),
            false,
        )),
        Stopped::Signal => Verdict::Cancelled(failure(
            e,
            FailureClass::Cancelled,
            format!("the monitor of {} was told to stop by a signal from outside", e.phase),
            false,
        )),
        Stopped::WallLimit => Verdict::TimedOut(failure(
            e,
            FailureClass::Timeout,
            format!("{} ran longer than its limit of {}", e.phase, minutes(e.wall_ms)),
            false,
        )),
        Stopped::Silence => Verdict::TimedOut(failure(
            e,
            FailureClass::Timeout,
            format!(
                "{} gave no sign of life for {}: no output, no state change, no agent output",
                e.phase,
                minutes(e.silence_ms)
            ),
            false,
        )),
        Stopped::Budget => Verdict::Failed(failure(
            e,
            FailureClass::Budget,
            e.budget.clone().unwrap_or_else(|| format!("{} used its budget up", e.phase)),
            false,
        )),
        Stopped::LogLimit => Verdict::Failed(failure(
            e,
            FailureClass::Internal,
            format!("{} wrote more to its log than is kept", e.phase),
            false,
        )),
    }
}

fn judge_zero(e: &Evidence) -> Verdict {
    if e.status == Some(StatusMarker::Failed) {
        let (class, message, retryable) = match &e.error {
            Some(err) => {
                (err.class.unwrap_or(FailureClass::Validation), err.message.clone(), err.retryable)
            }
            None => (
                FailureClass::Validation,
                format!("{} said STATUS=failed and exited 0", e.phase),
                false,
            ),
        };
        return Verdict::Failed(failure(e, class, message, retryable));
    }
    if let Some(reason) = &e.skipped {
        return Verdict::Skipped(reason.clone());
    }
    match broken(e) {
        None => Verdict::Completed,
        Some(what) => Verdict::Failed(failure(
            e,
            FailureClass::Validation,
            format!("{} exited 0, but its work is not there: {what}", e.phase),
            false,
        )),
    }
}

/// The monitor died with its child: the work itself is the only witness.
fn judge_unrecorded(e: &Evidence) -> Verdict {
    if e.skipped.is_some() && e.status == Some(StatusMarker::Skipped) {
        return Verdict::Skipped(e.skipped.clone().unwrap_or_default());
    }
    match broken(e) {
        None if !e.checks.is_empty() && e.error.is_none() => Verdict::Completed,
        _ => Verdict::Lost(failure(
            e,
            FailureClass::Lost,
            match e.ending {
                Ending::RecordsGone => format!(
                    "{} lost the folder of its log and records while it was at work (deleted, perhaps by its own agent), so it was ended",
                    e.phase
                ),
                _ => format!(
                    "the processes of {} vanished and nobody recorded how they ended (machine restarted, or killed)",
                    e.phase
                ),
            },
            true,
        )),
    }
}

fn broken(e: &Evidence) -> Option<String> {
    let problems: Vec<&str> = e.checks.iter().filter_map(|c| c.problem.as_deref()).collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn failure(e: &Evidence, class: FailureClass, message: String, retryable: bool) -> Failure {
    Failure {
        class,
        message,
        retryable,
        phase: Some(e.phase.clone()),
        log_tail: e.log_tail.clone(),
    }
}

fn by_signal(e: &Evidence, signal: i32) -> Failure {
    let (message, retryable) = match signal {
        9 => (
            format!(
                "{} was killed (signal 9): by the kernel for want of memory, or by somebody",
                e.phase
            ),
            true,
        ),
        2 | 15 => {
            (format!("{} was ended by signal {signal} from outside the daemon", e.phase), false)
        }
        _ => (format!("{} crashed with signal {signal}", e.phase), false),
    };
    let class =
        if matches!(signal, 2 | 15) { FailureClass::Cancelled } else { FailureClass::Internal };
    failure(e, class, message, retryable)
}

/// Class, default sentence and default for "a retry can help" of an exit code
/// (`spec/adw.md` §3).
#[must_use]
pub fn code_meaning(code: i32) -> (FailureClass, &'static str, bool) {
    use FailureClass::{Agent, Cancelled, Forge, Git, Internal, Validation};
    match code {
        2 => (Internal, "the script refused its arguments or settings", false),
        3 => (Validation, "the state file is missing or invalid", false),
        4 => (Validation, "the worktree is missing", false),
        5 => (Validation, "the plan is missing", false),
        10 => (Validation, "the review found blockers", false),
        11 => (Validation, "the project's check command failed", false),
        20 => (Agent, "the agent failed", false),
        21 => (Agent, "the agent passed its time limit", false),
        22 => (Agent, "the agent's output was unusable", false),
        30 => (Forge, "the forge is unavailable", true),
        31 => (Git, "a git command failed", false),
        32 => (Git, "the push was rejected", false),
        33 => (Git, "the repository has no remote", false),
        130 => (Cancelled, "interrupted from outside the daemon", false),
        137 => (Internal, "killed, for want of memory or by somebody", true),
        143 => (Cancelled, "terminated from outside the daemon", false),
        _ => (Internal, "internal error of the script", false),
    }
}

fn by_code(e: &Evidence, code: i32) -> Failure {
    // Signals that uv reports as 128+N mean the same in every layout.
    if e.our_codes || (e.coded && code >= 10) || matches!(code, 130 | 137 | 143) {
        let (class, sentence, retryable) = code_meaning(code);
        return match &e.error {
            Some(err)
                if err.phase.as_deref().is_none_or(|p| p == e.phase) && !matches!(code, 137) =>
            {
                // The scripts' own class is finer than the code: an issue that is not there has
                // the code of the forge, and is no fault of the forge. Limits and stops are ours to
                // name: an agent's own time limit is a failure of the agent, which may heal.
                let ours =
                    matches!(err.class, Some(FailureClass::Timeout | FailureClass::Cancelled));
                match err.class {
                    // The agent was told what is left and kept to it: which budget that was, and
                    // what was spent of it, is known here.
                    Some(FailureClass::Budget) => {
                        let told = e.budget.clone().unwrap_or_else(|| err.message.clone());
                        failure(e, FailureClass::Budget, told, false)
                    }
                    Some(finer) if finer != class && !ours && !matches!(code, 130 | 143) => {
                        failure(e, finer, err.message.clone(), err.retryable)
                    }
                    _ => failure(e, class, format!("{sentence}: {}", err.message), err.retryable),
                }
            }
            // A script that stopped before it had a state file says why in its log alone.
            _ => {
                let mut tail = e.log_tail.iter().rev();
                let said = tail.find_map(|line| line.trim_start().strip_prefix("error: "));
                let said = said.map(|words| format!(": {words}")).unwrap_or_default();
                failure(
                    e,
                    class,
                    format!("{sentence} ({} exited {code}){said}", e.phase),
                    retryable,
                )
            }
        };
    }
    let class = guess_class(&e.log_tail);
    let cause = telling_line(&e.log_tail).unwrap_or("the log does not say why");
    failure(
        e,
        class,
        format!("{} exited {code}: {cause}", e.phase),
        matches!(class, FailureClass::Forge),
    )
}

/// The line of a log tail that most likely names the cause.
#[must_use]
pub fn telling_line(tail: &[String]) -> Option<&str> {
    let marks =
        ["error", "fatal", "failed", "missing", "not found", "denied", "exception", "rejected]"];
    // They name no cause: that of a push is on the line before.
    let empty = ["phase metrics saved", "failed to push some refs"];
    let telling = tail.iter().rev().find(|l| {
        let low = l.to_ascii_lowercase();
        marks.iter().any(|m| low.contains(m)) && !empty.iter().any(|e| low.contains(e))
    });
    telling.or_else(|| tail.iter().rev().find(|l| !l.trim().is_empty())).map(|l| l.trim())
}

/// A class for the scripts of others, whose exit codes say little: from the words of their log.
#[must_use]
pub fn guess_class(tail: &[String]) -> FailureClass {
    let Some(line) = telling_line(tail) else {
        return FailureClass::Internal;
    };
    let low = line.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| low.contains(w));
    if has(&["claude", "agent", "anthropic", "codex", "api error"]) {
        FailureClass::Agent
    } else if has(&["gh ", "github", "issue comment", "pull request"]) {
        FailureClass::Forge
    } else if has(&["git ", "push", "branch", "worktree", "fatal:", "rejected]"]) {
        FailureClass::Git
    } else if has(&["missing", "prerequisite", "no such file", "modulenotfound", "template"]) {
        FailureClass::Environment
    } else if has(&["blocker", "review", "validation"]) {
        FailureClass::Validation
    } else {
        FailureClass::Internal
    }
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
