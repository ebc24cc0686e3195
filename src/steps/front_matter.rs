//! One content file: Markdown with YAML front matter, in the world's format.
//!
//! Pure. `spec/steps.md` §1.1 gives the fields and their bounds, §1.2 what the world's files really
//! look like: three spellings of one key, `True`, lists in flow and block form, missing optional
//! fields, no newline at the end. Everything wrong with a file is told at once, with its line.

mod fields;

use sha2::{Digest, Sha256};

use self::fields::{Problems, Table};
use super::template::{Agent, Complexity, Kind, Phase, Problem, Rule, Workflow, shape_faults};
use super::yaml::{self, Node, Value};
use crate::limits;

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A persona.
    Agent(Agent),
    /// A rule.
    Rule(Rule),
    /// A workflow.
    Workflow(Workflow),
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// Its name, where one can be read.
    pub name: Option<String>,
    /// What it holds; `None` when a problem is fatal.
    pub item: Option<Item>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// A workflow's phases and their lines, also of one that is not in order: whether their agents
    /// are there is asked of all.
    pub phases: Vec<(Phase, u32)>,
    /// SHA-256 of the raw bytes, hexadecimal.
    pub hash: String,
}

/// SHA-256 of bytes, hexadecimal.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a file of that kind. `path` is for the problems. Never fails: what is wrong is told.
#[must_use]
pub fn parse(kind: Kind, path: &str, bytes: &[u8]) -> Parsed {
    let mut problems = Problems { path, list: vec![] };
    let hash = hash(bytes);
    let mut parsed = Parsed { name: None, item: None, problems: vec![], phases: vec![], hash };
    if let Some((front, body)) = split(bytes, &mut problems) {
        read(kind, &front, body, &mut parsed, &mut problems);
    }
    if !problems.is_usable() {
        parsed.item = None;
    }
    parsed.problems = problems.list;
    parsed
}

/// The front matter as a table, and the text below it as it stands there (with line ends of one
/// kind).
fn split(bytes: &[u8], problems: &mut Problems<'_>) -> Option<(Node, String)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.replace("\r\n", "\n"),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            problems.fatal(line, "the file is not UTF-8 text; save it as UTF-8");
            return None;
        }
    };
    if text.contains('\0') {
        problems.fatal(1, "the file holds a zero character: it is no text");
        return None;
    }
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    if first.trim_end() != "---" {
        problems.fatal(
            1,
            "the file has no front matter: it must begin with a line ---, then keys such as \
             name: …, then another line ---",
        );
        return None;
    }
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            let body = rest[end + line.len()..].to_owned();
            return match yaml::parse(&rest[..end], 1) {
                Ok(node) => Some((node, body)),
                Err(fault) => {
                    problems.fatal(fault.line, fault.message);
                    None
                }
            };
        }
        end += line.len();
    }
    problems.fatal(1, "the front matter does not end: a line --- must follow its keys");
    None
}

fn read(kind: Kind, front: &Node, body: String, parsed: &mut Parsed, problems: &mut Problems<'_>) {
    let entries = match &front.value {
        Value::Map(entries) => entries.as_slice(),
        Value::Null => &[],
        other => {
            let message = format!("the front matter is {}; expected keys and values", other.word());
            problems.fatal(front.line, message);
            return;
        }
    };
    let mut table = Table::new("", 1, entries);
    let max = match kind {
        Kind::Workflow => limits::CONTENT_WORKFLOW_NAME_CHARS,
        Kind::Agent | Kind::Rule => limits::CONTENT_NAME_CHARS,
    };
    parsed.name = table.name("name", max, problems);
    let name = parsed.name.clone().unwrap_or_default();
    let hash = parsed.hash.clone();
    let item = match kind {
        Kind::Agent => Item::Agent(agent(name, &mut table, body, hash, problems)),
        Kind::Rule => Item::Rule(rule(name, &mut table, body, hash, problems)),
        Kind::Workflow => {
            let (workflow, lines) = workflow(name, &mut table, body, hash, problems);
            parsed.phases = workflow.phases.iter().cloned().zip(lines).collect();
            Item::Workflow(workflow)
        }
    };
    table.finish(problems);
    parsed.item = Some(item);
}

const TAGS: (usize, usize) = (limits::CONTENT_TAGS_COUNT, limits::CONTENT_TAG_CHARS);

fn description(table: &mut Table<'_>, max: usize, problems: &mut Problems<'_>) -> String {
    let before = problems.list.len();
    let text = table.text(&["description"], max, problems);
    match text {
        Some(text) if !text.is_empty() => text,
        _ => {
            if problems.list.len() == before {
                problems.remark(1, "there is no description; write description: what it is for");
            }
            String::new()
        }
    }
}

fn agent(
    name: String,
    table: &mut Table<'_>,
    body: String,
    hash: String,
    problems: &mut Problems<'_>,
) -> Agent {
    if body.trim().is_empty() {
        problems.remark(1, "the persona is empty; write below the front matter who this agent is");
    }
    Agent {
        name,
        description: description(table, limits::CONTENT_DESCRIPTION_CHARS, problems),
        tags: table.list(&["tags"], TAGS, problems),
        version: table.text(&["version"], limits::CONTENT_WORD_CHARS, problems),
        body,
        hash,
    }
}

fn rule(
    name: String,
    table: &mut Table<'_>,
    body: String,
    hash: String,
    problems: &mut Problems<'_>,
) -> Rule {
    if body.trim().is_empty() {
        problems.remark(1, "the rule is empty; write it below the front matter");
    }
    Rule {
        name,
        description: description(table, limits::CONTENT_DESCRIPTION_CHARS, problems),
        globs: table.globs(&["globs"], problems),
        always_apply: table.bool(&["always_apply"], false, problems),
        tags: table.list(&["tags"], TAGS, problems),
        body,
        hash,
    }
}

fn workflow(
    name: String,
    table: &mut Table<'_>,
    body: String,
    hash: String,
    problems: &mut Problems<'_>,
) -> (Workflow, Vec<u32>) {
    let keywords = (limits::CONTENT_KEYWORDS_COUNT, limits::CONTENT_KEYWORD_CHARS);
    let duration = ["estimated_duration_minutes"];
    let description = description(table, limits::CONTENT_WORKFLOW_DESCRIPTION_CHARS, problems);
    let complexity = complexity(table, problems);
    let kind = table.text(&["type"], limits::CONTENT_WORD_CHARS, problems);
    let minutes = table.number(&duration, limits::CONTENT_DURATION_MAX_MINUTES, problems);
    let count = table.number(&["steps_count"], u32::MAX, problems);
    // Kept by the world's files for people; nothing here needs it.
    table.text(&["version"], limits::CONTENT_WORD_CHARS, problems);
    let mut workflow = Workflow {
        name,
        description,
        tags: table.list(&["tags"], TAGS, problems),
        keywords: table.list(&["keywords"], keywords, problems),
        complexity,
        kind: String::new(),
        estimated_duration_minutes: minutes.map(|(minutes, _)| minutes),
        phases: vec![],
        body,
        hash,
    };
    let before = problems.list.iter().filter(|p| p.fatal).count();
    let mut lines = vec![];
    for (line, entries) in
        table.tables(&["phases"], limits::CONTENT_PHASES_COUNT, problems).unwrap_or_default()
    {
        workflow.phases.push(phase(Table::new("a phase", line, entries), problems));
        lines.push(line);
    }
    // With a phase that cannot be read, what is wrong among them would be noise.
    if problems.list.iter().filter(|p| p.fatal).count() == before {
        for fault in shape_faults(&workflow) {
            let line = fault.phase.and_then(|at| lines.get(at)).copied().unwrap_or(1);
            problems.fatal(line, fault.message);
        }
    }
    if let Some((count, line)) = count.filter(|(n, _)| *n as usize != workflow.phases.len()) {
        let real = workflow.phases.len();
        problems.remark(line, format!("steps_count says {count}; there are {real} phases"));
    }
    workflow.kind = kind.filter(|kind| !kind.is_empty()).unwrap_or_else(|| shape(&workflow.phases));
    (workflow, lines)
}

/// The three spellings, of which the file's own wins (`spec/steps.md` §1.2.1).
fn complexity(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Complexity {
    let names = ["complexity", "complexity_hint"];
    let word = table.text_at(&names, limits::CONTENT_WORD_CHARS, problems);
    let Some((word, line)) = word.filter(|(word, _)| !word.is_empty()) else {
        return Complexity::default();
    };
    match word.to_ascii_lowercase().as_str() {
        "simple" => Complexity::Simple,
        "moderate" => Complexity::Moderate,
        "high" => Complexity::High,
        _ => {
            problems.fatal(
                line,
                format!("complexity: got {word:?}; expected simple, moderate or high"),
            );
            Complexity::default()
        }
    }
}

fn phase(mut table: Table<'_>, problems: &mut Problems<'_>) -> Phase {
    let name = table.name("phase", limits::CONTENT_NAME_CHARS, problems);
    if let Some(name) = &name {
        table.called(format!("phase \"{name}\""));
    }
    let agent = table.name("agent", limits::CONTENT_NAME_CHARS, problems);
    let needs = (limits::CONTENT_PHASES_COUNT, limits::CONTENT_NAME_CHARS);
    let actions = (limits::CONTENT_ACTIONS_COUNT, limits::CONTENT_ACTION_CHARS);
    let description = table.text(&["description"], limits::CONTENT_DESCRIPTION_CHARS, problems);
    let phase = Phase {
        phase: name.unwrap_or_default(),
        agent: agent.unwrap_or_default(),
        description: description.unwrap_or_default(),
        depends_on: table.list(&["depends_on"], needs, problems),
        allow_parallel: table.bool(&["allow_parallel"], true, problems),
        path_patterns: table.globs(&["path_patterns"], problems),
        tags: table.list(&["tags"], TAGS, problems),
        allowed_actions: table.list(&["allowed_actions"], actions, problems),
        requires_approval: table.bool(&["requires_approval"], false, problems),
    };
    table.finish(problems);
    phase
}

/// The type of a workflow that names none.
fn shape(phases: &[Phase]) -> String {
    let chain = phases.iter().enumerate().all(|(at, phase)| match at {
        0 => phase.depends_on.is_empty(),
        _ => phase.depends_on == [phases[at - 1].phase.clone()],
    });
    let free = phases.iter().all(|phase| phase.depends_on.is_empty());
    let word = match (chain, free) {
        (true, _) => "sequential",
        (_, true) => "parallel",
        _ => "hybrid",
    };
    word.to_owned()
}

#[cfg(test)]
mod tests;
