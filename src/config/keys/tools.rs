//! Which tools are offered.

use super::*;

pub(super) static KEYS: &[Key] =
    &[bool_key!("trigger_tools", &["MCP_ADW_TOOLS_ENABLED", "ADWD_TRIGGER_TOOLS"], tools.triggers)];
