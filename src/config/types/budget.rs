//! Settings: what may be spent.

/// What may be spent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BudgetConfig {}
