//! A wait with progress. Whatever ends it early ends the wait, never the run.

use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::ProgressNotificationParam;
use rmcp::service::RequestContext;
use tokio::sync::watch;

use crate::mcp::bounds::{HEARTBEAT, PROGRESS_SEND};
use crate::mcp::error::ToolError;
use crate::mcp::server::AdwServer;
use crate::runs::RunView;

/// Waits until `run` has ended, `limit` passed, the daemon is stopping or nobody listens any
/// more, and answers the run as it then is.
pub async fn wait(
    server: &AdwServer,
    context: &RequestContext<RoleServer>,
    run: RunView,
    limit: Duration,
) -> Result<RunView, ToolError> {
    let _place = server.place()?;
    let (tell, heard) = watch::channel(status_line(&run));
    let mut progress = |run: &RunView| {
        let line = status_line(run);
        tell.send_if_modified(|old| std::mem::replace(old, line.clone()) != line);
    };
    tokio::select! {
        biased;
        done = server.runs().wait(&run.adw_id, limit, &mut progress) => Ok(done?),
        () = server.stopping().cancelled() => Ok(server.runs().get(&run.adw_id).await?),
        // The answer goes nowhere; it only has to be one.
        () = context.ct.cancelled() => Ok(run),
        () = report(context, heard) => Ok(run),
    }
}

/// Tells the client each change, and that we live in between; never returns.
async fn report(context: &RequestContext<RoleServer>, mut heard: watch::Receiver<String>) {
    let Some(token) = context.meta.get_progress_token() else {
        return std::future::pending().await;
    };
    heard.mark_changed();
    for told in 1_u32.. {
        // An error means that the wait is over; the select drops us.
        if let Ok(Err(_)) = tokio::time::timeout(HEARTBEAT, heard.changed()).await {
            break;
        }
        let message = heard.borrow_and_update().clone();
        let note =
            ProgressNotificationParam::new(token.clone(), f64::from(told)).with_message(message);
        // The connection may be on its way out and never confirm.
        let sent = tokio::time::timeout(PROGRESS_SEND, context.peer.notify_progress(note)).await;
        if let Ok(Err(_)) = sent {
            break;
        }
    }
    std::future::pending().await
}

/// Where a run stands, in one line for people.
#[must_use]
pub fn status_line(run: &RunView) -> String {
    let mut line = match &run.current_phase {
        Some(phase) if !run.status.is_terminal() => format!("{phase}: {}", run.status),
        _ => run.status.to_string(),
    };
    if let Some(position) = run.queue_position {
        line.push_str(&format!(", position {position}"));
    }
    let attempt = run
        .phases
        .iter()
        .find(|phase| Some(&phase.phase) == run.current_phase.as_ref())
        .and_then(|phase| phase.attempts.last())
        .map_or(1, |attempt| attempt.attempt);
    if attempt > 1 && !run.status.is_terminal() {
        line.push_str(&format!(", attempt {attempt}"));
    }
    if let Some(at) = &run.retry_at {
        line.push_str(&format!(", next try at {at}"));
    }
    match (&run.failure, &run.pr_url) {
        (Some(failure), _) if run.status.is_terminal() => {
            line.push_str(&format!(": {}", failure.message));
        }
        (None, Some(url)) => line.push_str(&format!(", {url}")),
        _ => {}
    }
    line
}
