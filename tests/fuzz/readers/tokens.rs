//! What callers prove themselves with: step tokens, access keys, tokens of an issuer and its keys.

use adwd::auth::jwt::{self, Expected};
use adwd::auth::keys::{KeyText, expiry, span_ms};
use adwd::clock::Millis;
use adwd::steps::token;

use super::{choice, halves, text};

const NOW: Millis = Millis(1_790_000_000_000);

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (choice, bytes) = choice(bytes);
    if choice % 4 == 3 {
        return issuer(bytes);
    }
    let Some(text) = text(bytes) else { return };
    match choice % 4 {
        0 => step(text),
        1 => {
            if let Some(key) = KeyText::parse(text) {
                assert_eq!(key.shown(), text);
            }
        }
        _ => {
            if let Ok(at) = expiry(text, NOW) {
                assert!(at > NOW);
            }
            assert!(span_ms(text, 1_000).is_none_or(|ms| (1..=1_000).contains(&ms)));
            if let Some(at) = Millis::parse_rfc3339(text) {
                let again = Millis::parse_rfc3339(&at.rfc3339()).map(Millis::rfc3339);
                assert_eq!(again, Some(at.rfc3339()));
            }
        }
    }
}

fn step(text: &str) {
    let Ok(parsed) = token::parse(text) else { return };
    let _ = parsed.said_execution();
    // Nobody but who has the key makes a token; with the key there is one spelling of it.
    assert!(parsed.verify(&[7; 32]).is_err());
    if let Ok(claims) = parsed.verify(&[0; 32]) {
        assert_eq!(token::mint(parsed.kid, &[0; 32], &claims), text);
    }
}

fn issuer(bytes: &[u8]) {
    let (document, bearer) = halves(bytes);
    let keys = jwt::read_keys(document).unwrap_or_default();
    let Some(bearer) = text(bearer) else { return };
    let _ = jwt::looks_like_one(bearer);
    let expected = Expected { issuer: "https://id.example", audience: "adwd", now: NOW };
    if let Ok(claims) = jwt::verify(bearer, &keys, &expected) {
        assert!(!claims.subject.is_empty() && claims.expires_at.0 > NOW.0 - 3_600_000);
    }
}
