//! Settings: how much a key may ask, and what is written down of it.

use super::DAY_MS;

/// How much a key may ask in an hour, and what is written down of it. A write costs 1, a read 0.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatesConfig {
    /// Of a free key; 0: as much as it likes (so for all).
    pub free: u32,
    /// Of a solo key.
    pub solo: u32,
    /// Of a team key.
    pub team: u32,
    /// Of an enterprise key.
    pub enterprise: u32,
    /// How long the record of a call is kept, in ms; 0: up to their greatest number.
    pub audit_keep_ms: u64,
}

impl Default for RatesConfig {
    fn default() -> RatesConfig {
        RatesConfig {
            free: 100,
            solo: 1_000,
            team: 10_000,
            enterprise: 100_000,
            audit_keep_ms: 90 * DAY_MS,
        }
    }
}
