//! From a command to a daemon: connect, start one where none runs, add the repository it is about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::args::Global;
use super::fail::{Fail, exit};
use super::place::{self, Meant};
use crate::client::{Client, ClientError};
use crate::config::{Config, Flags, Loaded};
use crate::daemon;
use crate::lock::InstanceLock;
use crate::out::Out;
use crate::runs::ProjectView;
use crate::runs::detach::spawn_detached;

/// How long a daemon started in the background may take until it answers: it opens the database,
/// migrates it, and looks at every run it knows.
const START_LIMIT_MS: u64 = 30_000;
const START_POLL_MS: u64 = 50;
/// Bytes of the start log that are shown when a daemon did not come up.
const START_LOG_TAIL_BYTES: usize = 2_000;
/// Name of the file in the state folder that a background daemon's own output goes to.
const START_LOG: &str = "daemon.out";

/// Everything a command is about: flags, settings, environment, the way to speak.
pub struct Cx {
    /// Global flags.
    pub global: Global,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The settings.
    pub loaded: Loaded,
    /// Where results go.
    pub out: Out,
    /// The current folder.
    pub here: PathBuf,
    /// This program.
    pub exe: PathBuf,
}

/// The served projects, as `list_adw_projects` answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Projects {
    /// The projects.
    pub projects: Vec<ProjectView>,
}

/// What `add_adw_project` answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Added {
    /// The project.
    #[serde(flatten)]
    pub project: ProjectView,
    /// Whether it is new.
    pub added: bool,
}

/// Arguments of a tool call, absent ones left out.
#[must_use]
pub fn arguments(pairs: Vec<(&str, Option<Value>)>) -> Map<String, Value> {
    let given = pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    given.collect()
}

impl Cx {
    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// Connects to the daemon that runs; the hint says how to start one where none does.
    pub async fn connect(&self) -> Result<Client, Fail> {
        Ok(self.try_connect().await?)
    }

    /// Connects, and starts a daemon in the background where none runs (unless `--no-start`).
    pub async fn connect_or_start(&self) -> Result<Client, Fail> {
        match self.try_connect().await {
            Err(ClientError::Absent { .. }) if !self.global.no_start => self.start().await,
            other => Ok(other?),
        }
    }

    async fn try_connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.socket()).await
    }

    /// The daemon's socket: the one that was set, else the one that the daemon on our state folder
    /// says it has (a service may have been given another runtime folder than this shell).
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let config = self.config();
        let was_set = self.loaded.provenance.iter().any(|setting| {
            matches!(setting.key.as_str(), "socket" | "runtime_dir")
                && setting.source != crate::config::Source::Default
        });
        if was_set || config.paths.socket.exists() {
            return config.paths.socket.clone();
        }
        daemon::recorded_socket(&config.paths.state_dir)
            .unwrap_or_else(|| config.paths.socket.clone())
    }

    async fn start(&self) -> Result<Client, Fail> {
        if self.env.contains_key(crate::runs::records::MARK) {
            // It would end with the phase: nothing that a phase starts outlives it.
            return Err(Fail::new(
                exit::NO_DAEMON,
                "no_daemon",
                "no daemon runs, and none is started from inside a phase of a run".to_owned(),
            ));
        }
        let state_dir = &self.config().paths.state_dir;
        daemon::private_folder(state_dir).map_err(|error| {
            Fail::new(
                exit::NO_DAEMON,
                "state_dir",
                format!("cannot make {}: {error}", state_dir.display()),
            )
        })?;
        let log = state_dir.join(START_LOG);
        // Only the last start matters; a daemon that still writes to the old one keeps its file.
        let _ = std::fs::remove_file(&log);
        let mut args = absolute_flags(&self.global.flags, &self.here);
        args.extend(["serve".to_owned(), "--detached".to_owned()]);
        let started = spawn_detached(&self.exe, &args, &self.env, &log).map_err(|error| {
            Fail::new(
                exit::NO_DAEMON,
                "start",
                format!("cannot start {}: {error}", self.exe.display()),
            )
        })?;
        self.out.note(&format!(
            "no daemon ran; started one in the background (pid {}; `adwd stop` ends it)",
            started.pid
        ));
        let polls = START_LIMIT_MS / START_POLL_MS;
        for _ in 0..polls {
            tokio::time::sleep(Duration::from_millis(START_POLL_MS)).await;
            match self.try_connect().await {
                Ok(client) => return Ok(client),
                Err(ClientError::Absent { .. }) => {}
                Err(other) => return Err(other.into()),
            }
            // Somebody else may have been faster; then ours ends with "held" and theirs answers.
            if started.ended().is_some() && InstanceLock::holder(state_dir).is_none() {
                break;
            }
        }
        let how = match started.ended() {
            Some(code) => format!("the daemon ended at once (exit code {code})"),
            None => format!("the daemon did not answer within {START_LIMIT_MS} ms"),
        };
        Err(Fail::new(exit::NO_DAEMON, "start", format!("{how}: {}", tail(&log)))
            .hint("`adwd serve --foreground` shows what happens; `adwd doctor` checks the machine"))
    }

    /// The project a command is about, by name; a repository that is not served yet is added.
    /// `None` where nothing says which: the daemon then takes the only one, or asks.
    pub async fn project(&self, client: &Client) -> Result<Option<String>, Fail> {
        let served: Projects = client.call("list_adw_projects", Map::new()).await?;
        let names: Vec<String> = served.projects.iter().map(|p| p.name.clone()).collect();
        let root = match place::meant(self.global.project.as_deref(), &self.here, &names) {
            Meant::Name(name) => return Ok(Some(name)),
            Meant::Nothing => return Ok(None),
            Meant::NoRepository(path) => {
                return Err(Fail::usage(format!("{} is in no git repository", path.display())));
            }
            Meant::Root(root) => root,
        };
        // One that cannot be served is asked for again: the answer says why.
        let here = |p: &&ProjectView| p.problem.is_none() && is_same(&p.path, &root);
        if let Some(known) = served.projects.iter().find(here) {
            return Ok(Some(known.name.clone()));
        }
        let added = self.add_project(client, &root, None).await?;
        Ok(Some(added.project.name))
    }

    /// The project named by `--project`, for a filter: a name, or the served one at a path.
    pub async fn named_project(&self, client: &Client) -> Result<Option<String>, Fail> {
        let Some(flag) = self.global.project.as_deref() else { return Ok(None) };
        let served: Projects = client.call("list_adw_projects", Map::new()).await?;
        let names: Vec<String> = served.projects.iter().map(|p| p.name.clone()).collect();
        match place::meant(Some(flag), &self.here, &names) {
            Meant::Root(root) => {
                let known = served.projects.iter().find(|p| is_same(&p.path, &root));
                let name = known.map(|p| p.name.clone()).ok_or_else(|| {
                    Fail::new(
                        exit::NOT_FOUND,
                        "unknown_project",
                        format!("{} is not served", root.display()),
                    )
                    .hint("`adwd project list` shows what is")
                })?;
                Ok(Some(name))
            }
            Meant::NoRepository(path) => {
                Err(Fail::usage(format!("{} is in no git repository", path.display())))
            }
            _ => Ok(Some(flag.to_owned())),
        }
    }

    /// Serves one more repository and says so beside the result.
    pub async fn add_project(
        &self,
        client: &Client,
        root: &Path,
        name: Option<&str>,
    ) -> Result<Added, Fail> {
        let path = root.display().to_string();
        let given = arguments(vec![("path", Some(json!(path))), ("name", name.map(|n| json!(n)))]);
        let added: Added = client.call("add_adw_project", given).await?;
        if added.added {
            let project = &added.project;
            self.out.note(&format!(
                "now serving {} as project {:?} (profile {}: {})",
                project.path, project.name, project.profile, project.profile_reason
            ));
        }
        Ok(added)
    }
}

fn is_same(path: &str, root: &Path) -> bool {
    Path::new(path) == root || Path::new(path).canonicalize().is_ok_and(|path| path == root)
}

/// The flags as arguments of another `adwd` that runs in another folder.
#[must_use]
pub fn absolute_flags(flags: &Flags, here: &Path) -> Vec<String> {
    let mut args = Vec::new();
    let paths = [
        ("--config", &flags.config),
        ("--state-dir", &flags.state_dir),
        ("--runtime-dir", &flags.runtime_dir),
        ("--socket", &flags.socket),
    ];
    for (name, value) in paths {
        if let Some(path) = value {
            // `~` is the configuration's to expand.
            let path = if path.starts_with("~") { path.clone() } else { here.join(path) };
            args.extend([name.to_owned(), path.display().to_string()]);
        }
    }
    let words = [
        ("--http-bind", &flags.http_bind),
        ("--database", &flags.database),
        ("--log-level", &flags.log_level),
    ];
    for (name, value) in words {
        if let Some(value) = value {
            args.extend([name.to_owned(), value.clone()]);
        }
    }
    if flags.no_http {
        args.push("--no-http".to_owned());
    }
    args
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let from = text.len().saturating_sub(START_LOG_TAIL_BYTES);
    let text = String::from_utf8_lossy(&text[from..]).trim().to_owned();
    if text.is_empty() { format!("it said nothing in {}", log.display()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_flags_are_made_absolute_for_the_daemon() {
        let flags = Flags {
            config: Some("c.toml".into()),
            state_dir: Some("~/s".into()),
            no_http: true,
            ..Flags::default()
        };
        let args = absolute_flags(&flags, Path::new("/w"));
        assert_eq!(args, ["--config", "/w/c.toml", "--state-dir", "~/s", "--no-http"]);
    }

    #[test]
    fn absent_arguments_are_left_out() {
        let given = arguments(vec![("a", Some(json!(1))), ("b", None)]);
        assert_eq!(Value::Object(given), json!({"a": 1}));
    }
}
