//! What rules forbid, ask for and want checked: read from their text.
//!
//! Pure. The grammar is that of the world's rules (`spec/steps.md` §6): a list item that begins
//! with a bold keyword, `- **NEVER** push to main`. Upstream's own expression wants the keyword
//! alone between the stars and so misses most of what its files say (§1.2.4); ours also takes
//! `**VALIDATE & SANITIZE**` and `**Never**:`.

use std::collections::BTreeSet;

use super::globs;
use super::template::{Phase, Rule, Workflow};

/// What the rules come down to. Entries keep their keyword and are in the order of the rules,
/// without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guardrails {
    /// NEVER, MUST NOT and PROTECT.
    pub forbidden: Vec<String>,
    /// ALWAYS and MUST.
    pub required: Vec<String>,
    /// VALIDATE.
    pub validation: Vec<String>,
    /// Names of the rules that were read.
    pub sources: Vec<String>,
}

/// Which list items count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grammar {
    /// Those whose keyword is bold.
    #[default]
    Bold,
    /// Also those that begin with the plain word, as in `- Never log a token`.
    Plain,
}

#[derive(Clone, Copy)]
enum Bucket {
    Forbidden,
    Required,
    Validation,
}

/// Reads the rules with the bold grammar.
#[must_use]
pub fn parse(rules: &[&Rule]) -> Guardrails {
    parse_with(rules, Grammar::Bold)
}

/// Reads the rules.
#[must_use]
pub fn parse_with(rules: &[&Rule], grammar: Grammar) -> Guardrails {
    let mut found = Guardrails::default();
    let mut seen = BTreeSet::new();
    for rule in rules {
        found.sources.push(rule.name.clone());
        for item in items(&rule.body) {
            let Some((bucket, action)) = action(&item, grammar) else { continue };
            if !seen.insert(action.clone()) {
                continue;
            }
            match bucket {
                Bucket::Forbidden => found.forbidden.push(action),
                Bucket::Required => found.required.push(action),
                Bucket::Validation => found.validation.push(action),
            }
        }
    }
    found
}

/// The list items of a Markdown text, each on one line; what stands in a fence is an example.
fn items(body: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    // The indentation of the item that may go on in the next line.
    let mut open: Option<usize> = None;
    let mut fence: Option<&str> = None;
    for line in body.lines() {
        let text = line.trim();
        let mark = ["```", "~~~"].into_iter().find(|mark| text.starts_with(mark));
        match (fence, mark) {
            (Some(opened), _) => {
                if text.starts_with(opened) {
                    fence = None;
                }
                continue;
            }
            (None, Some(mark)) => {
                (fence, open) = (Some(mark), None);
                continue;
            }
            (None, None) => {}
        }
        let indent = line.len() - line.trim_start().len();
        if let Some(item) = text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")) {
            items.push(item.trim_start().to_owned());
            open = Some(indent);
        } else if text.is_empty() || open.is_none_or(|at| indent <= at) {
            open = None;
        } else if let Some(last) = items.last_mut() {
            last.push(' ');
            last.push_str(text);
        }
    }
    items
}

/// The bucket of an item that begins with a keyword, and its text without the stars.
fn action(item: &str, grammar: Grammar) -> Option<(Bucket, String)> {
    let bold = item.strip_prefix("**").and_then(|rest| {
        let end = rest.find('*').filter(|&end| rest[end..].starts_with("**"))?;
        Some(&rest[..end])
    });
    let head = match (bold, grammar) {
        (Some(bold), _) => bold,
        (None, Grammar::Plain) => item,
        (None, Grammar::Bold) => return None,
    };
    let mut words = head
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_uppercase);
    let first = words.next().filter(|_| head.starts_with(|c: char| c.is_alphabetic()))?;
    let bucket = match first.as_str() {
        "NEVER" | "PROTECT" => Bucket::Forbidden,
        "MUST" if words.next().as_deref() == Some("NOT") => Bucket::Forbidden,
        "ALWAYS" | "MUST" => Bucket::Required,
        "VALIDATE" => Bucket::Validation,
        _ => return None,
    };
    let text = item.replace("**", "");
    Some((bucket, text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// Words that make a forbidden action matter more: points, and the forms of one concept. Whole
/// words only: upstream's substrings find "eval" in "evaluate" and "key" in "keyboard". The last
/// four high ones are in the older document only (`spec/steps.md` §6).
const CONCEPTS: &[(u32, &[&str])] = &[
    (10, &["secret", "secrets"]),
    (10, &["credential", "credentials"]),
    (10, &["password", "passwords"]),
    (10, &["token", "tokens"]),
    (10, &["key", "keys"]),
    (10, &["delete", "deletes", "deleted", "deleting", "deletion", "deletions"]),
    (10, &["drop", "drops", "dropped", "dropping"]),
    (10, &["eval", "evals"]),
    (10, &["exec", "execs", "execute", "executes", "executed", "executing", "execution"]),
    (10, &["truncate", "truncates", "truncated", "truncating"]),
    (10, &["destroy", "destroys", "destroyed", "destroying"]),
    (10, &["permission", "permissions"]),
    (5, &["push", "pushes", "pushed", "pushing"]),
    (5, &["deploy", "deploys", "deployed", "deploying", "deployment", "deployments"]),
    (5, &["production"]),
    (5, &["commit", "commits", "committed", "committing"]),
];

fn score(action: &str) -> u32 {
    let lower = action.to_lowercase();
    let words: BTreeSet<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
    let counts = |forms: &&[&str]| forms.iter().any(|form| words.contains(form));
    CONCEPTS.iter().filter(|(_, forms)| counts(forms)).map(|(points, _)| points).sum()
}

/// The forbidden actions that matter most: by points, then by text (bytewise).
#[must_use]
pub fn top_forbidden(all: &Guardrails, count: usize) -> Vec<String> {
    let mut scored: Vec<(u32, &String)> =
        all.forbidden.iter().map(|action| (score(action), action)).collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.into_iter().take(count).map(|(_, action)| action.clone()).collect()
}

/// The rules that count for a step: those that always apply, those with a pattern that matches one
/// of the paths, and those that share a tag with the workflow or the step. In the given order.
#[must_use]
pub fn active<'a>(
    rules: &'a [Rule],
    workflow: &Workflow,
    phase: Option<&Phase>,
    paths: &[String],
) -> Vec<&'a Rule> {
    let paths: Vec<String> = paths.iter().map(|path| globs::normalise(path)).collect();
    let tags: BTreeSet<&String> =
        workflow.tags.iter().chain(phase.map_or(&[][..], |phase| &phase.tags)).collect();
    let counts = |rule: &&Rule| {
        rule.always_apply
            || rule.tags.iter().any(|tag| tags.contains(tag))
            || rule.globs.iter().any(|glob| paths.iter().any(|path| globs::matches(glob, path)))
    };
    rules.iter().filter(counts).collect()
}

#[cfg(test)]
mod tests;
