//! `adwd usage`: who spent what.

use serde_json::json;

use super::args::UsageArgs;
use super::fail::{Fail, exit};
use super::link::{Cx, arguments};
use super::runs::moment;
use crate::clock::{Clock as _, SystemClock};
use crate::out::{Cell2, Out, Tone, cell, toned};
use crate::runs::{BudgetView, UsageLine, UsagePage};

/// Does it.
pub async fn command(cx: &Cx, given: UsageArgs) -> Result<u8, Fail> {
    let now = SystemClock.now();
    let at = |flag: &str, when: Option<&str>| when.map(|w| moment(flag, w, now)).transpose();
    let since = at("--since", given.since.as_deref())?;
    let until = at("--until", given.until.as_deref())?;
    let client = cx.connect().await?;
    // Not the current folder's: whoever asks what was spent means all of it.
    let project = match &cx.global.project {
        Some(_) => cx.named_project(&client).await?,
        None => None,
    };
    let arguments = arguments(vec![
        ("by", Some(json!(given.by))),
        ("since", since.map(|at| json!(at.rfc3339()))),
        ("until", until.map(|at| json!(at.rfc3339()))),
        ("project", project.map(|p| json!(p))),
        ("user", given.user.map(|u| json!(u))),
        ("adw_id", given.run.map(|id| json!(id))),
        ("limit", Some(json!(given.limit))),
        ("cursor", given.cursor.map(|c| json!(c))),
    ]);
    let page: UsagePage = client.call("get_usage", arguments).await?;
    if cx.out.is_json() {
        cx.out.json(&page);
    } else {
        show(&cx.out, &page, &given.by);
    }
    Ok(exit::OK)
}

fn show(out: &Out, page: &UsagePage, by: &str) {
    let person = out.is_terminal();
    if person && page.lines.is_empty() {
        out.line("nothing was spent");
    } else {
        let mut rows: Vec<Vec<Cell2>> = page.lines.iter().map(row).collect();
        // A script adds up by itself.
        if person && page.lines.len() > 1 {
            rows.push(row(&UsageLine { name: "all".into(), ..page.total.clone() }));
        }
        let by = by.to_uppercase();
        let head = [&*by, "USD", "TOKENS", "RUNS", "CALLS", "LAST DAY", "LEFT USD", "LEFT TOKENS"];
        out.table(&head, &rows);
    }
    if !person {
        return;
    }
    for budget in &page.budgets {
        out.line(&format!("budget {}", left_of(budget)));
    }
    if let Some(cursor) = &page.next_cursor {
        out.line(&format!("more: --cursor {cursor}"));
    }
}

fn row(line: &UsageLine) -> Vec<Cell2> {
    let usage = &line.usage;
    let mark = match (usage.lower_bound, usage.estimated_usd) {
        (true, _) => ">",
        (false, Some(_)) => "~",
        (false, None) => "",
    };
    let budget = line.budget.as_ref();
    vec![
        cell(&line.name),
        cell(format!("{mark}{:.4}", usage.cost_usd)),
        cell(line.tokens.to_string()),
        cell(line.runs.to_string()),
        cell(usage.agent_calls.to_string()),
        cell(line.last_day.clone().unwrap_or_default()),
        left(budget.and_then(|b| b.left_usd).map(|usd| (usd, format!("{usd:.4}")))),
        left(budget.and_then(|b| b.left_tokens).map(|n| (n as f64, n.to_string()))),
    ]
}

fn left(of: Option<(f64, String)>) -> Cell2 {
    match of {
        Some((left, text)) if left <= 0.0 => toned(text, Tone::Bad),
        Some((_, text)) => cell(text),
        None => cell(""),
    }
}

/// What is left of a budget, in words.
#[must_use]
pub fn left_of(budget: &BudgetView) -> String {
    let mut parts = vec![];
    if let (Some(limit), Some(left)) = (budget.limit_usd, budget.left_usd) {
        parts.push(format!("{left:.2} of {limit:.2} USD"));
    }
    if let (Some(limit), Some(left)) = (budget.limit_tokens, budget.left_tokens) {
        parts.push(format!("{left} of {limit} tokens"));
    }
    let until = budget.resets_at.as_ref().map(|at| format!(" until {at}")).unwrap_or_default();
    format!("{} {}: {} left{until}", budget.budget, budget.name, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::Usage;

    #[test]
    fn what_is_not_the_agents_last_word_is_marked() {
        let usage = Usage { cost_usd: 1.5, ..Usage::default() };
        let line = |usage| UsageLine {
            name: "shop".into(),
            runs: 1,
            tokens: 3,
            usage,
            last_day: None,
            budget: None,
        };
        assert_eq!(row(&line(usage))[1], cell("1.5000"));
        let estimated = Usage { estimated_usd: Some(0.5), ..usage };
        assert_eq!(row(&line(estimated))[1], cell("~1.5000"));
        assert_eq!(row(&line(Usage { lower_bound: true, ..estimated }))[1], cell(">1.5000"));
    }

    #[test]
    fn a_budget_is_one_sentence() {
        let budget = BudgetView {
            budget: "day".into(),
            name: "2026-11-26".into(),
            limit_usd: Some(20.0),
            spent_usd: 5.0,
            left_usd: Some(15.0),
            limit_tokens: None,
            spent_tokens: 9,
            left_tokens: None,
            resets_at: Some("2026-11-27T00:00:00.000Z".into()),
        };
        let told = "day 2026-11-26: 15.00 of 20.00 USD left until 2026-11-27T00:00:00.000Z";
        assert_eq!(left_of(&budget), told);
    }
}
