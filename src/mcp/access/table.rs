//! The tools over keys: names, words and arguments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::{Action, KeyList, KeyView, ShownKey};
use crate::limits::{ACCESS_DAY_BUDGET_USD, ACCESS_HOURLY_COUNT};
use crate::mcp::args::{Field, Kind, may, need};
use crate::mcp::schema;
use crate::mcp::tools::{Effect, Family, ToolDef};

/// Words of `tier`.
pub const TIERS: [&str; 6] = ["free", "solo", "team", "enterprise", "admin", "owner"];

/// A key that was just made.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct MadeKey {
    /// The key, and what is known about it.
    #[serde(flatten)]
    pub key: ShownKey,
    /// Projects that it is bound to and that this daemon does not serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_served: Vec<String>,
}

const ID: Field = need("id", Kind::Id, "Id of the key, as list_access_keys shows it; not the key.");

/// All tools, in the order in which they are listed.
pub static TOOLS: &[ToolDef] = &[
    ToolDef {
        name: "create_access_key",
        title: "Make a key",
        about: "Makes a key for a client over HTTP. The answer holds it, this once: it is stored \
                nowhere, so hand it on at once and write it nowhere else. Nobody can make a key of \
                a tier above their own.",
        fields: &[
            need(
                "tier",
                Kind::Word(&TIERS),
                "free and solo read, team and enterprise work, admin (or owner) manages projects \
                 and keys.",
            ),
            need("name", Kind::Text, "What people call it, such as \"dashboard\"."),
            may("projects", Kind::List, "Projects it is bound to; others do not exist for it."),
            may(
                "expires",
                Kind::Text,
                "When it ends: \"30d\", \"12h\", a day or an RFC 3339 time.",
            ),
            may(
                "hourly",
                Kind::Int(1, ACCESS_HOURLY_COUNT),
                "Calls an hour, where not those of its tier. A read counts a tenth.",
            ),
            may(
                "day_budget_usd",
                Kind::Real(0, ACCESS_DAY_BUDGET_USD),
                "What its runs may cost in a day, in US dollars.",
            ),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Access,
        action: Action::ManageKeys,
        answer: schema::answer::<MadeKey>,
    },
    ToolDef {
        name: "list_access_keys",
        title: "List keys",
        about: "The keys, newest first: tier, projects, state (good, expired, revoked), last use to \
                the minute. Never the keys themselves.",
        fields: &[],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Access,
        action: Action::ManageKeys,
        answer: schema::answer::<KeyList>,
    },
    ToolDef {
        name: "revoke_access_key",
        title: "Revoke a key",
        about: "Makes a key invalid for good, at once; event streams opened with it end. One that \
                is revoked already is answered as it is.",
        fields: &[ID],
        aliases: &[],
        effect: Effect::Ends,
        family: Family::Access,
        action: Action::ManageKeys,
        answer: schema::answer::<KeyView>,
    },
    ToolDef {
        name: "rotate_access_key",
        title: "Give a key another secret",
        about: "The same key, with another secret, which the answer holds this once. The one before \
                is invalid at once, or after grace.",
        fields: &[
            ID,
            may(
                "grace",
                Kind::Text,
                "How long the secret before stays good, such as \"24h\"; at most 30d.",
            ),
        ],
        aliases: &[],
        effect: Effect::Decides,
        family: Family::Access,
        action: Action::ManageKeys,
        answer: schema::answer::<ShownKey>,
    },
];
