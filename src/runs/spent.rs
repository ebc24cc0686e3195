//! What agents used since it was told last, for the counters: a run tells its totals again and again.

use super::ctx::Ctx;
use super::view::Usage;
use crate::metrics::Spent;

/// The total in a run's stored usage.
pub(super) fn total(usage: &str) -> Option<Usage> {
    let mut parts: serde_json::Map<String, serde_json::Value> = serde_json::from_str(usage).ok()?;
    serde_json::from_value(parts.remove("total")?).ok()
}

/// Counts what is in the new total and was not in the one that is stored.
pub(super) fn count(ctx: &Ctx, stored: Option<&str>, now: &Usage) {
    let before = stored.and_then(total).unwrap_or_default();
    ctx.deps.metrics.spent(&since(&before, now));
}

/// A total that shrank belongs to an account that began anew: it counts from nothing.
fn since(before: &Usage, now: &Usage) -> Spent {
    let anew = now.cost_usd < before.cost_usd || now.input_tokens < before.input_tokens;
    let before = if anew { Usage::default() } else { *before };
    let more = |now: i64, before: i64| u64::try_from(now - before).unwrap_or(0);
    Spent {
        cost_usd: now.cost_usd - before.cost_usd,
        input_tokens: more(now.input_tokens, before.input_tokens),
        output_tokens: more(now.output_tokens, before.output_tokens),
        cache_read_tokens: more(now.cache_read_tokens, before.cache_read_tokens),
        cache_creation_tokens: more(now.cache_creation_tokens, before.cache_creation_tokens),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_counts() {
        let used = |cost_usd, input_tokens| Usage { cost_usd, input_tokens, ..Usage::default() };
        let more = since(&used(1.0, 10), &used(1.5, 15));
        assert_eq!((more.cost_usd, more.input_tokens), (0.5, 5));
        let anew = since(&used(1.0, 10), &used(0.25, 2));
        assert_eq!((anew.cost_usd, anew.input_tokens), (0.25, 2));
        assert_eq!(since(&used(1.0, 10), &used(1.0, 10)), Spent::default());
    }

    #[test]
    fn the_total_is_read_from_what_is_stored() {
        let stored = serde_json::json!({ "plan": Usage::default(), "total": Usage { cost_usd: 2.0, ..Usage::default() } });
        assert_eq!(total(&stored.to_string()).map(|u| u.cost_usd), Some(2.0));
        assert_eq!(total("{}"), None);
        assert_eq!(total("no json"), None);
    }
}
