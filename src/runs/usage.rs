//! Who spent what: the answer of `get_usage`.

use std::collections::BTreeSet;

use super::account::{self, Payer, days};
use super::budget::{Budget, Whose};
use super::ctx::Ctx;
use super::error::RunsError;
use super::sql;
use super::sql_spending::{self, GroupBy, SpendingFilter, SpentRow, projects_text};
use super::trigger::invalid;
use super::view::{BudgetView, UsageBy, UsageLine, UsagePage, UsageRequest};
use crate::clock::Millis;
use crate::limits;

/// A page of what was spent.
pub(super) async fn usage(ctx: &Ctx, request: &UsageRequest) -> Result<UsagePage, RunsError> {
    let limit = request.limit.unwrap_or(limits::LIST_DEFAULT_COUNT);
    if !(1..=limits::LIST_PAGE_COUNT).contains(&limit) {
        let expected = format!("1 to {}", limits::LIST_PAGE_COUNT);
        return Err(invalid("limit", &limit.to_string(), expected));
    }
    let filter = filter(ctx, request)?;
    let by = match request.by {
        UsageBy::Run => GroupBy::Run,
        UsageBy::Project => GroupBy::Project,
        UsageBy::User => GroupBy::User,
        UsageBy::Day => GroupBy::Day,
    };
    let after = request.cursor.as_deref().map(place).transpose()?;
    let mut rows =
        sql_spending::spending(ctx.db(), by, &filter, after, i64::from(limit) + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let last = rows.last().filter(|_| more);
    let next_cursor = last.map(|row| format!("u{}.{}", row.usd_micro, row.name));
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let budget = budget_of(ctx, request.by, &row).await?.filter(|b| exists_for(request, b));
        lines.push(line(&row, budget.as_ref().map(Budget::view)));
    }
    let total = line(&sql_spending::spending_sum(ctx.db(), &filter).await?, None);
    let payer = Payer {
        adw_id: "",
        project: request.project.as_deref().unwrap_or_default(),
        user: &request.viewer,
    };
    let budgets = account::budgets(ctx, payer).await?;
    Ok(UsagePage {
        by: request.by,
        time_zone: ctx.config().budget.time_zone.clone(),
        since_day: filter.since,
        until_day: filter.until,
        lines,
        total,
        budgets: budgets
            .iter()
            .filter(|b| !b.name.is_empty() && exists_for(request, b))
            .map(Budget::view)
            .collect(),
        next_cursor,
    })
}

/// Whether a budget may be told: what other projects spend, or all together, is not for who is bound
/// to some.
fn exists_for(request: &UsageRequest, budget: &Budget) -> bool {
    request.projects.as_ref().is_none_or(|projects| match budget.whose {
        Whose::Day => false,
        Whose::Project => projects.contains(&budget.name),
        Whose::Run | Whose::Key => true,
    })
}

/// Below the whole there is what the one who asks has spent, and the projects that exist for it; who
/// else spends is not told.
fn filter(ctx: &Ctx, request: &UsageRequest) -> Result<SpendingFilter, RunsError> {
    let day = |at: i64| days(ctx).day(Millis(at));
    let own = request.by == UsageBy::User && !request.everything;
    let user = match &request.user {
        Some(user) if !request.everything && user != &request.viewer => {
            let expected = format!("your own name, {:?}: only admins see others'", request.viewer);
            return Err(invalid("user", user, expected));
        }
        Some(user) => Some(user.clone()),
        None => own.then(|| request.viewer.clone()),
    };
    let stays = request.everything || (request.projects.is_none() && !own);
    Ok(SpendingFilter {
        since: request.since_ms.map(day),
        until: request.until_ms.map(day),
        project: request.project.clone(),
        user,
        adw_id: request.adw_id.clone(),
        everything: stays,
        viewer: request.viewer.clone(),
        projects: projects_text(request.projects.as_ref().unwrap_or(&BTreeSet::new()).iter()),
    })
}

/// The last line of the page before.
fn place(cursor: &str) -> Result<(i64, String), RunsError> {
    cursor
        .strip_prefix('u')
        .and_then(|rest| rest.split_once('.'))
        .and_then(|(usd, name)| Some((usd.parse().ok()?, name.to_owned())))
        .ok_or_else(|| invalid("cursor", cursor, "the next_cursor of an earlier page"))
}

fn line(row: &SpentRow, budget: Option<BudgetView>) -> UsageLine {
    let spent = row.spent();
    UsageLine {
        name: row.name.clone(),
        runs: row.runs,
        tokens: spent.tokens(),
        usage: spent.usage(),
        last_day: Some(row.last_day.clone()).filter(|day| !day.is_empty()),
        budget,
    }
}

/// The budget that a line is held against: the run's, or today's.
async fn budget_of(ctx: &Ctx, by: UsageBy, row: &SpentRow) -> Result<Option<Budget>, RunsError> {
    let name = row.name.as_str();
    let none = Payer { adw_id: "", project: "", user: "" };
    let (whose, found) = match by {
        UsageBy::Run => {
            let Some(run) = sql::run(ctx.db(), name).await? else { return Ok(None) };
            (Whose::Run, account::budgets(ctx, Payer::of(&run)).await?)
        }
        UsageBy::Project => {
            (Whose::Project, account::budgets(ctx, Payer { project: name, ..none }).await?)
        }
        UsageBy::User => (Whose::Key, account::budgets(ctx, Payer { user: name, ..none }).await?),
        UsageBy::Day => (Whose::Day, account::budgets(ctx, none).await?),
    };
    let own = found.into_iter().find(|b| b.whose == whose);
    // Of an earlier day nothing is left or to be had.
    Ok(own.filter(|b| by != UsageBy::Day || b.name == name))
}
