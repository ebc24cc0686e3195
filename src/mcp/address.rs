//! Addresses of resources, of every family, and which changes they show.

use crate::changes::Changed;
use crate::config::Toolset;
use crate::mcp::bounds::URI_MAX_BYTES;
use crate::mcp::health::HEALTH_URI;
use crate::mcp::runs::resources::RunUri;
use crate::mcp::steps::uri::StepUri;
use crate::mcp::writing::uri::WritingUri;

/// The address of something that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Of the runs.
    Run(RunUri),
    /// Of step workflows.
    Step(StepUri),
    /// Of the writing workflows.
    Writing(WritingUri),
    /// Of the daemon itself.
    Health,
}

impl Address {
    /// Reads an address; an error says why there can be nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Address, String> {
        if text.len() > URI_MAX_BYTES {
            let bytes = text.len();
            return Err(format!("it has {bytes} bytes, and an address at most {URI_MAX_BYTES}"));
        }
        if let Some(address) = StepUri::parse(text) {
            return address.map(Address::Step);
        }
        if text == HEALTH_URI {
            return Ok(Address::Health);
        }
        let run = || RunUri::parse(text).map(Address::Run);
        let writing = || WritingUri::parse(text).map(Address::Writing);
        run().or_else(writing).ok_or_else(|| {
            "it is no address of this server; resources/list and resources/templates/list show \
             those that are"
                .to_owned()
        })
    }

    /// The set that it is listed with.
    #[must_use]
    pub fn toolset(&self) -> Toolset {
        match self {
            Address::Run(_) | Address::Health => Toolset::Adw,
            Address::Step(_) => Toolset::Steps,
            Address::Writing(_) => Toolset::Writing,
        }
    }

    /// Whether what is read here may be another after such a change.
    #[must_use]
    pub fn shows(&self, changed: &Changed) -> bool {
        match (self, changed) {
            (_, Changed::Lagged) => true,
            (Address::Run(uri), Changed::Run(id)) => uri.shows(id),
            (Address::Run(uri), Changed::Queue) => *uri == RunUri::Runs,
            (Address::Run(_), _) => false,
            (Address::Step(uri), changed) => uri.shows(changed),
            (Address::Writing(uri), Changed::Writing(id)) => uri.shows(id),
            (Address::Writing(_) | Address::Health, _) => false,
        }
    }
}

/// Whether the list of resources may be another after such a change.
#[must_use]
pub fn may_change_list(changed: &Changed) -> bool {
    matches!(
        changed,
        Changed::Run(_)
            | Changed::Project(_)
            | Changed::Execution(_)
            | Changed::Content
            | Changed::Writing(_)
            | Changed::Lagged
    )
}

/// Whether the list of prompts may be another after such a change.
#[must_use]
pub fn may_change_prompts(changed: &Changed) -> bool {
    matches!(changed, Changed::Content | Changed::Lagged)
}
