//! The configuration file: TOML with the place of every key.

use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Source, nearest};
use super::keys::{KEYS, check_env_pattern};
use super::tables::{self, HOOK_KEYS, Problem, SCHEDULE_KEYS};
use super::types::{ContentConfig, HookConfig, PROJECT_KEYS, ProjectConfig, ScheduleConfig};
use super::value::{Base, Input};
use crate::limits::{
    CONFIG_CONTENTS_MAX_COUNT, CONFIG_FILE_MAX_BYTES, CONFIG_PROJECTS_MAX_COUNT,
    OUTSIDE_TABLES_COUNT,
};

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Settings of the table of keys: index in [`KEYS`], value, place.
    pub settings: Vec<(usize, Input, Source)>,
    /// `[[project]]` entries with their places.
    pub projects: Vec<(ProjectConfig, Source)>,
    /// `[[profile]]` entries with their places.
    pub profiles: Vec<(toml::Value, Source)>,
    /// `[[content]]` entries with their places.
    pub contents: Vec<(ContentConfig, Source)>,
    /// `[[schedule]]` entries with their places.
    pub schedules: Vec<(ScheduleConfig, Source)>,
    /// `[[hook]]` entries with their places.
    pub hooks: Vec<(HookConfig, Source)>,
}

/// The arrays of tables that are no settings of their own.
const LISTS: [&str; 5] = ["project", "profile", "content", "schedule", "hook"];

/// Reads a file. `required`: whether its absence is an error.
pub(super) fn read(path: &Path, required: bool, base: &Base) -> Result<File, ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
            return Ok(File::default());
        }
        Err(error) => return Err(fail(error)),
    };
    let mut text = String::new();
    file.take(CONFIG_FILE_MAX_BYTES + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > CONFIG_FILE_MAX_BYTES {
        let problem = format!("the file is larger than {CONFIG_FILE_MAX_BYTES} bytes");
        let source_at = Source::File(path.to_path_buf(), None);
        return Err(ConfigError::Syntax { source_at, problem });
    }
    Reader { path, text: &text, base }.file()
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    base: &'a Base,
}

impl Reader<'_> {
    fn file(&self) -> Result<File, ConfigError> {
        let root = DeTable::parse(self.text).map_err(|error| self.syntax(&error))?;
        let values: toml::Table = toml::from_str(self.text).map_err(|error| self.syntax(&error))?;
        let mut file = File::default();
        for (key, value) in root.get_ref() {
            let name = key.get_ref().as_ref();
            let at = self.at(key.span().start);
            let Some(plain) = values.get(name) else { continue };
            match name {
                "project" => self.projects(value, plain, at, &mut file)?,
                "profile" => {
                    for (entry, at) in self.entries("profile", value, plain, at)? {
                        file.profiles.push((entry.1.clone(), at));
                    }
                }
                "content" => self.contents(value, plain, at, &mut file)?,
                "schedule" => {
                    let entries = self.entries(name, value, plain, at)?;
                    let read = |value: &toml::Value| tables::schedule(value);
                    file.schedules = self.outside("schedule", &SCHEDULE_KEYS, entries, read)?;
                    self.once(&file.schedules, |schedule| &schedule.name)?;
                }
                "hook" => {
                    let entries = self.entries(name, value, plain, at)?;
                    let read = |value: &toml::Value| tables::hook(value, self.base);
                    file.hooks = self.outside("hook", &HOOK_KEYS, entries, read)?;
                    self.once(&file.hooks, |hook| &hook.name)?;
                }
                _ => self.setting(name, at, value.get_ref(), plain, &mut file)?,
            }
        }
        Ok(file)
    }

    /// A setting, or a table of them, under its full name.
    fn setting(
        &self,
        name: &str,
        at: Source,
        spans: &DeValue<'_>,
        value: &toml::Value,
        file: &mut File,
    ) -> Result<(), ConfigError> {
        if let Some(index) = KEYS.iter().position(|key| key.name == name) {
            file.settings.push((index, Input::Toml(value.clone()), at));
            return Ok(());
        }
        let prefix = format!("{name}.");
        let is_table = KEYS.iter().any(|key| key.name.starts_with(&prefix));
        match (spans.as_table(), value.as_table()) {
            (Some(spans), Some(values)) if is_table => {
                for (key, spans) in spans {
                    let part = key.get_ref().as_ref();
                    let Some(value) = values.get(part) else { continue };
                    let at = self.at(key.span().start);
                    self.setting(&format!("{prefix}{part}"), at, spans.get_ref(), value, file)?;
                }
                Ok(())
            }
            _ if is_table => {
                let problem = format!("{name} is a table: write [{name}] and its settings below");
                Err(ConfigError::Syntax { source_at: at, problem })
            }
            _ => {
                let known = KEYS.iter().map(|key| key.name).chain(LISTS);
                Err(ConfigError::UnknownKey {
                    key: name.to_owned(),
                    source_at: at,
                    nearest: nearest(name, known),
                })
            }
        }
    }

    /// The entries of an array of tables, each with its place.
    #[allow(clippy::type_complexity)]
    fn entries<'v>(
        &self,
        name: &str,
        spans: &'v Spanned<DeValue<'v>>,
        value: &'v toml::Value,
        at: Source,
    ) -> Result<Vec<((&'v DeTable<'v>, &'v toml::Value), Source)>, ConfigError> {
        let problem = || format!("{name} is a list of tables: write [[{name}]]");
        let wrong = |source_at| ConfigError::Syntax { source_at, problem: problem() };
        let (Some(spans), Some(values)) = (spans.get_ref().as_array(), value.as_array()) else {
            return Err(wrong(at));
        };
        let mut entries = Vec::new();
        for (spans, value) in spans.iter().zip(values) {
            let at = self.at(spans.span().start);
            let Some(table) = spans.get_ref().as_table() else { return Err(wrong(at)) };
            entries.push(((table, value), at));
        }
        Ok(entries)
    }

    fn projects(
        &self,
        spans: &Spanned<DeValue<'_>>,
        value: &toml::Value,
        at: Source,
        file: &mut File,
    ) -> Result<(), ConfigError> {
        for ((table, value), at) in self.entries("project", spans, value, at)? {
            for key in table.keys() {
                let name = key.get_ref().as_ref();
                if !PROJECT_KEYS.contains(&name) {
                    return Err(ConfigError::UnknownKey {
                        key: format!("project.{name}"),
                        source_at: self.at(key.span().start),
                        nearest: nearest(name, PROJECT_KEYS.into_iter()),
                    });
                }
            }
            let project = self.project(table, value, &at)?;
            if file.projects.iter().any(|(other, _)| other.name == project.name) {
                let name = project.name.to_string();
                return Err(ConfigError::DuplicateProject { name, source_at: at });
            }
            if file.projects.len() == CONFIG_PROJECTS_MAX_COUNT {
                let problem = format!("more than {CONFIG_PROJECTS_MAX_COUNT} projects");
                return Err(ConfigError::Syntax { source_at: at, problem });
            }
            file.projects.push((project, at));
        }
        Ok(())
    }

    fn project(
        &self,
        table: &DeTable<'_>,
        value: &toml::Value,
        at: &Source,
    ) -> Result<ProjectConfig, ConfigError> {
        let mut project: ProjectConfig = value.clone().try_into().map_err(|error| {
            // serde names the field but not the line: the first key it names is the place.
            let problem = toml::de::Error::message(&error).trim().to_owned();
            let named = table.keys().find(|key| self.is_at_fault(value, key.get_ref()));
            let source_at = named.map_or_else(|| at.clone(), |key| self.at(key.span().start));
            let key = named.map(|key| format!("{} = ", key.get_ref())).unwrap_or_default();
            ConfigError::Syntax { source_at, problem: format!("project: {key}{problem}") }
        })?;
        let invalid = |key: &str, given: String, problem: String| {
            let at_key = table.keys().find(|name| name.get_ref().as_ref() == key);
            let source_at = at_key.map_or_else(|| at.clone(), |key| self.at(key.span().start));
            ConfigError::Invalid { key: format!("project.{key}"), source_at, given, problem }
        };
        let path = project.path.to_string_lossy().into_owned();
        project.path = self.base.path(&path).map_err(|problem| invalid("path", path, problem))?;
        for pattern in &project.env_allow {
            check_env_pattern(pattern).map_err(|e| invalid("env_allow", pattern.clone(), e))?;
        }
        if project.max_running == Some(0) {
            return Err(invalid("max_running", "0".to_owned(), "expected 1 or more".to_owned()));
        }
        if let Some(budget) = project.agent_budget_usd.filter(|b| !b.is_finite() || *b <= 0.0) {
            let problem = "expected an amount above 0".to_owned();
            return Err(invalid("agent_budget_usd", budget.to_string(), problem));
        }
        for (key, budget) in
            [("budget_run_usd", project.budget_run_usd), ("budget_day_usd", project.budget_day_usd)]
        {
            if let Some(budget) = budget.filter(|b| !(0.0..=1_000_000.0).contains(b)) {
                let problem = "expected 0 (no limit) or more, up to 1000000".to_owned();
                return Err(invalid(key, budget.to_string(), problem));
            }
        }
        Ok(project)
    }

    fn contents(
        &self,
        spans: &Spanned<DeValue<'_>>,
        value: &toml::Value,
        at: Source,
        file: &mut File,
    ) -> Result<(), ConfigError> {
        for ((table, value), at) in self.entries("content", spans, value, at)? {
            if let Some(key) = table.keys().find(|key| key.get_ref().as_ref() != "path") {
                return Err(ConfigError::UnknownKey {
                    key: format!("content.{}", key.get_ref()),
                    source_at: self.at(key.span().start),
                    nearest: nearest(key.get_ref(), ["path"].into_iter()),
                });
            }
            let given = value.get("path").map(toml::Value::to_string).unwrap_or_default();
            let text = value.get("path").and_then(toml::Value::as_str);
            let path = text.ok_or("expected path = \"FOLDER\"".to_owned());
            let path = path.and_then(|text| self.base.path(text)).map_err(|problem| {
                let source_at = at.clone();
                ConfigError::Invalid { key: "content.path".to_owned(), source_at, given, problem }
            })?;
            if file.contents.len() == CONFIG_CONTENTS_MAX_COUNT {
                let problem = format!("more than {CONFIG_CONTENTS_MAX_COUNT} content folders");
                return Err(ConfigError::Syntax { source_at: at, problem });
            }
            if file.contents.iter().any(|(other, _)| other.path == path) {
                let problem = format!("content: {} is there twice", path.display());
                return Err(ConfigError::Syntax { source_at: at, problem });
            }
            file.contents.push((ContentConfig { path }, at));
        }
        Ok(())
    }

    /// Tables of what comes from outside, or goes there.
    #[allow(clippy::type_complexity)]
    fn outside<T>(
        &self,
        name: &str,
        known: &[&'static str],
        entries: Vec<((&DeTable<'_>, &toml::Value), Source)>,
        read: impl Fn(&toml::Value) -> Result<T, Problem>,
    ) -> Result<Vec<(T, Source)>, ConfigError> {
        let mut found = Vec::new();
        for ((table, value), at) in entries {
            if let Some(key) = table.keys().find(|key| !known.contains(&key.get_ref().as_ref())) {
                return Err(ConfigError::UnknownKey {
                    key: format!("{name}.{}", key.get_ref()),
                    source_at: self.at(key.span().start),
                    nearest: nearest(key.get_ref(), known.iter().copied()),
                });
            }
            let entry = read(value).map_err(|wrong| {
                let place = table.keys().find(|key| key.get_ref().as_ref() == wrong.key);
                let source_at = place.map_or_else(|| at.clone(), |key| self.at(key.span().start));
                let key = format!("{name}.{}", wrong.key);
                match wrong.given.as_str() {
                    "" => ConfigError::Syntax {
                        source_at,
                        problem: format!("{key}: {}", wrong.problem),
                    },
                    given => ConfigError::Invalid {
                        key,
                        source_at,
                        given: given.to_owned(),
                        problem: wrong.problem,
                    },
                }
            })?;
            if found.len() == OUTSIDE_TABLES_COUNT {
                let problem = format!("more than {OUTSIDE_TABLES_COUNT} [[{name}]] tables");
                return Err(ConfigError::Syntax { source_at: at, problem });
            }
            found.push((entry, at));
        }
        Ok(found)
    }

    /// Insists that no name is there twice.
    fn once<T>(
        &self,
        entries: &[(T, Source)],
        name: impl Fn(&T) -> &String,
    ) -> Result<(), ConfigError> {
        for (at, (entry, source)) in entries.iter().enumerate() {
            if entries[..at].iter().any(|(before, _)| name(before) == name(entry)) {
                let problem =
                    format!("the name {:?} is there twice; names must differ", name(entry));
                return Err(ConfigError::Syntax { source_at: source.clone(), problem });
            }
        }
        Ok(())
    }

    /// Whether the entry would be read without this key, or with only it and what is required.
    fn is_at_fault(&self, value: &toml::Value, key: &str) -> bool {
        let mut probe = toml::Table::new();
        probe.insert("name".to_owned(), "probe".into());
        probe.insert("path".to_owned(), "probe".into());
        let Some(own) = value.get(key) else { return false };
        probe.insert(key.to_owned(), own.clone());
        toml::Value::Table(probe).try_into::<ProjectConfig>().is_err()
    }

    fn at(&self, offset: usize) -> Source {
        Source::File(self.path.to_path_buf(), Some(line_of(self.text, offset)))
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let path: PathBuf = self.path.to_path_buf();
        let line = error.span().map(|span| line_of(self.text, span.start));
        let problem = error.message().replace('\n', ", ");
        ConfigError::Syntax { source_at: Source::File(path, line), problem }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
