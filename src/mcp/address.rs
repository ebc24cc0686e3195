//! Addresses of resources, of every family, and which changes they show.

use crate::changes::Changed;
use crate::mcp::runs::resources::RunUri;
use crate::mcp::writing::uri::WritingUri;

/// The address of something that can be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// Of the runs.
    Run(RunUri),
    /// Of the writing workflows.
    Writing(WritingUri),
}

impl Address {
    /// Reads an address; `None` for one that is of nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Address> {
        RunUri::parse(text)
            .map(Address::Run)
            .or_else(|| WritingUri::parse(text).map(Address::Writing))
    }

    /// Whether what is read here may be another after such a change.
    #[must_use]
    pub fn shows(&self, changed: &Changed) -> bool {
        match (self, changed) {
            (_, Changed::Lagged) => true,
            (Address::Run(uri), Changed::Run(id)) => uri.shows(id),
            (Address::Run(uri), Changed::Queue) => *uri == RunUri::Runs,
            (Address::Run(_), _) => false,
            (Address::Writing(uri), Changed::Writing(id)) => uri.shows(id),
            (Address::Writing(_), _) => false,
        }
    }
}

/// Whether the list of resources may be another after such a change.
#[must_use]
pub fn may_change_list(changed: &Changed) -> bool {
    matches!(changed, Changed::Run(_) | Changed::Project(_) | Changed::Writing(_) | Changed::Lagged)
}
