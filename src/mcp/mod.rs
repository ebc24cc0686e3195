//! The MCP layer: one handler for every transport, in every revision of the protocol.
//!
//! Only this folder names rmcp's server. Below it nobody knows MCP; what is here knows neither
//! SQL nor processes, only the handles of the slices and plain data.

pub mod address;
pub mod args;
pub mod bounds;
pub mod caller;
pub mod completion;
pub mod error;
pub mod health;
pub mod prompts;
pub mod resources;
pub mod runs;
pub mod schema;
pub mod server;
pub mod steps;
pub mod subscriptions;
pub mod tools;
pub mod transport;
pub mod writing;

pub use health::{Health, no_health};
pub use server::{AdwServer, McpDeps};
pub use transport::{HttpConfig, bridge, http_router, http_router_of, serve_http, serve_unix};
