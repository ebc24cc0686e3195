//! What a webhook of GitHub asks for: signature, author, command. Pure.

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use crate::config::GithubConfig;

/// The header that proves a delivery.
pub const SIGNATURE: &str = "x-hub-signature-256";
/// The header that names a delivery; the same when it is sent again.
pub const DELIVERY: &str = "x-github-delivery";
/// The header that says what happened.
pub const EVENT: &str = "x-github-event";

/// The mark that our scripts put into their comments (`adw_modules/forge_github.py`).
const OWN_MARK: &str = "<!-- adwd:";

/// Whether `header` (`sha256=` and hexadecimal digits) is the signature of `body`. The comparison
/// takes the same time wherever they differ.
#[must_use]
pub fn is_signed(secret: &[u8], body: &[u8], header: &str) -> bool {
    let Some(given) = header.strip_prefix("sha256=").and_then(unhex) else { return false };
    // HMAC takes keys of any length: there is nothing in this that can fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
    mac.update(body);
    mac.verify_slice(&given).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// What a delivery asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// GitHub says hello.
    Ping,
    /// Nothing that is done here, and why.
    Nothing(String),
    /// Something.
    Order(Order),
}

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What to do.
    pub action: Action,
    /// The login of who asks.
    pub login: String,
    /// `host/owner/name`.
    pub repository: String,
    /// The issue, decimal.
    pub issue: String,
}

/// What to do with an issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run it.
    Run {
        /// The phases; the project's where none are named.
        phases: Option<Vec<String>>,
        /// The model.
        model: Option<String>,
    },
    /// End its run.
    Cancel,
    /// Go on with its run.
    Resume,
}

impl Action {
    /// Its word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Action::Run { .. } => "run",
            Action::Cancel => "cancel",
            Action::Resume => "resume",
        }
    }
}

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    label: Option<Label>,
    issue: Option<Issue>,
    comment: Option<Comment>,
    sender: Option<User>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Label {
    name: String,
}

#[derive(Deserialize)]
struct Issue {
    number: u64,
    state: Option<String>,
    user: Option<User>,
    author_association: Option<String>,
    pull_request: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Comment {
    body: Option<String>,
    user: Option<User>,
    author_association: Option<String>,
}

#[derive(Deserialize)]
struct User {
    login: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
    html_url: Option<String>,
}

impl User {
    fn is_bot(&self) -> bool {
        self.kind.as_deref() == Some("Bot") || self.login.ends_with("[bot]")
    }
}

impl Repository {
    /// `host/owner/name`.
    fn name(&self) -> String {
        let url = self.html_url.as_deref().and_then(|url| url.split_once("://"));
        let host = url.and_then(|(_, rest)| rest.split('/').next()).unwrap_or("github.com");
        format!("{host}/{}", self.full_name)
    }
}

/// Reads a delivery whose signature is right.
///
/// # Errors
/// What is wrong with the body, in words.
pub fn read(config: &GithubConfig, event: &str, body: &[u8]) -> Result<Asked, String> {
    if event == "ping" {
        return Ok(Asked::Ping);
    }
    if !matches!(event, "issues" | "issue_comment") {
        return Ok(Asked::Nothing(format!(
            "events {event:?} start nothing; send issues and issue_comment alone"
        )));
    }
    let payload: Payload = serde_json::from_slice(body)
        .map_err(|error| format!("the body is no delivery of GitHub's: {error}"))?;
    let missing = |what: &str| format!("the body is no delivery of GitHub's: it has no {what}");
    let issue = payload.issue.as_ref().ok_or_else(|| missing("issue"))?;
    let repository = payload.repository.as_ref().ok_or_else(|| missing("repository"))?;
    let sender = payload.sender.as_ref().ok_or_else(|| missing("sender"))?;
    let nothing = |why: String| Ok(Asked::Nothing(why));
    if issue.pull_request.is_some() {
        return nothing(format!("{} is a pull request, not an issue", issue.number));
    }
    let wanted = match event {
        "issues" => labelled(config, &payload, issue, sender),
        _ => commented(config, &payload, sender),
    };
    let (action, login) = match wanted {
        Ok(wanted) => wanted,
        Err(why) => return nothing(why),
    };
    // A run of what is done already would be paid for and thrown away.
    if matches!(action, Action::Run { .. }) && issue.state.as_deref() == Some("closed") {
        return nothing(format!("issue {} is closed", issue.number));
    }
    Ok(Asked::Order(Order {
        action,
        login,
        repository: repository.name(),
        issue: issue.number.to_string(),
    }))
}

/// An issue that got the label.
fn labelled(
    config: &GithubConfig,
    payload: &Payload,
    issue: &Issue,
    sender: &User,
) -> Result<(Action, String), String> {
    let action = payload.action.as_deref().unwrap_or_default();
    if action != "labeled" {
        return Err(format!("issues {action:?} start nothing; a label does"));
    }
    let label = payload.label.as_ref().map_or("", |label| label.name.as_str());
    if !label.eq_ignore_ascii_case(&config.label) {
        return Err(format!("label {label:?} starts nothing; {:?} does", config.label));
    }
    // Putting a label on an issue takes the triage role, except by a form that puts it on what a
    // stranger writes: then the sender is the issue's author, and GitHub says what that one is.
    // Where it does not say whose the issue is, it may be the sender's.
    let is_sender = |user: &User| user.login.eq_ignore_ascii_case(&sender.login);
    let own = issue.user.as_ref().is_none_or(is_sender);
    let association = match own {
        true => issue.author_association.as_deref().unwrap_or("NONE"),
        false => "COLLABORATOR",
    };
    allowed(config, sender, association)?;
    Ok((Action::Run { phases: None, model: None }, sender.login.clone()))
}

/// A comment that may hold a command.
fn commented(
    config: &GithubConfig,
    payload: &Payload,
    sender: &User,
) -> Result<(Action, String), String> {
    let action = payload.action.as_deref().unwrap_or_default();
    if action != "created" {
        return Err(format!("comments {action:?} do nothing; new ones do"));
    }
    let Some(comment) = &payload.comment else { return Err("there is no comment".to_owned()) };
    let body = comment.body.as_deref().unwrap_or_default();
    let author = comment.user.as_ref().unwrap_or(sender);
    if body.contains(OWN_MARK) {
        return Err("the comment is one of our own".to_owned());
    }
    let action = match command(body) {
        None => return Err("the comment does not begin with /adw".to_owned()),
        Some(action) => action,
    };
    // Before the command is judged: who may not ask learns nothing of what could be asked.
    allowed(config, author, comment.author_association.as_deref().unwrap_or("NONE"))?;
    Ok((action?, author.login.clone()))
}

fn allowed(config: &GithubConfig, user: &User, association: &str) -> Result<(), String> {
    let login = &user.login;
    if user.is_bot() {
        return Err(format!("{login} is a bot"));
    }
    let named = config.authors.iter().any(|name| name.eq_ignore_ascii_case(login));
    if named || config.associations.iter().any(|word| word == association) {
        return Ok(());
    }
    Err(format!(
        "{login} ({association}) may not: github.authors and github.associations say who may"
    ))
}

/// The command in the first line of a comment: `/adw run [PHASE,…] [model=NAME]`, `/adw cancel`,
/// `/adw resume`. `None`: there is none; an error says what is wrong with it.
#[must_use]
pub fn command(body: &str) -> Option<Result<Action, String>> {
    let mut words = body.lines().next()?.split_whitespace();
    if words.next() != Some("/adw") {
        return None;
    }
    let verb = words.next().unwrap_or("run");
    let rest: Vec<&str> = words.collect();
    Some(match (verb, rest.as_slice()) {
        ("run", rest) => run(rest),
        ("cancel", []) => Ok(Action::Cancel),
        ("resume", []) => Ok(Action::Resume),
        ("cancel" | "resume", _) => Err(format!("/adw {verb} takes no words after it")),
        (other, _) => Err(format!(
            "there is no /adw {}; there are /adw run [PHASE,...] [model=NAME], /adw cancel, /adw resume",
            clipped(other)
        )),
    })
}

fn run(words: &[&str]) -> Result<Action, String> {
    let (mut phases, mut model) = (None, None);
    for word in words {
        match word.split_once('=') {
            Some(("model", name)) if !name.is_empty() && model.is_none() => {
                model = Some(name.to_owned());
            }
            None if phases.is_none() => {
                let list: Vec<String> =
                    word.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect();
                phases = Some(list).filter(|list| !list.is_empty());
            }
            _ => {
                return Err(format!(
                    "/adw run does not take {}; it takes phases with commas (plan,build) and model=NAME",
                    clipped(word)
                ));
            }
        }
    }
    Ok(Action::Run { phases, model })
}

/// What a stranger wrote, short and quoted.
fn clipped(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

#[cfg(test)]
#[path = "github_tests.rs"]
mod tests;
