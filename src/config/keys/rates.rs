//! How much a key may ask, and what is written down of it.

use super::*;

/// Calls an hour; 0: as many as it likes.
const PER_HOUR: RangeInclusive<u64> = 0..=1_000_000_000;

pub(super) static KEYS: &[Key] = &[
    count_key!("rates.free", &["ADWD_RATES_FREE"], PER_HOUR, rates.free),
    count_key!("rates.solo", &["ADWD_RATES_SOLO"], PER_HOUR, rates.solo),
    count_key!("rates.team", &["ADWD_RATES_TEAM"], PER_HOUR, rates.team),
    count_key!("rates.enterprise", &["ADWD_RATES_ENTERPRISE"], PER_HOUR, rates.enterprise),
    days_key!("audit.keep_days", &["ADWD_AUDIT_KEEP_DAYS"], DAYS, rates.audit_keep_ms),
];
