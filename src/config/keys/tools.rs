//! Which tools are offered.

use super::*;
use crate::config::Toolsets;

pub(super) static KEYS: &[Key] = &[
    bool_key!("trigger_tools", &["MCP_ADW_TOOLS_ENABLED", "ADWD_TRIGGER_TOOLS"], tools.triggers),
    key(
        "toolsets",
        &["ADWD_TOOLSETS"],
        |c, v, _| {
            c.tools.toolsets = Toolsets::of(v.list()?.iter().map(String::as_str))?;
            Ok(())
        },
        |c| c.tools.toolsets.to_string(),
    ),
];
