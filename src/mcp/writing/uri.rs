//! Addresses of writing workflows, under `writing://`.
//!
//! `workflow://` is the spelling of the documents that this family comes from (`spec/writing.md`
//! §1a). Both schemes are one grammar, so each address answers under either.

use std::fmt;

const SCHEME: &str = "writing://";
const DOCUMENTED_SCHEME: &str = "workflow://";

/// Template of where a workflow stands.
pub const STATE_TEMPLATE: &str = "writing://{workflow_id}/state";
/// Template of the phases it has been through.
pub const PHASES_TEMPLATE: &str = "writing://{workflow_id}/phases";
/// Template of its approvals.
pub const APPROVALS_TEMPLATE: &str = "writing://{workflow_id}/approvals";
/// Template of its gates.
pub const GATES_TEMPLATE: &str = "writing://{workflow_id}/gates";
/// Template of its figures.
pub const METRICS_TEMPLATE: &str = "writing://{workflow_id}/metrics/{view}";
/// Template of what is known of a book.
pub const BOOK_TEMPLATE: &str = "writing://{workflow_id}/books/{book_number}";
/// Template of the revision of a book.
pub const REVISION_TEMPLATE: &str = "writing://{workflow_id}/books/{book_number}/revision";
/// Template of the newest QA report of a book.
pub const QA_TEMPLATE: &str = "writing://{workflow_id}/books/{book_number}/qa";
/// Template of what a phase is.
pub const PHASE_TEMPLATE: &str = "writing://phases/{phase_number}";
/// The address of the analytics of all workflows.
pub const ANALYTICS: &str = "writing://analytics";

/// The views of a workflow's figures, as addresses write them.
pub const METRIC_VIEWS: [&str; 5] = ["summary", "velocity", "daily", "by-book", "by-phase"];

/// Days of daily figures that one address may ask for.
const RANGE_MAX_DAYS: u32 = 3_660;

/// The address of something that can be read. What is printed parses to the same address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WritingUri {
    /// Something of one workflow.
    Of(i64, Part),
    /// What a phase is, or one side of it.
    Phase(i64, Option<Side>),
    /// How phases perform and how many workflows there are, over all of them.
    Analytics,
    /// How all phases perform, or one.
    Performance(Option<i64>),
    /// How many workflows there are, and what they came to.
    GlobalStats,
}

/// Something of one workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Where it stands.
    State,
    /// The phase it is in.
    CurrentPhase,
    /// How far the series is.
    Progress,
    /// The phases it has been through.
    Phases,
    /// Its approvals.
    Approvals(Decided),
    /// Its gates: all, or those of one type, as addresses write it.
    Gates(Option<&'static str>),
    /// Sums and means.
    Summary,
    /// Pace and projections.
    Velocity,
    /// Days; all of them, or so many of the last.
    Daily(Option<u32>),
    /// Sums by book.
    ByBook,
    /// Sums by phase.
    ByPhase,
    /// What is known of a book.
    Book(i64),
    /// The revision of a book.
    Revision(i64),
    /// The newest QA report of a book.
    Qa(i64),
}

/// Which approvals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decided {
    /// All of them.
    Any,
    /// Those that wait for a decision.
    Open,
    /// Those that were decided.
    Done,
}

/// One side of what a phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What happens in it.
    Description,
    /// What must hold to complete it.
    Requirements,
    /// What it leaves.
    Outputs,
}

/// Gate types as addresses write them, and as the tools do.
pub const GATES: [(&str, &str); 3] =
    [("npe-series", "npe_series"), ("npe-scene", "npe_scene"), ("commercial", "commercial")];

impl WritingUri {
    /// Reads an address of either scheme; ids are digits and need no escapes.
    #[must_use]
    pub fn parse(text: &str) -> Option<WritingUri> {
        let rest = text.strip_prefix(SCHEME).or_else(|| text.strip_prefix(DOCUMENTED_SCHEME))?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut parts = path.split('/');
        let (head, tail) = (parts.next()?, parts.collect::<Vec<_>>());
        if let Some(query) = query {
            return match (id(head), tail.as_slice()) {
                (Some(id), ["metrics", "daily" | "daily-stats"]) => {
                    Some(WritingUri::Of(id, Part::Daily(Some(range(query)?))))
                }
                _ => None,
            };
        }
        match (head, tail.as_slice()) {
            ("analytics", []) => Some(WritingUri::Analytics),
            ("analytics", ["phase-performance"]) => Some(WritingUri::Performance(None)),
            ("analytics", ["phase-performance", n]) => {
                Some(WritingUri::Performance(Some(phase(n)?)))
            }
            ("analytics", ["global-stats"]) => Some(WritingUri::GlobalStats),
            ("phases", [n]) => Some(WritingUri::Phase(phase(n)?, None)),
            ("phases", [n, side]) => Some(WritingUri::Phase(phase(n)?, Some(Side::parse(side)?))),
            (head, tail) => Some(WritingUri::Of(id(head)?, Part::parse(tail)?)),
        }
    }

    /// Whether a change of this workflow may change what is read here.
    #[must_use]
    pub fn shows(&self, changed: &str) -> bool {
        match self {
            WritingUri::Of(id, _) => id.to_string() == changed,
            WritingUri::Phase(..) => false,
            WritingUri::Analytics | WritingUri::Performance(_) | WritingUri::GlobalStats => true,
        }
    }
}

impl Part {
    fn parse(path: &[&str]) -> Option<Part> {
        Some(match path {
            ["state"] => Part::State,
            ["current-phase"] => Part::CurrentPhase,
            ["series-progress"] => Part::Progress,
            ["phases"] => Part::Phases,
            ["approvals"] => Part::Approvals(Decided::Any),
            ["approvals", "pending"] => Part::Approvals(Decided::Open),
            ["approvals", "history"] => Part::Approvals(Decided::Done),
            ["gates"] => Part::Gates(None),
            ["gates", name] => {
                Part::Gates(Some(GATES.iter().map(|(word, _)| *word).find(|word| word == name)?))
            }
            ["metrics", "summary"] => Part::Summary,
            ["metrics", "velocity"] => Part::Velocity,
            ["metrics", "daily" | "daily-stats"] => Part::Daily(None),
            ["metrics", "by-book"] => Part::ByBook,
            ["metrics", "by-phase"] => Part::ByPhase,
            ["books", n] => Part::Book(id(n)?),
            ["books", n, "revision"] => Part::Revision(id(n)?),
            ["books", n, "qa"] => Part::Qa(id(n)?),
            _ => return None,
        })
    }
}

impl Side {
    const ALL: [(&'static str, Side); 3] = [
        ("description", Side::Description),
        ("requirements", Side::Requirements),
        ("outputs", Side::Outputs),
    ];

    fn parse(text: &str) -> Option<Side> {
        Side::ALL.iter().find(|(word, _)| *word == text).map(|(_, side)| *side)
    }

    fn as_str(self) -> &'static str {
        Side::ALL.iter().find(|(_, side)| *side == self).map_or("", |(word, _)| word)
    }
}

/// A number from 1, in the one way to write it: two spellings would be two addresses.
fn id(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

fn phase(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok().filter(|n| (-1..=12).contains(n))?;
    (number.to_string() == text).then_some(number)
}

fn range(query: &str) -> Option<u32> {
    let days: u32 = id(query.strip_prefix("range=")?)?.try_into().ok()?;
    (days <= RANGE_MAX_DAYS).then_some(days)
}

impl fmt::Display for WritingUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        match self {
            WritingUri::Of(id, part) => write!(f, "{id}/{part}"),
            WritingUri::Phase(n, None) => write!(f, "phases/{n}"),
            WritingUri::Phase(n, Some(side)) => write!(f, "phases/{n}/{}", side.as_str()),
            WritingUri::Analytics => f.write_str("analytics"),
            WritingUri::Performance(None) => f.write_str("analytics/phase-performance"),
            WritingUri::Performance(Some(n)) => write!(f, "analytics/phase-performance/{n}"),
            WritingUri::GlobalStats => f.write_str("analytics/global-stats"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::State => f.write_str("state"),
            Part::CurrentPhase => f.write_str("current-phase"),
            Part::Progress => f.write_str("series-progress"),
            Part::Phases => f.write_str("phases"),
            Part::Approvals(Decided::Any) => f.write_str("approvals"),
            Part::Approvals(Decided::Open) => f.write_str("approvals/pending"),
            Part::Approvals(Decided::Done) => f.write_str("approvals/history"),
            Part::Gates(None) => f.write_str("gates"),
            Part::Gates(Some(word)) => write!(f, "gates/{word}"),
            Part::Summary => f.write_str("metrics/summary"),
            Part::Velocity => f.write_str("metrics/velocity"),
            Part::Daily(None) => f.write_str("metrics/daily"),
            Part::Daily(Some(days)) => write!(f, "metrics/daily?range={days}"),
            Part::ByBook => f.write_str("metrics/by-book"),
            Part::ByPhase => f.write_str("metrics/by-phase"),
            Part::Book(n) => write!(f, "books/{n}"),
            Part::Revision(n) => write!(f, "books/{n}/revision"),
            Part::Qa(n) => write!(f, "books/{n}/qa"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_documented_spelling_is_an_address_and_has_one_of_ours() {
        for (documented, ours) in [
            ("workflow://7/state", "writing://7/state"),
            ("workflow://7/current-phase", "writing://7/current-phase"),
            ("workflow://7/series-progress", "writing://7/series-progress"),
            ("workflow://7/approvals/pending", "writing://7/approvals/pending"),
            ("workflow://7/approvals/history", "writing://7/approvals/history"),
            ("workflow://7/gates/npe-series", "writing://7/gates/npe-series"),
            ("workflow://7/gates/npe-scene", "writing://7/gates/npe-scene"),
            ("workflow://7/gates/commercial", "writing://7/gates/commercial"),
            ("workflow://7/metrics/summary", "writing://7/metrics/summary"),
            ("workflow://7/metrics/velocity", "writing://7/metrics/velocity"),
            ("workflow://7/metrics/daily-stats", "writing://7/metrics/daily"),
            ("workflow://7/metrics/daily-stats?range=30", "writing://7/metrics/daily?range=30"),
            ("workflow://7/metrics/by-book", "writing://7/metrics/by-book"),
            ("workflow://7/metrics/by-phase", "writing://7/metrics/by-phase"),
            ("workflow://phases/4/description", "writing://phases/4/description"),
            ("workflow://phases/-1/requirements", "writing://phases/-1/requirements"),
            ("workflow://phases/12/outputs", "writing://phases/12/outputs"),
            ("workflow://analytics/phase-performance", "writing://analytics/phase-performance"),
            ("workflow://analytics/phase-performance/0", "writing://analytics/phase-performance/0"),
            ("workflow://analytics/global-stats", "writing://analytics/global-stats"),
        ] {
            let address = WritingUri::parse(documented).unwrap_or_else(|| panic!("{documented}"));
            assert_eq!(address.to_string(), ours);
            assert_eq!(WritingUri::parse(ours), Some(address));
        }
    }

    #[test]
    fn only_our_addresses_are_addresses() {
        for bad in [
            "",
            "writing://",
            "writing://7",
            "writing://7/",
            "writing://07/state",
            "writing://0/state",
            "writing://-7/state",
            "writing://x/state",
            "writing://7/state/",
            "writing://7/state?x",
            "writing://7/state?range=3",
            "writing://7/gates/npe_series",
            "writing://7/metrics",
            "writing://7/metrics/daily?range=0",
            "writing://7/metrics/daily?range=99999",
            "writing://7/books/0/qa",
            "writing://7/books",
            "writing://99999999999999999999/state",
            "writing://phases/13",
            "writing://phases/-2",
            "writing://phases/+1",
            "writing://phases",
            "writing://phases/1/x",
            "writing://analytics/x",
            "WRITING://analytics",
            "adw://runs",
        ] {
            assert_eq!(WritingUri::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_change_is_shown_where_the_workflow_is() {
        let shows = |uri: &str| WritingUri::parse(uri).is_some_and(|address| address.shows("7"));
        assert!(shows("writing://7/state") && shows("workflow://7/metrics/by-book"));
        assert!(shows("writing://analytics") && shows("workflow://analytics/global-stats"));
        assert!(!shows("writing://77/state") && !shows("writing://phases/7"));
    }

    fn any_part() -> impl Strategy<Value = Part> {
        let decided = prop_oneof![Just(Decided::Any), Just(Decided::Open), Just(Decided::Done)];
        let gate =
            proptest::option::of(proptest::sample::select(GATES.map(|(word, _)| word).to_vec()));
        prop_oneof![
            proptest::sample::select(vec![
                Part::State,
                Part::CurrentPhase,
                Part::Progress,
                Part::Phases,
                Part::Summary,
                Part::Velocity,
                Part::ByBook,
                Part::ByPhase,
            ]),
            decided.prop_map(Part::Approvals),
            gate.prop_map(Part::Gates),
            proptest::option::of(1..=RANGE_MAX_DAYS).prop_map(Part::Daily),
            (1_i64..1_000).prop_map(Part::Book),
            (1_i64..1_000).prop_map(Part::Revision),
            (1_i64..1_000).prop_map(Part::Qa),
        ]
    }

    fn any_uri() -> impl Strategy<Value = WritingUri> {
        let sides = Side::ALL.map(|(_, side)| side).to_vec();
        prop_oneof![
            (1_i64.., any_part()).prop_map(|(id, part)| WritingUri::Of(id, part)),
            (-1_i64..=12, proptest::option::of(proptest::sample::select(sides)))
                .prop_map(|(n, side)| WritingUri::Phase(n, side)),
            proptest::option::of(-1_i64..=12).prop_map(WritingUri::Performance),
            Just(WritingUri::Analytics),
            Just(WritingUri::GlobalStats),
        ]
    }

    proptest! {
        #[test]
        fn print_then_parse_is_identity(uri in any_uri()) {
            prop_assert_eq!(WritingUri::parse(&uri.to_string()), Some(uri));
        }

        #[test]
        fn nothing_makes_parsing_panic(text in "(writing|workflow)://.{0,40}") {
            if let Some(uri) = WritingUri::parse(&text) {
                prop_assert_eq!(WritingUri::parse(&uri.to_string()), Some(uri));
            }
        }
    }
}
