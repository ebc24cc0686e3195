//! What HTTP carries beside MCP, and what stands before all of it: the loop that accepts
//! connections, the front (names, paths, sizes, times), and the guard (whose request it is).

mod certificate;
mod connection;
mod denial;
mod front;
mod guard;
mod health;
mod names;
mod oauth;
mod observe;
mod places;
mod process;
mod refusal;
mod serve;

pub use certificate::{Certificate, CertificateError};
pub use front::{Front, fronted};
pub use guard::{Guard, guarded};
pub use health::{Examiner, HealthDeps, Report};
pub use names::{Hosts, Origins, is_loopback};
pub use observe::{Observed, counted, open_routes, routes};
pub use serve::{Serving, serve};
