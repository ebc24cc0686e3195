//! The token that a step is submitted with (`spec/steps.md` §4). Pure.
//!
//! `v1.<kid>.<payload>.<mac>`: the payload is JSON in base64url, the MAC is HMAC-SHA256 over a domain
//! label and everything before it. The payload has the four fields of the seeds and the attempt.
//! Decoding is strict, so that one token has one spelling; the payload is not looked into before
//! the MAC has been found right.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::clock::Millis;
use crate::limits::{STEPS_TOKEN_CHARS, STEPS_TOKEN_SKEW_MS};

/// A signing key's length.
pub const KEY_BYTES: usize = 32;

/// What the MAC covers besides the token, so that the key signs nothing else by accident.
const LABEL: &[u8] = b"adwd step token\0";
const VERSION: &str = "v1";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The execution.
    pub execution_id: String,
    /// The step.
    pub step_name: String,
    /// When it was issued.
    pub issued_at: Millis,
    /// 32 hexadecimal digits; the stored one decides whether the token is still good.
    pub nonce: String,
    /// The step's attempt, from 1.
    pub attempt: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    execution_id: String,
    step_name: String,
    /// ISO 8601, as in seed 003.
    issued_at: String,
    nonce: String,
    attempt: u32,
}

/// A token of the right shape, not yet believed.
#[derive(Clone, Debug)]
pub struct Parsed<'t> {
    /// Which key is said to have signed it.
    pub kid: &'t str,
    signed: &'t str,
    payload: Vec<u8>,
    mac: Vec<u8>,
}

/// Why an authentic token's time is not right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Issued longer ago than its lifetime.
    Expired,
    /// Issued in the future, beyond what clocks may differ.
    Future,
}

fn mac(key: &[u8; KEY_BYTES], signed: &str) -> Option<Hmac<Sha256>> {
    // A key of any length is taken; the option is the library's.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(LABEL);
    mac.update(signed.as_bytes());
    Some(mac)
}

/// The token of these claims.
#[must_use]
pub fn mint(kid: &str, key: &[u8; KEY_BYTES], claims: &Claims) -> String {
    let payload = Payload {
        execution_id: claims.execution_id.clone(),
        step_name: claims.step_name.clone(),
        issued_at: claims.issued_at.rfc3339(),
        nonce: claims.nonce.clone(),
        attempt: claims.attempt,
    };
    let json = serde_json::to_vec(&payload).unwrap_or_default();
    let signed = format!("{VERSION}.{kid}.{}", URL_SAFE_NO_PAD.encode(json));
    let code = mac(key, &signed).map(|mac| mac.finalize().into_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(code.unwrap_or_default()))
}

/// Takes a token apart.
///
/// # Errors
/// What is wrong with its shape.
pub fn parse(token: &str) -> Result<Parsed<'_>, &'static str> {
    if token.len() > STEPS_TOKEN_CHARS {
        return Err("it is too long");
    }
    let mut parts = token.split('.');
    let four = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(version), Some(kid), Some(payload), Some(code), None) = four else {
        return Err("expected four parts with dots between, as the daemon gave it");
    };
    if version != VERSION {
        return Err("expected it to begin with \"v1.\"");
    }
    if kid.is_empty() || !kid.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("its key id is not one of this daemon's");
    }
    let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part of it is not base64url");
    let (payload, code) = (decode(payload)?, decode(code)?);
    let end = token.rfind('.').unwrap_or_default();
    Ok(Parsed { kid, signed: &token[..end], payload, mac: code })
}

impl Parsed<'_> {
    /// The execution that the token names. Not believed: good for a word to the caller, no more.
    #[must_use]
    pub fn said_execution(&self) -> Option<String> {
        let payload: Payload = serde_json::from_slice(&self.payload).ok()?;
        Some(payload.execution_id)
    }

    /// What the token says, if this key signed it. Takes the same time for any wrong MAC.
    ///
    /// # Errors
    /// `None` where the MAC is not right; what is wrong with the payload of one that is.
    pub fn verify(&self, key: &[u8; KEY_BYTES]) -> Result<Claims, Option<&'static str>> {
        let mac = mac(key, self.signed).ok_or(None)?;
        mac.verify_slice(&self.mac).map_err(|_| None)?;
        let problem = Some("its payload is not one of this version");
        let payload: Payload = serde_json::from_slice(&self.payload).map_err(|_| problem)?;
        let issued_at = Millis::parse_rfc3339(&payload.issued_at).ok_or(problem)?;
        Ok(Claims {
            execution_id: payload.execution_id,
            step_name: payload.step_name,
            issued_at,
            nonce: payload.nonce,
            attempt: payload.attempt,
        })
    }
}

/// Whether a token issued at `issued_at` is good at `now`.
///
/// # Errors
/// [`Age`].
pub fn check_age(issued_at: Millis, now: Millis, ttl_ms: i64) -> Result<(), Age> {
    match now.since_ms(issued_at) {
        age if age > ttl_ms => Err(Age::Expired),
        age if age < -STEPS_TOKEN_SKEW_MS => Err(Age::Future),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];

    fn claims() -> Claims {
        Claims {
            execution_id: "exec_001".to_owned(),
            step_name: "désign".to_owned(),
            issued_at: Millis(1_795_253_220_042),
            nonce: "0123456789abcdef0123456789abcdef".to_owned(),
            attempt: 2,
        }
    }

    #[test]
    fn a_token_says_what_was_put_into_it() {
        let token = mint("ab12", &KEY, &claims());
        assert!(token.starts_with("v1.ab12.") && token.len() < 400, "{token}");
        let parsed = parse(&token).unwrap();
        assert_eq!(parsed.kid, "ab12");
        assert_eq!(parsed.verify(&KEY), Ok(claims()));
        assert_eq!(parsed.verify(&[8; KEY_BYTES]), Err(None), "another key did not sign it");
        assert_eq!(token, mint("ab12", &KEY, &claims()), "it can be computed again");
    }

    #[test]
    fn what_is_no_token_is_told_apart_from_what_is_no_signature() {
        let good = mint("ab12", &KEY, &claims());
        let cut = good.rfind('.').unwrap();
        for (token, part) in [
            (String::new(), "four parts"),
            ("eyJleGVjdXRpb25faWQiOiJ4In0".to_owned(), "four parts"),
            (format!("{good}.x"), "four parts"),
            (good.replacen("v1", "v2", 1), "v1."),
            (good.replacen("ab12", "", 1), "key id"),
            (format!("{good}="), "base64url"),
            (format!("{good}\n"), "base64url"),
            (format!("{} ", &good[..cut]) + &good[cut..], "base64url"),
            (good.clone() + &"A".repeat(STEPS_TOKEN_CHARS), "too long"),
        ] {
            let problem = parse(&token).unwrap_err();
            assert!(problem.contains(part), "{token}: {problem}");
        }
        for token in [format!("{}.", &good[..cut]), format!("{}AAAA", &good[..cut + 1])] {
            assert_eq!(parse(&token).unwrap().verify(&KEY), Err(None), "{token}");
        }
    }

    #[test]
    fn seed_003s_own_token_is_no_token_here() {
        let forged = URL_SAFE_NO_PAD.encode(r#"{"execution_id":"exec_001","nonce":"x"}"#);
        assert!(parse(&forged).is_err());
        let dressed = format!("v1.ab12.{forged}.{}", URL_SAFE_NO_PAD.encode([0; 32]));
        assert_eq!(parse(&dressed).unwrap().verify(&KEY), Err(None));
    }

    #[test]
    fn a_token_lives_for_its_lifetime_and_five_seconds_before_it() {
        let issued = Millis(1_000_000);
        let at = |ms| check_age(issued, issued.plus_ms(ms), 60_000);
        assert_eq!(at(60_000), Ok(()));
        assert_eq!(at(60_001), Err(Age::Expired));
        assert_eq!(at(-5_000), Ok(()));
        assert_eq!(at(-5_001), Err(Age::Future));
    }

    proptest! {
        #[test]
        fn no_altered_token_is_believed(at in 0_usize..300, byte in any::<u8>()) {
            let token = mint("ab12", &KEY, &claims());
            let mut bytes = token.clone().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let Ok(altered) = String::from_utf8(bytes) else { return Ok(()) };
            prop_assume!(altered != token);
            if let Ok(parsed) = parse(&altered) {
                prop_assert_eq!(parsed.verify(&KEY), Err(None));
            }
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            if let Ok(parsed) = parse(&text) {
                let _ = parsed.verify(&KEY);
            }
        }
    }
}
