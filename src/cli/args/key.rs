//! The words of `adwd key`.

use clap::{Args, Subcommand};

/// `key`.
#[derive(Clone, Debug, Subcommand)]
pub enum Key {
    /// Make a key; it is shown this once
    Create(CreateKey),
    /// List keys, newest first; never the keys themselves
    List,
    /// Make a key invalid, for good and at once
    Revoke {
        /// Id of the key, as `adwd key list` shows it
        id: String,
    },
    /// Give a key another secret, which is shown this once
    Rotate {
        /// Id of the key, as `adwd key list` shows it
        id: String,
        /// How long the secret before stays good too, such as 24h [default: not at all]
        #[arg(long, value_name = "TIME")]
        grace: Option<String>,
    },
}

/// `key create`.
#[derive(Clone, Debug, Args)]
pub struct CreateKey {
    /// free and solo read, team and enterprise work, admin (or owner) manages projects and keys
    #[arg(long, value_name = "TIER", value_parser = ["free", "solo", "team", "enterprise", "admin", "owner"])]
    pub tier: String,
    /// What people call it
    #[arg(long)]
    pub name: String,
    /// A project it is bound to, by name; may be repeated [default: all]
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// When it ends: 12h, 30d, a day (the whole of it, UTC), or a time [default: never]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Calls an hour, a read counting a tenth [default: those of its tier]
    #[arg(long, value_name = "N")]
    pub hourly: Option<i64>,
    /// What its runs may cost in a day, in US dollars
    #[arg(long, value_name = "USD")]
    pub day_budget: Option<f64>,
}
