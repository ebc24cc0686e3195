//! What every part of the slice needs, and the tokens it makes and reads.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::StepsError;
use super::events::{self, Event, Whose};
use super::keys::{Keys, Lifetimes};
use super::library::Library;
use super::limiter::Guesses;
use super::sql;
use super::sql_rows::StepRow;
use super::template::Snapshot;
use super::token::{self, Age, Claims};
use super::view::{Contract, StepHandout};
use crate::changes::Changes;
use crate::clock::{Clock, Millis};
use crate::config::StepsConfig;
use crate::db::{Db, DbError, Tx};
use crate::ids::Rng;
use crate::limits::{STEPS_NOTES_COUNT, STEPS_SNAPSHOTS_COUNT};

const MINUTE_MS: i64 = 60_000;

/// What the slice is made of.
pub struct StepsDeps {
    /// The database, migrated.
    pub db: Db,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Randomness: ids, nonces, keys.
    pub rng: Arc<dyn Rng>,
    /// Who is told of changes.
    pub changes: Changes,
    /// The content that workflows are started from.
    pub library: Library,
    /// `[steps]`.
    pub config: StepsConfig,
    /// Folder of the key file.
    pub state_dir: PathBuf,
    /// Ends the sweeper.
    pub shutdown: CancellationToken,
}

/// The slice's parts.
pub(super) struct Ctx {
    pub db: Db,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub changes: Changes,
    pub library: Library,
    pub config: StepsConfig,
    pub shutdown: CancellationToken,
    pub keys: Keys,
    /// Parsed snapshots by hash. What a hash names never changes, so this is no second truth.
    snapshots: Mutex<VecDeque<(String, Arc<Snapshot>)>>,
    notes: mpsc::Sender<Event>,
}

/// A token that is yet to be: what the database keeps of it.
pub(super) struct Issue {
    pub nonce: String,
    pub kid: String,
}

impl Ctx {
    pub async fn open(deps: StepsDeps) -> Result<(Ctx, mpsc::Receiver<Event>), StepsError> {
        let lifetimes = Lifetimes {
            token_ms: signed(deps.config.token_ttl_ms),
            rotate_ms: signed(deps.config.key_rotate_ms),
        };
        let now = deps.clock.now();
        let keys = Keys::open(&deps.db, &deps.state_dir, lifetimes, &*deps.rng, now).await?;
        let (notes, noted) = mpsc::channel(STEPS_NOTES_COUNT);
        let ctx = Ctx {
            db: deps.db,
            clock: deps.clock,
            rng: deps.rng,
            changes: deps.changes,
            library: deps.library,
            config: deps.config,
            shutdown: deps.shutdown,
            keys,
            snapshots: Mutex::default(),
            notes,
        };
        Ok((ctx, noted))
    }

    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    pub fn token_ttl_ms(&self) -> i64 {
        signed(self.config.token_ttl_ms)
    }

    /// Queues the event of a refused call; dropped where too many wait.
    pub fn refused(&self, error: &StepsError, whose: Whose<'_>) {
        let Some(event) = events::of_refusal(error, whose) else { return };
        if self.notes.try_send(event).is_err() {
            tracing::debug!(%error, "an event of a refused call is not stored: too many wait");
        }
    }

    /// A UUID of version 4.
    pub fn uuid(&self) -> String {
        let mut bytes = [0_u8; 16];
        self.rng.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = hex(&bytes);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// A nonce for a new token, and the key that will sign it.
    pub fn issue(&self) -> Issue {
        let mut bytes = [0_u8; 16];
        self.rng.fill(&mut bytes);
        let kid = self.keys.signing().map(|(kid, _)| kid).unwrap_or_default();
        Issue { nonce: hex(&bytes), kid }
    }

    /// What the token says, if it is one of ours. No database, but where its key is unknown. One
    /// that is not is counted among the connection's guesses.
    pub async fn verify(&self, text: &str, guesses: &Guesses) -> Result<Claims, StepsError> {
        let verified = self.authentic(text).await;
        let is_guess =
            matches!(verified, Err(StepsError::TokenMalformed { .. } | StepsError::TokenSignature));
        if is_guess && self.config.rate_limits {
            guesses.one_more(self.now())?;
        }
        verified
    }

    async fn authentic(&self, text: &str) -> Result<Claims, StepsError> {
        let malformed = |problem| StepsError::TokenMalformed { problem };
        let parsed = token::parse(text).map_err(malformed)?;
        let key = self.keys.find_again(parsed.kid).await?.ok_or(StepsError::TokenSignature)?;
        parsed.verify(&key).map_err(|problem| problem.map_or(StepsError::TokenSignature, malformed))
    }

    /// Whether a token of that age is still good.
    pub fn check_age(&self, claims: &Claims, now: Millis) -> Result<(), StepsError> {
        let ttl_ms = self.token_ttl_ms();
        token::check_age(claims.issued_at, now, ttl_ms).map_err(|age| match age {
            Age::Expired => StepsError::TokenExpired {
                minutes: now.since_ms(claims.issued_at) / MINUTE_MS,
                valid_minutes: ttl_ms / MINUTE_MS,
            },
            Age::Future => StepsError::TokenMalformed {
                problem: "it was issued in the future; is a clock wrong?",
            },
        })
    }

    /// The token of a step that is out; empty where it has expired or its key is gone.
    pub fn token(&self, execution_id: &str, step: &StepRow, now: Millis) -> String {
        let (Some(nonce), Some(kid), Some(issued_at)) = (&step.nonce, &step.kid, step.issued_at)
        else {
            return String::new();
        };
        let expired = token::check_age(issued_at, now, self.token_ttl_ms()).is_err();
        let Some(key) = self.keys.find(kid).filter(|_| !expired) else { return String::new() };
        let claims = Claims {
            execution_id: execution_id.to_owned(),
            step_name: step.step_name.clone(),
            issued_at,
            nonce: nonce.clone(),
            attempt: step.attempt,
        };
        token::mint(kid, &key, &claims)
    }

    /// The step as it is put into somebody's hands.
    pub fn handout(
        &self,
        execution_id: &str,
        snapshot: &Snapshot,
        step: &StepRow,
        contract: Contract,
        now: Millis,
    ) -> StepHandout {
        let phase = snapshot.workflow.phases.get(step.ordinal);
        let issued_at = step.issued_at.unwrap_or(now);
        StepHandout {
            step_name: step.step_name.clone(),
            agent_name: step.agent_name.clone(),
            description: phase.map(|phase| phase.description.clone()).unwrap_or_default(),
            persona: persona(snapshot, &step.agent_name),
            contract,
            attempt: step.attempt,
            token: self.token(execution_id, step, now),
            issued_at,
            expires_at: issued_at.plus_ms(self.token_ttl_ms()),
        }
    }

    /// The snapshot of that hash, for a write. Inside its transaction, because a second connection
    /// might not come free before the first is given back.
    pub async fn snapshot_in(&self, tx: &mut Tx, hash: &str) -> Result<Arc<Snapshot>, StepsError> {
        match self.known_snapshot(hash) {
            Some(found) => Ok(found),
            None => self.parse_snapshot(hash, &sql::snapshot_in(tx, hash).await?),
        }
    }

    /// The same, for a read.
    pub async fn snapshot(&self, hash: &str) -> Result<Arc<Snapshot>, StepsError> {
        match self.known_snapshot(hash) {
            Some(found) => Ok(found),
            None => self.parse_snapshot(hash, &sql::snapshot(&self.db, hash).await?),
        }
    }

    fn known_snapshot(&self, hash: &str) -> Option<Arc<Snapshot>> {
        let known = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(known, _)| known == hash).map(|(_, snapshot)| Arc::clone(snapshot))
    }

    fn parse_snapshot(&self, hash: &str, body: &str) -> Result<Arc<Snapshot>, StepsError> {
        let snapshot: Snapshot = stored("an execution's snapshot", body)?;
        Ok(self.remember_snapshot(hash, snapshot))
    }

    /// Keeps a parsed snapshot; the oldest goes where there are too many.
    pub fn remember_snapshot(&self, hash: &str, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        let mut known = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().all(|(known, _)| known != hash) {
            known.push_back((hash.to_owned(), Arc::clone(&snapshot)));
            if known.len() > STEPS_SNAPSHOTS_COUNT {
                known.pop_front();
            }
        }
        snapshot
    }
}

/// The persona of an agent of the snapshot.
pub(super) fn persona(snapshot: &Snapshot, agent: &str) -> String {
    snapshot.agents.get(agent).map(|agent| agent.body.clone()).unwrap_or_default()
}

/// Reads stored JSON.
pub(super) fn stored<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StepsError> {
    serde_json::from_str(text).map_err(|error| {
        tracing::error!(what, %error, "what is stored cannot be read");
        StepsError::Db(DbError::NotFound { operation: format!("read {what}") })
    })
}

/// JSON of plain data, which has no way to fail.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
