//! The family of step workflows on the wire: tools, resources, prompts, in the dialects of both
//! seeds.

pub mod calls;
pub mod completion;
pub mod dialect;
mod lists;
pub mod prompts;
pub mod reads;
pub mod resources;
pub mod shapes;
pub mod table;
pub mod uri;
