//! What content is: agents, rules and workflows, as the engine sees them.
//!
//! Pure. The files they come from are read in `library`; what a running execution uses is a
//! [`Snapshot`] taken at its start, so that an edit on disk never changes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The kinds of content; each has a folder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// In `agents/`.
    Agent,
    /// In `rules/`.
    Rule,
    /// In `workflows/`.
    Workflow,
}

impl Kind {
    /// All of them, in the order in which they are read.
    pub const ALL: [Kind; 3] = [Kind::Agent, Kind::Rule, Kind::Workflow];

    /// Its word: `agent`, `rule`, `workflow`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Agent => "agent",
            Kind::Rule => "rule",
            Kind::Workflow => "workflow",
        }
    }

    /// The folder that holds it, below a content folder.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Kind::Agent => "agents",
            Kind::Rule => "rules",
            Kind::Workflow => "workflows",
        }
    }

    /// The kind of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

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
    /// Path of the file, below its content folder; whole where several folders are spoken of.
    pub path: String,
    /// Line in the file, from 1, where one can be named.
    pub line: Option<u32>,
    /// What is wrong and what would be right.
    pub message: String,
    /// Whether the file cannot be used for it; otherwise it is a remark.
    pub fatal: bool,
}

/// What is wrong with a workflow, and with which of its phases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The phase, by its place in the file, where it is one.
    pub phase: Option<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

/// What keeps a workflow from being started: it has no phases, two of one name, a phase that waits
/// for one that is not there, for itself or in a circle, or an agent that does not exist
/// (`spec/steps.md` §6). Empty: it can be started. The problems are all fatal and name no file.
#[must_use]
pub fn validate(workflow: &Workflow, agents: &BTreeSet<String>) -> Vec<Problem> {
    let faults = shape_faults(workflow).into_iter().chain(agent_faults(&workflow.phases, agents));
    faults
        .map(|fault| Problem {
            path: String::new(),
            line: None,
            message: fault.message,
            fatal: true,
        })
        .collect()
}

/// Phases whose agent does not exist.
#[must_use]
pub fn agent_faults<'p>(
    phases: impl IntoIterator<Item = &'p Phase>,
    agents: &BTreeSet<String>,
) -> Vec<Fault> {
    let known = || match agents.iter().map(String::as_str).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "there are no agents".to_owned(),
        names => format!("known: {names}"),
    };
    let unknown = |(at, phase): (usize, &Phase)| {
        (!agents.contains(&phase.agent)).then(|| Fault {
            phase: Some(at),
            message: format!(
                "phase \"{}\": no agent is named \"{}\"; {}",
                phase.phase,
                phase.agent,
                known()
            ),
        })
    };
    phases.into_iter().enumerate().filter_map(unknown).collect()
}

/// What is wrong with the phases among themselves.
#[must_use]
pub fn shape_faults(workflow: &Workflow) -> Vec<Fault> {
    let phases = &workflow.phases;
    if phases.is_empty() {
        let message = "the workflow has no phases; list at least one under phases".to_owned();
        return vec![Fault { phase: None, message }];
    }
    let mut faults = Vec::new();
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, phase) in phases.iter().enumerate() {
        if first.contains_key(phase.phase.as_str()) {
            let message = format!("two phases are named \"{}\"; names must be unique", phase.phase);
            faults.push(Fault { phase: Some(at), message });
        }
        first.entry(&phase.phase).or_insert(at);
    }
    for (at, phase) in phases.iter().enumerate() {
        for needed in &phase.depends_on {
            let why = if *needed == phase.phase {
                "depends on itself; take it out of dependsOn".to_owned()
            } else if !first.contains_key(needed.as_str()) {
                let names: Vec<&str> = phases.iter().map(|p| p.phase.as_str()).collect();
                format!("depends on \"{needed}\", which is no phase; phases: {}", names.join(", "))
            } else {
                continue;
            };
            faults.push(Fault {
                phase: Some(at),
                message: format!("phase \"{}\" {why}", phase.phase),
            });
        }
    }
    if let Some(cycle) = cycle(phases, &first) {
        let names: Vec<&str> =
            cycle.iter().chain(cycle.first()).map(|&at| phases[at].phase.as_str()).collect();
        let message = format!(
            "the phases wait for one another in a circle: {} (each depends on the next); take one \
             of these dependencies out",
            names.join(" -> ")
        );
        faults.push(Fault { phase: cycle.first().copied(), message });
    }
    faults
}

/// A circle of dependencies of two phases or more, from the earliest of them in the file.
fn cycle(phases: &[Phase], places: &BTreeMap<&str, usize>) -> Option<Vec<usize>> {
    let needs = |at: usize| {
        let place = |name: &String| places.get(name.as_str()).copied();
        phases[at].depends_on.iter().filter_map(place).filter(move |&other| other != at)
    };
    // What remains when all that waits for nothing, or for what was taken away, is taken away.
    let mut left: BTreeSet<usize> = (0..phases.len()).collect();
    loop {
        let free = |at: &usize| !needs(*at).any(|other| left.contains(&other));
        let freed: Vec<usize> = left.iter().copied().filter(free).collect();
        if freed.is_empty() {
            break;
        }
        left.retain(|at| !freed.contains(at));
    }
    // Each one left needs another one left, so walking on must come back to somewhere.
    let mut path = vec![*left.first()?];
    loop {
        let next = needs(*path.last()?).find(|other| left.contains(other))?;
        if let Some(start) = path.iter().position(|&seen| seen == next) {
            let mut cycle = path.split_off(start);
            let earliest = cycle.iter().enumerate().min_by_key(|(_, at)| **at)?.0;
            cycle.rotate_left(earliest);
            return Some(cycle);
        }
        path.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn workflow(phases: &[(&str, &[&str])]) -> Workflow {
        let phases = phases.iter().map(|(name, needs)| Phase {
            phase: (*name).to_owned(),
            agent: "a".to_owned(),
            description: String::new(),
            depends_on: needs.iter().map(|n| (*n).to_owned()).collect(),
            allow_parallel: true,
            path_patterns: vec![],
            tags: vec![],
            allowed_actions: vec![],
            requires_approval: false,
        });
        Workflow {
            name: "w".to_owned(),
            description: String::new(),
            tags: vec![],
            keywords: vec![],
            complexity: Complexity::Moderate,
            kind: "hybrid".to_owned(),
            estimated_duration_minutes: None,
            phases: phases.collect(),
            body: String::new(),
            hash: String::new(),
        }
    }

    fn messages(phases: &[(&str, &[&str])], agents: &[&str]) -> Vec<String> {
        let agents = agents.iter().map(|a| (*a).to_owned()).collect();
        validate(&workflow(phases), &agents).into_iter().map(|p| p.message).collect()
    }

    #[test]
    fn a_workflow_in_order_has_no_faults() {
        let all = messages(&[("c", &["b"]), ("a", &[]), ("b", &["a"]), ("d", &["a", "c"])], &["a"]);
        assert_eq!(all, Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_named() {
        assert!(messages(&[], &["a"])[0].contains("no phases"));
        assert!(messages(&[("x", &[]), ("x", &[])], &["a"])[0].contains("two phases"));
        assert!(messages(&[("x", &["x"])], &["a"])[0].contains("depends on itself"));
        let unknown = messages(&[("x", &["y"])], &["a"]);
        assert!(unknown[0].contains("\"y\", which is no phase; phases: x"), "{unknown:?}");
        let agent = messages(&[("x", &[])], &["b", "c"]);
        assert!(agent[0].contains("\"a\"; known: b, c"), "{agent:?}");
        assert!(messages(&[("x", &[])], &[])[0].contains("there are no agents"));
    }

    #[test]
    fn a_circle_is_named_from_its_earliest_phase_also_behind_a_root() {
        let two = messages(&[("a", &["b"]), ("b", &["a"])], &["a"]);
        assert!(two[0].contains("a -> b -> a"), "{two:?}");
        let phases: &[(&str, &[&str])] =
            &[("root", &[]), ("tail", &["z"]), ("x", &["root", "y"]), ("y", &["z"]), ("z", &["x"])];
        let behind = messages(phases, &["a"]);
        assert_eq!(behind.len(), 1);
        assert!(behind[0].contains("x -> y -> z -> x"), "{behind:?}");
    }

    proptest! {
        /// Against the definition: a graph has a circle exactly when no order puts every phase
        /// after those it depends on.
        #[test]
        fn a_circle_is_found_exactly_where_there_is_one(edges in proptest::collection::vec((0_usize..7, 0_usize..7), 0..14)) {
            let names = ["a", "b", "c", "d", "e", "f", "g"];
            let mut needs: Vec<Vec<&str>> = vec![vec![]; 7];
            for (from, to) in edges.iter().filter(|(from, to)| from != to) {
                needs[*from].push(names[*to]);
            }
            let phases: Vec<(&str, &[&str])> =
                names.iter().zip(&needs).map(|(name, needs)| (*name, needs.as_slice())).collect();
            let mut done: Vec<&str> = vec![];
            while let Some((name, _)) = phases
                .iter()
                .find(|(name, needs)| !done.contains(name) && needs.iter().all(|n| done.contains(n)))
            {
                done.push(name);
            }
            prop_assert_eq!(messages(&phases, &["a"]).is_empty(), done.len() == 7);
        }
    }
}
