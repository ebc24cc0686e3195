//! Settings: which tools are offered.

/// Which tools are offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolsConfig {
    /// Whether the tools that start runs are offered at all.
    pub triggers: bool,
}

impl Default for ToolsConfig {
    fn default() -> ToolsConfig {
        ToolsConfig { triggers: true }
    }
}
