//! Settings: what starts runs from outside, and who is told of their end.

/// What starts runs from outside, and who is told of their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutsideConfig {}
