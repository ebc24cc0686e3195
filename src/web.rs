//! What HTTP carries beside MCP, and the guard before all of it.

mod guard;
mod health;
mod observe;
mod process;

pub use guard::{Guard, guarded};
pub use health::{Examiner, HealthDeps, Report};
pub use observe::{Observed, counted, open_routes, routes};
