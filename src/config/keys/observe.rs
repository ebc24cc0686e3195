//! What is told to those who watch the daemon.

use super::*;

pub(super) static KEYS: &[Key] = &[];
