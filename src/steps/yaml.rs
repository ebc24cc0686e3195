//! The part of YAML that front matter needs, as a tree that remembers its lines.
//!
//! Pure. A deserializer would stop at the first thing it does not like and name no line for it; a
//! person who mends a file wants to hear of everything at once. Anchors and aliases are refused:
//! nobody needs them in a dozen lines, and they are how a small file becomes a large one.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use crate::limits;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Line in the file, from 1.
    pub line: u32,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: an empty value, `null` or `~`.
    Null,
    /// One value, as it was written, without quotes.
    Text(String),
    /// A list, block or flow.
    List(Vec<Node>),
    /// A table; keys are unique, in the order of the file.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its line.
    pub line: u32,
    /// The value.
    pub node: Node,
}

/// Why the text could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line in the file, from 1.
    pub line: u32,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Value {
    /// The word for it in a message.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a table",
        }
    }
}

/// A list or table that is still open.
enum Open {
    List(u32, Vec<Node>),
    /// Entries, and the key that waits for its value.
    Map(u32, Vec<Entry>, Option<(String, u32)>),
}

/// Reads one document. `before` is the number of lines that stand above `text` in its file.
///
/// # Errors
/// [`Fault`]: no YAML, an anchor, a key that is there twice, deeper or more than is read.
pub fn parse(text: &str, before: u32) -> Result<Node, Fault> {
    let mut reader = Reader { before, open: vec![], done: None, nodes: 0, documents: 0 };
    let mut last_line = 1;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax(&error, text, before))?;
        last_line = span.start.line().max(last_line);
        reader.take(event, reader.line(span.start.line()))?;
    }
    let line = reader.line(last_line);
    Ok(reader.done.unwrap_or(Node { line, value: Value::Null }))
}

struct Reader {
    before: u32,
    open: Vec<Open>,
    done: Option<Node>,
    nodes: usize,
    documents: usize,
}

impl Reader {
    fn line(&self, line: usize) -> u32 {
        line_number(line, self.before)
    }

    fn take(&mut self, event: Event<'_>, line: u32) -> Result<(), Fault> {
        let fault = |message: &str| Err(Fault { line, message: message.to_owned() });
        const ANCHORS: &str = "anchors (&x) and aliases (*x) are not read here; write the value \
                               itself, and put text that begins with * or & in quotes";
        match event {
            Event::Alias(_) => return fault(ANCHORS),
            Event::Scalar(_, _, id, _)
            | Event::SequenceStart(id, _)
            | Event::MappingStart(id, _)
                if id != 0 =>
            {
                return fault(ANCHORS);
            }
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return fault("a second YAML document begins here; front matter is one");
                }
            }
            Event::Scalar(text, style, ..) => {
                let null = style == ScalarStyle::Plain
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Text(text.into_owned()) };
                return self.put(Node { line, value });
            }
            Event::SequenceStart(..) => return self.push(Open::List(line, vec![]), line),
            Event::MappingStart(..) => return self.push(Open::Map(line, vec![], None), line),
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop() {
                    Some(Open::List(line, items)) => Node { line, value: Value::List(items) },
                    Some(Open::Map(line, entries, _)) => Node { line, value: Value::Map(entries) },
                    None => return Ok(()),
                };
                return self.put(node);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn push(&mut self, open: Open, line: u32) -> Result<(), Fault> {
        if let Some(Open::Map(_, _, None)) = self.open.last() {
            return Err(Fault { line, message: "a key must be a single word or text".to_owned() });
        }
        if self.open.len() == limits::CONTENT_YAML_DEPTH_COUNT {
            let message = format!("nested deeper than {} levels", limits::CONTENT_YAML_DEPTH_COUNT);
            return Err(Fault { line, message });
        }
        self.open.push(open);
        Ok(())
    }

    /// Puts a whole value where it belongs.
    fn put(&mut self, node: Node) -> Result<(), Fault> {
        let line = node.line;
        self.nodes += 1;
        if self.nodes > limits::CONTENT_YAML_NODES_COUNT {
            let message = format!("more than {} values", limits::CONTENT_YAML_NODES_COUNT);
            return Err(Fault { line, message });
        }
        match self.open.last_mut() {
            None => self.done = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                Some((key, line)) => entries.push(Entry { key, line, node }),
                None => {
                    let Value::Text(text) = node.value else {
                        let message = "a key must be a single word or text".to_owned();
                        return Err(Fault { line, message });
                    };
                    if let Some(before) = entries.iter().find(|entry| entry.key == text) {
                        let message = format!(
                            "the key {text} is there twice (first in line {}); keep one",
                            before.line
                        );
                        return Err(Fault { line, message });
                    }
                    *key = Some((text, line));
                }
            },
        }
        Ok(())
    }
}

fn line_number(line: usize, before: u32) -> u32 {
    u32::try_from(line.max(1)).unwrap_or(u32::MAX).saturating_add(before)
}

/// The scanner's words, with a hint where the usual mistake is behind them.
fn syntax(error: &ScanError, text: &str, before: u32) -> Fault {
    let at = error.marker().line().max(1);
    let line = text.lines().nth(at - 1).unwrap_or_default();
    let value = line.split_once(": ").map_or(line, |(_, value)| value);
    let value = value.trim_start().trim_start_matches(['-', '[', ' ']);
    let about_names = ["anchor", "alias"].iter().any(|word| error.info().contains(word));
    let hint = if about_names || value.starts_with(['*', '&', '!', '@', '`', '%']) {
        "; put text that begins with a sign in quotes, as in \"**/*.rs\""
    } else if value.contains(": ") {
        "; put text with a colon in quotes"
    } else if line.contains('\t') {
        "; indent with spaces, not with tabs"
    } else {
        ""
    };
    Fault { line: line_number(at, before), message: format!("no YAML: {}{hint}", error.info()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(node: &Node) -> &str {
        match &node.value {
            Value::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_carry_the_lines_of_the_file() {
        let node = parse("a: 1\nb:\n  - x\n  - [y, 'z']\nc: ~\n", 1).unwrap();
        let Value::Map(entries) = &node.value else { panic!("{node:?}") };
        let lines: Vec<(&str, u32)> = entries.iter().map(|e| (e.key.as_str(), e.line)).collect();
        assert_eq!(lines, [("a", 2), ("b", 3), ("c", 6)]);
        let Value::List(items) = &entries[1].node.value else { panic!("{node:?}") };
        assert_eq!((text(&items[0]), items[0].line), ("x", 4));
        let Value::List(inner) = &items[1].value else { panic!("{node:?}") };
        assert_eq!((text(&inner[1]), inner[1].line), ("z", 5));
        assert_eq!(entries[2].node.value, Value::Null);
    }

    #[test]
    fn what_is_no_front_matter_is_refused_with_its_line() {
        let cases = [
            ("a: 1\na: 2\n", 2, "there twice"),
            ("a: &x 1\nb: *x\n", 1, "anchors"),
            ("a:\n\t- 1\n", 2, ""),
            ("a: b: c\n", 1, "colon in quotes"),
            ("globs: **/*.rs\n", 1, "begins with a sign"),
            ("- {a: b, globs: [*.rs]}\n", 1, "begins with a sign"),
            ("[a]: 1\n", 1, "a key must be"),
            ("a: [1, 2\n", 0, ""),
            ("--- a\n--- b\n", 2, "second"),
        ];
        for (given, line, words) in cases {
            let fault = parse(given, 0).unwrap_err();
            assert!(fault.message.contains(words), "{given:?}: {fault:?}");
            assert!(line == 0 || fault.line == line, "{given:?}: {fault:?}");
        }
        let deep = "[".repeat(200_000);
        assert!(parse(&deep, 0).is_err());
        let wide = format!("[{}]", "a,".repeat(50_000));
        assert!(parse(&wide, 0).unwrap_err().message.contains("more than"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(given in r#"([\x00-\x7f]|[-:\[\]{}&*!|>'"%#\n ,?@`~]|[^\x00-\x7f]){0,60}"#) {
            let _ = parse(&given, 3);
        }
    }
}
