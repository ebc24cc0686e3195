//! One change of one execution: taken, decided, stored, told; all in one transaction.

use std::sync::Arc;

use serde_json::{Value, json};

use super::contract;
use super::ctx::{Ctx, json as text, stored};
use super::error::{StepsError, clipped};
use super::events::Event;
use super::execution;
use super::guardrails;
use super::ready::{Next, Standing, Waiting};
use super::sql;
use super::sql_rows::{ExecutionRow, Gist, NewArtifact, StepRow};
use super::template::{Phase, Snapshot};
use super::view::{
    Contract, ControlAction, ExecutionState, Handed, HandedStatus, Hints, Selection, StepHandout,
    StepStatus, Synthesis,
};
use crate::changes::{Changed, Changes};
use crate::clock::Millis;
use crate::db::Tx;

/// An execution that nobody else can change before this is finished or dropped.
pub(super) struct Work<'c> {
    pub ctx: &'c Ctx,
    pub tx: Tx,
    pub now: Millis,
    pub row: ExecutionRow,
    pub snapshot: Arc<Snapshot>,
    /// In the order of the workflow's phases.
    pub steps: Vec<StepRow>,
    pub events: Vec<Event>,
    /// What the step submitted in this change says; its row comes last, with the answer.
    pub fresh: Option<Gist>,
}

/// What became of looking for the next step.
#[derive(Default)]
pub(super) struct Advanced {
    /// Steps handed out, the chosen one first.
    pub given: Vec<(usize, Contract)>,
    pub gate: Option<Contract>,
    pub selection: Option<Selection>,
    pub message: String,
}

/// Tells listeners when it goes: a change that was committed is told even where its caller has
/// stopped waiting, and one that was not is told for nothing, which costs a look.
struct Telling<'c>(&'c Changes, String);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.send(Changed::Execution(std::mem::take(&mut self.1)));
    }
}

impl<'c> Work<'c> {
    /// Takes the execution of that id. Its steps are read with [`Work::read_steps`].
    pub async fn take(ctx: &'c Ctx, execution_id: &str) -> Result<Work<'c>, StepsError> {
        let mut tx = ctx.db.begin().await?;
        let unknown = || StepsError::UnknownExecution { execution_id: execution_id.to_owned() };
        let row = sql::lock_execution(&mut tx, execution_id).await?.ok_or_else(unknown)?;
        let snapshot = ctx.snapshot_in(&mut tx, &row.snapshot_hash).await?;
        Ok(Work::new(ctx, tx, row, snapshot))
    }

    pub fn new(ctx: &'c Ctx, tx: Tx, row: ExecutionRow, snapshot: Arc<Snapshot>) -> Work<'c> {
        // The clock is asked only now, when nobody else can change the execution any more: times
        // within one execution then grow with its changes.
        let now = ctx.now();
        Work { ctx, tx, now, row, snapshot, steps: vec![], events: vec![], fresh: None }
    }

    pub async fn read_steps(&mut self) -> Result<(), StepsError> {
        self.steps = sql::steps_in(&mut self.tx, &self.row.execution_id).await?;
        Ok(())
    }

    pub fn id(&self) -> &str {
        &self.row.execution_id
    }

    pub fn phases(&self) -> &[Phase] {
        &self.snapshot.workflow.phases
    }

    pub fn find(&self, step_name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.step_name == step_name)
    }

    /// Steps that are out, in the order in which they were handed out.
    pub fn out(&self) -> Vec<usize> {
        let mut out: Vec<usize> = (0..self.steps.len())
            .filter(|&at| self.steps[at].status == StepStatus::Running)
            .collect();
        out.sort_by_key(|&at| (self.steps[at].started_at, at));
        out
    }

    /// The steps' names, as people read them.
    pub fn names(&self, steps: &[usize]) -> String {
        let names: Vec<&str> = steps.iter().map(|&at| self.steps[at].step_name.as_str()).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    }

    pub fn conflict(&self, message: String) -> StepsError {
        StepsError::StateConflict {
            execution_id: self.row.execution_id.clone(),
            state: self.row.state,
            message,
            allowed: execution::allowed(self.row.state, self.row.waiting_step.is_some()),
        }
    }

    /// Refuses what only a running execution takes.
    pub fn must_run(&self) -> Result<(), StepsError> {
        if self.row.state == ExecutionState::Running {
            return Ok(());
        }
        let reason =
            self.row.state_reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
        let help = match (self.row.state, &self.row.waiting_step) {
            (ExecutionState::Idle, _) => {
                "start it with workflow_control action \"start\"".to_owned()
            }
            (ExecutionState::Paused, Some(step)) => {
                format!("a person must approve step '{step}' (workflow_control action \"approve\")")
            }
            (ExecutionState::Paused, None) => {
                "its tokens stay good; resume it with workflow_control action \"resume\"".to_owned()
            }
            _ => "it has ended and takes no more steps".to_owned(),
        };
        Err(self.conflict(format!("{help}{reason}")))
    }

    pub fn tell(&mut self, event_type: &'static str, step: Option<usize>, metadata: Value) {
        let step = step.map(|at| &self.steps[at]);
        self.events.push(Event {
            event_type,
            execution_id: Some(self.row.execution_id.clone()),
            step_name: step.map(|step| step.step_name.clone()),
            agent_name: step.map(|step| step.agent_name.clone()),
            metadata,
        });
    }

    /// Moves the execution to another state.
    pub fn go(&mut self, to: ExecutionState, reason: Option<String>) {
        let from = self.row.state;
        debug_assert!(execution::may_move(from, to), "{from} -> {to}");
        if let Some(since) = self.row.paused_at.take() {
            self.row.paused_ms += self.now.since_ms(since).max(0);
        }
        match to {
            ExecutionState::Running => {
                self.row.started_at.get_or_insert(self.now);
            }
            ExecutionState::Paused => self.row.paused_at = Some(self.now),
            _ => self.row.completed_at = Some(self.now),
        }
        self.row.state = to;
        self.row.waiting_step = None;
        let metadata = json!({ "from": from, "to": to, "reason": reason });
        // While it runs nothing keeps it, whatever let it go on.
        self.row.state_reason = reason.filter(|_| to != ExecutionState::Running);
        self.tell("workflow_state_transition", None, metadata);
    }

    /// Ends the execution otherwise than by completing it.
    pub async fn close(
        &mut self,
        to: ExecutionState,
        reason: Option<String>,
    ) -> Result<(), StepsError> {
        let end = execution::step_end(to);
        for at in self.out() {
            if end == StepStatus::Failed {
                let attempt = self.steps[at].attempt;
                self.tell("step_failed", Some(at), json!({ "attempt": attempt, "reason": reason }));
            }
            self.steps[at].status = end;
        }
        for step in &mut self.steps {
            if step.status == StepStatus::Pending {
                step.status = StepStatus::Skipped;
            }
        }
        sql::close_steps(&mut self.tx, &self.row.execution_id, end, self.now).await?;
        self.go(to, reason);
        if to == ExecutionState::Failed {
            let metadata = json!({ "reason": self.row.state_reason });
            self.tell("workflow_failed", None, metadata);
        }
        Ok(())
    }

    /// Hands out what comes next, at most `want` steps; completes, pauses at a gate or fails where
    /// that is what comes next.
    pub async fn advance(&mut self, hints: &Hints, want: usize) -> Result<Advanced, StepsError> {
        let next = self.next(hints, want)?;
        let mut done = Advanced::default();
        match next {
            Next::Complete => {
                self.complete().await?;
                done.message = "Workflow completed successfully".to_owned();
            }
            Next::Hand(steps, selection) => {
                for at in steps {
                    let contract = self.hand_out(at, hints).await?;
                    done.given.push((at, contract));
                }
                done.message = format!("Step '{}' ready.", selection.chosen);
                done.selection = Some(selection);
            }
            Next::Gate(at, selection) => {
                let name = self.steps[at].step_name.clone();
                let reason = format!("step '{name}' waits for approval");
                self.go(ExecutionState::Paused, Some(reason));
                self.row.waiting_step = Some(name.clone());
                let contract = self.contract(at, hints)?;
                let id = &self.row.execution_id;
                sql::keep_contract(&mut self.tx, id, &name, &text(&contract)).await?;
                done.gate = Some(contract);
                done.message = format!(
                    "Step '{name}' needs a person's approval before it is handed out: \
                     workflow_control action \"approve\"."
                );
                done.selection = Some(selection);
            }
            Next::Wait(running, why) => done.message = self.waiting(&running, why),
            Next::Deadlock(left) => {
                let left = left.iter().map(|(at, missing)| {
                    format!("{} waits for {}", self.steps[*at].step_name, missing.join(", "))
                });
                let left: Vec<String> = left.collect();
                let reason = format!("deadlock: {}", left.join("; "));
                self.close(ExecutionState::Failed, Some(reason.clone())).await?;
                done.message = format!("The workflow failed: {reason}");
            }
        }
        Ok(done)
    }

    fn next(&self, hints: &Hints, want: usize) -> Result<Next, StepsError> {
        let status: Vec<StepStatus> = self.steps.iter().map(|step| step.status).collect();
        let approved: Vec<bool> = self.steps.iter().map(|step| step.approved).collect();
        let standing = Standing {
            phases: self.phases(),
            status: &status,
            approved: &approved,
            max_parallel: usize::try_from(self.row.max_parallel).unwrap_or(1).max(1),
        };
        standing.next(hints, want).map_err(|name| StepsError::Invalid {
            field: "requested_step_name".to_owned(),
            given: format!("{:?}", clipped(&name)),
            expected: format!("one of {}", self.names(&(0..self.steps.len()).collect::<Vec<_>>())),
        })
    }

    fn waiting(&self, running: &[usize], why: Waiting) -> String {
        let names = self.names(running);
        match why {
            Waiting::Full => format!(
                "{} of at most {} steps are out; waiting for {names}.",
                running.len(),
                self.row.max_parallel
            ),
            Waiting::Dependencies => format!("No further step is ready; waiting for {names}."),
            Waiting::Alone => format!("A step runs alone; waiting for {names}."),
            Waiting::Gate => format!(
                "What is ready needs a person's approval, which is asked for when {names} is done."
            ),
        }
    }

    /// What the step is told under the rules for what it is about: the paths in the hints and those
    /// that completed steps refer to.
    fn contract(&self, at: usize, hints: &Hints) -> Result<Contract, StepsError> {
        let mut paths = hints.referenced_paths.clone();
        for focus in self.steps.iter().filter_map(|step| step.focus.as_deref()) {
            paths.extend(stored::<Vec<String>>("a step's references", focus)?);
        }
        let (workflow, phase) = (&self.snapshot.workflow, &self.phases()[at]);
        let rules = guardrails::active(&self.snapshot.rules, workflow, Some(phase), &paths);
        Ok(contract::contract(phase, &guardrails::parse(&rules)))
    }

    /// The contract of the step that waits for approval, if one does.
    pub async fn gate(&mut self) -> Result<Option<Contract>, StepsError> {
        let Some(name) = &self.row.waiting_step else { return Ok(None) };
        let contract = sql::contract(&mut self.tx, &self.row.execution_id, name).await?;
        contract.map(|text| stored("a step's contract", &text)).transpose()
    }

    /// Puts a pending step out.
    async fn hand_out(&mut self, at: usize, hints: &Hints) -> Result<Contract, StepsError> {
        let contract = self.contract(at, hints)?;
        let from = self.steps[at].status;
        self.steps[at].attempt += 1;
        self.issue(at, from, Some(&text(&contract))).await?;
        let attempt = self.steps[at].attempt;
        let metadata = json!({ "attempt": attempt, "rationale": hints.rationale });
        self.tell("step_started", Some(at), metadata);
        self.tell_token(at);
        Ok(contract)
    }

    /// Gives a step that is out a new token, and a new attempt where `again`; the old token is
    /// revoked.
    pub async fn renew(&mut self, at: usize, again: bool) -> Result<(), StepsError> {
        if again {
            self.steps[at].attempt += 1;
        }
        self.issue(at, StepStatus::Running, None).await?;
        if again {
            let attempt = self.steps[at].attempt;
            self.tell("step_started", Some(at), json!({ "attempt": attempt }));
        }
        self.tell_token(at);
        Ok(())
    }

    fn tell_token(&mut self, at: usize) {
        let step = &self.steps[at];
        let metadata =
            json!({ "step_name": step.step_name, "attempt": step.attempt, "kid": step.kid });
        self.tell("token_generated", Some(at), metadata);
    }

    async fn issue(
        &mut self,
        at: usize,
        from: StepStatus,
        contract: Option<&str>,
    ) -> Result<(), StepsError> {
        let issue = self.ctx.issue();
        let step = &mut self.steps[at];
        step.status = StepStatus::Running;
        step.nonce = Some(issue.nonce);
        step.kid = Some(issue.kid);
        step.issued_at = Some(self.now);
        step.started_at.get_or_insert(self.now);
        let stored = sql::issue(&mut self.tx, &self.row.execution_id, step, from, contract).await?;
        if stored { Ok(()) } else { Err(self.conflict("its steps changed meanwhile".to_owned())) }
    }

    /// Every step is done: synthesis, final artifacts, the end.
    async fn complete(&mut self) -> Result<(), StepsError> {
        let id = self.row.execution_id.clone();
        let mut gists = sql::gists(&mut self.tx, &id).await?;
        gists.extend(self.fresh.clone());
        let artifacts = sql::count_artifacts(&mut self.tx, &id).await?;
        let synthesis = self.synthesis(&gists, artifacts)?;
        let artifact = NewArtifact {
            artifact_id: self.ctx.uuid(),
            execution_id: id.clone(),
            step_name: None,
            agent_name: "supervisor".to_owned(),
            artifact_type: "design_doc".to_owned(),
            title: "Workflow Synthesis".to_owned(),
            description: None,
            content_type: "text/markdown".to_owned(),
            metadata: Some(synthesis.model_output.to_string()),
            content: synthesis.outcome_summary.clone(),
            is_final: true,
        };
        sql::finalise(&mut self.tx, &id).await?;
        self.row.synthesis = Some(text(&synthesis));
        self.go(ExecutionState::Completed, None);
        let stored = json!({ "artifact_id": &artifact.artifact_id, "artifact_type": "design_doc" });
        sql::insert_artifacts(&mut self.tx, &[artifact], self.now).await?;
        self.tell("artifact_stored", None, stored);
        self.tell("workflow_completed", None, json!({ "steps": self.steps.len() }));
        self.tell("workflow_finalized", None, json!({ "artifacts": artifacts + 1 }));
        Ok(())
    }

    /// The outcome, made of what the steps said (`spec/steps.md` §6): the summary of the sink step
    /// that was completed last, the mean of the confidences given, all blockers.
    fn synthesis(&self, gists: &[Gist], artifacts: i64) -> Result<Synthesis, StepsError> {
        let is_sink = |step: &&StepRow| {
            self.phases().iter().all(|phase| !phase.depends_on.contains(&step.step_name))
        };
        let last = self.steps.iter().filter(is_sink).max_by_key(|s| (s.completed_at, s.ordinal));
        let of = |step: &StepRow| gists.iter().find(|gist| gist.step_name == step.step_name);
        let outcome_summary = last.and_then(of).map(|g| g.summary.clone()).unwrap_or_default();
        let given: Vec<f64> = gists.iter().filter_map(|gist| gist.confidence).collect();
        #[allow(clippy::cast_precision_loss)]
        let mean = (!given.is_empty()).then(|| given.iter().sum::<f64>() / given.len() as f64);
        // Two digits are all that a mean of guesses is worth.
        let confidence = mean.map(|mean| (mean * 100.0).round() / 100.0);
        let mut blockers: Vec<Value> = vec![];
        for gist in gists {
            blockers.extend(stored::<Vec<Value>>("a step's blockers", &gist.blockers)?);
        }
        let model_output = json!({
            "workflow": self.row.workflow_name,
            "steps_completed": self.steps.len(),
            "artifacts_created": artifacts,
            "confidence": confidence,
            "blockers": blockers,
        });
        Ok(Synthesis { outcome_summary, model_output })
    }

    /// The step as its holder gets it.
    pub fn handout(&self, at: usize, contract: Contract) -> StepHandout {
        let step = &self.steps[at];
        self.ctx.handout(self.id(), &self.snapshot, step, contract, self.now)
    }

    /// The same for a step that was out before, whose contract is stored.
    pub async fn handout_again(&mut self, at: usize) -> Result<StepHandout, StepsError> {
        let name = self.steps[at].step_name.clone();
        let contract = sql::contract(&mut self.tx, &self.row.execution_id, &name).await?;
        let contract = stored("a step's contract", &contract.unwrap_or_default())?;
        Ok(self.handout(at, contract))
    }

    /// The answer to whoever made the change.
    pub fn handed(&self, done: Advanced) -> Result<Handed, StepsError> {
        let mut handouts = done.given.into_iter().map(|(at, contract)| self.handout(at, contract));
        let step = handouts.next();
        let parallel = handouts.collect();
        let status = match (&step, self.row.state.is_terminal()) {
            (_, true) => HandedStatus::Closed,
            (Some(_), _) => HandedStatus::Ok,
            (None, _) => HandedStatus::NoOp,
        };
        let synthesis = self.row.synthesis.as_deref().map(|text| stored("a synthesis", text));
        Ok(Handed {
            status,
            execution_id: self.row.execution_id.clone(),
            workflow_name: self.row.workflow_name.clone(),
            workflow_state: self.row.state,
            step,
            parallel,
            gate: done.gate,
            selection: done.selection,
            synthesis: synthesis.transpose()?,
            message: done.message,
            warnings: vec![],
        })
    }

    /// What the execution takes now.
    pub fn allowed(&self) -> Vec<ControlAction> {
        execution::allowed(self.row.state, self.row.waiting_step.is_some())
    }

    /// Stores the execution and the events, and makes everything true at once. `active`: somebody
    /// did something, so nothing is stalled.
    pub async fn finish(mut self, active: bool) -> Result<(), StepsError> {
        self.row.updated_at = self.now;
        if active {
            self.row.active_at = self.now;
            self.row.stall_level = 0;
        }
        if !sql::save_execution(&mut self.tx, &self.row).await? {
            return Err(self.conflict("it changed meanwhile".to_owned()));
        }
        sql::insert_events(&mut self.tx, &self.events, self.now).await?;
        let telling = Telling(&self.ctx.changes, self.row.execution_id.clone());
        self.tx.commit().await?;
        drop(telling);
        Ok(())
    }
}
