//! The words of the command line.

mod key;
mod outside;
mod runs;
mod writing;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::Flags;

pub use key::{CreateKey, Key};
pub use outside::{Hook, Schedule};
pub use runs::{Audit, Common, List, Logs, OneRun, Phase, Resume, Trigger, UsageArgs, Wait};
pub use writing::{Export, ExportFormat, ExportTable, Import, Writing};

const EXIT_CODES: &str = "\
Exit codes:
  0    done (for wait: the run ended completed or skipped)
  1    the run ended failed, cancelled, timed_out or lost; doctor or health found a failure; or an internal error
  2    wrong usage or configuration
  3    no daemon runs (or, for serve: another one holds the state folder)
  4    the daemon refused the request
  5    no such run, project, phase, workflow, execution or book series
  6    the time given to wait passed
  130  interrupted; the run goes on

On a terminal results are tables; elsewhere tab-separated columns without a header, or one JSON
document with --json (errors too: {\"error\":{\"code\",\"message\",\"hint\"}}).";

const EXAMPLES: &str = "\
Examples:
  adwd demo                       see a whole run on a sample repository
  cd ~/src/shop && adwd trigger 42 --wait
  adwd logs -f 3f9a1c2e
  adwd list --status failed --json
  adwd workflow list              the step workflows that a model can be led through";

/// Turns issue numbers into reviewed branches and pull requests.
#[derive(Debug, Parser)]
#[command(
    name = "adwd",
    version,
    about,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Settings.
    #[command(flatten)]
    pub flags: Flags,
    /// A served project's name, or a path inside a repository [default: the current folder's]
    #[arg(long, short, global = true, value_name = "NAME|PATH")]
    pub project: Option<String>,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Do not start a daemon where none runs
    #[arg(long, global = true)]
    pub no_start: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    #[command(after_help = "\
Examples:
  adwd serve                      until SIGTERM or Ctrl-C; runs live on and are found again
  adwd serve --project ~/src/shop serve that repository from the start
  adwd serve --no-http            the socket alone

SIGTERM and SIGINT end it softly: no new triggers, open calls are answered, then it goes. A second
signal ends it at once. SIGHUP is ignored: settings are read at the start.")]
    Serve(Serve),
    /// Stop the daemon; runs live on and the next daemon finds them
    #[command(after_help = "Example:\n  adwd stop && adwd serve")]
    Stop(Stop),
    /// Speak MCP on standard input and output; starts a daemon where none runs
    #[command(after_help = "\
Example (Claude Desktop, claude_desktop_config.json):
  {\"mcpServers\": {\"adwd\": {\"command\": \"adwd\", \"args\": [\"stdio\"]}}}

Toolsets: adw (runs), steps (step workflows), writing (series of books), admin (projects, keys).")]
    Stdio(Stdio),
    /// Turn an issue into a reviewed pull request
    #[command(after_help = "\
Examples:
  adwd trigger 42                 answers at once with the run's id
  adwd trigger 42 --wait          and shows it until it ends (Ctrl-C ends the watching alone)
  adwd trigger 42 --phases plan --model opus --project shop")]
    Trigger(Trigger),
    /// Run one phase of an issue
    #[command(
        after_help = "Examples:\n  adwd phase plan 42\n  adwd phase review 42 --adw-id 3f9a1c2e --wait"
    )]
    Phase(Phase),
    /// List runs, newest first
    #[command(after_help = "\
Examples:
  adwd list --status running
  adwd list --issue 42 --since 7d
  adwd list | cut -f1             the ids")]
    List(List),
    /// Show everything known about a run
    #[command(
        after_help = "Examples:\n  adwd state 3f9a1c2e\n  adwd state 3f9a1c2e --json | jq .failure"
    )]
    State(OneRun),
    /// Show a phase's log
    #[command(after_help = "\
Examples:
  adwd logs 3f9a1c2e              the end of the current or last phase's log
  adwd logs -f 3f9a1c2e           follow it, phase after phase, until the run ends
  adwd logs 3f9a1c2e --phase build --all")]
    Logs(Logs),
    /// End a run and its whole process tree
    #[command(after_help = "Example:\n  adwd cancel 3f9a1c2e")]
    Cancel(OneRun),
    /// Go on with an ended run, with the same id and worktree
    #[command(
        after_help = "Examples:\n  adwd resume 3f9a1c2e --wait\n  adwd resume 3f9a1c2e --from review"
    )]
    Resume(Resume),
    /// Wait until a run has ended
    #[command(after_help = "\
Examples:
  adwd wait 3f9a1c2e
  adwd wait 3f9a1c2e --timeout 600 || echo \"ended badly, or took too long: $?\"")]
    Wait(Wait),
    /// Show who spent what, and what is left of the budgets
    #[command(after_help = "\
Examples:
  adwd usage                      by project
  adwd usage --by run --since 7d
  adwd usage --by day --json | jq '.lines[] | [.name, .cost_usd]'

Columns: name, US dollars, tokens, runs, agent calls, last day, left of its budget (US dollars, tokens).
~ before an amount: in part estimated by price; > before it: an agent was cut off, it was at least that.")]
    Usage(UsageArgs),
    /// Serve repositories
    #[command(
        subcommand,
        after_help = "\
Examples:
  adwd project list
  adwd project add ~/src/shop --name shop
  adwd project detect .           what layout it has, and why; changes nothing"
    )]
    Project(Project),
    /// Step workflows: what there is, where each execution stands, and steering it
    #[command(
        subcommand,
        after_help = "\
Examples:
  adwd workflow list
  adwd workflow start bug-fix --hold
  adwd workflow status            the newest executions
  adwd workflow control ID approve"
    )]
    Workflow(super::workflow::Workflow),
    /// Follow series of books, import and export them
    #[command(
        subcommand,
        after_help = "\
Examples:
  adwd writing list
  adwd writing status 7
  adwd writing export 7 --format csv --output series-7.csv"
    )]
    Writing(Writing),
    /// Keys of clients over HTTP
    #[command(
        subcommand,
        after_help = "\
Examples:
  adwd key create --tier solo --name dashboard --expires 90d
  adwd key create --tier team --name ci --project shop --json | jq -r .key
  adwd key list
  adwd key rotate 3f9a1c2e77b0 --grace 24h
  adwd key revoke 3f9a1c2e77b0

A client sends it as `Authorization: Bearer KEY`. Where no daemon runs, the database is written
directly."
    )]
    Key(Key),
    /// Show what was asked of the daemon: who, what, when, how it ended
    #[command(after_help = "\
Examples:
  adwd audit --since 1d
  adwd audit --tool trigger_adw_workflow --user key:ab12cd
  adwd audit --status refused --json | jq '.invocations[].error_code'")]
    Audit(Audit),
    /// Runs by the clock: when each schedule is next, and what it last did
    #[command(
        subcommand,
        after_help = "\
Examples:
  adwd schedule list
  adwd schedule list --json | jq -r '.schedules[] | [.name, .next[0]] | @tsv'"
    )]
    Schedule(Schedule),
    /// Who is told when runs end: what was delivered, what was given up, trying it out
    #[command(
        subcommand,
        after_help = "\
Examples:
  adwd hook list
  adwd hook test ops              sends a notice of no run
  adwd hook dead
  adwd hook retry msg_k3j9x0a1b2c3d4e5f6g7h8i9"
    )]
    Hook(Hook),
    /// Remove worktrees of ended runs before their time
    #[command(after_help = "\
Examples:
  adwd clean --dry-run            what would go, and why the rest stays
  adwd clean                      all that hold no changes; their branches stay
  adwd clean 3f9a1c2e --discard-changes

A worktree of a failed run goes by itself after worktrees.keep_failed_days, once its commits are
pushed. One with a commit that is on no branch and no remote, or in which a process works, never goes.")]
    Clean(Clean),
    /// Check this machine and a project, and say how to mend what is wrong
    #[command(after_help = "\
Examples:
  adwd doctor                     this machine, and the repository of the current folder
  adwd doctor --fix               also mend: stray worktrees, leftovers of killed gits, a missing uv
  adwd doctor --json | jq '.checks[] | select(.level != \"ok\")'")]
    Doctor(Doctor),
    /// Say how the daemon that runs is: programs, database, disk, queue, supervisor
    #[command(after_help = "\
Examples:
  adwd health                     exit code 1 where something failed
  adwd health --json | jq '.checks[] | select(.status != \"ok\")'")]
    Health,
    /// Show the configuration and where each value came from
    #[command(
        subcommand,
        after_help = "\
Examples:
  adwd config show
  adwd config example > ~/.config/adwd/config.toml
  adwd config check"
    )]
    Config(Config),
    /// Look at the content of step workflows
    #[command(
        subcommand,
        after_help = "\
Examples:
  adwd content check ~/src/shop/content
  adwd content check . --json | jq '.problems[] | select(.fatal)'"
    )]
    Content(Content),
    /// See a whole run on a sample repository, and one that survives kill -9
    #[command(after_help = "\
Examples:
  adwd demo                       two runs; in the second the daemon is killed in the middle
  adwd demo --quick --keep        one run, and everything stays for you to look at")]
    Demo(Demo),
    /// Print or install a systemd unit
    #[command(
        subcommand,
        after_help = "\
Examples:
  adwd service print
  adwd service install && systemctl --user daemon-reload && systemctl --user enable --now adwd
  sudo adwd service install --system --run-as alice"
    )]
    Service(Service),
    /// Print shell completions
    #[command(
        after_help = "Example:\n  adwd completions bash > ~/.local/share/bash-completion/completions/adwd"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `stdio`.
#[derive(Clone, Debug, Default, Args)]
pub struct Stdio {
    /// Which tools, resources and prompts this client is shown, as in adw,steps [default: the
    /// daemon's setting; also ADWD_TOOLSETS in this command's environment]
    #[arg(long, value_name = "SETS")]
    pub toolsets: Option<String>,
}

/// `serve`.
#[derive(Clone, Debug, Default, Args)]
pub struct Serve {
    /// Log to standard error too [default: where standard error is a terminal]
    #[arg(long)]
    pub foreground: bool,
    /// Become a session leader first: how the other commands start it
    #[arg(long, hide = true)]
    pub detached: bool,
}

/// `stop`.
#[derive(Clone, Debug, Args)]
pub struct Stop {
    /// How long it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

/// `project`.
#[derive(Clone, Debug, Subcommand)]
pub enum Project {
    /// List the served repositories
    List,
    /// Serve one more repository
    Add {
        /// A path inside it [default: the current folder]
        path: Option<PathBuf>,
        /// Its name [default: the folder's]
        #[arg(long)]
        name: Option<String>,
    },
    /// Stop serving a repository; nothing in it is changed
    Remove {
        /// Its name
        name: String,
    },
    /// Say what layout a repository has, and why
    Detect {
        /// A path inside it [default: the current folder]
        path: Option<PathBuf>,
    },
}

/// `clean`.
#[derive(Clone, Debug, Args)]
pub struct Clean {
    /// Ids of the runs [default: every ended run of the served projects, or of --project]
    pub ids: Vec<String>,
    /// Also where changes that nobody committed would be lost
    #[arg(long)]
    pub discard_changes: bool,
    /// Change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `doctor`.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// Mend what can be mended without losing work
    #[arg(long)]
    pub fix: bool,
    /// Leave out what needs the network
    #[arg(long)]
    pub offline: bool,
}

/// `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum Config {
    /// Every setting, its value, and where the value came from
    Show,
    /// Where the configuration file is, or would be
    Path,
    /// Whether the configuration is right; exit code 2 where not
    Check,
    /// A complete configuration file with comments
    Example,
}

/// `content`.
#[derive(Clone, Debug, Subcommand)]
pub enum Content {
    /// Say what is wrong in a content folder, by file and line; needs no daemon
    #[command(after_help = "\
Exit codes: 0 everything can be used (there may be remarks), 1 something cannot, 2 no such folder

Example:
  adwd content check ~/src/shop/content")]
    Check {
        /// Folder with agents, rules and workflows
        path: PathBuf,
    },
}

/// `demo`.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// Leave everything in place at the end
    #[arg(long)]
    pub keep: bool,
    /// Only the first run, without the kill -9
    #[arg(long, conflicts_with = "crash")]
    pub quick: bool,
    /// Only the second run, with the kill -9
    #[arg(long)]
    pub crash: bool,
    /// Where to put everything; must be empty or absent [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Whose systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ManagerArg {
    /// Your own.
    User,
    /// The machine's.
    System,
}

/// Options of both `service` commands.
#[derive(Clone, Debug, Args)]
pub struct ServiceOptions {
    /// For your own systemd [default, except for root]
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// For the machine's systemd
    #[arg(long)]
    pub system: bool,
    /// With --system: the account that the daemon runs as [default: the one that called sudo]
    #[arg(long, value_name = "ACCOUNT")]
    pub run_as: Option<String>,
}

/// `service`.
#[derive(Clone, Debug, Subcommand)]
pub enum Service {
    /// Print the unit
    Print(ServiceOptions),
    /// Write the unit where systemd looks for it
    Install(ServiceOptions),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound_and_every_command_has_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", sub.get_name());
        }
    }

    #[test]
    fn global_flags_stand_before_and_after_the_command() {
        for words in [["adwd", "--json", "list"], ["adwd", "list", "--json"]] {
            assert!(Cli::try_parse_from(words).unwrap().global.json);
        }
        let cli = Cli::try_parse_from([
            "adwd",
            "trigger",
            "7",
            "--phases",
            "plan,build",
            "--priority",
            "-5",
        ])
        .unwrap();
        let Command::Trigger(trigger) = cli.command else { panic!() };
        assert_eq!(trigger.phases.unwrap(), ["plan", "build"]);
        assert_eq!(trigger.common.priority, Some(-5));
        assert!(
            Cli::try_parse_from(["adwd", "trigger", "7", "--timeout", "5"]).is_err(),
            "needs --wait"
        );
    }
}
