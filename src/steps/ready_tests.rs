//! Tests of what comes next.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

use StepStatus::{Completed, Failed, Pending, Running};

fn phase(name: &str, depends_on: &[&str]) -> Phase {
    Phase {
        phase: name.to_owned(),
        agent: "implementer".to_owned(),
        description: String::new(),
        depends_on: depends_on.iter().map(|d| (*d).to_owned()).collect(),
        allow_parallel: true,
        path_patterns: vec![],
        tags: vec![],
        allowed_actions: vec![],
        requires_approval: false,
    }
}

fn next(phases: &[Phase], status: &[StepStatus], max_parallel: usize, hints: &Hints) -> Next {
    let approved = vec![false; phases.len()];
    let standing = Standing { phases, status, approved: &approved, max_parallel };
    standing.next(hints, usize::MAX).unwrap()
}

fn handed(next: Next) -> (Vec<usize>, Selection) {
    match next {
        Next::Hand(steps, selection) => (steps, selection),
        other => panic!("{other:?}"),
    }
}

fn requested(name: &str) -> Hints {
    Hints { requested_step_name: Some(name.to_owned()), ..Hints::default() }
}

#[test]
fn the_order_in_the_file_does_not_count_the_graph_does() {
    // Upstream ran a and b of these and completed without c.
    let phases = [phase("c", &["b"]), phase("a", &[]), phase("b", &["a"])];
    assert_eq!(handed(next(&phases, &[Pending; 3], 1, &Hints::default())).0, [1]);
    let status = [Pending, Completed, Pending];
    assert_eq!(handed(next(&phases, &status, 1, &Hints::default())).0, [2]);
    let status = [Pending, Completed, Completed];
    assert_eq!(handed(next(&phases, &status, 1, &Hints::default())).0, [0]);
    assert_eq!(next(&phases, &[Completed; 3], 1, &Hints::default()), Next::Complete);
}

#[test]
fn points_are_for_the_request_for_patterns_and_for_tags() {
    let mut phases = [phase("a", &[]), phase("b", &[]), phase("c", &[])];
    phases[1].path_patterns = vec!["src/**".to_owned(), "docs/**".to_owned()];
    phases[2].tags = vec!["fix".to_owned(), "bug".to_owned(), "other".to_owned()];
    let hints = Hints {
        intent_tags: vec!["bug".to_owned(), "fix".to_owned()],
        // Patterns are counted, not paths.
        referenced_paths: vec!["./src/x.rs".to_owned(), "src/y.rs".to_owned()],
        ..Hints::default()
    };
    let (steps, selection) = handed(next(&phases, &[Pending; 3], 1, &hints));
    assert_eq!(Value::from(selection.scores.clone()), serde_json::json!({"a": 0, "b": 2, "c": 2}));
    assert_eq!(steps, [1], "a tie goes to the name");
    assert_eq!(
        (selection.reason.as_str(), selection.tie_broken_by.as_deref()),
        ("name", Some("name"))
    );

    let asked = Hints { requested_step_name: Some("a".to_owned()), ..hints.clone() };
    let (steps, selection) = handed(next(&phases, &[Pending; 3], 1, &asked));
    assert_eq!((steps, selection.reason.as_str()), (vec![0], "requested"));
    assert_eq!(selection.scores["a"], 999);

    let paths = Hints { intent_tags: vec![], ..hints };
    let (_, selection) = handed(next(&phases, &[Pending; 3], 1, &paths));
    assert_eq!((selection.chosen.as_str(), selection.reason.as_str()), ("b", "paths"));
    assert_eq!(selection.tie_broken_by, None);
}

#[test]
fn a_tie_goes_to_the_name_bytewise() {
    // A locale would put fix_a before fix-issues.
    let phases = [phase("fix_a", &[]), phase("fix-issues", &[]), phase("Zz", &[])];
    let (steps, selection) = handed(next(&phases, &[Pending; 3], 3, &Hints::default()));
    assert_eq!(steps, [2, 1, 0]);
    assert_eq!(selection.candidates, ["Zz", "fix-issues", "fix_a"]);
}

#[test]
fn a_requested_step_that_waits_is_passed_over_and_one_that_nobody_knows_is_an_error() {
    let phases = [phase("a", &[]), phase("b", &["a"]), phase("c", &[])];
    let (steps, selection) = handed(next(&phases, &[Pending; 3], 1, &requested("b")));
    assert_eq!(steps, [0]);
    assert_eq!(selection.requested_not_ready, ["a"]);
    let standing =
        Standing { phases: &phases, status: &[Pending; 3], approved: &[false; 3], max_parallel: 1 };
    assert_eq!(standing.next(&requested("x"), 1), Err("x".to_owned()));
}

#[test]
fn as_many_are_out_as_may_be_and_what_runs_alone_runs_alone() {
    let mut phases: Vec<Phase> = ["a", "b", "c", "d"].map(|name| phase(name, &[])).into();
    phases.push(phase("synthesis", &["a", "b", "c", "d"]));
    phases[4].allow_parallel = false;
    let all = |status: &[StepStatus], max| next(&phases, status, max, &Hints::default());
    assert_eq!(handed(all(&[Pending; 5], 3)).0, [0, 1, 2]);
    let status = [Running, Running, Completed, Pending, Pending];
    assert_eq!(handed(all(&status, 3)).0, [3]);
    assert_eq!(all(&status, 2), Next::Wait(vec![0, 1], Waiting::Full));
    let status = [Running, Completed, Completed, Completed, Pending];
    assert_eq!(all(&status, 3), Next::Wait(vec![0], Waiting::Dependencies));

    phases[1].allow_parallel = false;
    let all = |status: &[StepStatus], max| next(&phases, status, max, &Hints::default());
    assert_eq!(handed(all(&[Pending; 5], 5)).0, [0, 2, 3], "b is left for later");
    let status = [Completed, Pending, Completed, Running, Pending];
    assert_eq!(all(&status, 5), Next::Wait(vec![3], Waiting::Alone));
    let status = [Completed, Running, Completed, Pending, Pending];
    assert_eq!(all(&status, 5), Next::Wait(vec![1], Waiting::Alone));
    let asked = next(&phases, &[Pending; 5], 5, &requested("b"));
    assert_eq!(handed(asked).0, [1], "nothing beside it");
}

#[test]
fn a_gate_stops_the_chosen_step_and_never_those_that_are_out() {
    let mut phases = [phase("a", &[]), phase("b", &[]), phase("c", &[])];
    phases[0].requires_approval = true;
    let stand = |status: &[StepStatus], approved: &[bool], max_parallel| {
        let standing = Standing { phases: &phases, status, approved, max_parallel };
        standing.next(&Hints::default(), usize::MAX).unwrap()
    };
    let no = [false; 3];
    assert!(matches!(stand(&[Pending; 3], &no, 3), Next::Gate(0, _)));
    assert_eq!(handed(stand(&[Pending; 3], &[true, false, false], 3)).0, [0, 1, 2]);
    let status = [Pending, Running, Pending];
    assert_eq!(handed(stand(&status, &no, 3)).0, [2], "what needs nobody goes on");
    let status = [Pending, Running, Completed];
    assert_eq!(stand(&status, &no, 3), Next::Wait(vec![1], Waiting::Gate));
}

#[test]
fn nothing_ready_and_nobody_working_is_a_deadlock_that_names_what_waits() {
    let phases = [phase("a", &[]), phase("b", &["a"]), phase("c", &["b", "a"])];
    let expected = vec![(1, vec!["a".to_owned()]), (2, vec!["b".to_owned(), "a".to_owned()])];
    let stuck = next(&phases, &[Failed, Pending, Pending], 1, &Hints::default());
    assert_eq!(stuck, Next::Deadlock(expected));
    let circle = [phase("a", &["b"]), phase("b", &["a"])];
    assert!(matches!(next(&circle, &[Pending; 2], 1, &Hints::default()), Next::Deadlock(_)));
}

/// A workflow without cycles: each step depends on some before it; then shuffled by `order`.
fn workflows() -> impl Strategy<Value = Vec<Phase>> {
    let step = (any::<u32>(), any::<bool>(), 0_u8..8, any::<u64>());
    proptest::collection::vec(step, 1..12).prop_map(|steps| {
        let name = |at: usize| format!("s{at}");
        let mut phases: Vec<(u64, Phase)> = vec![];
        for (at, (needs, alone, gate, order)) in steps.into_iter().enumerate() {
            let needed: Vec<String> = (0..at).filter(|n| needs >> n & 1 == 1).map(name).collect();
            let mut made = phase(&name(at), &[]);
            made.depends_on = needed;
            made.allow_parallel = !alone;
            made.requires_approval = gate == 0;
            made.tags = vec![format!("t{}", at % 3)];
            made.path_patterns = vec![format!("src/{}/**", at % 2)];
            phases.push((order, made));
        }
        phases.sort_by_key(|(order, _)| *order);
        phases.into_iter().map(|(_, phase)| phase).collect()
    })
}

/// What one round may ask for: any step by name, any tags and paths.
fn hints(byte: u8, phases: &[Phase]) -> Hints {
    let at = usize::from(byte) % (phases.len() + 1);
    Hints {
        requested_step_name: phases.get(at).map(|phase| phase.phase.clone()),
        intent_tags: vec![format!("t{}", byte % 3)],
        referenced_paths: vec![format!("src/{}/x.rs", byte % 2)],
        rationale: None,
    }
}

proptest! {
    /// Any valid graph, any hints, any parallelism, any order of completion and any patience of
    /// the person at the gate: every step exactly once, after what it depends on.
    #[test]
    fn every_step_runs_once_and_after_its_dependencies(
        phases in workflows(),
        max_parallel in 1_usize..6,
        choices in proptest::collection::vec(any::<u8>(), 200),
    ) {
        let mut status = vec![Pending; phases.len()];
        let mut approved = vec![false; phases.len()];
        let mut ran: BTreeSet<usize> = BTreeSet::new();
        let mut choices = choices.into_iter();
        loop {
            let byte = choices.next().expect("it ends before the choices do");
            let standing =
                Standing { phases: &phases, status: &status, approved: &approved, max_parallel };
            let want = 1 + usize::from(byte) % 3;
            match standing.next(&hints(byte, &phases), want).unwrap() {
                Next::Complete => break,
                Next::Deadlock(left) => prop_assert!(false, "stuck: {left:?}"),
                Next::Gate(at, _) => {
                    prop_assert!(!status.contains(&Running));
                    approved[at] = true;
                }
                Next::Wait(running, _) => {
                    prop_assert!(!running.is_empty());
                    status[running[usize::from(byte) % running.len()]] = Completed;
                }
                Next::Hand(steps, selection) => {
                    prop_assert!(!steps.is_empty() && steps.len() <= want);
                    prop_assert_eq!(&phases[steps[0]].phase, &selection.chosen);
                    for at in steps {
                        prop_assert!(ran.insert(at), "once");
                        for name in &phases[at].depends_on {
                            let on = phases.iter().position(|p| p.phase == *name).unwrap();
                            prop_assert_eq!(status[on], Completed);
                        }
                        prop_assert!(!phases[at].requires_approval || approved[at]);
                        status[at] = Running;
                    }
                    let out: Vec<usize> =
                        (0..phases.len()).filter(|at| status[*at] == Running).collect();
                    prop_assert!(out.len() <= max_parallel);
                    let alone = out.iter().any(|at| !phases[*at].allow_parallel);
                    prop_assert!(!alone || out.len() == 1);
                    // Somebody may finish before the next call.
                    if byte % 2 == 0 {
                        status[out[usize::from(byte) % out.len()]] = Completed;
                    }
                }
            }
        }
        prop_assert_eq!(ran.len(), phases.len());
        prop_assert!(status.iter().all(|s| *s == Completed));
    }
}
