//! Settings: what is told to those who watch the daemon.

/// What is told to those who watch the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObserveConfig {}
