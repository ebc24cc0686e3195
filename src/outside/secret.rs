//! Secrets: from a file that is its owner's alone, or from the settings.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::OutsideError;
use crate::config::{HookConfig, Secret};
use crate::limits::{OUTSIDE_SECRET_FILE_MAX_BYTES, OUTSIDE_SECRET_MIN_CHARS};

/// How the secret of a hook begins (Standard Webhooks, "Secrets").
const PREFIX: &str = "whsec_";
/// Bytes of the key in it: 192 to 512 bits, as that specification asks.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The text of a secret: the file's where one is named, else the setting's; none where neither is.
///
/// # Errors
/// A file that cannot be read, that others can read, or that holds too little.
pub fn read(
    setting: &str,
    file: Option<&Path>,
    inline: Option<&Secret>,
) -> Result<Option<Secret>, OutsideError> {
    let Some(path) = file else { return Ok(inline.cloned()) };
    let text = from_file(path).map_err(|problem| OutsideError::SecretFile {
        setting: format!("{setting}_file"),
        path: path.to_path_buf(),
        problem,
    })?;
    crate::telemetry::mask_value(&text);
    Ok(Some(Secret::new(text)))
}

fn from_file(path: &Path) -> Result<String, String> {
    let mut file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    // Of the open file: its name may come to mean another.
    let meta = file.metadata().map_err(|e| e.to_string())?;
    if !meta.is_file() {
        return Err("it is no file".to_owned());
    }
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o777;
        return Err(format!("others may read it (mode {mode:03o}); `chmod 600` it"));
    }
    let mut text = String::new();
    let mut bounded = (&mut file).take(OUTSIDE_SECRET_FILE_MAX_BYTES + 1);
    bounded.read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > OUTSIDE_SECRET_FILE_MAX_BYTES {
        return Err(format!("it has more than {OUTSIDE_SECRET_FILE_MAX_BYTES} bytes"));
    }
    let text = text.trim_end_matches(['\n', '\r']);
    if text.chars().count() < OUTSIDE_SECRET_MIN_CHARS {
        return Err(format!("expected at least {OUTSIDE_SECRET_MIN_CHARS} characters in it"));
    }
    Ok(text.to_owned())
}

/// The key that signs what a hook is told; none for a chat service without a secret.
///
/// # Errors
/// As [`read`], and a secret that is not of the form.
pub fn hook_key(hook: &HookConfig) -> Result<Option<Vec<u8>>, OutsideError> {
    let setting = format!("hook.{}.secret", hook.name);
    let secret = read(&setting, hook.secret_file.as_deref(), hook.secret.as_ref())?;
    let Some(secret) = secret else { return Ok(None) };
    let key = secret.expose().strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    key.filter(|key| KEY_BYTES.contains(&key.len())).map(Some).ok_or_else(|| {
        let problem = format!(
            "expected {PREFIX} and {} to {} bytes as base64: `echo {PREFIX}$(openssl rand -base64 32)` makes one",
            KEY_BYTES.start(),
            KEY_BYTES.end()
        );
        OutsideError::Secret { setting, problem }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::HookFormat;

    fn hook(secret: &str) -> HookConfig {
        HookConfig {
            name: "ops".to_owned(),
            url: "https://x/".to_owned(),
            secret_file: None,
            secret: Some(Secret::new(secret.to_owned())),
            format: HookFormat::Json,
            events: vec![],
            projects: vec![],
        }
    }

    #[test]
    fn a_file_goes_before_a_value_and_must_be_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let inline = Secret::new("of the settings".to_owned());
        let get = || read("github.webhook_secret", Some(&path), Some(&inline));
        let error = get().unwrap_err().to_string();
        assert!(error.starts_with("github.webhook_secret_file: ") && error.contains("secret: "));
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = get().unwrap_err().to_string();
        assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(get().unwrap().unwrap().expose(), "0123456789abcdef");
        std::fs::write(&path, "short\n").unwrap();
        assert!(get().unwrap_err().to_string().contains("at least 16"));
        std::fs::write(&path, "x".repeat(5_000)).unwrap();
        assert!(get().unwrap_err().to_string().contains("more than"));
        assert!(read("x", Some(dir.path()), None).unwrap_err().to_string().contains("no file"));
        assert_eq!(read("x", None, Some(&inline)).unwrap(), Some(inline));
        assert_eq!(read("x", None, None).unwrap(), None);
    }

    #[test]
    fn the_secret_of_a_hook_has_the_form_that_libraries_read() {
        let key = hook_key(&hook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap().unwrap();
        assert_eq!(key.len(), 24);
        for bad in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_AAAA", "whsec_not base64!"]
        {
            let error = hook_key(&hook(bad)).unwrap_err().to_string();
            assert!(
                error.starts_with("hook.ops.secret: ") && error.contains("openssl rand"),
                "{error}"
            );
            assert!(!error.contains(&bad[6..]) || bad.len() < 8, "{error}");
        }
    }
}
