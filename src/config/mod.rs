//! Settings: built-in defaults < file < environment < flags.
//!
//! What nobody understands is refused, with the place and the nearest right name, because a
//! misspelt limit that is silently ignored is worse than a daemon that does not start. Where every
//! value came from is kept, so that `adwd config` can say it.

mod error;
mod file;
mod keys;
mod tables;
mod types;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::{ConfigError, Source};
pub use types::*;

use crate::telemetry::{MASK, redact};
use keys::{KEYS, check_socket};
use value::{Base, Input};

/// Variables that begin like settings and are none: switches of tests and of the daemon's own
/// helper processes.
const INTERNAL_ENV_PREFIXES: [&str; 2] = ["ADWD_TEST_", "ADWD_INTERNAL_"];

/// Variables that clients read, as the README has them: who keeps a key in the environment has it
/// there when `adwd` itself is called too.
const CLIENT_ENV: [&str; 2] = ["ADWD_KEY", "ADWD_URL"];

/// The environment variable that names the configuration file.
const CONFIG_ENV: &str = "ADWD_CONFIG";

/// The flags that every subcommand takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Flags {
    /// Configuration file [default: $XDG_CONFIG_HOME/adwd/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for what must survive: database, lock, state
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Folder for the socket
    #[arg(long, global = true, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Unix socket [default: RUNTIME_DIR/adwd.sock]
    #[arg(long, global = true, value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// Address and port of the HTTP endpoint [default: 127.0.0.1:7117]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub http_bind: Option<String>,
    /// No HTTP endpoint, only the socket
    #[arg(long, global = true)]
    pub no_http: bool,
    /// Database: sqlite:PATH or postgres://… [default: STATE_DIR/adwd.db]
    #[arg(long, global = true, value_name = "URL")]
    pub database: Option<String>,
    /// What to log: trace, debug, info, warn, error, off, or directives
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// Whether a setting's value is never shown, in whatever form it was given.
fn is_secret(key: &str) -> bool {
    key == "otlp.headers" || key.ends_with("secret")
}

/// One value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key, as in the file: `http.bind`; `project.NAME`, `profile.NAME`, `schedule.NAME`,
    /// `hook.NAME` and `content.NUMBER` for entries.
    pub key: String,
    /// The value, secrets masked.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// A configuration and the origin of its values.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The origins: every key once, in a fixed order.
    pub provenance: Vec<Setting>,
}

impl Config {
    /// Reads the file and puts the sources together. `env` is the whole environment, read once by
    /// `main`.
    ///
    /// Errors: a named file that is missing, an unknown key or `ADWD_*` variable, a value of the
    /// wrong type or out of range.
    pub fn load(flags: &Flags, env: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let places = Places::find(env);
        let base = Base { home: places.home.clone(), folder: here };
        refuse_unknown_env(env)?;
        let (config_file, required) = config_file(flags, env, &places, &base)?;
        let folder = config_file.parent().unwrap_or(Path::new("/")).to_path_buf();
        let file_base = Base { folder, ..base.clone() };
        let file = file::read(&config_file, required, &file_base)?;

        let mut draft = Draft::new();
        for (index, input, source) in &file.settings {
            draft.set(*index, input, source.clone(), &file_base)?;
        }
        for (index, key) in KEYS.iter().enumerate() {
            for name in key.env {
                if let Some(value) = env.get(*name) {
                    let source = Source::Env((*name).to_owned());
                    draft.set(index, &Input::Text(value.clone()), source, &base)?;
                }
            }
        }
        for (key, flag, value) in flag_values(flags) {
            let index = KEYS.iter().position(|known| known.name == key).unwrap_or_default();
            draft.set(index, &Input::Text(value), Source::Flag(flag.to_owned()), &base)?;
        }
        draft.config.paths.config_file = config_file;
        draft.derive_paths(&places)?;
        Ok(draft.finish(file))
    }
}

/// The configuration while it is being put together.
struct Draft {
    config: Config,
    sources: Vec<Source>,
}

impl Draft {
    fn new() -> Draft {
        Draft { config: Config::default(), sources: vec![Source::Default; KEYS.len()] }
    }

    fn set(
        &mut self,
        index: usize,
        input: &Input,
        source: Source,
        base: &Base,
    ) -> Result<(), ConfigError> {
        let key = &KEYS[index];
        (key.set)(&mut self.config, input, base).map_err(|problem| ConfigError::Invalid {
            key: key.name.to_owned(),
            source_at: source.clone(),
            given: match is_secret(key.name) {
                true => MASK.to_owned(),
                false => redact(&input.shown()).into_owned(),
            },
            problem,
        })?;
        self.sources[index] = source;
        Ok(())
    }

    /// Fills the paths that nobody set, from those that were.
    fn derive_paths(&mut self, places: &Places) -> Result<(), ConfigError> {
        let paths = &mut self.config.paths;
        let fill = |path: &mut PathBuf, default: PathBuf| {
            if path.as_os_str().is_empty() {
                *path = default;
            }
        };
        fill(&mut paths.state_dir, places.state_dir.clone());
        fill(&mut paths.runtime_dir, places.runtime_dir.clone());
        fill(&mut paths.socket, paths.runtime_dir.join("adwd.sock"));
        fill(&mut paths.log_dir, paths.state_dir.join("logs"));
        if paths.database_url.is_empty() {
            paths.database_url = format!("sqlite:{}", paths.state_dir.join("adwd.db").display());
        }
        check_socket(&paths.socket).map_err(|problem| ConfigError::Invalid {
            key: "socket".to_owned(),
            source_at: Source::Default,
            given: paths.socket.display().to_string(),
            problem,
        })
    }

    fn finish(mut self, file: file::File) -> Loaded {
        let shown = KEYS.iter().zip(self.sources).map(|(key, source)| Setting {
            key: key.name.to_owned(),
            value: redact(&(key.get)(&self.config)).into_owned(),
            source,
        });
        let mut provenance: Vec<Setting> = shown.collect();
        for (project, source) in file.projects {
            provenance.push(Setting {
                key: format!("project.{}", project.name),
                value: project.path.display().to_string(),
                source,
            });
            self.config.projects.push(project);
        }
        for (profile, source) in file.profiles {
            let name = profile.get("name").and_then(toml::Value::as_str).unwrap_or("?");
            let value = redact(&profile.to_string()).replace('\n', " ");
            provenance.push(Setting { key: format!("profile.{name}"), value, source });
            self.config.profiles.push(profile);
        }
        for (number, (content, source)) in file.contents.into_iter().enumerate() {
            let key = format!("content.{}", number + 1);
            let value = content.path.display().to_string();
            provenance.push(Setting { key, value, source });
            self.config.contents.push(content);
        }
        for (schedule, source) in file.schedules {
            let (key, cron) = (format!("schedule.{}", schedule.name), &schedule.cron);
            let value = format!("{} {}", cron.text(), cron.zone_name());
            provenance.push(Setting { key, value, source });
            self.config.outside.schedules.push(schedule);
        }
        for (hook, source) in file.hooks {
            let (key, value) = (format!("hook.{}", hook.name), hook.shown_url());
            provenance.push(Setting { key, value, source });
            self.config.outside.hooks.push(hook);
        }
        Loaded { config: self.config, provenance }
    }
}

/// Where things are by convention.
struct Places {
    home: PathBuf,
    config_dir: PathBuf,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
}

impl Places {
    fn find(env: &BTreeMap<String, String>) -> Places {
        let uid = nix::unistd::getuid();
        // The XDG rules: a relative path there is as good as none.
        let absolute =
            |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let passwd = || nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.dir);
        let private = PathBuf::from(format!("/tmp/adwd-{uid}"));
        let home = absolute("HOME").or_else(passwd).unwrap_or_else(|| private.clone());
        let xdg = |name: &str, default: &str| {
            absolute(name).unwrap_or_else(|| home.join(default)).join("adwd")
        };
        let run_user = PathBuf::from(format!("/run/user/{uid}"));
        let runtime_dir = absolute("XDG_RUNTIME_DIR")
            .or_else(|| run_user.is_dir().then_some(run_user))
            .map_or(private, |folder| folder.join("adwd"));
        Places {
            config_dir: xdg("XDG_CONFIG_HOME", ".config"),
            state_dir: xdg("XDG_STATE_HOME", ".local/state"),
            runtime_dir,
            home,
        }
    }
}

/// The file, and whether it has to exist: one that was named has to.
fn config_file(
    flags: &Flags,
    env: &BTreeMap<String, String>,
    places: &Places,
    base: &Base,
) -> Result<(PathBuf, bool), ConfigError> {
    let (text, source_at) = match (&flags.config, env.get(CONFIG_ENV)) {
        (Some(path), _) => {
            (path.to_string_lossy().into_owned(), Source::Flag("--config".to_owned()))
        }
        (None, Some(text)) => (text.clone(), Source::Env(CONFIG_ENV.to_owned())),
        (None, None) => return Ok((places.config_dir.join("config.toml"), false)),
    };
    let path = base.path(&text).map_err(|problem| ConfigError::Invalid {
        key: "config".to_owned(),
        source_at,
        given: format!("{text:?}"),
        problem,
    })?;
    Ok((path, true))
}

fn refuse_unknown_env(env: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let known = || KEYS.iter().flat_map(|key| key.env.iter().copied()).chain([CONFIG_ENV]);
    for name in env.keys().filter(|name| name.starts_with("ADWD_")) {
        let other = INTERNAL_ENV_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || CLIENT_ENV.contains(&name.as_str());
        if !other && !known().any(|known| known == name) {
            let nearest = error::nearest(name, known());
            return Err(ConfigError::UnknownEnv { name: name.clone(), nearest });
        }
    }
    Ok(())
}

/// The settings among the flags: key, flag, value.
fn flag_values(flags: &Flags) -> Vec<(&'static str, &'static str, String)> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
    let given = [
        ("state_dir", "--state-dir", path(&flags.state_dir)),
        ("runtime_dir", "--runtime-dir", path(&flags.runtime_dir)),
        ("socket", "--socket", path(&flags.socket)),
        ("http.bind", "--http-bind", flags.http_bind.clone()),
        ("http.enabled", "--no-http", flags.no_http.then(|| "false".to_owned())),
        ("database_url", "--database", flags.database.clone()),
        ("logs.level", "--log-level", flags.log_level.clone()),
    ];
    given.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?))).collect()
}

#[cfg(test)]
mod tests;
