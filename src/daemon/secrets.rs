//! Keeps the daemon's own secrets out of what it leaves behind: its log and its crashes.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{Config, HookFormat};
use crate::telemetry::mask_value;

/// From now on the log masks the secrets that the settings hold, and a crash leaves no memory image
/// of them on the disk. Those that come from files are masked where they are read.
pub(super) fn guard(config: &Config) {
    if let Some(password) = password(&config.paths.database_url) {
        mask_value(password);
    }
    for (_, value) in config.observe.otlp.headers.iter() {
        mask_value(value);
    }
    let hooks = &config.outside.hooks;
    let inline = hooks.iter().filter_map(|hook| hook.secret.as_ref());
    for secret in config.outside.github.secret.iter().chain(inline) {
        mask_value(secret.expose());
    }
    for hook in hooks.iter().filter(|hook| hook.format == HookFormat::Slack) {
        // A chat service's whole secret is the path, and that alone stands in a client's log.
        mask_value(hook.url.splitn(4, '/').nth(3).unwrap_or_default());
    }
    // The soft one alone: a phase that wants its own can raise it again.
    let lowered = getrlimit(Resource::RLIMIT_CORE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, 0, hard));
    if let Err(error) = lowered {
        tracing::warn!(%error, "a crash may leave a memory image with keys in it");
    }
}

/// The password of a URL, as it stands there.
fn password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (login, _) = rest.rsplit_once('@')?;
    login.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_url_is_found_as_people_write_it() {
        assert_eq!(password("postgres://u:p@ss@host/db"), Some("p@ss"));
        assert_eq!(password("postgres://u@host/db"), None);
        assert_eq!(password("sqlite:/a/b.db"), None);
    }
}
