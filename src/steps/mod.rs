//! Step workflows: an LLM is handed one step after another against a token.
//!
//! This is the slice's handle. Everything above talks to [`Steps`] and to the plain data of
//! [`view`].

pub mod content_sql;
pub mod error;
pub mod front_matter;
pub mod globs;
pub mod guardrails;
pub mod library;
pub mod template;
pub mod view;
mod yaml;

pub use error::StepsError;
pub use library::{Library, LibraryDeps, SyncReport, WorkflowListing};
pub use template::{Agent, Complexity, Kind, Phase, Problem, Rule, Snapshot, Workflow};
pub use view::*;
