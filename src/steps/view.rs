//! What the steps slice takes and answers: plain data, neutral to the dialects of the wire.
//!
//! The layer above turns it into the shapes of the two seeds. Times are [`Millis`]; the edge writes
//! them as ISO 8601 with milliseconds.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Millis;

/// Where an execution stands (`spec/steps.md` §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionState {
    /// Made, not started (`hold`).
    Idle,
    /// Steps are handed out and taken in.
    Running,
    /// Waits for a person: paused, an approval, a blocker.
    Paused,
    /// Every step is done.
    Completed,
    /// A deadlock, too many attempts, a time limit, or somebody said so.
    Failed,
    /// Given up.
    Abandoned,
    /// The work went another way.
    Diverged,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepStatus {
    /// Not handed out yet.
    Pending,
    /// Handed out: a token is outstanding.
    Running,
    /// Its output was taken in.
    Completed,
    /// Given up after a failure.
    Failed,
    /// Never done, and not going to be.
    Skipped,
}

/// Words that steer which ready step comes next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hints {
    /// A step by name: 999 points where it is ready, an error where it does not exist.
    pub requested_step_name: Option<String>,
    /// Words of intent: a point for each tag of a step among them.
    pub intent_tags: Vec<String>,
    /// Paths: two points for each pattern of a step that matches one.
    pub referenced_paths: Vec<String>,
    /// Why; recorded.
    pub rationale: Option<String>,
}

/// A request to start a workflow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartRequest {
    /// Name of the workflow.
    pub workflow_name: String,
    /// Id wanted for the execution; made where absent.
    pub execution_id: Option<String>,
    /// Made `idle`, to be started later.
    pub hold: bool,
    /// Steps that may be out at once, 1 to 16; 1 where absent.
    pub max_parallel: Option<u32>,
    /// The project it belongs to.
    pub project: Option<String>,
    /// Pauses the execution when an output carries blockers.
    pub pause_on_blockers: bool,
    /// Steering of the first step.
    pub hints: Hints,
}

/// One artifact as it was submitted, normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactIn {
    /// Its type, `[a-z0-9_]{1,64}`.
    pub artifact_type: String,
    /// Its title (or `name`).
    pub title: String,
    /// Its content, at most 1 MiB.
    pub content: String,
    /// What it is.
    pub description: Option<String>,
    /// Mime type, given or made from the type.
    pub content_type: String,
    /// Whatever the submitter adds.
    pub metadata: Option<Value>,
    /// Keys that nobody knows: kept, never dropped.
    pub extra: Map<String, Value>,
}

/// What a step submits, normalised from either dialect (`spec/steps.md` §3.3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// What was done; not blank.
    pub summary: String,
    /// Artifacts with content.
    pub artifacts: Vec<ArtifactIn>,
    /// Artifacts named by id only.
    pub artifact_refs: Vec<String>,
    /// Files and documents that were used.
    pub references: Vec<String>,
    /// 0 to 1, where given.
    pub confidence: Option<f64>,
    /// As submitted.
    pub decisions: Vec<Value>,
    /// Text or objects, as submitted.
    pub findings: Vec<Value>,
    /// As submitted (`next_steps`, `next_step_recommendation`).
    pub next_steps: Option<Value>,
    /// What stands in the way; text or objects.
    pub blockers: Vec<Value>,
    /// As submitted.
    pub metadata: Option<Value>,
    /// Keys that nobody knows: kept, never dropped.
    pub extra: Map<String, Value>,
    /// What was taken though it was not quite right, for the submitter to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandedStatus {
    /// A step is handed out.
    Ok,
    /// Nothing changed: a peek, a held start, or nothing is ready.
    NoOp,
    /// The execution has ended.
    Closed,
}

/// What a step may and may not do, and what it hands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Name of the step.
    pub step_name: String,
    /// What it may do; a default where the workflow says nothing.
    pub allowed_actions: Vec<String>,
    /// What it may not do: the five gravest.
    pub forbidden_actions: Vec<String>,
    /// What it must do.
    pub required_actions: Vec<String>,
    /// What must be checked.
    pub validation_requirements: Vec<String>,
    /// The form of the output, in words.
    pub required_output_format: String,
    /// Whether a person approves before it.
    pub human_gate_required: bool,
}

/// A step in somebody's hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepHandout {
    /// Name of the step.
    pub step_name: String,
    /// Name of its agent.
    pub agent_name: String,
    /// What is to be done.
    pub description: String,
    /// The agent's persona, Markdown.
    pub persona: String,
    /// What it may and may not do.
    pub contract: Contract,
    /// Counted from 1.
    pub attempt: u32,
    /// The token to submit with. Never stored: computed from the stored nonce when shown. Empty
    /// where it has expired or its key is gone; `reissue` makes a new one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// When the token was issued.
    pub issued_at: Millis,
    /// When it expires.
    pub expires_at: Millis,
}

/// How the next step was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The chosen step.
    pub chosen: String,
    /// Score of each ready step.
    pub scores: Map<String, Value>,
    /// `requested`, `paths`, `tags`, `only_candidate` or `name`.
    pub reason: String,
    /// Ready steps, by name.
    pub candidates: Vec<String>,
    /// `name` where the score alone did not decide.
    pub tie_broken_by: Option<String>,
    /// Dependencies that a requested step still waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requested_not_ready: Vec<String>,
}

/// What came out of a completed execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Synthesis {
    /// Summary of the last completed sink step.
    pub outcome_summary: String,
    /// `{workflow, steps_completed, artifacts_created, confidence, blockers}`.
    pub model_output: Value,
}

/// Answer to start, submission, peek, claim and to reading the current step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handed {
    /// What the answer is about.
    pub status: HandedStatus,
    /// The execution.
    pub execution_id: String,
    /// Its workflow.
    pub workflow_name: String,
    /// Where it stands now.
    pub workflow_state: ExecutionState,
    /// The step that the caller has to do now.
    pub step: Option<StepHandout>,
    /// Further ready steps that may be done at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parallel: Vec<StepHandout>,
    /// Contract of the step that waits for a person's approval; nobody has it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Contract>,
    /// How the step was chosen.
    pub selection: Option<Selection>,
    /// Of a completed execution.
    pub synthesis: Option<Synthesis>,
    /// For people: what happened and what to do now.
    pub message: String,
    /// What was taken though it was not quite right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What `workflow_control` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlAction {
    /// `idle` → `running`.
    Start,
    /// `running` → `paused`.
    Pause,
    /// `paused` → `running`.
    Resume,
    /// Any open state → `abandoned`.
    Abandon,
    /// `running` → `diverged`; needs a reason.
    Diverge,
    /// `running` → `failed`.
    Fail,
    /// Gives a step that is out up and hands it out again, as a new attempt; fails the execution
    /// where no attempt is left.
    Retry,
    /// A new token for a running step; the old one is revoked.
    Reissue,
    /// Lets a step past its approval gate.
    Approve,
}

/// A control request.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlRequest {
    /// The execution.
    pub execution_id: String,
    /// What to do.
    pub action: ControlAction,
    /// Why.
    pub reason: Option<String>,
    /// Only if the execution is in this state.
    pub expected_state: Option<ExecutionState>,
    /// Which step, where more than one is meant.
    pub step_name: Option<String>,
}

/// Answer to a control request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Controlled {
    /// The execution.
    pub execution_id: String,
    /// Where it stood.
    pub previous_state: ExecutionState,
    /// Where it stands.
    pub workflow_state: ExecutionState,
    /// Steps that are out.
    pub current_steps: Vec<String>,
    /// The step whose token is new, where one is.
    pub step: Option<StepHandout>,
    /// Actions that the new state takes.
    pub allowed_actions: Vec<ControlAction>,
    /// For people.
    pub message: String,
}

/// One step as it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Name.
    pub step_name: String,
    /// Agent.
    pub agent_name: String,
    /// Where it stands.
    pub status: StepStatus,
    /// The current or last attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// First handed out.
    pub started_at: Option<Millis>,
    /// Taken in or given up.
    pub completed_at: Option<Millis>,
    /// What was submitted, as [`Output`] keeps it, where it was asked for. The contents of its
    /// artifacts are empty here: they are read by the ids in `artifacts`.
    pub output: Option<Output>,
    /// Ids of its artifacts, in the order of the output, where it was asked for.
    pub artifacts: Vec<String>,
    /// The steps it depends on.
    pub depends_on: Vec<String>,
}

/// An execution as it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionView {
    /// Id.
    pub execution_id: String,
    /// Workflow.
    pub workflow_name: String,
    /// Project, where one was named.
    pub project: Option<String>,
    /// Where it stands.
    pub state: ExecutionState,
    /// Why, where somebody or something said so.
    pub state_reason: Option<String>,
    /// Steps that are out, in the order they were handed out.
    pub current_steps: Vec<String>,
    /// The step that waits for a person's approval.
    pub waiting_step: Option<String>,
    /// Steps that may be out at once.
    pub max_parallel: u32,
    /// All steps, in the workflow's order.
    pub steps: Vec<StepView>,
    /// Made.
    pub created_at: Millis,
    /// Started.
    pub started_at: Option<Millis>,
    /// Last changed.
    pub updated_at: Millis,
    /// Ended.
    pub completed_at: Option<Millis>,
    /// Control actions that it takes now.
    pub allowed_actions: Vec<ControlAction>,
    /// Of a completed execution.
    pub synthesis: Option<Synthesis>,
}

/// One line of a list of executions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionSummary {
    /// Id.
    pub execution_id: String,
    /// Workflow.
    pub workflow_name: String,
    /// Project, where one was named.
    pub project: Option<String>,
    /// Where it stands.
    pub state: ExecutionState,
    /// Made.
    pub created_at: Millis,
    /// Last changed.
    pub updated_at: Millis,
    /// Steps in all.
    pub steps_total: u32,
    /// Steps completed.
    pub steps_completed: u32,
}

/// Which executions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionFilter {
    /// In this state.
    pub state: Option<ExecutionState>,
    /// Of this project.
    pub project: Option<String>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// Only those that have not ended.
    pub open_only: bool,
    /// At most so many, newest first; 100 where absent, at most 1000.
    pub limit: Option<u32>,
}

/// An artifact as it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactView {
    /// Number, for clients that want one.
    pub id: i64,
    /// UUID.
    pub artifact_id: String,
    /// Execution.
    pub execution_id: String,
    /// Step; none for the synthesis.
    pub step_name: Option<String>,
    /// Agent.
    pub agent_name: Option<String>,
    /// Type, as submitted.
    pub artifact_type: String,
    /// `file`, `data`, `report` or `finding`.
    pub kind: String,
    /// Title.
    pub title: String,
    /// What it is.
    pub description: Option<String>,
    /// Mime type.
    pub content_type: String,
    /// Size of the content.
    pub size_bytes: i64,
    /// SHA-256 of the content, hexadecimal.
    pub sha256: String,
    /// Whether the execution completed with it.
    pub is_final: bool,
    /// As submitted.
    pub metadata: Option<Value>,
    /// Stored.
    pub created_at: Millis,
    /// The content, where it was asked for.
    pub content: Option<String>,
}

/// Which artifacts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactFilter {
    /// Of this execution.
    pub execution_id: Option<String>,
    /// Of this step.
    pub step_name: Option<String>,
    /// Of this type.
    pub artifact_type: Option<String>,
    /// Only final ones.
    pub is_final: Option<bool>,
    /// At most so many, newest first, at most 1000; where absent, all of the execution, or 100 where
    /// no execution is named.
    pub limit: Option<u32>,
    /// With their content.
    pub with_content: bool,
}

/// One telemetry event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// Number; grows.
    pub id: i64,
    /// `workflow_created`, `step_started`, … (`spec/steps.md` §6).
    pub event_type: String,
    /// Execution, where it is about one.
    pub execution_id: Option<String>,
    /// Step.
    pub step_name: Option<String>,
    /// Agent.
    pub agent_name: Option<String>,
    /// What belongs to it.
    pub metadata: Value,
    /// When.
    pub created_at: Millis,
}

/// Which telemetry events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this execution.
    pub execution_id: Option<String>,
    /// Of this type.
    pub event_type: Option<String>,
    /// At most so many, newest first; 100 where absent, at most 1000.
    pub limit: Option<u32>,
}
