//! Who could reach the HTTP endpoint, and whether that is safe: decided before anything listens.
//!
//! The endpoint starts programs that spend money and push code. So an address that other machines
//! reach is refused unless keys cannot be read on the way (TLS, or a proxy that has it) and there is
//! a way to prove who one is.

use crate::auth::Access;
use crate::config::Config;
use crate::web::{Certificate, Serving, is_loopback};

/// How one makes a key while the daemon does not start without one.
const HOW_TO_PROVE: &str = "start it once with --http-bind 127.0.0.1:7117, make a key \
     (`adwd key create --tier team --name N`), then start it again";

/// Settings under which the daemon does not start. A sentence that says what to do; it does not mend
/// itself, so nobody need try again (exit code 2, which the unit of systemd knows).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misconfigured(pub String);

/// Refuses settings under which a stranger could call, with a sentence that says what to do.
pub async fn check(config: &Config, access: &Access) -> anyhow::Result<()> {
    if let Some(problem) = problem(config) {
        return Err(Misconfigured(problem).into());
    }
    if !config.http.enabled {
        return Ok(());
    }
    let nobody_is_anonymous = is_exposed(config) || config.serve.behind_proxy;
    let by_token = config.access.oauth.issuer.is_some();
    if !nobody_is_anonymous || by_token || access.has_good_keys().await? {
        return Ok(());
    }
    if is_exposed(config) {
        let problem = format!(
            "http.bind = {} is reached from other machines, and nobody could prove who they are: {HOW_TO_PROVE}",
            config.http.bind
        );
        return Err(Misconfigured(problem).into());
    }
    tracing::warn!(
        "behind a proxy nobody is anonymous and there is no key: HTTP refuses everybody"
    );
    Ok(())
}

/// What is wrong with the settings alone, whatever keys there are.
#[must_use]
pub fn problem(config: &Config) -> Option<String> {
    if !config.http.enabled {
        return None;
    }
    let serve = &config.serve;
    match (&serve.tls_cert, &serve.tls_key) {
        (Some(_), None) => {
            return Some("http.tls_cert is set and http.tls_key is not: TLS needs both".to_owned());
        }
        (None, Some(_)) => {
            return Some("http.tls_key is set and http.tls_cert is not: TLS needs both".to_owned());
        }
        _ => {}
    }
    if !is_exposed(config) || serve.tls_cert.is_some() || serve.behind_proxy {
        return None;
    }
    Some(format!(
        "http.bind = {} is reached from other machines, where keys could be read on the way: set \
         http.tls_cert and http.tls_key, or http.behind_proxy = true where a proxy of yours has the \
         certificate, or bind 127.0.0.1",
        config.http.bind
    ))
}

/// Whether other machines reach the address.
fn is_exposed(config: &Config) -> bool {
    !is_loopback(config.http.bind.ip())
}

/// How the listener is served; reads the certificate.
pub fn serving(config: &Config) -> anyhow::Result<Serving> {
    let mut serving = Serving::default();
    if let (Some(cert), Some(key)) = (&config.serve.tls_cert, &config.serve.tls_key) {
        serving.certificate = Some(Certificate::open(cert.clone(), key.clone())?);
    }
    Ok(if config.serve.behind_proxy { serving.behind_proxy() } else { serving })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::AccessDeps;
    use crate::clock::SystemClock;
    use crate::db::Db;
    use crate::ids::OsRng;

    fn config(bind: &str) -> Config {
        let mut config = Config::default();
        config.http.bind = bind.parse().unwrap();
        config
    }

    async fn checked(config: &Config) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("db").display());
        let db = Db::open(&url).await.unwrap();
        db.migrate(&SystemClock).await.unwrap();
        let deps = AccessDeps {
            db: db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            state_dir: dir.path().to_path_buf(),
            config: config.access.clone(),
        };
        let checked = check(config, &Access::open(deps).await.unwrap()).await;
        db.close().await;
        checked.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn loopback_needs_nothing() {
        for bind in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            checked(&config(bind)).await.unwrap();
        }
        let mut proxied = config("127.0.0.1:1");
        proxied.serve.behind_proxy = true;
        checked(&proxied).await.unwrap();
    }

    #[tokio::test]
    async fn what_others_reach_needs_tls_or_a_proxy_and_keys() {
        for bind in ["0.0.0.0:7117", "[::]:7117", "192.0.2.1:7117", "[2001:db8::1]:7117"] {
            let mut config = config(bind);
            let error = checked(&config).await.unwrap_err();
            assert!(error.contains(bind) && error.contains("http.tls_cert and http.tls_key"));
            config.serve.behind_proxy = true;
            let error = checked(&config).await.unwrap_err();
            assert!(error.contains("adwd key create --tier team"), "{error}");
            config.serve.behind_proxy = false;
            config.serve.tls_cert = Some("/c.pem".into());
            assert!(checked(&config).await.unwrap_err().contains("http.tls_key is not"));
            config.serve.tls_key = Some("/k.pem".into());
            assert!(checked(&config).await.unwrap_err().contains("adwd key create"));
            config.http.enabled = false;
            checked(&config).await.unwrap();
        }
    }
}
