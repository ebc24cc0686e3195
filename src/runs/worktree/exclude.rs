//! The block of patterns that adwd keeps in a repository's `info/exclude`.

const BEGIN: &str = "# adwd begin";
const END: &str = "# adwd end";

/// The text with one block of ours, at the end, that holds exactly these patterns. Every other
/// line stays, byte for byte: the file is the user's.
pub(super) fn with_block(old: &[u8], patterns: &[String]) -> Vec<u8> {
    let lines: Vec<&[u8]> = old.split_inclusive(|b| *b == b'\n').collect();
    let is = |line: &[u8], word: &str| line.trim_ascii_end() == word.as_bytes();
    let mut new: Vec<u8> = vec![];
    let mut at = 0;
    while at < lines.len() {
        if is(lines[at], BEGIN) {
            // Without its end the block has lost its shape: only the line that is surely ours goes.
            let until =
                lines[at + 1..].iter().take_while(|l| !is(l, BEGIN)).position(|l| is(l, END));
            at += until.map_or(1, |n| n + 2);
            continue;
        }
        if !is(lines[at], END) {
            new.extend_from_slice(lines[at]);
        }
        at += 1;
    }
    if !new.is_empty() && !new.ends_with(b"\n") {
        new.push(b'\n');
    }
    for line in [BEGIN].into_iter().chain(patterns.iter().map(String::as_str)).chain([END]) {
        new.extend_from_slice(line.as_bytes());
        new.push(b'\n');
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(old: &str, patterns: &[&str]) -> String {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        String::from_utf8(with_block(old.as_bytes(), &patterns)).unwrap()
    }

    #[test]
    fn the_block_is_kept_and_nothing_else_is_touched() {
        let one = block("*.swp\n", &["/logs/"]);
        assert_eq!(one, "*.swp\n# adwd begin\n/logs/\n# adwd end\n");
        assert_eq!(block(&one, &["/logs/"]), one);
        assert_eq!(
            block(&format!("{one}x"), &["/a/"]),
            "*.swp\nx\n# adwd begin\n/a/\n# adwd end\n"
        );
        assert_eq!(block("", &[]), "# adwd begin\n# adwd end\n");
    }

    #[test]
    fn a_block_that_lost_its_end_costs_the_user_no_line() {
        assert_eq!(
            block("a\n# adwd begin\n/old/\nmine\n", &["/b/"]),
            "a\n/old/\nmine\n# adwd begin\n/b/\n# adwd end\n"
        );
        assert_eq!(block("# adwd end\nmine\n", &["/b/"]), "mine\n# adwd begin\n/b/\n# adwd end\n");
        let twice = "# adwd begin\nmine\n# adwd begin\n/x/\n# adwd end\n";
        assert_eq!(block(twice, &["/b/"]), "mine\n# adwd begin\n/b/\n# adwd end\n");
    }

    #[test]
    fn lines_that_are_no_text_stay() {
        let new = with_block(b"\xff\xfe\r\n", &["/a/".to_owned()]);
        assert!(new.starts_with(b"\xff\xfe\r\n# adwd begin\n"));
    }
}
