//! The `adwd` binary.

fn main() {}
