//! Settings: which tools are offered.

use std::collections::BTreeSet;
use std::fmt;

/// Which tools are offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolsConfig {
    /// Whether the tools that start runs are offered at all.
    pub triggers: bool,
    /// What a connection is shown that does not choose.
    pub toolsets: Toolsets,
}

impl Default for ToolsConfig {
    fn default() -> ToolsConfig {
        ToolsConfig { triggers: true, toolsets: Toolsets::default() }
    }
}

/// Tools, resources and prompts that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Toolset {
    /// Runs: issue numbers become pull requests.
    Adw,
    /// Step workflows.
    Steps,
    /// Series of books.
    Writing,
    /// Projects, keys, and what everybody asked.
    Admin,
}

impl Toolset {
    /// Every set, in the order in which they are told.
    pub const ALL: [Toolset; 4] = [Toolset::Adw, Toolset::Steps, Toolset::Writing, Toolset::Admin];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Toolset::Adw => "adw",
            Toolset::Steps => "steps",
            Toolset::Writing => "writing",
            Toolset::Admin => "admin",
        }
    }
}

/// Some of the toolsets, at least one. Written `adw,steps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolsets(BTreeSet<Toolset>);

impl Toolsets {
    /// The sets of these words.
    ///
    /// # Errors
    /// Which word is none, or that there is none, and what would be right.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Toolsets, String> {
        let known = || Toolset::ALL.map(Toolset::as_str).join(", ");
        let mut sets = BTreeSet::new();
        for word in words {
            let set = Toolset::ALL.into_iter().find(|set| set.as_str() == word);
            let clipped: String = word.chars().take(40).collect();
            sets.insert(
                set.ok_or_else(|| format!("unknown toolset {clipped:?}; known: {}", known()))?,
            );
        }
        if sets.is_empty() {
            return Err(format!("expected at least one toolset of {}", known()));
        }
        Ok(Toolsets(sets))
    }

    /// The sets of a list with commas.
    ///
    /// # Errors
    /// As [`Toolsets::of`].
    pub fn parse(text: &str) -> Result<Toolsets, String> {
        Toolsets::of(text.split(',').map(str::trim).filter(|word| !word.is_empty()))
    }

    /// Whether the set is among them.
    #[must_use]
    pub fn has(&self, set: Toolset) -> bool {
        self.0.contains(&set)
    }
}

impl Default for Toolsets {
    /// All that a model works with. Those that manage are called by name by the command line, and
    /// shown to nobody who does not ask.
    fn default() -> Toolsets {
        Toolsets(BTreeSet::from([Toolset::Adw, Toolset::Steps, Toolset::Writing]))
    }
}

impl fmt::Display for Toolsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|set| set.as_str()).collect();
        f.write_str(&words.join(","))
    }
}
