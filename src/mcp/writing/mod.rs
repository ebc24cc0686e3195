//! The family of writing workflows on the wire: tools, resources, prompts.

pub mod calls;
pub mod completion;
pub mod error;
pub mod prompts;
pub mod resources;
pub mod table;
pub mod uri;
