//! The workflows that ship, from start to end through the engine.

use std::collections::BTreeSet;
use std::path::Path;

use adwd::steps::contract::human_message;
use adwd::steps::{
    ControlAction as A, ExecutionState as S, Handed, StartRequest, StepHandout, StepStatus,
};

use crate::db::Scratch;
use crate::on_both_engines;
use crate::steps_support::{World, done, eventually, open_on, unlimited};

on_both_engines!(every_shipped_workflow_is_led_to_its_end, content_that_changes_is_told);

fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("automation/content")
}

async fn every_shipped_workflow_is_led_to_its_end(s: Scratch) {
    let world = open_on(s, unlimited(), vec![shipped()]).await;
    let workflows = world.steps.library().workflows().await.unwrap();
    let names: Vec<String> = workflows.into_iter().map(|w| w.name).collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in &names {
        for max_parallel in [1, 5] {
            let request = StartRequest {
                workflow_name: name.clone(),
                max_parallel: Some(max_parallel),
                ..StartRequest::default()
            };
            let handed = world.steps.start(request).await.unwrap();
            lead(&world, handed).await;
        }
    }
}

/// Does every step that is handed out, approves every gate, and looks that each step is done once
/// and after what it depends on.
async fn lead(world: &World, mut handed: Handed) {
    let (id, name) = (handed.execution_id.clone(), handed.workflow_name.clone());
    let steps = world.steps.execution(&id).await.unwrap().steps;
    let mut finished: BTreeSet<String> = BTreeSet::new();
    let mut todo: Vec<StepHandout> = vec![];
    loop {
        todo.extend(handed.step.take().into_iter().chain(std::mem::take(&mut handed.parallel)));
        if handed.workflow_state == S::Paused {
            let approved = world.control(&id, A::Approve).await.unwrap();
            todo.extend(approved.step);
            todo.extend(world.steps.current(&id).await.unwrap().parallel);
        }
        let Some(handout) = todo.pop() else { break };
        let step = steps.iter().find(|step| step.step_name == handout.step_name).unwrap();
        assert!(step.depends_on.iter().all(|on| finished.contains(on)), "{name}: {step:?}");
        assert!(finished.insert(handout.step_name.clone()), "{name}: {} twice", handout.step_name);
        let text = human_message(&handout, &name, &id);
        assert!(text.starts_with(&format!("# {} AGENT", handout.agent_name.to_uppercase())));
        assert!(text.contains("## What You CANNOT Do\n\n- "), "{text}");
        assert!(handout.persona.len() > 100 && !handout.contract.allowed_actions.is_empty());
        assert!(
            !handout.contract.forbidden_actions.is_empty(),
            "{name}: the rules that ship count"
        );
        handed = world.submit(&handout.token, done(&handout.step_name)).await.unwrap();
    }
    let view = world.steps.execution(&id).await.unwrap();
    assert_eq!(view.state, S::Completed, "{name}: {:?}", view.state_reason);
    assert_eq!(finished.len(), steps.len(), "{name}");
    assert!(view.steps.iter().all(|step| step.status == StepStatus::Completed), "{name}");
}

async fn content_that_changes_is_told(s: Scratch) {
    let folder = tempfile::tempdir().unwrap();
    let world = open_on(s, unlimited(), vec![shipped(), folder.path().to_owned()]).await;
    let own = std::fs::read_to_string(shipped().join("workflows/bug-fix.md")).unwrap();
    std::fs::create_dir(folder.path().join("workflows")).unwrap();
    let own = own.replacen("name: bug-fix", "name: my-fix", 1);
    std::fs::write(folder.path().join("workflows/my-fix.md"), own).unwrap();
    world.steps.library().sync().await.unwrap();
    let request = StartRequest { workflow_name: "my-fix".to_owned(), ..StartRequest::default() };
    assert_eq!(world.steps.start(request).await.unwrap().workflow_name, "my-fix");
    eventually("the sync is told", || async { world.count("content_synced").await > 0 }).await;
}
