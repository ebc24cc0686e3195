//! What a sync has to write: the folders as they were read against what is stored.
//!
//! Pure. Of several files of one name the one in the later folder counts. A file that is not in
//! order keeps what was stored of it, or leaves what an earlier folder has of that name in force;
//! what can no longer be read at all keeps its rows (`spec/steps.md` §1.3).

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::steps::content_sql::{ContentRow, Problems};
use crate::steps::front_matter::{Item, Parsed};
use crate::steps::template::{Agent, Kind, Phase, Problem, Rule, Workflow, agent_faults};

/// A content folder as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scan {
    /// The folder.
    pub folder: String,
    /// Its files, by path.
    pub files: Vec<File>,
    /// What is wrong with the folder itself.
    pub problems: Vec<Problem>,
    /// Whether everything in it could be read. What could not is not taken for gone.
    pub complete: bool,
}

/// A content file that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Which kind of content it is, by the folder it lies in.
    pub kind: Kind,
    /// Its path below the content folder, with `/`.
    pub path: String,
    /// What is in it.
    pub parsed: Parsed,
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncReport {
    /// Pieces that are new.
    pub added: usize,
    /// Pieces whose file, or whose state, is another one.
    pub updated: usize,
    /// Pieces that are as they were.
    pub unchanged: usize,
    /// Pieces that are gone.
    pub removed: usize,
    /// What is wrong, with whole paths; remarks too.
    pub problems: Vec<Problem>,
}

impl SyncReport {
    /// Whether what is stored is another than before.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.added + self.updated + self.removed > 0
    }
}

/// What is to be written, and what is to be said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Rows to store.
    pub writes: Vec<ContentRow>,
    /// Rows to forget.
    pub deletes: Vec<(Kind, String)>,
    /// Everything as it is after the sync.
    pub rows: Vec<ContentRow>,
    /// The counts; no problems yet.
    pub report: SyncReport,
    /// What is wrong: the folder by its place, and the problem.
    pub problems: Vec<(usize, Problem)>,
}

type Key = (Kind, String);

/// What speaks for a name in one folder.
struct Candidate {
    folder: usize,
    row: ContentRow,
    /// A workflow's phases and their lines, also where the file is not in order.
    phases: Vec<(Phase, u32)>,
    /// What is stored stays as it is: it could not be read.
    kept: bool,
}

/// Compares the folders, the later ones before the earlier, with what is stored.
#[must_use]
pub fn plan(scans: Vec<Scan>, stored: &[ContentRow]) -> Plan {
    let mut plan = Plan::default();
    let mut chains: BTreeMap<Key, Vec<Candidate>> = BTreeMap::new();
    for (index, scan) in scans.into_iter().enumerate() {
        plan.problems.extend(scan.problems.iter().map(|p| (index, p.clone())));
        for candidate in candidates(index, scan, stored, &mut plan.problems) {
            let key = (candidate.row.kind, candidate.row.name.clone());
            chains.entry(key).or_default().push(candidate);
        }
    }
    let before: BTreeMap<Key, &ContentRow> =
        stored.iter().map(|row| ((row.kind, row.name.clone()), row)).collect();
    let mut agents: BTreeSet<String> = BTreeSet::new();
    let mut kept: BTreeSet<Key> = BTreeSet::new();
    // Agents come first in the order of kinds, so the workflows find all of them.
    for (key, mut chain) in chains {
        if key.0 == Kind::Workflow {
            chain.iter_mut().for_each(|candidate| check_agents(candidate, &agents));
        }
        for candidate in &chain {
            let problems = candidate.row.problems.0.iter();
            plan.problems.extend(problems.map(|p| (candidate.folder, p.clone())));
        }
        let Some(row) = resolve(chain, before.get(&key).copied()) else { continue };
        if key.0 == Kind::Agent && row.json.is_some() {
            agents.insert(row.name.clone());
        }
        compare(row, before.get(&key).copied(), &mut plan);
        kept.insert(key);
    }
    for key in before.into_keys().filter(|key| !kept.contains(key)) {
        plan.report.removed += 1;
        plan.deletes.push(key);
    }
    plan
}

fn compare(row: ContentRow, before: Option<&ContentRow>, plan: &mut Plan) {
    let moved = before.map(|before| ContentRow {
        folder: row.folder.clone(),
        path: row.path.clone(),
        ..before.clone()
    });
    match (before, moved) {
        (None, _) => plan.report.added += 1,
        // Elsewhere, but the same.
        (Some(_), Some(moved)) if moved == row => plan.report.unchanged += 1,
        (Some(_), _) => plan.report.updated += 1,
    }
    if before != Some(&row) {
        plan.writes.push(row.clone());
    }
    plan.rows.push(row);
}

/// One candidate for each name that the folder speaks for.
fn candidates(
    index: usize,
    scan: Scan,
    stored: &[ContentRow],
    problems: &mut Vec<(usize, Problem)>,
) -> Vec<Candidate> {
    let folder = scan.folder;
    let here = || stored.iter().filter(|row| row.folder == folder);
    let mut found: Vec<Candidate> = Vec::new();
    let seen: BTreeSet<(Kind, String)> =
        scan.files.iter().map(|file| (file.kind, file.path.clone())).collect();
    let mut files: Vec<(bool, Vec<String>, File)> = Vec::new();
    for file in scan.files {
        let was = here().find(|row| (row.kind, &row.path) == (file.kind, &file.path));
        let good = was.filter(|row| row.json.is_some() && file.parsed.item.is_none());
        let own = file.parsed.name.clone().unwrap_or_else(|| stem(&file.path).to_owned());
        // A file that is not in order goes by the name of its last good version, where it has one.
        let names = good.map(|row| row.name.clone()).into_iter().chain([own]).collect();
        files.push((good.is_some(), names, file));
    }
    // Of two files of one name: one that is in order, one that had the name, one that is called so,
    // the first by path.
    files.sort_by_cached_key(|(good, names, file)| {
        let called = names.first().is_some_and(|name| stem(&file.path) == name);
        (file.parsed.item.is_none(), !*good, !called, file.path.clone())
    });
    for (_, names, file) in files {
        let taken = |found: &[Candidate], name: &String| {
            found.iter().position(|c| c.row.kind == file.kind && c.row.name == *name)
        };
        if let Some(name) = names.iter().find(|name| taken(&found, name).is_none()) {
            found.push(candidate(index, &folder, name.clone(), file));
            continue;
        }
        let first = file.parsed.name.as_ref().and_then(|name| taken(&found, name));
        if let Some(first) = first {
            tell_twice(index, &mut found[first].row, &file, problems);
        }
        problems.extend(file.parsed.problems.into_iter().map(|p| (index, p)));
    }
    if !scan.complete {
        let unread = here().filter(|row| !seen.contains(&(row.kind, row.path.clone())));
        for row in unread {
            if !found.iter().any(|c| c.row.kind == row.kind && c.row.name == row.name) {
                found.push(Candidate {
                    folder: index,
                    row: row.clone(),
                    phases: vec![],
                    kept: true,
                });
            }
        }
    }
    found
}

/// Two files of one name: the one that is not used cannot be, the other should know.
fn tell_twice(
    index: usize,
    first: &mut ContentRow,
    second: &File,
    problems: &mut Vec<(usize, Problem)>,
) {
    let told =
        |path: &str, fatal, message| Problem { path: path.to_owned(), line: None, message, fatal };
    let message = format!(
        "{} is the {} {:?} already and is used; give this one another name",
        first.path,
        first.kind.as_str(),
        first.name
    );
    problems.push((index, told(&second.path, true, message)));
    let message = format!("{} has the same name and is not used", second.path);
    first.problems.0.push(told(&first.path, false, message));
}

/// The file's name without its ending.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".md").unwrap_or(name)
}

fn candidate(index: usize, folder: &str, name: String, file: File) -> Candidate {
    let parsed = file.parsed;
    let (json, body) = parsed.item.as_ref().map(encode).unzip();
    Candidate {
        folder: index,
        row: ContentRow {
            kind: file.kind,
            name,
            folder: folder.to_owned(),
            path: file.path,
            hash: parsed.hash,
            json,
            body,
            valid: parsed.item.is_some(),
            problems: Problems(parsed.problems),
        },
        phases: parsed.phases,
        kept: false,
    }
}

/// A workflow whose agents are not there is not in order, whoever is to blame for it.
fn check_agents(candidate: &mut Candidate, agents: &BTreeSet<String>) {
    for fault in agent_faults(candidate.phases.iter().map(|(phase, _)| phase), agents) {
        let phase = fault.phase.and_then(|at| candidate.phases.get(at));
        // That a phase names no agent was told when it was read.
        if phase.is_some_and(|(phase, _)| phase.agent.is_empty()) {
            continue;
        }
        let line = phase.map(|(_, line)| *line);
        let path = candidate.row.path.clone();
        let problem = Problem { path, line, message: fault.message, fatal: true };
        candidate.row.problems.0.push(problem);
        candidate.row.valid = false;
    }
}

/// The row for a name: of the last folder that speaks for it; where that file is not in order, with
/// the newest version that is.
fn resolve(mut chain: Vec<Candidate>, before: Option<&ContentRow>) -> Option<ContentRow> {
    let last = chain.pop()?;
    let mut row = last.row;
    if row.valid || last.kept {
        return Some(row);
    }
    let stored = before.filter(|before| before.json.is_some());
    let own = stored.filter(|before| (&before.folder, &before.path) == (&row.folder, &row.path));
    let earlier = || chain.iter().rev().map(|c| &c.row).find(|row| row.valid);
    let good = own.or_else(earlier).or(stored);
    row.json = good.and_then(|good| good.json.clone());
    row.body = good.and_then(|good| good.body.clone());
    Some(row)
}

/// The item without its body, as JSON, and the body.
fn encode(item: &Item) -> (String, String) {
    let mut item = item.clone();
    let body = match &mut item {
        Item::Agent(agent) => std::mem::take(&mut agent.body),
        Item::Rule(rule) => std::mem::take(&mut rule.body),
        Item::Workflow(workflow) => std::mem::take(&mut workflow.body),
    };
    let json = match &item {
        Item::Agent(agent) => serde_json::to_string(agent),
        Item::Rule(rule) => serde_json::to_string(rule),
        Item::Workflow(workflow) => serde_json::to_string(workflow),
    };
    // Structs of texts, numbers and lists always have a JSON form.
    (json.unwrap_or_default(), body)
}

fn decode<T: DeserializeOwned>(row: &ContentRow, kind: Kind) -> Option<T> {
    let json = row.json.as_deref().filter(|_| row.kind == kind)?;
    match serde_json::from_str(json) {
        Ok(item) => Some(item),
        Err(error) => {
            // Written by another version, and its file has not been in order since.
            tracing::warn!(name = row.name, path = row.path, "stored content is not read: {error}");
            None
        }
    }
}

impl ContentRow {
    /// The last good version of an agent.
    #[must_use]
    pub fn agent(&self) -> Option<Agent> {
        let agent: Agent = decode(self, Kind::Agent)?;
        Some(Agent { body: self.body.clone().unwrap_or_default(), ..agent })
    }

    /// The last good version of a rule.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        let rule: Rule = decode(self, Kind::Rule)?;
        Some(Rule { body: self.body.clone().unwrap_or_default(), ..rule })
    }

    /// The last good version of a workflow.
    #[must_use]
    pub fn workflow(&self) -> Option<Workflow> {
        let workflow: Workflow = decode(self, Kind::Workflow)?;
        Some(Workflow { body: self.body.clone().unwrap_or_default(), ..workflow })
    }
}

/// The problems of all folders with whole paths, at most so many.
#[must_use]
pub fn told(problems: &[(usize, Problem)], folders: &[String]) -> Vec<Problem> {
    let whole = |(index, problem): &(usize, Problem)| {
        let folder = folders.get(*index).map_or("", String::as_str);
        let path = match problem.path.as_str() {
            "" => folder.to_owned(),
            path => format!("{folder}/{path}"),
        };
        Problem { path, ..problem.clone() }
    };
    problems.iter().take(limits::CONTENT_PROBLEMS_COUNT).map(whole).collect()
}
