//! The family of keys on the wire: tools alone. Whoever may not manage keys is not shown them.

pub mod calls;
pub mod table;
