//! Step workflows: an LLM is handed one step after another against a token.
//!
//! This is the slice's handle. Everything above talks to [`Steps`] and to the plain data of
//! [`view`].

pub mod error;
pub mod template;
pub mod view;

pub use error::StepsError;
pub use template::{Agent, Complexity, Phase, Problem, Rule, Snapshot, Workflow};
pub use view::*;
