//! An agent that does what a test says: `agent = "command"` with a shell script.
//!
//! Without orders it plans, writes `agent-N.txt`, and finds nothing to complain about.

use std::path::PathBuf;

use super::{RUN, World, eventually, quoted};

/// Orders for an agent: shell lines by role (`classifier planner implementor reviewer`) that come
/// before what it does by default. `exit` in them ends the call.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    orders: Vec<(String, String)>,
}

impl Agent {
    /// An agent that does its work.
    pub fn good() -> Agent {
        Agent::default()
    }

    /// Adds orders for a role. `gate NAME` in them waits at that gate of the world: see
    /// [`World::at_gate`] and [`World::open_gate`].
    #[must_use]
    pub fn on(mut self, role: &str, shell: &str) -> Agent {
        self.orders.push((role.to_owned(), shell.to_owned()));
        self
    }

    fn script(&self) -> String {
        let orders: String = self
            .orders
            .iter()
            .map(|(role, shell)| format!("if [ \"$ADW_ROLE\" = {role} ]; then\n{shell}\nfi\n"))
            .collect();
        format!(
            r#"#!/bin/sh
set -u
cat >"$HOME/prompt-$ADW_ID-$ADW_ROLE"
gate() {{
    : >"$HOME/at-$1"
    while [ ! -e "$HOME/open-$1" ]; do sleep 0.05; done
}}
{orders}
case $ADW_ROLE in
classifier) echo feature ;;
planner) echo "Write agent-$ADW_ISSUE_NUMBER.txt with one line in it, and nothing else." ;;
implementor) echo "by run $ADW_ID" >"agent-$ADW_ISSUE_NUMBER.txt"; echo done ;;
reviewer) echo '{{"success": true, "review_summary": "It is good.", "review_issues": []}}' ;;
esac
"#
        )
    }
}

impl World {
    /// Writes the agent's program; its path.
    pub fn agent(&self, name: &str, agent: &Agent) -> PathBuf {
        self.program(&format!("agents/{name}"), &agent.script())
    }

    /// The lines of a `[[project]]` that make a new program of these orders its agent.
    pub fn agent_lines(&self, name: &str, agent: &Agent) -> String {
        let program = self.agent(name, agent);
        let command = quoted(&program.display().to_string());
        format!("agent = \"command\"\nagent_command = {command}\n")
    }

    /// Waits until an agent stands at a gate.
    pub async fn at_gate(&self, name: &str) {
        let mark = self.home().join(format!("at-{name}"));
        eventually(&format!("somebody is at gate {name}"), RUN, async || {
            if mark.exists() { Ok(()) } else { Err("nobody".to_owned()) }
        })
        .await;
    }

    /// Opens a gate, for good.
    pub fn open_gate(&self, name: &str) {
        self.write(&format!("home/open-{name}"), "");
    }

    /// Closes the gate before every check command.
    pub fn close_check(&self) {
        self.write("home/gate-check", "");
    }

    /// Waits until a check command stands at its gate.
    pub async fn at_check(&self) {
        self.at_gate("check").await;
    }

    /// Opens the gate before the check command.
    pub fn open_check(&self) {
        let _ = std::fs::remove_file(self.home().join("gate-check"));
    }
}
