//! The tools over step workflows: names, words and arguments.

use crate::auth::Action;
use crate::limits::STEPS_PARALLEL_COUNT;
use crate::mcp::args::{Field, Kind, may, need};
use crate::mcp::steps::shapes::{answer_schema, output_schema, same_output_schema};
use crate::mcp::tools::{Effect, Family, ToolDef};

/// Words of `action`.
pub const ACTIONS: [&str; 9] =
    ["start", "pause", "resume", "abandon", "diverge", "fail", "retry", "reissue", "approve"];

/// Words of `expected_state`.
pub const STATES: [&str; 7] =
    ["idle", "running", "paused", "completed", "failed", "abandoned", "diverged"];

const WORKFLOW: Field = may(
    "workflow_name",
    Kind::Text,
    "Name of the workflow, as midex://workflow/available_workflows lists it, such as \"bug-fix\".",
);
const TEMPLATE: Field =
    may("template_name", Kind::Text, "workflow_name in the other set of names.");
const NEW_EXECUTION: Field = may(
    "execution_id",
    Kind::Id,
    "Id wanted for the execution: 1 to 128 letters, digits, '.', '_' or '-'. Left out, one is made.",
);
const PROJECT: Field = may(
    "project",
    Kind::Text,
    "Name of the project it belongs to: letters, digits, '.', '_' or '-'; it need not be served.",
);
const PARALLEL: Field = may(
    "max_parallel",
    Kind::Int(1, STEPS_PARALLEL_COUNT as i64),
    "Steps that may be out at once; 1 by default. Further ones come in parallel_steps.",
);
const BLOCKERS: Field = may(
    "pause_on_blockers",
    Kind::Flag,
    "Pause the execution for a person when an output names blockers.",
);
const REQUESTED: Field = may(
    "requested_step_name",
    Kind::Text,
    "The step wanted next, where several are ready; must be a step of the workflow.",
);
const INTENT: Field =
    may("intent_tags", Kind::List, "Words for what is meant; steps with these tags come first.");
const PATHS: Field = may(
    "referenced_paths",
    Kind::List,
    "Paths the work is about, relative to the repository; steps for these paths come first.",
);
const RATIONALE: Field = may("rationale", Kind::Text, "Why that step; recorded.");

/// All tools, in the order in which they are listed.
pub static TOOLS: &[ToolDef] = &[
    ToolDef {
        name: "workflow_start",
        title: "Start a step workflow",
        about: "Starts a step workflow, in which you are led through one step after another, and \
                hands out its first step: an agent's persona to work as, what you may and may not \
                do, and a token. Do the step, then call workflow_next_step with the token and what \
                came out. Nothing runs by itself: the work is yours. Workflows: \
                midex://workflow/available_workflows.",
        fields: &[
            WORKFLOW,
            NEW_EXECUTION,
            may("hold", Kind::Flag, "Make it idle; workflow_control start begins it later."),
            PARALLEL,
            PROJECT,
            BLOCKERS,
            REQUESTED,
            INTENT,
            PATHS,
            RATIONALE,
            TEMPLATE,
            may("task_id", Kind::Id, "execution_id in the other set of names."),
        ],
        aliases: &["workflow.start"],
        effect: Effect::Records,
        family: Family::Steps,
        action: Action::Steer,
        answer: answer_schema,
    },
    ToolDef {
        name: "workflow_next_step",
        title: "Hand in a step, get the next",
        about: "Hands in the output of the step you have and hands out the next one, until the \
                workflow is completed. With token and output: submits. With token alone: shows \
                that step again, changing nothing, for when you lost it. With execution_id alone: \
                hands out another ready step, or says what is waited for. With workflow_name \
                alone: starts that workflow. A token is good for one submission; the same call \
                repeated gets the same answer. The arguments have two sets of names, token, output \
                … or step_token, model_output_so_far …; use one, the answer uses the same.",
        fields: &[
            may("token", Kind::Text, "The new_token that came with the step, unchanged."),
            may("output", Kind::Json(output_schema), "What came out of the step."),
            may("execution_id", Kind::Id, "The execution to get another ready step of."),
            WORKFLOW,
            REQUESTED,
            INTENT,
            PATHS,
            RATIONALE,
            PARALLEL,
            PROJECT,
            may("step_token", Kind::Text, "token in the other set of names."),
            may(
                "model_output_so_far",
                Kind::Json(same_output_schema),
                "output in the other set of names, of the same form.",
            ),
            TEMPLATE,
            may("task_id", Kind::Id, "execution_id in the other set of names."),
            may("request", Kind::Word(&["continue"]), "Always \"continue\"; may be left out."),
        ],
        aliases: &["workflow.next_step"],
        effect: Effect::Records,
        family: Family::Steps,
        action: Action::Steer,
        answer: answer_schema,
    },
    ToolDef {
        name: "workflow_control",
        title: "Control a step workflow",
        about: "Steers an execution as a whole. start begins a held one; pause and resume; approve \
                lets the step past that waits for a person, which is that person's to decide; \
                retry hands a step out again as a new attempt, and fails the execution \
                where none is left (a simple workflow has one); reissue gives a step a new token \
                and revokes the old one; abandon, diverge (needs a reason) and fail end it. A \
                wrong state is refused with the actions that would be taken.",
        fields: &[
            need(
                "action",
                Kind::Word(&ACTIONS),
                "start, pause, resume, approve, retry, reissue, abandon, diverge or fail.",
            ),
            may("execution_id", Kind::Id, "The execution."),
            may("reason", Kind::Text, "Why; shown to people. diverge needs one."),
            may(
                "expected_state",
                Kind::Word(&STATES),
                "Do it only if the execution is in this state.",
            ),
            may(
                "step_name",
                Kind::Text,
                "Which step, for retry, reissue and approve, where several are out.",
            ),
            may("task_id", Kind::Id, "execution_id in the other set of names."),
        ],
        aliases: &["workflow.control"],
        effect: Effect::Decides,
        family: Family::Steps,
        action: Action::Steer,
        answer: answer_schema,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::{ControlAction, ExecutionState};
    use serde_json::json;

    #[test]
    fn the_words_are_those_of_the_slice() {
        for word in ACTIONS {
            serde_json::from_value::<ControlAction>(json!(word)).unwrap();
        }
        for word in STATES {
            serde_json::from_value::<ExecutionState>(json!(word)).unwrap();
        }
    }

    #[test]
    fn the_aliases_are_the_seeds_dotted_names() {
        for def in TOOLS {
            assert_eq!(def.aliases, [def.name.replacen('_', ".", 1)]);
        }
    }
}
