//! Telemetry events: the thirteen of seed 003 and those of `spec/steps.md` §6.
//!
//! What an event tells of a change is stored in the transaction of that change. An event about a
//! refused call has none: it is queued and stored by the sweeper's task, so that a refusal costs
//! no write.

use serde_json::{Value, json};

use super::error::{StepsError, clipped};
use super::limiter;
use super::token::Claims;

/// Every type of event.
pub const TYPES: [&str; 18] = [
    "workflow_created",
    "workflow_started",
    "workflow_completed",
    "workflow_failed",
    "workflow_state_transition",
    "step_started",
    "step_completed",
    "step_failed",
    "token_generated",
    "token_validated",
    "token_expired",
    "artifact_stored",
    "error",
    "stall_detected",
    "rate_limited",
    "token_rejected",
    "content_synced",
    "workflow_finalized",
];

/// An event that is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// One of [`TYPES`].
    pub event_type: &'static str,
    /// The execution it is about.
    pub execution_id: Option<String>,
    /// The step.
    pub step_name: Option<String>,
    /// The agent.
    pub agent_name: Option<String>,
    /// What belongs to it.
    pub metadata: Value,
}

/// Whose call was refused, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whose<'a> {
    /// What its token says, if it is authentic.
    pub claims: Option<&'a Claims>,
    /// The execution that it names.
    pub execution_id: Option<&'a str>,
}

/// The event that tells of a refused call; none for what is the daemon's own trouble.
#[must_use]
pub fn of_refusal(error: &StepsError, whose: Whose<'_>) -> Option<Event> {
    let claims = whose.claims;
    let (event_type, metadata) = match error {
        StepsError::TokenExpired { minutes, .. } => {
            ("token_expired", json!({ "age_minutes": minutes }))
        }
        StepsError::TokenMalformed { .. } => ("token_rejected", json!({ "reason": "malformed" })),
        StepsError::TokenSignature => ("token_rejected", json!({ "reason": "signature" })),
        StepsError::TokenConsumed { .. } => ("token_rejected", json!({ "reason": "consumed" })),
        StepsError::TokenRevoked { .. } => ("token_rejected", json!({ "reason": "revoked" })),
        StepsError::UnknownExecution { .. } if claims.is_some() => {
            ("token_rejected", json!({ "reason": "foreign" }))
        }
        // Guesses beyond their bound are not worth a row each; that there were many is told already.
        StepsError::RateLimited { scope: limiter::CONNECTION, .. } => return None,
        StepsError::RateLimited { scope, key, retry_after_ms } => (
            "rate_limited",
            json!({ "scope": scope, "key": key, "retry_after_ms": retry_after_ms }),
        ),
        StepsError::Db(_) | StepsError::Io { .. } => return None,
        other => ("error", json!({ "code": other.code(), "error": clipped(&other.to_string()) })),
    };
    // What a caller calls an execution is only believed where there is one.
    let named =
        whose.execution_id.filter(|_| !matches!(error, StepsError::UnknownExecution { .. }));
    let execution_id = claims.map(|claims| claims.execution_id.as_str()).or(named);
    Some(Event {
        event_type,
        execution_id: execution_id.map(str::to_owned),
        step_name: claims.map(|claims| claims.step_name.clone()),
        agent_name: None,
        metadata,
    })
}
