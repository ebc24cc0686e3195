//! Reading one value, whether it stands in the file or is text from the environment or a flag.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::limits::CONFIG_LIST_MAX_COUNT;

/// A value before it has a type.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// From the file.
    Toml(toml::Value),
    /// From the environment or a flag.
    Text(String),
}

/// How paths in a value are completed.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// What `~` stands for.
    pub home: PathBuf,
    /// What a relative path is relative to: the file's folder, or the working directory.
    pub folder: PathBuf,
}

impl Base {
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() || text.contains('\0') {
            return Err("expected a path".to_owned());
        }
        let path = match text.strip_prefix('~') {
            Some("") => self.home.clone(),
            Some(rest) if rest.starts_with('/') => self.home.join(rest.trim_start_matches('/')),
            Some(_) => return Err("~USER is not supported: write the path in full".to_owned()),
            None => self.folder.join(text),
        };
        Ok(clean(&path))
    }
}

/// Removes `.` components, so that equal paths look equal. `..` stays: it may cross a link.
fn clean(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != std::path::Component::CurDir).collect()
}

impl Input {
    /// The value as a person wrote it.
    pub(super) fn shown(&self) -> String {
        match self {
            Input::Toml(value) => value.to_string(),
            Input::Text(text) => format!("{text:?}"),
        }
    }

    pub(super) fn text(&self) -> Result<String, String> {
        match self {
            Input::Toml(toml::Value::String(text)) => Ok(text.clone()),
            Input::Toml(_) => Err("expected text in quotes".to_owned()),
            Input::Text(text) => Ok(text.clone()),
        }
    }

    pub(super) fn bool(&self) -> Result<bool, String> {
        let expected = || "expected true or false".to_owned();
        match self {
            Input::Toml(value) => value.as_bool().ok_or_else(expected),
            Input::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(true),
                "false" | "0" | "no" | "off" => Ok(false),
                _ => Err(expected()),
            },
        }
    }

    /// A switch: `on` and `off`, or anything that is true or false.
    pub(super) fn bool_or_switch(&self) -> Result<bool, ()> {
        match self {
            Input::Toml(toml::Value::String(text)) => Input::Text(text.clone()).bool(),
            other => other.bool(),
        }
        .map_err(drop)
    }

    pub(super) fn whole(&self, range: &RangeInclusive<u64>) -> Result<u64, String> {
        let expected =
            || format!("expected a whole number from {} to {}", range.start(), range.end());
        let number = match self {
            Input::Toml(value) => value.as_integer().and_then(|n| u64::try_from(n).ok()),
            Input::Text(text) => text.trim().parse().ok(),
        };
        number.filter(|n| range.contains(n)).ok_or_else(expected)
    }

    /// A number with or without a fraction.
    pub(super) fn number(&self, range: &RangeInclusive<f64>) -> Result<f64, String> {
        let expected = || format!("expected a number from {} to {}", range.start(), range.end());
        let number = match self {
            Input::Toml(toml::Value::Integer(n)) => i32::try_from(*n).ok().map(f64::from),
            Input::Toml(value) => value.as_float(),
            Input::Text(text) => text.trim().parse().ok(),
        };
        number.filter(|n| range.contains(n)).ok_or_else(expected)
    }

    pub(super) fn list(&self) -> Result<Vec<String>, String> {
        let list = match self {
            Input::Toml(toml::Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .ok_or("expected a list of texts, as in [\"a\", \"b\"]")?,
            Input::Toml(_) => return Err("expected a list, as in [\"a\", \"b\"]".to_owned()),
            Input::Text(text) => text
                .split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
        };
        if list.len() > CONFIG_LIST_MAX_COUNT {
            return Err(format!("expected at most {CONFIG_LIST_MAX_COUNT} entries"));
        }
        Ok(list)
    }
}
