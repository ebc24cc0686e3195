//! The MCP layer: one handler for every transport, in every revision of the protocol.
//!
//! Only this folder names rmcp's server. Below it nobody knows MCP; what is here knows neither
//! SQL nor processes, only the handles of the slices and plain data.

pub mod access;
pub mod address;
pub mod args;
pub mod audit;
pub mod bounds;
pub mod callable;
pub mod caller;
pub mod completion;
pub mod error;
#[cfg(debug_assertions)]
mod fault;
pub mod gate;
pub mod greeting;
pub mod health;
pub mod prompts;
pub mod resources;
pub mod runs;
pub mod schema;
pub mod server;
pub mod shown;
pub mod steps;
mod streams;
pub mod subscriptions;
pub mod tools;
pub mod transport;
pub mod weight;
pub mod writing;

pub use gate::Gate;
pub use health::{Health, no_health};
pub use server::{AdwServer, McpDeps};
pub use shown::Hello;
pub use transport::{HTTP_PATH, HttpConfig, bridge, http_router, http_router_of, serve_unix};
