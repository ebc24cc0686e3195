//! Commands that need no daemon: config, service, completions.

use clap::CommandFactory as _;
use serde_json::json;

use super::args::{Cli, Config, Service, ServiceOptions};
use super::fail::{Fail, chain, exit};
use super::link::{Cx, absolute_flags};
use crate::config::Source;
use crate::out::{Out, Tone, cell, toned};
use crate::runs::profile;
use crate::runs::project::Project;
use crate::service::{self, Installed, Manager, UnitSpec};

/// The commented file that `adwd config example` prints; a test keeps it complete and valid.
pub const EXAMPLE: &str = include_str!("example.toml");

/// `adwd config`.
pub fn config(cx: &Cx, given: &Config) -> Result<u8, Fail> {
    let file = &cx.config().paths.config_file;
    match given {
        Config::Show => {
            let settings = &cx.loaded.provenance;
            if cx.out.is_json() {
                let all: Vec<_> = settings
                    .iter()
                    .map(
                        |s| json!({"key": s.key, "value": s.value, "source": s.source.to_string()}),
                    )
                    .collect();
                cx.out.json(&json!({"config_file": file, "settings": all}));
            } else {
                let rows: Vec<_> = settings
                    .iter()
                    .map(|s| {
                        let tone =
                            if s.source == Source::Default { Tone::Dim } else { Tone::Plain };
                        vec![cell(&s.key), cell(&s.value), toned(s.source.to_string(), tone)]
                    })
                    .collect();
                cx.out.table(&["SETTING", "VALUE", "FROM"], &rows);
            }
        }
        Config::Path => {
            if cx.out.is_json() {
                cx.out.json(&json!({"config_file": file, "exists": file.exists()}));
            } else {
                cx.out.line(&file.display().to_string());
            }
        }
        // One with a wrong setting never gets here: it was loaded before.
        Config::Check => {
            let exists = file.exists();
            check_tables(cx)?;
            if cx.out.is_json() {
                cx.out.json(&json!({"ok": true, "config_file": file, "exists": exists}));
            } else if exists {
                cx.out.line(&format!("{}: ok", file.display()));
            } else {
                cx.out.line(&format!(
                    "{}: not there; built-in values, environment and flags are ok",
                    file.display()
                ));
            }
        }
        Config::Example => example(&cx.out),
    }
    Ok(exit::OK)
}

/// What the daemon would only say in its log: a `[[profile]]` that means nothing, a `[[project]]`
/// that it could not serve, an address that it would not listen on, a `[[content]]` folder that is not
/// there.
fn check_tables(cx: &Cx) -> Result<(), Fail> {
    let config = cx.config();
    let automation = crate::automation::folder(&config.paths.state_dir);
    let mut problems: Vec<String> = Vec::new();
    for table in &config.profiles {
        let json = serde_json::to_value(table).unwrap_or_default();
        problems.extend(json.as_object().and_then(|t| profile::from_table(t).err()));
    }
    for table in &config.projects {
        match Project::resolve(config, table, "config", &automation) {
            Err(error) => problems.push(error.to_string()),
            Ok(project) => problems.extend(
                project.check_choices().err().map(|problem| format!("{}: {problem}", project.name)),
            ),
        }
    }
    problems.extend(
        config.access.contradictions().into_iter().map(|c| format!("{}; {}", c.problem, c.mend)),
    );
    problems.extend(crate::daemon::exposure_problem(config));
    for content in config.contents.iter().filter(|content| !content.path.is_dir()) {
        problems.push(format!("content: {} is no folder", content.path.display()));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let file = config.paths.config_file.display();
    Err(Fail::new(exit::USAGE, "configuration", format!("{file}: {}", problems.join("; "))))
}

/// `adwd config example`, which works also while the present file is wrong.
pub fn example(out: &Out) {
    if out.is_json() {
        out.json(&json!({"example": EXAMPLE}));
    } else {
        out.raw(EXAMPLE);
    }
}

/// `adwd completions`.
pub fn completions(out: &Out, shell: clap_complete::Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "adwd", &mut script);
    let script = String::from_utf8_lossy(&script);
    if out.is_json() {
        out.json(&json!({"shell": shell.to_string(), "script": script}));
    } else {
        out.raw(&script);
    }
    exit::OK
}

/// `adwd service`.
pub fn service(cx: &Cx, given: &Service) -> Result<u8, Fail> {
    let (Service::Print(options) | Service::Install(options)) = given;
    let manager = manager(options);
    let account = account(cx, manager, options)?;
    let spec = UnitSpec {
        manager,
        exe: cx.exe.clone(),
        flags: flags(cx, manager),
        path: search_path(cx, &account.2),
        account: Some((account.0.clone(), account.1)),
    };
    let text = service::unit(&spec);
    if matches!(given, Service::Print(_)) {
        if cx.out.is_json() {
            cx.out.json(&json!({"unit": text, "name": service::UNIT_NAME}));
        } else {
            cx.out.raw(&text);
        }
        return Ok(exit::OK);
    }
    // …/adwd/config.toml: the folder above is the user's configuration folder.
    let home = cx.env.get("HOME").cloned().unwrap_or_default();
    let config_home = cx.env.get("XDG_CONFIG_HOME").filter(|dir| dir.starts_with('/')).cloned();
    let config_home = config_home.unwrap_or_else(|| format!("{home}/.config"));
    let path = service::unit_path(manager, config_home.as_ref());
    let done = service::install(&path, &text)
        .map_err(|error| Fail::new(exit::FAILED, "service", chain(&error)))?;
    let next = service::next_commands(manager, &account.0);
    if cx.out.is_json() {
        cx.out.json(&json!({"path": path, "changed": done != Installed::Unchanged, "next": next}));
        return Ok(exit::OK);
    }
    let what = match done {
        Installed::New => "wrote",
        Installed::Replaced => "replaced",
        Installed::Unchanged => "left unchanged",
    };
    cx.out.line(&format!("{what} {}", path.display()));
    cx.out.note("now run:");
    next.iter().for_each(|command| cx.out.note(&format!("  {command}")));
    Ok(exit::OK)
}

fn manager(options: &ServiceOptions) -> Manager {
    let root = nix::unistd::geteuid().is_root();
    if options.system || (root && !options.user) { Manager::System } else { Manager::User }
}

fn account(
    cx: &Cx,
    manager: Manager,
    options: &ServiceOptions,
) -> Result<(String, u32, String), Fail> {
    if manager == Manager::User && options.run_as.is_some() {
        return Err(Fail::usage(
            "--run-as goes with --system: your own systemd runs everything as you",
        ));
    }
    let sudo = cx.env.get("SUDO_USER").filter(|name| !name.is_empty());
    let user = match options.run_as.as_ref().or(sudo.filter(|_| manager == Manager::System)) {
        Some(name) => nix::unistd::User::from_name(name)
            .ok()
            .flatten()
            .ok_or_else(|| Fail::usage(format!("there is no account {name:?} on this machine")))?,
        None => nix::unistd::User::from_uid(nix::unistd::getuid())
            .ok()
            .flatten()
            .ok_or_else(|| Fail::usage("your uid has no account; name one with --run-as"))?,
    };
    Ok((user.name, user.uid.as_raw(), user.dir.display().to_string()))
}

fn flags(cx: &Cx, manager: Manager) -> Vec<String> {
    let mut flags = absolute_flags(&cx.global.flags, &cx.here);
    if manager == Manager::User {
        flags.extend(unusual_places(cx));
    }
    // The manager makes this folder for the account; XDG_RUNTIME_DIR is there only while it lingers.
    if manager == Manager::System && cx.global.flags.runtime_dir.is_none() {
        flags.extend(["--runtime-dir".to_owned(), "/run/adwd".to_owned()]);
    }
    flags
}

/// Flags for what this shell's environment puts elsewhere than the manager's would: a service on
/// another state folder would be a second daemon, which this shell does not find.
fn unusual_places(cx: &Cx) -> Vec<String> {
    let given = &cx.global.flags;
    let Some(home) = cx.env.get("HOME").map(std::path::Path::new) else { return vec![] };
    let paths = &cx.config().paths;
    let mut flags = Vec::new();
    let mut add = |flag: &str, path: &std::path::Path| {
        flags.extend([flag.to_owned(), path.display().to_string()]);
    };
    let usual_file = home.join(".config/adwd/config.toml");
    if given.config.is_none() && paths.config_file != usual_file && paths.config_file.exists() {
        add("--config", &paths.config_file);
    }
    if given.state_dir.is_none() && paths.state_dir != home.join(".local/state/adwd") {
        add("--state-dir", &paths.state_dir);
    }
    flags
}

/// The shell's search path, without what only this shell knows (a virtual environment, another
/// account's folders), and with the account's own programs and the usual ones.
fn search_path(cx: &Cx, home: &str) -> String {
    let own = cx.env.get("PATH").map(String::as_str).unwrap_or_default();
    let here = cx.env.get("HOME").map(String::as_str).unwrap_or_default();
    let programs = format!("{home}/.local/bin:{home}/.cargo/bin");
    let venv = cx.env.get("VIRTUAL_ENV").map(|dir| format!("{dir}/bin"));
    let foreign =
        |folder: &str| here != home && !here.is_empty() && folder.starts_with(&format!("{here}/"));
    let mut folders: Vec<&str> = Vec::new();
    for folder in
        own.split(':').chain(programs.split(':')).chain("/usr/local/bin:/usr/bin:/bin".split(':'))
    {
        let fits = folder.starts_with('/') && !foreign(folder) && venv.as_deref() != Some(folder);
        if fits && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config as Settings, Flags};
    use std::collections::BTreeMap;

    #[test]
    fn the_example_names_every_setting_and_is_valid_with_all_comments_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let flags = Flags { config: Some(file.clone()), ..Flags::default() };
        std::fs::write(&file, EXAMPLE).unwrap();
        let plain = Settings::load(&flags, &BTreeMap::new()).unwrap();
        assert!(
            plain.provenance.iter().all(|s| s.source == Source::Default),
            "nothing is set by itself"
        );
        // `# ` begins prose, `#` a setting.
        let settings: String = EXAMPLE
            .lines()
            .filter(|line| !line.starts_with("# "))
            .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
            .collect();
        std::fs::write(&file, &settings).unwrap();
        let full = Settings::load(&flags, &BTreeMap::new()).unwrap();
        for setting in &full.provenance {
            assert!(matches!(setting.source, Source::File(..)), "{} is missing", setting.key);
        }
        let values = |loaded: &crate::config::Loaded, key: &str| {
            loaded.provenance.iter().find(|s| s.key == key).unwrap().value.clone()
        };
        for key in ["http.bind", "limits.max_running", "phases.build.wall_s", "logs.keep_days"] {
            assert_eq!(
                values(&plain, key),
                values(&full, key),
                "the example shows the default of {key}"
            );
        }
    }
}
