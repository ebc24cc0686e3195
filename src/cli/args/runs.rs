//! The words of commands about runs.

use clap::Args;

/// What `trigger` and `phase` have in common.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Id of the run [default: made by the daemon]
    #[arg(long, value_name = "ID")]
    pub adw_id: Option<String>,
    /// Model for the agents
    #[arg(long)]
    pub model: Option<String>,
    /// Keep the worktree after success
    #[arg(long)]
    pub keep_worktree: bool,
    /// Higher leaves the queue earlier, -100 to 100
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-100..=100))]
    pub priority: Option<i64>,
    /// The same key gets the first answer again
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Show the run until it ends
    #[arg(long, short)]
    pub wait: bool,
    /// With --wait: give up watching after this many seconds
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub timeout: Option<u64>,
}

/// `trigger`.
#[derive(Clone, Debug, Args)]
pub struct Trigger {
    /// Number of the issue
    pub issue: String,
    /// Phases, in order [default: those of the project's profile]
    #[arg(long, value_delimiter = ',', value_name = "PHASE,...")]
    pub phases: Option<Vec<String>>,
    /// The rest.
    #[command(flatten)]
    pub common: Common,
}

/// `phase`.
#[derive(Clone, Debug, Args)]
pub struct Phase {
    /// The phase
    pub phase: String,
    /// Number of the issue
    pub issue: String,
    /// The rest.
    #[command(flatten)]
    pub common: Common,
}

/// `list`.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Only this status: queued starting running stopping completed failed cancelled timed_out skipped lost
    #[arg(long)]
    pub status: Option<String>,
    /// Only this issue
    #[arg(long, value_name = "NUMBER")]
    pub issue: Option<String>,
    /// Only ids that begin so
    #[arg(long, value_name = "PREFIX")]
    pub id: Option<String>,
    /// Only runs accepted since: `90m`, `12h`, `7d`, or a time such as 2026-11-21T09:00:00Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// How many, 1 to 100
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Go on from the `next_cursor` of a list
    #[arg(long)]
    pub cursor: Option<String>,
}

/// `audit`.
#[derive(Clone, Debug, Args)]
pub struct Audit {
    /// Only calls since: `90m`, `12h`, `7d`, or a time such as 2026-11-21T09:00:00Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only calls of this tool
    #[arg(long, value_name = "TOOL")]
    pub tool: Option<String>,
    /// Only calls by this caller, such as key:ab12cd or uid:1000
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Only calls about this run
    #[arg(long, value_name = "ID")]
    pub adw_id: Option<String>,
    /// Only calls that stand so: open ok error refused interrupted
    #[arg(long)]
    pub status: Option<String>,
    /// How many, newest first
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Go on from the `next_cursor` of a list
    #[arg(long)]
    pub cursor: Option<String>,
}

/// `usage`.
#[derive(Clone, Debug, Args)]
pub struct UsageArgs {
    /// What has a line
    #[arg(long, default_value = "project", value_parser = ["run", "project", "user", "day"])]
    pub by: String,
    /// From that day on: `12h`, `7d`, a day, or a time such as 2026-11-21T09:00:00Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Up to that day
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only this user, such as key:3f9a1c2e
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Only this run
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// How many lines, 1 to 100
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Go on from the `next_cursor` of a page
    #[arg(long)]
    pub cursor: Option<String>,
}

/// A command about one run.
#[derive(Clone, Debug, Args)]
pub struct OneRun {
    /// Id of the run
    pub id: String,
}

/// `logs`.
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// Id of the run
    pub id: String,
    /// Go on showing what is added
    #[arg(long, short)]
    pub follow: bool,
    /// The phase [default: the current or last one]
    #[arg(long)]
    pub phase: Option<String>,
    /// How many of the last lines, 1 to 1000
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200, conflicts_with = "all", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub lines: u32,
    /// From the beginning
    #[arg(long)]
    pub all: bool,
}

/// `resume`.
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// Id of the run
    pub id: String,
    /// The phase to go on from [default: the one that did not end well]
    #[arg(long, value_name = "PHASE")]
    pub from: Option<String>,
    /// Show the run until it ends
    #[arg(long, short)]
    pub wait: bool,
    /// With --wait: give up watching after this many seconds
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub timeout: Option<u64>,
}

/// `wait`.
#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// Id of the run
    pub id: String,
    /// Give up watching after this many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}
