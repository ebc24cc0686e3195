//! What was asked of the daemon: one row a call, written before it is answered and again after.
//!
//! Each commit is a round trip to the database, so one task ([`Writer`]) takes whatever has queued,
//! the quotas of the calls included, into one transaction. The end of a call is written behind its
//! answer, with the beginning of the next where that comes soon. These commits do not wait for the
//! disk ([`Db::begin_relaxed`]): `kill -9` loses what had not been committed, a power cut perhaps
//! the last rows besides, but never the row of a call whose own change was stored, because both
//! engines write one log in order. A row that a daemon never closed is `interrupted` once a daemon
//! of the same host starts.

mod params;
mod sql;
mod sweep;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use params::{params, word};
pub use writer::Writer;

use crate::auth::Tier;
use crate::clock::{Clock, Millis};
use crate::db::{Db, DbError};
use crate::ids::Rng;
use crate::limits::{AUDIT_END_MS, AUDIT_PAGE_COUNT, AUDIT_PAGE_DEFAULT_COUNT, AUDIT_QUEUE_COUNT};
use crate::quota::{Charge, Verdict};

/// The word of a refusal because the caller's hour is used up.
pub const RATE_LIMITED: &str = "rate_limited";

/// What the record is made from.
#[derive(Clone, Debug)]
pub struct AuditDeps {
    /// Where it is kept.
    pub db: Db,
    /// When calls come and end.
    pub clock: Arc<dyn Clock>,
    /// Tells rows of one millisecond apart.
    pub rng: Arc<dyn Rng>,
    /// Whose calls these are: the name of the daemon's state folder.
    pub host: String,
    /// How long a row is kept, in ms; 0: up to `keep_count`.
    pub keep_ms: u64,
    /// How many rows are kept, whatever their age.
    pub keep_count: i64,
}

/// Why a call is not on record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuditError {
    /// The database does not take it.
    #[error("the call cannot be put on record: {said}")]
    Db {
        /// Its own words.
        said: String,
        /// The same for callers, where more than the log can help ([`DbError::why`]).
        why: Option<&'static str>,
    },
    /// The daemon is ending.
    #[error("the daemon is stopping")]
    Stopping,
}

/// How a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Begun; its end is not written yet.
    Open,
    /// Done as asked.
    Ok,
    /// It failed, or what was asked cannot be done.
    Error,
    /// The caller may not do it, or not now.
    Refused,
    /// Nobody waited for its end, or the daemon ended first.
    Interrupted,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 5] =
        [Status::Open, Status::Ok, Status::Error, Status::Refused, Status::Interrupted];

    /// The word in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::Ok => "ok",
            Status::Error => "error",
            Status::Refused => "refused",
            Status::Interrupted => "interrupted",
        }
    }

    /// The status of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

impl crate::db::Column for Status {
    type Raw = String;

    fn from_raw(raw: String) -> Result<Status, crate::db::ColumnError> {
        Status::parse(&raw).ok_or_else(|| format!("{raw:?} is no status of a call").into())
    }
}

/// A call that begins. Make `params` with [`params()`], and free text with [`word`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The run it is about, where it names one.
    pub adw_id: Option<String>,
    /// The tool, or what stands for one: `webhook`, `schedule`.
    pub tool_name: String,
    /// Who asks: see [`crate::auth::Principal::user_id`].
    pub user_id: String,
    /// With which tier.
    pub tier: Tier,
    /// The arguments as JSON, secrets masked.
    pub params: String,
    /// The road: `unix`, `http`, or the trigger's own word.
    pub transport: String,
    /// The caller's own name for the call.
    pub request_id: Option<String>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// How; not [`Status::Open`].
    pub status: Status,
    /// The run that the answer is about, where the call itself named none.
    pub adw_id: Option<String>,
    /// The stable word of what went wrong.
    pub error_code: Option<String>,
}

impl End {
    /// Done as asked.
    #[must_use]
    pub fn ok() -> End {
        End { status: Status::Ok, adw_id: None, error_code: None }
    }
}

/// What the record knows of one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invocation {
    /// Its id; later calls have greater ones.
    pub id: String,
    /// The run it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adw_id: Option<String>,
    /// The tool.
    pub tool_name: String,
    /// Who asked.
    pub user_id: String,
    /// With which tier.
    pub tier: String,
    /// The arguments, secrets masked and long text cut.
    pub params: Map<String, Value>,
    /// When it came, RFC 3339.
    pub created_at: String,
    /// When it ended, RFC 3339; absent where its end was never written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// `open ok error refused interrupted`.
    pub status: Status,
    /// How long it took, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// The word of what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// The road: `unix`, `http`, or what triggered it.
    pub transport: String,
    /// The caller's own name for the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The daemon that took it.
    pub host: String,
}

/// A page of the record, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvocationPage {
    /// The calls.
    pub invocations: Vec<Invocation>,
    /// Pass it as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Which calls are asked for; absent: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvocationFilter {
    /// From this moment on, epoch ms.
    pub since_ms: Option<i64>,
    /// Of this tool.
    pub tool_name: Option<String>,
    /// By this caller.
    pub user_id: Option<String>,
    /// About this run.
    pub adw_id: Option<String>,
    /// In this state.
    pub status: Option<Status>,
    /// At most so many; [`AUDIT_PAGE_DEFAULT_COUNT`] where nothing is said, [`AUDIT_PAGE_COUNT`]
    /// at most.
    pub limit: Option<u32>,
    /// The `next_cursor` of an earlier page.
    pub cursor: Option<String>,
}

/// What [`Audit::admit`] answers.
#[derive(Debug)]
pub struct Admitted {
    /// What the quota says, where one was asked.
    pub verdict: Option<Verdict>,
    /// The open row, where the call is to be recorded and may go on.
    pub open: Option<Open>,
}

/// The way to the record; cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: mpsc::Sender<writer::Job>,
    db: Db,
    clock: Arc<dyn Clock>,
}

impl Audit {
    /// Marks what an earlier daemon of this host left open as interrupted, and answers the way to
    /// the record and the task that keeps it, to be run by the caller.
    ///
    /// # Errors
    /// The database's.
    pub async fn start(deps: AuditDeps) -> Result<(Audit, Writer), DbError> {
        let left = sql::interrupt(&deps.db, &deps.host).await?;
        if left > 0 {
            tracing::warn!(calls = left, "calls of before were never finished: interrupted");
        }
        let (queue, jobs) = mpsc::channel(AUDIT_QUEUE_COUNT);
        let audit = Audit { queue, db: deps.db.clone(), clock: deps.clock.clone() };
        Ok((audit, Writer::new(deps, jobs)))
    }

    /// Takes what the call costs from its caller's hour and writes down that it begins, in one
    /// transaction. A call that is refused leaves no open row; the first refusal of an hour leaves a
    /// closed one, the rest are only counted, so that a flood of them costs no room.
    ///
    /// # Errors
    /// [`AuditError`]; then nothing was taken, unless the database's last answer was lost.
    pub async fn admit(
        &self,
        call: Option<Call>,
        charge: Option<Charge>,
    ) -> Result<Admitted, AuditError> {
        let recorded = call.is_some();
        let (reply, answer) = oneshot::channel();
        let job = writer::Job::Admit(Box::new(writer::Admit { call, charge, reply }));
        self.queue.send(job).await.map_err(|_| AuditError::Stopping)?;
        let outcome = answer.await.map_err(|_| AuditError::Stopping)??;
        let open = outcome.id.filter(|_| recorded).map(|id| Open {
            row: Some((id, outcome.at)),
            queue: self.queue.clone(),
            clock: self.clock.clone(),
        });
        Ok(Admitted { verdict: outcome.verdict, open })
    }

    /// Writes down that a call begins that nobody's hour pays for: a webhook's, a schedule's.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn open(&self, call: Call) -> Result<Open, AuditError> {
        self.admit(Some(call), None).await?.open.ok_or(AuditError::Stopping)
    }

    /// A page of the record, newest first. A cursor that is none finds what is before it all the
    /// same: it is only a place in the order.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, filter: &InvocationFilter) -> Result<InvocationPage, DbError> {
        let limit = filter.limit.unwrap_or(AUDIT_PAGE_DEFAULT_COUNT).clamp(1, AUDIT_PAGE_COUNT);
        let mut rows = sql::list(&self.db, filter, limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = rows.last().filter(|_| more).map(|row| row.id.clone());
        let invocations = rows.into_iter().map(sql::InvocationRow::view).collect();
        Ok(InvocationPage { invocations, next_cursor })
    }

    /// Waits until every end that was handed in is written, or the database has refused it.
    pub async fn flush(&self) {
        self.ask(writer::Job::Flush).await;
    }

    /// Writes what has come so far and ends the task; later calls are [`AuditError::Stopping`].
    pub async fn end(&self) {
        let limit = Duration::from_millis(AUDIT_END_MS);
        if tokio::time::timeout(limit, self.ask(writer::Job::End)).await.is_err() {
            tracing::warn!(limit_ms = AUDIT_END_MS, "the ends of the last calls are not written");
        }
    }

    async fn ask(&self, job: impl FnOnce(oneshot::Sender<()>) -> writer::Job) {
        let (reply, done) = oneshot::channel();
        if self.queue.send(job(reply)).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// A call on record that has not ended. Dropped, it is `interrupted`: nobody waits for its end.
#[derive(Debug)]
pub struct Open {
    /// Id and beginning; taken by the end.
    row: Option<(String, Millis)>,
    queue: mpsc::Sender<writer::Job>,
    clock: Arc<dyn Clock>,
}

impl Open {
    /// Hands the end in; it is written behind this call's back. Waits only where the queue is full.
    pub async fn close(mut self, end: End) {
        if let Some(job) = self.closing(end) {
            // A task that has ended wrote down that this call was interrupted, or the next will.
            let _ = self.queue.send(job).await;
        }
    }

    fn closing(&mut self, end: End) -> Option<writer::Job> {
        let (id, begun) = self.row.take()?;
        let at = self.clock.now();
        Some(writer::Job::Close(writer::Close { id, at, took_ms: at.since_ms(begun).max(0), end }))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let error_code = Some("hung_up".to_owned());
        let end = End { status: Status::Interrupted, adw_id: None, error_code };
        if let Some(job) = self.closing(end) {
            // Full: the row stays open, and is interrupted at the next start.
            let _ = self.queue.try_send(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_the_word_it_is_written_with() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert_eq!(Status::parse("done"), None);
    }
}
