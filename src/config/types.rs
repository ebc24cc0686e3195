//! The configuration as the program uses it: every value present, durations in milliseconds.

mod access;
mod budget;
mod observe;
mod outside;
mod rates;
mod serve;
mod tools;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::{PhaseName, ProjectName};

pub use access::*;
pub use budget::*;
pub use observe::*;
pub use outside::*;
pub use rates::*;
pub use serve::*;
pub use tools::*;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
pub(super) const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// The port of the HTTP endpoint unless another one is set.
pub const DEFAULT_HTTP_PORT: u16 = 7117;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Files and folders.
    pub paths: Paths,
    /// The HTTP endpoint.
    pub http: Http,
    /// Who may call over HTTP.
    pub access: AccessConfig,
    /// How HTTP is served.
    pub serve: ServeConfig,
    /// How much a key may ask, and what is written down of it.
    pub rates: RatesConfig,
    /// Which tools are offered.
    pub tools: ToolsConfig,
    /// What may be spent.
    pub budget: BudgetConfig,
    /// What is told to those who watch the daemon.
    pub observe: ObserveConfig,
    /// What starts runs from outside, and who is told of their end.
    pub outside: OutsideConfig,
    /// How much may run and wait.
    pub limits: RunLimits,
    /// How long each phase may take.
    pub phases: PhaseLimits,
    /// How a run is stopped.
    pub stop: StopLimits,
    /// How often a failed phase is tried again.
    pub retry: Retry,
    /// What happens to worktrees of ended runs.
    pub worktrees: Worktrees,
    /// Step workflows.
    pub steps: StepsConfig,
    /// The daemon's own log.
    pub logs: Logs,
    /// Names of environment variables (or prefixes ending in `*`) that phases get in addition to
    /// the built-in list.
    pub env_allow: Vec<String>,
    /// The Python side.
    pub uv: Uv,
    /// Writing workflows.
    pub writing: WritingConfig,
    /// The projects that are served.
    pub projects: Vec<ProjectConfig>,
    /// Raw `[[profile]]` tables; their form is defined by the runs slice.
    pub profiles: Vec<toml::Value>,
    /// Folders of agents, rules and workflows beside the built-in ones; of one name, the later
    /// counts.
    pub contents: Vec<ContentConfig>,
    /// Bound of a call that reads state or lists runs, in ms.
    pub state_timeout_ms: u64,
    /// Bound of the answer to a trigger (not of the run), in ms.
    pub trigger_timeout_ms: u64,
    /// Under which names tools of step workflows are listed.
    pub tool_names: ToolNames,
}

/// Under which names tools are listed that have one with a dot as well. They answer to both.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolNames {
    /// `workflow_start`: the names that every client takes.
    #[default]
    Underscore,
    /// `workflow.start`: the names of old prompts; some clients refuse the whole list for them.
    Dotted,
    /// Both, each tool twice.
    Both,
}

impl ToolNames {
    /// The words of the setting.
    pub const WORDS: [(&'static str, ToolNames); 3] = [
        ("underscore", ToolNames::Underscore),
        ("dotted", ToolNames::Dotted),
        ("both", ToolNames::Both),
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ToolNames::Underscore => "underscore",
            ToolNames::Dotted => "dotted",
            ToolNames::Both => "both",
        }
    }
}

/// Files and folders; all absolute.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Paths {
    /// The configuration file, whether it exists or not.
    pub config_file: PathBuf,
    /// What must survive: database, instance lock, state of `state_in = "daemon"` projects.
    pub state_dir: PathBuf,
    /// What must not: the socket.
    pub runtime_dir: PathBuf,
    /// The Unix socket.
    pub socket: PathBuf,
    /// Folder of `adwd.log`.
    pub log_dir: PathBuf,
    /// `sqlite:PATH` or `postgres://…`; may hold a password, so show it only through
    /// [`crate::db::redact_url`] or [`crate::telemetry::redact`].
    pub database_url: String,
}

/// The HTTP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Whether there is one.
    pub enabled: bool,
    /// Address and port; port 0 lets the system choose. One that other machines reach is refused at
    /// the start unless what `ServeConfig` says makes it safe.
    pub bind: SocketAddr,
    /// Browser origins that may call, as in `https://dash.example`.
    pub allowed_origins: Vec<String>,
}

/// How much may run and wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Runs at a time.
    pub max_running: u32,
    /// Runs at a time of one project.
    pub max_running_per_project: u32,
    /// Runs that may wait.
    pub queue_max: u32,
    /// Free space without which no run starts, MiB.
    pub min_free_mb: u32,
}

/// How long one phase may take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PhaseLimit {
    /// From start to end, in ms.
    pub wall_ms: u64,
    /// Without any output, in ms.
    pub silence_ms: u64,
}

/// The limits of the known phases, and of any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseLimits {
    /// Of `plan`.
    pub plan: PhaseLimit,
    /// Of `build`.
    pub build: PhaseLimit,
    /// Of `review`.
    pub review: PhaseLimit,
    /// Of phases that a profile adds.
    pub other: PhaseLimit,
}

impl PhaseLimits {
    /// The limit of `phase` where no project says otherwise.
    pub fn get(&self, phase: &PhaseName) -> PhaseLimit {
        match phase.as_str() {
            "plan" => self.plan,
            "build" => self.build,
            "review" => self.review,
            _ => self.other,
        }
    }
}

/// How a run is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopLimits {
    /// From SIGINT to SIGTERM, in ms.
    pub int_grace_ms: u64,
    /// From SIGTERM to SIGKILL, in ms.
    pub term_grace_ms: u64,
}

/// How often a failed phase is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first one included.
    pub max_attempts: u32,
    /// Pause before the second attempt, in ms; it doubles with each further one.
    pub base_delay_ms: u64,
    /// The longest pause, in ms.
    pub max_delay_ms: u64,
}

/// What happens to worktrees of ended runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worktrees {
    /// How long that of a run without success is kept, in ms.
    pub keep_failed_ms: u64,
    /// Whether that of a successful run is kept.
    pub keep_success: bool,
}

/// Step workflows: tokens, limits, stalls.
#[derive(Clone, Debug, PartialEq)]
pub struct StepsConfig {
    /// Lifetime of a token from its issue, in ms.
    pub token_ttl_ms: u64,
    /// Age at which the signing key is replaced, in ms; 0: never.
    pub key_rotate_ms: u64,
    /// Steps of an execution that may be out at once, where its start says nothing.
    pub max_parallel: u32,
    /// Whether calls that change an execution are limited.
    pub rate_limits: bool,
    /// Calls a second for one execution, and how many at once.
    pub task_rate: Rate,
    /// Calls a second for one agent, over all executions, and how many at once.
    pub agent_rate: Rate,
    /// Time without activity after which a running execution counts as stalled, in ms; 0: never.
    pub stall_after_ms: u64,
    /// Time without activity after which a running or paused execution is given up, in ms; 0: never.
    pub abandon_after_ms: u64,
    /// How long a `simple` execution may run, pauses not counted, in ms; a `moderate` one has 4
    /// times and a `high` one 8 times as long; 0: as long as it takes.
    pub time_limit_ms: u64,
    /// How long telemetry events are kept, in ms; 0: up to their greatest number.
    pub telemetry_keep_ms: u64,
}

/// A token bucket.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Rate {
    /// Calls a second in the long run.
    pub per_second: f64,
    /// Calls at once.
    pub burst: u32,
}

/// The daemon's own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// A level, or filter directives.
    pub level: String,
    /// Days a log file is kept.
    pub keep_days: u32,
}

/// The Python side.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Uv {
    /// The `uv` program; found on the `PATH` when unset.
    pub path: Option<PathBuf>,
    /// The interpreter or version that is handed to `uv run --python`.
    pub python: Option<String>,
}

/// Writing workflows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritingConfig {
    /// Whether phases are entered only as their gates and approvals allow; off reproduces the
    /// permissive transitions of the servers that people migrate from.
    pub enforce: bool,
    /// The zone of a workflow that names none, an IANA name.
    pub time_zone: String,
}

impl Default for WritingConfig {
    fn default() -> WritingConfig {
        WritingConfig { enforce: true, time_zone: "UTC".to_owned() }
    }
}

/// Where a project's run state lives.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateIn {
    /// Under the project's own root.
    #[default]
    Project,
    /// Under the daemon's state folder.
    Daemon,
}

/// A project's limit of one phase; what is unset comes from `[phases]`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectPhaseLimit {
    /// From start to end, in s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_s: Option<u64>,
    /// Without any output, in s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_s: Option<u64>,
}

/// A `[[project]]` entry: a git repository that is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectConfig {
    /// Its name.
    pub name: ProjectName,
    /// Its root; absolute once loaded.
    pub path: PathBuf,
    /// The git remote that is pushed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// The branch that work starts from and goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// The layout of its scripts, by profile name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The agent that does the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The agent's command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_command: Option<String>,
    /// The agent's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The kind of forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<String>,
    /// The repository's name on the forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge_repo: Option<String>,
    /// Folder of issues kept as files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issues_dir: Option<String>,
    /// The command that checks the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_command: Option<String>,
    /// Where run state lives.
    #[serde(default)]
    pub state_in: StateIn,
    /// Runs at a time of this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Further environment variables (or prefixes ending in `*`) that its phases get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_allow: Vec<String>,
    /// Environment variables set for its phases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Limits by phase.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<PhaseName, ProjectPhaseLimit>,
    /// Bound of one agent call, in s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_timeout_s: Option<u64>,
    /// What the agents of one run may cost, in US dollars, by the scripts' own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_budget_usd: Option<f64>,
    /// What one run of it may spend, in US dollars, instead of `budget.run_usd`; 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_run_usd: Option<f64>,
    /// The same in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_run_tokens: Option<u64>,
    /// What its runs may spend in a day, in US dollars, instead of `budget.project_day_usd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_day_usd: Option<f64>,
    /// The same in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_day_tokens: Option<u64>,
    /// How long worktrees of runs without success are kept, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_failed_days: Option<u64>,
}

/// A `[[content]]` entry: a folder with `agents`, `rules` and `workflows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentConfig {
    /// The folder; absolute once loaded. It need not exist yet.
    pub path: PathBuf,
}

/// The names a `[[project]]` entry may hold; a test keeps them equal to the struct's.
pub(super) const PROJECT_KEYS: [&str; 24] = [
    "name",
    "path",
    "remote",
    "base_branch",
    "profile",
    "agent",
    "agent_command",
    "model",
    "forge",
    "forge_repo",
    "issues_dir",
    "check_command",
    "state_in",
    "max_running",
    "env_allow",
    "env",
    "limits",
    "agent_timeout_s",
    "agent_budget_usd",
    "budget_run_usd",
    "budget_run_tokens",
    "budget_day_usd",
    "budget_day_tokens",
    "keep_failed_days",
];

impl ProjectConfig {
    /// A project with nothing but a name and a root.
    pub fn new(name: ProjectName, path: PathBuf) -> ProjectConfig {
        ProjectConfig {
            name,
            path,
            remote: None,
            base_branch: None,
            profile: None,
            agent: None,
            agent_command: None,
            model: None,
            forge: None,
            forge_repo: None,
            issues_dir: None,
            check_command: None,
            state_in: StateIn::Project,
            max_running: None,
            env_allow: Vec::new(),
            env: BTreeMap::new(),
            limits: BTreeMap::new(),
            agent_timeout_s: None,
            agent_budget_usd: None,
            budget_run_usd: None,
            budget_run_tokens: None,
            budget_day_usd: None,
            budget_day_tokens: None,
            keep_failed_days: None,
        }
    }

    /// The limit of `phase` for this project.
    pub fn phase_limit(&self, phase: &PhaseName, defaults: &PhaseLimits) -> PhaseLimit {
        let default = defaults.get(phase);
        let own = self.limits.get(phase).copied().unwrap_or_default();
        let ms = |seconds: Option<u64>, default| {
            seconds.map_or(default, |s: u64| s.saturating_mul(SECOND_MS))
        };
        PhaseLimit {
            wall_ms: ms(own.wall_s, default.wall_ms),
            silence_ms: ms(own.silence_s, default.silence_ms),
        }
    }
}

impl Default for Config {
    /// The built-in values; the paths are empty until they are derived from the environment.
    fn default() -> Config {
        let phase =
            |minutes: u64| PhaseLimit { wall_ms: minutes * MINUTE_MS, silence_ms: 20 * MINUTE_MS };
        Config {
            paths: Paths::default(),
            http: Http {
                enabled: true,
                bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_HTTP_PORT),
                allowed_origins: Vec::new(),
            },
            access: AccessConfig::default(),
            serve: ServeConfig::default(),
            rates: RatesConfig::default(),
            tools: ToolsConfig::default(),
            budget: BudgetConfig::default(),
            observe: ObserveConfig::default(),
            outside: OutsideConfig::default(),
            limits: RunLimits {
                max_running: 4,
                max_running_per_project: 4,
                queue_max: 200,
                min_free_mb: 256,
            },
            phases: PhaseLimits {
                plan: phase(30),
                build: phase(120),
                review: phase(30),
                other: phase(60),
            },
            stop: StopLimits { int_grace_ms: 10 * SECOND_MS, term_grace_ms: 5 * SECOND_MS },
            retry: Retry {
                max_attempts: 3,
                base_delay_ms: 15 * SECOND_MS,
                max_delay_ms: 300 * SECOND_MS,
            },
            steps: StepsConfig::default(),
            worktrees: Worktrees { keep_failed_ms: 7 * DAY_MS, keep_success: false },
            logs: Logs { level: "info".to_owned(), keep_days: 14 },
            env_allow: Vec::new(),
            uv: Uv::default(),
            writing: WritingConfig::default(),
            projects: Vec::new(),
            profiles: Vec::new(),
            contents: Vec::new(),
            state_timeout_ms: 30 * SECOND_MS,
            trigger_timeout_ms: 5 * SECOND_MS,
            tool_names: ToolNames::default(),
        }
    }
}

impl Default for StepsConfig {
    /// The values of `spec/steps.md` §4 to §6.
    fn default() -> StepsConfig {
        StepsConfig {
            token_ttl_ms: DAY_MS,
            key_rotate_ms: 30 * DAY_MS,
            max_parallel: 1,
            rate_limits: true,
            task_rate: Rate { per_second: 0.5, burst: 3 },
            agent_rate: Rate { per_second: 2.0, burst: 10 },
            stall_after_ms: 30 * MINUTE_MS,
            abandon_after_ms: DAY_MS,
            time_limit_ms: 0,
            telemetry_keep_ms: 90 * DAY_MS,
        }
    }
}
