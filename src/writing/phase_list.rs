//! The fourteen phases, as data (`spec/writing.md` §1d).

use super::phase::{ApprovalType, GateType, Phase};

const fn phase(
    number: i64,
    name: &'static str,
    description: &'static str,
    requirements: &'static [&'static str],
    outputs: &'static [&'static str],
) -> Phase {
    Phase { number, name, gate: None, approval: None, description, requirements, outputs }
}

/// All phases, in order.
pub const PHASES: [Phase; 14] = [
    phase(
        -1,
        "Not Started",
        "The workflow exists; no phase has begun.",
        &["nothing: complete it to begin"],
        &["a workflow with its series, author and concept"],
    ),
    phase(
        0,
        "Premise Development",
        "The concept becomes a premise that carries a series.",
        &["the concept"],
        &["premise"],
    ),
    phase(
        1,
        "Genre Pack Management",
        "The genre's conventions are chosen or written down.",
        &["the premise"],
        &["genre pack"],
    ),
    phase(
        2,
        "Market Research",
        "Readers, competing titles and tropes are looked into.",
        &["the genre pack"],
        &["market report"],
    ),
    phase(
        3,
        "Series Architect",
        "The arcs of the series and of each book are laid out.",
        &["premise, genre pack and market report"],
        &["series plan", "book outlines"],
    ),
    Phase {
        gate: Some(GateType::NpeSeries),
        ..phase(
            4,
            "NPE Validation",
            "The series plan is measured for narrative soundness.",
            &["an npe_series gate of 80 or more, recorded in this phase"],
            &["NPE report"],
        )
    },
    Phase {
        gate: Some(GateType::Commercial),
        ..phase(
            5,
            "Commercial Validation",
            "The series plan is measured for its market.",
            &["a commercial gate of 7 or more, recorded in this phase"],
            &["commercial report"],
        )
    },
    phase(
        6,
        "Writing Team Review",
        "The plan is reviewed by the writing team.",
        &["both reports"],
        &["reviewed series plan"],
    ),
    Phase {
        approval: Some(ApprovalType::SeriesPlan),
        ..phase(
            7,
            "User Approval",
            "The author decides on the plan.",
            &["an approved series_plan"],
            &["the decision"],
        )
    },
    phase(
        8,
        "MCP Commit",
        "The approved plan is stored.",
        &["the approval"],
        &["stored series, books, characters and world"],
    ),
    phase(
        9,
        "Chapter Planning",
        "The chapters of the current book are outlined.",
        &["the stored plan; of book 1 each chapter's plan can be approved"],
        &["chapter outlines"],
    ),
    Phase {
        gate: Some(GateType::NpeScene),
        ..phase(
            10,
            "Scene Validation",
            "Each scene of the outlines is measured.",
            &["npe_scene gates recorded in this phase, the latest of each scene passed"],
            &["validated scenes"],
        )
    },
    phase(
        11,
        "Writing Execution",
        "The prose of the current book is written and revised.",
        &["validated scenes"],
        &["prose", "revision passes", "QA report"],
    ),
    Phase {
        approval: Some(ApprovalType::BookCompletion),
        ..phase(
            12,
            "Book Production Loop",
            "The book is approved; the next one begins at phase 9, or the series is finished.",
            &["to finish the series: an approved book_completion of every book"],
            &["finished books"],
        )
    },
];
