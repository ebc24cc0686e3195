//! A project as the daemon serves it: configuration, profile and folders, resolved once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{Config, ProjectConfig};
use crate::limits;

use super::error::RunsError;
use super::facts;
use super::profile::{self, Profile, ScriptsFrom, WorktreeBy};
use super::project_file;

/// A served project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Root of the main checkout.
    pub root: PathBuf,
    /// Its table in the configuration, or what stands for it.
    pub config: ProjectConfig,
    /// Values of its `.adw.toml`, for what the table leaves open.
    pub file: BTreeMap<String, String>,
    /// The profile, fitted to what is there.
    pub profile: Profile,
    /// Why this profile.
    pub profile_reason: String,
    /// `config` or `command`.
    pub source: &'static str,
    /// Folder under which state, worktrees and logs lie.
    pub state_root: PathBuf,
    /// Folder that the profile's script paths are relative to.
    pub scripts_root: PathBuf,
}

impl Project {
    /// Resolves a project: reads which files are there, picks the profile, fixes the folders.
    ///
    /// # Errors
    /// [`RunsError::BadProject`] where the folder, the profile or `.adw.toml` cannot be used.
    pub fn resolve(
        config: &Config,
        table: &ProjectConfig,
        source: &'static str,
        automation: &Path,
    ) -> Result<Project, RunsError> {
        let root = table.path.clone();
        let bad =
            |problem: String| RunsError::BadProject { path: root.display().to_string(), problem };
        if !root.is_dir() {
            return Err(bad("it is not a folder".into()));
        }
        let exists = |relative: &str| root.join(relative).exists();
        let (profile, reason) = match table.profile.as_deref() {
            None => {
                let found = profile::detect(&exists);
                (found.profile, found.reason)
            }
            Some(name) => (
                named_profile(config, name, &exists).map_err(bad)?,
                format!("profile = {name:?} in the configuration"),
            ),
        };
        if profile.sequence.is_empty() {
            return Err(bad(format!("profile {:?} finds none of its scripts there", profile.name)));
        }
        if table.state_in == crate::config::StateIn::Daemon && !profile.stdout.markers {
            return Err(bad(format!(
                "state_in = \"daemon\" does not go with profile {:?}: its scripts keep their state in the project",
                profile.name
            )));
        }
        let file = project_file::read(&root, profile.scripts_from).map_err(bad)?;
        let state_root = if table.state_in == crate::config::StateIn::Daemon {
            config.paths.state_dir.join("projects").join(table.name.as_ref())
        } else {
            root.clone()
        };
        let scripts_root = match profile.scripts_from {
            ScriptsFrom::Project => root.clone(),
            ScriptsFrom::Embedded => automation.to_path_buf(),
        };
        Ok(Project {
            name: table.name.to_string(),
            root,
            config: table.clone(),
            file,
            profile,
            profile_reason: reason,
            source,
            state_root,
            scripts_root,
        })
    }

    /// This project with its `.adw.toml` as it is now; `None` where that is as it was.
    ///
    /// # Errors
    /// [`RunsError::BadProject`] where the file cannot be read.
    pub fn reread(&self) -> Result<Option<Project>, RunsError> {
        let file = project_file::read(&self.root, self.profile.scripts_from);
        let file = file.map_err(|problem| RunsError::BadProject {
            path: self.root.display().to_string(),
            problem,
        })?;
        Ok((file != self.file).then(|| Project { file, ..self.clone() }))
    }

    fn setting(&self, own: Option<&String>, key: &str) -> Option<String> {
        own.cloned().or_else(|| self.file.get(key).cloned()).filter(|v| !v.is_empty())
    }

    /// Name of the remote.
    #[must_use]
    pub fn remote(&self) -> String {
        self.setting(self.config.remote.as_ref(), "remote").unwrap_or_else(|| "origin".into())
    }

    /// The base branch asked for; the remote's default where absent.
    #[must_use]
    pub fn base_branch(&self) -> Option<String> {
        self.setting(self.config.base_branch.as_ref(), "base_branch")
            .or_else(|| self.profile.base_branch.clone())
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> String {
        self.setting(self.config.agent.as_ref(), "agent").unwrap_or_else(|| "patch".into())
    }

    /// The command of agent `command`.
    #[must_use]
    pub fn agent_command(&self) -> Option<String> {
        self.setting(self.config.agent_command.as_ref(), "agent_command")
    }

    /// What the agents of one run may cost by the scripts' own account, in US dollars.
    #[must_use]
    pub fn agent_budget_usd(&self) -> Option<f64> {
        let own = self.config.agent_budget_usd.map(|usd| usd.to_string());
        self.setting(own.as_ref(), "agent_budget_usd")?.parse().ok()
    }

    /// The forge.
    #[must_use]
    pub fn forge(&self) -> String {
        self.setting(self.config.forge.as_ref(), "forge").unwrap_or_else(|| "local".into())
    }

    /// The repository's name on the forge, where it is told.
    #[must_use]
    pub fn forge_repo(&self) -> Option<String> {
        self.setting(self.config.forge_repo.as_ref(), "forge_repo")
    }

    /// Whether agent and forge are ones that there are.
    ///
    /// # Errors
    /// A sentence that names the setting and what it may be.
    pub fn check_choices(&self) -> Result<(), String> {
        let agent = self.agent();
        match agent.as_str() {
            _ if self.profile.name != "adwd" => {}
            "command" if self.agent_command().is_none() => {
                return Err("agent: agent = \"command\" needs agent_command".into());
            }
            "patch" | "claude" | "codex" | "command" => {}
            _ => {
                return Err(format!("agent: {agent:?} is none of patch, claude, codex, command"));
            }
        }
        match self.forge().as_str() {
            "github" | "local" => Ok(()),
            other => Err(format!("forge: {other:?} is neither local nor github")),
        }
    }

    /// Folder of the state files.
    #[must_use]
    pub fn agents_dir(&self) -> PathBuf {
        self.state_root.join(&self.profile.agents_dir)
    }

    /// Folder of the worktrees.
    #[must_use]
    pub fn trees_dir(&self) -> PathBuf {
        self.state_root.join(&self.profile.trees_dir)
    }

    /// Root of the log tree.
    #[must_use]
    pub fn log_root(&self) -> PathBuf {
        self.state_root.join("logs")
    }

    /// Folder of a run's logs (`spec/adw.md` §6).
    #[must_use]
    pub fn run_log_dir(&self, environment: &str, adw_id: &str) -> PathBuf {
        self.log_root().join(&self.name).join(environment).join(adw_id)
    }

    /// Folder of a run's state file.
    #[must_use]
    pub fn run_state_dir(&self, adw_id: &str) -> PathBuf {
        self.agents_dir().join(adw_id)
    }

    /// The state file of a run.
    #[must_use]
    pub fn state_file(&self, adw_id: &str) -> PathBuf {
        self.run_state_dir(adw_id).join("adw_state.json")
    }

    /// The worktrees that state files name, whoever's run they are of.
    #[must_use]
    pub fn worktrees_of_states(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.agents_dir()).into_iter().flatten().flatten();
        let told = entries.take(limits::EXTERNAL_RUNS_COUNT).filter_map(|entry| {
            let adw_id = entry.file_name().to_string_lossy().into_owned();
            let state = facts::read_state(&self.state_file(&adw_id), &adw_id).ok()??;
            state.text("worktree_path").map(PathBuf::from)
        });
        told.collect()
    }

    /// The script of a phase that is there.
    #[must_use]
    pub fn script(&self, phase: &str) -> Option<PathBuf> {
        let phase = self.profile.phase(phase)?;
        phase.scripts.iter().map(|s| self.scripts_root.join(s)).find(|p| p.is_file())
    }

    /// The worktree that the daemon makes for a run; its name does not hold the issue's class,
    /// because only the plan phase learns it.
    #[must_use]
    pub fn worktree_path(&self, issue: &str, adw_id: &str) -> PathBuf {
        self.trees_dir().join(format!("adw-{issue}-{adw_id}"))
    }

    /// How many runs may work at once: one where they share the main checkout.
    #[must_use]
    pub fn max_running(&self, config: &Config) -> u32 {
        if self.profile.worktree_by == WorktreeBy::Nobody {
            return 1;
        }
        self.config.max_running.unwrap_or(config.limits.max_running_per_project)
    }

    /// Folders of ours inside the repository, as patterns for `.git/info/exclude`.
    #[must_use]
    pub fn exclude_patterns(&self) -> Vec<String> {
        if self.state_root != self.root {
            return vec![];
        }
        let mut patterns: Vec<String> = [&self.profile.agents_dir, &self.profile.trees_dir]
            .iter()
            .map(|d| format!("/{d}/"))
            .collect();
        patterns.push("/automation/pulls/".into());
        patterns.push("/logs/".into());
        patterns
    }
}

/// Whether two paths are one folder, symbolic links resolved.
#[must_use]
pub fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn named_profile(
    config: &Config,
    name: &str,
    exists: &dyn Fn(&str) -> bool,
) -> Result<Profile, String> {
    for table in &config.profiles {
        let json = serde_json::to_value(table).map_err(|e| e.to_string())?;
        let Some(object) = json.as_object() else { continue };
        if object.get("name").and_then(serde_json::Value::as_str) == Some(name) {
            return Ok(profile::from_table(object)?.present_if_projects(exists));
        }
    }
    match name {
        "adwd" if exists("automation/adws/adw_modules/markers.py") => {
            Ok(profile::own_scripts(profile::adwd()))
        }
        "adwd" => Ok(profile::adwd()),
        "kotadb" => Ok(profile::kotadb().present(exists)),
        "tac" => Ok(profile::fit_tac(profile::tac(), exists)),
        _ => Err(format!(
            "no profile {name:?}: neither built in (adwd, kotadb, tac) nor a [[profile]]"
        )),
    }
}
