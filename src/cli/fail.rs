//! How a command ends when it does not end well: a word, a sentence, a hint, an exit code.

use serde_json::{Value, json};

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::out::{Out, Tone};

/// Exit codes, as `adwd --help` tells them.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// The run ended badly, doctor found a failure, or something broke.
    pub const FAILED: u8 = 1;
    /// Wrong usage or configuration.
    pub const USAGE: u8 = 2;
    /// No daemon, or another one.
    pub const NO_DAEMON: u8 = 3;
    /// The daemon refused.
    pub const REFUSED: u8 = 4;
    /// No such run, project, phase, workflow or execution.
    pub const NOT_FOUND: u8 = 5;
    /// The time given to wait passed.
    pub const TIMED_OUT: u8 = 6;
    /// Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
}

/// A command that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// Stable word for programs.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Exit code.
    pub exit: u8,
}

impl Fail {
    /// A failure without a hint.
    pub fn new(exit: u8, code: &str, message: impl Into<String>) -> Fail {
        Fail { code: code.to_owned(), message: message.into(), hint: None, exit }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Fail {
        self.hint = Some(hint.into());
        self
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Fail {
        Fail::new(exit::USAGE, "usage", message)
    }

    /// Ctrl-C during something that goes on by itself.
    pub fn interrupted(message: impl Into<String>) -> Fail {
        Fail::new(exit::INTERRUPTED, "interrupted", message)
    }

    /// As one JSON document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(hint) = &self.hint {
            error["hint"] = json!(hint);
        }
        json!({"error": error})
    }

    /// Tells it, as JSON on standard output or in words on standard error.
    pub fn tell(&self, out: &Out) {
        if out.is_json() {
            out.json(&self.to_json());
            return;
        }
        out.note(&format!("adwd: {}", self.message));
        if let Some(hint) = &self.hint {
            out.note(&format!("  hint: {hint}"));
        }
    }
}

impl From<ClientError> for Fail {
    fn from(error: ClientError) -> Fail {
        let message = error.to_string();
        match error {
            ClientError::Absent { .. } => {
                Fail::new(exit::NO_DAEMON, "no_daemon", format!("no daemon runs: {message}"))
                    .hint("start one with `adwd serve`, or for good with `adwd service install`")
            }
            ClientError::Socket { .. } => Fail::new(exit::NO_DAEMON, "socket", message),
            ClientError::Broken { .. } => Fail::new(exit::FAILED, "connection", message)
                .hint("the daemon's log says more: `adwd config show` names its folder"),
            ClientError::Refused { code, hint, .. } => {
                let exit = match code.as_str() {
                    "unknown_run" | "unknown_project" | "no_project" | "unknown_phase"
                    | "unknown_workflow" | "unknown_execution" | "unknown_artifact"
                    | "unknown_agent" | "not_found" | "unknown_book" | "unknown_approval"
                    | "unknown_key" => exit::NOT_FOUND,
                    "invalid_argument" | "invalid_arguments" => exit::USAGE,
                    _ => exit::REFUSED,
                };
                Fail { code, message, hint: hint.map(|h| in_shell_words(&h)), exit }
            }
        }
    }
}

impl From<ConfigError> for Fail {
    fn from(error: ConfigError) -> Fail {
        Fail::new(exit::USAGE, "configuration", chain(&error))
            .hint("`adwd config example` prints a complete file; `adwd config show` says where values come from")
    }
}

impl From<anyhow::Error> for Fail {
    fn from(error: anyhow::Error) -> Fail {
        match error.downcast::<Fail>() {
            Ok(fail) => fail,
            Err(error) => Fail::new(exit::FAILED, "internal", format!("{error:#}")),
        }
    }
}

impl std::fmt::Display for Fail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fail {}

/// The daemon's hints name tools, since models read them; a person in a shell types commands.
fn in_shell_words(hint: &str) -> String {
    const WORDS: &[(&str, &str)] = &[
        ("read midex://workflow/available_workflows", "call `adwd workflow list`"),
        ("read midex://workflow/executions", "call `adwd workflow status`"),
        ("workflow_control", "`adwd workflow control`"),
        ("workflow_start", "`adwd workflow start`"),
        ("trigger_adw_workflow", "`adwd trigger`"),
        ("trigger_adw_phase", "`adwd phase`"),
        ("get_adw_state", "`adwd state`"),
        ("list_adw_workflows", "`adwd list`"),
        ("get_adw_logs", "`adwd logs`"),
        ("wait_adw_workflow", "`adwd wait`"),
        ("cancel_adw_workflow", "`adwd cancel`"),
        ("resume_adw_workflow", "`adwd resume`"),
        ("get_usage", "`adwd usage`"),
        ("list_adw_projects", "`adwd project list`"),
        ("add_adw_project", "`adwd project add`"),
        ("remove_adw_project", "`adwd project remove`"),
        ("list_access_keys", "`adwd key list`"),
        ("create_access_key", "`adwd key create`"),
        ("list_active_workflows", "`adwd writing list`"),
        ("get_workflow_state", "`adwd writing status`"),
    ];
    const STATUS: &str = "read midex://workflow/workflow_status/";
    let hint = match hint.strip_prefix(STATUS).and_then(|rest| rest.split_once(' ')) {
        Some((id, rest)) => format!("call `adwd workflow status {id}` {rest}"),
        None => hint.to_owned(),
    };
    WORDS.iter().fold(hint, |text, (tool, command)| text.replace(tool, command))
}

/// An error with all its sources on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

/// The colour of a status.
#[must_use]
pub fn tone(status: &str) -> Tone {
    match status {
        "completed" | "ok" => Tone::Good,
        "failed" | "lost" | "timed_out" | "fail" => Tone::Bad,
        "starting" | "running" | "stopping" | "warn" | "paused" => Tone::Busy,
        "cancelled" | "skipped" | "pending" | "idle" | "abandoned" | "diverged" => Tone::Dim,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_exit_codes_by_their_word_and_hints_in_shell_words() {
        let refused = |code: &str| {
            Fail::from(ClientError::Refused {
                code: code.into(),
                message: "m".into(),
                hint: Some("call list_adw_workflows to see the known ids".into()),
            })
        };
        assert_eq!(refused("unknown_run").exit, exit::NOT_FOUND);
        assert_eq!(refused("unknown_execution").exit, exit::NOT_FOUND);
        assert_eq!(refused("conflict").exit, exit::REFUSED);
        assert_eq!(refused("invalid_argument").exit, exit::USAGE);
        assert_eq!(refused("x").hint.unwrap(), "call `adwd list` to see the known ids");
        assert_eq!(refused("x").to_json()["error"]["code"], "x");
        assert_eq!(
            in_shell_words("read midex://workflow/workflow_status/e1 to see where it stands"),
            "call `adwd workflow status e1` to see where it stands"
        );
        assert_eq!(
            in_shell_words("read midex://workflow/executions to see them all"),
            "call `adwd workflow status` to see them all"
        );
    }
}
