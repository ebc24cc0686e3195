//! What must hold before a run leaves the queue; each failure has a name and a remedy.
//!
//! Exit codes 1 and 2 of `uv run` can be uv's own or the script's (`spec/platform.md` §1), so
//! everything that could make uv fail is tried here first, where it cannot be mistaken.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::base::{branches_like, remote_url, resolve_base};
use super::ctx::Ctx;
use super::git::Base;
use super::known::Look;
use super::process::{Cmd, Output, find_program, output};
use super::profile::WorktreeBy;
use super::project::Project;
use super::sql::RunRow;
use super::view::{Failure, FailureClass};
use crate::limits;

fn fail(class: FailureClass, message: String, retryable: bool) -> Failure {
    Failure { class, message, retryable, phase: None, log_tail: vec![] }
}

fn refuse(message: String) -> Failure {
    fail(FailureClass::Preflight, message, false)
}

fn os_env(env: &BTreeMap<String, String>) -> BTreeMap<OsString, OsString> {
    env.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect()
}

/// Runs all checks; the first that fails names itself. Answers the base to cut from.
pub(crate) async fn preflight(ctx: &Ctx, project: &Project, row: &RunRow) -> Result<Base, Failure> {
    let env = ctx.base_env(project);
    // Edited since the run was accepted, it would be refused by the scripts.
    project.reread().map_err(|e| refuse(e.to_string()))?;
    check_scripts(project, &row.todo())?;
    check_disk(&project.trees_dir(), ctx.config().limits.min_free_mb)?;
    let uv = check_uv(ctx, &env).await?;
    check_git(ctx, &env).await?;
    project.check_choices().map_err(refuse)?;
    check_agent(project, &env)?;
    check_env(project, &env)?;
    check_forge(ctx, project, &env).await?;
    let base = check_base(ctx, project, &row.todo()).await?;
    check_collision(ctx, project, row).await?;
    check_checkout(ctx, project, &base).await?;
    warm(ctx, project, &uv, &env, &row.todo()).await?;
    Ok(base)
}

fn check_scripts(project: &Project, phases: &[String]) -> Result<(), Failure> {
    for phase in phases {
        if project.script(phase).is_none() {
            let wanted =
                project.profile.phase(phase).map(|p| p.scripts.join(" or ")).unwrap_or_default();
            return Err(refuse(format!(
                "scripts: phase {phase} needs {wanted} under {}",
                project.scripts_root.display()
            )));
        }
    }
    for file in &project.profile.required_files {
        if !project.scripts_root.join(file).exists() {
            return Err(refuse(format!(
                "scripts: {} is missing",
                project.scripts_root.join(file).display()
            )));
        }
    }
    let commands = project.root.join(".claude/commands");
    for prompt in &project.profile.required_prompts {
        if !has_prompt(&commands, prompt, 1) {
            return Err(refuse(format!(
                "prompt template /{prompt} is missing: no {prompt}.md below {}",
                commands.display()
            )));
        }
    }
    Ok(())
}

fn has_prompt(dir: &Path, name: &str, depth: usize) -> bool {
    let file = format!("{name}.md");
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|e| {
        if e.path().is_dir() {
            depth > 0 && has_prompt(&e.path(), name, depth - 1)
        } else {
            e.file_name() == file.as_str()
        }
    })
}

/// Where nothing was made yet, the folder that it will be made in is looked at.
fn check_disk(root: &Path, min_free_mb: u32) -> Result<(), Failure> {
    let mut stats = root.ancestors().map(nix::sys::statvfs::statvfs);
    let Some(fs) = stats.find_map(Result::ok) else { return Ok(()) };
    let free_mb = fs.blocks_available().saturating_mul(fs.fragment_size()) >> 20;
    if free_mb >= u64::from(min_free_mb) {
        return Ok(());
    }
    let message = format!(
        "disk: {free_mb} MiB are free under {}; at least {min_free_mb} MiB are needed \
         (limits.min_free_mb). `adwd clean` removes worktrees of ended runs",
        root.display()
    );
    Err(fail(FailureClass::Preflight, message, true))
}

/// Where uv is: configured, on the path, or provisioned into the state folder.
pub(crate) fn find_uv(ctx: &Ctx) -> Option<PathBuf> {
    let path = ctx.deps.base_env.get("PATH").cloned().unwrap_or_default();
    crate::uv::locate(
        ctx.config().uv.path.as_deref(),
        Some(OsStr::new(&path)),
        &ctx.config().paths.state_dir,
    )
}

async fn command(
    program: &Path,
    args: &[&str],
    cwd: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Output, Failure> {
    let cmd = Cmd {
        program: program.to_path_buf(),
        args: args.iter().map(OsString::from).collect(),
        cwd: cwd.map(Path::to_path_buf),
        env: os_env(env),
        stdin: vec![],
        timeout_ms: limits::PREFLIGHT_COMMAND_MS,
        max_output_bytes: limits::COMMAND_OUTPUT_BYTES,
    };
    let out =
        output(&cmd).await.map_err(|e| fail(FailureClass::Environment, e.to_string(), true))?;
    match killed_by(&out) {
        None => Ok(out),
        // What it would have said is not known, so nothing else may be made of it.
        Some(signal) => Err(fail(
            FailureClass::Environment,
            format!(
                "{} {} was killed (signal {signal}): by the kernel for want of memory, or by somebody",
                program.display(),
                args.first().unwrap_or(&"")
            ),
            true,
        )),
    }
}

/// The signal that ended a command, or a child whose code it handed on, as uv does.
fn killed_by(out: &Output) -> Option<i32> {
    out.signal
        .or_else(|| out.code.map(|code| code - 128).filter(|signal| (1..=31).contains(signal)))
}

async fn check_uv(ctx: &Ctx, env: &BTreeMap<String, String>) -> Result<PathBuf, Failure> {
    let uv = find_uv(ctx).ok_or_else(|| {
        refuse("uv: not found on the daemon's PATH; install it (`pip install uv`), or set uv.path in the configuration, or run `adwd doctor --fix`".into())
    })?;
    let question = format!("version {}", uv.display());
    if ctx.known.get(&question).is_some() {
        return Ok(uv);
    }
    let look = Look::at([uv.clone()], ctx.file_time());
    let text = command(&uv, &["--version"], None, env).await?.stdout_text();
    match uv_version(&text) {
        Some(v) if v >= (crate::uv::MIN_VERSION.0, crate::uv::MIN_VERSION.1) => {
            ctx.known.put(question, look, text);
            Ok(uv)
        }
        Some((a, b)) => Err(refuse(format!(
            "uv: {} is version {a}.{b}; at least {}.{} is needed",
            uv.display(),
            crate::uv::MIN_VERSION.0,
            crate::uv::MIN_VERSION.1
        ))),
        None => Err(refuse(format!("uv: {} --version answered {:?}", uv.display(), text.trim()))),
    }
}

/// An older git fails in the middle, with an option that it does not know. Asked once for each git.
async fn check_git(ctx: &Ctx, env: &BTreeMap<String, String>) -> Result<(), Failure> {
    let (major, minor) = super::git::MIN_VERSION;
    let path = env.get("PATH").map_or("", String::as_str);
    let Some(git) = find_program("git", OsStr::new(path)) else {
        return Err(refuse(format!(
            "git: not found on the daemon's PATH; install git {major}.{minor} or newer"
        )));
    };
    let stamp = git.metadata().map(|m| format!("{} {:?}", m.len(), m.modified()));
    let stamp = stamp.unwrap_or_default();
    if !ctx.warm_needed(&git, &stamp) {
        return Ok(());
    }
    let text = command(&git, &["--version"], None, env).await?.stdout_text();
    let (git, text) = (git.as_path(), text.trim());
    match crate::uv::parse_version(text) {
        Some((a, b, _)) if (a, b) >= (major, minor) => {
            ctx.warmed(git, &stamp);
            Ok(())
        }
        Some((a, b, _)) => Err(refuse(format!(
            "git: {} is version {a}.{b}; at least {major}.{minor} is needed",
            git.display()
        ))),
        None => Err(refuse(format!("git: {} --version answered {text:?}", git.display()))),
    }
}

/// `uv 0.13.8 (…)` → `(0, 13)`.
fn uv_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix("uv ")?.split(['.', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The program of Claude Code: as set, as found on the path, or its plain name.
pub(crate) fn claude(env: &BTreeMap<String, String>) -> String {
    let name = env.get("CLAUDE_CODE_PATH").map_or("claude", String::as_str);
    let path = env.get("PATH").map_or("", String::as_str);
    find_program(name, OsStr::new(path))
        .map_or_else(|| name.to_owned(), |p| p.to_string_lossy().into_owned())
}

/// Programs that the runs of a project need beside git and uv, each with who needs it.
pub(super) fn programs(project: &Project, env: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let named =
        |variable: &str, usual: &str| env.get(variable).map_or(usual, String::as_str).to_owned();
    let claude = || named("CLAUDE_CODE_PATH", "claude");
    let profile = &project.profile;
    let mut all: Vec<(String, String)> = vec![];
    for tool in &profile.required_tools {
        let program = if tool == "claude" { claude() } else { tool.clone() };
        all.push((format!("profile {}", profile.name), program));
    }
    if profile.name != "adwd" {
        return all;
    }
    match project.agent().as_str() {
        "claude" => all.push(("agent claude".to_owned(), claude())),
        "codex" => all.push(("agent codex".to_owned(), named("CODEX_PATH", "codex"))),
        _ => {}
    }
    all
}

fn check_agent(project: &Project, env: &BTreeMap<String, String>) -> Result<(), Failure> {
    let path = env.get("PATH").map_or("", String::as_str);
    for (what, program) in programs(project, env) {
        if find_program(&program, OsStr::new(path)).is_none() {
            return Err(refuse(format!(
                "agent: {what} needs {program:?}, which is not on the daemon's PATH"
            )));
        }
    }
    Ok(())
}

fn check_env(project: &Project, env: &BTreeMap<String, String>) -> Result<(), Failure> {
    let own = &project.config.env;
    let is_set =
        |name: &String| own.get(name).or_else(|| env.get(name)).is_some_and(|v| !v.is_empty());
    match project.profile.required_env.iter().find(|name| !is_set(name)) {
        None => Ok(()),
        Some(name) => Err(refuse(format!(
            "environment: the scripts of profile {} need {name}; set it in the daemon's environment",
            project.profile.name
        ))),
    }
}

/// Where the scripts work in the main checkout, it must be clean and on the base: they commit
/// everything they find, and cut from where they are. A branch that an earlier run left checked
/// out is left for the base again; any other is somebody's work.
async fn check_checkout(ctx: &Ctx, project: &Project, base: &Base) -> Result<(), Failure> {
    if project.profile.worktree_by != WorktreeBy::Nobody {
        return Ok(());
    }
    let git = ctx.git(project);
    let failed = |e: super::git::GitError| fail(FailureClass::Git, e.to_string(), false);
    if !git.is_clean(&project.root).await.map_err(failed)? {
        return Err(refuse(format!(
            "checkout: these scripts work in {} itself and commit what they find, and it has uncommitted changes",
            project.root.display()
        )));
    }
    let branch = git.branch_of(&project.root).await.map_err(failed)?.unwrap_or_default();
    if branch == base.branch {
        return Ok(());
    }
    let left = super::sql::run_of_branch(ctx.db(), &ctx.deps.host, &project.name, &branch).await;
    if !matches!(left, Ok(Some(_))) {
        return Err(refuse(format!(
            "checkout: these scripts cut from what is checked out in {}, which is {branch:?}; `git switch {}`",
            project.root.display(),
            base.branch
        )));
    }
    git.switch(&project.root, &base.branch).await.map_err(failed)
}

/// The host of the forge: of `forge_repo` where it names one, else of the remote.
async fn forge_host(ctx: &Ctx, project: &Project) -> Option<String> {
    if let Some(repo) = &project.config.forge_repo
        && let [host, _, _] = repo.split('/').collect::<Vec<_>>().as_slice()
    {
        return Some((*host).to_owned());
    }
    let url = ctx.git(project).remote_url(&project.remote()).await.ok()??;
    host_of(&url)
}

/// The host of a remote's URL, `https://`, `ssh://` or `user@host:path`; none for a folder.
fn host_of(url: &str) -> Option<String> {
    let rest = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split('/').next()?,
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?.0,
    };
    let host = rest.rsplit('@').next()?.split(':').next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

async fn check_forge(
    ctx: &Ctx,
    project: &Project,
    env: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let wants_gh = project.forge() == "github";
    // The scripts of others comment on the issue all the way, and die of a comment that fails.
    let theirs =
        project.profile.required_tools.iter().any(|t| t == "gh") && !env.contains_key("GITHUB_PAT");
    let ours = wants_gh && project.profile.name == "adwd";
    if !theirs && !ours {
        return Ok(());
    }
    let name = env.get("GH_PATH").map_or("gh", String::as_str);
    let path = env.get("PATH").map_or("", String::as_str);
    let Some(gh) = find_program(name, OsStr::new(path)) else {
        return Err(refuse(
            "forge: github needs the gh command line, which is not on the daemon's PATH".into(),
        ));
    };
    let host = forge_host(ctx, project).await;
    let mut args = vec!["auth", "status"];
    if let Some(host) = host.as_deref() {
        // Without it a stale login to any other host would count.
        args.extend(["--hostname", host]);
    }
    let out = command(&gh, &args, None, env).await?;
    if !out.success() {
        let said = format!("{}\n{}", String::from_utf8_lossy(&out.stderr), out.stdout_text());
        let cause = said.lines().map(str::trim).find_map(|line| line.strip_prefix("X "));
        return Err(refuse(format!(
            "forge: gh is not logged in ({}); run `gh auth login`",
            cause.map_or_else(|| out.last_error_line(), str::to_owned)
        )));
    }
    Ok(())
}

async fn check_base(ctx: &Ctx, project: &Project, phases: &[String]) -> Result<Base, Failure> {
    let git = ctx.git(project);
    let base = resolve_base(ctx, project)
        .await
        .map_err(|e| fail(FailureClass::Preflight, format!("base: {e}"), e.is_passing()))?;
    let pushes = phases.iter().any(|p| p == "build");
    if pushes && remote_url(ctx, project).await.ok().flatten().is_none() {
        return Err(refuse(format!(
            "remote: the repository has no remote {:?}, so nothing could be pushed; `git remote add {} URL`",
            project.remote(),
            project.remote()
        )));
    }
    // Scripts of these layouts cut from the local branch; without one git would guess a new one.
    if project.profile.base_is_local {
        let local = git
            .local_branch_commit(&base.branch)
            .await
            .map_err(|e| fail(FailureClass::Git, e.to_string(), false))?;
        let Some(local) = local else {
            return Err(refuse(format!(
                "base: these scripts cut from a local branch {0:?}, and there is none; `git branch {0} {1}/{0}`",
                base.branch,
                project.remote()
            )));
        };
        if local != base.commit {
            tracing::warn!(
                project = project.name,
                branch = base.branch,
                local,
                remote = base.commit,
                "these scripts cut from the local branch, which is not where the remote's is"
            );
        }
        return Ok(Base { commit: local, ..base });
    }
    Ok(base)
}

async fn check_collision(ctx: &Ctx, project: &Project, row: &RunRow) -> Result<(), Failure> {
    let state = super::facts::read_state(&project.state_file(&row.adw_id), &row.adw_id);
    match state {
        Err(problem) => {
            return Err(refuse(format!(
                "id: run {} has a state file that cannot be used: {problem}",
                row.adw_id
            )));
        }
        Ok(Some(s)) => {
            if let Some(other) = s.text("issue_number").filter(|n| n != &row.issue_number) {
                return Err(refuse(format!(
                    "id: the state of {} belongs to issue {other}, not {}",
                    row.adw_id, row.issue_number
                )));
            }
        }
        Ok(None) => {
            let short = row.adw_id.get(..8).unwrap_or(&row.adw_id);
            let pattern = project.profile.branch_pattern.replace("{issue}", &row.issue_number);
            let pattern = pattern.replace("{adw_id}", &row.adw_id).replace("{adw_id8}", short);
            let taken = branches_like(ctx, project, &pattern)
                .await
                .map_err(|e| fail(FailureClass::Git, e.to_string(), false))?;
            if let Some(branch) = taken.iter().find(|b| row.branch.as_ref() != Some(*b)) {
                return Err(refuse(format!(
                    "branch: {branch} exists already and no run of this daemon made it; use another id or delete it"
                )));
            }
        }
    }
    Ok(())
}

/// Makes sure that uv finds a Python for the scripts.
async fn find_python(
    ctx: &Ctx,
    project: &Project,
    uv: &Path,
    env: &BTreeMap<String, String>,
    version: &str,
) -> Result<(), Failure> {
    let wish = env.get("UV_PYTHON").map_or("", String::as_str);
    let question = format!("python {version} {wish} {} {}", uv.display(), project.root.display());
    if ctx.known.get(&question).is_some() {
        return Ok(());
    }
    let pins = [".python-version", ".python-versions"].map(|name| project.root.join(name));
    let mut look = Look::at(pins.into_iter().chain([uv.to_path_buf()]), ctx.file_time());
    let args = ["python", "find", "--no-project", &format!(">={version}")];
    let out = command(uv, &args, Some(&project.root), env).await?;
    if !out.success() {
        let said = out.last_error_line();
        // Also a cache that cannot be written or a configuration that cannot be read ends here.
        let absent = String::from_utf8_lossy(&out.stderr).contains("No interpreter found");
        let message = if absent {
            format!("python: no Python {version} or newer ({said}); install one or set uv.python")
        } else {
            format!("python: uv could not look for Python {version} or newer: {said}")
        };
        return Err(fail(FailureClass::Environment, message, !absent));
    }
    let found = out.stdout_text().trim().to_owned();
    look.also([PathBuf::from(&found)], ctx.file_time());
    ctx.known.put(question, look, found);
    Ok(())
}

/// Makes the environment of every script ready, so that a failure of uv is not taken for one of
/// the phase.
async fn warm(
    ctx: &Ctx,
    project: &Project,
    uv: &Path,
    env: &BTreeMap<String, String>,
    phases: &[String],
) -> Result<(), Failure> {
    if let Some(version) = &project.profile.min_python {
        find_python(ctx, project, uv, env, version).await?;
    }
    let cwd = project.root.join(&project.profile.cwd);
    for phase in phases {
        let Some(script) = project.script(phase) else { continue };
        let text = std::fs::read_to_string(&script).unwrap_or_default();
        if !text.lines().any(|l| l.trim_end() == "# /// script") || !ctx.warm_needed(&script, &text)
        {
            continue;
        }
        let out = command(
            uv,
            &["sync", "--no-progress", "--script", &script.to_string_lossy()],
            Some(&cwd),
            env,
        )
        .await?;
        if !out.success() {
            let why =
                if out.timed_out { "it took too long".to_owned() } else { out.last_error_line() };
            return Err(fail(
                FailureClass::Environment,
                format!("uv could not make the environment of {} ready: {why}", script.display()),
                true,
            ));
        }
        check_syntax(project, uv, env, &cwd, &script).await?;
        ctx.warmed(&script, &text);
    }
    Ok(())
}

/// Reads the files named as arguments as Python; the first that this Python cannot read is told.
const READ_AS_PYTHON: &str = "\
import sys
for name in sys.argv[1:]:
    try:
        compile(open(name, 'rb').read(), name, 'exec')
    except SyntaxError as e:
        sys.exit('%s:%s: %s (this is Python %s)' % (name, e.lineno, e.msg, sys.version.split()[0]))
";

/// Scripts that name no Python version may still need a newer one than is there; they would die of
/// a syntax error after the phases before them have been paid for.
async fn check_syntax(
    project: &Project,
    uv: &Path,
    env: &BTreeMap<String, String>,
    cwd: &Path,
    script: &Path,
) -> Result<(), Failure> {
    let mut args: Vec<String> =
        ["run", "--no-progress", "--no-project", "python", "-c", READ_AS_PYTHON]
            .map(str::to_owned)
            .to_vec();
    args.push(script.to_string_lossy().into_owned());
    let modules = project.profile.required_files.iter().map(|f| project.scripts_root.join(f));
    for dir in modules.filter(|p| p.is_dir()) {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
        args.extend(
            files
                .filter(|p| p.extension().is_some_and(|x| x == "py"))
                .map(|p| p.to_string_lossy().into_owned()),
        );
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let out = command(uv, &args, Some(cwd), env).await?;
    if out.success() {
        return Ok(());
    }
    Err(refuse(format!(
        "python: these scripts need another Python: {}; set uv.python in the configuration",
        out.last_error_line()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_remote() {
        for (url, host) in [
            ("https://forge.test/o/r.git", Some("forge.test")),
            ("https://user:***@forge.test:8443/o/r", Some("forge.test")),
            ("git@forge.test:o/r.git", Some("forge.test")),
            ("ssh://git@forge.test:22/o/r", Some("forge.test")),
            ("/srv/git/r.git", None),
            ("../r.git", None),
            ("file:///srv/r.git", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn free_space_is_looked_at_also_where_nothing_was_made_yet() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("not/made/yet");
        assert_eq!(check_disk(&tree, 0), Ok(()));
        let failure = check_disk(&tree, u32::MAX).unwrap_err();
        assert_eq!((failure.class, failure.retryable), (FailureClass::Preflight, true));
        assert!(failure.message.starts_with("disk: "), "{}", failure.message);
    }

    #[test]
    fn uv_versions() {
        assert_eq!(uv_version("uv 0.13.8 (abc 2026-01-01)\n"), Some((0, 13)));
        assert_eq!(uv_version("uvx 1"), None);
    }
}
