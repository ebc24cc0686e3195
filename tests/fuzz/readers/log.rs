//! A phase's log: followed step by step, read page by page in every size, and its end.

use adwd::runs::tail::{Tail, harmless, last_lines, page};

use super::{choice, file};

fn is_harmless(line: &str) -> bool {
    !line.chars().any(|c| (c.is_control() && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c))
}

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (choice, bytes) = choice(bytes);
    let (limit, ended) = (1 + usize::from(choice >> 1) % 9, choice & 1 == 1);
    let path = file("log", bytes);
    // What a whole line is, said another way.
    let mut expected: Vec<String> = bytes.split(|b| *b == b'\n').map(harmless).collect();
    let rest = bytes.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    if !ended || rest.is_empty() {
        expected.pop();
    }
    let mut tail = Tail::new();
    if ended {
        tail.at_end();
    }
    let mut followed = Vec::new();
    loop {
        let lines = tail.step(&path).expect("the file is there");
        if lines.is_empty() {
            break;
        }
        followed.extend(lines);
    }
    assert_eq!(followed, expected);
    let (mut paged, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = page(&path, cursor.as_deref(), limit, false, ended).expect("a good cursor");
        assert!(page.lines.len() <= limit && page.lines.iter().all(|line| is_harmless(line)));
        let stands = cursor.as_deref().unwrap_or("0") == page.next;
        assert!(!(stands && page.more), "a page that says more and leads nowhere");
        paged.extend(page.lines);
        cursor = Some(page.next);
        if !page.more {
            break;
        }
    }
    assert_eq!(paged, expected);
    let end = page(&path, None, limit, true, ended).expect("the end can be read");
    assert_eq!(end.lines, expected[expected.len().saturating_sub(limit)..]);
    let last = last_lines(&path, limit).expect("the end can be read");
    assert!(last.len() <= limit && last.iter().all(|line| is_harmless(line)));
    // A cursor is untrusted as well.
    let cursor = String::from_utf8_lossy(&bytes[..bytes.len().min(24)]);
    let _ = page(&path, Some(&cursor), limit, false, ended);
}
