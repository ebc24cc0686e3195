//! How many values a message holds, counted before it is read as one.
//!
//! A byte of text stays a byte; two bytes of an array (`0,`) become a value of many. So the bound on
//! a message's bytes does not bound what reading it costs, in memory or in time, and reading is done
//! where other callers wait.

use super::bounds::MESSAGE_VALUES_COUNT;

/// Counts the values of one JSON text that comes in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    values: usize,
    quoted: bool,
    escaped: bool,
}

impl Weight {
    /// Takes the next piece. Whether the text may still be read: whatever is no JSON is refused by
    /// who reads it.
    #[must_use]
    pub fn add(&mut self, piece: &[u8]) -> bool {
        for byte in piece {
            match (self.quoted, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.quoted = !self.quoted,
                (false, b',' | b':' | b'[' | b'{') => self.values += 1,
                _ => {}
            }
        }
        self.values <= MESSAGE_VALUES_COUNT
    }

    /// The same for messages that are lines, each counted by itself.
    #[must_use]
    pub fn add_lines(&mut self, piece: &[u8]) -> bool {
        let mut lines = piece.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        self.add(first)
            && lines.all(|line| {
                *self = Weight::default();
                self.add(line)
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_weighs_nothing_and_values_do() {
        let text = format!("{{\"a\":\"{}\\\"{}\"}}", ",".repeat(1 << 20), "[".repeat(1 << 20));
        let mut weight = Weight::default();
        assert!(weight.add(text.as_bytes()));
        assert_eq!(weight.values, 2);
        assert!(Weight::default().add("0,".repeat(MESSAGE_VALUES_COUNT).as_bytes()));
        assert!(!Weight::default().add("0,".repeat(MESSAGE_VALUES_COUNT + 1).as_bytes()));
    }

    #[test]
    fn lines_are_counted_each_by_itself() {
        let line = "0,".repeat(MESSAGE_VALUES_COUNT) + "\n";
        let mut weight = Weight::default();
        for _ in 0..3 {
            assert!(weight.add_lines(line.as_bytes()));
        }
        assert!(weight.add_lines(&line.as_bytes()[..10]));
        assert!(!weight.add_lines(line.as_bytes()));
    }

    proptest! {
        #[test]
        fn how_it_is_cut_makes_no_difference(text in "[\\[\\]{}:,\"\\\\a\n]{0,60}", at in 0_usize..60) {
            let bytes = text.as_bytes();
            let (mut whole, mut parts) = (Weight::default(), Weight::default());
            let (first, last) = bytes.split_at(at.min(bytes.len()));
            prop_assert!(whole.add_lines(bytes) && parts.add_lines(first) && parts.add_lines(last));
            prop_assert_eq!(whole, parts);
        }
    }
}
