//! The fuzz target of the reader that is named like the binary.
#![no_main]

use std::sync::LazyLock;

use adwd_fuzz::READERS;

static READ: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let named = READERS.iter().find(|(name, _)| *name == env!("CARGO_BIN_NAME"));
    named.expect("the binary is named like a reader").1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| READ(bytes));
