//! Masking secrets and control characters in text that leaves the program.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use regex::Regex;

use crate::limits::LOG_SECRET_MIN_CHARS;

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// Values to mask wherever they turn up: those of secret environment variables and settings.
static VALUES: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Secrets that can be told by their form. Group `keep` stays, the rest of the match is masked.
static FORMS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        // Keys of this program (`adwd_<tier>_<id>_<secret>`), whatever stands before them and also
        // where they are cut off; model vendors, forges, clouds, signed tokens.
        r"(?P<key>(?i:adwd_(?:free|solo|team|enterprise|admin|owner)_[0-9a-f]{4,}_[0-9a-f]+)",
        r"|\badwd_[A-Za-z0-9]+_[A-Za-z0-9]+_[A-Za-z0-9]+",
        r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
        r"|\bsk-[A-Za-z0-9_-]{8,}",
        r"|\bgh[pousr]_[A-Za-z0-9]{8,}",
        r"|\bgithub_pat_[A-Za-z0-9_]{8,}",
        r"|\bglpat-[A-Za-z0-9_-]{8,}",
        r"|\bxox[abprs]-[A-Za-z0-9-]{8,}",
        r"|\bAKIA[A-Z0-9]{16}\b",
        // Tokens of step workflows: version, key, payload, MAC.
        r"|\bv1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{43}\b)",
        r"|(?P<bearer>(?i:\b(?:bearer|basic)[ \t]+))[A-Za-z0-9._~+/=-]{8,}",
        // scheme://user:password@ (up to the last '@': people forget to escape) and scheme://token@
        r#"|(?P<login>\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/:@]*:)[^\s"']+@"#,
        r"|(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/:@]+@",
        // A setting, header or JSON member whose name says that its value is secret.
        r#"|(?P<name>(?i:\b[A-Za-z0-9_.-]*(?:password|passwd|secret|api[_-]?key|access[_-]?token"#,
        r#"|auth[_-]?token|_token|private[_-]?key))["']?[ \t]*[=:][ \t]*["']?)"#,
        r#"[^\s"',;&)}\]]{4,}"#,
    ))
    .ok()
});

/// Remembers the values of the environment variables whose names say that they are secret, and the
/// headers of OpenTelemetry, which carry keys under a name that does not.
pub(super) fn learn(env: &BTreeMap<String, String>) {
    let secret = |name: &str| is_secret_name(name) || name.ends_with("OTLP_HEADERS");
    remember(env.iter().filter(|(name, _)| secret(name)).map(|(_, value)| value.clone()));
}

/// Remembers a secret that came from a setting or a file: from now on it is masked wherever it turns
/// up. One shorter than [`LOG_SECRET_MIN_CHARS`] is not.
pub fn mask_value(secret: &str) {
    remember(std::iter::once(secret.to_owned()));
}

fn remember(secrets: impl Iterator<Item = String>) {
    let mut values = VALUES.write().unwrap_or_else(PoisonError::into_inner);
    values.extend(secrets.filter(|value| value.len() >= LOG_SECRET_MIN_CHARS));
    // The longest first: a secret may be part of another one.
    values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    values.dedup();
}

/// True for names such as `ANTHROPIC_API_KEY`, `GITHUB_TOKEN`, `DB_PASSWORD`, `AWS_SECRET_…`.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "APIKEY"];
    words.iter().any(|word| name.contains(word))
        || name.split(['_', '-', '.']).any(|part| matches!(part, "KEY" | "KEYS" | "PAT" | "PASS"))
}

/// Masks secrets: known values, keys of known form, `Bearer …`, passwords in URLs, and what
/// follows names such as `password=`. Borrowed when there was nothing to mask.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut secrets = Vec::new();
    for value in VALUES.read().unwrap_or_else(PoisonError::into_inner).iter() {
        secrets
            .extend(text.match_indices(value.as_str()).map(|(at, found)| (at, at + found.len())));
    }
    for found in FORMS.iter().flat_map(|forms| forms.captures_iter(text)) {
        let Some(whole) = found.get(0) else { continue };
        let before = ["bearer", "name", "login", "scheme"].into_iter();
        let begins = before.filter_map(|part| found.name(part)).map(|part| part.end()).max();
        let is_url = found.name("login").is_some() || found.name("scheme").is_some();
        let end = whole.end() - usize::from(is_url);
        secrets.push((begins.unwrap_or_else(|| whole.start()), end));
    }
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    // All are looked for in the same text: masking one first would hide the form of another that it
    // is part of, and leave the rest of that one.
    secrets.sort_unstable();
    let mut masked = String::with_capacity(text.len());
    let mut told = 0;
    for (begins, end) in secrets {
        if begins >= told {
            masked.push_str(&text[told..begins]);
            masked.push_str(MASK);
        }
        told = told.max(end);
    }
    masked.push_str(&text[told..]);
    Cow::Owned(masked)
}

/// Makes control characters visible (`\u{1b}`), so that hostile text can neither forge a line nor
/// steer a terminal. Tabs stay. Borrowed when there were none.
pub fn neutralise(text: &str) -> Cow<'_, str> {
    let hostile = |c: char| {
        (c.is_control() && c != '\t')
            // Line separators, and marks that turn the direction of writing.
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if hostile(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_of_known_form_are_masked() {
        for (text, expected) in [
            ("key adwd_admin_ab12_zz99yy is", "key *** is"),
            ("x=my_adwd_team_3f9a1c2e77b0_fedc98760123ba54!", "x=my_***!"),
            ("{\"name\":\"adwd_solo_3f9a1c2e77b0_01", "{\"name\":\"***"),
            ("ADWD_TEAM_3F9A1C2E77B0_FEDC98760123BA54", "***"),
            ("token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln ends", "token *** ends"),
            ("sk-ant-api03-abcdefghij", "***"),
            (
                "use v1.k1.eyJleGVjdXRpb25faWQiOiJleGVjXzEifQ.\
                 0123456789abcdefghijklmnopqrstuvwxyzABCDEFG now",
                "use *** now",
            ),
            ("ghp_abcdefghij0123456789", "***"),
            ("github_pat_11ABCDEFG_xyz012", "***"),
            ("Authorization: Bearer abc.def-ghi123", "Authorization: Bearer ***"),
            ("postgres://u:pass@h/db", "postgres://u:***@h/db"),
            (
                "https://x-access-token:gho_zzzzzzzzzz@github.com/a",
                "https://x-access-token:***@github.com/a",
            ),
            ("postgres://u:p@ss/w@h/db", "postgres://u:***@h/db"),
            ("https://tokentoken@github.com/a", "https://***@github.com/a"),
            ("{\"password\": \"hunter22\"}", "{\"password\": \"***\"}"),
            ("ANTHROPIC_API_KEY=abcd1234 x", "ANTHROPIC_API_KEY=*** x"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in [
            "adwd_admin",
            "task-runner sk- x",
            "phase plan finished in 12 ms",
            "key = run",
            "https://github.com/a/b?x=1",
            "git@github.com:a/b.git",
            "https://esm.sh/react@18",
            "tokens=1234567",
            "the bearer of news",
        ] {
            assert!(matches!(redact(text), Cow::Borrowed(_)), "{text} -> {}", redact(text));
        }
    }

    #[test]
    fn values_of_secret_variables_are_masked_and_short_ones_are_not() {
        let env =
            [("MY_TEST_TOKEN", "zebra-crossing-9"), ("OTHER_SECRET", "1"), ("HOME", "/home/u")];
        learn(&env.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!(redact("at zebra-crossing-9!"), "at ***!");
        assert_eq!(redact("1 of /home/u"), "1 of /home/u");
        mask_value("It's a Secret of a File");
        mask_value("short");
        assert_eq!(redact("short: It's a Secret of a File."), "short: ***.");
        mask_value("deadbeefdead");
        let key = "of adwd_team_3f9a1c2e77b0_deadbeefdead0123 only";
        assert_eq!(redact(key), "of *** only", "a known value that is part of another secret");
        learn(&[("OTEL_EXPORTER_OTLP_HEADERS".to_owned(), "x-team=olive-tree".to_owned())].into());
        assert_eq!(redact("sent x-team=olive-tree"), "sent ***");
        for name in ["ANTHROPIC_API_KEY", "GH_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["KEYBOARD", "HOME", "PATH", "MONKEY_COUNT"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(neutralise("a\u{1b}[31mb\nc\td"), "a\\u{1b}[31mb\\nc\td");
        assert!(matches!(neutralise("plain é ✓"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn redaction_is_total_and_idempotent(text in ".{0,200}") {
            let once = redact(&text).into_owned();
            prop_assert_eq!(redact(&once).into_owned(), once);
        }

        #[test]
        fn no_control_character_survives(text in "[\\x00-\\x7f\\u{80}-\\u{9f}]{0,80}") {
            prop_assert!(!neutralise(&text).contains(|c: char| c.is_control() && c != '\t'));
        }
    }
}
