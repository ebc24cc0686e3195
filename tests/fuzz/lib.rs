//! Everything that reads bytes of strangers, each with what must hold whatever it is given. `cargo
//! fuzz` runs them through `target.rs`, `cargo test` (`tests/it/fuzz.rs`) on the seeds and on what a
//! few hundred changes make of those.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

#[path = "readers/addresses.rs"]
mod addresses;
#[path = "readers/content.rs"]
mod content;
#[path = "readers/cron.rs"]
mod cron;
#[path = "readers/front.rs"]
mod front;
#[path = "readers/globs.rs"]
mod globs;
#[path = "readers/log.rs"]
mod log;
#[path = "readers/markers.rs"]
mod markers;
#[path = "readers/settings.rs"]
mod settings;
#[path = "readers/state.rs"]
mod state;
#[path = "readers/stream.rs"]
mod stream;
#[path = "readers/tokens.rs"]
mod tokens;
#[path = "readers/webhook.rs"]
mod webhook;
#[path = "readers/wire.rs"]
mod wire;

/// Reads an input, and panics where something does not hold that must.
pub type Reader = fn(&[u8]);

/// The readers by name.
pub const READERS: [(&str, Reader); 13] = [
    ("markers", markers::read),
    ("log", log::read),
    ("state", state::read),
    ("stream", stream::read),
    ("content", content::read),
    ("globs", globs::read),
    ("addresses", addresses::read),
    ("tokens", tokens::read),
    ("settings", settings::read),
    ("cron", cron::read),
    ("webhook", webhook::read),
    ("front", front::read),
    ("wire", wire::read),
];

/// Takes the first byte off, for choices; the rest is the input.
fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}

/// What is before and behind the first zero byte.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0);
    at.map_or((bytes, &[]), |at| (&bytes[..at], &bytes[at + 1..]))
}

/// The input as text, for readers that are given no other.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// What a future comes to that waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits for something"),
    }
}

static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder can be made"));

/// A file of this thread that holds the bytes, for readers that want a path.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.path().join(format!("{name}-{:?}", std::thread::current().id()));
    std::fs::write(&path, bytes).expect("a temporary file can be written");
    path
}
