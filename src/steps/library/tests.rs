//! What a sync decides, what of a folder is read, and that what ships is in order.

use std::fs;

use proptest::prelude::*;

use super::plan::{File, Plan, Scan, plan};
use super::*;
use crate::steps::content_sql::Problems;
use crate::steps::front_matter;
use crate::steps::guardrails;

const AGENT: &str = "---\nname: worker\ndescription: works\n---\npersona\n";

fn workflow(name: &str, agent: &str) -> String {
    format!(
        "---\nname: {name}\ndescription: d\nphases:\n  - phase: one\n    agent: {agent}\n---\nb\n"
    )
}

fn files(folder: &str, files: &[(Kind, &str, &str)]) -> Scan {
    let file = |(kind, path, text): &(Kind, &str, &str)| File {
        kind: *kind,
        path: (*path).to_owned(),
        parsed: front_matter::parse(*kind, path, text.as_bytes()),
    };
    Scan {
        folder: folder.to_owned(),
        files: files.iter().map(file).collect(),
        problems: vec![],
        complete: true,
    }
}

fn counts(plan: &Plan) -> (usize, usize, usize, usize) {
    let r = &plan.report;
    (r.added, r.updated, r.unchanged, r.removed)
}

fn row<'p>(plan: &'p Plan, name: &str) -> &'p ContentRow {
    plan.rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn messages(plan: &Plan) -> Vec<&str> {
    plan.problems.iter().map(|(_, p)| p.message.as_str()).collect()
}

#[test]
fn what_is_new_changed_the_same_and_gone_is_counted_and_only_changes_are_written() {
    let (a, b) = (workflow("a", "worker"), workflow("b", "worker"));
    let before = [
        (Kind::Agent, "agents/worker.md", AGENT),
        (Kind::Workflow, "workflows/a.md", &a),
        (Kind::Workflow, "workflows/b.md", &b),
    ];
    let first = plan(vec![files("/c", &before)], &[]);
    assert_eq!(counts(&first), (3, 0, 0, 0));
    let same = plan(vec![files("/c", &before)], &first.rows);
    assert_eq!((counts(&same), same.writes.len()), ((0, 0, 3, 0), 0));
    let changed = a.replace("description: d", "description: e");
    let c = workflow("c", "worker");
    let after = [
        (Kind::Agent, "agents/worker.md", AGENT),
        (Kind::Workflow, "workflows/a.md", changed.as_str()),
        (Kind::Workflow, "workflows/c.md", &c),
    ];
    let second = plan(vec![files("/c", &after)], &first.rows);
    assert_eq!(counts(&second), (1, 1, 1, 1));
    assert_eq!(second.deletes, [(Kind::Workflow, "b".to_owned())]);
    assert_eq!(second.writes.len(), 2);
}

#[test]
fn content_that_only_moved_is_unchanged_and_its_place_is_stored() {
    let first = plan(vec![files("/old", &[(Kind::Agent, "agents/worker.md", AGENT)])], &[]);
    let moved = plan(vec![files("/new", &[(Kind::Agent, "agents/x.md", AGENT)])], &first.rows);
    assert_eq!(counts(&moved), (0, 0, 1, 0));
    assert_eq!(
        (moved.writes[0].folder.as_str(), moved.writes[0].path.as_str()),
        ("/new", "agents/x.md")
    );
}

#[test]
fn a_file_that_is_no_longer_in_order_keeps_its_last_good_version_under_its_name() {
    let good = workflow("flow", "worker");
    let agent = (Kind::Agent, "agents/worker.md", AGENT);
    let at =
        |text| plan(vec![files("/c", &[agent, (Kind::Workflow, "workflows/f.md", text)])], &[]);
    let first = at(&good);
    for broken in [
        "",
        "---\nname: flow\n---\n",
        "---\nname: other\nphases: 3\n---\n",
        "---\nname: flow\ncomplexity: odd\n---",
    ] {
        let scan = files("/c", &[agent, (Kind::Workflow, "workflows/f.md", broken)]);
        let second = plan(vec![scan], &first.rows);
        let kept = row(&second, "flow");
        assert!(!kept.valid && !kept.problems.0.is_empty(), "{broken:?}");
        assert_eq!(kept.workflow(), row(&first, "flow").workflow(), "{broken:?}");
        assert_eq!(counts(&second), (0, 1, 1, 0), "{broken:?}");
        let mended = plan(
            vec![files("/c", &[agent, (Kind::Workflow, "workflows/f.md", &good)])],
            &second.rows,
        );
        assert_eq!(row(&mended, "flow"), row(&first, "flow"));
    }
    let never = at("---\nname: flow\n---\n");
    assert_eq!((row(&never, "flow").workflow(), row(&never, "flow").valid), (None, false));
}

#[test]
fn the_later_folder_wins_by_name_and_a_broken_one_leaves_the_earlier_in_force() {
    let agent = (Kind::Agent, "agents/worker.md", AGENT);
    let theirs = workflow("flow", "worker");
    let ours = theirs.replace("description: d", "description: ours");
    let base = files("/base", &[agent, (Kind::Workflow, "workflows/flow.md", &theirs)]);
    let user = |text| files("/user", &[(Kind::Workflow, "workflows/flow.md", text)]);
    let both = plan(vec![base.clone(), user(&ours)], &[]);
    assert_eq!(both.rows.len(), 2);
    assert_eq!(row(&both, "flow").workflow().unwrap().description, "ours");
    let broken = plan(vec![base.clone(), user("---\nname: flow\n---\n")], &[]);
    let kept = row(&broken, "flow");
    assert_eq!((kept.valid, kept.workflow().unwrap().description.as_str()), (false, "d"));
    assert_eq!(kept.folder, "/user", "the problems are those of the user's file");
    let later = plan(vec![base.clone(), user("---\nname: flow\n---\n")], &both.rows);
    assert_eq!(
        row(&later, "flow").workflow().unwrap().description,
        "ours",
        "its own last good one"
    );
    let gone = plan(vec![base], &both.rows);
    assert_eq!(row(&gone, "flow").workflow().unwrap().description, "d");
}

#[test]
fn of_two_files_of_one_name_the_one_called_so_is_used_and_both_are_told() {
    let copy = AGENT.replace("works", "copy");
    let scan = files(
        "/c",
        &[(Kind::Agent, "agents/worker copy.md", &copy), (Kind::Agent, "agents/worker.md", AGENT)],
    );
    let both = plan(vec![scan], &[]);
    assert_eq!(row(&both, "worker").agent().unwrap().description, "works");
    let told: Vec<(&str, bool)> =
        both.problems.iter().map(|(_, p)| (p.path.as_str(), p.fatal)).collect();
    assert!(told.contains(&("agents/worker copy.md", true)), "{:?}", both.problems);
    assert!(told.contains(&("agents/worker.md", false)), "{:?}", both.problems);
    assert!(row(&both, "worker").valid);
}

#[test]
fn a_workflow_whose_agent_is_not_there_is_not_in_order_until_it_is() {
    let flow = workflow("flow", "worker");
    let alone = plan(vec![files("/c", &[(Kind::Workflow, "workflows/flow.md", &flow)])], &[]);
    let listed = row(&alone, "flow");
    assert!(!listed.valid);
    assert_eq!(listed.problems.0[0].line, Some(5));
    assert!(messages(&alone)[0].contains("no agent is named \"worker\""), "{:?}", alone.problems);
    // The agent may come from any folder, also a later one.
    let base = files("/base", &[(Kind::Workflow, "workflows/flow.md", &flow)]);
    let user = files("/user", &[(Kind::Agent, "agents/worker.md", AGENT)]);
    let whole = plan(vec![base.clone(), user], &alone.rows);
    assert!(row(&whole, "flow").valid);
    let gone = plan(vec![base], &whole.rows);
    assert!(!row(&gone, "flow").valid && row(&gone, "flow").workflow().is_some());
}

#[test]
fn what_cannot_be_read_is_not_taken_for_gone() {
    let first = plan(vec![files("/c", &[(Kind::Agent, "agents/worker.md", AGENT)])], &[]);
    let unread = Scan { complete: false, ..files("/c", &[]) };
    let second = plan(vec![unread], &first.rows);
    assert_eq!((counts(&second), second.deletes.len()), ((0, 0, 1, 0), 0));
    let configured_away = plan(vec![files("/d", &[])], &first.rows);
    assert_eq!(counts(&configured_away), (0, 0, 0, 1));
}

#[test]
fn stored_content_of_an_unknown_form_is_no_content() {
    let row = ContentRow {
        kind: Kind::Agent,
        name: "a".to_owned(),
        folder: "/c".to_owned(),
        path: "agents/a.md".to_owned(),
        hash: String::new(),
        json: Some("{\"shape\":\"of another version\"}".to_owned()),
        body: None,
        valid: true,
        problems: Problems::default(),
    };
    assert_eq!(row.agent(), None);
    assert_eq!(row.rule(), None, "of another kind");
}

fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn paths(scan: &Scan) -> Vec<&str> {
    scan.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn only_markdown_below_the_three_folders_is_read_and_hidden_names_at_no_level() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["agents/a.md", "agents/deep/er/b.md", "rules/é.md"] {
        put(dir.path(), path, AGENT);
    }
    for path in [
        "README.md",
        "contracts/x.md",
        "agents/a.txt",
        "agents/_shared.md",
        "agents/.hidden.md",
        "agents/_drafts/c.md",
        "agents/deep/.git/d.md",
        "workflows/index.yaml",
    ] {
        put(dir.path(), path, "no front matter");
    }
    let scan = scan::scan(dir.path());
    assert_eq!(paths(&scan), ["agents/a.md", "agents/deep/er/b.md", "rules/é.md"]);
    assert_eq!((scan.problems.as_slice(), scan.complete), (&[][..], true));
}

#[test]
fn links_are_followed_inside_the_folder_only() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    put(outside.path(), "secret.md", AGENT);
    put(dir.path(), "shared/real.md", AGENT);
    put(dir.path(), "agents/a.md", AGENT);
    let link = |to: &Path, name: &str| {
        std::os::unix::fs::symlink(to, dir.path().join("agents").join(name)).unwrap();
    };
    link(&dir.path().join("shared/real.md"), "inside.md");
    link(&outside.path().join("secret.md"), "outside.md");
    link(outside.path(), "folder");
    link(Path::new("/nowhere"), "dangling.md");
    link(dir.path(), "loop");
    let scan = scan::scan(dir.path());
    assert_eq!(paths(&scan), ["agents/a.md", "agents/inside.md"]);
    let told: Vec<(&str, bool)> =
        scan.problems.iter().map(|p| (p.path.as_str(), p.fatal)).collect();
    assert_eq!(
        told,
        [
            ("agents/dangling.md", true),
            ("agents/folder", false),
            ("agents/loop", false),
            ("agents/outside.md", true)
        ]
    );
    // The content folder itself may be a link.
    let alias = outside.path().join("alias");
    std::os::unix::fs::symlink(dir.path(), &alias).unwrap();
    assert_eq!(scan::scan(&alias).files.len(), 2);
}

#[test]
fn bounds_are_told_and_what_is_within_them_is_read() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "agents/a.md", AGENT);
    let large = usize::try_from(limits::CONTENT_FILE_BYTES).unwrap() + 1;
    put(dir.path(), "agents/large.md", &"x".repeat(large));
    let deep = (0..=limits::CONTENT_DEPTH_COUNT).map(|n| format!("{n}/")).collect::<String>();
    put(dir.path(), &format!("agents/{deep}b.md"), AGENT);
    let scan = scan::scan(dir.path());
    assert_eq!(paths(&scan), ["agents/a.md", "agents/large.md"]);
    assert!(scan.files[1].parsed.problems[0].message.contains("larger than"));
    assert!(scan.problems[0].message.contains("deeper than 8"), "{:?}", scan.problems);
    for n in 0..limits::CONTENT_FILES_COUNT + 5 {
        put(dir.path(), &format!("rules/{n}.md"), "---\nname: r\n---\n");
    }
    let full = scan::scan(dir.path());
    assert_eq!(full.files.len(), limits::CONTENT_FILES_COUNT);
    let told = full.problems.iter().filter(|p| p.message.contains("holds too much")).count();
    assert_eq!(told, 1);
}

#[test]
fn a_folder_that_is_missing_no_folder_or_of_another_kind_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let missing = scan::scan(&dir.path().join("none"));
    assert!(!missing.complete && missing.problems[0].message.contains("cannot be read"));
    put(dir.path(), "file", "");
    assert!(!scan::scan(&dir.path().join("file")).complete);
    put(dir.path(), "content/agents/a.md", AGENT);
    let parent = scan::scan(dir.path());
    assert!(
        parent.complete && parent.problems[0].message.contains("did you mean its folder content")
    );
}

#[test]
fn what_ships_is_in_order_without_any_remark() {
    let shipped = scan::embedded();
    assert_eq!(shipped.files.len(), 24);
    let plan = plan(vec![shipped], &[]);
    assert_eq!(plan.problems, []);
    assert!(plan.rows.iter().all(|row| row.valid));
    let names = |kind: Kind| -> Vec<&str> {
        plan.rows.iter().filter(|row| row.kind == kind).map(|row| row.name.as_str()).collect()
    };
    assert_eq!(
        names(Kind::Agent),
        [
            "architect",
            "debugger",
            "documentation-specialist",
            "implementer",
            "maintainer",
            "performance-engineer",
            "reviewer",
            "security-specialist",
            "supervisor",
            "tester",
        ]
    );
    assert_eq!(
        names(Kind::Rule),
        ["base", "hygiene", "python", "rust", "security", "testing", "typescript"]
    );
    assert_eq!(
        names(Kind::Workflow),
        [
            "bug-fix",
            "code-review",
            "feature-development",
            "parallel-code-review",
            "parallel-documentation-review",
            "parallel-testing-strategy",
            "security-audit",
        ]
    );
    // The folder in the repository is what is embedded.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("automation/content");
    assert_eq!(scan::scan(&folder).files, scan::embedded().files);
    assert_eq!(check(&folder), Checked { agents: 10, rules: 7, workflows: 7, problems: vec![] });
}

#[test]
fn what_ships_is_complete() {
    let plan = plan(vec![scan::embedded()], &[]);
    for row in &plan.rows {
        assert!(
            row.path.ends_with(&format!("/{}.md", row.name)),
            "{} is called by its name",
            row.path
        );
    }
    for agent in plan.rows.iter().filter_map(ContentRow::agent) {
        let lines = agent.body.lines().count();
        assert!((40..=120).contains(&lines), "{}: {lines} lines", agent.name);
        for word in [
            "`summary`",
            "`artifacts`",
            "`references`",
            "`confidence`",
            "`decisions`",
            "`findings`",
        ] {
            assert!(agent.body.contains(word), "{} says nothing of {word}", agent.name);
        }
    }
    let rules: Vec<Rule> = plan.rows.iter().filter_map(ContentRow::rule).collect();
    for rule in &rules {
        let rails = guardrails::parse(&[rule]);
        assert!(!rails.forbidden.is_empty() && !rails.required.is_empty(), "{}", rule.name);
        assert!(!rails.validation.is_empty(), "{}", rule.name);
    }
    for workflow in plan.rows.iter().filter_map(ContentRow::workflow) {
        assert!(workflow.estimated_duration_minutes.is_some(), "{}", workflow.name);
        assert!(!workflow.tags.is_empty() && !workflow.keywords.is_empty(), "{}", workflow.name);
        for phase in &workflow.phases {
            assert!(!phase.allowed_actions.is_empty(), "{}: {}", workflow.name, phase.phase);
            assert!(!phase.tags.is_empty() && !phase.description.is_empty());
        }
        let gates: Vec<&str> = workflow
            .phases
            .iter()
            .filter(|p| p.requires_approval)
            .map(|p| p.phase.as_str())
            .collect();
        let expected: &[&str] = match workflow.name.as_str() {
            "feature-development" => &["implement"],
            "security-audit" => &["remediate"],
            _ => &[],
        };
        assert_eq!(gates, expected, "{}", workflow.name);
        let active = guardrails::active(&rules, &workflow, workflow.phases.first(), &[]);
        assert!(active.iter().any(|rule| rule.name == "base"), "{}", workflow.name);
    }
}

/// Kind, path and text of a file.
type Written = (Kind, String, String);

/// A file of a random folder: which of a few names it has, and in which state it is.
fn any_file() -> impl Strategy<Value = Written> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let path = prop::sample::select(vec!["a", "b", "c", "deep/a"]);
    (any::<bool>(), name, path, 0..4_u8).prop_map(|(agent, name, path, state)| {
        let (kind, good) = if agent {
            (Kind::Agent, AGENT.replace("worker", name))
        } else {
            (Kind::Workflow, workflow(name, "a"))
        };
        let text = match state {
            0 => String::new(),
            1 => format!("---\nname: {name}\ntags: none\n---\n"),
            2 => good.replace(": d", ": e"),
            _ => good,
        };
        (kind, format!("{}/{path}.md", kind.folder()), text)
    })
}

fn any_scans() -> impl Strategy<Value = Vec<Scan>> {
    let folder = (prop::collection::vec(any_file(), 0..6), prop::bool::weighted(0.8));
    prop::collection::vec(folder, 2).prop_map(|folders| {
        let scan = |(index, (list, complete)): (usize, (Vec<Written>, bool))| {
            let paths: BTreeSet<&String> = list.iter().map(|(_, path, _)| path).collect();
            // One file for each path, by path, as a folder is read.
            let only = paths.iter().filter_map(|path| list.iter().find(|(_, p, _)| p == *path));
            let only: Vec<(Kind, &str, &str)> =
                only.map(|(kind, path, text)| (*kind, path.as_str(), text.as_str())).collect();
            Scan { complete, ..files(["/one", "/two"][index], &only) }
        };
        folders.into_iter().enumerate().map(scan).collect()
    })
}

proptest! {
    /// Whatever lies in the folders and whatever was there before: syncs that find the same again
    /// come to write nothing, no name that is in order is lost, and no good version of a name that
    /// is still spoken for is forgotten. The second may still write: a broken file whose name a
    /// later folder took over goes by its own name from then on.
    #[test]
    fn a_sync_settles_and_loses_nothing(before in any_scans(), now in any_scans()) {
        let first = plan(before, &[]);
        let second = plan(now.clone(), &first.rows);
        let third = plan(now.clone(), &second.rows);
        let again = plan(now.clone(), &third.rows);
        prop_assert_eq!(&again.writes, &vec![]);
        prop_assert_eq!(&again.deletes, &vec![]);
        prop_assert_eq!(again.report.unchanged, third.rows.len());
        for file in now.iter().flat_map(|scan| &scan.files).filter(|f| f.parsed.item.is_some()) {
            let named = |row: &&ContentRow| {
                row.kind == file.kind && Some(&row.name) == file.parsed.name.as_ref()
            };
            prop_assert!(second.rows.iter().any(|row| named(&row)));
        }
        for row in &second.rows {
            let was = first.rows.iter().find(|r| (r.kind, &r.name) == (row.kind, &row.name));
            prop_assert!(row.json.is_some() || was.is_none_or(|was| was.json.is_none()));
            prop_assert!(!row.valid || row.json.is_some());
        }
    }
}
