//! What HTTP carries beside MCP, and the guard before all of it.

mod guard;
mod oauth;
mod refusal;

pub use guard::{Guard, guarded};
