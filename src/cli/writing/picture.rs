//! Everything that `adwd writing status` shows, asked of the daemon.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::fail::Fail;
use crate::cli::link::arguments;
use crate::client::Client;
use crate::clock::Millis;
use crate::writing::day::Zone;
use crate::writing::phase::PHASES;
use crate::writing::{
    ApprovalList, DailyStat, DailyStats, GateStatus, PhaseHistory, QaReports, RevisionStatus,
    SeriesProgress, WorkflowState, WorkflowVelocity,
};

/// The book series as it stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Picture {
    /// Where it stands.
    pub state: WorkflowState,
    /// How far it is.
    pub progress: SeriesProgress,
    /// The phases it has been through.
    pub history: PhaseHistory,
    /// The gates, by the phase that asks for them.
    pub gates: Vec<PhaseGate>,
    /// Decisions that wait.
    pub approvals: ApprovalList,
    /// The passes of the book.
    pub revision: RevisionStatus,
    /// The newest QA report of the book.
    pub qa: QaReports,
    /// The pace.
    pub velocity: WorkflowVelocity,
    /// The days of the plot, oldest first, those without a word included.
    pub days: Vec<Day>,
}

/// The gate of a phase.
#[derive(Debug, Serialize, Deserialize)]
pub struct PhaseGate {
    /// The phase.
    pub phase_number: i64,
    /// Its gate.
    #[serde(flatten)]
    pub gate: GateStatus,
}

/// A day of the plot.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// The day in the workflow's zone, `YYYY-MM-DD`.
    pub date: String,
    /// Words.
    pub words: f64,
}

/// Asks for all of it.
pub async fn take(
    client: &Client,
    workflow_id: i64,
    book: Option<i64>,
    days: u32,
    now: Millis,
) -> Result<Picture, Fail> {
    let of = |more: Vec<(&str, Option<Value>)>| -> Map<String, Value> {
        arguments([vec![("workflow_id", Some(json!(workflow_id)))], more].concat())
    };
    let state: WorkflowState = client.call("get_workflow_state", of(vec![])).await?;
    let book = || vec![("book_number", Some(json!(book.unwrap_or(state.current_book))))];
    let dates = dates(&state.time_zone, days, now);
    let range = dates.first().map(|first| json!({ "start": first }));
    let stats: DailyStats =
        client.call("get_daily_writing_stats", of(vec![("date_range", range)])).await?;
    let mut gates = Vec::new();
    for phase in PHASES.iter().filter(|phase| phase.gate.is_some()) {
        let asked = of(vec![("phase_number", Some(json!(phase.number)))]);
        let gate = client.call("check_gate_status", asked).await?;
        gates.push(PhaseGate { phase_number: phase.number, gate });
    }
    Ok(Picture {
        progress: client.call("get_series_progress", of(vec![])).await?,
        history: client.call("get_phase_history", of(vec![("limit", Some(json!(500)))])).await?,
        gates,
        approvals: client.call("get_pending_approvals", of(vec![])).await?,
        revision: client.call("get_revision_status", of(book())).await?,
        qa: client.call("get_qa_report", of(book())).await?,
        velocity: client.call("get_workflow_velocity", of(vec![])).await?,
        days: filled(&dates, &stats.stats),
        state,
    })
}

/// The last days, oldest first.
fn dates(time_zone: &str, days: u32, now: Millis) -> Vec<String> {
    // A daemon that knows a zone we do not is of another version; its days are near enough.
    let Ok(zone) = Zone::parse(time_zone).or_else(|_| Zone::parse("UTC")) else {
        return Vec::new();
    };
    let today = zone.day_of(now);
    (0..i64::from(days)).rev().map(|back| today.plus(-back).to_string()).collect()
}

fn filled(dates: &[String], stats: &[DailyStat]) -> Vec<Day> {
    let words = |date: &String| {
        stats.iter().find(|s| s.stat_date == *date).map_or(0.0, |s| s.words_written.as_f64())
    };
    dates.iter().map(|date| Day { date: date.clone(), words: words(date) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_end_today_in_the_workflows_zone() {
        let now = Millis::parse_rfc3339("2026-03-01T23:30:00Z").unwrap();
        assert_eq!(dates("UTC", 3, now), ["2026-02-27", "2026-02-28", "2026-03-01"]);
        assert_eq!(dates("Europe/Berlin", 1, now), ["2026-03-02"]);
        assert_eq!(dates("Nowhere/Town", 1, now), ["2026-03-01"]);
    }
}
