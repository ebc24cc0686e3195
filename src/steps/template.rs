//! What content is: agents, rules and workflows, as the engine sees them.
//!
//! Pure. The files they come from are read in `library`; what a running execution uses is a
//! [`Snapshot`] taken at its start, so that an edit on disk never changes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A persona: who does a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name, 1 to 100 characters.
    pub name: String,
    /// What it is for, at most 500 characters.
    pub description: String,
    /// At most 20 words of 50 characters.
    pub tags: Vec<String>,
    /// Its version, where the file names one.
    pub version: Option<String>,
    /// The persona, Markdown, as it stands in the file below the front matter.
    pub body: String,
    /// SHA-256 of the file's raw bytes, hexadecimal.
    pub hash: String,
}

/// A rule: what a step may not and must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Paths it is about; at most 50 patterns of 200 characters.
    pub globs: Vec<String>,
    /// Whether it counts for every step.
    pub always_apply: bool,
    /// Words that tie it to steps and workflows.
    pub tags: Vec<String>,
    /// Its text, Markdown.
    pub body: String,
    /// SHA-256 of the file's raw bytes, hexadecimal.
    pub hash: String,
}

/// How much a workflow asks for; sets the execution's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Complexity {
    /// 1 attempt a step.
    Simple,
    /// 2 attempts a step.
    #[default]
    Moderate,
    /// 3 attempts a step.
    High,
}

/// One step of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Name of the step, unique in its workflow.
    pub phase: String,
    /// Name of the agent that does it.
    pub agent: String,
    /// What is to be done, at most 500 characters.
    pub description: String,
    /// Steps that must be completed before.
    pub depends_on: Vec<String>,
    /// Whether it may run beside others.
    pub allow_parallel: bool,
    /// Paths it is about; each that matches a referenced path scores 2.
    pub path_patterns: Vec<String>,
    /// Words; each that is among the intent tags scores 1.
    pub tags: Vec<String>,
    /// What the step may do; empty where the file says nothing.
    pub allowed_actions: Vec<String>,
    /// Whether a person must approve before the step is handed out.
    pub requires_approval: bool,
}

/// A workflow that can be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    /// Its name, 1 to 200 characters.
    pub name: String,
    /// What it is for, at most 2000 characters.
    pub description: String,
    /// At most 20 words of 50 characters.
    pub tags: Vec<String>,
    /// At most 50 words of 100 characters.
    pub keywords: Vec<String>,
    /// How much it asks for.
    pub complexity: Complexity,
    /// `sequential`, `parallel`, `hybrid`; made from the phases where the file says nothing.
    pub kind: String,
    /// How long it takes, in minutes, where the file says so.
    pub estimated_duration_minutes: Option<u32>,
    /// Its steps, in the order of the file; never empty, acyclic.
    pub phases: Vec<Phase>,
    /// The text below the front matter, Markdown.
    pub body: String,
    /// SHA-256 of the file's raw bytes, hexadecimal.
    pub hash: String,
}

/// What an execution runs by, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The workflow.
    pub workflow: Workflow,
    /// Every agent that its phases name, and `supervisor` where there is one.
    pub agents: BTreeMap<String, Agent>,
    /// Every valid rule, sorted by name; which of them count is decided per step.
    pub rules: Vec<Rule>,
}

/// What is wrong with a content file, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Path of the file, below its content folder.
    pub path: String,
    /// Line in the file, from 1, where one can be named.
    pub line: Option<u32>,
    /// What is wrong and what would be right.
    pub message: String,
    /// Whether the file cannot be used for it; otherwise it is a remark.
    pub fatal: bool,
}
