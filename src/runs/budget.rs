//! Budgets: what may be spent by whom, what is left, and the sentence when nothing is.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

use super::spend::{Spent, dollars, micros};
use super::view::{BudgetView, Failure, FailureClass};
use crate::clock::Millis;
use crate::config::{BudgetConfig, ProjectConfig, Spend};

/// Whose budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// One run's, over all its phases, attempts and lives.
    Run,
    /// A project's, for a day.
    Project,
    /// A key's (or of whoever else is not the daemon's own user), for a day.
    Key,
    /// Everybody's together, for a day.
    Day,
}

impl Whose {
    /// The word in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Whose::Run => "run",
            Whose::Project => "project_day",
            Whose::Key => "key_day",
            Whose::Day => "day",
        }
    }
}

/// A limit in both units; absent is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Millionths of a US dollar.
    pub usd_micro: Option<i64>,
    /// Tokens, as [`Spent::tokens`] counts them.
    pub tokens: Option<i64>,
}

impl Limit {
    fn of(usd: f64, tokens: u64) -> Limit {
        Limit {
            usd_micro: (usd > 0.0).then(|| micros(usd)),
            tokens: (tokens > 0).then(|| i64::try_from(tokens).unwrap_or(i64::MAX)),
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.usd_micro.is_none() && self.tokens.is_none()
    }
}

/// The limits that hold for a run, where nothing is counted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the run.
    pub run: Limit,
    /// Of its project.
    pub project: Limit,
    /// Of its key.
    pub key: Limit,
    /// Of all.
    pub day: Limit,
}

impl Limits {
    /// What the configuration says for runs of a project that `user` pays for. `own_cents`: what the
    /// key itself says of its day, in cents, instead of the configuration.
    #[must_use]
    pub fn of(
        config: &BudgetConfig,
        project: Option<&ProjectConfig>,
        user: &str,
        own_cents: Option<i64>,
    ) -> Limits {
        let own = |common: &Spend, usd: Option<f64>, tokens: Option<u64>| {
            Limit::of(usd.unwrap_or(common.usd), tokens.unwrap_or(common.tokens))
        };
        let p = project;
        let mut key = Limit::default();
        if is_key(user) {
            key = Limit::of(config.key_day.usd, config.key_day.tokens);
            if let Some(cents) = own_cents {
                key.usd_micro = (cents > 0).then(|| cents.saturating_mul(10_000));
            }
        }
        Limits {
            run: own(
                &config.run,
                p.and_then(|p| p.budget_run_usd),
                p.and_then(|p| p.budget_run_tokens),
            ),
            project: own(
                &config.project_day,
                p.and_then(|p| p.budget_day_usd),
                p.and_then(|p| p.budget_day_tokens),
            ),
            key,
            day: Limit::of(config.day.usd, config.day.tokens),
        }
    }

    /// Whether nothing is limited, so that nothing need be counted.
    #[must_use]
    pub fn is_none(&self) -> bool {
        [self.run, self.project, self.key, self.day].iter().all(Limit::is_none)
    }
}

/// Whether the budget for keys holds for a caller: everybody's but the daemon's own user's.
#[must_use]
pub fn is_key(user: &str) -> bool {
    !user.is_empty() && !user.starts_with("uid:")
}

/// A limit beside what was spent of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Whose.
    pub whose: Whose,
    /// Name of the run, project or key; the day.
    pub name: String,
    /// What may be spent.
    pub limit: Limit,
    /// What was.
    pub spent: Spent,
    /// When it begins anew; absent for a run's.
    pub ends: Option<Millis>,
}

impl Budget {
    /// Whether more was spent than may be: what runs is stopped.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.limit.usd_micro.is_some_and(|max| self.spent.usd_micro > max)
            || self.limit.tokens.is_some_and(|max| self.spent.tokens() > max)
    }

    /// Whether nothing is left: nothing begins.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.limit.usd_micro.is_some_and(|max| self.spent.usd_micro >= max)
            || self.limit.tokens.is_some_and(|max| self.spent.tokens() >= max)
    }

    /// What is left, in millionths of a dollar; absent where dollars are not limited.
    #[must_use]
    pub fn left_micro(&self) -> Option<i64> {
        self.limit.usd_micro.map(|max| (max - self.spent.usd_micro).max(0))
    }

    /// Which budget, its limit and what was spent.
    #[must_use]
    pub fn sentence(&self) -> String {
        let in_dollars = self.limit.usd_micro.filter(|max| self.spent.usd_micro >= *max);
        let (spent, limit, unit) = match (in_dollars, self.limit.tokens) {
            (None, Some(max)) => (self.spent.tokens().to_string(), max.to_string(), "tokens"),
            (max, _) => (
                amount(self.spent.usd_micro),
                amount(max.or(self.limit.usd_micro).unwrap_or(0)),
                "USD",
            ),
        };
        let name = &self.name;
        let (whose, setting) = match self.whose {
            Whose::Run => (format!("run {name}"), "run"),
            Whose::Project => (format!("project {name} for a day"), "project_day"),
            Whose::Key => (format!("{name} for a day"), "key_day"),
            Whose::Day => (format!("all runs for the day {name}"), "day"),
        };
        let setting = format!("budget.{setting}_{}", unit.to_lowercase());
        format!(
            "the budget of {whose} is used up: {spent} {unit} spent of {limit} {unit} ({setting}, or what stands for it)"
        )
    }

    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self.ends {
            None => "whoever runs the daemon can raise it; then resume the run".to_owned(),
            Some(ends) => format!(
                "it begins anew at {}; whoever runs the daemon can raise it before",
                ends.rfc3339()
            ),
        }
    }

    /// As answers show it.
    #[must_use]
    pub fn view(&self) -> BudgetView {
        BudgetView {
            budget: self.whose.as_str().to_owned(),
            name: self.name.clone(),
            limit_usd: self.limit.usd_micro.map(dollars),
            spent_usd: dollars(self.spent.usd_micro),
            left_usd: self.left_micro().map(dollars),
            limit_tokens: self.limit.tokens,
            spent_tokens: self.spent.tokens(),
            left_tokens: self.limit.tokens.map(|max| (max - self.spent.tokens()).max(0)),
            resets_at: self.ends.map(Millis::rfc3339),
        }
    }
}

/// The failure of a run that a budget ends.
#[must_use]
pub fn failure(budget: &Budget, phase: Option<&str>) -> Failure {
    Failure {
        class: FailureClass::Budget,
        message: format!("{}; {}", budget.sentence(), budget.remedy()),
        retryable: false,
        phase: phase.map(str::to_owned),
        log_tail: vec![],
    }
}

/// Dollars with two digits behind the point, or as many as they need.
fn amount(micro: i64) -> String {
    let text = format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
    let short = text.trim_end_matches('0');
    let digits = short.len() - short.find('.').map_or(0, |at| at + 1);
    if digits >= 2 { short.to_owned() } else { format!("{short}{}", "0".repeat(2 - digits)) }
}

/// The zone in which budgets have their days.
#[derive(Clone, Debug)]
pub struct Days(TimeZone);

impl Days {
    /// The zone of that IANA name; UTC where the program carries no such (the configuration has
    /// checked that it does).
    #[must_use]
    pub fn of(name: &str) -> Days {
        Days(TimeZoneDatabase::bundled().get(name).unwrap_or(TimeZone::UTC))
    }

    fn date(&self, at: Millis) -> jiff::civil::Date {
        let at = Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH);
        self.0.to_datetime(at).date()
    }

    /// The day of a moment, `YYYY-MM-DD`.
    #[must_use]
    pub fn day(&self, at: Millis) -> String {
        self.date(at).to_string()
    }

    /// When the day of a moment ends.
    #[must_use]
    pub fn end(&self, at: Millis) -> Millis {
        let tomorrow = self.date(at).checked_add(1.day()).ok();
        let begins = tomorrow.and_then(|day| day.to_zoned_datetime(self.0.clone()).ok());
        begins.map_or(at, |begins| Millis(begins.timestamp().as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    fn budget(limit: Limit, usd_micro: i64, tokens: i64) -> Budget {
        let spent = Spent { usd_micro, input_tokens: tokens, ..Spent::default() };
        Budget { whose: Whose::Run, name: "r1".into(), limit, spent, ends: None }
    }

    #[test]
    fn a_project_and_a_key_may_have_their_own_limits() {
        let mut config = BudgetConfig::default();
        assert!(Limits::of(&config, None, "key:a", None).is_none());
        config.run.usd = 5.0;
        config.project_day.tokens = 100;
        config.key_day.usd = 1.0;
        let mut project = ProjectConfig::new("shop".parse().unwrap(), PathBuf::from("/shop"));
        project.budget_run_usd = Some(0.0);
        project.budget_day_tokens = Some(7);
        let limits = Limits::of(&config, Some(&project), "key:a", Some(250));
        assert!(limits.run.is_none(), "0 lifts the common limit");
        assert_eq!(limits.project.tokens, Some(7));
        assert_eq!(limits.key.usd_micro, Some(2_500_000));
        let owner = Limits::of(&config, None, "uid:1000", Some(250));
        assert!(owner.key.is_none(), "the daemon's own user has no key");
        assert_eq!(owner.run.usd_micro, Some(5_000_000));
        assert_eq!(Limits::of(&config, None, "oauth:x", None).key.usd_micro, Some(1_000_000));
    }

    #[test]
    fn the_sentence_names_budget_limit_and_what_was_spent() {
        let dollars = Limit { usd_micro: Some(5_000_000), tokens: Some(10) };
        let told = budget(dollars, 5_123_400, 3).sentence();
        assert!(told.contains("run r1") && told.contains("5.1234 USD spent of 5.00 USD"), "{told}");
        assert!(told.contains("budget.run_usd"), "{told}");
        let told = budget(dollars, 1, 11).sentence();
        assert!(told.contains("11 tokens spent of 10 tokens (budget.run_tokens"), "{told}");
        let day =
            Budget { whose: Whose::Day, ends: Some(Millis(0)), ..budget(dollars, 9_000_000, 0) };
        assert!(failure(&day, None).message.contains("anew at 1970-01-01T00:00:00.000Z"));
        assert!(!failure(&day, None).retryable);
    }

    #[test]
    fn days_follow_the_zone_also_when_clocks_change() {
        let at = |text: &str| Millis::parse_rfc3339(text).unwrap();
        let late = at("2026-03-28T23:30:00Z");
        assert_eq!(Days::of("UTC").day(late), "2026-03-28");
        let berlin = Days::of("Europe/Berlin");
        assert_eq!(berlin.day(late), "2026-03-29");
        assert_eq!(berlin.end(late), at("2026-03-29T22:00:00Z"), "a day of 23 hours");
        assert_eq!(Days::of("UTC").end(late), at("2026-03-29T00:00:00Z"));
    }

    proptest! {
        #[test]
        fn what_is_passed_is_used_up_and_what_is_left_adds_up(
            usd in proptest::option::of(1..10_000_000_i64), tokens in proptest::option::of(1..1_000_i64),
            spent in 0..20_000_000_i64, used in 0..2_000_i64,
        ) {
            let b = budget(Limit { usd_micro: usd, tokens }, spent, used);
            prop_assert!(!b.is_passed() || b.is_used_up());
            prop_assert_eq!(b.is_used_up(), usd.is_some_and(|m| spent >= m) || tokens.is_some_and(|m| used >= m));
            if let (Some(max), Some(left)) = (usd, b.left_micro()) {
                prop_assert_eq!(left, (max - spent).max(0));
            }
        }

        #[test]
        fn amounts_read_back(micro in 0..10_000_000_000_i64) {
            let text = amount(micro);
            prop_assert_eq!(micros(text.parse::<f64>().unwrap()), micro);
            prop_assert!(text.split('.').nth(1).unwrap().len() >= 2);
        }
    }
}
