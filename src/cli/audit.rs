//! `adwd audit`: the record of calls in the shell.

use serde_json::json;

use super::args::Audit;
use super::fail::{Fail, exit};
use super::link::{Cx, arguments};
use super::runs::moment;
use crate::audit::{Invocation, InvocationPage, Status};
use crate::clock::{Clock as _, SystemClock};
use crate::limits::AUDIT_PAGE_COUNT;
use crate::out::{Cell2, Out, Tone, cell, toned};

/// Does it.
pub async fn command(cx: &Cx, given: Audit) -> Result<u8, Fail> {
    if let Some(status) = given.status.as_deref().filter(|word| Status::parse(word).is_none()) {
        let known = Status::ALL.map(Status::as_str).join(" ");
        return Err(Fail::usage(format!("{status:?} is no status; known: {known}")));
    }
    let from = given
        .since
        .as_deref()
        .map(|when| moment("--since", when, SystemClock.now()))
        .transpose()?;
    let client = cx.connect().await?;
    let mut found = InvocationPage { invocations: vec![], next_cursor: given.cursor };
    let mut left = given.limit;
    while left > 0 {
        let arguments = arguments(vec![
            ("since", from.map(|at| json!(at.rfc3339()))),
            ("tool_name", given.tool.as_ref().map(|tool| json!(tool))),
            ("user_id", given.user.as_ref().map(|user| json!(user))),
            ("adw_id", given.adw_id.as_ref().map(|id| json!(id))),
            ("status", given.status.as_ref().map(|status| json!(status))),
            ("limit", Some(json!(left.min(AUDIT_PAGE_COUNT)))),
            ("cursor", found.next_cursor.as_ref().map(|cursor| json!(cursor))),
        ]);
        let page: InvocationPage = client.call("list_mcp_invocations", arguments).await?;
        left = left.saturating_sub(u32::try_from(page.invocations.len()).unwrap_or(left));
        found.invocations.extend(page.invocations);
        found.next_cursor = page.next_cursor;
        if found.next_cursor.is_none() {
            break;
        }
    }
    if cx.out.is_json() {
        cx.out.json(&found);
    } else {
        show(&cx.out, &found);
    }
    Ok(exit::OK)
}

fn show(out: &Out, page: &InvocationPage) {
    if out.is_terminal() && page.invocations.is_empty() {
        out.line("no calls on record");
        return;
    }
    let rows: Vec<Vec<Cell2>> = page.invocations.iter().map(row).collect();
    let head = ["WHEN", "TOOL", "USER", "TIER", "STATUS", "MS", "RUN", "WHY", "VIA", "ARGUMENTS"];
    out.table(&head, &rows);
    if let Some(cursor) = page.next_cursor.as_ref().filter(|_| out.is_terminal()) {
        out.line(&format!("{} calls; more: --cursor {cursor}", rows.len()));
    }
}

fn row(call: &Invocation) -> Vec<Cell2> {
    let tone = match call.status {
        Status::Ok => Tone::Good,
        Status::Open => Tone::Busy,
        Status::Error | Status::Refused | Status::Interrupted => Tone::Bad,
    };
    let arguments = serde_json::to_string(&call.params).unwrap_or_default();
    vec![
        cell(&call.created_at),
        cell(&call.tool_name),
        cell(&call.user_id),
        cell(&call.tier),
        toned(call.status.as_str(), tone),
        cell(call.duration_ms.map(|ms| ms.to_string()).unwrap_or_default()),
        cell(call.adw_id.clone().unwrap_or_default()),
        cell(call.error_code.clone().unwrap_or_default()),
        cell(&call.transport),
        cell(arguments),
    ]
}
