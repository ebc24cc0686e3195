//! `[[schedule]]` and `[[hook]]` tables. A problem names its key, so that the reader of the file can
//! name the line.

use super::types::{CatchUp, HOOK_EVENTS, HookConfig, HookFormat, ScheduleConfig, Secret};
use super::value::{Base, Input};
use crate::cron::Cron;
use crate::ids::{IssueNumber, PhaseName, ProjectName};
use crate::limits::{OUTSIDE_SCHEDULE_ISSUES_COUNT, OUTSIDE_URL_MAX_CHARS};

/// The names a `[[schedule]]` table may hold.
pub(super) const SCHEDULE_KEYS: [&str; 9] =
    ["name", "cron", "time_zone", "project", "issues", "phases", "model", "enabled", "catch_up"];
/// The names a `[[hook]]` table may hold.
pub(super) const HOOK_KEYS: [&str; 7] =
    ["name", "url", "secret_file", "secret", "format", "events", "projects"];

/// What is wrong in a table: the key, the value (nothing where it is secret or absent), what is
/// right.
#[derive(Debug)]
pub(super) struct Problem {
    pub key: &'static str,
    pub given: String,
    pub problem: String,
}

type Read<T> = Result<T, Problem>;

/// The fields of one table.
struct Table<'t>(&'t toml::Value);

impl Table<'_> {
    fn problem(&self, key: &'static str, problem: impl Into<String>) -> Problem {
        let shown = |value: &toml::Value| value.to_string();
        let secret = key == "secret" || key == "url";
        let given = self.0.get(key).filter(|_| !secret).map(shown).unwrap_or_default();
        Problem { key, given, problem: problem.into() }
    }

    /// A field of any kind, by the function that reads it.
    fn read<T>(
        &self,
        key: &'static str,
        read: impl Fn(&Input) -> Result<T, String>,
    ) -> Read<Option<T>> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        read(&Input::Toml(value.clone())).map(Some).map_err(|problem| self.problem(key, problem))
    }

    fn text(&self, key: &'static str) -> Read<Option<String>> {
        self.read(key, |value| {
            value.text().and_then(|text| {
                let fits = !text.trim().is_empty() && !text.chars().any(char::is_control);
                if fits { Ok(text) } else { Err("expected a text".to_owned()) }
            })
        })
    }

    fn needed(&self, key: &'static str, example: &str) -> Read<String> {
        let missing = || self.problem(key, format!("it is missing: write {key} = {example}"));
        self.text(key)?.ok_or_else(missing)
    }

    fn name(&self) -> Read<String> {
        let name = self.needed("name", "\"nightly\"")?;
        let name = name.parse::<ProjectName>();
        name.map(|n| n.to_string())
            .map_err(|e| self.problem("name", format!("expected {}", e.expected)))
    }

    /// One of some words.
    fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Read<Option<T>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let known = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let all = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ");
        known.map(Some).ok_or_else(|| self.problem(key, format!("expected {all}")))
    }
}

/// A `[[schedule]]` table.
pub(super) fn schedule(value: &toml::Value) -> Read<ScheduleConfig> {
    let table = Table(value);
    let name = table.name()?;
    let text = table.needed("cron", "\"0 3 * * *\"")?;
    let zone = table.text("time_zone")?.unwrap_or_else(|| "UTC".to_owned());
    let cron = Cron::parse(&text, &zone).map_err(|problem| {
        let key = if problem.contains("time zone") { "time_zone" } else { "cron" };
        table.problem(key, problem)
    })?;
    let issues = table.read("issues", issues)?;
    let issues = issues.ok_or_else(|| {
        table.problem("issues", "they are missing: write issues = [42], the numbers of issues")
    })?;
    let phases = table.read("phases", |value| {
        let phases = value.list()?;
        phases.iter().try_for_each(|phase| match phase.parse::<PhaseName>() {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        })?;
        if phases.is_empty() {
            return Err("expected at least one phase, or no such line for all".to_owned());
        }
        Ok(phases)
    })?;
    Ok(ScheduleConfig {
        name,
        cron,
        project: table.text("project")?,
        issues,
        phases,
        model: table.text("model")?,
        enabled: table.read("enabled", Input::bool)?.unwrap_or(true),
        catch_up: table
            .word("catch_up", &[("skip", CatchUp::Skip), ("once", CatchUp::Once)])?
            .unwrap_or_default(),
    })
}

/// Issue numbers, as numbers or as texts.
fn issues(value: &Input) -> Result<Vec<String>, String> {
    let wrong = || "expected a list of issue numbers, as in [42, 7]".to_owned();
    let Input::Toml(toml::Value::Array(items)) = value else { return Err(wrong()) };
    if items.is_empty() || items.len() > OUTSIDE_SCHEDULE_ISSUES_COUNT {
        return Err(format!("expected 1 to {OUTSIDE_SCHEDULE_ISSUES_COUNT} issue numbers"));
    }
    let mut found: Vec<String> = vec![];
    for item in items {
        let text = match item {
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::String(text) => text.clone(),
            _ => return Err(wrong()),
        };
        let issue = text.parse::<IssueNumber>().map_err(|e| e.to_string())?.to_string();
        if found.contains(&issue) {
            return Err(format!("issue {issue} is there twice"));
        }
        found.push(issue);
    }
    Ok(found)
}

/// A `[[hook]]` table.
pub(super) fn hook(value: &toml::Value, base: &Base) -> Read<HookConfig> {
    let table = Table(value);
    let name = table.name()?;
    let url = table.needed("url", "\"https://…\"")?;
    check_url(&url).map_err(|problem| table.problem("url", problem))?;
    let format = table
        .word("format", &[("json", HookFormat::Json), ("slack", HookFormat::Slack)])?
        .unwrap_or_default();
    let secret_file = table.read("secret_file", |value| base.path(&value.text()?))?;
    let secret = table.text("secret")?.map(Secret::new);
    if format == HookFormat::Json && secret_file.is_none() && secret.is_none() {
        let problem = "it is missing: write secret_file = \"PATH\"; the file holds whsec_ and the output of `openssl rand -base64 32`";
        return Err(table.problem("secret_file", problem));
    }
    let events = table.read("events", |value| {
        let events = value.list()?;
        let unknown = events.iter().find(|event| !HOOK_EVENTS.contains(&event.as_str()));
        match unknown {
            Some(event) => Err(format!("{event:?} is none of {}", HOOK_EVENTS.join(", "))),
            None if events.is_empty() => Err("expected at least one".to_owned()),
            None => Ok(events),
        }
    })?;
    Ok(HookConfig {
        name,
        url,
        secret_file,
        secret,
        format,
        events: events.unwrap_or_else(|| HOOK_EVENTS.map(str::to_owned).to_vec()),
        projects: table.read("projects", Input::list)?.unwrap_or_default(),
    })
}

fn check_url(text: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(text).map_err(|e| format!("it is no URL ({e})"))?;
    let plain = url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        _ if text.chars().count() > OUTSIDE_URL_MAX_CHARS => {
            Err(format!("expected at most {OUTSIDE_URL_MAX_CHARS} characters"))
        }
        "http" | "https" if !url.has_host() => Err("it names no host".to_owned()),
        "http" | "https" if !plain => {
            Err("expected no user and no password in it: the signature is the proof".to_owned())
        }
        "http" | "https" => Ok(()),
        other => Err(format!("expected https:// or http://, not {other}:")),
    }
}
