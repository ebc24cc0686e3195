//! Under which names the daemon may be addressed, and whose pages may call it.
//!
//! A page of a stranger can reach a daemon on loopback in two ways: its script calls it directly, and
//! then the browser says whose script it is (`Origin`); or its name is rebound by DNS to 127.0.0.1,
//! and then the name is in `Host`.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;

/// Names of this machine for itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The names that `Host` may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// Host in lower case without brackets, and the port where only one is meant.
    names: Vec<(String, Option<u16>)>,
    any: bool,
}

impl Hosts {
    /// For a daemon that listens on `bind`. On loopback: this machine's names, and `allowed`. Beyond
    /// it the same where `allowed` names any; otherwise every name, because there callers prove who
    /// they are, which a page that rebinds a name cannot.
    #[must_use]
    pub fn new(bind: SocketAddr, allowed: &[String]) -> Hosts {
        let mut names: Vec<_> = LOOPBACK.map(|name| (name.to_owned(), None)).into();
        if !bind.ip().is_unspecified() {
            names.push((bind.ip().to_string(), None));
        }
        names.extend(allowed.iter().filter_map(|name| parts(name)));
        Hosts { names, any: !is_loopback(bind.ip()) && allowed.is_empty() }
    }

    /// Whether the text of a `Host` header, or the authority of a target, is one of them. What is no
    /// host at all never is.
    #[must_use]
    pub fn allow(&self, text: &str) -> bool {
        let Some((host, port)) = parts(text) else { return false };
        self.any
            || self
                .names
                .iter()
                .any(|(name, only)| *name == host && only.is_none_or(|_| *only == port))
    }

    /// The names, for whoever checks them a second time; empty: every one.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        if self.any {
            return Vec::new();
        }
        let text = |(name, port): &(String, Option<u16>)| match port {
            Some(port) if name.contains(':') => format!("[{name}]:{port}"),
            Some(port) => format!("{name}:{port}"),
            None => name.clone(),
        };
        self.names.iter().map(text).collect()
    }
}

/// Whether only this machine reaches an address.
#[must_use]
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn parts(text: &str) -> Option<(String, Option<u16>)> {
    if text.contains('@') {
        return None;
    }
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    // Strictly a port of digits or nothing: the parser lets a sign pass, and words after an address.
    let port = match authority.as_str().strip_prefix(host)? {
        "" => None,
        rest => {
            let digits =
                rest.strip_prefix(':').filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            Some(digits?.parse().ok()?)
        }
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let is_name = bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    (!bare.is_empty() && is_name).then(|| (bare.to_ascii_lowercase(), port))
}

/// The pages that may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Pages of this machine, and these (`https://dash.example`).
    #[must_use]
    pub fn new(allowed: &[String]) -> Origins {
        Origins(allowed.iter().map(|origin| normal(origin)).collect())
    }

    /// Whether the text of an `Origin` header is one of them.
    #[must_use]
    pub fn allow(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        // Before a port is taken away: what has two of them is none of ours.
        let Some((host, _)) = rest.and_then(parts) else { return false };
        LOOPBACK.contains(&host.as_str()) || self.0.contains(&normal(&origin))
    }
}

/// Lower case, without the port that the scheme implies.
fn normal(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let without = |scheme: &str, port: &str| {
        origin.strip_prefix(scheme)?.strip_suffix(port).map(|host| format!("{scheme}{host}"))
    };
    without("http://", ":80").or_else(|| without("https://", ":443")).unwrap_or(origin)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(bind: &str, allowed: &[&str]) -> Hosts {
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        Hosts::new(bind.parse().unwrap(), &allowed)
    }

    #[test]
    fn on_loopback_only_this_machines_names_and_the_allowed_ones_are_names() {
        let hosts = hosts("127.0.0.1:7117", &["adw.example", "box:8443"]);
        for good in [
            "localhost",
            "LOCALHOST:7117",
            "127.0.0.1:1",
            "[::1]:7117",
            "[::1]",
            "adw.example",
            "Adw.Example:443",
            "box:8443",
        ] {
            assert!(hosts.allow(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil@localhost",
            "localhost:x",
            "localhost:+7117",
            "[::1]0:8",
            "localhost:",
            "localhost:99999",
            "box",
            "box:1",
            "127.0.0.1.evil.example",
            "localhost/x",
            "127.0.0.2",
            "localhost,evil.example",
            "localhost evil",
            "[::1",
            "::1",
            "adw.example.",
        ] {
            assert!(!hosts.allow(bad), "{bad}");
        }
    }

    #[test]
    fn beyond_loopback_every_name_is_one_unless_some_are_named() {
        let open = hosts("0.0.0.0:7117", &[]);
        assert!(open.allow("anything.example:7117") && open.list().is_empty());
        assert!(!open.allow("a@b") && !open.allow(""));
        let named = hosts("192.0.2.1:7117", &["adw.example"]);
        assert!(named.allow("adw.example") && named.allow("192.0.2.1:7117"));
        assert!(named.allow("localhost") && !named.allow("evil.example"));
        assert_eq!(named.list(), ["localhost", "127.0.0.1", "::1", "192.0.2.1", "adw.example"]);
    }

    #[test]
    fn pages_of_this_machine_and_the_allowed_ones_may_call() {
        let allowed = ["https://dash.example".to_owned(), "http://box:8080".to_owned()];
        let origins = Origins::new(&allowed);
        for good in [
            "http://localhost:5173",
            "https://localhost",
            "http://127.0.0.1",
            "http://[::1]:8080",
            "https://dash.example",
            "https://DASH.example:443",
            "http://box:8080",
        ] {
            assert!(origins.allow(good), "{good}");
        }
        for bad in [
            "null",
            "",
            "file://",
            "http://dash.example",
            "https://dash.example:8443",
            "http://box",
            "http://localhost.evil.example",
            "http://evil@localhost",
            "http://127.0.0.1:51:80",
            "chrome-extension://x",
            "https://dash.example/",
            "http://",
            "https://dash.example, http://localhost",
        ] {
            assert!(!origins.allow(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_no_allowed_name_is_refused_whatever_it_is(text in "\\PC{0,30}") {
            let hosts = hosts("127.0.0.1:7117", &[]);
            if hosts.allow(&text) {
                let name = text.to_ascii_lowercase();
                let stem = name.rsplit_once(':').map_or(name.as_str(), |(stem, _)| stem);
                prop_assert!(
                    ["localhost", "127.0.0.1", "[::1]"].iter().any(|n| *n == stem || *n == name),
                    "{}", text
                );
            }
        }
    }
}
