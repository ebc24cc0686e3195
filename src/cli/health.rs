//! `adwd health`: how the daemon that runs is, as `/mcp/health` says it, over its socket.

use serde_json::Value;

use super::fail::{Fail, exit};
use super::link::Cx;
use crate::mcp::health::HEALTH_URI;
use crate::out::{Out, Tone, cell, toned};

/// Asks and shows; the exit code is 1 where something failed.
pub async fn command(cx: &Cx) -> Result<u8, Fail> {
    let client = cx.connect().await?;
    if cx.out.can_animate() {
        cx.out.note("… looking; after a while without a look this takes some seconds");
    }
    let report = client.read(HEALTH_URI).await?;
    if cx.out.is_json() {
        cx.out.json(&report);
    } else {
        show(&report, &cx.out);
    }
    Ok(if word(&report, "status") == "failed" { exit::FAILED } else { exit::OK })
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn show(report: &Value, out: &Out) {
    let checks = report.get("checks").and_then(Value::as_array);
    let rows: Vec<_> = checks
        .into_iter()
        .flatten()
        .map(|check| {
            let status = word(check, "status");
            let tone = match status {
                "ok" => Tone::Good,
                "degraded" => Tone::Busy,
                _ => Tone::Bad,
            };
            let rest = ["name", "message", "hint"].map(|key| cell(word(check, key)));
            std::iter::once(toned(status, tone)).chain(rest).collect()
        })
        .collect();
    out.table(&["STATUS", "CHECK", "FOUND", "TO DO"], &rows);
    if out.is_terminal() {
        out.line(&format!("{}, looked at {}", word(report, "status"), word(report, "checked_at")));
    }
}
