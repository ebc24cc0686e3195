//! `adwd writing`: book series in the shell.

mod draw;
mod export;
mod import;
mod ours;
mod picture;

use serde_json::json;

use super::args::Writing;
use super::fail::{Fail, exit};
use super::link::{Cx, arguments};
use crate::clock::{Clock as _, SystemClock};
use crate::out::{Cell2, Out, cell, toned};
use crate::writing::WorkflowList;

/// Does it.
pub async fn command(cx: &Cx, given: Writing) -> Result<u8, Fail> {
    match given {
        Writing::List { author, limit, before } => list(cx, author, limit, before).await,
        Writing::Status { id, book, days } => status(cx, id, book, days).await,
        Writing::Import(given) => import::command(cx, given).await,
        Writing::Export(given) => export::command(cx, given).await,
    }
}

async fn list(cx: &Cx, author: Option<i64>, limit: i64, before: Option<i64>) -> Result<u8, Fail> {
    let client = cx.connect().await?;
    let arguments = arguments(vec![
        ("user_id", author.map(|id| json!(id))),
        ("limit", Some(json!(limit))),
        ("before_id", before.map(|id| json!(id))),
    ]);
    let page: WorkflowList = client.call("list_active_workflows", arguments).await?;
    if cx.out.is_json() {
        cx.out.json(&page);
    } else {
        show_list(&cx.out, &page);
    }
    Ok(exit::OK)
}

fn show_list(out: &Out, page: &WorkflowList) {
    if out.is_terminal() && page.workflows.is_empty() {
        out.line("no book series in work; the tool create_workflow begins one");
        return;
    }
    let rows: Vec<Vec<Cell2>> = page
        .workflows
        .iter()
        .map(|item| {
            let status = item.phase_status.as_str();
            vec![
                cell(item.workflow_id.to_string()),
                toned(status, draw::tone(status)),
                cell(format!("{} {}", item.current_phase, item.phase_name)),
                cell(format!("{}/{}", item.current_book, item.total_books)),
                cell(item.series_title.clone().unwrap_or_default()),
                cell(item.user_id.to_string()),
                cell(item.updated_at.clone()),
            ]
        })
        .collect();
    out.table(&["ID", "STATUS", "PHASE", "BOOK", "TITLE", "AUTHOR", "CHANGED"], &rows);
    if let Some(before) = page.next_before_id.filter(|_| out.is_terminal()) {
        out.line(&format!("{} of {}; more: --before {before}", rows.len(), page.total));
    }
}

async fn status(cx: &Cx, id: i64, book: Option<i64>, days: u32) -> Result<u8, Fail> {
    let client = cx.connect().await?;
    let picture = picture::take(&client, id, book, days, SystemClock.now()).await?;
    if cx.out.is_json() {
        cx.out.json(&picture);
    } else if cx.out.is_terminal() {
        for line in draw::lines(&picture, cx.out.width(), SystemClock.now()) {
            let painted: Vec<String> =
                line.iter().map(|(text, tone)| cx.out.paint(text, *tone)).collect();
            cx.out.painted(painted.concat().trim_end());
        }
    } else {
        draw::columns(&cx.out, &picture);
    }
    Ok(exit::OK)
}
