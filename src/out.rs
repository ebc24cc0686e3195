//! The one way from the program to its user's eyes: standard output and standard error.
//!
//! Standard output carries results, standard error everything said beside them. A reader that went
//! away (`adwd list | head -1`) ends the output quietly. Colours and tables are for terminals
//! only; `NO_COLOR` and `TERM=dumb` are honoured. What came from outside (titles, log lines) has
//! its control characters made harmless, so that it cannot steer the terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Color, ContentArrangement, Table};
use serde::Serialize;

/// Meaning of a word, shown as a colour where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// It went well.
    Good,
    /// It needs attention, or goes on.
    Busy,
    /// It went wrong.
    Bad,
    /// Less important.
    Dim,
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell2 {
    text: String,
    tone: Tone,
}

/// A plain cell.
pub fn cell(text: impl Into<String>) -> Cell2 {
    Cell2 { text: text.into(), tone: Tone::Plain }
}

/// A cell with a meaning.
pub fn toned(text: impl Into<String>, tone: Tone) -> Cell2 {
    Cell2 { text: text.into(), tone }
}

/// The writer.
#[derive(Debug)]
pub struct Out {
    json: bool,
    terminal: bool,
    colours: bool,
    error_terminal: bool,
    gone: AtomicBool,
}

impl Out {
    /// The writer for this process. `json` asks for JSON alone on standard output.
    #[must_use]
    pub fn new(json: bool) -> Out {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stdout().is_terminal();
        Out {
            json,
            terminal,
            colours: terminal && !dumb && !set("NO_COLOR"),
            error_terminal: io::stderr().is_terminal() && !dumb,
            gone: AtomicBool::new(false),
        }
    }

    /// Whether only JSON may go to standard output.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person reads standard output.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal && !self.json
    }

    /// Columns of the terminal; 80 where nobody says.
    #[must_use]
    pub fn width(&self) -> usize {
        Table::new().width().map_or(80, usize::from)
    }

    /// Whether standard error can show something that moves.
    #[must_use]
    pub fn can_animate(&self) -> bool {
        self.error_terminal && !self.json
    }

    /// Whether the reader of standard output went away: whoever follows something may stop.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// One line of a result, made harmless.
    pub fn line(&self, text: &str) {
        self.raw(&format!("{}\n", harmless(text)));
    }

    /// Text as it is, for what we made ourselves (a script, a unit, a configuration).
    pub fn raw(&self, text: &str) {
        if self.gone.load(Ordering::Relaxed) {
            return;
        }
        let mut stdout = io::stdout().lock();
        // Whatever the error, nobody reads on; a full disk behind a redirection shows in the shell.
        if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    /// One JSON document: indented for a person, on one line for a program.
    pub fn json(&self, value: &impl Serialize) {
        let text = if self.terminal {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        match text {
            Ok(text) => self.raw(&format!("{text}\n")),
            Err(error) => self.note(&format!("this cannot be shown as JSON: {error}")),
        }
    }

    /// One line beside the result, on standard error.
    pub fn note(&self, text: &str) {
        // Nobody to tell: not a reason to fail.
        let _ = writeln!(io::stderr().lock(), "{}", harmless(text));
    }

    /// Rows as a table for a person, as tab-separated columns without a header for a program.
    pub fn table(&self, header: &[&str], rows: &[Vec<Cell2>]) {
        if !self.is_terminal() {
            for row in rows {
                let cells: Vec<String> =
                    row.iter().map(|c| harmless(&c.text).replace('\t', " ")).collect();
                self.raw(&format!("{}\n", cells.join("\t")));
            }
            return;
        }
        let mut table = Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header.iter().map(|h| {
            let head = comfy_table::Cell::new(h);
            if self.colours { head.add_attribute(Attribute::Bold) } else { head }
        }));
        for row in rows {
            table.add_row(row.iter().map(|c| self.styled(c)));
        }
        // Without borders and without wrapping: a path or an address can be copied in one piece.
        self.raw(&format!("{}\n", table.trim_fmt()));
    }

    /// A word in its colour, for a line of one's own.
    #[must_use]
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            _ if !self.colours => return harmless(text),
            Tone::Plain => return harmless(text),
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
        };
        format!("\u{1b}[{code}m{}\u{1b}[0m", harmless(text))
    }

    /// A line made of painted words; the caller has made foreign text harmless with [`Out::paint`].
    pub fn painted(&self, line: &str) {
        self.raw(&format!("{line}\n"));
    }

    fn styled(&self, from: &Cell2) -> comfy_table::Cell {
        let cell = comfy_table::Cell::new(harmless(&from.text));
        match from.tone {
            _ if !self.colours => cell,
            Tone::Plain => cell,
            Tone::Good => cell.fg(Color::Green),
            Tone::Busy => cell.fg(Color::Yellow),
            Tone::Bad => cell.fg(Color::Red),
            Tone::Dim => cell.add_attribute(Attribute::Dim),
        }
    }
}

/// The text with its control characters shown instead of obeyed; line ends and tabs stay.
#[must_use]
pub fn harmless(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if steers(c) { c.escape_unicode().to_string() } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_shown() {
        assert_eq!(harmless("plain ünïcode\ttab"), "plain ünïcode\ttab");
        assert_eq!(harmless("a\u{1b}[2Jb\r"), "a\\u{1b}[2Jb\\u{d}");
        assert_eq!(harmless("\u{202e}gnp.exe"), "\\u{202e}gnp.exe");
    }

    #[test]
    fn without_a_terminal_there_are_no_colours() {
        let out = Out {
            json: false,
            terminal: false,
            colours: false,
            error_terminal: false,
            gone: AtomicBool::new(false),
        };
        assert_eq!(out.paint("x", Tone::Bad), "x");
        assert!(!out.is_terminal() && !out.can_animate());
    }
}
