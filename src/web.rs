//! What HTTP carries beside MCP, and the guard before all of it.

mod guard;

pub use guard::{Guard, guarded};
