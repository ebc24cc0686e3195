//! Keys as text: `adwd_{tier}_{id}_{secret}`, how one is read, and what is stored of it.
//!
//! The secret is 256 random bits, so a fast hash is enough: nobody can try them out. The hash is
//! keyed with a *pepper*, and takes the id in, so that a hash that is copied to another row of the
//! database opens nothing.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::Tier;
use crate::clock::Millis;
use crate::ids::Rng;
use crate::limits::ACCESS_LIFE_MS;

/// How every key begins.
pub const KEY_PREFIX: &str = "adwd_";
/// Characters of a key's id: hexadecimal, so that nothing has to be escaped anywhere.
pub const ID_CHARS: usize = 12;
/// Bytes of a secret and of a pepper.
pub const SECRET_BYTES: usize = 32;

/// What secrets are hashed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Pepper(pub(super) [u8; SECRET_BYTES]);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

/// A key somebody shows, or one that is just made.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText {
    /// The tier that it names.
    pub tier: Tier,
    /// Which key it says it is.
    pub id: String,
    secret: [u8; SECRET_BYTES],
}

/// Secrets are not shown.
impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({} {})", self.tier.as_str(), self.id)
    }
}

impl KeyText {
    /// A new key of that tier.
    #[must_use]
    pub fn generate(tier: Tier, rng: &dyn Rng) -> KeyText {
        let mut id = [0; ID_CHARS / 2];
        rng.fill(&mut id);
        KeyText { tier, id: hex(&id), secret: [0; SECRET_BYTES] }.with_new_secret(tier, rng)
    }

    /// The same key with another secret, under the tier that is stored.
    #[must_use]
    pub fn with_new_secret(mut self, tier: Tier, rng: &dyn Rng) -> KeyText {
        self.tier = tier;
        rng.fill(&mut self.secret);
        self
    }

    /// A key of that id, to be given a secret.
    #[must_use]
    pub fn of(tier: Tier, id: &str) -> KeyText {
        KeyText { tier, id: id.to_owned(), secret: [0; SECRET_BYTES] }
    }

    /// Reads a key: exactly the form in which it was shown, so that a key has one spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<KeyText> {
        let mut parts = text.strip_prefix(KEY_PREFIX)?.split('_');
        let tier = parts.next().and_then(key_tier)?;
        let id = parts.next().filter(|id| is_id(id))?;
        let secret = parts.next().and_then(unhex)?;
        parts.next().is_none().then(|| KeyText { tier, id: id.to_owned(), secret })
    }

    /// The key as it is shown, once.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{KEY_PREFIX}{}_{}_{}", self.tier.as_str(), self.id, hex(&self.secret))
    }

    /// What is stored of the secret: HMAC-SHA256 of the id and it, in hexadecimal.
    #[must_use]
    pub fn hash(&self, pepper: &Pepper) -> String {
        let parts = [b"adwd access key\0", self.id.as_bytes(), b"\0", &self.secret];
        hex(&keyed(pepper, &parts))
    }

    /// Whether the stored hash is that of this key, in a time that says nothing.
    #[must_use]
    pub fn is(&self, stored: &str, pepper: &Pepper) -> bool {
        self.hash(pepper).as_bytes().ct_eq(stored.as_bytes()).into()
    }
}

/// What a credential is remembered by in memory: keyed, so that nobody can steer where it falls.
#[must_use]
pub(super) fn remembered_by(text: &str, pepper: &Pepper) -> [u8; SECRET_BYTES] {
    keyed(pepper, &[b"adwd shown\0", text.as_bytes()])
}

fn keyed(pepper: &Pepper, parts: &[&[u8]]) -> [u8; SECRET_BYTES] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&pepper.0) else {
        unreachable!("HMAC takes keys of every length")
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The tier of a key by its word: those that keys can have.
#[must_use]
pub fn key_tier(word: &str) -> Option<Tier> {
    Tier::parse(word).filter(|tier| *tier != Tier::Owner)
}

/// Whether a text has the form of a key's id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.bytes().all(is_digit)
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

pub(super) fn unhex(text: &str) -> Option<[u8; SECRET_BYTES]> {
    if text.len() != 2 * SECRET_BYTES || !text.bytes().all(is_digit) {
        return None;
    }
    let mut bytes = [0; SECRET_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A pepper as its file and its table hold it.
pub(super) fn pepper_text(pepper: &Pepper) -> String {
    hex(&pepper.0)
}

/// A length of time: `90s`, `30m`, `12h`, `30d`, `4w`; in ms, from 1 to `most_ms`.
#[must_use]
pub fn span_ms(text: &str, most_ms: i64) -> Option<i64> {
    let units =
        [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000_i64)];
    let number = |unit: &str| text.trim().strip_suffix(unit)?.parse::<u32>().ok();
    let ms = units.iter().find_map(|(unit, ms)| Some(i64::from(number(unit)?).saturating_mul(*ms)));
    ms.filter(|ms| (1..=most_ms).contains(ms))
}

/// When a key ends: after a length of time, at a moment, or with a day (in UTC, the whole of it).
///
/// # Errors
/// What would be right.
pub fn expiry(text: &str, now: Millis) -> Result<Millis, String> {
    let text = text.trim();
    let day_end = || Some(Millis::parse_rfc3339(&format!("{text}T00:00:00Z"))?.plus_ms(86_400_000));
    let at = span_ms(text, ACCESS_LIFE_MS)
        .map(|ms| now.plus_ms(ms))
        .or_else(|| Millis::parse_rfc3339(text))
        .or_else(day_end)
        .ok_or(
            "expected 12h, 30d, a day such as 2026-12-31, or a time such as 2026-12-31T18:00:00Z",
        )?;
    match at.since_ms(now) {
        ms if ms <= 0 => Err(format!("that is over already ({})", at.rfc3339())),
        ms if ms > ACCESS_LIFE_MS => Err("that is more than a hundred years away".to_owned()),
        _ => Ok(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TestRng;
    use proptest::prelude::*;

    const PEPPER: Pepper = Pepper([7; SECRET_BYTES]);

    #[test]
    fn a_key_is_read_as_it_was_shown_and_no_other_way() {
        let key = KeyText::generate(Tier::Team, &TestRng::new(1));
        let shown = key.shown();
        assert_eq!(KeyText::parse(&shown), Some(key.clone()));
        assert_eq!(shown.len(), "adwd_team_".len() + ID_CHARS + 1 + 2 * SECRET_BYTES);
        let upper = shown.to_uppercase().replace("ADWD_TEAM", "adwd_team");
        for bad in [
            shown.replace("adwd", "ADWD"),
            upper,
            format!("{shown} "),
            format!("{shown}0"),
            format!("{shown}_0"),
            shown[..shown.len() - 2].to_owned(),
            shown.replace("_team_", "_owner_"),
            shown.replace("_team_", "_boss_"),
            shown.replace("_team_", "__"),
            String::new(),
        ] {
            assert_eq!(KeyText::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn the_hash_tells_secret_id_and_pepper_apart_and_shows_none_of_them() {
        let (rng, other) = (TestRng::new(1), Pepper([8; SECRET_BYTES]));
        let key = KeyText::generate(Tier::Solo, &rng);
        let hash = key.hash(&PEPPER);
        assert!(key.is(&hash, &PEPPER));
        assert!(!key.is(&hash, &other) && !key.is("", &PEPPER) && !key.is(&hash[1..], &PEPPER));
        let next = key.clone().with_new_secret(Tier::Solo, &rng);
        assert!(!next.is(&hash, &PEPPER));
        let elsewhere = KeyText { id: "0123456789ab".to_owned(), ..key.clone() };
        assert!(!elsewhere.is(&hash, &PEPPER));
        assert!(!hash.contains(&hex(&key.secret)));
        let said = format!("{key:?} {PEPPER:?}");
        assert!(!said.contains(&hex(&key.secret)) && !said.contains("07"), "{said}");
    }

    #[test]
    fn two_keys_share_nothing() {
        let rng = TestRng::new(3);
        let (a, b) = (KeyText::generate(Tier::Free, &rng), KeyText::generate(Tier::Free, &rng));
        assert!(a.id != b.id && a.secret != b.secret && a.secret != [0; SECRET_BYTES]);
    }

    #[test]
    fn an_end_is_a_span_a_day_or_a_moment_to_come() {
        let now = Millis::parse_rfc3339("2026-11-26T12:00:00Z").unwrap();
        let at = |text: &str| expiry(text, now).unwrap().rfc3339();
        assert_eq!(at("12h"), "2026-11-27T00:00:00.000Z");
        assert_eq!(at("30d"), "2026-12-26T12:00:00.000Z");
        assert_eq!(at("2026-11-26"), "2026-11-27T00:00:00.000Z", "the whole day");
        assert_eq!(at("2026-12-01T09:00:00+01:00"), "2026-12-01T08:00:00.000Z");
        for (bad, part) in [
            ("soon", "expected 12h"),
            ("", "expected 12h"),
            ("0d", "expected 12h"),
            ("2026-11-25", "over already"),
            ("2999-01-01", "hundred years"),
        ] {
            let error = expiry(bad, now).unwrap_err();
            assert!(error.contains(part), "{bad}: {error}");
        }
        assert_eq!(span_ms("24h", 86_400_000), Some(86_400_000));
        assert_eq!(span_ms("25h", 86_400_000), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(adwd_)?[a-z0-9_]{0,90}", at in any::<i64>()) {
            if let Some(key) = KeyText::parse(&text) {
                prop_assert_eq!(key.shown(), text.clone());
            }
            let _ = expiry(&text, Millis(at));
        }
    }
}
