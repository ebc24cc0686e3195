//! Settings: what may be spent.

/// What may be spent: dollars and tokens, 0 for no limit. A day is one of `time_zone`.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetConfig {
    /// By one run over all its phases, attempts and lives.
    pub run: Spend,
    /// By all runs of one project in a day.
    pub project_day: Spend,
    /// By all runs of one key (or token, or other caller that is not the daemon's own user) in a day.
    pub key_day: Spend,
    /// By all runs in a day.
    pub day: Spend,
    /// The zone that decides when a day begins.
    pub time_zone: String,
    /// What a million input tokens cost, in US dollars, while (or where) an agent does not say what
    /// it cost. Tokens written to a cache count for 1.25, those read from it for 0.1 of it.
    pub input_usd_per_mtok: f64,
    /// The same for output tokens.
    pub output_usd_per_mtok: f64,
}

/// A limit in both units; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spend {
    /// US dollars.
    pub usd: f64,
    /// Tokens: input, written to the cache, and output.
    pub tokens: u64,
}

impl Default for BudgetConfig {
    fn default() -> BudgetConfig {
        BudgetConfig {
            run: Spend::default(),
            project_day: Spend::default(),
            key_day: Spend::default(),
            day: Spend::default(),
            time_zone: "UTC".to_owned(),
            input_usd_per_mtok: 3.0,
            output_usd_per_mtok: 15.0,
        }
    }
}
