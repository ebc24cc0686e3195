//! Looks at a machine and a project the way a run would, and says how to mend what is wrong.
//!
//! Nothing is changed unless mending was asked for, and even then nothing that could hold work: a
//! worktree with changes or unpushed commits is only named.

mod machine;
mod project;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{Config, ProjectConfig};
use crate::ids::ProjectName;
use crate::out::{Out, Tone, cell};
use crate::probe::{Check, Status};
use crate::runs::launch;
use crate::runs::project::{Project, is_same};

/// How a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, or works for most.
    Warn,
    /// Runs will fail.
    Fail,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `machine` or `project`.
    pub area: &'static str,
    /// What was looked at, a stable word.
    pub check: &'static str,
    /// How it stands.
    pub level: Level,
    /// What was found.
    pub message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// Whether it was mended just now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fixed: bool,
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The findings, in the order of the look.
    pub checks: Vec<Finding>,
    /// How many are warnings.
    pub warned: usize,
    /// How many are failures.
    pub failed: usize,
}

/// What to look at, and how.
pub struct Visit<'a> {
    /// Settings.
    pub config: &'a Config,
    /// The whole environment.
    pub env: &'a BTreeMap<String, String>,
    /// The repository to look at.
    pub root: Option<PathBuf>,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Leave out what needs the network.
    pub offline: bool,
    /// Mend what can be mended without losing work.
    pub fix: bool,
}

impl Visit<'_> {
    /// The environment that a phase would get.
    pub fn child_env(&self) -> BTreeMap<String, String> {
        let state_dir = &self.config.paths.state_dir;
        let own = crate::daemon::child_env(self.env.clone(), state_dir);
        launch::base_env(&own, &self.config.env_allow)
    }

    /// The project behind the repository: its entry in the configuration, or what stands for one.
    ///
    /// # Errors
    /// Why it could not be served.
    pub fn project(&self, root: &Path) -> Result<Project, String> {
        let own = self.config.projects.iter().find(|p| is_same(&p.path, root)).cloned();
        let source = if own.is_some() { "config" } else { "command" };
        let entry = match own {
            Some(entry) => entry,
            None => {
                let name = ProjectName::parse("project").map_err(|error| error.to_string())?;
                ProjectConfig::new(name, root.to_path_buf())
            }
        };
        let automation = crate::automation::folder(&self.config.paths.state_dir);
        Project::resolve(self.config, &entry, source, &automation)
            .map_err(|error| error.to_string())
    }
}

/// What layout a repository has, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// Name of the profile.
    pub profile: String,
    /// What was found.
    pub reason: String,
}

/// Says what layout a repository has; changes nothing.
pub fn detect(root: &Path, config: &Config) -> Detected {
    let env = BTreeMap::new();
    let visit =
        Visit { config, env: &env, root: None, socket: PathBuf::new(), offline: true, fix: false };
    match visit.project(root) {
        Ok(project) => Detected { profile: project.profile.name, reason: project.profile_reason },
        Err(problem) => Detected { profile: "none".into(), reason: problem },
    }
}

/// Collects findings of one area.
struct Findings {
    area: &'static str,
    all: Vec<Finding>,
}

impl Findings {
    fn push(&mut self, check: &'static str, level: Level, message: String, mend: Option<String>) {
        self.all.push(Finding { area: self.area, check, level, message, mend, fixed: false });
    }

    fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.push(check, Level::Ok, message.into(), None);
    }

    fn warn(&mut self, check: &'static str, message: impl Into<String>, mend: impl Into<String>) {
        self.push(check, Level::Warn, message.into(), Some(mend.into()));
    }

    fn fail(&mut self, check: &'static str, message: impl Into<String>, mend: impl Into<String>) {
        self.push(check, Level::Fail, message.into(), Some(mend.into()));
    }

    /// What a look that others do too has found.
    fn take(&mut self, check: &'static str, found: Check) {
        let level = match found.status {
            Status::Ok => Level::Ok,
            Status::Degraded => Level::Warn,
            Status::Failed => Level::Fail,
        };
        self.push(check, level, found.message, found.hint);
    }

    fn fixed(&mut self, check: &'static str, message: impl Into<String>) {
        self.push(check, Level::Ok, message.into(), None);
        if let Some(last) = self.all.last_mut() {
            last.fixed = true;
        }
    }
}

/// Looks at everything. `tell` hears what is being looked at where that takes a while.
pub async fn examine(visit: &Visit<'_>, tell: &dyn Fn(&str)) -> Report {
    let mut machine = Findings { area: "machine", all: Vec::new() };
    machine::examine(visit, &mut machine, tell).await;
    let mut checks = machine.all;
    if let Some(root) = &visit.root {
        let mut project = Findings { area: "project", all: Vec::new() };
        project::examine(visit, root, &mut project, tell).await;
        checks.extend(project.all);
    }
    let count = |level| checks.iter().filter(|c| c.level == level).count();
    Report { warned: count(Level::Warn), failed: count(Level::Fail), checks }
}

/// The report for a person, or as columns.
pub fn show(report: &Report, out: &Out) {
    if !out.is_terminal() {
        let rows: Vec<_> = report
            .checks
            .iter()
            .map(|f| {
                [
                    level_word(f.level),
                    f.area,
                    f.check,
                    &f.message,
                    f.mend.as_deref().unwrap_or_default(),
                ]
                .map(cell)
                .to_vec()
            })
            .collect();
        out.table(&[], &rows);
        return;
    }
    for finding in &report.checks {
        let tone = match finding.level {
            Level::Ok => Tone::Good,
            Level::Warn => Tone::Busy,
            Level::Fail => Tone::Bad,
        };
        let fixed = if finding.fixed { " (mended now)" } else { "" };
        let word = out.paint(&format!("{:<4}", level_word(finding.level)), tone);
        let text = out.paint(&finding.message, Tone::Plain);
        out.painted(&format!("{word} {:<8} {:<12} {text}{fixed}", finding.area, finding.check));
        if let Some(mend) = &finding.mend {
            out.painted(&format!("{:26} → {}", "", out.paint(mend, Tone::Dim)));
        }
    }
    let summary = format!(
        "{} checks, {} warnings, {} failures",
        report.checks.len(),
        report.warned,
        report.failed
    );
    out.line(&summary);
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "fail",
    }
}
