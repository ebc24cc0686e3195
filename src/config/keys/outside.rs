//! What starts runs from outside, and who is told of their end.

use super::*;
use crate::config::types::{GITHUB_ASSOCIATIONS, Secret};
use crate::limits::OUTSIDE_SECRET_MIN_CHARS;
use crate::telemetry::MASK;

pub(super) static KEYS: &[Key] = &[
    key(
        "github.webhook_secret_file",
        &["ADWD_GITHUB_WEBHOOK_SECRET_FILE"],
        |c, v, base| {
            c.outside.github.secret_file = Some(base.path(&v.text()?)?);
            Ok(())
        },
        |c| {
            let file = c.outside.github.secret_file.as_deref();
            file.map(|path| path.display().to_string()).unwrap_or_default()
        },
    ),
    key(
        "github.webhook_secret",
        &["ADWD_GITHUB_WEBHOOK_SECRET"],
        |c, v, _| {
            let text = v.text()?;
            if text.chars().count() < OUTSIDE_SECRET_MIN_CHARS {
                return Err(format!("expected at least {OUTSIDE_SECRET_MIN_CHARS} characters"));
            }
            c.outside.github.secret = Some(Secret::new(text));
            Ok(())
        },
        |c| c.outside.github.secret.as_ref().map(|_| MASK.to_owned()).unwrap_or_default(),
    ),
    key(
        "github.label",
        &["ADWD_GITHUB_LABEL"],
        |c, v, _| {
            c.outside.github.label = some_text(v)?;
            Ok(())
        },
        |c| c.outside.github.label.clone(),
    ),
    list_key!("github.authors", &["ADWD_GITHUB_AUTHORS"], check_login, outside.github.authors),
    list_key!(
        "github.associations",
        &["ADWD_GITHUB_ASSOCIATIONS"],
        check_association,
        outside.github.associations
    ),
];

fn check_login(login: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !login.is_empty() && login.len() <= 64 && login.bytes().all(good) {
        return Ok(());
    }
    Err(format!("{login:?} is no login: expected letters, digits and -, without an @"))
}

fn check_association(word: &str) -> Result<(), String> {
    if GITHUB_ASSOCIATIONS.contains(&word) {
        return Ok(());
    }
    Err(format!("{word:?} is none of {}", GITHUB_ASSOCIATIONS.join(", ")))
}
