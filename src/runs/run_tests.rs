//! What comes next, step by step, and that every life ends.

use super::*;
use proptest::prelude::*;

const RETRY: RetryPolicy = RetryPolicy { max_attempts: 3, base_delay_ms: 100, max_delay_ms: 150 };
const NOW: Millis = Millis(1_000_000);

fn facts(status: RunStatus) -> RunFacts {
    RunFacts {
        status,
        todo: ["plan", "build", "review"].map(String::from).to_vec(),
        floors: BTreeMap::new(),
        attempts: vec![],
        stop_requested: false,
        budget_stop: None,
    }
}

fn attempt(phase: &str, n: i64, status: RunStatus, retryable: bool) -> AttemptFacts {
    let failed =
        status.is_terminal() && !matches!(status, RunStatus::Completed | RunStatus::Skipped);
    AttemptFacts {
        phase: phase.into(),
        attempt: n,
        status,
        failure: failed.then(|| Failure {
            class: FailureClass::Forge,
            message: "x".into(),
            retryable,
            phase: Some(phase.into()),
            log_tail: vec![],
        }),
        ended_at: status.is_terminal().then_some(NOW),
    }
}

#[test]
fn a_life_goes_prepare_plan_build_review_completed() {
    let mut f = facts(RunStatus::Starting);
    assert_eq!(next(&f, NOW, &RETRY), Next::Prepare);
    f.status = RunStatus::Running;
    for phase in ["plan", "build", "review"] {
        assert_eq!(next(&f, NOW, &RETRY), Next::Begin { phase: phase.into(), attempt: 1 });
        f.attempts.push(attempt(phase, 1, RunStatus::Running, false));
        assert_eq!(
            next(&f, NOW, &RETRY),
            Next::Attend { phase: phase.into(), attempt: 1, stop: false }
        );
        f.attempts.last_mut().unwrap().status = RunStatus::Completed;
    }
    assert_eq!(
        next(&f, NOW, &RETRY),
        Next::Finish(End { status: RunStatus::Completed, failure: None })
    );
}

#[test]
fn a_retryable_failure_waits_longer_each_time_and_ends_after_three() {
    let mut f = facts(RunStatus::Running);
    f.attempts.push(attempt("plan", 1, RunStatus::Failed, true));
    assert_eq!(next(&f, NOW, &RETRY), Next::WaitUntil(NOW.plus_ms(100)));
    assert_eq!(
        next(&f, NOW.plus_ms(100), &RETRY),
        Next::Begin { phase: "plan".into(), attempt: 2 }
    );
    f.attempts.push(attempt("plan", 2, RunStatus::Lost, true));
    assert_eq!(next(&f, NOW, &RETRY), Next::WaitUntil(NOW.plus_ms(150)));
    f.attempts.push(attempt("plan", 3, RunStatus::Failed, true));
    assert!(matches!(next(&f, NOW, &RETRY), Next::Finish(End { status: RunStatus::Failed, .. })));
}

#[test]
fn timeouts_and_cancels_are_never_retried() {
    for status in [RunStatus::TimedOut, RunStatus::Cancelled] {
        let mut f = facts(RunStatus::Running);
        f.attempts.push(attempt("plan", 1, status, true));
        assert!(matches!(next(&f, NOW, &RETRY), Next::Finish(e) if e.status == status));
    }
}

#[test]
fn a_clock_that_jumps_back_neither_repeats_a_phase_nor_holds_a_retry_back() {
    // The second attempt carries the earlier time, so the database lists it first.
    let mut f = facts(RunStatus::Running);
    f.attempts = vec![
        attempt("plan", 2, RunStatus::Completed, false),
        attempt("plan", 1, RunStatus::Failed, true),
    ];
    assert_eq!(next(&f, NOW, &RETRY), Next::Begin { phase: "build".into(), attempt: 1 });
    assert_eq!(f.current_phase(), Some("build"));
    let asked = f.todo.clone();
    f.status = RunStatus::Cancelled;
    assert_eq!(plan_resume(&asked, &f, None).unwrap().todo, ["build", "review"]);

    let mut f = facts(RunStatus::Running);
    f.attempts.push(attempt("plan", 1, RunStatus::Failed, true));
    let hour_ago = NOW.plus_ms(-3_600_000);
    assert_eq!(next(&f, hour_ago, &RETRY), Next::Begin { phase: "plan".into(), attempt: 2 });
}

#[test]
fn a_stop_attends_the_open_attempt_first_and_then_ends_cancelled() {
    let mut f = facts(RunStatus::Stopping);
    f.attempts.push(attempt("plan", 1, RunStatus::Running, false));
    assert_eq!(
        next(&f, NOW, &RETRY),
        Next::Attend { phase: "plan".into(), attempt: 1, stop: true }
    );
    // Even where the phase got its work done while the stop was on its way.
    f.attempts[0].status = RunStatus::Completed;
    assert!(matches!(
        next(&f, NOW, &RETRY),
        Next::Finish(End { status: RunStatus::Cancelled, .. })
    ));
}

fn out_of_money() -> Failure {
    Failure {
        class: FailureClass::Budget,
        message: "spent".into(),
        retryable: false,
        phase: None,
        log_tail: vec![],
    }
}

#[test]
fn a_used_up_budget_ends_the_tree_first_and_then_the_run_as_failed() {
    let mut f = facts(RunStatus::Stopping);
    f.stop_requested = true;
    f.budget_stop = Some(out_of_money());
    f.attempts.push(attempt("plan", 1, RunStatus::Running, false));
    let stop = Next::Attend { phase: "plan".into(), attempt: 1, stop: true };
    assert_eq!(next(&f, NOW, &RETRY), stop);
    f.attempts[0] = attempt("plan", 1, RunStatus::Failed, true);
    let Next::Finish(end) = next(&f, NOW, &RETRY) else { panic!("it ends") };
    let failure = end.failure.unwrap();
    assert_eq!((end.status, failure.class), (RunStatus::Failed, FailureClass::Budget));
    assert_eq!(failure.phase.as_deref(), Some("plan"));
    // With more money it goes on where it was.
    f.status = RunStatus::Failed;
    let asked = f.todo.clone();
    assert_eq!(plan_resume(&asked, &f, None).unwrap().todo, asked);
}

#[test]
fn what_was_done_before_the_budgets_stop_came_is_done() {
    let mut f = facts(RunStatus::Stopping);
    f.budget_stop = Some(out_of_money());
    f.attempts = ["plan", "build"].map(|p| attempt(p, 1, RunStatus::Completed, false)).to_vec();
    assert!(matches!(next(&f, NOW, &RETRY), Next::Finish(e) if e.status == RunStatus::Failed));
    f.attempts.push(attempt("review", 1, RunStatus::Completed, false));
    let done = End { status: RunStatus::Completed, failure: None };
    assert_eq!(next(&f, NOW, &RETRY), Next::Finish(done));
    f.attempts = vec![attempt("plan", 1, RunStatus::Skipped, false)];
    assert!(matches!(next(&f, NOW, &RETRY), Next::Finish(e) if e.status == RunStatus::Skipped));
}

#[test]
fn a_skipped_plan_ends_the_run_skipped() {
    let mut f = facts(RunStatus::Running);
    f.attempts.push(attempt("plan", 1, RunStatus::Skipped, false));
    assert!(matches!(next(&f, NOW, &RETRY), Next::Finish(End { status: RunStatus::Skipped, .. })));
}

#[test]
fn resume_goes_on_from_the_failed_phase_with_new_numbers() {
    let mut f = facts(RunStatus::Failed);
    f.attempts = vec![
        attempt("plan", 1, RunStatus::Completed, false),
        attempt("build", 1, RunStatus::Failed, false),
    ];
    let asked = f.todo.clone();
    let r = plan_resume(&asked, &f, None).unwrap();
    assert_eq!(r.todo, ["build", "review"]);
    let mut g =
        RunFacts { status: RunStatus::Running, todo: r.todo, floors: r.floors, ..f.clone() };
    assert_eq!(next(&g, NOW, &RETRY), Next::Begin { phase: "build".into(), attempt: 2 });
    g.attempts.push(attempt("build", 2, RunStatus::Completed, false));
    assert_eq!(next(&g, NOW, &RETRY), Next::Begin { phase: "review".into(), attempt: 1 });
    // From an earlier phase everything after it is done again.
    let r = plan_resume(&asked, &f, Some("plan")).unwrap();
    assert_eq!(
        (r.todo.len(), r.floors["plan"], r.floors["build"], r.floors["review"]),
        (3, 1, 1, 0)
    );
    assert_eq!(plan_resume(&asked, &f, Some("deploy")), None);
}

#[test]
fn nothing_is_left_to_resume_of_a_completed_run() {
    let mut f = facts(RunStatus::Completed);
    for p in ["plan", "build", "review"] {
        f.attempts.push(attempt(p, 1, RunStatus::Completed, false));
    }
    assert_eq!(plan_resume(&f.todo.clone(), &f, None), None);
}

#[test]
fn a_run_that_was_stopped_when_all_was_done_completes_by_a_resume() {
    let mut f = facts(RunStatus::Stopping);
    f.attempts = f.todo.iter().map(|p| attempt(p, 1, RunStatus::Completed, false)).collect();
    let Next::Finish(end) = next(&f, NOW, &RETRY) else { panic!("it ends") };
    assert_eq!(end.status, RunStatus::Cancelled);
    f.status = end.status;
    let resume = plan_resume(&f.todo.clone(), &f, None).unwrap();
    assert!(resume.todo.is_empty() && resume.floors.is_empty());
    let life = RunFacts { status: RunStatus::Running, todo: resume.todo, ..f };
    let completed = End { status: RunStatus::Completed, failure: None };
    assert_eq!(next(&life, NOW, &RETRY), Next::Finish(completed));
}

#[test]
fn no_end_is_left_but_by_resume() {
    for from in RunStatus::ALL.into_iter().filter(|s| s.is_terminal()) {
        for to in RunStatus::ALL {
            assert_eq!(may_move(from, to), to == RunStatus::Queued);
        }
    }
}

/// Plays a whole life against scripted verdicts; `kill` decides after which steps the driver
/// forgets everything and starts from the facts again. With facts alone, that changes nothing.
fn play(
    verdicts: &[(RunStatus, bool)],
    stop_at: Option<usize>,
    broke: bool,
) -> (Vec<(String, i64)>, RunStatus) {
    let mut f = facts(RunStatus::Starting);
    let (mut begun, mut now, mut given) = (vec![], NOW, 0);
    for step in 0..200 {
        if stop_at == Some(step) && may_move(f.status, RunStatus::Stopping) {
            f.stop_requested = true;
            f.status = RunStatus::Stopping;
            f.budget_stop = broke.then(out_of_money);
        }
        match next(&f, now, &RETRY) {
            Next::Rest => break,
            Next::Prepare => f.status = RunStatus::Running,
            Next::Begin { phase, attempt: n } => {
                assert!(f.open_attempt().is_none(), "two phases live at once");
                begun.push((phase.clone(), n));
                f.attempts.push(attempt(&phase, n, RunStatus::Starting, false));
            }
            Next::Attend { phase, attempt: n, stop } => {
                let (status, retryable) = if stop && !broke {
                    (RunStatus::Cancelled, false)
                } else {
                    verdicts.get(given).copied().unwrap_or((RunStatus::Completed, false))
                };
                given += 1;
                let slot =
                    f.attempts.iter_mut().find(|a| a.phase == phase && a.attempt == n).unwrap();
                *slot =
                    AttemptFacts { ended_at: Some(now), ..attempt(&phase, n, status, retryable) };
            }
            Next::WaitUntil(t) => {
                assert!(t > now);
                now = t;
            }
            Next::Finish(end) => {
                assert!(may_move(f.status, end.status), "{:?} -> {:?}", f.status, end.status);
                f.status = end.status;
            }
        }
    }
    (begun, f.status)
}

proptest! {
    #[test]
    fn every_life_ends_and_no_attempt_number_comes_twice(
        verdicts in proptest::collection::vec(
            (prop_oneof![Just(RunStatus::Completed), Just(RunStatus::Failed), Just(RunStatus::Lost),
                         Just(RunStatus::TimedOut), Just(RunStatus::Skipped), Just(RunStatus::Cancelled)], any::<bool>()), 0..12),
        stop_at in proptest::option::of(0usize..20),
        broke in any::<bool>(),
    ) {
        let (begun, status) = play(&verdicts, stop_at, broke);
        prop_assert!(status.is_terminal());
        let mut unique = begun.clone();
        unique.sort();
        unique.dedup();
        prop_assert_eq!(unique.len(), begun.len());
        prop_assert!(begun.len() <= 9);
    }
}
