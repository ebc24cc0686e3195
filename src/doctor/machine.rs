//! What a machine must have, whatever the project.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Findings, Visit};
use crate::client::{Client, ClientError};
use crate::clock::{Clock as _, Millis, SystemClock};
use crate::config::Config;
use crate::lock::InstanceLock;
use crate::steps::library;
use crate::{daemon, probe, tool, uv};

const PROGRAM_LIMIT_MS: u64 = 20_000;
/// The first `uv run` may build an environment, or look through every Python there is.
const PROBE_LIMIT_MS: u64 = 120_000;
const NETWORK_LIMIT_MS: u64 = 30_000;
/// A clock before this is not set: certificates would be refused.
const CLOCK_FLOOR: &str = "2026-01-01T00:00:00Z";
/// The agent programs that the automation knows how to call.
const AGENTS: [&str; 4] = ["claude", "codex", "gemini", "opencode"];

pub(super) async fn examine(visit: &Visit<'_>, found: &mut Findings, tell: &dyn Fn(&str)) {
    folders(visit, found);
    daemon_state(visit, found).await;
    projects(visit, found).await;
    let env = visit.child_env();
    if let Some(uv) = uv_present(visit, found, tell).await {
        tell("running a script through uv");
        uv_probe(visit, found, &uv, &env).await;
    }
    found.take("git", probe::git(&env, PROGRAM_LIMIT_MS).await);
    agents(found, visit, &env);
    tell("asking gh");
    gh(visit, found, &env).await;
    found.take("inotify", probe::inotify());
    systemd(found, visit.env);
    cgroup(found);
    content(found, visit.config);
    access(found, visit.config);
    clock(found, SystemClock.now());
}

/// The user's folders of step workflows, read as the daemon would read them.
fn content(found: &mut Findings, config: &Config) {
    for folder in config.contents.iter().map(|content| &content.path) {
        let place = folder.display();
        if !folder.is_dir() {
            found.warn(
                "content",
                format!("{place} is no folder; the daemon goes on without it"),
                "make it, or take its [[content]] entry out of the configuration",
            );
            continue;
        }
        let checked = library::check(folder);
        match checked.problems.iter().filter(|problem| problem.fatal).count() {
            0 => found.ok(
                "content",
                format!(
                    "{place}: {} agents, {} rules, {} workflows",
                    checked.agents, checked.rules, checked.workflows
                ),
            ),
            count => found.warn(
                "content",
                format!("{place}: {count} problems; what they are in cannot be used"),
                format!("`adwd content check {place}` names them by file and line"),
            ),
        }
    }
}

/// Settings about callers that do not go together.
fn access(found: &mut Findings, config: &Config) {
    let wrong = config.access.contradictions();
    if wrong.is_empty() {
        let oauth = config.access.oauth.issuer.as_deref();
        let who = oauth.map_or_else(String::new, |issuer| format!(" and tokens of {issuer}"));
        found.ok("access", format!("callers over HTTP: keys{who}"));
    }
    for one in wrong {
        match one.fatal {
            true => found.fail("access", one.problem, one.mend),
            false => found.warn("access", one.problem, one.mend),
        }
    }
}

fn folders(visit: &Visit<'_>, found: &mut Findings) {
    let folder = &visit.config.paths.state_dir;
    let written = daemon::private_folder(folder).and_then(|()| probe::written(folder, "doctor"));
    match written {
        Ok(()) => found.ok("state_dir", format!("{} can be written", folder.display())),
        Err(error) => found.fail(
            "state_dir",
            format!("{} cannot be written: {error}", folder.display()),
            "make it yours, or choose another with --state-dir or XDG_STATE_HOME",
        ),
    }
    if let Some(check) = probe::disk(folder) {
        found.take("disk", check);
    }
}

async fn daemon_state(visit: &Visit<'_>, found: &mut Findings) {
    let state_dir = &visit.config.paths.state_dir;
    let holder = InstanceLock::holder(state_dir);
    match (Client::connect(&visit.socket).await, holder) {
        (Ok(_), Some(pid)) => {
            let scheme = if visit.config.serve.tls_cert.is_some() { "https" } else { "http" };
            let http = daemon::recorded_http(state_dir)
                .map(|a| {
                    format!(", {scheme}://{a}/mcp; watch it at {scheme}://{a}/readyz, /mcp/health, /metrics, or with `adwd health`")
                })
                .unwrap_or_default();
            found.ok(
                "daemon",
                format!("runs (pid {pid}), answers on {}{http}", visit.socket.display()),
            );
        }
        (Ok(_), None) => found.warn(
            "daemon",
            format!("a daemon of another state folder answers on {}", visit.socket.display()),
            "give each daemon a --runtime-dir of its own",
        ),
        (Err(ClientError::Absent { .. }), None) => {
            found.ok("daemon", "none runs; `adwd serve` or any trigger starts one")
        }
        (Err(error), Some(pid)) => found.fail(
            "daemon",
            format!("runs (pid {pid}) but does not answer: {error}"),
            "`adwd stop`, then `adwd serve`; runs live on meanwhile",
        ),
        (Err(error), None) => {
            found.fail("daemon", error.to_string(), "look at the socket and its folder")
        }
    }
}

/// Projects that are to be served and cannot be: by their tables, and by what a daemon says of
/// those that were added to it.
async fn projects(visit: &Visit<'_>, found: &mut Findings) {
    let mut bad: BTreeMap<String, String> = BTreeMap::new();
    if let Ok(client) = Client::connect(&visit.socket).await
        && let Ok(answer) = client.call_value("list_adw_projects", serde_json::Map::new()).await
    {
        let all = answer.get("projects").and_then(serde_json::Value::as_array);
        for project in all.into_iter().flatten() {
            let text = |key| project.get(key).and_then(serde_json::Value::as_str);
            if let (Some(name), Some(problem)) = (text("name"), text("problem")) {
                let path = text("path").unwrap_or_default();
                bad.insert(name.to_owned(), format!("{path}: {problem}"));
            }
        }
    }
    for table in &visit.config.projects {
        if let Err(problem) = visit.project(&table.path) {
            bad.insert(table.name.to_string(), problem);
        }
    }
    for (name, problem) in bad {
        found.fail(
            "projects",
            format!("{name} is not served: {problem}"),
            format!(
                "mend that, or take it out: `adwd project remove {name}`, or its [[project]] table"
            ),
        );
    }
}

async fn uv_present(
    visit: &Visit<'_>,
    found: &mut Findings,
    tell: &dyn Fn(&str),
) -> Option<PathBuf> {
    let state_dir = &visit.config.paths.state_dir;
    let path = visit.env.get("PATH").map(OsStr::new);
    let mut present = uv::locate(visit.config.uv.path.as_deref(), path, state_dir);
    let mut fixed = false;
    if present.is_none() && visit.fix && visit.config.uv.path.is_none() {
        tell("installing uv");
        match uv::provision(state_dir, visit.env, tool::run_step).await {
            Ok(path) => (present, fixed) = (Some(path), true),
            Err(error) => {
                found.fail(
                    "uv",
                    format!("not there, and could not be installed: {error}"),
                    "install uv yourself, or set uv.path",
                );
                return None;
            }
        }
    }
    let Some(uv) = present else {
        found.take("uv", probe::uv_absent(visit.config.uv.path.as_deref()));
        return None;
    };
    let (check, works) = probe::uv(&uv, &visit.child_env(), PROGRAM_LIMIT_MS).await;
    match check.status {
        probe::Status::Ok if fixed => found.fixed("uv", check.message),
        _ => found.take("uv", check),
    }
    works.then_some(uv)
}

async fn uv_probe(
    visit: &Visit<'_>,
    found: &mut Findings,
    uv: &Path,
    env: &BTreeMap<String, String>,
) {
    let script = probe::Script {
        uv,
        python: visit.config.uv.python.as_deref(),
        file: visit.config.paths.state_dir.join(".doctor-probe.py"),
        env,
        limit_ms: PROBE_LIMIT_MS,
    };
    if let Some(check) = probe::python(&script).await {
        found.take("python", check);
    }
}

fn agents(found: &mut Findings, visit: &Visit<'_>, env: &BTreeMap<String, String>) {
    let present: Vec<&str> =
        AGENTS.into_iter().filter(|name| tool::find(name, env).is_some()).collect();
    for project in &visit.config.projects {
        if let Some(agent) =
            project.agent.as_deref().filter(|a| AGENTS.contains(a) && !present.contains(a))
        {
            found.fail(
                "agents",
                format!("project {} asks for {agent}, which is not on PATH", project.name),
                format!("install {agent}, or choose another agent for the project"),
            );
        }
    }
    if present.is_empty() {
        found.warn(
            "agents",
            "no coding agent on PATH: only `patch` and `command` can do the work",
            "install claude or codex",
        );
    } else {
        found.ok("agents", format!("on PATH: {}", present.join(", ")));
    }
}

async fn gh(visit: &Visit<'_>, found: &mut Findings, env: &BTreeMap<String, String>) {
    let wanted = visit.config.projects.iter().any(|p| p.forge.as_deref() == Some("github"))
        || visit
            .root
            .as_ref()
            .is_some_and(|root| visit.project(root).is_ok_and(|p| p.forge() == "github"));
    let Some(gh) = tool::find("gh", env) else {
        if wanted {
            found.fail(
                "gh",
                "not found, and a project uses the github forge",
                "install gh 2.23 or newer and `gh auth login`",
            );
        } else {
            found.ok("gh", "not found; needed for the github forge alone");
        }
        return;
    };
    if visit.offline {
        found.ok("gh", format!("{} (login not checked: offline)", gh.display()));
        return;
    }
    match tool::run(&gh, &["auth", "status"], Path::new("/"), env, NETWORK_LIMIT_MS).await {
        Ok(done) if done.code == Some(0) => found.ok("gh", format!("{}, logged in", gh.display())),
        other => {
            let why = other.map_or_else(|error| error, |done| done.stderr);
            let text = format!("{} is not logged in: {why}", gh.display());
            let mend = "`gh auth login`, or set GH_TOKEN in the daemon's environment";
            if wanted { found.fail("gh", text, mend) } else { found.warn("gh", text, mend) }
        }
    }
}

fn systemd(found: &mut Findings, env: &BTreeMap<String, String>) {
    if !Path::new("/run/systemd/system").is_dir() {
        found.ok(
            "systemd",
            "not the service manager here: runs are fenced by cgroup or process group",
        );
        return;
    }
    let uid = nix::unistd::getuid();
    let runtime = env.get("XDG_RUNTIME_DIR").cloned().unwrap_or_else(|| format!("/run/user/{uid}"));
    if !Path::new(&runtime).join("systemd/private").exists() {
        found.warn(
            "systemd",
            "your own manager does not run: a run shares the daemon's cgroup instead of having a scope of its own",
            "`loginctl enable-linger`, then log in anew",
        );
        return;
    }
    let name =
        nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name).unwrap_or_default();
    if Path::new("/var/lib/systemd/linger").join(&name).exists() {
        found.ok("systemd", "your own manager runs and lingers: each run gets a scope of its own");
    } else {
        found.warn(
            "systemd",
            "your own manager ends when you log out, and every run with it",
            format!("`loginctl enable-linger {name}`"),
        );
    }
}

fn cgroup(found: &mut Findings) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_v2 = after.split(' ').next() == Some("cgroup2");
        is_v2.then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    });
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(|path| path.trim_start_matches('/').to_owned());
    match (mounted, own) {
        (Some(mount), Some(own)) => {
            let folder = mount.join(own);
            let writable = nix::unistd::access(&folder, nix::unistd::AccessFlags::W_OK).is_ok();
            let what = if writable {
                "can be written"
            } else {
                "cannot be written; a scope or the process group is used"
            };
            found.ok("cgroup2", format!("{} {what}", folder.display()));
        }
        _ => found.ok("cgroup2", "not mounted: the process group is used"),
    }
}

fn clock(found: &mut Findings, now: Millis) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").is_ok();
    let floor = Millis::parse_rfc3339(CLOCK_FLOOR).unwrap_or_default();
    if now < floor {
        found.fail(
            "clock",
            format!("it is {} here: certificates will be refused", now.rfc3339()),
            "set the clock (NTP)",
        );
    } else if boot {
        found.ok("clock", now.rfc3339());
    } else {
        found.warn(
            "clock",
            "the kernel names no boot id: a reused pid after a reboot is told apart less surely",
            "mount /proc",
        );
    }
}
