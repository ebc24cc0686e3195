//! Tools that carry a series through its phases.

use super::{
    APPROVAL_WORDS, BOOK, BOOKS_MAX, DECISION_WORDS, GATE_WORDS, PLACE_MAX, WORKFLOW, open_object,
};
use crate::auth::Action;
use crate::limits::{WRITING_HISTORY_MAX_COUNT, WRITING_PAGE_MAX_COUNT};
use crate::mcp::args::{Field, Kind, may, need};
use crate::mcp::schema;
use crate::mcp::tools::{Effect, Family, ToolDef};
use crate::writing::view::{
    ApprovalDecided, ApprovalList, ApprovalRequested, BookCompleted, BookStarted, GateRecorded,
    GateStatus, PhaseCompleted, PhaseExecuted, PhaseHistory, PhaseMoved, SeriesProgress,
    WorkflowCreated, WorkflowList, WorkflowState,
};

const PHASE: Field = need("phase_number", Kind::Int(-1, 12), "The phase, -1 to 12.");

const OUTPUT: &[Field] = &[
    need("summary", Kind::Prose, "What was done."),
    may("artifacts", Kind::List, "Names of what was made."),
    may("metadata", Kind::Json(open_object), "Anything else to keep."),
];

const VIOLATION: &[Field] = &[
    need("message", Kind::Prose, "What is wrong."),
    may("category", Kind::Text, "What it is about."),
    may("severity", Kind::Text, "How bad it is, such as CRITICAL, HIGH, MODERATE or LOW."),
    may("suggestion", Kind::Prose, "What would be right."),
];

/// The tools, in the order in which they are listed.
pub static TOOLS: &[ToolDef] = &[
    ToolDef {
        name: "create_workflow",
        title: "Begin a book series",
        about: "Makes a writing workflow: one series of books on its way through the phases -1 \
                (not started) to 12 (book production loop). For turning an issue into a pull \
                request use trigger_adw_workflow instead. Series and author need not be known \
                before. Every call makes a new workflow.",
        fields: &[
            need("series_id", Kind::Key, "Your id of the series."),
            need("user_id", Kind::Key, "Your id of the author."),
            need("concept", Kind::Prose, "What the series is about."),
            may("series_title", Kind::Text, "Title of the series."),
            may("total_books", Kind::Int(1, BOOKS_MAX), "Books of the series; 5 by default."),
            may(
                "time_zone",
                Kind::Text,
                "Zone in which its days are counted, such as \"Europe/Berlin\"; the daemon's \
                 setting by default.",
            ),
            may("metadata", Kind::Json(open_object), "Anything to keep with it."),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<WorkflowCreated>,
    },
    ToolDef {
        name: "list_active_workflows",
        title: "List book series in work",
        about: "Writing workflows that are neither finished nor failed, newest first. Pass \
                next_before_id as before_id for the next page. Runs of issues are in \
                list_adw_workflows.",
        fields: &[
            may("user_id", Kind::Key, "Only of this author."),
            may(
                "limit",
                Kind::Int(1, WRITING_PAGE_MAX_COUNT),
                "Workflows on a page; 50 by default.",
            ),
            may("before_id", Kind::Key, "next_before_id of the page before."),
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<WorkflowList>,
    },
    ToolDef {
        name: "get_workflow_state",
        title: "Show a book series",
        about: "Where a writing workflow stands: phase, status, book, chapter, and in `unmet` \
                what is missing to complete the present phase.",
        fields: &[WORKFLOW],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<WorkflowState>,
    },
    ToolDef {
        name: "advance_to_phase",
        title: "Move a series to a phase",
        about: "Moves a writing workflow to a phase: back at any time, forward to the next one \
                only, and only when the present phase can be completed. The refusal lists what \
                is missing. complete_current_phase is the ordinary way forward.",
        fields: &[WORKFLOW, need("target_phase", Kind::Int(0, 12), "The phase to be in, 0 to 12.")],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<PhaseMoved>,
    },
    ToolDef {
        name: "complete_current_phase",
        title: "Complete a series' phase",
        about: "Completes the present phase of a writing workflow and goes on to the next. \
                Phases 4, 5 and 10 need a gate that passed in this phase, 7 an approved \
                series_plan, 12 every book approved; then the series is completed.",
        fields: &[WORKFLOW, need("output", Kind::Group(OUTPUT), "What the phase left.")],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<PhaseCompleted>,
    },
    ToolDef {
        name: "execute_phase",
        title: "Work on a series' phase",
        about: "Enters a phase of a writing workflow, under the rules of advance_to_phase, and \
                keeps the input that the work begins with. It never completes a phase: \
                complete_current_phase does.",
        fields: &[
            WORKFLOW,
            PHASE,
            need("input", Kind::Json(open_object), "What the phase is given."),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<PhaseExecuted>,
    },
    ToolDef {
        name: "retry_failed_phase",
        title: "Retry a series' failed phase",
        about: "Takes a writing workflow whose status is failed back into work in the phase that \
                failed.",
        fields: &[WORKFLOW, PHASE],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<PhaseMoved>,
    },
    ToolDef {
        name: "skip_phase",
        title: "Skip a series' phase",
        about: "Leaves the present phase of a writing workflow without completing it, with a \
                reason. Phases with a gate or an approval cannot be skipped.",
        fields: &[WORKFLOW, PHASE, need("reason", Kind::Prose, "Why it is left out.")],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<PhaseMoved>,
    },
    ToolDef {
        name: "get_phase_history",
        title: "Show a series' phases",
        about: "The visits of phases of a writing workflow, oldest first, with how each ended \
                and how long it took.",
        fields: &[
            WORKFLOW,
            may("phase_number", Kind::Int(-1, 12), "Only of this phase."),
            may(
                "limit",
                Kind::Int(1, WRITING_HISTORY_MAX_COUNT),
                "At most so many, the newest; 100 by default.",
            ),
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<PhaseHistory>,
    },
    ToolDef {
        name: "record_quality_gate",
        title: "Record a gate of a series",
        about: "Records a measured check of a writing workflow: npe_series (0 to 100, passes from \
                80, phase 4), commercial (0 to 10, passes from 7, phase 5), npe_scene (0 to 100, \
                passes as reported, phase 10). A `passed` that contradicts the score is refused. \
                next_action is proceed or return_to_phase_N.",
        fields: &[
            WORKFLOW,
            need("gate_type", Kind::Word(&GATE_WORDS), "Which gate."),
            need("score", Kind::Real(0, 100), "Its score; commercial at most 10."),
            need("passed", Kind::Flag, "Whether it passed."),
            need("violations", Kind::Groups(VIOLATION), "What it found; [] for nothing."),
            may("book_number", Kind::Int(1, BOOKS_MAX), "The scene's book."),
            may("chapter_number", Kind::Int(1, PLACE_MAX), "The scene's chapter."),
            may("scene_number", Kind::Int(1, PLACE_MAX), "The scene."),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<GateRecorded>,
    },
    ToolDef {
        name: "check_gate_status",
        title: "Check a gate of a series",
        about: "Whether a phase of a writing workflow has a gate, and how the phase's newest \
                visit did at it.",
        fields: &[WORKFLOW, PHASE],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<GateStatus>,
    },
    ToolDef {
        name: "request_approval",
        title: "Ask for a decision on a series",
        about: "Asks the author of a writing workflow for a decision; the workflow waits for it. \
                One decision of a kind can be open at a time. chapter_plan is for book 1 only.",
        fields: &[
            WORKFLOW,
            need("approval_type", Kind::Word(&APPROVAL_WORDS), "On what."),
            need("artifacts", Kind::List, "What is to be looked at."),
            may(
                "book_number",
                Kind::Int(1, BOOKS_MAX),
                "The book; the present one by default. Not for series_plan.",
            ),
            may("chapter_number", Kind::Int(1, PLACE_MAX), "The chapter, for chapter_plan."),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<ApprovalRequested>,
    },
    ToolDef {
        name: "submit_approval",
        title: "Decide on a series",
        about: "Writes down what the author decided. A decision is made once: rejected ends a \
                series plan's workflow as failed, revision_requested sends it back to work. Ask \
                the author; do not decide for them.",
        fields: &[
            need(
                "approval_id",
                Kind::Key,
                "Id of the approval, as get_pending_approvals shows it.",
            ),
            need("decision", Kind::Word(&DECISION_WORDS), "What was decided."),
            may("feedback", Kind::Prose, "Why."),
            may("decided_by", Kind::Text, "Who decided."),
        ],
        aliases: &[],
        effect: Effect::Decides,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<ApprovalDecided>,
    },
    ToolDef {
        name: "get_pending_approvals",
        title: "List open decisions of a series",
        about: "The decisions that a writing workflow waits for, oldest first.",
        fields: &[WORKFLOW],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<ApprovalList>,
    },
    ToolDef {
        name: "start_book_iteration",
        title: "Begin the next book",
        about: "Begins book 2 or a later one of a writing workflow at phase 9, once the book \
                before it is approved.",
        fields: &[
            WORKFLOW,
            need("book_number", Kind::Int(2, BOOKS_MAX), "The book to begin, from 2."),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<BookStarted>,
    },
    ToolDef {
        name: "complete_book_iteration",
        title: "Hand in a book",
        about: "Says that the present book of a writing workflow is written (from phase 11 on) \
                and asks for the author's book_completion approval.",
        fields: &[WORKFLOW, BOOK],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<BookCompleted>,
    },
    ToolDef {
        name: "get_series_progress",
        title: "Show a series' progress",
        about: "How far a series of books is: books approved of all, and per cent.",
        fields: &[WORKFLOW],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<SeriesProgress>,
    },
];
