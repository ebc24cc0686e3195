//! The systemd unit: printed or installed, for a user's own manager or for the system's.
//!
//! Runs must outlive the service. `KillMode=process` ends the daemon alone; each attempt is in a
//! scope of its own where a scope can be made, else in a sub-cgroup that `Delegate=` allows. The
//! restrictions are those that neither uv, git, ssh nor a coding agent's own sandbox trips over:
//! they are inherited by everything that the daemon starts.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// First line of every unit that we wrote: only such a file is ever replaced.
const MARK: &str = "# Written by `adwd service`; `adwd service install` replaces it.";
/// File name of the unit.
pub const UNIT_NAME: &str = "adwd.service";

/// Which manager the unit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// `systemctl --user`.
    User,
    /// The system's, with `User=`.
    System,
}

/// Everything the unit's text depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSpec {
    /// Which manager.
    pub manager: Manager,
    /// The daemon's program.
    pub exe: PathBuf,
    /// Flags before `serve`, such as `--config FILE`.
    pub flags: Vec<String>,
    /// Search path for uv, git and the agents: a manager's own is short.
    pub path: String,
    /// Account and its id; for [`Manager::System`] only.
    pub account: Option<(String, u32)>,
}

/// Why the unit was not installed.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// Somebody else's file is in the way.
    #[error("{} exists and was not written by adwd; move it away, or use `adwd service print`", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// What an installation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// There was none.
    New,
    /// Ours was replaced.
    Replaced,
    /// It was there, word for word.
    Unchanged,
}

/// The unit's text.
#[must_use]
pub fn unit(spec: &UnitSpec) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{MARK}\n");
    text.push_str(HEAD);
    let _ = writeln!(text, "ExecStart={}", exec_start(spec));
    let _ = writeln!(text, "Environment={}", quoted(&format!("PATH={}", spec.path)));
    text.push_str("# Tokens and other settings, one NAME=value a line, readable by you alone.\n");
    match &spec.account {
        Some((name, uid)) if spec.manager == Manager::System => {
            let _ = writeln!(text, "EnvironmentFile=-/etc/adwd/environment");
            text.push_str(
                "# The user's own manager, where it lingers, gives each run a scope of its own.\n",
            );
            let _ = writeln!(text, "Environment=XDG_RUNTIME_DIR=/run/user/{uid}");
            let _ = writeln!(text, "User={}", name.replace('%', "%%"));
            text.push_str("RuntimeDirectory=adwd\nRuntimeDirectoryMode=0700\n");
        }
        _ => text.push_str("EnvironmentFile=-%E/adwd/environment\n"),
    }
    text.push_str(LIFE);
    text.push_str(COMMON_LIMITS);
    if spec.manager == Manager::System {
        text.push_str(SYSTEM_LIMITS);
        text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    } else {
        text.push_str(USER_NOTE);
        text.push_str("\n[Install]\nWantedBy=default.target\n");
    }
    text
}

const HEAD: &str = "\
[Unit]
Description=adwd: turns issue numbers into reviewed branches and pull requests

[Service]
Type=notify
NotifyAccess=main
";

const LIFE: &str = "
# Exit 2: the configuration is wrong; 3: another daemon holds the state folder. Neither mends itself.
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2 3
WatchdogSec=60
TimeoutStartSec=120
TimeoutStopSec=60

# Runs live on while the service restarts: the daemon alone is ended, and finds them again.
KillMode=process
Delegate=yes
OOMPolicy=continue
";

const COMMON_LIMITS: &str = "
# Everything that the daemon starts inherits these. Not restricted, because the work needs it: the
# network, home folders, /tmp, and the namespaces and mounts of the agents' own sandboxes.
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=~@clock @module @raw-io @reboot @swap @cpu-emulation @obsolete
";

const SYSTEM_LIMITS: &str = "\
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=full
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
DevicePolicy=closed
KeyringMode=private
";

const USER_NOTE: &str = "\
# A user's manager has no privileges to give away, and its mount sandboxes would hide the owner of
# root's files from ssh: `systemd-analyze security` rates this unit as if root ran it.
";

/// Where the unit belongs. `config_home` is the user's `$XDG_CONFIG_HOME`.
#[must_use]
pub fn unit_path(manager: Manager, config_home: &Path) -> PathBuf {
    match manager {
        Manager::User => config_home.join("systemd/user").join(UNIT_NAME),
        Manager::System => Path::new("/etc/systemd/system").join(UNIT_NAME),
    }
}

/// The commands that make an installed unit run.
#[must_use]
pub fn next_commands(manager: Manager, account: &str) -> Vec<String> {
    let linger = format!("loginctl enable-linger {account}");
    match manager {
        Manager::User => vec![
            "systemctl --user daemon-reload".into(),
            "systemctl --user enable --now adwd".into(),
            linger,
        ],
        Manager::System => {
            vec![linger, "systemctl daemon-reload".into(), "systemctl enable --now adwd".into()]
        }
    }
}

/// Writes `text` to `path` in one step; a file that is not ours is left alone.
pub fn install(path: &Path, text: &str) -> Result<Installed, ServiceError> {
    let failed = |source| ServiceError::Io { path: path.to_path_buf(), source };
    let present = match std::fs::read_to_string(path) {
        Ok(present) if present == text => return Ok(Installed::Unchanged),
        Ok(present) if present.starts_with(MARK) => true,
        Ok(_) => return Err(ServiceError::Foreign { path: path.to_path_buf() }),
        // A link to /dev/null is a masked unit: the owner's decision, not ours to undo.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ServiceError::Foreign { path: path.to_path_buf() });
        }
        Err(error) => return Err(failed(error)),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let temporary = folder.join(format!(".{UNIT_NAME}.{}", nix::unistd::getpid()));
    let written = write_new(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(failed(error));
    }
    Ok(if present { Installed::Replaced } else { Installed::New })
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    // The umask of a careful shell would make it unreadable for the manager's tools.
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.sync_all()
}

fn exec_start(spec: &UnitSpec) -> String {
    let mut words = vec![quoted(&spec.exe.display().to_string())];
    words.extend(spec.flags.iter().map(|flag| quoted(flag).replace('$', "$$")));
    words.push("serve".into());
    words.join(" ")
}

/// One word of a unit file: specifiers doubled, quoted where it has to be.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,@+~".contains(c);
    let escaped = word.replace('%', "%%");
    if !word.is_empty() && word.chars().all(|c| plain(c) || c == '%') {
        return escaped;
    }
    format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(manager: Manager) -> UnitSpec {
        UnitSpec {
            manager,
            exe: "/opt/my tools/adwd".into(),
            flags: vec!["--config".into(), "/home/a/100%/c$.toml".into()],
            path: "/usr/local/bin:/usr/bin:/bin".into(),
            account: Some(("alice".into(), 1000)),
        }
    }

    #[test]
    fn words_are_quoted_and_specifiers_doubled() {
        let text = unit(&spec(Manager::User));
        assert!(
            text.contains(
                r#"ExecStart="/opt/my tools/adwd" --config "/home/a/100%%/c$$.toml" serve"#
            ),
            "{text}"
        );
        assert!(text.contains("KillMode=process") && text.contains("WatchdogSec=60"));
        assert!(!text.contains("User=") && text.contains("WantedBy=default.target"));
    }

    #[test]
    fn the_systems_unit_names_the_account_and_drops_capabilities() {
        let text = unit(&spec(Manager::System));
        assert!(text.contains("User=alice\n") && text.contains("CapabilityBoundingSet=\n"));
        assert!(text.contains("XDG_RUNTIME_DIR=/run/user/1000"));
        assert!(text.contains("WantedBy=multi-user.target"));
        assert!(!text.contains("ProtectHome"), "worktrees live there");
    }

    #[test]
    fn a_foreign_file_is_never_replaced_and_ours_always() {
        let dir = tempfile::tempdir().unwrap();
        let path = unit_path(Manager::User, dir.path());
        let text = unit(&spec(Manager::User));
        assert_eq!(install(&path, &text).unwrap(), Installed::New);
        assert_eq!(install(&path, &text).unwrap(), Installed::Unchanged);
        assert_eq!(install(&path, &format!("{text}#\n")).unwrap(), Installed::Replaced);
        std::fs::write(&path, "[Unit]\n").unwrap();
        assert!(matches!(install(&path, &text), Err(ServiceError::Foreign { .. })));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(install(&path, &text), Err(ServiceError::Foreign { .. })));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
