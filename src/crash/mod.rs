//! The moments at which this program can be killed in a run, what each leaves, and what the next
//! look makes of it: the one table of crash points.
//!
//! Tests make the daemon, the monitor or the Python side die at each of them
//! (`tests/it/points.rs`); `tests/it/points/table.rs` insists that each stands in the code once, that
//! each has a test, and that no write, start, rename or commit of a run is without one.
//!
//! In debug builds [`here`] ends the process where a test has armed the point (`crash/switch.rs`).
//! In release builds it is nothing.

#[cfg(debug_assertions)]
mod switch;

use std::ffi::OsString;

/// Who dies at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The daemon.
    Daemon,
    /// The monitor of a phase.
    Monitor,
    /// The daemon or the monitor: both write records.
    Either,
    /// A phase script.
    Python,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The point.
    pub point: Point,
    /// Its name: for a test that arms it, and on the Python side for the code.
    pub name: &'static str,
    /// Who dies.
    pub who: Who,
    /// The file that holds it, below `src/runs/`, or `automation/adws/adw_modules/`.
    pub file: &'static str,
    /// What is left.
    pub left: &'static str,
    /// What the next look makes of it.
    pub then: &'static str,
}

macro_rules! points {
    ($($who:ident $file:literal { $($point:ident $name:literal: $left:literal => $then:literal;)* })*) => {
        /// A moment at which this program can be killed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[doc = concat!("Left: ", $left, ". Then: ", $then, ".")] $point,)*)*
        }

        /// All of them, in the order of a run.
        pub const TABLE: &[Entry] = &[$($(Entry {
            point: Point::$point,
            name: $name,
            who: Who::$who,
            file: $file,
            left: $left,
            then: $then,
        },)*)*];
    };
}

points! {
    // A run is accepted.
    Daemon "trigger.rs" {
        TriggerUncommitted "trigger-uncommitted":
            "nothing; the client has no answer" => "the same request makes the run";
        TriggerStored "trigger-stored":
            "a queued run; the client has no answer"
            => "it is admitted; the same request key is answered with it";
        TriggerNoted "trigger-noted":
            "the same, and a line in `mcp_trigger.log`" => "the same";
    }
    // It moves, is prepared, has attempts, ends. Each statement is a transaction.
    Daemon "sql.rs" {
        StatusUnmoved "status-unmoved": "the status before" => "the same step is done again";
        StatusMoved "status-moved": "the status after" => "the next step is done";
        PreparedUnstored "prepared-unstored":
            "a run that is starting, a fetched base" => "it is prepared from the beginning";
        PreparedStored "prepared-stored":
            "the worktree's path without the worktree"
            => "it is prepared again, at the stored commit";
        RunningUnstored "running-unstored":
            "a run that is starting, its worktree made" => "it is prepared again, which finds it";
        RunningStored "running-stored": "a run that runs, without an attempt" => "`Begin`";
        AttemptUnbegun "attempt-unbegun": "no attempt" => "`Begin` again";
        AttemptBegun "attempt-begun":
            "an attempt that is starting, without a folder"
            => "`NotStarted`: the monitor is launched";
        AttemptNotRunning "attempt-not-running":
            "a monitor at work, the row still starting" => "`Live`: it is watched";
        AttemptRunning "attempt-running": "a monitor at work" => "`Live`: it is watched again";
        TellUnstored "tell-unstored":
            "what a phase has told is in its files alone" => "they are read from their beginning";
        TellStored "tell-stored": "the same, stored" => "they are read again, to the same end";
        AttemptUnended "attempt-unended":
            "`exit.json`" => "`Ended`: it is judged again, from files alone";
        AttemptEnded "attempt-ended": "the verdict" => "the state machine goes on";
        RetryUnstored "retry-unstored": "a failed attempt" => "it is waited for the next one";
        RetryStored "retry-stored": "the same, and when the next is due" => "the same";
        RunUnfinished "run-unfinished":
            "attempts that have all ended" => "`Finish` again, with the same end";
        RunFinished "run-finished":
            "an ended run with its worktree" => "the janitor's round removes it when it is due";
        RemovalUnstored "removal-unstored":
            "an ended run whose worktree is gone" => "the janitor finds that and stores it";
        RemovalStored "removal-stored": "the run as it stays" => "nothing is left to do";
        StopUncommitted "stop-uncommitted":
            "the run goes on; the client has no answer" => "the cancel is asked for again";
        StopStored "stop-stored":
            "a run that is stopping; the client has no answer"
            => "its tree is asked to stop, and it ends as cancelled";
        ForeignUnchanged "foreign-unchanged":
            "an older picture of a run by hand" => "the next look stores the newer one";
        ForeignChanged "foreign-changed": "the newer picture" => "nothing has changed";
    }
    Daemon "process.rs" {
        CommandStarted "command-started":
            "a git or uv that goes on alone; one that changes worktrees holds their lock"
            => "the lock is waited for, and a half-made worktree taken away";
        MonitorLogMade "monitor-log-made":
            "`spec.json` and an empty log" => "`NotStarted`: the monitor is launched";
        MonitorLaunched "monitor-launched":
            "a monitor that comes up" => "a second one gets no `run.lock` and goes away";
    }
    Daemon "attend.rs" {
        AttemptFolderMade "attempt-folder-made":
            "an empty folder" => "`NotStarted`: the monitor is launched";
    }
    // Worktrees: one at a time per repository.
    Daemon "worktree.rs" {
        ExcludeWritten "exclude-written":
            "a file beside `info/exclude`" => "it is written over";
        ExcludeRenamed "exclude-renamed": "the patterns" => "nothing is left to do there";
    }
    Daemon "worktree/mend.rs" {
        HalfMadeTreeGone "half-made-tree-gone":
            "the record of a half-made worktree without its folder" => "the record is removed";
        CommondirMended "commondir-mended": "a record that is whole again" => "nothing more";
    }
    Daemon "worktree/removal.rs" {
        WorktreeGone "worktree-gone":
            "perhaps a record without a folder" => "it is mended, the removal stored";
    }
    // What agents spend.
    Daemon "sql_spending.rs" {
        SpendingUncommitted "spending-uncommitted":
            "streams that say more than is stored" => "they are read again, from the beginning";
        SpendingStored "spending-stored": "the same, stored" => "a level: nothing is added twice";
        BudgetStopUnstored "budget-stop-unstored":
            "a budget that is passed" => "the next look stops the run";
        BudgetStopStored "budget-stop-stored":
            "a run that is stopping, with the failure" => "its tree is stopped, it ends with that";
        CarryUncommitted "carry-uncommitted":
            "what a run by hand says of itself, not carried" => "it is carried at the next start";
        Carried "carried": "what it spent, stored" => "it is not carried twice";
    }
    Daemon "steer.rs" {
        ResumeUncommitted "resume-uncommitted":
            "the ended run; the client has no answer" => "the resume is asked for again";
        ResumeStored "resume-stored":
            "a queued run with a new life; the client has no answer" => "it is admitted";
    }
    Daemon "external.rs" {
        ForeignUncommitted "foreign-uncommitted":
            "a run by hand that is not listed" => "the next look lists it";
        ForeignStored "foreign-stored": "the run, listed" => "it is not listed twice";
    }
    // The files of an attempt's folder.
    Either "records.rs" {
        RecordWritten "record-written":
            "a temporary file" => "as if the record had not been written";
        RecordSynced "record-synced":
            "a temporary file, on disk" => "as if the record had not been written";
        RecordRenamed "record-renamed": "the record" => "it counts";
    }
    Daemon "records.rs" {
        StopWritten "stop-written": "a temporary file" => "the stop is asked for again";
        StopLinked "stop-linked":
            "`stop.json`, and a temporary file" => "the monitor heeds it, with or without a daemon";
    }
    // The monitor. Where a daemon lives it learns of each death from the locks.
    Monitor "monitor.rs" {
        MonitorUp "monitor-up":
            "nothing" => "`NotStarted`: it is launched again";
        MonitorLocked "monitor-locked": "a free `run.lock`" => "the same";
        LogLocked "log-locked": "a free log" => "the same";
        PhaseUnspawned "phase-unspawned":
            "`start.json` without a child, free locks" => "`Vanished`: lost";
        PhaseSpawned "phase-spawned":
            "a phase under nobody, its log held, marked by its environment"
            => "`Live` without a monitor; once it is gone it is judged by its work";
        PhaseEnded "phase-ended":
            "free locks" => "`Vanished`: judged by what the phase left";
    }
    Monitor "cgroup.rs" {
        GroupMade "group-made":
            "an empty control group that no record names"
            => "`NotStarted`; the next monitor removes it";
    }
    // The Python side. uv ends with 137 behind it, the monitor ends what is left and records that:
    // the attempt has failed, and the next one goes on from what is there.
    Python "state.py" {
        FileMade "file-made": "an empty temporary file" => "the file as it was before";
        FileSynced "file-synced": "a whole temporary file" => "the file as it was before";
        FileRenamed "file-renamed": "the new file" => "it counts";
        RunLocked "run-locked": "a free `run.lock`" => "the next attempt takes it";
    }
    Python "markers.py" {
        MarkerPrinted "marker-printed":
            "a marker that is perhaps ahead of the state" => "a hint only: the exit decides";
    }
    Python "proc.py" {
        ToolStarted "tool-started":
            "a git or gh that goes on alone" => "the monitor ends it before it records the end";
        ToolEnded "tool-ended":
            "what the tool did, with nothing noted of it" => "it is found done, and not done twice";
        TreeStarted "tree-started":
            "an agent or a check that goes on alone" => "the monitor ends it";
        TreeEnded "tree-ended":
            "what the agent did, without its result" => "a new call goes on from the worktree";
    }
    Python "agent.py" {
        CallFolderMade "call-folder-made":
            "an empty folder of a call" => "its number is not used again";
    }
    Python "phase_plan.py" {
        PlanWritten "plan-written":
            "a plan that is not committed" => "it is written anew and committed";
    }
    Python "phase_build.py" {
        PullMade "pull-made":
            "a pull request that the state does not know" => "it is found, not made twice";
    }
    Python "forge.py" {
        CommentWritten "comment-written": "a comment" => "perhaps said twice";
    }
    Python "entry.py" {
        PhaseDone "phase-done":
            "a phase with all its work, and its words" => "failed by its exit; its work is used again";
    }
}

/// Dies here where a test has armed the point.
pub fn here(point: Point) {
    at(point, "");
}

/// The same at a point that is passed for several things; a test names which one.
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn at(point: Point, detail: &str) {
    #[cfg(debug_assertions)]
    if let Some(entry) = TABLE.iter().find(|entry| entry.point == point) {
        switch::die_if_armed(entry.name, detail);
    }
    let _ = (point, detail);
}

/// What a command is called at [`Point::CommandStarted`]: its name and its first plain words, as
/// `git-worktree-add`.
#[must_use]
pub fn command_name(program: &std::path::Path, args: &[OsString]) -> String {
    let plain = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
    let words = args.iter().filter_map(|word| word.to_str()).filter(plain);
    let program = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    std::iter::once(program).chain(words.take(2)).collect::<Vec<_>>().join("-")
}

/// Variables that carry the switch on to a monitor and its phase; none in release builds.
#[must_use]
pub fn passed_on() -> Vec<(&'static str, OsString)> {
    #[cfg(debug_assertions)]
    return switch::passed_on();
    #[cfg(not(debug_assertions))]
    vec![]
}
