//! The issuer of tokens: its keys, fetched when they are needed and kept while it is away.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Mutex;

use super::error::Denied;
use super::jwt::{Claims, Expected, IssuerKey, TokenError, read_keys, verify};
use crate::clock::Millis;
use crate::config::OauthConfig;
use crate::limits::{OAUTH_DOCUMENT_BYTES, OAUTH_FETCH_MS, OAUTH_KEYS_AGE_MS, OAUTH_REFRESH_MS};
use crate::telemetry;

/// The issuer whose tokens are taken.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    audience: String,
    jwks_url: Option<String>,
    web: reqwest::Client,
    keys: RwLock<Option<Fetched>>,
    /// When the issuer was last asked; held while it is asked, so that one asks for all.
    asked: Mutex<Option<Instant>>,
}

#[derive(Clone, Debug)]
struct Fetched {
    keys: Arc<Vec<IssuerKey>>,
    at: Instant,
}

impl Issuer {
    /// The configured issuer; none where there is none, or no audience.
    ///
    /// # Errors
    /// Where no client for the web can be made.
    pub fn new(config: &OauthConfig) -> Result<Option<Issuer>, reqwest::Error> {
        let (Some(name), Some(audience)) = (&config.issuer, &config.audience) else {
            return Ok(None);
        };
        // What the issuer's address redirects to is not the issuer.
        let web = reqwest::Client::builder()
            .timeout(Duration::from_millis(OAUTH_FETCH_MS))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Some(Issuer {
            name: name.clone(),
            audience: audience.clone(),
            jwks_url: config.jwks_url.clone(),
            web,
            keys: RwLock::new(None),
            asked: Mutex::new(None),
        }))
    }

    /// Checks a token. An unknown key makes us ask the issuer, at most once a minute.
    ///
    /// # Errors
    /// [`Denied::Token`]; [`Denied::Issuer`] where its keys were never had.
    pub async fn check(self: &Arc<Issuer>, token: &str, now: Millis) -> Result<Claims, Denied> {
        let expected = Expected { issuer: &self.name, audience: &self.audience, now };
        let known = self.known();
        if let Some(known) = &known {
            if known.at.elapsed() >= ms(OAUTH_KEYS_AGE_MS) {
                // Beside the call: an issuer that is away must not hold up those who are known.
                let issuer = self.clone();
                tokio::spawn(async move { issuer.refresh().await });
            }
            match verify(token, &known.keys, &expected) {
                Ok(claims) => return Ok(claims),
                Err(TokenError::Bad(why)) => return Err(Denied::Token(why.to_owned())),
                Err(TokenError::UnknownKey) => {}
            }
        }
        let Some(known) = self.refresh().await else { return Err(Denied::Issuer) };
        verify(token, &known.keys, &expected).map_err(|error| match error {
            TokenError::Bad(why) => Denied::Token(why.to_owned()),
            TokenError::UnknownKey => {
                Denied::Token("the token is signed with a key that its issuer does not have".into())
            }
        })
    }

    fn known(&self) -> Option<Fetched> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the issuer, unless that was done within the minute; sooner while nothing is known. Keys
    /// that are there stay where it does not answer.
    async fn refresh(&self) -> Option<Fetched> {
        let mut asked = self.asked.lock().await;
        let pause = if self.known().is_some() { OAUTH_REFRESH_MS } else { OAUTH_FETCH_MS };
        if asked.is_some_and(|at| at.elapsed() < ms(pause)) {
            return self.known();
        }
        let limit = ms(2 * OAUTH_FETCH_MS);
        let fetched = tokio::time::timeout(limit, self.fetch()).await;
        match fetched.unwrap_or_else(|_| Err("it does not answer in time".to_owned())) {
            Ok(keys) => {
                tracing::info!(issuer = %self.name, keys = keys.len(), "the issuer's keys");
                let fetched = Fetched { keys: Arc::new(keys), at: Instant::now() };
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(fetched);
            }
            Err(why) => {
                tracing::warn!(issuer = %self.name, %why, "the issuer's keys cannot be had")
            }
        }
        *asked = Some(Instant::now());
        self.known()
    }

    async fn fetch(&self) -> Result<Vec<IssuerKey>, String> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let document = self.get(&url).await?;
        let keys = read_keys(&document).map_err(|why| format!("{url}: {why}"))?;
        if keys.is_empty() {
            return Err(format!("{url}: it holds no key that can be used"));
        }
        Ok(keys)
    }

    /// Where the issuer says that its keys are (RFC 8414, OpenID Connect Discovery).
    async fn discover(&self) -> Result<String, String> {
        let mut problems = Vec::new();
        for url in discovery_urls(&self.name) {
            match self.get(&url).await.and_then(|document| keys_url(&document, &self.name)) {
                Ok(keys) => return Ok(keys),
                Err(why) => problems.push(format!("{url}: {why}")),
            }
        }
        Err(problems.join("; "))
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let failed = |error: reqwest::Error| telemetry::chain(&error.without_url());
        let mut answer = self.web.get(url).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > OAUTH_DOCUMENT_BYTES {
                return Err(format!("the document has more than {OAUTH_DOCUMENT_BYTES} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Where metadata may be, in the order in which it is looked for.
fn discovery_urls(issuer: &str) -> Vec<String> {
    let issuer = issuer.trim_end_matches('/');
    let after = issuer.find("://").map_or(0, |at| at + 3);
    let (origin, path) = match issuer[after..].find('/') {
        Some(at) => issuer.split_at(after + at),
        None => (issuer, ""),
    };
    let mut urls = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        urls.push(format!("{issuer}/.well-known/openid-configuration"));
    }
    urls
}

fn keys_url(document: &[u8], issuer: &str) -> Result<String, String> {
    let told: Value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let word = |name: &str| told.get(name).and_then(Value::as_str);
    if word("issuer") != Some(issuer) {
        return Err("it is another issuer's".to_owned());
    }
    let url = word("jwks_uri").ok_or("it names no jwks_uri")?;
    crate::config::check_web_url(url).map_err(|why| format!("jwks_uri: {why}"))?;
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_it_may_be() {
        assert_eq!(
            discovery_urls("https://id.example/"),
            [
                "https://id.example/.well-known/oauth-authorization-server",
                "https://id.example/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            discovery_urls("https://id.example/realms/a"),
            [
                "https://id.example/.well-known/oauth-authorization-server/realms/a",
                "https://id.example/.well-known/openid-configuration/realms/a",
                "https://id.example/realms/a/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn metadata_of_another_issuer_or_with_keys_in_the_clear_is_refused() {
        let document = |issuer: &str, url: &str| {
            serde_json::json!({ "issuer": issuer, "jwks_uri": url }).to_string().into_bytes()
        };
        let read = |document: &[u8]| keys_url(document, "https://id.example");
        let good = document("https://id.example", "https://id.example/keys");
        assert_eq!(read(&good).unwrap(), "https://id.example/keys");
        assert!(read(&document("https://evil.example", "https://id.example/keys")).is_err());
        assert!(read(&document("https://id.example", "http://id.example/keys")).is_err());
        assert!(read(b"{}").is_err() && read(b"<html>").is_err());
    }
}
