//! Reading signed tokens (RFC 7519, RFC 9068) strictly: what is not exactly as it should be is no
//! token.
//!
//! How a token is signed is told by the issuer's key, not by the token: its `alg` is only compared
//! with what the key is for. So `none` and HMAC with a public key have no code that could take them.
//! Keys that a token brings along (`jwk`, `jku`, `x5u`) are not looked at.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Scope, Tier};
use crate::clock::Millis;
use crate::limits::{OAUTH_KEYS_COUNT, OAUTH_LEEWAY_MS, OAUTH_SUBJECT_CHARS, OAUTH_TOKEN_BYTES};

/// The claim that binds a token to projects.
pub const PROJECTS_CLAIM: &str = "adwd_projects";

/// The scopes and the tier that each stands for, the highest last.
pub const SCOPES: [(&str, Tier); 3] =
    [("adwd:read", Tier::Solo), ("adwd:run", Tier::Team), ("adwd:admin", Tier::Admin)];

/// `alg` of RSA signatures that a key may be for, where it does not say.
const RSA: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// One key of the issuer.
#[derive(Clone, Debug)]
pub struct IssuerKey {
    kid: Option<String>,
    algs: Vec<&'static str>,
    public: Public,
}

#[derive(Clone, Debug)]
enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Bytes(Vec<u8>),
}

/// What a token has to say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `iss`, to the letter.
    pub issuer: &'a str,
    /// What has to be among `aud`.
    pub audience: &'a str,
    /// The present moment.
    pub now: Millis,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// Whom it was given to.
    pub subject: String,
    /// The highest tier that its scopes stand for; none where they are not about us.
    pub tier: Option<Tier>,
    /// What it is bound to.
    pub scope: Scope,
    /// When it ends.
    pub expires_at: Millis,
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It names a key that is not among those given.
    UnknownKey,
    /// Anything else, in words.
    Bad(&'static str),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(default, deserialize_with = "there")]
    crit: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    b64: Option<Value>,
}

#[derive(Deserialize)]
struct Payload {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Value>,
    exp: Option<f64>,
    nbf: Option<f64>,
    scope: Option<Value>,
    scp: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    adwd_projects: Option<Value>,
}

/// What is there, `null` too: issuers write that for a user without an entry, and it is no leave to
/// see everything.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The issuer's keys that can be used out of a JWK set (RFC 7517); others are passed over.
///
/// # Errors
/// Where the document is no such set.
pub fn read_keys(document: &[u8]) -> Result<Vec<IssuerKey>, String> {
    let set: Value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("it has no list \"keys\"")?;
    Ok(keys.iter().take(OAUTH_KEYS_COUNT).filter_map(issuer_key).collect())
}

fn issuer_key(jwk: &Value) -> Option<IssuerKey> {
    let word = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(word(name)?).ok();
    let signs = word("use").is_none_or(|purpose| purpose == "sig");
    let ops = jwk.get("key_ops").and_then(Value::as_array);
    if !signs || ops.is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
        return None;
    }
    let coordinate = |name: &str, length: usize| bytes(name).filter(|c| c.len() == length);
    let point = |length: usize| {
        let (x, y) = (coordinate("x", length)?, coordinate("y", length)?);
        Some([&[4_u8][..], &x, &y].concat())
    };
    let (algs, public) = match (word("kty")?, word("crv")) {
        ("RSA", _) => {
            let strip = |bytes: Vec<u8>| bytes.into_iter().skip_while(|b| *b == 0).collect();
            (RSA.to_vec(), Public::Rsa { n: strip(bytes("n")?), e: strip(bytes("e")?) })
        }
        ("EC", Some("P-256")) => (vec!["ES256"], Public::Bytes(point(32)?)),
        ("EC", Some("P-384")) => (vec!["ES384"], Public::Bytes(point(48)?)),
        ("OKP", Some("Ed25519")) => (vec!["EdDSA", "Ed25519"], Public::Bytes(coordinate("x", 32)?)),
        _ => return None,
    };
    let algs: Vec<_> = match word("alg") {
        Some(alg) => algs.into_iter().filter(|known| *known == alg).collect(),
        None => algs,
    };
    (!algs.is_empty()).then(|| IssuerKey { kid: word("kid").map(str::to_owned), algs, public })
}

/// Whether a text looks like a token at all: three parts of its alphabet.
#[must_use]
pub fn looks_like_one(text: &str) -> bool {
    let part = |part: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        part.bytes().all(legal)
    };
    text.starts_with("ey") && text.split('.').count() == 3 && text.split('.').all(part)
}

/// Checks a token and answers what it says.
///
/// # Errors
/// [`TokenError`].
pub fn verify(
    token: &str,
    keys: &[IssuerKey],
    expected: &Expected<'_>,
) -> Result<Claims, TokenError> {
    const FORM: TokenError = TokenError::Bad("the token is not of its form");
    if token.len() > OAUTH_TOKEN_BYTES {
        return Err(TokenError::Bad("the token is too long"));
    }
    let (signed, mark) = token.rsplit_once('.').ok_or(FORM)?;
    let (head, body) = signed.split_once('.').ok_or(FORM)?;
    let header: Header = part(head).ok_or(FORM)?;
    check_header(&header)?;
    let mark = URL_SAFE_NO_PAD.decode(mark).map_err(|_| FORM)?;
    let named = |key: &&IssuerKey| header.kid.is_none() || key.kid == header.kid;
    let mut candidates = keys.iter().filter(named).peekable();
    if candidates.peek().is_none() {
        return Err(TokenError::UnknownKey);
    }
    let mut fitting = candidates.filter_map(|key| {
        let alg = key.algs.iter().find(|alg| **alg == header.alg)?;
        Some(key.public.signed(alg, signed.as_bytes(), &mark))
    });
    match fitting.next() {
        None => return Err(TokenError::Bad("the token's alg is not that of the issuer's key")),
        Some(true) => {}
        Some(false) if fitting.any(|good| good) => {}
        Some(false) => return Err(TokenError::Bad("the token's signature is wrong")),
    }
    // Nothing of the payload is read before the signature is good.
    let payload: Payload = part(body).ok_or(FORM)?;
    claims(payload, expected)
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

fn check_header(header: &Header) -> Result<(), TokenError> {
    if header.crit.is_some() || header.b64.is_some() {
        return Err(TokenError::Bad("the token asks for extensions that are not understood"));
    }
    let typ = header.typ.as_deref().map(str::to_ascii_lowercase);
    let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
    match typ {
        None | Some("jwt" | "at+jwt") => Ok(()),
        Some(_) => Err(TokenError::Bad("the token's typ is not that of an access token")),
    }
}

impl Public {
    fn signed(&self, alg: &str, message: &[u8], mark: &[u8]) -> bool {
        let rsa: &dyn Fn(&signature::RsaParameters) -> bool = &|parameters| match self {
            Public::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, mark).is_ok()
            }
            Public::Bytes(_) => false,
        };
        let other: &dyn Fn(&'static dyn signature::VerificationAlgorithm) -> bool =
            &|algorithm| match self {
                Public::Bytes(bytes) => {
                    UnparsedPublicKey::new(algorithm, bytes).verify(message, mark).is_ok()
                }
                Public::Rsa { .. } => false,
            };
        match alg {
            "RS256" => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_2048_8192_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_2048_8192_SHA512),
            "ES256" => other(&signature::ECDSA_P256_SHA256_FIXED),
            "ES384" => other(&signature::ECDSA_P384_SHA384_FIXED),
            "EdDSA" | "Ed25519" => other(&signature::ED25519),
            _ => false,
        }
    }
}

fn claims(payload: Payload, expected: &Expected<'_>) -> Result<Claims, TokenError> {
    if payload.iss.as_deref() != Some(expected.issuer) {
        return Err(TokenError::Bad("the token is from another issuer"));
    }
    let for_us = match &payload.aud {
        Some(Value::String(audience)) => audience == expected.audience,
        Some(Value::Array(list)) => list.iter().any(|audience| audience == expected.audience),
        _ => false,
    };
    if !for_us {
        return Err(TokenError::Bad("the token is for another audience"));
    }
    let expires_at = payload.exp.and_then(moment);
    let expires_at = expires_at.ok_or(TokenError::Bad("the token does not say when it ends"))?;
    if expires_at.plus_ms(OAUTH_LEEWAY_MS) <= expected.now {
        return Err(TokenError::Bad("the token has expired"));
    }
    if let Some(nbf) = payload.nbf {
        let from = moment(nbf).ok_or(TokenError::Bad("the token's nbf is no moment"))?;
        if from.plus_ms(-OAUTH_LEEWAY_MS) > expected.now {
            return Err(TokenError::Bad("the token is not good yet"));
        }
    }
    let plain = |sub: &String| {
        let length = sub.chars().count();
        (1..=OAUTH_SUBJECT_CHARS).contains(&length) && !sub.chars().any(char::is_control)
    };
    let subject = payload.sub.filter(plain);
    let subject = subject.ok_or(TokenError::Bad("the token does not say whom it was given to"))?;
    let scope = projects(payload.adwd_projects.as_ref())?;
    let tier = tier(payload.scope.as_ref()).max(tier(payload.scp.as_ref()));
    Ok(Claims { subject, tier, scope, expires_at })
}

/// Seconds since 1970, perhaps with a fraction.
#[allow(clippy::cast_possible_truncation, reason = "it is within bounds")]
fn moment(seconds: f64) -> Option<Millis> {
    // Year 9999.
    (0.0..=253_402_300_799.0).contains(&seconds).then_some(Millis((seconds * 1_000.0) as i64))
}

/// The highest tier of scopes: words in one text, or a list of words.
fn tier(scopes: Option<&Value>) -> Option<Tier> {
    let words: Vec<&str> = match scopes {
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    SCOPES.iter().rev().find(|(scope, _)| words.contains(scope)).map(|(_, tier)| *tier)
}

/// A claim that is there binds, also where it holds no name; one that is no list of names is no
/// reason to bind to nothing less.
fn projects(claim: Option<&Value>) -> Result<Scope, TokenError> {
    const FORM: TokenError = TokenError::Bad("the token's adwd_projects is no list of names");
    let names: BTreeSet<String> = match claim {
        None => return Ok(Scope::All),
        Some(Value::String(name)) => BTreeSet::from([name.clone()]),
        Some(Value::Array(list)) => {
            let names: Option<_> = list.iter().map(|n| n.as_str().map(str::to_owned)).collect();
            names.ok_or(FORM)?
        }
        Some(_) => return Err(FORM),
    };
    Ok(Scope::Projects(Arc::new(names)))
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
