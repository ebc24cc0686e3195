//! Tests of the reading of tokens.

use std::sync::LazyLock;

use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::json;

use super::*;

const NOW: Millis = Millis(1_795_000_000_000);
const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "https://adwd.example/mcp";

struct Signer {
    pair: EcdsaKeyPair,
    x: String,
    y: String,
}

static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let rng = SystemRandom::new();
    let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(alg, &rng).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref(), &rng).unwrap();
    let point = pair.public_key().as_ref()[1..].to_vec();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
    Signer { pair, x, y }
});

fn jwk() -> Value {
    json!({ "kty": "EC", "crv": "P-256", "kid": "k1", "x": SIGNER.x, "y": SIGNER.y })
}

fn keys() -> Vec<IssuerKey> {
    read_keys(json!({ "keys": [jwk()] }).to_string().as_bytes()).unwrap()
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn token(header: &Value, payload: &Value) -> String {
    let signed = format!("{}.{}", encoded(header), encoded(payload));
    let mark = SIGNER.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mark.as_ref()))
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" })
}

fn payload() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": "openid adwd:run",
        "exp": NOW.0 / 1_000 + 300, "iat": NOW.0 / 1_000,
    })
}

fn with(mut base: Value, name: &str, value: Value) -> Value {
    base[name] = value;
    base
}

fn without(mut base: Value, name: &str) -> Value {
    base.as_object_mut().unwrap().remove(name);
    base
}

fn read(token: &str) -> Result<Claims, TokenError> {
    verify(token, &keys(), &Expected { issuer: ISSUER, audience: AUDIENCE, now: NOW })
}

fn why(token: &str) -> &'static str {
    match read(token) {
        Err(TokenError::Bad(why)) => why,
        Err(TokenError::UnknownKey) => "unknown key",
        Ok(claims) => panic!("taken: {claims:?}"),
    }
}

#[test]
fn a_good_token_says_who_what_and_how_long() {
    let claims = read(&token(&header(), &payload())).unwrap();
    let expires_at = Millis(NOW.0 + 300_000);
    let expected =
        Claims { subject: "alice".into(), tier: Some(Tier::Team), scope: Scope::All, expires_at };
    assert_eq!(claims, expected);
}

#[test]
fn headers_that_are_not_as_they_should_be() {
    for (name, value, part) in [
        ("alg", json!("none"), "alg is not"),
        ("alg", json!("HS256"), "alg is not"),
        ("alg", json!("RS256"), "alg is not"),
        ("alg", json!("es256"), "alg is not"),
        ("alg", json!(null), "form"),
        ("kid", json!("k2"), "unknown key"),
        ("typ", json!("dpop+jwt"), "typ"),
        ("typ", json!("logout+jwt"), "typ"),
        ("crit", json!(["exp"]), "extensions"),
        ("crit", json!(null), "extensions"),
        ("b64", json!(false), "extensions"),
    ] {
        let told = why(&token(&with(header(), name, value.clone()), &payload()));
        assert!(told.contains(part), "{name} {value}: {told}");
    }
    for typ in ["JWT", "at+JWT", "application/at+jwt"] {
        assert!(read(&token(&with(header(), "typ", json!(typ)), &payload())).is_ok(), "{typ}");
    }
    assert!(read(&token(&without(header(), "kid"), &payload())).is_ok(), "the only key is tried");
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"ES256","kid":"k1"}"#);
    let good = token(&header(), &payload());
    let rest = good.split_once('.').unwrap().1;
    assert!(why(&format!("{twice}.{rest}")).contains("form"));
}

#[test]
fn claims_that_are_not_as_they_should_be() {
    let at = |s: i64| json!(NOW.0 / 1_000 + s);
    for (name, value, part) in [
        ("iss", json!("https://id.example/"), "another issuer"),
        ("iss", json!(null), "another issuer"),
        ("aud", json!("https://other.example"), "another audience"),
        ("aud", json!(["https://other.example"]), "another audience"),
        ("aud", json!({}), "another audience"),
        ("exp", at(-61), "expired"),
        ("exp", json!(null), "when it ends"),
        ("exp", json!(1e300), "when it ends"),
        ("exp", json!("soon"), "form"),
        ("nbf", at(61), "not good yet"),
        ("sub", json!(""), "whom"),
        ("sub", json!("a\nb"), "whom"),
        ("sub", json!("x".repeat(201)), "whom"),
        ("adwd_projects", json!(7), "adwd_projects"),
        ("adwd_projects", json!(null), "adwd_projects"),
        ("adwd_projects", json!(["a", 7]), "adwd_projects"),
    ] {
        let told = why(&token(&header(), &with(payload(), name, value.clone())));
        assert!(told.contains(part), "{name} {value}: {told}");
    }
    for (name, value) in
        [("exp", at(-59)), ("nbf", at(59)), ("aud", json!(["https://other.example", AUDIENCE]))]
    {
        let good = with(payload(), name, value.clone());
        assert!(read(&token(&header(), &good)).is_ok(), "{name} {value}");
    }
    for name in ["iss", "aud", "exp", "sub"] {
        assert!(read(&token(&header(), &without(payload(), name))).is_err(), "{name}");
    }
}

#[test]
fn a_signature_is_over_this_header_and_this_payload() {
    let good = token(&header(), &payload());
    let (signed, mark) = good.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let other = encoded(&with(payload(), "sub", json!("mallory")));
    assert!(why(&format!("{head}.{other}.{mark}")).contains("signature"));
    assert!(why(&format!("{signed}.")).contains("signature"));
    assert!(why(&format!("{signed}.{mark}=")).contains("form"));
    assert!(why(signed).contains("form") || why(signed).contains("signature"));
    for text in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d"] {
        assert!(read(text).is_err(), "{text}");
    }
    assert!(why(&format!("{good}{}", "a".repeat(OAUTH_TOKEN_BYTES))).contains("too long"));
}

#[test]
fn the_public_key_is_no_secret_to_sign_with() {
    use hmac::{Hmac, KeyInit, Mac};
    let head = encoded(&json!({ "alg": "HS256", "kid": "k1" }));
    let signed = format!("{head}.{}", encoded(&payload()));
    let secret = URL_SAFE_NO_PAD.decode(&SIGNER.x).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&secret).unwrap();
    mac.update(signed.as_bytes());
    let mark = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    assert!(why(&format!("{signed}.{mark}")).contains("alg is not"));
    let symmetric = json!({ "keys": [{ "kty": "oct", "kid": "k1", "k": SIGNER.x }] });
    assert!(read_keys(symmetric.to_string().as_bytes()).unwrap().is_empty());
}

#[test]
fn scopes_stand_for_tiers_and_the_highest_counts() {
    for (name, value, tier) in [
        ("scope", json!("adwd:read"), Some(Tier::Solo)),
        ("scope", json!("adwd:run"), Some(Tier::Team)),
        ("scope", json!("adwd:admin adwd:read"), Some(Tier::Admin)),
        ("scp", json!(["adwd:read", "adwd:run"]), Some(Tier::Team)),
        ("scp", json!("adwd:read"), Some(Tier::Solo)),
        ("scope", json!("adwd:administrate xadwd:run"), None),
        ("scope", json!(""), None),
        ("scope", json!(7), None),
    ] {
        let said = with(without(payload(), "scope"), name, value.clone());
        assert_eq!(read(&token(&header(), &said)).unwrap().tier, tier, "{value}");
    }
}

#[test]
fn a_claim_about_projects_binds_also_where_it_is_empty() {
    let scope = |value: Value| {
        read(&token(&header(), &with(payload(), PROJECTS_CLAIM, value))).unwrap().scope
    };
    let names =
        |names: &[&str]| Scope::Projects(Arc::new(names.iter().map(|n| (*n).to_owned()).collect()));
    assert_eq!(scope(json!(["shop", "site"])), names(&["shop", "site"]));
    assert_eq!(scope(json!("shop")), names(&["shop"]));
    assert_eq!(scope(json!([])), names(&[]));
}

#[test]
fn keys_that_are_for_something_else_are_passed_over() {
    let read =
        |key: Value| read_keys(json!({ "keys": [key] }).to_string().as_bytes()).unwrap().len();
    assert_eq!(read(jwk()), 1);
    assert_eq!(read(with(jwk(), "use", json!("enc"))), 0);
    assert_eq!(read(with(jwk(), "key_ops", json!(["encrypt"]))), 0);
    assert_eq!(read(with(jwk(), "key_ops", json!(["verify"]))), 1);
    assert_eq!(read(with(jwk(), "alg", json!("ES384"))), 0);
    assert_eq!(read(with(jwk(), "alg", json!("ES256"))), 1);
    assert_eq!(read(with(jwk(), "x", json!("AAAA"))), 0);
    assert_eq!(read(with(jwk(), "crv", json!("secp256k1"))), 0);
    assert!(read_keys(b"<html>").is_err() && read_keys(b"{}").is_err());
    let bound = with(jwk(), "alg", json!("ES256"));
    let keys = read_keys(json!({ "keys": [bound] }).to_string().as_bytes()).unwrap();
    let expected = Expected { issuer: ISSUER, audience: AUDIENCE, now: NOW };
    assert!(verify(&token(&header(), &payload()), &keys, &expected).is_ok());
}

#[test]
fn an_ed25519_key_signs_too() {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] });
    let keys = read_keys(set.to_string().as_bytes()).unwrap();
    let signed = format!("{}.{}", encoded(&json!({ "alg": "EdDSA" })), encoded(&payload()));
    let mark = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()).as_ref());
    let expected = Expected { issuer: ISSUER, audience: AUDIENCE, now: NOW };
    assert!(verify(&format!("{signed}.{mark}"), &keys, &expected).is_ok());
}

/// A public RSA key of 2,048 bits and what OpenSSL 3 signed with it: `adwd`, as RS256 and PS384.
const RSA_N: &str = concat!(
    "mtYy0J4Ux2M1matASa2FCrEY6lh_aP3g17NNrpPYJSjjQOl7GypOPXeOAN5eCh5F0KN69oW0aYChIBSrStxOjh",
    "bIWxz3Q_1g7TMJBNJBzz6v39id68hk3W_sr3N1b7GAIn1s3lNWAwmPPsqT86sieqoNN0vTnaRZp4RJLfLWCWrn",
    "QmLVhfO-e6-dlcaNVtutjOPkAzdaDt2QVdH0dO3_9-RiuFT4xE2CQpPArQhvjPF_Lca4DhMp10YflroYHSDZqM",
    "LozXkIFjTUjiRa6janvM0YwVgO53eBNujUo9MBZdJSZ4i-xLtvQpbSwtmNcGvx2Dy20RB57CYtr824yPC5FQ",
);
const RSA_RS256: &str = concat!(
    "NVtzMDbdz8NPItYKtMr2FwNxypMNLOhLu_n_whEk0wEE8y22IIHxHqYXHdCkig13Fvzieo3k7uF4rYpYpRWCuN",
    "Afavz6J9B5Yj41cD7B5q0hGB54nifhRdrcr32Q7WB_YEYbLcti8eU-csbq5ER_B17zrHr2eMHtc-olGN7SXk7L",
    "ucsmCZzbKceqw40DXMIaon7zJtY4qa7Y_w3lqYtSkbl6ehV1aciLQjiHSsQ7vVeObJWO9-0-HB51UiQIy4G-qV",
    "Jyopg0ENtyO--ZCDqn73rJlshk--nzlHlSv7S8JseDTHeOZENRqXVuDfS_tYIPfbnXZCkXW8LEgfeHzMkkRw",
);
const RSA_PS384: &str = concat!(
    "N8HcbbDiQm1XHxWBHgpQYhFhX8seN5JGuPemueWwkaPdQYbYNWmH0uyAAdM3dMZXKW_EsT58JeaAxZxj5QNG2r",
    "1n_aQv8AH5eReaaAewjLzApDctvy31GtpSdhLxxoDZj6Oc7Ae-YHbyKBtKCf5DG-bhs0mqtcWdHUiRHuUd1s3w",
    "vvAaLlN6pDBPTfqvomzaqVgOW4WE8kQfgmIAJ7d9W9hAvTJpZ-Iydn_TZO_gXSMFRage1jhUOkdrQkjyMFbv-6",
    "jm-NYwRNayNw4G9CVaR-Evq4VvfECeGk5kCcm7ds4k79PRzO_DVCtuGfKJmRSMxVVWh4booLpsJ2U0iQAO5A",
);

#[test]
fn what_another_library_signs_with_rsa_is_signed() {
    let key = |n: &str| issuer_key(&json!({ "kty": "RSA", "e": "AQAB", "n": n })).unwrap();
    let signed = |key: &IssuerKey, alg: &str, mark: &str| {
        key.public.signed(alg, b"adwd", &URL_SAFE_NO_PAD.decode(mark).unwrap())
    };
    let good = key(RSA_N);
    assert!(signed(&good, "RS256", RSA_RS256) && signed(&good, "PS384", RSA_PS384));
    for (alg, mark) in [("RS384", RSA_RS256), ("PS256", RSA_RS256), ("ES256", RSA_RS256)] {
        assert!(!signed(&good, alg, mark), "{alg}");
    }
    assert!(!signed(&good, "RS256", RSA_PS384));
    let short = key(&RSA_N[..128]);
    assert!(!signed(&short, "RS256", RSA_RS256), "under 2,048 bits no key is believed");
}

proptest! {
    #[test]
    fn any_text_is_refused(text in "[A-Za-z0-9_.=-]{0,200}") {
        prop_assert!(read(&text).is_err());
        let _ = looks_like_one(&text);
    }

    #[test]
    fn a_changed_character_is_noticed(at in 0_usize..300, to in "[A-Za-z0-9_-]") {
        let good = token(&header(), &payload());
        prop_assume!(at < good.len() && good[at..=at] != to);
        let changed = format!("{}{to}{}", &good[..at], &good[at + 1..]);
        // The last character of a part may hold bits that mean nothing; strict decoding minds them.
        prop_assert!(read(&changed).is_err(), "{changed}");
    }
}
