//! How the daemon is: examined at most every [`HEALTH_CACHE_MS`], by one examination at a time, so
//! that a dashboard that polls starts no programs each time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::limits::{
    BEAT_LIMIT_MS, HEALTH_CACHE_MS, HEALTH_PROGRAM_MS, HEALTH_SCRIPT_MS, OBSERVE_DB_MS,
};
use crate::metrics::RunFigures;
use crate::probe::{self, Check, Status};
use crate::runs::{Runs, Served};
use crate::telemetry::redact;
use crate::uv;

/// Above this share of the queue it is said that it fills, in percent.
const QUEUE_FULL_PERCENT: i64 = 80;
const BEAT_LIMIT: Duration = Duration::from_millis(BEAT_LIMIT_MS);

/// What the examiner needs to know.
#[derive(Clone)]
pub struct HealthDeps {
    /// The runs slice; through it, the database.
    pub runs: Runs,
    /// Which engine is below, for people.
    pub engine: &'static str,
    /// The state folder.
    pub state_dir: PathBuf,
    /// uv, where it is configured.
    pub uv_path: Option<PathBuf>,
    /// Python, where it is configured.
    pub python: Option<String>,
    /// The environment that phases get.
    pub env: BTreeMap<String, String>,
    /// For the moment of an examination.
    pub clock: Arc<dyn Clock>,
}

/// What an examination found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of the checks.
    pub status: Status,
    /// The program's version.
    pub version: &'static str,
    /// When it was looked, RFC 3339.
    pub checked_at: String,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// A report, and when it was made.
type Looked = (Instant, Arc<Report>);

/// Examines; cheap to clone.
#[derive(Clone)]
pub struct Examiner {
    deps: HealthDeps,
    last: Arc<Mutex<Option<Looked>>>,
}

impl Examiner {
    /// An examiner that has not looked yet.
    #[must_use]
    pub fn new(deps: HealthDeps) -> Examiner {
        Examiner { deps, last: Arc::default() }
    }

    /// The report: the one of a moment ago, or a new one, for which all who ask wait together.
    pub async fn report(&self) -> Arc<Report> {
        let this = self.clone();
        // In a task of its own: who asks may hang up, and the next one is glad of the result.
        let looked = tokio::spawn(async move {
            let mut last = this.last.lock().await;
            match &*last {
                Some((at, report)) if at.elapsed() < Duration::from_millis(HEALTH_CACHE_MS) => {
                    report.clone()
                }
                _ => {
                    let report = Arc::new(this.deps.examine().await);
                    *last = Some((Instant::now(), report.clone()));
                    report
                }
            }
        });
        looked.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the examination broke off");
            let why = "the examination broke off; the daemon's log says where";
            Arc::new(self.deps.report_of(vec![Check::failed(
                "health",
                why,
                "see the daemon's log",
            )]))
        })
    }
}

impl HealthDeps {
    async fn examine(&self) -> Report {
        let served = self.runs.served();
        let (uv, git, programs, database) = tokio::join!(
            self.uv_and_python(),
            probe::git(&self.env, HEALTH_PROGRAM_MS),
            self.programs(&served),
            self.database(),
        );
        let mut checks = uv;
        checks.push(git);
        checks.extend(programs);
        checks.extend(database);
        checks.push(self.state_folder());
        checks.extend(probe::disk(&self.state_dir));
        checks.push(self.watcher());
        checks.push(supervisor(self.runs.beat_age()));
        checks.extend(self.projects(&served));
        self.report_of(checks)
    }

    fn report_of(&self, mut checks: Vec<Check>) -> Report {
        for check in &mut checks {
            check.message = redact(&check.message).into_owned();
        }
        Report {
            status: checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok),
            version: env!("CARGO_PKG_VERSION"),
            checked_at: self.clock.now().rfc3339(),
            checks,
        }
    }

    async fn uv_and_python(&self) -> Vec<Check> {
        let path = self.env.get("PATH").map(std::ffi::OsStr::new);
        let Some(uv) = uv::locate(self.uv_path.as_deref(), path, &self.state_dir) else {
            let python = "not looked for: it is found through uv";
            let python = Check::failed("python", python, "install uv first");
            return vec![probe::uv_absent(self.uv_path.as_deref()), python];
        };
        let (check, works) = probe::uv(&uv, &self.env, HEALTH_PROGRAM_MS).await;
        let mut checks = vec![check];
        if works {
            let script = probe::Script {
                uv: &uv,
                python: self.python.as_deref(),
                file: self.state_dir.join(".health-probe.py"),
                env: &self.env,
                limit_ms: HEALTH_SCRIPT_MS,
            };
            checks.extend(probe::python(&script).await);
        }
        checks
    }

    /// The agents and forge programs that the served projects need. One that is missing fails the
    /// daemon only where no project can work without it.
    async fn programs(&self, served: &[Served]) -> Vec<Check> {
        let mut wanted: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for project in served {
            let gh = (project.forge == "github").then(|| "gh".to_owned());
            for program in project.programs.iter().cloned().chain(gh) {
                wanted.entry(program).or_default().insert(&project.name);
            }
        }
        let look = wanted.iter().map(|(program, projects)| async move {
            let kind = if program == "gh" { "forge" } else { "agent" };
            let name = format!("{kind}:{}", program.rsplit('/').next().unwrap_or(program));
            let check = probe::program(&name, program, &self.env, HEALTH_PROGRAM_MS).await;
            needed_by(check, projects, served.len())
        });
        join_all(look).await
    }

    async fn database(&self) -> Vec<Check> {
        let began = Instant::now();
        match self.figures().await {
            Ok(figures) => {
                let message =
                    format!("{} answered in {} ms", self.engine, began.elapsed().as_millis());
                vec![Check::ok("database", message), self.queue(&figures)]
            }
            Err(why) => {
                let message = format!("{}: {why}", self.engine);
                let hint = "see that the server runs and the disk has room; runs wait meanwhile, nothing is lost";
                vec![Check::failed("database", message, hint)]
            }
        }
    }

    /// What the database says of the runs, or why it does not.
    pub(super) async fn figures(&self) -> Result<RunFigures, String> {
        let limit = Duration::from_millis(OBSERVE_DB_MS);
        match tokio::time::timeout(limit, self.runs.figures()).await {
            Ok(figures) => figures.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {OBSERVE_DB_MS} ms")),
        }
    }

    fn queue(&self, figures: &RunFigures) -> Check {
        let (waiting, max) = (figures.queued, i64::from(self.runs.queue_max()));
        let text = format!(
            "{waiting} of at most {max} runs wait, the longest for {:.0} s",
            figures.oldest_wait_s
        );
        if waiting > 0 && waiting * 100 >= max * QUEUE_FULL_PERCENT {
            let hint = "a full queue refuses triggers: raise limits.max_running or limits.queue_max, or cancel some";
            return Check::degraded("queue", text, hint);
        }
        Check::ok("queue", text)
    }

    pub(super) fn state_folder(&self) -> Check {
        match probe::written(&self.state_dir, "health") {
            Ok(()) => Check::ok("state_dir", "the state folder can be written"),
            Err(error) => Check::failed(
                "state_dir",
                format!("the state folder cannot be written: {error}"),
                "see its owner, its mode and the room on its disk",
            ),
        }
    }

    fn watcher(&self) -> Check {
        match self.runs.watcher().means {
            "inotify" => probe::inotify(),
            means => Check::degraded(
                "inotify",
                format!("changes are noticed by looking ({means}), which is slower"),
                "sysctl fs.inotify.max_user_watches=65536 fs.inotify.max_user_instances=128, then start the daemon anew",
            ),
        }
    }

    fn projects(&self, served: &[Served]) -> Vec<Check> {
        let unserved = self.runs.unserved();
        if unserved.is_empty() {
            return vec![Check::ok("projects", format!("{} served", served.len()))];
        }
        let bad = unserved.into_iter().map(|(name, problem)| {
            let hint = format!("mend that, or `adwd project remove {name}`");
            Check::degraded("projects", format!("{name} is not served: {problem}"), hint)
        });
        bad.collect()
    }
}

/// Judges a program by who needs it.
fn needed_by(mut check: Check, projects: &BTreeSet<&str>, served: usize) -> Check {
    if check.status == Status::Failed && projects.len() < served {
        check.status = Status::Degraded;
    }
    if check.status != Status::Ok {
        let names: Vec<&str> = projects.iter().copied().collect();
        check.message = format!("{}; needed by {}", check.message, names.join(", "));
    }
    check
}

pub(super) fn supervisor(age: Duration) -> Check {
    let text = format!("its last round was {} s ago", age.as_secs());
    if age < BEAT_LIMIT {
        return Check::ok("supervisor", text);
    }
    let hint = "`adwd stop`, then `adwd serve`; runs live on and are found again";
    Check::failed("supervisor", text, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_fails_the_daemon_only_where_every_project_needs_it() {
        let missing = || Check::failed("agent:claude", "claude is not there", "install it");
        let projects = BTreeSet::from(["a"]);
        let check = needed_by(missing(), &projects, 2);
        assert_eq!(check.status, Status::Degraded);
        assert_eq!(check.message, "claude is not there; needed by a");
        assert_eq!(needed_by(missing(), &projects, 1).status, Status::Failed);
        let there = needed_by(Check::ok("agent:claude", "2.0"), &projects, 1);
        assert_eq!((there.status, there.message.as_str()), (Status::Ok, "2.0"));
    }

    #[test]
    fn a_supervisor_that_stopped_beating_has_failed() {
        assert_eq!(supervisor(Duration::from_secs(3)).status, Status::Ok);
        assert_eq!(supervisor(BEAT_LIMIT).status, Status::Failed);
    }
}
