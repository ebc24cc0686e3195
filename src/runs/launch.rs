//! What a phase is started with, as data: argument list and the whole environment.
//!
//! Nothing is inherited: the environment is an allow-list over the daemon's own, plus what the
//! phase needs to know. Secrets go through the environment only, never into an argument, a file or
//! a log line.

use std::collections::BTreeMap;
use std::path::Path;

use super::project::Project;

/// Variables that uv, git, ssh, proxies, certificates and locale need, and those of the agent and
/// forge command lines. A name that ends in `*` is a prefix.
pub const ENV_ALLOWED: &[&str] = &[
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "TZ",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TMPDIR",
    "XDG_*",
    "UV_*",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_AUTHOR_*",
    "GIT_COMMITTER_*",
    "GIT_CONFIG_*",
    "GIT_SSL_*",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "GPG_TTY",
    "PYENV_ROOT",
    "ANTHROPIC_*",
    "CLAUDE_*",
    "OPENAI_*",
    "CODEX_*",
    "GEMINI_*",
    "GH_*",
    "GITHUB_*",
];

/// Variables that never pass, whatever a list says: they would make uv use the daemon's own
/// environment, or Python hold its output back; or they are the daemon's own secrets, which a list
/// with `*` does not mean.
const ENV_REFUSED: &[&str] = &[
    "ADWD_DATABASE_URL",
    "ADWD_GITHUB_WEBHOOK_SECRET",
    "ADWD_KEY",
    "ADWD_OTLP_HEADERS",
    "ADW_TEST_CRASH",
    "ADWD_TEST_CRASH",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "VIRTUAL_ENV",
    "UV_RUN_RECURSION_DEPTH",
    "UV_PROJECT",
    "UV_WORKING_DIRECTORY",
    "PYTHONHOME",
    "PYTHONPATH",
];

/// Whether a variable passes.
#[must_use]
pub fn allowed(name: &str, extra: &[String]) -> bool {
    if ENV_REFUSED.contains(&name) {
        return false;
    }
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    ENV_ALLOWED.iter().any(|p| fits(p)) || extra.iter().any(|p| fits(p))
}

/// What is particular to one attempt.
#[derive(Clone, Debug)]
pub struct AttemptCall<'a> {
    /// Name of the deployment environment in the log tree.
    pub environment: &'a str,
    /// The program of Claude Code, resolved.
    pub claude: &'a str,
    /// The run.
    pub adw_id: &'a str,
    /// Its issue.
    pub issue: &'a str,
    /// The phase.
    pub phase: &'a str,
    /// The attempt's folder.
    pub dir: &'a Path,
    /// Model asked for.
    pub model: Option<&'a str>,
    /// Keep the worktree after success.
    pub skip_cleanup: bool,
    /// Who triggered the run.
    pub triggered_by: &'a str,
    /// Request id.
    pub request_id: Option<&'a str>,
    /// User.
    pub user_id: Option<&'a str>,
    /// The worktree, where there is one.
    pub worktree: Option<&'a str>,
    /// The base branch.
    pub base_branch: Option<&'a str>,
    /// The base commit.
    pub base_commit: Option<&'a str>,
    /// What the agents of the run may cost in all, by the scripts' own account, in US dollars.
    pub budget_usd: Option<f64>,
}

/// The daemon's own environment, less what does not pass, with Python's and uv's switches.
#[must_use]
pub fn base_env(own: &BTreeMap<String, String>, extra: &[String]) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = own
        .iter()
        .filter(|(k, _)| allowed(k, extra))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    env.insert("PYTHONUNBUFFERED".into(), "1".into());
    env.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
    env.insert("GIT_TERMINAL_PROMPT".into(), "0".into());
    env.insert("GH_PROMPT_DISABLED".into(), "1".into());
    env.insert("GH_NO_UPDATE_NOTIFIER".into(), "1".into());
    env.insert("NO_COLOR".into(), "1".into());
    if !["SSL_CERT_FILE", "SSL_CERT_DIR", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"]
        .iter()
        .any(|k| env.contains_key(*k))
    {
        // uv brings its own roots; a machine behind its own authority has them only in the system's.
        env.insert("UV_SYSTEM_CERTS".into(), "1".into());
    }
    env
}

/// The whole environment of a phase.
#[must_use]
pub fn phase_env(
    base: &BTreeMap<String, String>,
    project: &Project,
    call: &AttemptCall<'_>,
) -> BTreeMap<String, String> {
    let mut env = base.clone();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            env.insert(key.to_owned(), value);
        }
    };
    let text = |p: &Path| p.to_string_lossy().into_owned();
    set("ADW_DAEMON", Some("1".into()));
    set("ADW_PROJECT_ROOT", Some(text(&project.root)));
    set("ADW_AGENTS_DIR", Some(text(&project.agents_dir())));
    set("ADW_TREES_DIR", Some(text(&project.trees_dir())));
    set("ADW_LOG_ROOT", Some(text(&project.log_root())));
    if project.state_root != project.root {
        set("ADW_PULLS_DIR", Some(text(&project.state_root.join("automation/pulls"))));
    }
    set("ADW_ATTEMPT_DIR", Some(text(call.dir)));
    set("ADW_MODEL", call.model.map(str::to_owned).or_else(|| project.config.model.clone()));
    set("ADW_CLEANUP_WORKTREES", Some((!call.skip_cleanup).to_string()));
    set("ADW_TRIGGERED_BY", Some(call.triggered_by.to_owned()));
    set("ADW_MCP_REQUEST_ID", call.request_id.map(str::to_owned));
    set("ADW_MCP_USER_ID", call.user_id.map(str::to_owned));
    set("ADW_WORKTREE_PATH", call.worktree.map(str::to_owned));
    set("ADW_BASE_BRANCH", call.base_branch.map(str::to_owned).or_else(|| project.base_branch()));
    set("ADW_BASE_COMMIT", call.base_commit.map(str::to_owned));
    let c = &project.config;
    set("ADW_REMOTE", c.remote.clone());
    set("ADW_AGENT", c.agent.clone());
    set("ADW_AGENT_COMMAND", c.agent_command.clone());
    set("ADW_AGENT_TIMEOUT_S", c.agent_timeout_s.map(|s| s.to_string()));
    // The tighter one: a budget of the daemon must not lift what the project's own file says.
    let budget = match (project.agent_budget_usd(), call.budget_usd) {
        (Some(own), Some(left)) => Some(own.min(left)),
        (own, left) => own.or(left),
    };
    // The scripts refuse 0.
    set("ADW_AGENT_BUDGET_USD", budget.map(|b| b.max(0.0001).to_string()));
    set("ADW_FORGE", c.forge.clone());
    set("ADW_FORGE_REPO", c.forge_repo.clone());
    set("ADW_ISSUES_DIR", c.issues_dir.clone());
    set("ADW_CHECK_COMMAND", c.check_command.clone());
    for (key, template) in &project.profile.env {
        env.insert(key.clone(), fill(template, project, call));
    }
    for (key, value) in &project.config.env {
        env.insert(key.clone(), value.clone());
    }
    env
}

fn fill(template: &str, project: &Project, call: &AttemptCall<'_>) -> String {
    let text = |p: &Path| p.to_string_lossy().into_owned();
    template
        .replace("{root}", &text(&project.root))
        .replace("{state_root}", &text(&project.state_root))
        .replace("{log_root}", &text(&project.log_root()))
        .replace("{trees_dir}", &text(&project.trees_dir()))
        .replace("{agents_dir}", &text(&project.agents_dir()))
        .replace("{adw_id}", call.adw_id)
        .replace("{empty_env_file}", "/dev/null")
        .replace("{environment}", call.environment)
        .replace("{claude}", call.claude)
}

/// The argument list of a phase, `uv` first.
#[must_use]
pub fn phase_argv(
    uv: &Path,
    script: &Path,
    project: &Project,
    call: &AttemptCall<'_>,
) -> Vec<String> {
    let mut argv =
        vec![uv.to_string_lossy().into_owned(), "run".to_owned(), "--no-progress".to_owned()];
    if project.profile.scripts_from == super::profile::ScriptsFrom::Embedded {
        argv.push("--no-project".to_owned());
    }
    for part in &project.profile.argv {
        argv.push(
            part.replace("{script}", &script.to_string_lossy())
                .replace("{issue}", call.issue)
                .replace("{adw_id}", call.adw_id)
                .replace("{phase}", call.phase)
                .replace("{model}", call.model.unwrap_or_default()),
        );
    }
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_pass() {
        for name in
            ["PATH", "LC_ALL", "UV_CACHE_DIR", "ANTHROPIC_API_KEY", "GH_TOKEN", "https_proxy"]
        {
            assert!(allowed(name, &[]), "{name}");
        }
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "DATABASE_URL",
            "ADWD_STATE_DIR",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "VIRTUAL_ENV",
            "PYTHONPATH",
            "NOTIFY_SOCKET",
        ] {
            assert!(!allowed(name, &[]), "{name}");
        }
        assert!(allowed("MY_TOKEN", &["MY_*".into()]));
        for name in ["VIRTUAL_ENV", "ADWD_DATABASE_URL", "ADWD_KEY", "OTEL_EXPORTER_OTLP_HEADERS"] {
            assert!(!allowed(name, &["*".into()]), "{name} stays refused");
        }
    }

    #[test]
    fn python_never_holds_its_output_back() {
        let env = base_env(&BTreeMap::new(), &[]);
        assert_eq!(env["PYTHONUNBUFFERED"], "1");
        assert_eq!(env["UV_SYSTEM_CERTS"], "1");
        let own = BTreeMap::from([("SSL_CERT_FILE".to_owned(), "/x".to_owned())]);
        assert!(!base_env(&own, &[]).contains_key("UV_SYSTEM_CERTS"));
    }
}
