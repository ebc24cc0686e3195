//! What the runs slice answers about spending: figures, budgets, tables.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the agents used, from their own accounting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Agent calls made.
    pub agent_calls: i64,
    /// Input tokens.
    pub input_tokens: i64,
    /// Output tokens.
    pub output_tokens: i64,
    /// Tokens read from the provider's cache.
    pub cache_read_tokens: i64,
    /// Tokens written to the provider's cache.
    pub cache_creation_tokens: i64,
    /// Cost in US dollars.
    pub cost_usd: f64,
    /// The part of it that is an estimate by price, for want of the agent's own figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_usd: Option<f64>,
    /// An agent was cut off before it told its last figure: it was at least so much.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_bound: bool,
}

/// A budget beside what was spent of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetView {
    /// `run`, `project_day`, `key_day` or `day`.
    pub budget: String,
    /// Name of the run, project or key; the day.
    pub name: String,
    /// What may be spent, US dollars; absent where dollars are not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_usd: Option<f64>,
    /// What was spent, US dollars.
    pub spent_usd: f64,
    /// What is left, US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_usd: Option<f64>,
    /// What may be spent, tokens; absent where they are not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_tokens: Option<i64>,
    /// Tokens spent: input, written to the cache, output.
    pub spent_tokens: i64,
    /// Tokens left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_tokens: Option<i64>,
    /// When it begins anew; absent for a run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<String>,
}

/// What a table of spending has a line for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    /// Each run.
    Run,
    /// Each project.
    #[default]
    Project,
    /// Each key or other caller.
    User,
    /// Each day.
    Day,
}

impl UsageBy {
    /// The words.
    pub const WORDS: [(&'static str, UsageBy); 4] = [
        ("run", UsageBy::Run),
        ("project", UsageBy::Project),
        ("user", UsageBy::User),
        ("day", UsageBy::Day),
    ];

    /// Parses the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<UsageBy> {
        UsageBy::WORDS.iter().find(|(known, _)| *known == word).map(|(_, by)| *by)
    }
}

/// What spending is asked for, and who asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageRequest {
    /// What has a line.
    pub by: UsageBy,
    /// From the day of this moment on, epoch milliseconds.
    pub since_ms: Option<i64>,
    /// Up to the day of this moment.
    pub until_ms: Option<i64>,
    /// Of one project.
    pub project: Option<String>,
    /// Of one user.
    pub user: Option<String>,
    /// Of one run.
    pub adw_id: Option<String>,
    /// 1..=100; 50 where absent.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Who asks.
    pub viewer: String,
    /// Whether everybody's spending is shown, user by user.
    pub everything: bool,
    /// The projects that exist for whoever asks; absent: all.
    pub projects: Option<BTreeSet<String>>,
}

/// One line of what was spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageLine {
    /// The run, project, user or day; empty for the sum.
    pub name: String,
    /// Runs that spent.
    pub runs: i64,
    /// Tokens that budgets count: input, written to the cache, output.
    pub tokens: i64,
    /// The figures.
    #[serde(flatten)]
    pub usage: Usage,
    /// The last day on which something was spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_day: Option<String>,
    /// The run's budget, or today's of the project, user or day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetView>,
}

/// A page of what was spent: the largest first, days newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsagePage {
    /// What has a line.
    pub by: UsageBy,
    /// The zone in which days are counted.
    pub time_zone: String,
    /// The first day counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_day: Option<String>,
    /// The last day counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_day: Option<String>,
    /// The lines.
    pub lines: Vec<UsageLine>,
    /// The sum over all pages.
    pub total: UsageLine,
    /// Today's budgets that hold for whoever asks.
    pub budgets: Vec<BudgetView>,
    /// Pass it as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
