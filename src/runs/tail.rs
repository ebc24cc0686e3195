//! Reading a phase's log: bounded steps, whole lines, harmless characters.
//!
//! The log is written by strangers: it may hold a line of 50 MB, NULs, escape sequences, or half a
//! character. What leaves this module is text that a terminal and a JSON reader can bear.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::limits;

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The cursor is none of ours.
    #[error("cursor {0:?} is not an offset")]
    Cursor(String),
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A page of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Whole lines, long ones cut.
    pub lines: Vec<String>,
    /// Cursor of what follows.
    pub next: String,
    /// Whether more whole lines are there now.
    pub more: bool,
}

/// Makes bytes of a log line harmless: invalid UTF-8 and control characters become visible.
#[must_use]
pub fn harmless(bytes: &[u8]) -> String {
    cut(bytes, bytes.len() as u64)
}

/// The same for the beginning of a line of `length` bytes.
fn cut(bytes: &[u8], length: u64) -> String {
    let cut = &bytes[..bytes.len().min(limits::TAIL_LINE_BYTES)];
    let mut text = String::with_capacity(cut.len());
    for c in String::from_utf8_lossy(cut.strip_suffix(b"\r").unwrap_or(cut)).chars() {
        match c {
            '\t' => text.push(c),
            '\u{0}'..='\u{1f}' => {
                text.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'))
            }
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => text.push('\u{fffd}'),
            _ => text.push(c),
        }
    }
    if length > limits::TAIL_LINE_BYTES as u64 {
        text.push_str(&format!(" …[{length} bytes in all]"));
    }
    text
}

/// Reads at most `max` bytes from `offset`; nothing where the file is not there.
fn read_at(path: &Path, offset: u64, max: usize) -> io::Result<Vec<u8>> {
    let mut file = match crate::plain::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e),
    };
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![];
    file.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Follows a log from its beginning, for markers: each step yields the whole lines that came.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    offset: u64,
    /// In the middle of a line that is longer than a step.
    inside_long: bool,
    ended: bool,
}

impl Tail {
    /// A tail at the beginning.
    #[must_use]
    pub fn new() -> Tail {
        Tail::default()
    }

    /// From now on a last line without a line end counts as whole.
    pub fn at_end(&mut self) {
        self.ended = true;
    }

    /// The next whole lines, at most [`limits::TAIL_STEP_BYTES`]; empty where nothing new is
    /// there. A line longer than a step is passed over: it cannot be a marker.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn step(&mut self, path: &Path) -> io::Result<Vec<String>> {
        loop {
            let bytes = read_at(path, self.offset, limits::TAIL_STEP_BYTES)?;
            if bytes.is_empty() {
                return Ok(vec![]);
            }
            let full = bytes.len() == limits::TAIL_STEP_BYTES;
            let end = match bytes.iter().rposition(|b| *b == b'\n') {
                Some(last) => last + 1,
                None if full => {
                    self.offset += bytes.len() as u64;
                    self.inside_long = true;
                    continue;
                }
                None if self.ended => bytes.len(),
                None => return Ok(vec![]),
            };
            let end = if self.ended && !full { bytes.len() } else { end };
            self.offset += end as u64;
            let mut lines: Vec<String> = split(&bytes[..end]).map(harmless).collect();
            if std::mem::take(&mut self.inside_long) && !lines.is_empty() {
                lines.remove(0);
            }
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
    }
}

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|b| *b == b'\n')
}

/// A page of at most `limit` lines, from `cursor` (a byte offset in decimal), from the beginning,
/// or the last ones (`from_end`). A last line without a line end comes only when it is whole, or
/// when the writer has `ended`.
///
/// # Errors
/// [`TailError`].
pub fn page(
    path: &Path,
    cursor: Option<&str>,
    limit: usize,
    from_end: bool,
    ended: bool,
) -> Result<Page, TailError> {
    let size = std::fs::symlink_metadata(path).map_or(0, |m| m.len());
    let start = match cursor {
        Some(text) => text
            .parse::<u64>()
            .ok()
            .filter(|_| !text.starts_with('+'))
            // A log that its phase cut off or took away begins anew, for who follows it too.
            .map(|offset| if offset > size { 0 } else { offset })
            .ok_or_else(|| TailError::Cursor(text.to_owned()))?,
        None if from_end => start_of_last(path, size, limit, ended)?,
        None => 0,
    };
    let bytes = read_at(path, start, limits::TAIL_PAGE_BYTES)?;
    let full = bytes.len() == limits::TAIL_PAGE_BYTES;
    if full && !bytes.contains(&b'\n') {
        return Ok(long_line(path, start, &bytes, ended)?);
    }
    let mut lines = vec![];
    let mut at = 0;
    while lines.len() < limit {
        let Some(length) = bytes[at..].iter().position(|b| *b == b'\n') else { break };
        lines.push(harmless(&bytes[at..at + length]));
        at += length + 1;
    }
    if ended && !full && lines.len() < limit && at < bytes.len() {
        lines.push(harmless(&bytes[at..]));
        at = bytes.len();
    }
    let rest = &bytes[at..];
    let more = full || rest.contains(&b'\n') || (ended && !rest.is_empty());
    Ok(Page { lines, next: (start + at as u64).to_string(), more })
}

/// A page that holds the beginning of one line that is longer than a page, and leads behind it.
fn long_line(path: &Path, start: u64, head: &[u8], ended: bool) -> io::Result<Page> {
    let mut end = start + head.len() as u64;
    let (mut whole, mut has_end) = (false, false);
    while !whole && end - start < limits::TAIL_LONG_LINE_BYTES {
        let bytes = read_at(path, end, limits::TAIL_STEP_BYTES)?;
        let found = bytes.iter().position(|b| *b == b'\n');
        end += found.map_or(bytes.len(), |p| p + 1) as u64;
        has_end = found.is_some();
        whole = has_end;
        if !whole && bytes.len() < limits::TAIL_STEP_BYTES {
            if !ended {
                // Not written to its end yet: held back like any other.
                return Ok(Page { lines: vec![], next: start.to_string(), more: false });
            }
            whole = true;
        }
    }
    let more = read_at(path, end, 1).is_ok_and(|b| !b.is_empty());
    let length = end - start - u64::from(has_end);
    Ok(Page { lines: vec![cut(head, length)], next: end.to_string(), more })
}

/// Offset at which the last `limit` lines begin, looking back a bounded way.
fn start_of_last(path: &Path, size: u64, limit: usize, ended: bool) -> io::Result<u64> {
    let from = size.saturating_sub(limits::TAIL_PAGE_BYTES as u64);
    let bytes = read_at(path, from, limits::TAIL_PAGE_BYTES)?;
    let last_end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
    let whole = if ended { bytes.len() } else { last_end };
    let breaks =
        || bytes[..whole.saturating_sub(1)].iter().enumerate().filter(|(_, b)| **b == b'\n');
    let begin = breaks().rev().map(|(i, _)| i + 1).nth(limit.saturating_sub(1));
    // What is looked at may begin in the middle of a line; that one is not shown.
    let first = if from == 0 { 0 } else { breaks().next().map_or(0, |(i, _)| i + 1) };
    Ok(from + begin.unwrap_or(first) as u64)
}

/// The last `count` lines of a log, whole or not.
///
/// # Errors
/// The file could not be read.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let size = std::fs::symlink_metadata(path).map_or(0, |m| m.len());
    let from = size.saturating_sub(limits::TAIL_LAST_BYTES);
    let bytes =
        read_at(path, from, usize::try_from(limits::TAIL_LAST_BYTES).unwrap_or(usize::MAX))?;
    if bytes.is_empty() {
        return Ok(vec![]);
    }
    let lines: Vec<String> = split(&bytes).map(harmless).collect();
    let skip = lines.len().saturating_sub(count);
    Ok(lines.into_iter().skip(skip).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("execution.log");
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn a_tail_holds_back_a_line_that_is_not_whole() {
        let (_dir, path) = file(b"a\nb");
        let mut tail = Tail::new();
        assert_eq!(tail.step(&path).unwrap(), ["a"]);
        assert!(tail.step(&path).unwrap().is_empty());
        std::fs::write(&path, b"a\nbc\nd").unwrap();
        assert_eq!(tail.step(&path).unwrap(), ["bc"]);
        tail.at_end();
        assert_eq!(tail.step(&path).unwrap(), ["d"]);
        assert!(tail.step(&path).unwrap().is_empty());
    }

    #[test]
    fn a_line_longer_than_a_step_is_passed_over() {
        let mut bytes = vec![b'x'; 3 * limits::TAIL_STEP_BYTES];
        bytes.extend_from_slice(b"\nADW_ID=a\n");
        let (_dir, path) = file(&bytes);
        assert_eq!(Tail::new().step(&path).unwrap(), ["ADW_ID=a"]);
    }

    #[test]
    fn pages_lead_through_the_whole_log() {
        let text: String = (0..25).map(|i| format!("line {i}\n")).collect();
        let (_dir, path) = file(text.as_bytes());
        let (mut seen, mut cursor) = (vec![], None);
        loop {
            let p = page(&path, cursor.as_deref(), 10, false, false).unwrap();
            seen.extend(p.lines);
            if !p.more {
                break;
            }
            cursor = Some(p.next);
        }
        assert_eq!(seen.len(), 25);
        let last = page(&path, None, 3, true, false).unwrap();
        assert_eq!((last.lines[0].as_str(), last.lines.len(), last.more), ("line 22", 3, false));
        assert!(matches!(page(&path, Some("x"), 3, false, false), Err(TailError::Cursor(_))));
        assert!(matches!(page(&path, Some("+1"), 3, false, false), Err(TailError::Cursor(_))));
        let anew = page(&path, Some("99999"), 1, false, false).unwrap();
        assert_eq!(anew.lines, ["line 0"], "it was cut off meanwhile");
    }

    #[test]
    fn a_line_longer_than_a_page_is_shown_once_and_passed() {
        let mut bytes = b"first\n".to_vec();
        bytes.extend(vec![b'x'; 5 * limits::TAIL_PAGE_BYTES]);
        let (_dir, path) = file(&bytes);
        let first = page(&path, None, 1, false, false).unwrap();
        assert_eq!((first.lines.as_slice(), first.more), (&["first".to_owned()][..], true));
        // Still being written: held back, and not at all once for each megabyte.
        let held = page(&path, Some(&first.next), 9, false, false).unwrap();
        assert_eq!(held, Page { lines: vec![], next: first.next.clone(), more: false });
        let shown = page(&path, Some(&first.next), 9, false, true).unwrap();
        assert_eq!((shown.lines.len(), shown.more), (1, false));
        assert!(
            shown.lines[0].ends_with(&format!("…[{} bytes in all]", 5 * limits::TAIL_PAGE_BYTES))
        );
        bytes.extend_from_slice(b"\nlast\n");
        std::fs::write(&path, &bytes).unwrap();
        let over = page(&path, Some(&first.next), 9, false, true).unwrap();
        let shown = page(&path, Some(&first.next), 9, false, false).unwrap();
        assert_eq!((&shown, shown.lines.len(), shown.more), (&over, 1, true));
        assert!(
            shown.lines[0].ends_with(&format!("…[{} bytes in all]", 5 * limits::TAIL_PAGE_BYTES))
        );
        assert_eq!(page(&path, Some(&shown.next), 9, false, false).unwrap().lines, ["last"]);
        // Looking back from the end meets the middle of the long line, and leaves it out.
        assert_eq!(page(&path, None, 9, true, false).unwrap().lines, ["last"]);
    }

    #[test]
    fn the_last_line_without_its_end_is_shown_once_the_writer_has_ended() {
        let (_dir, path) = file(b"a\nb");
        let (going, over) = (page(&path, None, 9, false, false), page(&path, None, 9, false, true));
        let (going, over) = (going.unwrap(), over.unwrap());
        assert_eq!((going.lines, going.next.as_str()), (vec!["a".to_owned()], "2"));
        assert_eq!((over.lines, over.next.as_str()), (vec!["a".to_owned(), "b".to_owned()], "3"));
        let first = page(&path, None, 1, false, true).unwrap();
        assert!(first.more);
        assert_eq!(page(&path, Some(&first.next), 1, false, true).unwrap().lines, ["b"]);
        assert_eq!(page(&path, None, 1, true, true).unwrap().lines, ["b"]);
        assert_eq!(page(&path, None, 1, true, false).unwrap().lines, ["a"]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_made_visible() {
        assert_eq!(harmless(b"\x1b[31mred\0\xff\r"), "\u{241b}[31mred\u{2400}\u{fffd}");
        assert!(harmless(&vec![b'a'; 20_000]).len() < 17_000);
    }

    #[test]
    fn a_log_that_is_not_there_is_empty() {
        let path = Path::new("/nonexistent/execution.log");
        assert_eq!(page(path, Some("5"), 5, false, false).unwrap().next, "0", "it was taken away");
        assert!(Tail::new().step(path).unwrap().is_empty());
        assert_eq!(page(path, None, 5, true, false).unwrap().lines.len(), 0);
        assert!(last_lines(path, 5).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..2000), limit in 1usize..20) {
            let (_dir, path) = file(&bytes);
            let newlines = bytes.iter().filter(|b| **b == b'\n').count();
            let (mut seen, mut cursor) = (0, None);
            for _ in 0..=newlines {
                let p = page(&path, cursor.as_deref(), limit, false, false).unwrap();
                seen += p.lines.len();
                let clean = p.lines.iter().all(|l| !l.contains(['\n', '\0', '\u{1b}']));
                prop_assert!(clean);
                if !p.more { break; }
                cursor = Some(p.next);
            }
            prop_assert_eq!(seen, newlines);
        }
    }
}
