//! The task that keeps the record: what arrives at once is one transaction.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::sql::{self, InvocationRow};
use super::{AuditDeps, AuditError, Call, End, Status, sweep};
use crate::clock::Millis;
use crate::db::DbError;
use crate::limits::{AUDIT_AGAIN_MS, AUDIT_BATCH_COUNT, AUDIT_ENDS_COUNT, AUDIT_LINGER_MS};
use crate::quota::{self, Charge, Verdict};

/// What the task is asked.
#[derive(Debug)]
pub(super) enum Job {
    /// Pay for a call and put it on record.
    Admit(Box<Admit>),
    /// A call has ended.
    Close(Close),
    /// Write every end, and say so.
    Flush(oneshot::Sender<()>),
    /// The same, and end.
    End(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct Admit {
    pub call: Option<Call>,
    pub charge: Option<Charge>,
    pub reply: oneshot::Sender<Result<Outcome, AuditError>>,
}

/// What became of an admission.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub verdict: Option<Verdict>,
    /// The open row.
    pub id: Option<String>,
    pub at: Millis,
}

/// The end of a call.
#[derive(Clone, Debug)]
pub(super) struct Close {
    pub id: String,
    pub at: Millis,
    pub took_ms: i64,
    pub end: End,
}

/// The task that keeps the record. It ends when it is told to, or when nobody can ask it any more.
#[derive(Debug)]
pub struct Writer {
    deps: AuditDeps,
    jobs: mpsc::Receiver<Job>,
    /// Ends that are not written yet.
    ends: VecDeque<Close>,
    /// When they will be, whether or not a call begins until then.
    due: Option<Instant>,
    /// Numbers the calls, so that those of one millisecond stay in order.
    count: u16,
}

/// Why a batch was not stored.
struct Failed {
    error: DbError,
    /// Whether it may be stored all the same: the commit got no answer.
    unsure: bool,
}

impl Failed {
    fn before(error: DbError) -> Failed {
        Failed { error, unsure: false }
    }
}

impl Writer {
    pub(super) fn new(deps: AuditDeps, jobs: mpsc::Receiver<Job>) -> Writer {
        Writer { deps, jobs, ends: VecDeque::new(), due: None, count: 0 }
    }

    /// Keeps the record and deletes what is too old of it.
    pub async fn run(mut self) {
        let deps = self.deps.clone();
        tokio::select! {
            () = self.serve() => {}
            () = sweep::forever(&deps) => {}
        }
    }

    /// Deletes what is too old or too many at once; answers how many rows went. For tests.
    ///
    /// # Errors
    /// The database's.
    #[doc(hidden)]
    pub async fn sweep(deps: &AuditDeps) -> Result<u64, DbError> {
        sweep::once(deps).await
    }

    async fn serve(&mut self) {
        let mut batch = Vec::with_capacity(AUDIT_BATCH_COUNT);
        loop {
            let received = match self.due {
                None => self.jobs.recv_many(&mut batch, AUDIT_BATCH_COUNT).await,
                Some(due) => tokio::select! {
                    received = self.jobs.recv_many(&mut batch, AUDIT_BATCH_COUNT) => received,
                    () = tokio::time::sleep_until(due) => {
                        self.write(Vec::new()).await;
                        continue;
                    }
                },
            };
            let (mut admits, mut told, mut over) = (Vec::new(), Vec::new(), received == 0);
            for job in batch.drain(..) {
                match job {
                    Job::Admit(admit) => admits.push(*admit),
                    Job::Close(close) => self.remember(close),
                    Job::Flush(reply) => told.push(reply),
                    Job::End(reply) => {
                        told.push(reply);
                        over = true;
                    }
                }
            }
            let urgent = over || !told.is_empty() || self.ends.len() >= AUDIT_BATCH_COUNT;
            if !admits.is_empty() || urgent {
                self.write(admits).await;
            }
            // More than one batch of them, for as long as the database takes them.
            while !told.is_empty() && !self.ends.is_empty() && self.write(Vec::new()).await {}
            for reply in told {
                // Whoever went away meanwhile does not want to know.
                let _ = reply.send(());
            }
            if over {
                return;
            }
        }
    }

    /// Keeps an end until it is written with a beginning, or for a moment.
    fn remember(&mut self, close: Close) {
        if self.ends.len() >= AUDIT_ENDS_COUNT {
            // The database has been gone for long. Its row stays open until the next start.
            tracing::warn!("the end of a call is given up: the database takes none");
            self.ends.pop_front();
        }
        self.ends.push_back(close);
        let linger = Duration::from_millis(AUDIT_LINGER_MS);
        self.due.get_or_insert_with(|| Instant::now() + linger);
    }

    /// Writes beginnings and ends in one transaction. Where that fails and it was not the database
    /// itself, each beginning is tried alone, so that nobody fails for somebody else's call.
    /// Answers whether the database took it.
    async fn write(&mut self, admits: Vec<Admit>) -> bool {
        let count = self.ends.len().min(AUDIT_BATCH_COUNT);
        let ends: Vec<Close> = self.ends.drain(..count).collect();
        let failed = match self.together(&admits, &ends).await {
            Ok(outcomes) => {
                for (admit, outcome) in admits.into_iter().zip(outcomes) {
                    let _ = admit.reply.send(Ok(outcome));
                }
                self.due = (!self.ends.is_empty()).then(Instant::now);
                return true;
            }
            Err(failed) => failed,
        };
        tracing::warn!(error = %failed.error, "calls could not be put on record");
        for close in ends.into_iter().rev() {
            self.ends.push_front(close);
        }
        // Not at once: a database that is gone is not asked again and again.
        let again = Instant::now() + Duration::from_millis(AUDIT_AGAIN_MS);
        self.due = (!self.ends.is_empty()).then_some(again);
        let alone = !failed.unsure && !failed.error.is_transient() && admits.len() + count > 1;
        let told = |error: &DbError| AuditError::Db { said: error.to_string(), why: error.why() };
        for admit in admits {
            let outcome = if alone {
                let one = self.together(std::slice::from_ref(&admit), &[]).await;
                one.map_err(|failed| told(&failed.error)).map(|mut one| one.pop())
            } else {
                Err(told(&failed.error))
            };
            let _ = admit.reply.send(outcome.and_then(|one| one.ok_or(AuditError::Stopping)));
        }
        false
    }

    async fn together(&mut self, admits: &[Admit], ends: &[Close]) -> Result<Vec<Outcome>, Failed> {
        if admits.is_empty() && ends.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.deps.clock.now();
        let mut tx = self.deps.db.begin_relaxed().await.map_err(Failed::before)?;
        let verdicts = verdicts(&mut tx, admits, now).await.map_err(Failed::before)?;
        let mut rows = Vec::with_capacity(admits.len());
        let mut outcomes = Vec::with_capacity(admits.len());
        for (admit, verdict) in admits.iter().zip(verdicts) {
            let row = admit.call.as_ref().and_then(|call| self.row(call, verdict.as_ref(), now));
            let open = row.as_ref().filter(|row| row.status == Status::Open);
            outcomes.push(Outcome { id: open.map(|row| row.id.clone()), verdict, at: now });
            rows.extend(row);
        }
        sql::insert(&mut tx, &rows).await.map_err(Failed::before)?;
        for close in ends {
            sql::close(&mut tx, close).await.map_err(Failed::before)?;
        }
        tx.commit().await.map_err(|error| Failed { error, unsure: true })?;
        Ok(outcomes)
    }

    /// The row of a call: open, or closed at once where it is the first refusal of an hour.
    fn row(
        &mut self,
        call: &Call,
        verdict: Option<&Verdict>,
        now: Millis,
    ) -> Option<InvocationRow> {
        let refused = match verdict {
            Some(Verdict::Refused { refused, .. }) if *refused > 1 => return None,
            Some(Verdict::Refused { .. }) => true,
            _ => false,
        };
        Some(InvocationRow {
            id: self.id(now),
            adw_id: call.adw_id.clone(),
            tool_name: call.tool_name.clone(),
            user_id: call.user_id.clone(),
            tier: call.tier.as_str().to_owned(),
            params: call.params.clone(),
            created_at: now,
            completed_at: refused.then_some(now),
            status: if refused { Status::Refused } else { Status::Open },
            duration_ms: refused.then_some(0),
            error_code: refused.then(|| super::RATE_LIMITED.to_owned()),
            transport: call.transport.clone(),
            request_id: call.request_id.clone(),
            host: self.deps.host.clone(),
        })
    }

    fn id(&mut self, now: Millis) -> String {
        let mut salt = [0; 6];
        self.deps.rng.fill(&mut salt);
        let salt = salt.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        self.count = self.count.wrapping_add(1);
        format!("{}{:04x}{salt:012x}", sql::id_at(now), self.count)
    }
}

/// Takes what the calls cost, in the order of their callers: two daemons that share a database must
/// not wait for each other.
async fn verdicts(
    tx: &mut crate::db::Tx,
    admits: &[Admit],
    now: Millis,
) -> Result<Vec<Option<Verdict>>, DbError> {
    let mut verdicts = vec![None; admits.len()];
    let mut charges: Vec<(usize, &Charge)> =
        admits.iter().enumerate().filter_map(|(at, a)| Some((at, a.charge.as_ref()?))).collect();
    charges.sort_by(|(_, a), (_, b)| a.user_id.cmp(&b.user_id));
    for (at, charge) in charges {
        verdicts[at] = Some(quota::spend(tx, charge, now).await?);
    }
    Ok(verdicts)
}
