//! What is an address, what it means, and that printing and parsing undo each other.

use super::*;
use proptest::prelude::*;

fn place(text: &str) -> Place {
    StepUri::parse(text).unwrap_or_else(|| panic!("{text}: not ours")).unwrap().place
}

fn problem(text: &str) -> String {
    StepUri::parse(text).unwrap_or_else(|| panic!("{text}: not ours")).unwrap_err()
}

#[test]
fn the_addresses_of_seed_003() {
    let artifacts = |execution: &str, step: Option<&str>| {
        Place::Artifacts(ArtifactFilter {
            execution_id: Some(execution.to_owned()),
            step_name: step.map(str::to_owned),
            ..ArtifactFilter::default()
        })
    };
    for (text, expected) in [
        ("midex://workflow/available_workflows", Place::Workflows),
        ("midex://workflow/workflow_details/bug-fix", Place::Workflow("bug-fix".to_owned())),
        (
            "midex://workflow/current_step/exec_001",
            Place::CurrentStep(Which::Id("exec_001".to_owned())),
        ),
        (
            "midex://workflow/workflow_status/exec_001",
            Place::Status(Which::Id("exec_001".to_owned())),
        ),
        ("midex://workflow/step_history/exec_001", Place::History("exec_001".to_owned())),
        ("midex://workflow/workflow_artifacts/exec_001", artifacts("exec_001", None)),
        (
            "midex://workflow/workflow_artifacts/exec_001/design",
            artifacts("exec_001", Some("design")),
        ),
        ("midex://workflow/telemetry", Place::Telemetry(EventFilter::default())),
        (
            "midex://workflow/telemetry/e1?event_type=step_started&limit=7",
            Place::Telemetry(EventFilter {
                execution_id: Some("e1".to_owned()),
                event_type: Some("step_started".to_owned()),
                limit: Some(7),
            }),
        ),
        ("midex://persona/default", Place::Persona(None)),
        ("midex://guardrails/active", Place::Guardrails(None)),
        ("midex://guardrails/execution/e1", Place::Guardrails(Some("e1".to_owned()))),
        ("midex://project/shop", Place::Project("shop".to_owned())),
    ] {
        assert_eq!(place(text), expected, "{text}");
        assert_eq!(StepUri::of(expected).to_string(), text);
    }
}

#[test]
fn the_addresses_of_seed_001_and_their_legal_twins() {
    for (text, expected) in [
        ("persona://default", Place::Persona(None)),
        ("persona://architect", Place::Persona(Some("architect".to_owned()))),
        ("guardrails://active", Place::Guardrails(None)),
        ("current_step://t1", Place::CurrentStep(Which::Id("t1".to_owned()))),
        ("current_step://", Place::CurrentStep(Which::Active(None))),
        (
            "current_step://active?project=shop",
            Place::CurrentStep(Which::Active(Some("shop".to_owned()))),
        ),
        ("workflow_status://t1", Place::Status(Which::Id("t1".to_owned()))),
        ("project_context://shop", Place::Project("shop".to_owned())),
        ("available_workflows://all", Place::Workflows),
    ] {
        assert_eq!(place(text), expected, "{text}");
        // Some clients end an address without a path with a slash.
        if !text.contains('?') {
            assert_eq!(place(&format!("{text}/")), expected, "{text}/");
        }
        let (scheme, rest) = text.split_once("://").unwrap();
        let twin = format!("{}://{rest}", scheme.replace('_', "-"));
        assert_eq!(place(&twin), expected, "{twin}");
    }
    let list = |text: &str| match place(text) {
        Place::Artifacts(filter) => filter,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(list("workflow_artifacts://recent?limit=50").limit, Some(50));
    assert_eq!(
        list("workflow_artifacts://type/design_doc?limit=100").artifact_type.unwrap(),
        "design_doc"
    );
    assert_eq!(list("workflow_artifacts://final").is_final, Some(true));
    assert_eq!(list("workflow_artifacts://final/e1"), list("workflow_artifacts://e1?final=true"),);
    assert_eq!(list("workflow-artifacts://e1").execution_id.unwrap(), "e1");
}

#[test]
fn names_are_decoded_once() {
    assert_eq!(
        place("midex://workflow/workflow_artifacts/e1/a%2Fb%20c%2541"),
        place("midex://workflow/workflow_artifacts/e1/a%2fb%20c%2541"),
    );
    let Place::Artifacts(filter) = place("midex://workflow/workflow_artifacts/e1/a%2Fb%20%2541")
    else {
        panic!()
    };
    assert_eq!(filter.step_name.unwrap(), "a/b %41");
    assert_eq!(place("persona://%C3%A4gent"), Place::Persona(Some("ägent".to_owned())));
    assert_eq!(place("persona://ägent"), Place::Persona(Some("ägent".to_owned())));
}

#[test]
fn what_is_wrong_with_an_address_is_said() {
    for (text, part) in [
        ("midex://", "nothing"),
        ("midex://workflow", "nothing"),
        ("midex://workflow/nope", "nothing"),
        ("midex://workflow/available_workflows/x", "nothing"),
        ("midex://workflow/available_workflows?limit=1", "limit"),
        ("midex://workflow/telemetry?limit=0", "1 to 1000"),
        ("midex://workflow/telemetry?limit=1001", "1 to 1000"),
        ("midex://workflow/telemetry?limit=x", "1 to 1000"),
        ("midex://workflow/telemetry?limit=1&limit=2", "twice"),
        ("midex://workflow/telemetry?kind=x", "\"kind\""),
        ("midex://workflow/telemetry/final", "execution id"),
        ("midex://workflow/step_history/..", "execution id"),
        ("midex://workflow/step_history/%2e%2e", "execution id"),
        ("midex://workflow/step_history/a%2Fb", "execution id"),
        ("midex://workflow/step_history/%zz", "percent"),
        ("midex://workflow/step_history/%ff", "UTF-8"),
        ("midex://workflow/workflow_details/", "a name has"),
        ("midex://workflow/workflow_details/a%00b", "control character"),
        ("midex://workflow/artifacts/all", "recent, final"),
        ("midex://workflow/artifacts/type/Design", "small letters"),
        ("midex://workflow/executions?state=done", "state is"),
        ("workflow_artifacts://default", "execution id"),
        ("workflow_artifacts://e1?final=perhaps", "true or false"),
        ("guardrails://all", "nothing"),
    ] {
        let problem = problem(text);
        assert!(problem.contains(part), "{text}: {problem}");
    }
    let long = format!("persona://{}", "x".repeat(ADDRESS_MAX_BYTES));
    assert!(problem(&long).contains("bytes"));
    for foreign in ["", "x", "adw://runs", "file:///etc/passwd", "Persona://x", "persona_://x"] {
        assert_eq!(StepUri::parse(foreign), None, "{foreign}");
    }
}

#[test]
fn a_change_touches_what_shows_it() {
    let uri = |text: &str| StepUri::parse(text).unwrap().unwrap();
    let execution = Changed::Execution("e1".to_owned());
    for text in [
        "current_step://e1",
        "current-step://active",
        "midex://workflow/workflow_status/e1",
        "midex://workflow/step_history/e1",
        "midex://workflow/workflow_artifacts/e1/design",
        "workflow_artifacts://recent",
        "midex://workflow/telemetry",
        "midex://workflow/telemetry/e1",
        "midex://workflow/executions",
        "midex://guardrails/execution/e1",
        "project_context://shop",
    ] {
        assert!(uri(text).shows(&execution), "{text}");
        assert!(!uri(text).shows(&Changed::Content), "{text}");
    }
    for text in [
        "current_step://e2",
        "midex://workflow/telemetry/e2",
        "workflow_artifacts://e2",
        "midex://workflow/artifact/a1",
    ] {
        assert!(!uri(text).shows(&execution), "{text}");
    }
    for text in [
        "available_workflows://all",
        "midex://workflow/workflow_details/x",
        "persona://default",
        "guardrails://active",
    ] {
        assert!(uri(text).shows(&Changed::Content), "{text}");
        assert!(!uri(text).shows(&execution), "{text}");
    }
}

fn any_id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,20}".prop_filter("reserved", |id| ExecutionId::parse(id).is_ok())
}

fn any_name() -> impl Strategy<Value = String> {
    "\\PC{1,20}".prop_filter("reserved", |name| name != "default")
}

fn any_limit() -> impl Strategy<Value = Option<u32>> {
    proptest::option::of(1..=LIMIT_MAX)
}

fn any_which() -> impl Strategy<Value = Which> {
    prop_oneof![
        any_id().prop_map(Which::Id),
        proptest::option::of(any_name()).prop_map(Which::Active)
    ]
}

fn any_artifacts() -> impl Strategy<Value = ArtifactFilter> {
    let base = |limit| ArtifactFilter { limit, ..ArtifactFilter::default() };
    prop_oneof![
        any_limit().prop_map(base),
        any_limit().prop_map(move |n| ArtifactFilter { is_final: Some(true), ..base(n) }),
        ("[a-z0-9_]{1,64}", any_limit())
            .prop_map(move |(kind, n)| ArtifactFilter { artifact_type: Some(kind), ..base(n) }),
        (any_id(), proptest::option::of(any::<bool>()), any_limit()).prop_map(
            move |(id, is_final, n)| ArtifactFilter { execution_id: Some(id), is_final, ..base(n) }
        ),
    ]
}

/// Places that every spelling has a word for.
fn any_shared_place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Workflows),
        any_which().prop_map(Place::CurrentStep),
        any_which().prop_map(Place::Status),
        any_artifacts().prop_map(Place::Artifacts),
        any_name().prop_map(Place::Project),
    ]
}

fn any_canonical_place() -> impl Strategy<Value = Place> {
    let state = prop_oneof![Just(ExecutionState::Running), Just(ExecutionState::Diverged)];
    let executions = (
        proptest::option::of(state),
        proptest::option::of(any_name()),
        proptest::option::of(any_name()),
        any::<bool>(),
        any_limit(),
    );
    let events = (proptest::option::of(any_id()), proptest::option::of(any_name()), any_limit());
    prop_oneof![
        any_shared_place(),
        any_name().prop_map(Place::Workflow),
        any_id().prop_map(Place::History),
        any_name().prop_map(Place::Artifact),
        proptest::option::of(any_name()).prop_map(Place::Persona),
        proptest::option::of(any_id()).prop_map(Place::Guardrails),
        (any_id(), any_name()).prop_map(|(id, step)| Place::Artifacts(ArtifactFilter {
            execution_id: Some(id),
            step_name: Some(step),
            ..ArtifactFilter::default()
        })),
        executions.prop_map(|(state, project, workflow, open_only, limit)| {
            Place::Executions(ExecutionFilter { state, project, workflow, open_only, limit })
        }),
        events.prop_map(|(execution_id, event_type, limit)| {
            Place::Telemetry(EventFilter { execution_id, event_type, limit })
        }),
    ]
}

fn any_uri() -> impl Strategy<Value = StepUri> {
    let alias = prop_oneof![Just(Spelling::Seed), Just(Spelling::Hyphen)];
    // These two have no underscore, so they have one spelling beside the canonical one.
    let same = prop_oneof![
        proptest::option::of(any_name()).prop_map(Place::Persona),
        Just(Place::Guardrails(None))
    ];
    prop_oneof![
        any_canonical_place().prop_map(StepUri::of),
        (alias, any_shared_place()).prop_map(|(spelling, place)| StepUri { spelling, place }),
        same.prop_map(|place| StepUri { spelling: Spelling::Seed, place }),
    ]
}

proptest! {
    #[test]
    fn print_then_parse_is_identity(uri in any_uri()) {
        let text = uri.to_string();
        prop_assert_eq!(StepUri::parse(&text), Some(Ok(uri)), "{}", text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}", tail in "\\PC{0,40}") {
        let _ = StepUri::parse(&text);
        for begin in ["midex://workflow/", "midex://", "persona://", "workflow_artifacts://"] {
            if let Some(Ok(uri)) = StepUri::parse(&format!("{begin}{tail}")) {
                // What is understood can be said again, and means the same.
                prop_assert_eq!(StepUri::parse(&uri.to_string()), Some(Ok(uri)));
            }
        }
    }

    #[test]
    fn what_is_printed_is_plain(uri in any_uri()) {
        let text = uri.to_string();
        prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()), "{}", text);
        if uri.spelling != Spelling::Seed {
            let scheme = text.split("://").next().unwrap();
            prop_assert!(!scheme.contains('_'), "{}", text);
        }
    }
}
