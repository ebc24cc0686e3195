//! Tools about figures: what was written, how fast, and where it leads.

use super::{BOOKS_MAX, PLACE_MAX, RANGE, VALUE_MAX, WINDOW_WORDS, WORKFLOW, open_object};
use crate::auth::Action;
use crate::mcp::args::{Field, Kind, may, need};
use crate::mcp::schema;
use crate::mcp::tools::{Effect, Family, ToolDef};
use crate::writing::view::{
    DailyStats, DailyUpdated, MetricRecorded, PhaseAnalyticsList, WorkflowMetrics, WorkflowVelocity,
};

const CONTEXT: &[Field] = &[
    may("phase_number", Kind::Int(-1, 12), "The phase; 0 is a phase."),
    may("book_number", Kind::Int(1, BOOKS_MAX), "The book, from 1."),
    may("chapter_number", Kind::Int(1, PLACE_MAX), "The chapter, from 1."),
    may("metadata", Kind::Json(open_object), "Anything to keep with it."),
];

const AMOUNT: Kind = Kind::Real(-VALUE_MAX, VALUE_MAX);

const UPDATES: &[Field] = &[
    may("words_written", AMOUNT, "Words more."),
    may("chapters_completed", AMOUNT, "Chapters more."),
    may("scenes_written", AMOUNT, "Scenes more."),
    may("writing_time_minutes", AMOUNT, "Minutes more."),
    may("phases_completed", AMOUNT, "Phases more."),
];

/// The tools, in the order in which they are listed.
pub static TOOLS: &[ToolDef] = &[
    ToolDef {
        name: "record_production_metric",
        title: "Record a figure of a series",
        about: "Records a figure of a writing workflow, exact to the hundredth. Counters add up: \
                words_written, chapters_completed, scenes_written, scenes_validated, \
                writing_time_minutes, planning_time_minutes, revision_time_minutes, \
                agent_invocations. Gauges stand, the latest holds: npe_score, commercial_score, \
                cliffhanger_rating and act_break_rating (of a chapter), opening_hook_rating, \
                inter_book_satisfaction, inter_book_urgency, finale_closure, \
                setup_payoff_unresolved, emotional_beats_unvalidated, \
                continuity_critical_unresolved, continuity_moderate_unacknowledged, \
                knowledge_conflicts, timeline_conflicts, chapters_planned, \
                chapter_outlines_approved, scenes_planned, scenes_with_prose. A name of your own \
                counts as a counter. The QA checklist reads the gauges of a book.",
        fields: &[
            WORKFLOW,
            need("metric_type", Kind::Text, "What is recorded, such as words_written."),
            need("metric_value", AMOUNT, "How much."),
            may("context", Kind::Group(CONTEXT), "Where it belongs."),
            may(
                "idempotency_key",
                Kind::Text,
                "Any text. A call repeated with the same key is recorded once.",
            ),
            may(
                "correction",
                Kind::Flag,
                "True for a negative value that takes back what was recorded.",
            ),
            may(
                "recorded_at",
                Kind::Text,
                "When it happened, RFC 3339, not in the future; now by default.",
            ),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<MetricRecorded>,
    },
    ToolDef {
        name: "get_workflow_metrics",
        title: "Show a series' figures",
        about: "Sums and means of what was recorded for a book series: in all, by book, by \
                phase and by type. Null is undefined or not asked for.",
        fields: &[
            WORKFLOW,
            may("metric_types", Kind::List, "Only these types; all of them by default."),
            RANGE,
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<WorkflowMetrics>,
    },
    ToolDef {
        name: "get_workflow_velocity",
        title: "Show a series' pace",
        about: "How fast a series of books is written, how well the work goes, and when it would \
                be done at this pace. Null where there is nothing to make it of.",
        fields: &[
            WORKFLOW,
            may(
                "time_window",
                Kind::Word(&WINDOW_WORDS),
                "The last 24 hours, the last 7 days, or everything; all by default.",
            ),
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<WorkflowVelocity>,
    },
    ToolDef {
        name: "get_daily_writing_stats",
        title: "Show writing by day",
        about: "What was written on each day, newest first, of a book series, of an author, or of \
                an author in a series. At least one of the two ids is needed.",
        fields: &[
            may("workflow_id", Kind::Key, "The writing workflow."),
            may("author_id", Kind::Key, "The author, as create_workflow's user_id."),
            RANGE,
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<DailyStats>,
    },
    ToolDef {
        name: "get_phase_analytics",
        title: "Show how phases perform",
        about: "How the phases of book series went, over all writing workflows: executions, \
                successes, failures, mean duration and quality.",
        fields: &[may("phase_number", Kind::Int(-1, 12), "Only this phase; all by default.")],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<PhaseAnalyticsList>,
    },
    ToolDef {
        name: "update_daily_stats",
        title: "Add to a day of a series",
        about: "Adds to a day of a writing workflow by hand. It changes the daily figures alone; \
                record_production_metric records work, and adds to the day by itself.",
        fields: &[
            WORKFLOW,
            need("date", Kind::Text, "The day, YYYY-MM-DD."),
            need("updates", Kind::Group(UPDATES), "What is added; at least one figure."),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<DailyUpdated>,
    },
];
