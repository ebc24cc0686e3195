//! Settings: what starts runs from outside, and who is told of their end.

use std::fmt;
use std::path::PathBuf;

use crate::cron::Cron;

/// What starts runs from outside, and who is told of their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutsideConfig {
    /// Webhooks of GitHub.
    pub github: GithubConfig,
    /// `[[schedule]]` entries.
    pub schedules: Vec<ScheduleConfig>,
    /// `[[hook]]` entries.
    pub hooks: Vec<HookConfig>,
}

/// A text that is never shown, not even for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    #[must_use]
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Webhooks of GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubConfig {
    /// File that holds the secret; goes before `secret`.
    pub secret_file: Option<PathBuf>,
    /// The secret.
    pub secret: Option<Secret>,
    /// The label that starts a run.
    pub label: String,
    /// Logins that may start runs whatever they are to the repository.
    pub authors: Vec<String>,
    /// What an author has to be to the repository (`author_association`).
    pub associations: Vec<String>,
}

/// What GitHub says that an author is to a repository.
pub const GITHUB_ASSOCIATIONS: [&str; 8] = [
    "OWNER",
    "MEMBER",
    "COLLABORATOR",
    "CONTRIBUTOR",
    "FIRST_TIME_CONTRIBUTOR",
    "FIRST_TIMER",
    "MANNEQUIN",
    "NONE",
];

impl Default for GithubConfig {
    fn default() -> GithubConfig {
        GithubConfig {
            secret_file: None,
            secret: None,
            label: "adw".to_owned(),
            authors: Vec::new(),
            associations: ["OWNER", "MEMBER", "COLLABORATOR"].map(str::to_owned).to_vec(),
        }
    }
}

/// What becomes of a moment that passed while no daemon ran, or while the machine slept.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    #[default]
    Skip,
    /// The last one of them is made good.
    Once,
}

/// A `[[schedule]]` entry: runs that start by the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// Its name.
    pub name: String,
    /// When.
    pub cron: Cron,
    /// The project; the only one served where absent.
    pub project: Option<String>,
    /// The issues.
    pub issues: Vec<String>,
    /// The phases; the project's where absent.
    pub phases: Option<Vec<String>>,
    /// The model.
    pub model: Option<String>,
    /// Whether it does anything.
    pub enabled: bool,
    /// What becomes of what was missed.
    pub catch_up: CatchUp,
}

/// In which form somebody is told.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum HookFormat {
    /// The run as JSON, signed.
    #[default]
    Json,
    /// A message as Slack and those compatible with it take it.
    Slack,
}

impl HookFormat {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            HookFormat::Json => "json",
            HookFormat::Slack => "slack",
        }
    }
}

/// The ends of a run that somebody can be told of.
pub const HOOK_EVENTS: [&str; 6] =
    ["completed", "failed", "cancelled", "timed_out", "skipped", "lost"];

/// A `[[hook]]` entry: somebody who is told when runs end.
#[derive(Clone, PartialEq, Eq)]
pub struct HookConfig {
    /// Its name.
    pub name: String,
    /// Where to; chat services keep their secret in it, so show only [`HookConfig::shown_url`].
    pub url: String,
    /// File that holds the secret; goes before `secret`.
    pub secret_file: Option<PathBuf>,
    /// The secret, `whsec_` and base64.
    pub secret: Option<Secret>,
    /// In which form.
    pub format: HookFormat,
    /// Of which ends, out of [`HOOK_EVENTS`].
    pub events: Vec<String>,
    /// Of which projects; empty: of all.
    pub projects: Vec<String>,
}

impl HookConfig {
    /// The address without what may be secret in it: scheme, host and port.
    #[must_use]
    pub fn shown_url(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let path = if rest.len() > host.len() + 1 { "/***" } else { "" };
        format!("{scheme}://{host}{path}")
    }
}

impl fmt::Debug for HookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookConfig({:?}, {})", self.name, self.shown_url())
    }
}
