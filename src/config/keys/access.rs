//! Who may call over HTTP.

use super::*;

use super::super::types::check_web_url;

/// A key that holds the address of something on the web.
macro_rules! web_key {
    ($name:literal, $env:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, _| {
                let url = v.text()?;
                check_web_url(&url)?;
                c.$($field).+ = Some(url);
                Ok(())
            },
            |c| c.$($field).+.clone().unwrap_or_default(),
        )
    };
}

pub(super) static KEYS: &[Key] = &[
    bool_key!("http.trust_loopback", &["ADWD_HTTP_TRUST_LOOPBACK"], access.trust_loopback),
    bool_key!("http.require_key", &["ADWD_HTTP_REQUIRE_KEY"], access.require_key),
    key("http.public_url", &["ADWD_HTTP_PUBLIC_URL"], set_public_url, |c| {
        c.access.public_url.clone().unwrap_or_default()
    }),
    web_key!("oauth.issuer", &["ADWD_OAUTH_ISSUER"], access.oauth.issuer),
    key("oauth.audience", &["ADWD_OAUTH_AUDIENCE"], set_audience, |c| {
        c.access.oauth.audience.clone().unwrap_or_default()
    }),
    web_key!("oauth.jwks_url", &["ADWD_OAUTH_JWKS_URL"], access.oauth.jwks_url),
];

fn set_public_url(config: &mut Config, input: &Input, _: &Base) -> Result<(), String> {
    let url = input.text()?;
    check_web_url(&url)?;
    let url = url.trim_end_matches('/');
    if url.matches('/').count() > 2 {
        return Err("expected scheme, host and port alone, as in https://adwd.example".to_owned());
    }
    config.access.public_url = Some(url.to_owned());
    Ok(())
}

fn set_audience(config: &mut Config, input: &Input, _: &Base) -> Result<(), String> {
    let audience = some_text(input)?;
    if !audience.chars().all(|c| c.is_ascii_graphic() && c != '"') {
        return Err("expected a URI, as in https://adwd.example/mcp".to_owned());
    }
    config.access.oauth.audience = Some(audience);
    Ok(())
}
