//! What the tests of the steps slice share: an engine on a database of its own, content by hand,
//! and everything stored as text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use adwd::args;
use adwd::changes::Changes;
use adwd::clock::{Millis, TestClock};
use adwd::config::StepsConfig;
use adwd::db::Db;
use adwd::ids::OsRng;
use adwd::steps::{
    Agent, Complexity, ControlAction, ControlRequest, Controlled, EventFilter, ExecutionState,
    Handed, Hints, Library, LibraryDeps, Output, Phase, Rule, Snapshot, StartRequest, Steps,
    StepsDeps, StepsError, Workflow, output,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::db::Scratch;

/// The moment at which the tests begin.
pub const START: Millis = Millis(1_800_000_000_000);
pub const MINUTE_MS: i64 = 60_000;

/// An engine on a database, with a clock that moves by hand.
pub struct World {
    pub s: Scratch,
    pub steps: Steps,
    pub clock: Arc<TestClock>,
    pub config: StepsConfig,
    pub state: TempDir,
    /// Content folders.
    folders: Vec<PathBuf>,
    shutdown: CancellationToken,
    sweeper: JoinHandle<()>,
}

/// Without rate limits, which would be in the way of everything else.
pub fn unlimited() -> StepsConfig {
    StepsConfig { rate_limits: false, ..StepsConfig::default() }
}

/// An engine without rate limits.
pub async fn open(s: Scratch) -> World {
    open_with(s, unlimited()).await
}

pub async fn open_with(s: Scratch, config: StepsConfig) -> World {
    open_on(s, config, vec![]).await
}

/// An engine whose library reads these folders.
pub async fn open_on(s: Scratch, config: StepsConfig, folders: Vec<PathBuf>) -> World {
    let clock = Arc::new(TestClock::new(START));
    s.db.migrate(&*clock).await.expect("migrates");
    let state = tempfile::tempdir().expect("a folder");
    let shutdown = CancellationToken::new();
    let (steps, sweeper) = engine(&s.db, &clock, &config, &state, &folders, &shutdown).await;
    World { s, steps, clock, config, state, folders, shutdown, sweeper }
}

/// A further engine on the same database, as another daemon has it.
pub async fn engine(
    db: &Db,
    clock: &Arc<TestClock>,
    config: &StepsConfig,
    state: &TempDir,
    folders: &[PathBuf],
    shutdown: &CancellationToken,
) -> (Steps, JoinHandle<()>) {
    let (clock, changes) = (Arc::clone(clock), Changes::new());
    let deps = LibraryDeps {
        db: db.clone(),
        clock: clock.clone(),
        changes: changes.clone(),
        host: "here".to_owned(),
        folders: folders.to_vec(),
        shutdown: shutdown.clone(),
    };
    let library = Library::open(deps).await.expect("a library");
    let deps = StepsDeps {
        db: db.clone(),
        clock,
        rng: Arc::new(OsRng),
        changes,
        library,
        config: config.clone(),
        state_dir: state.path().to_owned(),
        shutdown: shutdown.clone(),
    };
    Steps::open(deps).await.expect("an engine")
}

impl World {
    /// The daemon ends and starts again.
    pub async fn restart(&mut self) {
        self.shutdown.cancel();
        (&mut self.sweeper).await.expect("the sweeper ends");
        self.shutdown = CancellationToken::new();
        let folders = self.folders.clone();
        (self.steps, self.sweeper) =
            engine(&self.s.db, &self.clock, &self.config, &self.state, &folders, &self.shutdown)
                .await;
    }

    pub async fn start(&self, snapshot: Snapshot) -> Handed {
        self.start_with(snapshot, StartRequest::default()).await
    }

    pub async fn start_with(&self, snapshot: Snapshot, request: StartRequest) -> Handed {
        self.steps.start_snapshot(snapshot, request).await.expect("starts")
    }

    pub async fn submit(&self, token: &str, output: Output) -> Result<Handed, StepsError> {
        self.steps.submit(token, output, Hints::default()).await
    }

    pub async fn control(
        &self,
        execution_id: &str,
        action: ControlAction,
    ) -> Result<Controlled, StepsError> {
        self.steps.control(request(execution_id, action)).await
    }

    pub async fn state(&self, execution_id: &str) -> ExecutionState {
        self.steps.execution(execution_id).await.expect("is there").state
    }

    /// Runs an execution to its end from an answer on; answers the last one.
    pub async fn finish(&self, mut handed: Handed) -> Handed {
        while let Some(token) = token_of(&handed) {
            handed = self.submit(&token, done("done")).await.expect("is taken in");
        }
        handed
    }

    /// Types of an execution's events, oldest first.
    pub async fn events(&self, execution_id: &str) -> Vec<String> {
        let filter = EventFilter {
            execution_id: Some(execution_id.to_owned()),
            limit: Some(1000),
            ..EventFilter::default()
        };
        let events = self.steps.events(&filter).await.expect("are there");
        events.into_iter().rev().map(|event| event.event_type).collect()
    }

    /// How many events of a type there are.
    pub async fn count(&self, event_type: &str) -> usize {
        let filter = EventFilter {
            event_type: Some(event_type.to_owned()),
            limit: Some(1000),
            ..EventFilter::default()
        };
        self.steps.events(&filter).await.expect("are there").len()
    }
}

/// The token of the step that was handed out.
pub fn token_of(handed: &Handed) -> Option<String> {
    handed.step.as_ref().map(|step| step.token.clone())
}

/// The same, which must be there.
pub fn token(handed: &Handed) -> String {
    token_of(handed).unwrap_or_else(|| panic!("no step: {handed:?}"))
}

/// The name of the step that was handed out.
pub fn step(handed: &Handed) -> &str {
    handed.step.as_ref().map_or("", |step| step.step_name.as_str())
}

pub fn request(execution_id: &str, action: ControlAction) -> ControlRequest {
    ControlRequest {
        execution_id: execution_id.to_owned(),
        action,
        reason: Some("said so".to_owned()),
        expected_state: None,
        step_name: None,
    }
}

/// An output that says only what was done.
pub fn done(summary: &str) -> Output {
    given(&json!({ "summary": summary }))
}

/// An output out of JSON.
pub fn given(value: &Value) -> Output {
    output::normalise(value).expect("a good output")
}

/// A phase of the agent `implementer`.
pub fn phase(name: &str, depends_on: &[&str]) -> Phase {
    Phase {
        phase: name.to_owned(),
        agent: "implementer".to_owned(),
        description: format!("Do {name}"),
        depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
        allow_parallel: true,
        path_patterns: vec![],
        tags: vec![],
        allowed_actions: vec![],
        requires_approval: false,
    }
}

/// A workflow of these phases, its agents and one rule.
pub fn content(phases: Vec<Phase>) -> Snapshot {
    let agent = |name: &str| Agent {
        name: name.to_owned(),
        description: format!("The {name}"),
        tags: vec![],
        version: None,
        body: format!("\nYou are the {name}.\n"),
        hash: format!("hash of {name}"),
    };
    let names = phases.iter().map(|phase| phase.agent.clone());
    let agents: BTreeMap<String, Agent> =
        names.chain(["supervisor".to_owned()]).map(|name| (name.clone(), agent(&name))).collect();
    let rule = Rule {
        name: "base".to_owned(),
        description: "For all".to_owned(),
        globs: vec![],
        always_apply: true,
        tags: vec![],
        body: "- **NEVER** push to main\n- **ALWAYS** run the tests\n".to_owned(),
        hash: "hash of base".to_owned(),
    };
    Snapshot {
        workflow: Workflow {
            name: "feature".to_owned(),
            description: "A feature".to_owned(),
            tags: vec![],
            keywords: vec![],
            complexity: Complexity::Moderate,
            kind: "hybrid".to_owned(),
            estimated_duration_minutes: None,
            phases,
            body: String::new(),
            hash: "hash of feature".to_owned(),
        },
        agents,
        rules: vec![rule],
    }
}

/// Three steps, one after another.
pub fn chain() -> Snapshot {
    content(vec![
        phase("design", &[]),
        phase("implement", &["design"]),
        phase("review", &["implement"]),
    ])
}

/// The rows of a table as text: the key column in brackets, then the others.
macro_rules! dump {
    ($db:expr, $table:ident[$key:ident] $($column:ident)+) => {{
        let rows: Vec<(String, String)> = $db
            .all(
                concat!(
                    "SELECT CAST(", stringify!($key), " AS TEXT) AS k, ",
                    $("COALESCE(CAST(", stringify!($column), " AS TEXT), '-') || '|' || ",)+
                    "'' AS v FROM ", stringify!($table), " ORDER BY k, v"
                ),
                args![],
            )
            .await
            .expect("a dump");
        rows.into_iter().map(|(key, value)| format!("{} {key}: {value}", stringify!($table)))
    }};
}

/// Everything that is stored about executions, events last.
pub async fn dump(db: &Db) -> Vec<String> {
    let mut all = dump_state(db).await;
    all.extend(dump!(db, step_events[id]
        event_type execution_id step_name agent_name metadata created_at));
    all.extend(dump!(db, counters[name] value));
    all
}

/// Everything that is stored about executions but their events: these tell of refused calls too.
pub async fn dump_state(db: &Db) -> Vec<String> {
    let mut all = Vec::new();
    all.extend(dump!(db, executions[execution_id]
        workflow_name snapshot_hash project state active state_reason waiting_step max_parallel
        pause_on_blockers version created_at started_at updated_at completed_at active_at
        stall_level paused_at paused_ms hints synthesis));
    all.extend(dump!(db, execution_steps[execution_id]
        step_name ordinal agent_name status attempt approved nonce kid issued_at started_at
        completed_at output_digest focus contract));
    all.extend(dump!(db, execution_outputs[execution_id]
        step_name summary confidence blockers output answer));
    all.extend(dump!(db, execution_artifacts[id]
        artifact_id execution_id step_name title size_bytes sha256 is_final metadata));
    all.extend(dump!(db, artifact_contents[artifact_id] content));
    all.extend(dump!(db, execution_snapshots[hash] body));
    all.extend(dump!(db, rate_buckets[scope_key] scope tokens last_refill));
    all
}

/// Waits until the condition holds; it is about what another task does next.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
