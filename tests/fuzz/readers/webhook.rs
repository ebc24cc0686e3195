//! Deliveries of GitHub, and what other servers say when they are told of a run.

use adwd::clock::Millis;
use adwd::config::GithubConfig;
use adwd::limits::HOOK_RETRY_AFTER_MAX_MS;
use adwd::outside::github::{self, Asked, command, is_signed};
use adwd::outside::notice::retry_after_ms;

use super::{choice, halves, text};

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (choice, bytes) = choice(bytes);
    let config = GithubConfig {
        secret_file: None,
        secret: None,
        label: "adw".to_owned(),
        authors: vec!["alice".to_owned()],
        associations: vec!["OWNER".to_owned()],
    };
    match choice % 4 {
        0 | 1 => {
            let event = if choice % 4 == 0 { "issues" } else { "issue_comment" };
            if let Ok(Asked::Order(order)) = github::read(&config, event, bytes) {
                // Whoever is a bot is never heard, whatever else is said.
                assert!(!order.login.ends_with("[bot]"));
                assert!(order.issue.bytes().all(|byte| byte.is_ascii_digit()));
            }
        }
        2 => {
            let Some(body) = text(bytes) else { return };
            if let Some(Err(why)) = command(body) {
                assert!(why.len() < 1_000, "what a stranger wrote is told in short: {why}");
            }
        }
        _ => {
            let (header, body) = halves(bytes);
            let Some(header) = text(header) else { return };
            assert!(!is_signed(b"a secret that nobody knows", body, header));
            let now = Millis(1_790_000_000_000);
            let ms = retry_after_ms(header, now);
            assert!(ms.is_none_or(|ms| (0..=HOOK_RETRY_AFTER_MAX_MS).contains(&ms)));
        }
    }
}
