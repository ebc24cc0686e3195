//! What somebody is told of the end of a run, how that is signed, and what an answer means. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::clock::Millis;
use crate::config::HookFormat;
use crate::limits::{
    HOOK_BODY_MAX_BYTES, HOOK_PAUSE_MAX_MS, HOOK_PAUSE_MS, HOOK_RETRY_AFTER_MAX_MS,
    HOOK_TEXT_MAX_CHARS,
};
use crate::runs::RunView;

/// `v1,` and the base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}` (Standard Webhooks,
/// "Signature scheme"). `timestamp_s`: the moment of the attempt, in seconds.
#[must_use]
pub fn signature(key: &[u8], id: &str, timestamp_s: i64, body: &str) -> String {
    // HMAC takes keys of any length: there is nothing in this that can fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{id}.{timestamp_s}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The body that tells of a run's end.
#[must_use]
pub fn body(format: HookFormat, run: &RunView, version: &str) -> String {
    match format {
        HookFormat::Json => json_body(run, version),
        HookFormat::Slack => slack(run).to_string(),
    }
}

/// The body of a trial, which tells of no run.
#[must_use]
pub fn trial(format: HookFormat, hook: &str, version: &str, now: Millis) -> String {
    match format {
        HookFormat::Json => json!({
            "type": "adwd.test", "event": "test", "timestamp": now.rfc3339(),
            "adwd_version": version, "hook": hook,
        }),
        HookFormat::Slack => message(&format!("adwd: a trial of hook {}", plain(hook)), &[]),
    }
    .to_string()
}

fn json_body(run: &RunView, version: &str) -> String {
    // What the scripts keep is theirs: it may hold anything, and nobody outside needs it.
    let mut run = RunView { state: None, state_age_ms: None, state_problem: None, ..run.clone() };
    let text = |run: &RunView| {
        json!({
            "type": format!("run.{}", run.status), "event": run.status.as_str(),
            "timestamp": run.ended_at, "adwd_version": version, "run": run,
        })
        .to_string()
    };
    let whole = text(&run);
    if whole.len() <= HOOK_BODY_MAX_BYTES {
        return whole;
    }
    let attempts = run.phases.iter_mut().flat_map(|phase| phase.attempts.iter_mut());
    let failures = attempts.filter_map(|attempt| attempt.failure.as_mut());
    failures.chain(run.failure.as_mut()).for_each(|failure| failure.log_tail.clear());
    text(&run)
}

/// A message for Slack, and for what takes its form (Mattermost, Discord's `/slack`, Rocket.Chat).
fn slack(run: &RunView) -> Value {
    let (project, issue) = (plain(&run.project), plain(&run.issue_number));
    let head = format!("{project} #{issue}: {}", run.status);
    let mut lines: Vec<String> = run.issue_title.iter().map(|title| plain(title)).collect();
    if let Some(failure) = &run.failure {
        lines.push(format!("{}: {}", failure.class.as_str(), plain(&failure.message)));
    }
    lines.extend(run.skip_reason.iter().map(|reason| plain(reason)));
    lines.extend(run.pr_url.iter().filter(|url| is_link(url)).map(|url| plain(url)));
    let cost = run.usage.filter(|usage| usage.cost_usd > 0.0);
    let cost = cost.map_or_else(String::new, |usage| format!(", ${:.2}", usage.cost_usd));
    lines.push(format!("run {}{cost}", plain(&run.adw_id)));
    message(&head, &lines)
}

/// `text` is what notifications and other servers show, `blocks` what Slack itself does.
fn message(head: &str, lines: &[String]) -> Value {
    let mut text = head.to_owned();
    for line in lines {
        text.push('\n');
        text.push_str(line);
    }
    let mut blocks = vec![
        json!({ "type": "section", "text": { "type": "mrkdwn", "text": format!("*{head}*") } }),
    ];
    if !lines.is_empty() {
        let lines = json!({ "type": "plain_text", "text": lines.join("\n"), "emoji": false });
        blocks.push(json!({ "type": "section", "text": lines }));
    }
    json!({ "text": text, "blocks": blocks })
}

/// Text that others wrote, so that it can neither call people nor look like something of ours:
/// `&<>` as Slack wants them, an invisible space behind each `@` (other servers read `@channel` in
/// plain text) and each `]` (they read `[text](address)` as a link that hides where it leads), no
/// line breaks, no marks of formatting.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(HOOK_TEXT_MAX_CHARS) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("@\u{200b}"),
            ']' => out.push_str("]\u{200b}"),
            '*' | '`' | '~' => {}
            c if c.is_control() => out.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => out.push(c),
        }
    }
    if text.chars().nth(HOOK_TEXT_MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}

fn is_link(url: &str) -> bool {
    let web = url.starts_with("https://") || url.starts_with("http://");
    web && !url.contains(|c: char| c.is_whitespace() || c.is_control() || "<>|\"'".contains(c))
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is there.
    Delivered,
    /// Another attempt may help.
    Again,
    /// None will.
    Dead,
}

/// Judges the status of an answer. Redirects are not followed: somebody else's server would get what
/// was signed for this one.
#[must_use]
pub fn verdict(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        408 | 425 | 429 | 500..=599 => Verdict::Again,
        _ => Verdict::Dead,
    }
}

/// The pause after attempt number `attempt` (1 is the first), in ms: it triples up to the longest,
/// and lies up to a fifth beside that, so that receivers that were away are not met by all at once.
/// `random`: any number.
#[must_use]
pub fn pause_ms(attempt: i64, random: u16) -> i64 {
    let doublings = u32::try_from(attempt.clamp(1, 20) - 1).unwrap_or_default();
    let pause = HOOK_PAUSE_MS.saturating_mul(3_i64.saturating_pow(doublings));
    let pause = pause.min(HOOK_PAUSE_MAX_MS);
    let share = i64::from(random % 401) - 200;
    pause + pause * share / 1_000
}

/// What a `Retry-After` asks for, in ms: seconds, or a date. Never longer than is sensible.
#[must_use]
pub fn retry_after_ms(header: &str, now: Millis) -> Option<i64> {
    let header = header.trim();
    let asked = match header.parse::<i64>() {
        Ok(seconds) => seconds.saturating_mul(1_000),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(header).ok()?.timestamp().as_millisecond();
            Millis(at).since_ms(now)
        }
    };
    Some(asked.clamp(0, HOOK_RETRY_AFTER_MAX_MS))
}

#[cfg(test)]
#[path = "notice_tests.rs"]
mod tests;
