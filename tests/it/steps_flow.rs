//! An execution from its start to its end: order, parallel steps, gates, blockers, what is kept.

use adwd::steps::{
    ArtifactFilter, Complexity, ControlAction as A, ControlRequest, EventFilter, ExecutionFilter,
    ExecutionState as S, HandedStatus, Hints, StartRequest, StepStatus,
};
use serde_json::{Value, json};

use crate::db::Scratch;
use crate::on_both_engines;
use crate::steps_support::{
    chain, content, done, dump_state, given, open, phase, request, step, token,
};

on_both_engines!(
    a_workflow_goes_from_start_to_end,
    every_step_is_there_from_the_start,
    everything_submitted_can_be_read_again,
    five_reviews_run_at_once_and_the_synthesis_after_them,
    a_claim_gets_another_ready_step_or_the_reason_why_not,
    hints_choose_among_ready_steps_and_an_unknown_one_changes_nothing,
    a_gate_pauses_and_approval_hands_the_step_out,
    approval_may_come_before_its_turn,
    blockers_pause_where_that_was_asked_for,
    a_step_that_failed_for_good_is_a_deadlock_for_what_waits,
    ids_are_checked_and_unique,
    what_cannot_be_led_to_an_end_is_not_started,
    lists_are_filtered_and_newest_first,
    sizes_are_refused_before_the_token_is_consumed,
    a_hundred_artifacts_are_taken,
    what_runs_is_the_snapshot_of_its_start,
);

fn parallel(n: u32) -> StartRequest {
    StartRequest { max_parallel: Some(n), ..StartRequest::default() }
}

async fn a_workflow_goes_from_start_to_end(s: Scratch) {
    let world = open(s).await;
    let started = StartRequest { project: Some("shop".to_owned()), ..StartRequest::default() };
    let handed = world.start_with(chain(), started).await;
    let id = handed.execution_id.clone();
    assert_eq!((handed.status, handed.workflow_state), (HandedStatus::Ok, S::Running));
    assert_eq!(handed.message, "Workflow 'feature' started. Step 'design' ready.");
    let first = handed.step.clone().unwrap();
    assert_eq!((first.agent_name.as_str(), first.attempt), ("implementer", 1));
    assert_eq!(first.persona, "\nYou are the implementer.\n");
    assert_eq!(first.contract.forbidden_actions, ["NEVER push to main"]);
    assert_eq!(first.contract.required_actions, ["ALWAYS run the tests"]);
    assert_eq!(first.expires_at.since_ms(first.issued_at), 24 * 3_600_000);
    assert_eq!(world.steps.active(Some("shop")).await.unwrap(), Some(id.clone()));
    assert_eq!(world.steps.active(Some("other")).await.unwrap(), None);

    world.clock.advance(60_000);
    let artifact = json!({"type": "design_doc", "title": "D", "content": "# D"});
    let output = json!({"summary": "designed", "artifacts": [artifact], "confidence": 0.8});
    let handed = world.submit(&token(&handed), given(&output)).await.unwrap();
    assert_eq!(handed.message, "Step 'design' completed. Step 'implement' ready.");
    assert_eq!(handed.selection.unwrap().reason, "only_candidate");
    let output = json!({"summary": "built", "confidence": 0.9, "blockers": ["CI is red"]});
    let second = handed.step.unwrap().token;
    let handed = world.submit(&second, given(&output)).await.unwrap();
    let end = world.submit(&token(&handed), done("reviewed")).await.unwrap();

    assert_eq!((end.status, end.workflow_state), (HandedStatus::Closed, S::Completed));
    let synthesis = end.synthesis.unwrap();
    assert_eq!(synthesis.outcome_summary, "reviewed");
    let expected = json!({
        "workflow": "feature", "steps_completed": 3, "artifacts_created": 1, "confidence": 0.85,
        "blockers": ["CI is red"]
    });
    assert_eq!(synthesis.model_output, expected);
    let view = world.steps.execution(&id).await.unwrap();
    assert_eq!(view.synthesis.unwrap().outcome_summary, "reviewed");
    assert!(view.steps.iter().all(|step| step.status == StepStatus::Completed));
    assert_eq!(
        view.steps[0].completed_at.unwrap().since_ms(view.steps[0].started_at.unwrap()),
        60_000
    );
    assert_eq!(view.completed_at, Some(view.updated_at));
    assert_eq!(world.steps.active(None).await.unwrap(), None);

    let filter = ArtifactFilter { with_content: true, ..ArtifactFilter::default() };
    let artifacts = world.steps.artifacts(&filter).await.unwrap();
    let shown: Vec<_> = artifacts
        .iter()
        .map(|a| (a.title.as_str(), a.step_name.as_deref(), a.content.as_deref(), a.is_final))
        .collect();
    assert_eq!(
        shown,
        [
            ("Workflow Synthesis", None, Some("reviewed"), true),
            ("D", Some("design"), Some("# D"), true)
        ]
    );
    assert_eq!(artifacts[0].agent_name.as_deref(), Some("supervisor"));
    assert_eq!(artifacts[0].metadata, Some(expected));
    check_events(&world.events(&id).await);
    let current = world.steps.current(&id).await.unwrap();
    assert_eq!((current.status, current.synthesis.is_some()), (HandedStatus::Closed, true));
}

/// The events of an execution of three steps, the first with an artifact.
fn check_events(events: &[String]) {
    let step_events = ["token_validated", "step_completed", "step_started", "token_generated"];
    let mut expected: Vec<&str> = vec![
        "workflow_created",
        "workflow_state_transition",
        "workflow_started",
        "step_started",
        "token_generated",
    ];
    expected.extend(["token_validated", "artifact_stored"]);
    expected.extend(&step_events[1..]);
    expected.extend(step_events);
    expected.extend([
        "token_validated",
        "step_completed",
        "workflow_state_transition",
        "artifact_stored",
        "workflow_completed",
        "workflow_finalized",
    ]);
    assert_eq!(events, expected);
}

async fn every_step_is_there_from_the_start(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let view = world.steps.execution(&handed.execution_id).await.unwrap();
    let steps: Vec<_> = view.steps.iter().map(|s| (s.step_name.as_str(), s.status)).collect();
    let pending = StepStatus::Pending;
    assert_eq!(
        steps,
        [("design", StepStatus::Running), ("implement", pending), ("review", pending)]
    );
    assert_eq!(view.steps[2].depends_on, ["implement"]);
    assert_eq!(view.steps[1].attempt, 0);
}

async fn everything_submitted_can_be_read_again(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let text = "# Übersicht \u{1f980}\n";
    let output = given(&json!({
        "summary": "s",
        "artifacts": [
            {"type": "json", "title": "a", "content": {"x": 1}, "description": "d",
             "metadata": {"m": [1]}, "k": "v"},
            "existing_1",
            {"type": "finding", "title": "b", "content": text}
        ],
        "references": ["src/a.rs"],
        "confidence": 0.5,
        "decisions": [{"decision": "d"}],
        "findings": ["f", {"severity": "low"}],
        "next_steps": ["n"],
        "metadata": {"deep": {"er": null}},
        "unknown": [1, {"a": "b"}]
    }));
    world.submit(&token(&handed), output.clone()).await.unwrap();
    let history = world.steps.history(&handed.execution_id).await.unwrap();
    let mut read = history.steps[0].output.clone().unwrap();
    assert_eq!(history.steps[0].artifacts.len(), 2);
    for (artifact, id) in read.artifacts.iter_mut().zip(&history.steps[0].artifacts) {
        assert_eq!(artifact.content, "");
        let whole = world.steps.artifact(id).await.unwrap();
        assert_eq!((&whole.title, &whole.description), (&artifact.title, &artifact.description));
        assert_eq!(whole.metadata, artifact.metadata);
        artifact.content = whole.content.unwrap();
        assert_eq!(whole.size_bytes, artifact.content.len() as i64);
    }
    assert_eq!(read, output);
    let light = world.steps.execution(&handed.execution_id).await.unwrap();
    assert!(light.steps[0].output.is_none());
    let findings = ArtifactFilter {
        artifact_type: Some("finding".to_owned()),
        with_content: true,
        ..ArtifactFilter::default()
    };
    let found = world.steps.artifacts(&findings).await.unwrap();
    assert_eq!((found.len(), found[0].kind.as_str()), (1, "finding"));
    assert_eq!(found[0].content.as_deref(), Some(text));
    assert!(!found[0].is_final);
    assert_eq!(world.steps.artifact("nobody").await.unwrap_err().code(), "unknown_artifact");
}

async fn five_reviews_run_at_once_and_the_synthesis_after_them(s: Scratch) {
    let world = open(s).await;
    let names = ["a", "b", "c", "d", "e"];
    let mut phases: Vec<_> = names.iter().map(|name| phase(name, &[])).collect();
    let mut synthesis = phase("synthesis", &names);
    synthesis.allow_parallel = false;
    synthesis.agent = "supervisor".to_owned();
    phases.push(synthesis);
    let handed = world.start_with(content(phases), parallel(5)).await;
    assert_eq!(step(&handed), "a");
    let mut out: Vec<_> = handed.step.into_iter().chain(handed.parallel).collect();
    assert_eq!(out.iter().map(|h| h.step_name.as_str()).collect::<Vec<_>>(), names);
    let current = world.steps.current(&handed.execution_id).await.unwrap();
    assert_eq!(current.parallel.len(), 4);
    // In any order; only who is last is handed the synthesis.
    out.swap(0, 3);
    let last = out.pop().unwrap();
    for handout in out {
        let handed = world.submit(&handout.token, done(&handout.step_name)).await.unwrap();
        assert_eq!((handed.status, handed.step), (HandedStatus::NoOp, None), "{}", handed.message);
        assert_eq!(handed.workflow_state, S::Running);
        assert!(handed.message.contains("waiting for"), "{}", handed.message);
    }
    let handed = world.submit(&last.token, done("e")).await.unwrap();
    assert_eq!(step(&handed), "synthesis");
    let end = world.submit(&token(&handed), done("all of it")).await.unwrap();
    assert_eq!(end.synthesis.unwrap().outcome_summary, "all of it");
}

async fn a_claim_gets_another_ready_step_or_the_reason_why_not(s: Scratch) {
    let world = open(s).await;
    let mut phases = vec![phase("a", &[]), phase("b", &[]), phase("c", &[]), phase("d", &["a"])];
    phases[3].allow_parallel = false;
    let handed = world.start_with(content(phases), parallel(2)).await;
    let id = handed.execution_id.clone();
    let claim = || world.steps.claim(&id, Hints::default());
    let before = dump_state(&world.s.db).await;
    let none = claim().await.unwrap();
    assert_eq!((none.status, none.step), (HandedStatus::NoOp, None));
    assert!(none.message.contains("2 of at most 2"), "{}", none.message);
    assert_eq!(dump_state(&world.s.db).await, before);
    let b = handed.parallel[0].token.clone();
    // One slot comes free, and whoever freed it is handed c.
    let handed_c = world.submit(&b, done("b")).await.unwrap();
    assert_eq!(step(&handed_c), "c");
    world.submit(&token(&handed_c), done("c")).await.unwrap();
    let a = world.submit(&token(&handed), done("a")).await.unwrap();
    assert_eq!(step(&a), "d");
    let none = claim().await.unwrap();
    assert!(none.message.contains("d"), "{}", none.message);
    world.control(&id, A::Pause).await.unwrap();
    let none = claim().await.unwrap();
    assert_eq!(none.status, HandedStatus::NoOp);
    assert!(none.message.contains("resume"), "{}", none.message);
    world.control(&id, A::Abandon).await.unwrap();
    assert_eq!(claim().await.unwrap().status, HandedStatus::Closed);
    assert_eq!(
        world.steps.claim("nobody", Hints::default()).await.unwrap_err().code(),
        "unknown_execution"
    );

    // What nobody was handed at the submission is there to be claimed.
    let mut phases = vec![phase("a", &[]), phase("b", &["a"]), phase("c", &["a"])];
    phases[0].allow_parallel = false;
    let handed = world.start_with(content(phases), parallel(2)).await;
    let handed = world.submit(&token(&handed), done("a")).await.unwrap();
    assert_eq!((step(&handed), handed.parallel.len()), ("b", 1));
}

async fn hints_choose_among_ready_steps_and_an_unknown_one_changes_nothing(s: Scratch) {
    let world = open(s).await;
    let mut phases = vec![phase("a", &[]), phase("b", &[]), phase("c", &["b"])];
    phases[1].path_patterns = vec!["src/**/*.rs".to_owned()];
    let hints = Hints {
        referenced_paths: vec!["./src/x/y.rs".to_owned()],
        rationale: Some("it is about code".to_owned()),
        ..Hints::default()
    };
    let hinted = StartRequest { hints, ..StartRequest::default() };
    let handed = world.start_with(content(phases), hinted).await;
    let selection = handed.selection.clone().unwrap();
    assert_eq!((selection.chosen.as_str(), selection.reason.as_str()), ("b", "paths"));
    assert_eq!(Value::from(selection.scores), json!({"a": 0, "b": 2}));
    let before = dump_state(&world.s.db).await;
    let unknown = Hints { requested_step_name: Some("z".to_owned()), ..Hints::default() };
    let error = world.steps.submit(&token(&handed), done("x"), unknown).await.unwrap_err();
    assert_eq!(error.code(), "invalid_arguments");
    assert!(error.to_string().contains("one of a, b, c"), "{error}");
    assert_eq!(dump_state(&world.s.db).await, before);
    let past = Hints { requested_step_name: Some("b".to_owned()), ..Hints::default() };
    let handed = world.steps.submit(&token(&handed), done("x"), past).await.unwrap();
    assert_eq!(step(&handed), "a");
    assert!(
        handed.warnings.iter().any(|w| w.contains("'b' is completed")),
        "{:?}",
        handed.warnings
    );
    let many = Hints { intent_tags: vec![String::new(); 201], ..Hints::default() };
    let error = world.steps.submit(&token(&handed), done("x"), many).await.unwrap_err();
    assert_eq!(error.code(), "invalid_arguments");
}

async fn a_gate_pauses_and_approval_hands_the_step_out(s: Scratch) {
    let world = open(s).await;
    let mut snapshot = chain();
    snapshot.workflow.phases[1].requires_approval = true;
    let handed = world.start(snapshot).await;
    let id = handed.execution_id.clone();
    let waits = world.submit(&token(&handed), done("designed")).await.unwrap();
    assert_eq!((waits.status, waits.workflow_state), (HandedStatus::NoOp, S::Paused));
    assert_eq!(waits.step, None);
    let gate = waits.gate.unwrap();
    assert!(gate.human_gate_required && gate.step_name == "implement");
    assert!(waits.message.contains("approve"), "{}", waits.message);
    let view = world.steps.execution(&id).await.unwrap();
    assert_eq!(view.waiting_step.as_deref(), Some("implement"));
    assert_eq!(view.allowed_actions, [A::Abandon, A::Approve]);
    let current = world.steps.current(&id).await.unwrap();
    assert_eq!((current.step, current.gate), (None, Some(gate)));
    let error = world.control(&id, A::Resume).await.unwrap_err();
    assert_eq!(error.code(), "state_conflict");
    assert!(error.to_string().contains("approve"), "{error}");

    let approved = world.control(&id, A::Approve).await.unwrap();
    assert_eq!((approved.previous_state, approved.workflow_state), (S::Paused, S::Running));
    let step = approved.step.unwrap();
    assert_eq!(step.step_name, "implement");
    assert!(step.contract.human_gate_required);
    let handed = world.submit(&step.token, done("built")).await.unwrap();
    assert_eq!(world.finish(handed).await.workflow_state, S::Completed);

    // Also the first step may have a gate.
    let mut snapshot = chain();
    snapshot.workflow.phases[0].requires_approval = true;
    let handed = world.start(snapshot).await;
    assert_eq!((handed.workflow_state, handed.gate.is_some()), (S::Paused, true));
    let approved = world.control(&handed.execution_id, A::Approve).await.unwrap();
    assert_eq!(approved.step.unwrap().step_name, "design");
}

async fn approval_may_come_before_its_turn(s: Scratch) {
    let world = open(s).await;
    let mut snapshot = chain();
    snapshot.workflow.phases[2].requires_approval = true;
    let handed = world.start(snapshot).await;
    let id = handed.execution_id.clone();
    let approve = |name: &str| {
        let wanted =
            ControlRequest { step_name: Some(name.to_owned()), ..request(&id, A::Approve) };
        world.steps.control(wanted)
    };
    assert_eq!(approve("design").await.unwrap_err().code(), "step_not_ready");
    assert_eq!(approve("nobody").await.unwrap_err().code(), "invalid_arguments");
    let approved = approve("review").await.unwrap();
    assert_eq!((approved.workflow_state, approved.step), (S::Running, None));
    let again = approve("review").await.unwrap_err();
    assert!(again.to_string().contains("approved already"), "{again}");
    assert_eq!(world.finish(handed).await.workflow_state, S::Completed);
}

async fn blockers_pause_where_that_was_asked_for(s: Scratch) {
    let world = open(s).await;
    let asked = StartRequest { pause_on_blockers: true, ..StartRequest::default() };
    let handed = world.start_with(chain(), asked).await;
    let id = handed.execution_id.clone();
    let blocked = given(&json!({"summary": "s", "blockers": ["no access", {"what": "key"}]}));
    let paused = world.submit(&token(&handed), blocked.clone()).await.unwrap();
    assert_eq!((paused.status, paused.workflow_state), (HandedStatus::NoOp, S::Paused));
    assert!(paused.message.contains("2 blocker(s)"), "{}", paused.message);
    let view = world.steps.execution(&id).await.unwrap();
    assert_eq!(view.steps[0].status, StepStatus::Completed);
    let resumed = world.control(&id, A::Resume).await.unwrap();
    assert_eq!(resumed.step.as_ref().unwrap().step_name, "implement");
    let handed = world.submit(&resumed.step.unwrap().token, done("x")).await.unwrap();
    // Blockers of the last step pause as well; going on completes.
    let paused = world.submit(&token(&handed), blocked).await.unwrap();
    assert_eq!(paused.workflow_state, S::Paused);
    let resumed = world.control(&id, A::Resume).await.unwrap();
    assert_eq!(resumed.workflow_state, S::Completed);
    let synthesis = world.steps.execution(&id).await.unwrap().synthesis.unwrap();
    assert_eq!(synthesis.model_output["blockers"].as_array().unwrap().len(), 4);
}

async fn a_step_that_failed_for_good_is_a_deadlock_for_what_waits(s: Scratch) {
    let world = open(s).await;
    let wide = content(vec![phase("a", &[]), phase("b", &[]), phase("c", &["b"])]);
    let handed = world.start(wide).await;
    // No way through the handle leads there; a deadlock must still have an end.
    world
        .s
        .db
        .exec("UPDATE execution_steps SET status = 'failed' WHERE step_name = 'b'", vec![])
        .await
        .unwrap();
    let end = world.submit(&token(&handed), done("x")).await.unwrap();
    assert_eq!((end.status, end.workflow_state), (HandedStatus::Closed, S::Failed));
    assert!(end.message.contains("deadlock: c waits for b"), "{}", end.message);
    let view = world.steps.execution(&handed.execution_id).await.unwrap();
    assert_eq!(view.state_reason.as_deref(), Some("deadlock: c waits for b"));
    assert!(world.events(&handed.execution_id).await.contains(&"workflow_failed".to_owned()));
}

async fn ids_are_checked_and_unique(s: Scratch) {
    let world = open(s).await;
    let with = |id: &str| StartRequest { execution_id: Some(id.to_owned()), ..Default::default() };
    let handed = world.start_with(chain(), with("my.run-1")).await;
    assert_eq!(handed.execution_id, "my.run-1");
    let before = dump_state(&world.s.db).await;
    let again = world.steps.start_snapshot(chain(), with("my.run-1")).await.unwrap_err();
    assert_eq!(again.code(), "execution_exists");
    for bad in ["", "a b", "a/b", ".a", "recent", "all", &"x".repeat(129)] {
        let error = world.steps.start_snapshot(chain(), with(bad)).await.unwrap_err();
        assert_eq!(error.code(), "invalid_arguments", "{bad}");
        assert!(error.to_string().starts_with("execution_id:"), "{error}");
    }
    let wide = world.steps.start_snapshot(chain(), parallel(17)).await.unwrap_err();
    assert!(wide.to_string().contains("1 to 16"), "{wide}");
    assert_eq!(dump_state(&world.s.db).await, before);
    for call in [
        world.steps.execution("nobody").await.map(drop),
        world.steps.history("nobody").await.map(drop),
        world.steps.current("nobody").await.map(drop),
    ] {
        assert_eq!(call.unwrap_err().code(), "unknown_execution");
    }
    let missing = StartRequest { workflow_name: "nothing".to_owned(), ..Default::default() };
    assert_eq!(world.steps.start(missing).await.unwrap_err().code(), "unknown_workflow");
}

async fn what_cannot_be_led_to_an_end_is_not_started(s: Scratch) {
    let world = open(s).await;
    let circle = content(vec![phase("r", &[]), phase("a", &["b"]), phase("b", &["a"])]);
    let mut no_agent = chain();
    no_agent.agents.remove("implementer");
    let twice = content(vec![phase("a", &[]), phase("a", &[])]);
    for bad in [circle, no_agent, twice, content(vec![])] {
        let error = world.steps.start_snapshot(bad, StartRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), "invalid_workflow", "{error}");
    }
    assert_eq!(world.steps.executions(&ExecutionFilter::default()).await.unwrap(), []);
}

async fn lists_are_filtered_and_newest_first(s: Scratch) {
    let world = open(s).await;
    for (id, project) in [("e1", None), ("e2", Some("p")), ("e3", Some("p")), ("e4", None)] {
        world.clock.advance(1);
        let request = StartRequest {
            execution_id: Some(id.to_owned()),
            project: project.map(str::to_owned),
            ..StartRequest::default()
        };
        world.start_with(chain(), request).await;
    }
    world.control("e3", A::Abandon).await.unwrap();
    let token = token(&world.steps.current("e2").await.unwrap());
    world.submit(&token, done("x")).await.unwrap();
    let ids = |filter: ExecutionFilter| {
        let steps = world.steps.clone();
        async move {
            let found = steps.executions(&filter).await.unwrap();
            found.into_iter().map(|e| e.execution_id).collect::<Vec<_>>()
        }
    };
    let all = ExecutionFilter::default();
    let p = ExecutionFilter { project: Some("p".to_owned()), ..all.clone() };
    assert_eq!(ids(all.clone()).await, ["e4", "e3", "e2", "e1"]);
    assert_eq!(ids(ExecutionFilter { limit: Some(1), ..all.clone() }).await, ["e4"]);
    assert_eq!(ids(p.clone()).await, ["e3", "e2"]);
    assert_eq!(ids(ExecutionFilter { open_only: true, ..p.clone() }).await, ["e2"]);
    assert_eq!(ids(ExecutionFilter { state: Some(S::Abandoned), ..all.clone() }).await, ["e3"]);
    let other = ExecutionFilter { workflow: Some("other".to_owned()), ..all.clone() };
    assert_eq!(ids(other).await, Vec::<String>::new());
    assert_eq!(world.steps.active(Some("p")).await.unwrap().as_deref(), Some("e2"));
    assert_eq!(world.steps.active(None).await.unwrap().as_deref(), Some("e4"));
    let summary = &world.steps.executions(&p).await.unwrap()[1];
    assert_eq!((summary.steps_total, summary.steps_completed), (3, 1));
    for limit in [0, 1_001] {
        let filter = ExecutionFilter { limit: Some(limit), ..all.clone() };
        assert_eq!(world.steps.executions(&filter).await.unwrap_err().code(), "invalid_arguments");
    }
    let filter =
        EventFilter { event_type: Some("workflow_created".to_owned()), ..Default::default() };
    let created = world.steps.events(&filter).await.unwrap();
    let ids: Vec<_> = created.iter().filter_map(|e| e.execution_id.as_deref()).collect();
    assert_eq!(ids, ["e4", "e3", "e2", "e1"]);
    assert!(created.is_sorted_by(|a, b| a.id > b.id));
}

async fn sizes_are_refused_before_the_token_is_consumed(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let before = dump_state(&world.s.db).await;
    let mut big = done("s");
    big.metadata = Some(json!("x".repeat(5 << 20)));
    let error = world.submit(&token(&handed), big).await.unwrap_err();
    assert_eq!(error.code(), "artifact_too_large", "{error}");
    let mut many = given(&json!({
        "summary": "s", "artifacts": [{"type": "adr", "title": "t", "content": "c"}]
    }));
    many.artifacts = vec![many.artifacts[0].clone(); 101];
    assert_eq!(world.submit(&token(&handed), many).await.unwrap_err().code(), "invalid_arguments");
    assert_eq!(dump_state(&world.s.db).await, before);
    assert!(world.submit(&token(&handed), done("x")).await.is_ok());
}

async fn a_hundred_artifacts_are_taken(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let artifact = |n: usize, bytes: usize| json!({"type": "adr", "title": format!("t{n}"), "content": format!("{n}{}", "y".repeat(bytes))});
    // The whole output is at most 4 MiB, whatever the artifacts are allowed each.
    let items: Vec<Value> = (0..100).map(|n| artifact(n, 40_000)).collect();
    let output = given(&json!({"summary": "s", "artifacts": items}));
    let handed = world.submit(&token(&handed), output).await.unwrap();
    let one = (1 << 20) - 1;
    let output = given(&json!({"summary": "s", "artifacts": [artifact(0, one)]}));
    world.submit(&token(&handed), output).await.unwrap();
    let filter = ArtifactFilter {
        execution_id: Some(handed.execution_id.clone()),
        step_name: Some("design".to_owned()),
        limit: Some(1_000),
        ..ArtifactFilter::default()
    };
    let artifacts = world.steps.artifacts(&filter).await.unwrap();
    assert_eq!(artifacts.len(), 100);
    assert_eq!((artifacts[0].title.as_str(), artifacts[99].title.as_str()), ("t99", "t0"));
    assert!(artifacts.iter().all(|artifact| artifact.content.is_none()));
    let whole = world.steps.artifact(&artifacts[57].artifact_id).await.unwrap();
    assert!(whole.content.unwrap().starts_with("42y"));
}

async fn what_runs_is_the_snapshot_of_its_start(s: Scratch) {
    let mut world = open(s).await;
    let handed = world.start(chain()).await;
    let mut edited = chain();
    edited.agents.get_mut("implementer").unwrap().body = "Somebody else".to_owned();
    edited.workflow.complexity = Complexity::Simple;
    let other = world.start(edited).await;
    world.restart().await;
    let next = world.submit(&token(&handed), done("x")).await.unwrap();
    assert_eq!(next.step.unwrap().persona, "\nYou are the implementer.\n");
    let next = world.submit(&token(&other), done("x")).await.unwrap();
    assert_eq!(next.step.unwrap().persona, "Somebody else");
}
