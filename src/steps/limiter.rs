//! Rate limits: token buckets in the database (`spec/steps.md` §6).
//!
//! Two buckets are asked for a call that changes something: the execution's and the agent's. Both
//! give or neither does, in the transaction of the call itself, so a call that is refused later
//! gives back what it took.
//!
//! A token that is none of ours names nobody whose bucket could be asked. A connection has a bucket
//! of its own for these, in memory: it holds nothing that is worth keeping.

use std::sync::{Mutex, PoisonError};

use super::error::StepsError;
use super::sql;
use crate::clock::Millis;
use crate::config::{Rate, StepsConfig};
use crate::db::Tx;
use crate::limits::{STEPS_GUESSES_COUNT, STEPS_GUESSES_PER_S};

/// The scope of a connection's own bucket, as errors name it.
pub const CONNECTION: &str = "connection";

/// Tokens that are none of ours, as one connection presents them. Never asked about a good one.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<Option<Level>>);

impl Guesses {
    /// Takes one more.
    ///
    /// # Errors
    /// [`StepsError::RateLimited`] where there were too many.
    pub fn one_more(&self, now: Millis) -> Result<(), StepsError> {
        let rate = Rate { per_second: STEPS_GUESSES_PER_S, burst: STEPS_GUESSES_COUNT };
        let full = Level { tokens: f64::from(rate.burst), last_refill: now };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = take(held.unwrap_or(full), rate, now);
        *held = Some(left.map_err(|retry_after_ms| StepsError::RateLimited {
            scope: CONNECTION,
            key: "tokens of another daemon".to_owned(),
            retry_after_ms,
        })?);
        Ok(())
    }
}

/// What a bucket holds, and since when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Calls that it would let through at once; a fraction is on its way.
    pub tokens: f64,
    /// When that was true.
    pub last_refill: Millis,
}

/// Takes one call out of a bucket: what is left, or how long to wait, in whole ms, rounded up.
///
/// A clock that went back refills nothing and takes nothing.
///
/// # Errors
/// The wait, at least 1 ms.
pub fn take(level: Level, rate: Rate, now: Millis) -> Result<Level, i64> {
    let burst = f64::from(rate.burst);
    // Spans of centuries are exact enough in a double.
    #[allow(clippy::cast_precision_loss)]
    let elapsed_ms = now.since_ms(level.last_refill).max(0) as f64;
    let tokens = (level.tokens + elapsed_ms * rate.per_second / 1_000.0).min(burst);
    // Less than a millionth of a call short is rounding, not a call too many.
    if tokens + 1e-6 >= 1.0 {
        let last_refill = now.max(level.last_refill);
        return Ok(Level { tokens: (tokens - 1.0).max(0.0), last_refill });
    }
    let wait = ((1.0 - tokens) / rate.per_second * 1_000.0 - 1e-6).ceil();
    #[allow(clippy::cast_possible_truncation)]
    Err((wait as i64).max(1))
}

/// Whose call it is.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The execution; none where it is only being started.
    pub execution_id: Option<&'a str>,
    /// The agent of the step.
    pub agent: &'a str,
}

/// Takes one call out of both buckets.
///
/// # Errors
/// [`StepsError::RateLimited`] with the longer of the waits, or the database's.
pub async fn check(
    tx: &mut Tx,
    config: &StepsConfig,
    caller: Caller<'_>,
    now: Millis,
) -> Result<(), StepsError> {
    if !config.rate_limits {
        return Ok(());
    }
    let task = caller.execution_id.map(|id| ("task", id, config.task_rate));
    let agent = ("agent", caller.agent, config.agent_rate);
    // Always in this order, so that two transactions cannot wait for each other.
    let asked: Vec<(&'static str, &str, Rate)> = task.into_iter().chain([agent]).collect();
    let full = |(scope, key, rate): &(&'static str, _, Rate)| {
        (*scope, *key, Level { tokens: f64::from(rate.burst), last_refill: now })
    };
    let full: Vec<sql::Bucket<'_>> = asked.iter().map(full).collect();
    let held = sql::lock_buckets(tx, &full).await?;
    let mut left = vec![];
    let mut refused: Option<(&'static str, &str, i64)> = None;
    for ((scope, key, rate), level) in asked.into_iter().zip(held) {
        match take(level, rate, now) {
            Ok(level) => left.push((scope, key, level)),
            Err(wait) if refused.is_none_or(|(.., longest)| wait > longest) => {
                refused = Some((scope, key, wait));
            }
            Err(_) => {}
        }
    }
    if let Some((scope, key, retry_after_ms)) = refused {
        return Err(StepsError::RateLimited { scope, key: key.to_owned(), retry_after_ms });
    }
    Ok(sql::set_buckets(tx, &left).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TASK: Rate = Rate { per_second: 0.5, burst: 3 };

    fn level(tokens: f64, at: i64) -> Level {
        Level { tokens, last_refill: Millis(at) }
    }

    #[test]
    fn a_quarter_of_a_call_at_half_a_call_a_second_waits_1500_ms() {
        assert_eq!(take(level(0.25, 1_000), TASK, Millis(1_000)), Err(1_500));
        assert_eq!(take(level(0.25, 1_000), TASK, Millis(2_499)), Err(1));
        assert_eq!(take(level(0.25, 1_000), TASK, Millis(2_500)), Ok(level(0.0, 2_500)));
    }

    #[test]
    fn a_burst_goes_through_and_the_next_one_waits() {
        let mut bucket = level(3.0, 0);
        for _ in 0..3 {
            bucket = take(bucket, TASK, Millis(0)).unwrap();
        }
        assert_eq!(take(bucket, TASK, Millis(0)), Err(2_000));
        assert_eq!(take(bucket, TASK, Millis(1_000_000)), Ok(level(2.0, 1_000_000)), "not above 3");
    }

    #[test]
    fn waits_are_rounded_up() {
        let rate = Rate { per_second: 3.0, burst: 1 };
        assert_eq!(take(level(0.0, 0), rate, Millis(0)), Err(334));
        assert!(take(level(0.0, 0), rate, Millis(334)).is_ok());
    }

    #[test]
    fn a_clock_that_goes_back_neither_refills_nor_takes() {
        assert_eq!(take(level(0.5, 10_000), TASK, Millis(0)), Err(1_000));
        assert_eq!(take(level(1.0, 10_000), TASK, Millis(0)), Ok(level(0.0, 10_000)));
    }

    proptest! {
        /// Over any span no more go through than the burst and what the span refills; and who
        /// waits as long as he was told gets through.
        #[test]
        fn no_more_go_through_than_the_rate_and_the_wait_is_enough(
            per_second in 0.1_f64..50.0,
            burst in 1_u32..20,
            pauses in proptest::collection::vec(0_i64..3_000, 1..200),
        ) {
            let rate = Rate { per_second, burst };
            let (mut now, mut through) = (Millis(0), 0_u32);
            let mut bucket = level(f64::from(burst), 0);
            for pause in pauses {
                now = now.plus_ms(pause);
                match take(bucket, rate, now) {
                    Ok(left) => { bucket = left; through += 1; }
                    Err(wait) => prop_assert!(take(bucket, rate, now.plus_ms(wait)).is_ok()),
                }
            }
            let most = f64::from(burst) + now.0 as f64 * per_second / 1_000.0;
            prop_assert!(f64::from(through) <= most + 0.01, "{} of {}", through, most);
        }
    }
}
