//! Settings: who may call over HTTP.

/// Who may call over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Whether a caller on loopback without a key may do what the team tier may.
    pub trust_loopback: bool,
    /// Whether a caller on loopback without a key is refused altogether.
    pub require_key: bool,
    /// Where clients reach the daemon: scheme, host and port, without a path.
    pub public_url: Option<String>,
    /// Whose tokens are taken beside keys.
    pub oauth: OauthConfig,
}

/// The issuer of OAuth 2.1 tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OauthConfig {
    /// Its name, as `iss` has it: a URL.
    pub issuer: Option<String>,
    /// The URI under which the issuer knows this daemon, as `aud` has it.
    pub audience: Option<String>,
    /// Where its keys are; where this is not set, its metadata says it.
    pub jwks_url: Option<String>,
}

/// Settings that do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Whether the daemon cannot be started so; else one of the settings is without effect.
    pub fatal: bool,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub mend: String,
}

impl AccessConfig {
    /// The public address: the one that was set, else that of the audience, where it is a URL.
    #[must_use]
    pub fn public_origin(&self) -> Option<String> {
        let audience = self.oauth.audience.as_deref().filter(|a| check_web_url(a).is_ok());
        let url = self.public_url.as_deref().or(audience)?;
        let after = url.find("://")? + 3;
        let end = url[after..].find('/').map_or(url.len(), |at| after + at);
        Some(url[..end].to_owned())
    }

    /// The public address's host and port, as clients name them in `Host`.
    #[must_use]
    pub fn public_host(&self) -> Option<String> {
        self.public_origin()?.split_once("://").map(|(_, host)| host.to_owned())
    }

    /// What does not go together.
    #[must_use]
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let oauth = &self.oauth;
        let mut found = Vec::new();
        let mut add = |fatal: bool, problem: &str, mend: &str| {
            found.push(Contradiction { fatal, problem: problem.into(), mend: mend.into() });
        };
        if self.require_key && self.trust_loopback {
            add(
                false,
                "http.require_key refuses callers without a key, so http.trust_loopback is \
                 without effect",
                "set one of them to false",
            );
        }
        match (&oauth.issuer, &oauth.audience) {
            (Some(_), None) => add(
                true,
                "oauth.issuer is set and oauth.audience is not: tokens that were given out for \
                 other services would be taken here",
                "set oauth.audience to the URI under which the issuer knows this daemon, as in \
                 https://adwd.example/mcp",
            ),
            (None, Some(_)) => add(
                false,
                "oauth.audience is without effect: oauth.issuer is not set",
                "set oauth.issuer, or remove oauth.audience",
            ),
            (None, None) if oauth.jwks_url.is_some() => add(
                false,
                "oauth.jwks_url is without effect: oauth.issuer is not set",
                "set oauth.issuer and oauth.audience, or remove oauth.jwks_url",
            ),
            (Some(_), Some(_)) if self.public_origin().is_none() => add(
                true,
                "oauth.issuer is set, and clients cannot be told where this daemon's metadata is: \
                 oauth.audience is no URL",
                "set http.public_url, as in https://adwd.example",
            ),
            _ => {}
        }
        found
    }
}

/// Whether a text is the address of something on the web that secrets may be sent to or trust taken
/// from: `https`, or `http` on this machine.
///
/// # Errors
/// What would be right.
pub fn check_web_url(url: &str) -> Result<(), String> {
    let wrong = || "expected https://HOST[:PORT][/PATH], or http:// on this machine".to_owned();
    let (secure, rest) = match url.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => return Err(wrong()),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '<' | '>' | '?' | '#');
    if authority.is_empty() || authority.contains('@') || !rest.chars().all(plain) {
        return Err(wrong());
    }
    let host = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split(':').next().unwrap_or_default(),
    };
    let here = matches!(host, "localhost" | "127.0.0.1" | "::1");
    if secure || here { Ok(()) } else { Err(wrong()) }
}
