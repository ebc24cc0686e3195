//! The gate: what a request costs its caller, and that each call of a tool is on record.
//!
//! | request | costs |
//! |---|---|
//! | `tools/call` of a tool that only reads | a read |
//! | `tools/call` of any other tool, `tasks/cancel` | a write |
//! | `resources/read`, `resources/list`, `prompts/get`, `completion/complete`, `tasks/get`, `tasks/update`, `resources/subscribe`, `subscriptions/listen` | a read |
//! | everything else | nothing |
//!
//! Where the record cannot be written, a read by somebody without a limit is answered all the same
//! (whoever looks for what is wrong must see something); everything else is refused, because a
//! change that nobody can find later, or a limit that holds only sometimes, is none.

pub mod http;

use std::sync::Arc;

use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ErrorCode, JsonObject};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use super::caller::request_id;
use super::error::{DATABASE_HINT, ToolError};
use super::tools::{Effect, Family, ToolDef};
use crate::audit::{self, Audit, AuditError, Call, End, Open, RATE_LIMITED, Status};
use crate::auth::{Principal, Transport};
use crate::config::RatesConfig;
use crate::quota::{self, Charge, Cost, Standing, TENTHS, Verdict};
use http::Told;

/// JSON-RPC's code for a request beyond the caller's limit; of the range that is the server's own.
pub const LIMIT_EXCEEDED: ErrorCode = ErrorCode(-32_029);

/// Decides and writes down; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Gate(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    audit: Audit,
    rates: RatesConfig,
}

/// A call that was let through; tell it how it ended. Dropped, the record says `interrupted`.
#[derive(Debug)]
#[must_use]
pub struct Pass {
    open: Option<Open>,
    cost: Cost,
}

/// Why a request was not let through.
#[derive(Clone, Debug)]
pub enum Barred {
    /// The caller's hour is used up.
    Limit(Standing, Cost),
    /// The record cannot be written.
    Record(AuditError),
}

impl Gate {
    /// A gate that limits and records.
    #[must_use]
    pub fn new(audit: Audit, rates: RatesConfig) -> Gate {
        Gate(Some(Arc::new(Inner { audit, rates })))
    }

    /// A gate that stands open and remembers nothing: for tests and measurements of what is behind.
    #[must_use]
    pub fn off() -> Gate {
        Gate(None)
    }

    /// The record, where there is one.
    #[must_use]
    pub fn audit(&self) -> Option<&Audit> {
        self.0.as_deref().map(|inner| &inner.audit)
    }

    /// Lets a request through that is no call of a tool, for the cost of a read.
    ///
    /// # Errors
    /// [`Barred`], as a protocol error.
    pub async fn read(
        &self,
        principal: &Principal,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        match self.spend(principal, Cost::Read).await {
            Ok(verdict) => {
                Told::note(context, verdict);
                Ok(())
            }
            Err(barred) => {
                Told::bar(context, &barred);
                Err(barred.into_protocol(principal))
            }
        }
    }

    /// Lets a subscription through. Over HTTP it was paid for before its answer began, see
    /// [`http`].
    ///
    /// # Errors
    /// [`Barred`], as a protocol error.
    pub async fn listen(&self, principal: &Principal) -> Result<(), ErrorData> {
        if principal.transport == Transport::Http {
            return Ok(());
        }
        let spent = self.spend(principal, Cost::Read).await;
        spent.map(drop).map_err(|barred| barred.into_protocol(principal))
    }

    /// Takes a cost from the caller's hour, where it is limited.
    async fn spend(&self, principal: &Principal, cost: Cost) -> Result<Option<Standing>, Barred> {
        let Some(inner) = self.0.as_deref() else { return Ok(None) };
        let Some(charge) = inner.charge(principal, cost) else { return Ok(None) };
        let admitted = inner.audit.admit(None, Some(charge)).await.map_err(Barred::Record)?;
        standing(admitted.verdict, cost)
    }

    /// Whether a call is let through whatever there is, and only put on record: a read by somebody
    /// without a limit, but not of the record itself, in which it is to be found.
    #[must_use]
    pub fn only_records(&self, principal: &Principal, call: Asked<'_>) -> bool {
        let limited = self.0.as_deref().and_then(|inner| inner.charge(principal, call.cost));
        limited.is_none() && call.cost == Cost::Read && call.of_run
    }

    /// Lets a call through that is to be on record: of a tool, or of what changes a run as one.
    ///
    /// # Errors
    /// [`Barred`].
    pub async fn enter(
        &self,
        principal: &Principal,
        call: Asked<'_>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Pass, Barred> {
        let Some(inner) = self.0.as_deref() else {
            return Ok(Pass { open: None, cost: call.cost });
        };
        let cost = call.cost;
        let charge = inner.charge(principal, cost);
        let unlimited_read = charge.is_none() && cost == Cost::Read;
        let admitted = match inner.audit.admit(Some(call.record(principal, context)), charge).await
        {
            Ok(admitted) => admitted,
            Err(AuditError::Db { said: why, .. }) if unlimited_read => {
                tracing::warn!(why, "a read is answered that is not on record");
                return Ok(Pass { open: None, cost });
            }
            Err(error) => {
                let barred = Barred::Record(error);
                Told::bar(context, &barred);
                return Err(barred);
            }
        };
        match standing(admitted.verdict, cost) {
            Ok(verdict) => Told::note(context, verdict),
            Err(barred) => {
                Told::bar(context, &barred);
                return Err(barred);
            }
        }
        Ok(Pass { open: admitted.open, cost })
    }
}

impl Inner {
    fn charge(&self, principal: &Principal, cost: Cost) -> Option<Charge> {
        let limit_tenths = quota::limit_tenths(principal, &self.rates)?;
        Some(Charge { user_id: principal.user_id.clone(), cost, limit_tenths })
    }
}

fn standing(verdict: Option<Verdict>, cost: Cost) -> Result<Option<Standing>, Barred> {
    match verdict {
        Some(Verdict::Refused { standing, .. }) => Err(Barred::Limit(standing, cost)),
        Some(Verdict::Granted(standing)) => Ok(Some(standing)),
        None => Ok(None),
    }
}

/// A call that asks to be let through.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    name: &'a str,
    arguments: Option<&'a JsonObject>,
    cost: Cost,
    /// Whether it is about the run that its arguments name.
    of_run: bool,
}

impl<'a> Asked<'a> {
    /// A call of a tool; `def` is absent where there is no such.
    #[must_use]
    pub fn tool(request: &'a CallToolRequestParams, def: Option<&'static ToolDef>) -> Asked<'a> {
        let changes = def.is_some_and(|def| def.effect != Effect::Reads);
        let cost = if changes { Cost::Write } else { Cost::Read };
        // By its own name, whatever alias it was called by.
        let name = def.map_or(request.name.as_ref(), |def| def.name);
        // Who looks for the calls about a run does not want to find the looking.
        let of_run = def.is_none_or(|def| def.family != Family::Audit);
        Asked { name, arguments: request.arguments.as_ref(), cost, of_run }
    }

    /// A request that changes a run and is no call of a tool.
    #[must_use]
    pub fn method(name: &'a str, arguments: &'a JsonObject) -> Asked<'a> {
        Asked { name, arguments: Some(arguments), cost: Cost::Write, of_run: true }
    }

    fn record(&self, principal: &Principal, context: &RequestContext<RoleServer>) -> Call {
        Call {
            adw_id: self.arguments.filter(|_| self.of_run).and_then(named_run),
            tool_name: audit::word(self.name),
            user_id: principal.user_id.clone(),
            tier: principal.tier,
            params: self.arguments.map_or_else(|| "{}".to_owned(), audit::params),
            transport: principal.transport.as_str().to_owned(),
            request_id: Some(audit::word(&request_id(context))),
        }
    }
}

/// The run that arguments name.
fn named_run(arguments: &JsonObject) -> Option<String> {
    let id = arguments.get("adw_id").or_else(|| arguments.get("taskId"))?;
    let id = match id {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    Some(audit::word(&id)).filter(|id| !id.is_empty())
}

impl Pass {
    /// Writes down how the call ended, behind its answer. What changed something is recorded as it
    /// ended, whether or not its client still listens; a read that nobody hears is `interrupted`.
    pub async fn leave(
        self,
        outcome: &Result<CallToolResponse, ErrorData>,
        context: &RequestContext<RoleServer>,
    ) {
        if context.ct.is_cancelled() && self.cost == Cost::Read {
            return;
        }
        if let Some(open) = self.open {
            open.close(end(outcome)).await;
        }
    }

    /// The same for a request that is no call of a tool.
    pub async fn leave_plainly(self, outcome: &Result<(), ErrorData>) {
        if let Some(open) = self.open {
            open.close(outcome.as_ref().map_or_else(protocol_end, |()| End::ok())).await;
        }
    }
}

fn end(outcome: &Result<CallToolResponse, ErrorData>) -> End {
    match outcome {
        Ok(CallToolResponse::Complete(result)) => of_result(result),
        Ok(CallToolResponse::Task(task)) => {
            End { adw_id: Some(audit::word(&task.task.task_id)), ..End::ok() }
        }
        Ok(_) => End::ok(),
        Err(error) => protocol_end(error),
    }
}

fn of_result(result: &CallToolResult) -> End {
    let value = result.structured_content.as_ref();
    let text = |path: &str| value?.pointer(path)?.as_str().map(audit::word);
    let adw_id = text("/adw_id");
    if result.is_error != Some(true) {
        return End { adw_id, ..End::ok() };
    }
    // A run that failed is an answer; what names no code of its own is an error all the same.
    let code = text("/error/code").or_else(|| text("/code"));
    End {
        status: refused_or_error(code.as_deref()),
        adw_id,
        error_code: code.or_else(|| Some("error".to_owned())),
    }
}

fn refused_or_error(code: Option<&str>) -> Status {
    match code {
        Some("not_allowed" | "disabled" | RATE_LIMITED) => Status::Refused,
        _ => Status::Error,
    }
}

fn protocol_end(error: &ErrorData) -> End {
    let named = error.data.as_ref().and_then(|data| data.get("code")).and_then(Value::as_str);
    let code = named.map_or_else(|| error.code.0.to_string(), audit::word);
    End { status: refused_or_error(named), adw_id: None, error_code: Some(code) }
}

impl Barred {
    /// The refusal of a call of a tool: over HTTP a protocol error, whose answer gets its status;
    /// elsewhere a result that says so.
    ///
    /// # Errors
    /// The protocol error.
    pub fn into_answer(self, principal: &Principal) -> Result<ToolError, ErrorData> {
        match (&self, principal.transport) {
            (Barred::Limit(..), Transport::Http) => Err(self.into_protocol(principal)),
            _ => Ok(self.into_error(principal)),
        }
    }

    fn into_error(self, principal: &Principal) -> ToolError {
        match self {
            Barred::Limit(standing, cost) => {
                let limit = calls(standing.limit_tenths);
                let never = cost.tenths() > standing.limit_tenths;
                let message = format!(
                    "Rate limit exceeded: {} ({} tier) may ask {limit} calls an hour, and {} are \
                     left; this one costs {}",
                    principal.user_id,
                    principal.tier.as_str(),
                    calls(standing.remaining_tenths),
                    calls(cost.tenths()),
                );
                let hint = if never {
                    "no hour is enough for it; ask for a greater limit".to_owned()
                } else {
                    format!(
                        "try again in {} s, or use a key of a higher tier",
                        seconds(standing.reset_ms())
                    )
                };
                let mut error = ToolError::new(RATE_LIMITED, message, hint);
                error.retry_after_ms = (!never).then(|| standing.reset_ms());
                error
            }
            Barred::Record(AuditError::Stopping) => {
                ToolError::new("stopping", "the daemon is stopping", "ask again in a few seconds")
            }
            Barred::Record(AuditError::Db { said, why }) => {
                tracing::error!(said, "a request is refused: it cannot be put on record");
                let why = why.map_or_else(String::new, |why| format!(" ({why})"));
                let message = format!("the call cannot be put on record{why}, so nothing was done");
                ToolError::new("database", message, DATABASE_HINT)
            }
        }
    }

    /// The refusal as a protocol error.
    #[must_use]
    pub fn into_protocol(self, principal: &Principal) -> ErrorData {
        let Barred::Limit(standing, _) = self else {
            return self.into_error(principal).into_protocol();
        };
        let error = self.into_error(principal);
        let data = json!({
            "code": error.code,
            "hint": error.hint,
            "retry_after_ms": error.retry_after_ms,
            "limit": standing.limit_tenths / TENTHS,
            "remaining": standing.remaining_tenths / TENTHS,
            "reset_at": standing.resets_at.rfc3339(),
        });
        ErrorData::new(LIMIT_EXCEEDED, error.message, Some(data))
    }
}

/// Tenths of a call as calls: `100`, `0.3`.
fn calls(tenths: i64) -> String {
    match tenths % TENTHS {
        0 => (tenths / TENTHS).to_string(),
        rest => format!("{}.{rest}", tenths / TENTHS),
    }
}

/// Whole seconds, rounded up: who waits so long has waited enough.
fn seconds(ms: i64) -> i64 {
    ms.max(0).saturating_add(999) / 1_000
}

#[cfg(test)]
mod tests;
