//! Tools about one book: revision passes, the QA checklist, its record.

use super::{BOOK, COVER_WORDS, PASS, WORKFLOW};
use crate::auth::Action;
use crate::limits::WRITING_REPORTS_MAX_COUNT;
use crate::mcp::args::{Kind, may, need};
use crate::mcp::schema;
use crate::mcp::tools::{Effect, Family, ToolDef};
use crate::writing::view::{
    BookRecord, MarkedReady, PassCompleted, PassSkipped, PassStarted, QaReport, QaReports,
    RevisionStatus,
};

/// Words that a book may be meant to have.
const TARGET_MAX: i64 = 10_000_000;

/// The tools, in the order in which they are listed.
pub static TOOLS: &[ToolDef] = &[
    ToolDef {
        name: "start_revision_pass",
        title: "Begin a revision pass of a book",
        about: "Begins one of the six revision passes of a book of a writing workflow, or begins \
                it once more; what the earlier run found is kept.",
        fields: &[
            WORKFLOW,
            BOOK,
            PASS,
            need("pass_name", Kind::Text, "Name of the pass; it must belong to the number."),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<PassStarted>,
    },
    ToolDef {
        name: "complete_revision_pass",
        title: "Complete a revision pass of a book",
        about: "Completes a revision pass that is in progress, and records the minutes it took.",
        fields: &[
            WORKFLOW,
            BOOK,
            PASS,
            may("findings_summary", Kind::Prose, "What was found."),
            may("edits_made", Kind::Flag, "Whether the text was changed."),
            may("user_approved", Kind::Flag, "Whether the author agreed."),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<PassCompleted>,
    },
    ToolDef {
        name: "skip_revision_pass",
        title: "Skip a revision pass of a book",
        about: "Leaves out one of the passes 1 to 5 of a book. QA warns of it.",
        fields: &[
            WORKFLOW,
            BOOK,
            need("pass_number", Kind::Int(1, 5), "The pass, 1 to 5; pass 6 is the QA report."),
            need("reason", Kind::Prose, "Why it is left out."),
        ],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<PassSkipped>,
    },
    ToolDef {
        name: "get_revision_status",
        title: "Show the revision of a book",
        about: "All six revision passes of a book, and whether passes 1 to 5 are done, so that \
                QA may follow.",
        fields: &[WORKFLOW, BOOK],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<RevisionStatus>,
    },
    ToolDef {
        name: "update_book_record",
        title: "Describe a book",
        about: "Sets what is known of a book of a writing workflow: title, blurb, keywords, \
                categories, cover, target. What is left out stays; at least one is needed. The \
                QA checklist reads it, and writing://{workflow_id}/books/{book_number} shows it.",
        fields: &[
            WORKFLOW,
            BOOK,
            may("title", Kind::Text, "Its title."),
            may("blurb", Kind::Prose, "Its blurb; QA asks for 150 to 300 words."),
            may("keywords", Kind::List, "Its keywords; QA asks for 7."),
            may("categories", Kind::List, "Its categories; QA asks for 2."),
            may("cover_status", Kind::Word(&COVER_WORDS), "Where its cover stands."),
            may("ku", Kind::Flag, "Whether it goes to Kindle Unlimited; true by default."),
            may("target_word_count", Kind::Int(1, TARGET_MAX), "Words it shall have."),
        ],
        aliases: &[],
        effect: Effect::Adds,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<BookRecord>,
    },
    ToolDef {
        name: "run_qa_checklist",
        title: "Check whether a book can be published",
        about: "Checks a book of a writing workflow in five categories (npe, continuity, ku, \
                production, metadata) against what was recorded, and stores the report. What \
                nothing was recorded about is a blocker. Each blocker says what to do and how \
                many hours it may take.",
        fields: &[WORKFLOW, BOOK],
        aliases: &[],
        effect: Effect::Records,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<QaReport>,
    },
    ToolDef {
        name: "get_qa_report",
        title: "Read a book's QA reports",
        about: "Stored QA reports of a book, newest first, and whether the newest one still \
                speaks of the book as it is.",
        fields: &[
            WORKFLOW,
            BOOK,
            may("limit", Kind::Int(1, WRITING_REPORTS_MAX_COUNT), "At most so many; 1 by default."),
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Writing,
        action: Action::Read,
        answer: schema::answer::<QaReports>,
    },
    ToolDef {
        name: "mark_ready_to_publish",
        title: "Mark a book as ready",
        about: "Marks a book as ready to publish. Needs a QA report that says READY_TO_PUBLISH \
                and is newer than the last change of the book. Twice is as good as once.",
        fields: &[WORKFLOW, BOOK],
        aliases: &[],
        effect: Effect::Adds,
        family: Family::Writing,
        action: Action::Steer,
        answer: schema::answer::<MarkedReady>,
    },
];
