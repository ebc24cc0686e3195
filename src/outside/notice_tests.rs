//! What somebody is told.

use proptest::prelude::*;

use super::*;
use crate::limits::HOOK_ATTEMPTS_COUNT;
use crate::runs::{Failure, FailureClass, RunStatus};

/// A run that failed, as the wire has it.
fn run() -> RunView {
    serde_json::from_value(json!({
        "adw_id": "abc", "project": "shop", "issue_number": "42", "issue_title": "Add a basket",
        "status": "failed", "origin": "daemon", "triggered_by": "mcp", "host": "here", "phases": [],
        "priority": 0, "skip_cleanup": false, "created_at": "2026-11-21T09:00:00.000Z",
        "ended_at": "2026-11-21T09:27:00.000Z", "pr_url": "https://github.com/acme/shop/pull/7",
        "state": { "secret_of_the_scripts": 1 }, "revision": 3,
        "failure": { "class": "agent", "message": "it gave up", "retryable": false },
    }))
    .unwrap()
}

#[test]
fn the_signature_is_that_of_the_standards_own_example() {
    let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let body = "{\"test\": 2432232314}";
    let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
    assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn the_json_form_has_the_run_without_what_the_scripts_keep() {
    let told: Value = serde_json::from_str(&body(HookFormat::Json, &run(), "1.2.3")).unwrap();
    assert_eq!(told["type"], "run.failed");
    assert_eq!(told["event"], "failed");
    assert_eq!(told["timestamp"], "2026-11-21T09:27:00.000Z");
    assert_eq!(told["adwd_version"], "1.2.3");
    assert_eq!(told["run"]["failure"]["class"], "agent");
    assert_eq!(told["run"].get("state"), None);
}

#[test]
fn a_body_stays_within_its_bound_by_leaving_out_log_lines() {
    let mut run = run();
    let failure = Failure {
        class: FailureClass::Agent,
        message: "m".into(),
        retryable: false,
        phase: None,
        log_tail: vec!["x".repeat(1_000); 400],
    };
    run.failure = Some(failure);
    let told = body(HookFormat::Json, &run, "1");
    assert!(told.len() < HOOK_BODY_MAX_BYTES && told.contains("\"class\":\"agent\""));
}

#[test]
fn a_chat_message_names_the_run_and_calls_nobody() {
    let mut run = run();
    run.issue_title = Some("<!channel> @here & @everyone *look* [x](http://y)\n`z`".to_owned());
    run.pr_url = Some("javascript:alert(1)".to_owned());
    let told: Value = serde_json::from_str(&body(HookFormat::Slack, &run, "1")).unwrap();
    let text = told["text"].as_str().unwrap();
    assert!(text.starts_with("shop #42: failed\n&lt;!channel&gt; @\u{200b}here &amp; "), "{text}");
    assert!(text.contains("agent: it gave up") && text.ends_with("run abc"), "{text}");
    assert!(!told.to_string().contains("javascript"));
    assert_eq!(told["blocks"][0]["text"]["type"], "mrkdwn");
    assert_eq!(told["blocks"][1]["text"]["type"], "plain_text");
    run.pr_url = Some("https://github.com/acme/shop/pull/7".to_owned());
    assert!(body(HookFormat::Slack, &run, "1").contains("https://github.com/acme/shop/pull/7"));
}

#[test]
fn the_words_of_the_settings_are_the_ends_of_runs() {
    let ends = RunStatus::ALL.into_iter().filter(|s| s.is_terminal()).map(RunStatus::as_str);
    assert_eq!(ends.collect::<Vec<_>>(), crate::config::HOOK_EVENTS);
}

#[test]
fn what_may_help_is_tried_again_and_nothing_else() {
    for (statuses, expected) in [
        (&[200, 201, 204][..], Verdict::Delivered),
        (&[408, 425, 429, 500, 502, 503, 504], Verdict::Again),
        (&[301, 302, 308, 400, 401, 403, 404, 410, 413], Verdict::Dead),
    ] {
        for status in statuses {
            assert_eq!(verdict(*status), expected, "{status}");
        }
    }
}

#[test]
fn pauses_grow_from_seconds_to_hours() {
    let middle = |attempt| pause_ms(attempt, 200);
    assert_eq!([middle(1), middle(2), middle(3)], [5_000, 15_000, 45_000]);
    assert_eq!(middle(HOOK_ATTEMPTS_COUNT), HOOK_PAUSE_MAX_MS);
    let all: i64 = (1..HOOK_ATTEMPTS_COUNT).map(middle).sum();
    assert!((20..40).contains(&(all / 3_600_000)), "about a day: {all} ms");
}

#[test]
fn retry_after_is_read_in_both_forms_and_bounded() {
    let now = Millis::parse_rfc3339("2026-11-21T09:27:00Z").unwrap();
    assert_eq!(retry_after_ms("120", now), Some(120_000));
    assert_eq!(retry_after_ms("Sat, 21 Nov 2026 09:28:00 GMT", now), Some(60_000));
    assert_eq!(retry_after_ms("Sat, 21 Nov 2026 09:26:00 GMT", now), Some(0));
    assert_eq!(retry_after_ms("99999999999", now), Some(HOOK_RETRY_AFTER_MAX_MS));
    assert_eq!(retry_after_ms("-5", now), Some(0));
    assert_eq!(retry_after_ms("soon", now), None);
}

proptest! {
    #[test]
    fn text_of_others_calls_nobody_whatever_it_is(text in ".{0,60}") {
        let shown = plain(&text);
        prop_assert!(!shown.contains(['<', '>', '\n', '`', '*']));
        let harmless = shown.split('@').skip(1).all(|after| after.starts_with('\u{200b}'));
        prop_assert!(harmless, "{}", shown);
        prop_assert!(!shown.contains("](") && !shown.contains("]["), "{}", shown);
    }

    #[test]
    fn a_pause_lies_within_a_fifth_of_its_middle(attempt in 1_i64..30, random in any::<u16>()) {
        let (pause, middle) = (pause_ms(attempt, random), pause_ms(attempt, 200));
        prop_assert!(pause >= middle - middle / 5 - 1 && pause <= middle + middle / 5 + 1);
    }
}
