//! What agents say they spent: from the lines of their streams to figures that add up.
//!
//! The agents' own account is the source. Claude tells tokens with each message and the cost at the
//! end of a call; codex tells tokens at the end of a turn and never a cost; a command tells what its
//! `{"usage": {…}}` lines say, each of them all so far. What is not told yet is estimated by the
//! configured prices and replaced by the agent's word once it comes.
//!
//! Figures of a run are levels, not events: a look gives all that its streams hold, [`settle`] says
//! what that adds to what is stored. So a look that is done twice, by a daemon that was killed in
//! between, counts once.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::view::Usage;
use crate::limits;

/// Millionths of a dollar in a dollar.
const MICROS: f64 = 1_000_000.0;
/// Larger figures are no figures (as `adw_modules/agent.py` has it). Sums stop there too: what a
/// hostile stream or state file says must not make the sums of a year overflow, which SQLite and
/// PostgreSQL both answer with an error.
const TOKENS_MAX: i64 = 1_000_000_000_000;
const USD_MAX: f64 = 1_000_000.0;

/// Dollars in millionths; what is no amount is none.
#[must_use]
pub fn micros(usd: f64) -> i64 {
    if usd.is_finite() && (0.0..=USD_MAX * MICROS).contains(&usd) {
        #[allow(clippy::cast_possible_truncation, reason = "bounded just above")]
        return (usd * MICROS).round() as i64;
    }
    0
}

/// Millionths in dollars.
#[must_use]
pub fn dollars(micros: i64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact up to nine billion dollars")]
    return micros as f64 / MICROS;
}

/// What was spent, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Agent calls begun.
    pub agent_calls: i64,
    /// Those that were cut off before they told their last figure.
    pub cut_calls: i64,
    /// Input tokens, neither written to a cache nor read from one.
    pub input_tokens: i64,
    /// Output tokens.
    pub output_tokens: i64,
    /// Tokens read from the provider's cache.
    pub cache_read_tokens: i64,
    /// Tokens written to the provider's cache.
    pub cache_creation_tokens: i64,
    /// Millionths of a US dollar.
    pub usd_micro: i64,
    /// The part of them that is an estimate by price.
    pub estimated_micro: i64,
}

impl Spent {
    /// The tokens that budgets count: input, written to the cache, output. Those read from the cache
    /// are the same ones again with every message, at a tenth of the price: counted in full they
    /// would make the number of messages the budget.
    #[must_use]
    pub fn tokens(&self) -> i64 {
        self.input_tokens
            .saturating_add(self.cache_creation_tokens)
            .saturating_add(self.output_tokens)
    }

    /// Each figure by both.
    #[must_use]
    pub fn zip(&self, other: &Spent, with: impl Fn(i64, i64) -> i64) -> Spent {
        Spent {
            agent_calls: with(self.agent_calls, other.agent_calls),
            cut_calls: with(self.cut_calls, other.cut_calls),
            input_tokens: with(self.input_tokens, other.input_tokens),
            output_tokens: with(self.output_tokens, other.output_tokens),
            cache_read_tokens: with(self.cache_read_tokens, other.cache_read_tokens),
            cache_creation_tokens: with(self.cache_creation_tokens, other.cache_creation_tokens),
            usd_micro: with(self.usd_micro, other.usd_micro),
            estimated_micro: with(self.estimated_micro, other.estimated_micro),
        }
    }

    /// The sum.
    #[must_use]
    pub fn plus(&self, other: &Spent) -> Spent {
        self.zip(other, i64::saturating_add)
    }

    /// What an account that sees all of a run says at least, such as the scripts' state file.
    #[must_use]
    pub fn at_least(&self, told: &Usage) -> Spent {
        let told = Spent::of_usage(told);
        let estimated_micro = self.estimated_micro.min(self.usd_micro.max(told.usd_micro));
        Spent { estimated_micro, ..self.zip(&told, i64::max) }
    }

    /// The figures of an account that knows no estimates. What is no count is none: one figure of
    /// that size would make every sum that it comes into overflow.
    #[must_use]
    pub fn of_usage(told: &Usage) -> Spent {
        let count = |n: i64| if (0..TOKENS_MAX).contains(&n) { n } else { 0 };
        Spent {
            agent_calls: count(told.agent_calls),
            cut_calls: 0,
            input_tokens: count(told.input_tokens),
            output_tokens: count(told.output_tokens),
            cache_read_tokens: count(told.cache_read_tokens),
            cache_creation_tokens: count(told.cache_creation_tokens),
            usd_micro: micros(Some(told.cost_usd).filter(|usd| *usd < USD_MAX).unwrap_or(0.0)),
            estimated_micro: 0,
        }
    }

    /// As answers show it.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            agent_calls: self.agent_calls,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_tokens: self.cache_read_tokens,
            cache_creation_tokens: self.cache_creation_tokens,
            cost_usd: dollars(self.usd_micro),
            estimated_usd: (self.estimated_micro > 0).then(|| dollars(self.estimated_micro)),
            lower_bound: self.cut_calls > 0,
        }
    }
}

/// The new figures of the row that an attempt has on a day, where `all` is the sum of the run's
/// rows (this one included), `own` this row as it is stored, and `seen` all that the run's streams
/// hold now.
///
/// What an agent said is never taken back, also where its stream is gone; an estimate of this row
/// is, once the agent has said less. So no more of the row is an estimate than lies beyond what was
/// said.
#[must_use]
pub fn settle(all: &Spent, own: &Spent, seen: &Spent) -> Spent {
    let grown = all.zip(seen, |stored, seen| seen.saturating_sub(stored).max(0));
    let sure = all.usd_micro - own.estimated_micro;
    let beyond = (seen.usd_micro - sure).max(0);
    let estimated = seen.estimated_micro - (all.estimated_micro - own.estimated_micro);
    Spent {
        usd_micro: own.usd_micro - own.estimated_micro + beyond,
        estimated_micro: estimated.clamp(0, beyond),
        ..own.plus(&grown)
    }
}

/// Prices in US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// Input; a cache is written at 1.25 and read at 0.1 of it, as the providers have it.
    pub input: f64,
    /// Output.
    pub output: f64,
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tokens {
    input: i64,
    output: i64,
    cache_read: i64,
    cache_creation: i64,
}

impl Tokens {
    /// From an untrusted object; caches under the names that claude has for them, or ours.
    fn read(usage: &Map<String, Value>) -> Tokens {
        let count = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| usage.get(*name).and_then(Value::as_i64));
            found.filter(|n| (0..TOKENS_MAX).contains(n)).unwrap_or(0)
        };
        Tokens {
            input: count(["input_tokens", "input_tokens"]),
            output: count(["output_tokens", "output_tokens"]),
            cache_read: count(["cache_read_input_tokens", "cache_read_tokens"]),
            cache_creation: count(["cache_creation_input_tokens", "cache_creation_tokens"]),
        }
    }

    fn zip(self, other: Tokens, with: impl Fn(i64, i64) -> i64) -> Tokens {
        Tokens {
            input: with(self.input, other.input),
            output: with(self.output, other.output),
            cache_read: with(self.cache_read, other.cache_read),
            cache_creation: with(self.cache_creation, other.cache_creation),
        }
    }

    fn price_micro(self, prices: &Prices) -> i64 {
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let of = |tokens: i64, price: f64| tokens as f64 * price / MICROS;
        let usd = of(self.input, prices.input)
            + of(self.cache_creation, prices.input * 1.25)
            + of(self.cache_read, prices.input * 0.1)
            + of(self.output, prices.output);
        micros(usd.min(USD_MAX))
    }
}

/// Whose words a stream is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Dialect {
    /// Nothing was told yet.
    #[default]
    Silent,
    Claude,
    Codex,
    Command,
}

/// The account that one stream, of one agent call, gives of itself.
#[derive(Clone, Debug, Default)]
pub struct Account {
    dialect: Dialect,
    /// Claude's messages by id: each comes in several lines that repeat and raise its figures. Of
    /// an id the beginning counts: a line may have 8 MB, and all of it may be the id.
    messages: BTreeMap<String, Tokens>,
    /// What was told for the whole call, or added up.
    told: Tokens,
    cost_micro: Option<i64>,
    /// The line that ends an account has come.
    closed: bool,
}

impl Account {
    /// Takes one line into account. Whatever it is, it is no error.
    pub fn take(&mut self, line: &[u8]) {
        // Most lines are long and hold no figure: they are not worth parsing.
        if !holds(line, b"usage\"") && !holds(line, b"total_cost_usd\"") {
            return;
        }
        let Ok(Value::Object(event)) = serde_json::from_slice::<Value>(line) else { return };
        let usage = |of: &Map<String, Value>| {
            of.get("usage").and_then(Value::as_object).map(Tokens::read).unwrap_or_default()
        };
        match event.get("type").and_then(Value::as_str) {
            Some("assistant") => {
                let Some(message) = event.get("message").and_then(Value::as_object) else { return };
                self.dialect = Dialect::Claude;
                let id = message.get("id").and_then(Value::as_str).unwrap_or_default();
                let id = &id[..id.floor_char_boundary(limits::AGENT_MESSAGE_ID_BYTES)];
                if self.messages.contains_key(id)
                    || self.messages.len() < limits::AGENT_MESSAGES_COUNT
                {
                    let known = self.messages.entry(id.to_owned()).or_default();
                    *known = known.zip(usage(message), i64::max);
                }
            }
            Some("result") => {
                self.dialect = Dialect::Claude;
                self.told = usage(&event);
                self.cost_micro = event.get("total_cost_usd").and_then(cost);
                self.closed = true;
            }
            Some("turn.completed") => {
                self.dialect = Dialect::Codex;
                let of_turn = event.get("usage").and_then(Value::as_object).map(codex);
                self.told = self.told.zip(of_turn.unwrap_or_default(), i64::saturating_add);
                self.closed = true;
            }
            None => {
                let Some(told) = event.get("usage").and_then(Value::as_object) else { return };
                self.dialect = Dialect::Command;
                self.told = Tokens::read(told);
                self.cost_micro = told.get("cost_usd").and_then(cost);
            }
            Some(_) => {}
        }
    }

    /// What the call spent. `recorded`: somebody has written down that the call ended.
    #[must_use]
    pub fn spent(&self, recorded: bool, prices: &Prices) -> Spent {
        let seen = self
            .messages
            .values()
            .fold(Tokens::default(), |sum, message| sum.zip(*message, i64::saturating_add));
        let tokens = self.told.zip(seen, |told, seen| told.max(seen).min(TOKENS_MAX));
        let estimate = tokens.price_micro(prices);
        // Of a call that goes on the price of what was seen may be beyond what was said.
        let (usd_micro, estimated_micro) = match self.cost_micro {
            Some(cost) => (cost, 0),
            None => (estimate, estimate),
        };
        let ended = match self.dialect {
            Dialect::Claude | Dialect::Codex => self.closed,
            Dialect::Silent | Dialect::Command => recorded,
        };
        Spent {
            agent_calls: 1,
            cut_calls: i64::from(!ended),
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            cache_read_tokens: tokens.cache_read,
            cache_creation_tokens: tokens.cache_creation,
            usd_micro,
            estimated_micro,
        }
    }
}

fn holds(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// Codex counts what it read from the cache, and what it wrote to it, as input too.
fn codex(usage: &Map<String, Value>) -> Tokens {
    let read = Tokens::read(usage);
    let count = |name: &str| usage.get(name).and_then(Value::as_i64).unwrap_or(0);
    let cache_read = count("cached_input_tokens").clamp(0, read.input);
    let cache_creation = count("cache_write_input_tokens").clamp(0, read.input - cache_read);
    Tokens { input: read.input - cache_read - cache_creation, cache_read, cache_creation, ..read }
}

/// A cost out of an untrusted value.
fn cost(value: &Value) -> Option<i64> {
    value.as_f64().filter(|usd| (0.0..USD_MAX).contains(usd)).map(micros)
}

#[cfg(test)]
#[path = "spend_tests.rs"]
mod tests;
