//! Reading the keys of one table: types, bounds, other spellings, and what nobody knows.

use crate::limits;
use crate::steps::globs;
use crate::steps::template::Problem;
use crate::steps::yaml::{Entry, Node, Value};

/// Collects what is wrong with one file.
pub(super) struct Problems<'a> {
    /// The file, below its folder.
    pub path: &'a str,
    /// So far, in the order in which they were met.
    pub list: Vec<Problem>,
}

impl Problems<'_> {
    fn add(&mut self, line: Option<u32>, message: String, fatal: bool) {
        if self.list.len() < limits::CONTENT_PROBLEMS_COUNT {
            self.list.push(Problem { path: self.path.to_owned(), line, message, fatal });
        }
    }

    /// The file cannot be used.
    pub fn fatal(&mut self, line: u32, message: impl Into<String>) {
        self.add(Some(line), message.into(), true);
    }

    /// Worth knowing.
    pub fn remark(&mut self, line: u32, message: impl Into<String>) {
        self.add(Some(line), message.into(), false);
    }

    /// Whether the file can be used so far.
    pub fn is_usable(&self) -> bool {
        self.list.iter().all(|problem| !problem.fatal)
    }
}

/// A key in the spelling in which it is looked for: `dependsOn` and `depends_on` are one.
fn snake(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            if !out.is_empty() {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

fn clip(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The keys of one table that have not been asked for yet.
pub(super) struct Table<'n> {
    /// What it is in a message: `phase "plan"`, or nothing for the file itself.
    what: String,
    line: u32,
    left: Vec<(String, &'n Entry)>,
    asked: Vec<&'static str>,
}

impl<'n> Table<'n> {
    pub fn new(what: impl Into<String>, line: u32, entries: &'n [Entry]) -> Table<'n> {
        let left = entries.iter().map(|entry| (snake(&entry.key), entry)).collect();
        Table { what: what.into(), line, left, asked: vec![] }
    }

    /// Names the table in later messages.
    pub fn called(&mut self, what: String) {
        self.what = what;
    }

    fn at(&self, key: &str) -> String {
        if self.what.is_empty() { key.to_owned() } else { format!("{}: {key}", self.what) }
    }

    /// The value of a key in any of its spellings, the first of `names` before the others.
    fn take(&mut self, names: &[&'static str], problems: &mut Problems<'_>) -> Option<&'n Entry> {
        self.asked.extend(names);
        let mut found: Option<&'n Entry> = None;
        for name in names {
            while let Some(at) = self.left.iter().position(|(key, _)| key == name) {
                let (_, entry) = self.left.remove(at);
                if entry.node.value == Value::Null {
                    continue;
                }
                match found {
                    None => found = Some(entry),
                    Some(used) if used.node.value == entry.node.value => {}
                    Some(used) => problems.remark(
                        entry.line,
                        self.at(&format!(
                            "{} says something else than {} in line {}, which is used",
                            entry.key, used.key, used.line
                        )),
                    ),
                }
            }
        }
        found
    }

    /// A text of at most `max` characters; its blanks at both ends are taken away.
    pub fn text(
        &mut self,
        names: &[&'static str],
        max: usize,
        problems: &mut Problems<'_>,
    ) -> Option<String> {
        self.text_at(names, max, problems).map(|(text, _)| text)
    }

    /// The same, and its line.
    pub fn text_at(
        &mut self,
        names: &[&'static str],
        max: usize,
        problems: &mut Problems<'_>,
    ) -> Option<(String, u32)> {
        let entry = self.take(names, problems)?;
        let what = self.at(&entry.key);
        Some((single(&entry.node, &what, max, problems)?, entry.line))
    }

    /// A name: there must be one.
    pub fn name(
        &mut self,
        key: &'static str,
        max: usize,
        problems: &mut Problems<'_>,
    ) -> Option<String> {
        let line = self.left.iter().find(|(k, _)| k == key).map_or(self.line, |(_, e)| e.line);
        let before = problems.list.len();
        let name = self.text(&[key], max, problems);
        match name {
            Some(name) if name.is_empty() => {}
            Some(name) if name.contains(char::is_control) => {
                problems.fatal(line, self.at(&format!("{key}: a name is one line of text")));
                return None;
            }
            Some(name) => return Some(name),
            // Of the wrong form: that is said already.
            None if problems.list.len() > before => return None,
            None => {}
        }
        problems.fatal(line, self.at(&format!("{key} is missing; write {key}: some-name")));
        None
    }

    /// A list of texts, empty where there is none.
    pub fn list(
        &mut self,
        names: &[&'static str],
        (count, chars): (usize, usize),
        problems: &mut Problems<'_>,
    ) -> Vec<String> {
        let Some(entry) = self.take(names, problems) else { return vec![] };
        let what = self.at(&entry.key);
        let Value::List(items) = &entry.node.value else {
            let given = entry.node.value.word();
            problems
                .fatal(entry.line, format!("{what}: got {given}; expected a list, as in [a, b]"));
            return vec![];
        };
        if items.len() > count {
            let message = format!("{what}: {} entries; at most {count} are taken", items.len());
            problems.fatal(entry.line, message);
        }
        let mut list: Vec<String> = Vec::new();
        for (number, item) in items.iter().take(count).enumerate() {
            let what = format!("{what}, entry {}", number + 1);
            match single(item, &what, chars, problems) {
                Some(text) if text.is_empty() => {
                    problems.fatal(item.line, format!("{what} is empty; take it out"));
                }
                Some(text) if list.contains(&text) => {
                    problems.remark(item.line, format!("{what}: {text:?} is there twice"));
                }
                Some(text) => list.push(text),
                None => {}
            }
        }
        list
    }

    /// Patterns of paths.
    pub fn globs(&mut self, names: &[&'static str], problems: &mut Problems<'_>) -> Vec<String> {
        let line = self.left.iter().find(|(k, _)| names.contains(&k.as_str()));
        let line = line.map_or(self.line, |(_, entry)| entry.line);
        let bounds = (limits::CONTENT_GLOBS_COUNT, limits::CONTENT_GLOB_CHARS);
        let globs = self.list(names, bounds, problems);
        for message in globs.iter().filter_map(|glob| globs::remark(glob)) {
            problems.remark(line, self.at(&message));
        }
        globs
    }

    /// True or false.
    pub fn bool(
        &mut self,
        names: &[&'static str],
        default: bool,
        problems: &mut Problems<'_>,
    ) -> bool {
        let Some(entry) = self.take(names, problems) else { return default };
        if let Value::Text(text) = &entry.node.value {
            match text.as_str() {
                "true" | "True" | "TRUE" => return true,
                "false" | "False" | "FALSE" => return false,
                _ => {}
            }
        }
        let given = shown(&entry.node.value);
        let message = format!("{}: got {given}; expected true or false", self.at(&entry.key));
        problems.fatal(entry.line, message);
        default
    }

    /// A whole number from 1 to `max`.
    pub fn number(
        &mut self,
        names: &[&'static str],
        max: u32,
        problems: &mut Problems<'_>,
    ) -> Option<(u32, u32)> {
        let entry = self.take(names, problems)?;
        if let Value::Text(text) = &entry.node.value
            && let Some(number) = text.parse().ok().filter(|n| (1..=max).contains(n))
        {
            return Some((number, entry.line));
        }
        let given = shown(&entry.node.value);
        let what = self.at(&entry.key);
        problems.fatal(
            entry.line,
            format!("{what}: got {given}; expected a whole number from 1 to {max}"),
        );
        None
    }

    /// The entries of a list of tables, with the place of each.
    pub fn tables(
        &mut self,
        names: &[&'static str],
        max: usize,
        problems: &mut Problems<'_>,
    ) -> Option<Vec<(u32, &'n [Entry])>> {
        let entry = self.take(names, problems)?;
        let what = self.at(&entry.key);
        let Value::List(items) = &entry.node.value else {
            let given = entry.node.value.word();
            problems.fatal(entry.line, format!("{what}: got {given}; expected a list"));
            return Some(vec![]);
        };
        if items.len() > max {
            problems.fatal(entry.line, format!("{what}: {} entries; at most {max}", items.len()));
        }
        let mut tables = Vec::new();
        for (number, item) in items.iter().take(max).enumerate() {
            match &item.value {
                Value::Map(entries) => tables.push((item.line, entries.as_slice())),
                other => problems.fatal(
                    item.line,
                    format!(
                        "{what}, entry {}: got {}; expected a table, as in - phase: plan",
                        number + 1,
                        other.word()
                    ),
                ),
            }
        }
        Some(tables)
    }

    /// Says which keys nobody asked for.
    pub fn finish(self, problems: &mut Problems<'_>) {
        for (_, entry) in &self.left {
            let mut known = self.asked.clone();
            known.sort_unstable();
            let message = format!(
                "the key {} is not known and not used; known here: {}",
                clip(&entry.key),
                known.join(", ")
            );
            problems.remark(entry.line, self.at(&message));
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{:?}", clip(text)),
        other => other.word().to_owned(),
    }
}

fn single(node: &Node, what: &str, max: usize, problems: &mut Problems<'_>) -> Option<String> {
    let text = match &node.value {
        Value::Text(text) => text.trim(),
        Value::Null => "",
        other => {
            problems.fatal(node.line, format!("{what}: got {}; expected text", other.word()));
            return None;
        }
    };
    let chars = text.chars().count();
    if chars > max {
        problems.fatal(node.line, format!("{what}: {chars} characters; at most {max} are taken"));
        return None;
    }
    if text.contains('\0') {
        problems.fatal(node.line, format!("{what}: holds a zero character; take it out"));
        return None;
    }
    Some(text.to_owned())
}
