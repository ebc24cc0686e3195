//! What is asked and answered about keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A key to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewKey {
    /// The tier's word; `owner` stands for `admin`.
    pub tier: String,
    /// What people call it.
    pub name: String,
    /// Projects that it is bound to; none: all.
    pub projects: Vec<String>,
    /// When it ends: `30d`, `12h`, a day, a moment; none: never.
    pub expires: Option<String>,
    /// Calls an hour; none: what its tier may.
    pub hourly: Option<i64>,
    /// US dollars a day.
    pub day_budget_usd: Option<f64>,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Its tier: free, solo, team, enterprise or admin.
    pub tier: String,
    /// good, expired or revoked.
    pub state: String,
    /// Projects that it is bound to; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<Vec<String>>,
    /// Calls an hour, where they are its own and not its tier's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hourly: Option<i64>,
    /// US dollars a day, where it has a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_budget_usd: Option<f64>,
    /// When it was made.
    pub created_at: String,
    /// By whom.
    pub created_by: String,
    /// When it ends or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it last got another secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<String>,
    /// Until when the secret before is good too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret_until: Option<String>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
}

/// A key with its secret: shown this once.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShownKey {
    /// The key itself. It is shown this once and stored nowhere.
    pub key: String,
    /// What is known about it.
    #[serde(flatten)]
    pub facts: KeyView,
}

/// Secrets are not shown.
impl std::fmt::Debug for ShownKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ShownKey({})", self.facts.id)
    }
}

/// All keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyList {
    /// The keys, newest first.
    pub keys: Vec<KeyView>,
}
