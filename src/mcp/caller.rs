//! What a request says about who sent it: client, correlation id, idempotency key.
//!
//! All of it is a claim, good for provenance and for retries, never for permission.

use rmcp::RoleServer;
use rmcp::model::JsonObject;
use rmcp::service::RequestContext;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::bounds::CALL_ID_MAX_CHARS;
use crate::auth::{Action, Principal};
use crate::runs::Caller;

/// The name by which the command line introduces itself.
pub const CLI_CLIENT_NAME: &str = "adwd-cli";

/// Key of `_meta` that says on whose behalf a run is triggered; heard on the socket only.
pub const TRIGGERED_BY_KEY: &str = "adwd/triggeredBy";

/// What [`TRIGGERED_BY_KEY`] may say.
const TRIGGERED_BY: [&str; 4] = ["webhook", "cron", "slash_command", "cli"];

/// The clients' own names for one call, and the client kind each stands for.
const CALL_IDS: [(&str, &str); 3] =
    [("claudecode/toolUseId", "claude-code"), ("callId", "codex"), ("mcp_request_id", "mcp")];

/// Parts of Codex's turn metadata that tell its sessions apart: local models number their calls
/// `call_0`, `call_1`… anew in each.
const SESSION_KEYS: [&str; 3] = ["session_id", "thread_id", "turn_id"];

/// The caller of a request as the runs slice knows callers.
#[must_use]
pub fn caller(principal: &Principal, context: &RequestContext<RoleServer>) -> Caller {
    Caller {
        user_id: principal.user_id.clone(),
        triggered_by: triggered_by(principal, &context.meta, client_name(context).as_deref()),
        tier: principal.tier.as_str().to_owned(),
        transport: principal.transport.as_str().to_owned(),
        request_id: Some(request_id(context)),
    }
}

/// Whether the command line itself is calling, by its own word: good only on the socket, whose every
/// peer is the owner and could run `adwd trigger` as well.
#[must_use]
pub fn says_it_is_the_shell(context: &RequestContext<RoleServer>) -> bool {
    client_name(context).as_deref() == Some(CLI_CLIENT_NAME)
}

/// The client's own name for the call, else the request's id.
#[must_use]
pub fn request_id(context: &RequestContext<RoleServer>) -> String {
    call_id(&context.meta).map_or_else(|| context.id.to_string(), |(_, id)| id.to_owned())
}

fn client_name(context: &RequestContext<RoleServer>) -> Option<String> {
    context.client_info().map(|client| client.name)
}

fn triggered_by(principal: &Principal, meta: &JsonObject, client: Option<&str>) -> String {
    let named = meta.get(TRIGGERED_BY_KEY).and_then(Value::as_str);
    match named {
        Some(word) if principal.allows(Action::NameTrigger) && TRIGGERED_BY.contains(&word) => {
            word.to_owned()
        }
        _ if client == Some(CLI_CLIENT_NAME) => "cli".to_owned(),
        _ => "mcp".to_owned(),
    }
}

/// The client's own id of this call, with the client kind.
fn call_id(meta: &JsonObject) -> Option<(&'static str, &str)> {
    CALL_IDS.iter().find_map(|(key, kind)| {
        meta.get(*key)
            .and_then(Value::as_str)
            .filter(|id| !id.is_empty() && id.chars().count() <= CALL_ID_MAX_CHARS)
            .map(|id| (*kind, id))
    })
}

/// The key under which a retried trigger gets the first answer: the caller's own, else the
/// client's id of the call.
///
/// A client's call id was not made for us and may repeat in another session, so the arguments go
/// into the key: the worst a repeated id can do is answer the same question with the same run.
#[must_use]
pub fn idempotency_key(
    explicit: Option<String>,
    principal: &Principal,
    meta: &JsonObject,
    tool: &str,
    arguments: &JsonObject,
) -> Option<String> {
    if let Some(key) = explicit.filter(|key| !key.is_empty()) {
        return Some(format!("key:{}:{key}", principal.user_id));
    }
    let (kind, id) = call_id(meta)?;
    let mut digest = Sha256::new();
    digest.update(tool.as_bytes());
    for (name, value) in sorted(arguments) {
        digest.update([0]);
        digest.update(name.as_bytes());
        digest.update([0]);
        digest.update(value.to_string().as_bytes());
    }
    digest.update(session(meta).as_bytes());
    let hash: String = digest.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    Some(format!("{kind}:{}:{id}:{hash}", principal.user_id))
}

fn sorted(arguments: &JsonObject) -> Vec<(&String, &Value)> {
    let mut pairs: Vec<_> = arguments.iter().filter(|(_, value)| !value.is_null()).collect();
    pairs.sort_by_key(|(name, _)| name.as_str());
    pairs
}

fn session(meta: &JsonObject) -> String {
    let turn = match meta.get("x-codex-turn-metadata") {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
        Some(other) => other.clone(),
        None => Value::Null,
    };
    SESSION_KEYS
        .iter()
        .filter_map(|key| turn.get(*key).and_then(Value::as_str))
        .fold(String::new(), |all, part| all + "\u{0}" + part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> JsonObject {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn who_triggered_it_is_mcp_unless_the_command_line_or_the_socket_says_otherwise() {
        let (unix, http) = (Principal::unix(1), Principal::loopback(true));
        let none = object(json!({}));
        let cron = object(json!({ TRIGGERED_BY_KEY: "cron" }));
        let odd = object(json!({ TRIGGERED_BY_KEY: "manual" }));
        assert_eq!(triggered_by(&unix, &none, Some("claude-code")), "mcp");
        assert_eq!(triggered_by(&unix, &none, Some(CLI_CLIENT_NAME)), "cli");
        assert_eq!(triggered_by(&unix, &cron, Some(CLI_CLIENT_NAME)), "cron");
        assert_eq!(triggered_by(&http, &cron, None), "mcp");
        assert_eq!(triggered_by(&unix, &odd, None), "mcp");
    }

    #[test]
    fn the_explicit_key_wins_and_a_call_id_is_bound_to_its_arguments() {
        let user = Principal::unix(1);
        let meta = object(json!({ "claudecode/toolUseId": "toolu_1" }));
        let (one, two) =
            (object(json!({ "issue_number": 1 })), object(json!({ "issue_number": 2 })));
        let key = |explicit: Option<&str>, meta: &JsonObject, args: &JsonObject| {
            idempotency_key(explicit.map(str::to_owned), &user, meta, "t", args)
        };
        assert_eq!(key(Some("k"), &meta, &one).unwrap(), "key:uid:1:k");
        assert!(key(None, &meta, &one).unwrap().starts_with("claude-code:uid:1:toolu_1:"));
        assert_eq!(key(None, &meta, &one), key(None, &meta, &one));
        assert_ne!(key(None, &meta, &one), key(None, &meta, &two));
        assert_eq!(key(None, &object(json!({})), &one), None);
        assert_eq!(key(Some(""), &object(json!({})), &one), None);
    }

    #[test]
    fn sessions_that_number_their_calls_alike_do_not_meet() {
        let user = Principal::loopback(true);
        let args = object(json!({ "issue_number": 1 }));
        let of = |session: &str, as_text: bool| {
            let turn = json!({ "session_id": session, "sandbox": "x" });
            let turn = if as_text { json!(turn.to_string()) } else { turn };
            let meta = object(json!({ "callId": "call_0", "x-codex-turn-metadata": turn }));
            idempotency_key(None, &user, &meta, "t", &args).unwrap()
        };
        assert_ne!(of("a", false), of("b", false));
        assert_eq!(of("a", false), of("a", true));
    }
}
