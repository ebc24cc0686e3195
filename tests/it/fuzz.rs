//! What reads bytes of strangers, on the seeds of the fuzz targets, on what a few hundred changes
//! make of those, and on what is long and deep. `tests/fuzz` holds the readers and what must hold
//! of each; `cargo fuzz` looks further (the README, Development, says how).

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

#[path = "../fuzz/lib.rs"]
mod readers;

use readers::READERS;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder().join("seeds").join(name)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The words of the dictionary: text in quotes, `\\`, `\"` and `\xNN` in it.
fn words() -> Vec<Vec<u8>> {
    let dictionary = std::fs::read_to_string(folder().join("words.dict")).unwrap();
    let lines = dictionary.lines().filter(|line| line.starts_with('"'));
    lines.map(|line| unquoted(line.trim_matches('"').as_bytes())).collect()
}

fn unquoted(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            (b'\\', Some(b'x')) => {
                let digits = std::str::from_utf8(&text[at + 2..at + 4]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                at += 4;
            }
            (b'\\', Some(plain)) => {
                bytes.push(*plain);
                at += 2;
            }
            (plain, _) => {
                bytes.push(plain);
                at += 1;
            }
        }
    }
    bytes
}

/// One change of an input, at a place that the input's length decides.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Word(Index, Index),
    Cut(Index, Index),
    Repeat(Index, Index, usize),
    Turn(Index),
}

fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), at()).prop_map(|(at, word)| Change::Word(at, word)),
        (at(), at()).prop_map(|(from, to)| Change::Cut(from, to)),
        (at(), at(), 1..40_usize).prop_map(|(from, to, times)| Change::Repeat(from, to, times)),
        at().prop_map(Change::Turn),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change], words: &[Vec<u8>]) -> Vec<u8> {
    for change in changes {
        let place = |at: &Index| at.index(bytes.len() + 1);
        let span = |a: &Index, b: &Index| (place(a).min(place(b)), place(a).max(place(b)));
        match change {
            Change::Set(at, byte) => {
                let at = place(at);
                if at < bytes.len() {
                    bytes[at] = *byte;
                }
            }
            Change::Word(at, word) => {
                let at = place(at);
                bytes.splice(at..at, words[word.index(words.len())].iter().copied());
            }
            Change::Cut(from, to) => {
                let (from, to) = span(from, to);
                bytes.drain(from..to);
            }
            Change::Repeat(from, to, times) => {
                let (from, to) = span(from, to);
                let part = bytes[from..to.min(from + 64)].repeat(*times);
                bytes.splice(from..from, part);
            }
            Change::Turn(at) => {
                let at = place(at);
                bytes.rotate_left(at);
            }
        }
    }
    bytes
}

fn reader(name: &str) -> fn(&[u8]) {
    READERS.iter().find(|(own, _)| *own == name).unwrap().1
}

fn survives_changes(name: &str) {
    let (read, seeds, words) = (reader(name), seeds(name), words());
    seeds.iter().for_each(|seed| read(seed));
    let inputs = (any::<Index>(), proptest::collection::vec(any_change(), 1..6));
    proptest!(ProptestConfig::with_cases(400), |((seed, changes) in inputs)| {
        read(&changed(seeds[seed.index(seeds.len())].clone(), &changes, &words));
    });
}

/// The time of the processor that this thread has taken, in ms: what others do does not count.
fn taken_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}

/// Parts that make text long, deep or ambiguous where they are repeated.
const PARTS: [&str; 30] = [
    "[", "{", "{\"a\":", "a.", "[a.", "[[a]]\n", "a = 1\n", "- ", "- a\n  ", "a: ", "{a,",
    "{1..9}", "**/", "*", "[!", "\\", "%20", "/", "../", "&a=", ",", "\"", "'", "---\n", "\n",
    "\u{e9}", "\0", "<!-- ", "@", ":",
];

/// No reader takes more than this for 32 KiB of the worst that we could think of, unoptimised.
const LIMIT_MS: u64 = 5_000;

fn stands_length_and_depth(name: &str) {
    let read = reader(name);
    for seed in seeds(name) {
        let first = *seed.first().unwrap_or(&0);
        for part in PARTS {
            let long = part.repeat(32_768 / part.len());
            for bytes in [[&[first], long.as_bytes()].concat(), [&seed, long.as_bytes()].concat()] {
                let before = taken_ms();
                read(&bytes);
                let took = taken_ms() - before;
                assert!(took < LIMIT_MS, "{name}: {took} ms for many of {part:?}");
            }
        }
    }
}

macro_rules! readers {
    ($($name:ident),+) => {
        mod changes_are_survived {
            $(#[test] fn $name() { super::survives_changes(stringify!($name)); })+
        }
        mod length_and_depth_are_survived {
            $(#[test] fn $name() { super::stands_length_and_depth(stringify!($name)); })+
        }
        #[test]
        fn no_reader_is_forgotten() {
            assert_eq!(READERS.map(|(name, _)| name), [$(stringify!($name)),+]);
            let targets = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
            assert_eq!(targets.matches("[[bin]]").count(), READERS.len());
        }
    };
}
readers!(
    markers, log, state, stream, content, globs, addresses, tokens, settings, cron, webhook, front,
    wire
);
