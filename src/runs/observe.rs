//! What an attempt leaves while it works: log lines, the state file, the agents' streams. Looked at
//! again and again, stored where it is new; rebuilt from files after a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::account::Meter;
use super::ctx::Ctx;
use super::error::RunsError;
use super::facts;
use super::marker::{Markers, StatusMarker};
use super::procfs;
use super::project::Project;
use super::records::StartRecord;
use super::sql::{self, RunRow, Told};
use super::state_file::AdwState;
use super::tail::Tail;

/// What has been seen of an attempt so far; rebuilt from files after a restart.
pub(super) struct Watch {
    pub(super) dir: PathBuf,
    pub(super) start: Option<StartRecord>,
    pub(super) tail: Tail,
    pub(super) markers: Markers,
    pub(super) skipped: Option<String>,
    pub(super) pr_url: Option<String>,
    pub(super) worktree: Option<String>,
    pub(super) state: Option<AdwState>,
    pub(super) state_stamp: Option<(u64, std::time::SystemTime)>,
    pub(super) state_problem: Option<String>,
    pub(super) activity: u64,
    pub(super) active_at: Instant,
    /// When a request to stop was first seen.
    pub(super) stop_seen_at: Option<Instant>,
    pub(super) meter: Meter,
    rules: Rules,
}

/// The compiled stdout rules of a profile.
struct Rules {
    worktree: Option<regex::Regex>,
    pr_url: Option<regex::Regex>,
    skipped: Option<regex::Regex>,
}

impl Rules {
    fn of(project: &Project) -> Rules {
        let compile =
            |rule: &Option<String>| rule.as_deref().and_then(|r| regex::Regex::new(r).ok());
        let stdout = &project.profile.stdout;
        Rules {
            worktree: compile(&stdout.worktree),
            pr_url: compile(&stdout.pr_url),
            skipped: compile(&stdout.skipped),
        }
    }
}

fn capture(rule: Option<&regex::Regex>, line: &str) -> Option<String> {
    rule?.captures(line)?.get(1).map(|m| m.as_str().trim().to_owned())
}

impl Watch {
    pub(super) fn new(ctx: &Ctx, project: &Project, row: &RunRow, dir: &Path) -> Watch {
        Watch {
            dir: dir.to_path_buf(),
            start: None,
            tail: Tail::new(),
            markers: Markers::default(),
            skipped: None,
            pr_url: None,
            worktree: None,
            // The last good value outlives a restart, as it outlives a torn file.
            state: row.state.as_deref().and_then(|s| AdwState::parse(s.as_bytes()).ok()),
            state_stamp: None,
            state_problem: None,
            activity: facts::activity(ctx, project, &row.adw_id, dir),
            active_at: Instant::now(),
            stop_seen_at: None,
            meter: Meter::default(),
            rules: Rules::of(project),
        }
    }

    /// Whether the phase itself has ended; what is left then are strays.
    pub(super) fn leader_is_gone(&self) -> bool {
        let leader = self.start.as_ref().and_then(|s| s.child);
        leader.is_some_and(|who| procfs::process(who.pid).is_none_or(|p| p.id != who))
    }

    /// One look at everything an attempt leaves: log, state, streams. Stores what is new.
    pub(super) async fn look(
        &mut self,
        ctx: &Arc<Ctx>,
        project: &Project,
        row: &RunRow,
    ) -> Result<(), RunsError> {
        let activity = facts::activity(ctx, project, &row.adw_id, &self.dir);
        if activity != self.activity {
            self.activity = activity;
            self.active_at = Instant::now();
        }
        let mut told = Told::default();
        let mut heard = false;
        while let Some(told) = self.read_log(project) {
            heard |= told;
            // A flood of output must not keep other runs waiting.
            tokio::task::yield_now().await;
        }
        let read = self.read_state(ctx, project, row, &mut told);
        if heard {
            self.hints(ctx, project, row, &mut told).await;
        }
        if told != Told::default() {
            sql::tell(ctx.db(), &row.adw_id, &told).await?;
            if read || heard {
                ctx.deps.changes.send(match row.adw_id.parse() {
                    Ok(id) => crate::changes::Changed::Run(id),
                    Err(_) => crate::changes::Changed::Queue,
                });
            }
        }
        Ok(())
    }

    /// Takes a step's worth of new lines into account; returns whether any told something, `None`
    /// where nothing new is there.
    fn read_log(&mut self, project: &Project) -> Option<bool> {
        let lines = self.tail.step(&self.dir.join("execution.log")).ok()?;
        if lines.is_empty() {
            return None;
        }
        let mut heard = false;
        for line in &lines {
            if project.profile.stdout.markers {
                heard |= self.markers.take(line);
                continue;
            }
            for (slot, rule) in [
                (&mut self.worktree, &self.rules.worktree),
                (&mut self.pr_url, &self.rules.pr_url),
                (&mut self.skipped, &self.rules.skipped),
            ] {
                if slot.is_none() {
                    *slot = capture(rule.as_ref(), line);
                    heard |= slot.is_some();
                }
            }
        }
        Some(heard)
    }

    /// Reads the state file when it changed; a broken one leaves the last good value.
    fn read_state(&mut self, ctx: &Ctx, project: &Project, row: &RunRow, told: &mut Told) -> bool {
        let path = project.state_file(&row.adw_id);
        let stamp =
            std::fs::symlink_metadata(&path).ok().and_then(|m| Some((m.len(), m.modified().ok()?)));
        if stamp.is_some() && stamp == self.state_stamp && self.state_problem.is_none() {
            return false;
        }
        match facts::read_state(&path, &row.adw_id) {
            Ok(None) => false,
            Ok(Some(state)) => {
                self.state_stamp = stamp;
                self.state_problem = None;
                let mut phases = row.phases();
                phases.extend(row.todo());
                // What it says of costs is one of the things that the account goes by.
                let all = facts::told_by(&state, project, &phases, ctx.now());
                *told = Told { usage: None, cost_usd: None, ..all };
                self.state = Some(state);
                true
            }
            Err(problem) => {
                let new = self.state_problem.as_ref() != Some(&problem);
                if new {
                    told.state_problem = Some(problem.clone());
                }
                self.state_problem = Some(problem);
                new
            }
        }
    }

    /// What markers and log lines tell before the state file does, as far as it can be believed.
    pub(super) async fn hints(
        &mut self,
        ctx: &Ctx,
        project: &Project,
        row: &RunRow,
        told: &mut Told,
    ) {
        let trees = project.trees_dir();
        let named =
            self.markers.believable_worktree(&row.adw_id, &trees).map(Path::to_path_buf).or_else(
                || {
                    self.worktree
                        .as_deref()
                        .map(PathBuf::from)
                        .filter(|p| super::marker::is_below(p, &trees))
                },
            );
        if let (None, None, Some(path)) = (&row.worktree_path, &told.worktree_path, named)
            && ctx.worktrees(project).contains(&path).await.unwrap_or(false)
        {
            told.worktree_path = Some(path.to_string_lossy().into_owned());
        }
        // The state has the last word: agent text can look like a marker.
        if self.state.as_ref().and_then(AdwState::pr_url).is_none() {
            told.pr_url = self
                .markers
                .pr_url
                .clone()
                .or_else(|| self.pr_url.clone())
                .filter(|u| super::state_file::is_url(u));
        }
    }

    /// The layout's own sign that the issue is out of scope.
    pub(super) fn skip_reason(&self, project: &Project, phase: &str) -> Option<String> {
        if !project.profile.stdout.markers {
            return self.skipped.clone();
        }
        let state = self.state.as_ref()?;
        let said = state.phase_status().get(phase).is_some_and(|s| s == "skipped");
        (said && self.markers.status == Some(StatusMarker::Skipped))
            .then(|| state.prose("skip_reason").unwrap_or_else(|| "out of scope".into()))
    }
}
