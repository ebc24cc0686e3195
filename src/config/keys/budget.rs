//! What may be spent.

use super::*;

/// US dollars; 0 is no limit, or no price.
const USD: RangeInclusive<f64> = 0.0..=1_000_000.0;
/// Tokens; 0 is no limit.
const TOKENS: RangeInclusive<u64> = 0..=1_000_000_000_000;

macro_rules! usd_key {
    ($name:literal, $env:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, _| { c.$($field).+ = v.number(&USD)?; Ok(()) },
            |c| c.$($field).+.to_string(),
        )
    };
}

macro_rules! tokens_key {
    ($name:literal, $env:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, _| { c.$($field).+ = v.whole(&TOKENS)?; Ok(()) },
            |c| c.$($field).+.to_string(),
        )
    };
}

pub(super) static KEYS: &[Key] = &[
    usd_key!("budget.run_usd", &["ADWD_BUDGET_RUN_USD"], budget.run.usd),
    tokens_key!("budget.run_tokens", &["ADWD_BUDGET_RUN_TOKENS"], budget.run.tokens),
    usd_key!("budget.project_day_usd", &["ADWD_BUDGET_PROJECT_DAY_USD"], budget.project_day.usd),
    tokens_key!(
        "budget.project_day_tokens",
        &["ADWD_BUDGET_PROJECT_DAY_TOKENS"],
        budget.project_day.tokens
    ),
    usd_key!("budget.key_day_usd", &["ADWD_BUDGET_KEY_DAY_USD"], budget.key_day.usd),
    tokens_key!("budget.key_day_tokens", &["ADWD_BUDGET_KEY_DAY_TOKENS"], budget.key_day.tokens),
    usd_key!("budget.day_usd", &["ADWD_BUDGET_DAY_USD"], budget.day.usd),
    tokens_key!("budget.day_tokens", &["ADWD_BUDGET_DAY_TOKENS"], budget.day.tokens),
    key("budget.time_zone", &["ADWD_BUDGET_TIME_ZONE"], set_budget_zone, |c| {
        c.budget.time_zone.clone()
    }),
    usd_key!(
        "budget.input_usd_per_mtok",
        &["ADWD_BUDGET_INPUT_USD_PER_MTOK"],
        budget.input_usd_per_mtok
    ),
    usd_key!(
        "budget.output_usd_per_mtok",
        &["ADWD_BUDGET_OUTPUT_USD_PER_MTOK"],
        budget.output_usd_per_mtok
    ),
];

fn set_budget_zone(config: &mut Config, input: &Input, _: &Base) -> Result<(), String> {
    config.budget.time_zone = time_zone(input)?;
    Ok(())
}
