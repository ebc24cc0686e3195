//! The family of runs on the wire: tools, resources, prompts, tasks.

pub mod calls;
pub mod completion;
pub mod prompts;
pub mod resources;
pub mod table;
pub mod tasks;
pub mod wait;
