//! The command line's side of the wire: an MCP client named `adwd-cli` over the daemon's socket.
//!
//! The command line has no second protocol: what it can do, any MCP client can.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rmcp::ServiceExt as _;
use rmcp::handler::client::ClientHandler;
use rmcp::model::{
    CallToolRequestParams, ClientConfig, ErrorCode, Implementation, ProgressNotificationParam,
    ReadResourceRequestParams, ResourceContents,
};
use rmcp::service::{NotificationContext, RoleClient, RunningService, ServiceError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::sync::Notify;

/// The name by which the daemon knows that the shell asks.
pub const CLIENT_NAME: &str = "adwd-cli";

/// A daemon that accepted the connection must have greeted by then.
const HELLO_LIMIT_MS: u64 = 10_000;
/// Longest wait for an answer: above every bound that the daemon keeps itself.
const CALL_LIMIT_MS: u64 = 90_000;

/// What can go wrong between the command line and the daemon.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No daemon listens there.
    #[error("nothing listens on {}", socket.display())]
    Absent {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is there but cannot be used.
    #[error("cannot use the daemon's socket {}: {source}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The daemon's answer says what is wrong.
    #[error("{message}")]
    Refused {
        /// Stable word for programs.
        code: String,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The conversation failed.
    #[error("{tool}: {problem}")]
    Broken {
        /// The tool that was called, or `initialize`.
        tool: String,
        /// What happened.
        problem: String,
    },
}

/// A connection to the daemon; dropping it hangs up.
#[derive(Debug)]
pub struct Client {
    service: RunningService<RoleClient, Handler>,
    progress: Arc<Notify>,
}

/// Hears progress and nothing else.
#[derive(Clone, Debug)]
struct Handler {
    progress: Arc<Notify>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        config.client_info = Implementation::new(CLIENT_NAME, env!("CARGO_PKG_VERSION"));
        config
    }

    async fn on_progress(&self, _: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.notify_one();
    }
}

impl Client {
    /// Connects to the daemon that listens on `socket`.
    pub async fn connect(socket: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
            // A socket file without a listener is what a killed daemon leaves behind.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::Absent { socket: socket.to_path_buf() }
            }
            _ => ClientError::Socket { socket: socket.to_path_buf(), source },
        })?;
        let progress = Arc::new(Notify::new());
        let handler = Handler { progress: progress.clone() };
        let hello =
            tokio::time::timeout(Duration::from_millis(HELLO_LIMIT_MS), handler.serve(stream));
        let broken = |problem| ClientError::Broken { tool: "initialize".into(), problem };
        let service = hello
            .await
            .map_err(|_| broken(format!("the daemon did not greet within {HELLO_LIMIT_MS} ms")))?
            .map_err(|error| broken(error.to_string()))?;
        Ok(Client { service, progress })
    }

    /// Calls a tool and reads its structured answer as `T`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        tool: &'static str,
        arguments: Map<String, Value>,
    ) -> Result<T, ClientError> {
        let value = self.call_value(tool, arguments).await?;
        serde_json::from_value(value).map_err(|error| ClientError::Broken {
            tool: tool.into(),
            problem: format!("the answer is not of the expected form: {error} (is the daemon of another version?)"),
        })
    }

    /// Calls a tool and answers its structured content.
    pub async fn call_value(
        &self,
        tool: &'static str,
        arguments: Map<String, Value>,
    ) -> Result<Value, ClientError> {
        let broken = |problem: String| ClientError::Broken { tool: tool.into(), problem };
        let request = CallToolRequestParams::new(tool).with_arguments(arguments);
        let limit = Duration::from_millis(CALL_LIMIT_MS);
        let answer = tokio::time::timeout(limit, self.service.call_tool(request))
            .await
            .map_err(|_| broken(format!("no answer within {CALL_LIMIT_MS} ms")))?;
        let result = answer.map_err(|error| match error {
            ServiceError::McpError(error) => broken(error.message.into_owned()),
            ServiceError::TransportClosed => broken("the daemon hung up".into()),
            other => broken(other.to_string()),
        })?;
        let text = result.content.iter().find_map(|block| block.as_text()).map(|t| t.text.clone());
        let content = result
            .structured_content
            .or_else(|| text.as_deref().and_then(|text| serde_json::from_str(text).ok()));
        if result.is_error == Some(true) {
            return Err(refused(content.as_ref(), text));
        }
        content.ok_or_else(|| broken("the answer holds no structured content".into()))
    }

    /// Reads a resource as JSON.
    pub async fn read(&self, uri: &str) -> Result<Value, ClientError> {
        let text = self.read_text(uri).await?;
        serde_json::from_str(&text).map_err(|error| ClientError::Broken {
            tool: uri.into(),
            problem: format!("what is there is no JSON: {error}"),
        })
    }

    /// Reads a resource as text.
    pub async fn read_text(&self, uri: &str) -> Result<String, ClientError> {
        let broken = |problem: String| ClientError::Broken { tool: uri.into(), problem };
        let limit = Duration::from_millis(CALL_LIMIT_MS);
        let request = ReadResourceRequestParams::new(uri);
        let answer = tokio::time::timeout(limit, self.service.read_resource(request))
            .await
            .map_err(|_| broken(format!("no answer within {CALL_LIMIT_MS} ms")))?;
        let result = answer.map_err(|error| match error {
            // Its code depends on the revision that was agreed on.
            ServiceError::McpError(error)
                if matches!(
                    error.code,
                    ErrorCode::RESOURCE_NOT_FOUND | ErrorCode::INVALID_PARAMS
                ) =>
            {
                let code = error.data.as_ref().and_then(|data| data.get("code"));
                ClientError::Refused {
                    code: code.and_then(Value::as_str).unwrap_or("not_found").to_owned(),
                    message: error.message.trim_start_matches("Resource not found: ").to_owned(),
                    hint: None,
                }
            }
            ServiceError::McpError(error) => broken(error.message.into_owned()),
            ServiceError::TransportClosed => broken("the daemon hung up".into()),
            other => broken(other.to_string()),
        })?;
        match result.contents.into_iter().next() {
            Some(ResourceContents::TextResourceContents { text, .. }) => Ok(text),
            _ => Err(broken("the answer holds no text".into())),
        }
    }

    /// Returns when the daemon has told of progress since the last call.
    pub async fn progressed(&self) {
        self.progress.notified().await;
    }
}

/// A refusal in either form: `{error: {code, message, hint}}`, or `{code, error, hint}` as the tools
/// of step workflows say it.
fn refused(content: Option<&Value>, text: Option<String>) -> ClientError {
    let error = content.and_then(|c| c.get("error"));
    let (place, message) = match error {
        Some(Value::String(_)) => (content, "error"),
        other => (other, "message"),
    };
    let word =
        |key: &str| place.and_then(|e| e.get(key)).and_then(Value::as_str).map(str::to_owned);
    ClientError::Refused {
        code: word("code").unwrap_or_else(|| "refused".into()),
        message: word(message)
            .or(text)
            .unwrap_or_else(|| "the daemon refused without a reason".into()),
        hint: word("hint"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_is_read_from_the_structure_and_else_from_the_text() {
        let content =
            json!({"error": {"code": "unknown_run", "message": "no run", "hint": "list"}});
        let ClientError::Refused { code, message, hint } = refused(Some(&content), None) else {
            panic!()
        };
        assert_eq!(
            (code.as_str(), message.as_str(), hint.as_deref()),
            ("unknown_run", "no run", Some("list"))
        );
        let content =
            json!({"success": false, "code": "state_conflict", "error": "e", "hint": "h"});
        let ClientError::Refused { code, message, hint } = refused(Some(&content), None) else {
            panic!()
        };
        assert_eq!(
            (code.as_str(), message.as_str(), hint.as_deref()),
            ("state_conflict", "e", Some("h"))
        );
        let ClientError::Refused { code, message, .. } = refused(None, Some("said".into())) else {
            panic!()
        };
        assert_eq!((code.as_str(), message.as_str()), ("refused", "said"));
    }

    #[tokio::test]
    async fn an_absent_daemon_and_an_abandoned_socket_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        assert!(matches!(Client::connect(&socket).await, Err(ClientError::Absent { .. })));
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(matches!(Client::connect(&socket).await, Err(ClientError::Absent { .. })));
    }
}
