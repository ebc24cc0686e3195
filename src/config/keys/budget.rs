//! What may be spent.

use super::*;

pub(super) static KEYS: &[Key] = &[];
