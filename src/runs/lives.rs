//! The ended lives of runs, put together from what is stored, for whoever tells them on.
//!
//! A life begins when a run is queued and ends with the run; a resume begins the next one. Nothing
//! is kept in memory: what was not told when the daemon ended is told by the next one.

use std::collections::BTreeMap;

use super::sql_lives::{self, LifeRow};
use super::sql_rows::{AttemptRow, RunRow};
use super::view::{Failure, RunStatus, Usage};
use super::{Runs, RunsError, sql};
use crate::clock::Millis;
use crate::limits::{TRACES_BACKLOG_MS, TRACES_PAGE_COUNT};

/// An attempt of an ended life.
#[derive(Clone, Debug, PartialEq)]
pub struct LifeAttempt {
    /// Its phase.
    pub phase: String,
    /// Its number.
    pub attempt: i64,
    /// How it ended.
    pub status: RunStatus,
    /// When it began.
    pub started_at: Millis,
    /// When it ended.
    pub ended_at: Millis,
    /// Exit code of the script.
    pub exit_code: Option<i64>,
    /// Signal that ended it.
    pub exit_signal: Option<i64>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Commit of the branch at its end.
    pub head_commit: Option<String>,
}

/// An ended life of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// The run.
    pub adw_id: String,
    /// Which life it is: 1 for the first.
    pub number: usize,
    /// When it was queued: together with the id, the name of the life.
    pub queued_at: Millis,
    /// When the life before was queued.
    pub before: Option<Millis>,
    /// When it ended.
    pub ended_at: Millis,
    /// How it ended.
    pub status: RunStatus,
    /// Why, where it failed.
    pub failure: Option<Failure>,
    /// The run's project.
    pub project: String,
    /// The run's issue.
    pub issue_number: String,
    /// Class of the issue.
    pub issue_class: Option<String>,
    /// Profile of the project.
    pub profile: String,
    /// On whose behalf it was triggered.
    pub triggered_by: String,
    /// Branch.
    pub branch: Option<String>,
    /// Pull request.
    pub pr_url: Option<String>,
    /// What the agents had used by then in all lives, by phase and as `total`.
    pub usage: BTreeMap<String, Usage>,
    /// Its attempts, the first one first.
    pub attempts: Vec<LifeAttempt>,
}

/// A life as it is stored, wherever that is.
struct Stored {
    queued_at: i64,
    ended_at: i64,
    status: String,
    todo: Vec<String>,
    floors: BTreeMap<String, i64>,
    failure: Option<String>,
    usage: Option<String>,
}

impl From<LifeRow> for Stored {
    fn from(row: LifeRow) -> Stored {
        Stored {
            queued_at: row.queued_at,
            ended_at: row.ended_at,
            status: row.status,
            todo: serde_json::from_str(&row.todo).unwrap_or_default(),
            floors: serde_json::from_str(&row.floors).unwrap_or_default(),
            failure: row.failure,
            usage: row.run_usage,
        }
    }
}

impl From<&RunRow> for Stored {
    fn from(row: &RunRow) -> Stored {
        Stored {
            queued_at: row.queued_at,
            ended_at: row.ended_at.unwrap_or(i64::MAX),
            status: row.status.clone(),
            todo: row.todo(),
            floors: serde_json::from_str(&row.floors).unwrap_or_default(),
            failure: row.failure.clone(),
            usage: row.run_usage.clone(),
        }
    }
}

/// In which of the lives an attempt was made: the last one that was asked for its phase and began
/// below its number.
fn life_of(lives: &[Stored], phase: &str, attempt: i64) -> Option<usize> {
    lives.iter().rposition(|life| {
        let floor = life.floors.get(phase).copied().unwrap_or(0);
        life.todo.iter().any(|asked| asked == phase) && floor < attempt
    })
}

fn attempt_of(row: AttemptRow, life: &Stored) -> LifeAttempt {
    LifeAttempt {
        status: row.status(),
        failure: row.failure(),
        started_at: Millis(row.started_at),
        // An attempt without an end is one that a lost host left: it ended with its life.
        ended_at: Millis(row.ended_at.unwrap_or(life.ended_at)),
        phase: row.phase,
        attempt: row.attempt,
        exit_code: row.exit_code,
        exit_signal: row.exit_signal,
        head_commit: row.head_commit,
    }
}

fn life(run: &RunRow, lives: &[Stored], index: usize, attempts: Vec<AttemptRow>) -> Option<Life> {
    let stored = lives.get(index)?;
    let own = attempts.into_iter().filter(|a| life_of(lives, &a.phase, a.attempt) == Some(index));
    Some(Life {
        adw_id: run.adw_id.clone(),
        number: index + 1,
        queued_at: Millis(stored.queued_at),
        before: index.checked_sub(1).and_then(|n| lives.get(n)).map(|l| Millis(l.queued_at)),
        ended_at: Millis(stored.ended_at),
        status: RunStatus::parse(&stored.status).unwrap_or(RunStatus::Lost),
        failure: stored.failure.as_deref().and_then(|f| serde_json::from_str(f).ok()),
        project: run.project.clone(),
        issue_number: run.issue_number.clone(),
        issue_class: run.issue_class.clone(),
        profile: run.profile.clone(),
        triggered_by: run.triggered_by.clone(),
        branch: run.branch.clone(),
        pr_url: run.pr_url.clone(),
        usage: stored
            .usage
            .as_deref()
            .and_then(|u| serde_json::from_str(u).ok())
            .unwrap_or_default(),
        attempts: own.map(|a| attempt_of(a, stored)).collect(),
    })
}

impl Runs {
    /// Ended lives that no collector was told of and that are not too old, a page of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn untraced(&self) -> Result<Vec<Life>, RunsError> {
        let (db, host) = (self.ctx.db(), &self.ctx.deps.host);
        let since = Millis(self.ctx.now().0.saturating_sub(TRACES_BACKLOG_MS));
        let earlier = sql_lives::untraced_lives(db, host, since, TRACES_PAGE_COUNT).await?;
        let ended = sql_lives::untraced_runs(db, host, since, TRACES_PAGE_COUNT).await?;
        let mut wanted = earlier;
        wanted.extend(ended.into_iter().map(|run| (run.adw_id, run.queued_at)));
        let mut found = vec![];
        for (adw_id, queued_at) in wanted {
            found.extend(self.life(&adw_id, queued_at).await?);
        }
        Ok(found)
    }

    /// A life of a run, where it has ended.
    async fn life(&self, adw_id: &str, queued_at: i64) -> Result<Option<Life>, RunsError> {
        let db = self.ctx.db();
        let Some(run) = sql::run(db, adw_id).await? else { return Ok(None) };
        let mut lives: Vec<Stored> =
            sql_lives::lives(db, adw_id).await?.into_iter().map(Stored::from).collect();
        lives.push(Stored::from(&run));
        let index = lives.iter().position(|life| life.queued_at == queued_at);
        // The last one may have been resumed in this moment: then it is an earlier one next time.
        let ended = |index: &usize| *index + 1 < lives.len() || !run.active;
        let Some(index) = index.filter(ended) else { return Ok(None) };
        let attempts = sql::attempts(db, adw_id).await?;
        Ok(life(&run, &lives, index, attempts))
    }

    /// Remembers that a collector was told of a life (`sent`), or would not hear of it (`refused`).
    ///
    /// # Errors
    /// The database's.
    pub async fn traced(&self, life: &Life, outcome: &'static str) -> Result<(), RunsError> {
        let (db, now) = (self.ctx.db(), self.ctx.now());
        sql_lives::mark_traced(db, &life.adw_id, life.queued_at.0, outcome, now).await?;
        Ok(())
    }

    /// Forgets what was told so long ago that nobody will ask again.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_traced(&self) -> Result<(), RunsError> {
        let before = Millis(self.ctx.now().0.saturating_sub(TRACES_BACKLOG_MS * 2));
        sql_lives::forget_traced(self.ctx.db(), before).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(todo: &[&str], floors: &[(&str, i64)]) -> Stored {
        Stored {
            queued_at: 0,
            ended_at: 0,
            status: "failed".to_owned(),
            todo: todo.iter().map(|p| (*p).to_owned()).collect(),
            floors: floors.iter().map(|(p, n)| ((*p).to_owned(), *n)).collect(),
            failure: None,
            usage: None,
        }
    }

    #[test]
    fn an_attempt_belongs_to_the_life_that_made_it() {
        let lives = [
            stored(&["plan", "build", "review"], &[]),
            stored(&["build", "review"], &[("build", 2), ("review", 0)]),
            stored(&["review"], &[("build", 2), ("review", 1)]),
        ];
        for (phase, attempt, expected) in [
            ("plan", 1, Some(0)),
            ("build", 1, Some(0)),
            ("build", 2, Some(0)),
            ("build", 3, Some(1)),
            ("review", 1, Some(1)),
            ("review", 2, Some(2)),
            ("deploy", 1, None),
        ] {
            assert_eq!(life_of(&lives, phase, attempt), expected, "{phase} {attempt}");
        }
    }
}
