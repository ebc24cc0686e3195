//! The verdict, case by case and by its properties.

use super::*;

fn evidence() -> Evidence {
    Evidence {
        phase: "build".into(),
        stopped: None,
        ending: Ending::Exited(0),
        status: Some(StatusMarker::Completed),
        skipped: None,
        checks: vec![Checked { post: Post::Pushed, problem: None }],
        error: None,
        our_codes: true,
        coded: false,
        budget: None,
        log_tail: vec![],
        wall_ms: 60_000,
        silence_ms: 30_000,
    }
}

fn class(v: &Verdict) -> Option<FailureClass> {
    v.failure().map(|f| f.class)
}

#[test]
fn exit_zero_with_post_conditions_is_completed() {
    assert_eq!(judge(&evidence()), Verdict::Completed);
}

#[test]
fn exit_zero_without_the_work_is_failed_and_names_it() {
    let mut e = evidence();
    e.checks =
        vec![Checked { post: Post::Pushed, problem: Some("the remote has no branch x".into()) }];
    let v = judge(&e);
    assert_eq!(class(&v), Some(FailureClass::Validation));
    assert!(v.failure().unwrap().message.contains("no branch x"));
}

#[test]
fn an_asked_for_stop_wins_over_everything() {
    for (stopped, status) in [
        (Stopped::Cancel, FailureClass::Cancelled),
        (Stopped::WallLimit, FailureClass::Timeout),
        (Stopped::Silence, FailureClass::Timeout),
    ] {
        for ending in
            [Ending::Exited(0), Ending::Exited(143), Ending::Signalled(9), Ending::Unrecorded]
        {
            let e = Evidence { stopped: Some(stopped), ending, ..evidence() };
            assert_eq!(class(&judge(&e)), Some(status));
        }
    }
}

#[test]
fn a_script_without_a_state_file_is_quoted_from_its_log() {
    let words = "x/.adw.toml: unknown key 'agnt'; did you mean agent?";
    let e = Evidence {
        ending: Ending::Exited(2),
        log_tail: vec!["PHASE=build".into(), format!("  error: {words}"), "STATUS=failed".into()],
        ..evidence()
    };
    assert!(judge(&e).failure().unwrap().message.ends_with(words), "{:?}", judge(&e));
}

#[test]
fn a_claimed_success_never_beats_the_exit_code() {
    for code in [1, 2, 10, 20, 33, 143] {
        let e = Evidence { ending: Ending::Exited(code), ..evidence() };
        assert!(matches!(judge(&e), Verdict::Failed(_)), "{code}");
    }
}

#[test]
fn a_confessed_failure_with_exit_zero_is_failed() {
    let e = Evidence { status: Some(StatusMarker::Failed), ..evidence() };
    assert!(matches!(judge(&e), Verdict::Failed(_)));
}

#[test]
fn out_of_scope_is_skipped_even_where_post_conditions_cannot_hold() {
    let e = Evidence {
        skipped: Some("label wontfix".into()),
        checks: vec![Checked { post: Post::PlanFile, problem: Some("none".into()) }],
        ..evidence()
    };
    assert_eq!(judge(&e), Verdict::Skipped("label wontfix".into()));
}

#[test]
fn an_unrecorded_end_is_judged_by_the_work() {
    let done = Evidence { ending: Ending::Unrecorded, status: None, ..evidence() };
    assert_eq!(judge(&done), Verdict::Completed);
    let not = Evidence {
        checks: vec![Checked { post: Post::Pushed, problem: Some("x".into()) }],
        ..done.clone()
    };
    assert!(matches!(judge(&not), Verdict::Lost(f) if f.retryable));
    let gone = judge(&Evidence { ending: Ending::RecordsGone, ..not });
    assert!(gone.failure().unwrap().message.contains("the folder of its log"), "{gone:?}");
    // Nothing to check is no proof.
    let unknown = Evidence { checks: vec![], ..done };
    assert!(matches!(judge(&unknown), Verdict::Lost(_)));
}

#[test]
fn every_code_of_the_specification_has_one_meaning() {
    use FailureClass::{Agent, Cancelled, Forge, Git, Internal, Validation};
    for (code, class_) in [
        (2, Internal),
        (3, Validation),
        (4, Validation),
        (5, Validation),
        (10, Validation),
        (11, Validation),
        (20, Agent),
        (21, Agent),
        (22, Agent),
        (30, Forge),
        (31, Git),
        (32, Git),
        (33, Git),
        (40, Internal),
        (130, Cancelled),
        (143, Cancelled),
        (99, Internal),
    ] {
        let e = Evidence { ending: Ending::Exited(code), ..evidence() };
        assert_eq!(class(&judge(&e)), Some(class_), "{code}");
    }
}

#[test]
fn the_scripts_own_words_and_retry_hint_are_kept() {
    let e = Evidence {
        ending: Ending::Exited(20),
        error: Some(StateError {
            phase: Some("build".into()),
            class: Some(FailureClass::Agent),
            message: "API 529".into(),
            retryable: true,
        }),
        ..evidence()
    };
    let f = judge(&e).failure().unwrap().clone();
    assert!(f.retryable && f.message.contains("API 529"));
    // The error of an earlier phase is not this one's.
    let stale = Evidence {
        error: Some(StateError {
            phase: Some("plan".into()),
            class: None,
            message: "old".into(),
            retryable: true,
        }),
        ..e
    };
    assert!(!judge(&stale).failure().unwrap().message.contains("old"));
}

#[test]
fn the_scripts_own_class_is_finer_than_the_exit_code() {
    let of = |code, class_| {
        let error = Some(StateError {
            phase: Some("build".into()),
            class: Some(class_),
            message: "issue 404 not found".into(),
            retryable: false,
        });
        let verdict = judge(&Evidence { ending: Ending::Exited(code), error, ..evidence() });
        verdict.failure().unwrap().clone()
    };
    let missing = of(30, FailureClass::Validation);
    assert_eq!(
        (missing.class, missing.message.as_str()),
        (FailureClass::Validation, "issue 404 not found")
    );
    assert_eq!(of(20, FailureClass::Environment).class, FailureClass::Environment);
    assert_eq!(of(21, FailureClass::Timeout).class, FailureClass::Agent);
    assert_eq!(of(143, FailureClass::Internal).class, FailureClass::Cancelled);
}

#[test]
fn a_defect_of_the_scripts_is_internal_and_not_tried_again() {
    let failed = |error| {
        judge(&Evidence { ending: Ending::Exited(40), error, our_codes: true, ..evidence() })
    };
    let told = StateError {
        class: Some(FailureClass::Internal),
        message: "internal error in the plan phase: KeyError".into(),
        retryable: false,
        phase: Some("plan".into()),
    };
    for error in [None, Some(told)] {
        let Verdict::Failed(f) = failed(error) else { panic!() };
        assert_eq!((f.class, f.retryable), (FailureClass::Internal, false), "{f:?}");
        assert!(f.message.contains("internal error"), "{f:?}");
    }
}

#[test]
fn others_exit_codes_are_read_with_their_log() {
    let e = Evidence {
        our_codes: false,
        ending: Ending::Exited(1),
        log_tail: vec![
            "Missing prerequisite: CLAUDE.md template".into(),
            "Phase metrics saved: x (failed)".into(),
        ],
        ..evidence()
    };
    let v = judge(&e);
    assert!(v.failure().unwrap().message.contains("Missing prerequisite"));
    for (line, class) in [
        (" ! [remote rejected] x -> x (hook declined)", FailureClass::Git),
        ("Implementation failed: API Error: 500", FailureClass::Agent),
    ] {
        let tail = [line, "error: failed to push some refs to '/r.git'"].map(String::from);
        assert_eq!(telling_line(&tail), Some(line.trim()));
        assert_eq!(guess_class(&tail), class, "{line}");
    }
}
