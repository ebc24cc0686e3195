//! Content from folders to the database and back, on both engines: the world's format as it is,
//! what is kept of a broken file, live reload, and who sees what.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adwd::changes::{Changed, Changes};
use adwd::clock::{Millis, TestClock};
use adwd::db::Db;
use adwd::steps::content_sql::{self as sql, ContentRow, Problems};
use adwd::steps::guardrails;
use adwd::steps::library::{Library, LibraryDeps};
use adwd::steps::{Complexity, Kind, Problem, StepsError};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::db::Scratch;
use crate::on_both_engines;

const WORKER: &str = "---\nname: worker\ndescription: works\n---\npersona\n";

fn flow(agent: &str) -> String {
    format!(
        "---\nname: flow\ndescription: d\nphases:\n  - phase: one\n    agent: {agent}\n---\nb\n"
    )
}

fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // As editors do it: beside, and renamed.
    let beside = path.with_extension("tmp");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// A library and what it stands on; the watching ends with it.
struct Place {
    library: Library,
    changes: Changes,
    shutdown: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn open(db: &Db, host: &str, folders: Vec<PathBuf>) -> Place {
    db.migrate(&TestClock::new(Millis(0))).await.expect("migrates");
    let (changes, shutdown) = (Changes::new(), CancellationToken::new());
    let deps = LibraryDeps {
        db: db.clone(),
        clock: Arc::new(TestClock::new(Millis(1_000))),
        changes: changes.clone(),
        host: host.to_owned(),
        folders,
        shutdown: shutdown.clone(),
    };
    Place { library: Library::open(deps).await.expect("opens"), changes, shutdown }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("automation/content")
}

fn row(kind: Kind, name: &str) -> ContentRow {
    ContentRow {
        kind,
        name: name.to_owned(),
        folder: "/c".to_owned(),
        path: format!("agents/{name}.md"),
        hash: "h".to_owned(),
        json: None,
        body: Some("bödy\n'quoted' \"twice\"".to_owned()),
        valid: false,
        problems: Problems(vec![Problem {
            path: "p".to_owned(),
            line: Some(3),
            message: "m".to_owned(),
            fatal: true,
        }]),
    }
}

async fn every_statement_stores_and_answers(s: Scratch) {
    s.db.migrate(&TestClock::new(Millis(0))).await.expect("migrates");
    let mut rows = vec![
        row(Kind::Agent, "a"),
        row(Kind::Agent, "b"),
        row(Kind::Rule, "a"),
        row(Kind::Workflow, "ä"),
    ];
    let mut tx = s.db.begin().await.unwrap();
    for row in &rows {
        sql::put(&mut tx, "here", row, Millis(1)).await.unwrap();
    }
    sql::put(&mut tx, "there", &rows[0], Millis(1)).await.unwrap();
    tx.commit().await.unwrap();

    let key = |row: &ContentRow| (row.kind, row.name.clone());
    let mut all = sql::all(&s.db, "here").await.unwrap();
    all.sort_by_key(key);
    assert_eq!(all, rows);
    let mut agents = sql::of_kind(&s.db, "here", Kind::Agent).await.unwrap();
    agents.sort_by_key(key);
    assert_eq!(agents, rows[..2]);
    assert_eq!(sql::one(&s.db, "here", Kind::Workflow, "ä").await.unwrap(), Some(rows[3].clone()));
    assert_eq!(sql::one(&s.db, "here", Kind::Rule, "b").await.unwrap(), None);

    // Stored again: every column is another one.
    rows[0] = ContentRow {
        folder: "/d".to_owned(),
        path: "agents/x.md".to_owned(),
        hash: "i".to_owned(),
        json: Some("{}".to_owned()),
        body: None,
        valid: true,
        problems: Problems::default(),
        ..rows[0].clone()
    };
    let mut tx = s.db.begin().await.unwrap();
    sql::put(&mut tx, "here", &rows[0], Millis(2)).await.unwrap();
    sql::delete(&mut tx, "here", Kind::Agent, "b").await.unwrap();
    sql::delete(&mut tx, "here", Kind::Agent, "never there").await.unwrap();
    tx.commit().await.unwrap();
    let agents = sql::of_kind(&s.db, "here", Kind::Agent).await.unwrap();
    assert_eq!(agents, rows[..1]);
    assert_eq!(sql::all(&s.db, "there").await.unwrap(), [row(Kind::Agent, "a")]);
}

/// `spec/steps.md` §1.2: every quirk of the world's files, in `tests/fixtures/world_content`.
async fn a_folder_in_the_worlds_format_loads_as_it_is(s: Scratch) {
    let world = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/world_content");
    let place = open(&s.db, "here", vec![world]).await;
    let library = &place.library;
    // What is stored, not what the first sync told: the library may have looked again by now.
    assert_eq!(sql::all(&s.db, "here").await.unwrap().len(), 11);
    let report = library.sync().await.unwrap();
    assert_eq!((report.added, report.updated, report.unchanged, report.removed), (0, 0, 11, 0));
    assert!(report.problems.iter().all(|p| !p.fatal), "{:#?}", report.problems);

    let names: Vec<String> = library.agents().await.unwrap().into_iter().map(|a| a.name).collect();
    assert_eq!(names, ["coder", "critic", "lead"]);
    let lead = library.agent("lead").await.unwrap();
    assert_eq!(lead.description, "Leads — naïvely, à la carte");
    assert!(lead.body.starts_with("\n# Lead\n") && lead.body.contains('→'));
    assert_eq!(library.agent("critic").await.unwrap().description, "Reads what others wrote");

    let rules = library.rules().await.unwrap();
    let base = rules.iter().find(|rule| rule.name == "Everything Base").unwrap();
    assert!(base.always_apply && base.body.ends_with("plain words here"));
    let rails = guardrails::parse(&rules.iter().collect::<Vec<_>>());
    assert_eq!(rails.forbidden, ["NEVER push to the main branch", "Never async for: CPU"]);
    assert_eq!(rails.validation, ["VALIDATE & SANITIZE inputs"]);

    let workflows = library.workflows().await.unwrap();
    assert!(workflows.iter().all(|w| w.valid && w.startable), "{workflows:#?}");
    let shape = |w: &adwd::steps::WorkflowListing| {
        let workflow = w.workflow.clone().unwrap();
        (w.name.clone(), workflow.complexity, workflow.kind, workflow.phases.len())
    };
    let shapes: Vec<_> = workflows.iter().map(shape).collect();
    let expected = [
        ("fan", Complexity::Moderate, "hybrid", 6),
        ("hinted", Complexity::Simple, "sequential", 3),
        ("linear", Complexity::Moderate, "sequential", 3),
        ("seeded", Complexity::Moderate, "hybrid", 1),
        ("snaked", Complexity::High, "sequential", 3),
    ];
    assert_eq!(shapes, expected.map(|(n, c, k, p)| (n.to_owned(), c, k.to_owned(), p)));
    let snapshot = library.snapshot("fan").await.unwrap();
    assert_eq!(snapshot.agents.keys().collect::<Vec<_>>(), ["critic", "lead"]);
    assert!(!snapshot.workflow.phases[5].allow_parallel);
    let seeded = &library.snapshot("seeded").await.unwrap().workflow;
    assert!(seeded.phases[0].requires_approval);
    assert_eq!(seeded.phases[0].allowed_actions, ["Read files", "Propose changes"]);
    assert_eq!(seeded.estimated_duration_minutes, Some(120));
}

async fn every_workflow_that_ships_can_be_started(s: Scratch) {
    let place = open(&s.db, "here", vec![shipped()]).await;
    assert_eq!(place.library.report().problems, []);
    let workflows = place.library.workflows().await.unwrap();
    assert_eq!(workflows.len(), 7);
    for listed in workflows {
        let snapshot = place.library.snapshot(&listed.name).await.unwrap();
        assert_eq!(Some(&snapshot.workflow), listed.workflow.as_ref());
        assert!(snapshot.agents.contains_key("supervisor"), "{}", listed.name);
        for phase in &snapshot.workflow.phases {
            assert!(snapshot.agents.contains_key(&phase.agent), "{}", phase.agent);
        }
        assert_eq!(snapshot.rules.len(), 7);
    }
    let again = place.library.sync().await.unwrap();
    assert_eq!((again.unchanged, again.changed()), (24, false));
}

/// Waits until `holds`, looking again at each change that is told.
async fn until<F: Future<Output = bool>>(place: &Place, what: &str, holds: impl Fn() -> F) {
    let mut heard = place.changes.subscribe();
    let wait = async {
        while !holds().await {
            while !matches!(heard.next().await, Some(Changed::Content | Changed::Lagged)) {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn edits_are_seen_by_themselves_and_a_broken_file_keeps_its_last_good_version(s: Scratch) {
    let dir = folder();
    put(dir.path(), "agents/worker.md", WORKER);
    let place = open(&s.db, "here", vec![dir.path().to_owned()]).await;
    let library = &place.library;
    assert!(library.workflows().await.unwrap().is_empty());

    put(dir.path(), "workflows/deep/flow.md", &flow("worker"));
    until(&place, "a new file is seen", || async { library.workflow("flow").await.is_ok() }).await;
    let good = library.workflow("flow").await.unwrap();

    put(dir.path(), "workflows/deep/flow.md", "---\nname: flow\nphases: []\n---\n");
    let listed = || async { library.workflows().await.unwrap().remove(0) };
    until(&place, "a broken file is seen", || async { !listed().await.valid }).await;
    let broken = listed().await;
    assert!(broken.startable && broken.problems.iter().any(|p| p.message.contains("no phases")));
    assert_eq!(library.snapshot("flow").await.unwrap().workflow, good);
    let told = &library.report().problems[0];
    assert_eq!(told.path, format!("{}/workflows/deep/flow.md", dir.path().display()));

    put(dir.path(), "workflows/deep/flow.md", &flow("worker").replace(": d", ": new"));
    until(&place, "a mended file is seen", || async { listed().await.valid }).await;
    assert_eq!(library.workflow("flow").await.unwrap().description, "new");

    std::fs::remove_file(dir.path().join("agents/worker.md")).unwrap();
    until(&place, "a gone agent is seen", || async { !listed().await.startable }).await;
    let refused = library.snapshot("flow").await.unwrap_err();
    assert!(refused.to_string().contains("no agent is named \"worker\""), "{refused}");
    std::fs::remove_dir_all(dir.path().join("workflows")).unwrap();
    until(&place, "a gone folder is seen", || async {
        library.workflows().await.unwrap().is_empty()
    })
    .await;
}

async fn what_is_not_there_or_not_in_order_is_told_apart(s: Scratch) {
    let dir = folder();
    put(dir.path(), "agents/worker.md", WORKER);
    put(dir.path(), "workflows/flow.md", &flow("nobody"));
    let place = open(&s.db, "here", vec![dir.path().to_owned()]).await;
    let library = &place.library;
    let unknown = library.snapshot("other").await.unwrap_err();
    assert!(
        matches!(&unknown, StepsError::UnknownWorkflow { known, .. } if known == "flow"),
        "{unknown}"
    );
    let unknown = library.workflow("other").await.unwrap_err();
    assert_eq!(unknown.code(), "unknown_workflow");
    let invalid = library.snapshot("flow").await.unwrap_err();
    assert_eq!(invalid.code(), "invalid_workflow");
    assert!(invalid.to_string().contains("workflows/flow.md:5: phase \"one\""), "{invalid}");
    assert_eq!(library.workflow("flow").await.unwrap_err().code(), "invalid_workflow");
    let unknown = library.agent("nobody").await.unwrap_err();
    assert!(
        matches!(&unknown, StepsError::UnknownAgent { known, .. } if known == "worker"),
        "{unknown}"
    );
}

async fn a_folder_that_goes_away_keeps_its_content_until_it_can_be_read_again(s: Scratch) {
    let dir = folder();
    let mine = dir.path().join("mine");
    put(&mine, "agents/worker.md", WORKER);
    let place = open(&s.db, "here", vec![mine.clone(), dir.path().join("never")]).await;
    let library = &place.library;
    assert!(library.report().problems[0].message.contains("cannot be read"));
    std::fs::rename(&mine, dir.path().join("away")).unwrap();
    let report = library.sync().await.unwrap();
    assert_eq!(report.problems.len(), 2, "{:#?}", report.problems);
    assert!(library.agent("worker").await.is_ok());
    std::fs::create_dir_all(mine.join("agents")).unwrap();
    library.sync().await.unwrap();
    assert!(library.agent("worker").await.is_err());
}

async fn hosts_that_share_a_database_see_their_own_content(s: Scratch) {
    let (one, two) = (folder(), folder());
    put(one.path(), "agents/worker.md", WORKER);
    put(two.path(), "agents/worker.md", &WORKER.replace("works", "there"));
    let here = open(&s.db, "here", vec![one.path().to_owned()]).await;
    let there = open(&s.db, "there", vec![two.path().to_owned()]).await;
    assert!(!here.library.sync().await.unwrap().changed());
    assert_eq!(here.library.agent("worker").await.unwrap().description, "works");
    assert_eq!(there.library.agent("worker").await.unwrap().description, "there");
}

async fn a_sync_that_fails_changes_nothing_and_says_so(s: Scratch) {
    let dir = folder();
    put(dir.path(), "agents/worker.md", WORKER);
    let place = open(&s.db, "here", vec![dir.path().to_owned()]).await;
    place.shutdown.cancel();
    // The second of two writes is refused: the database knows no such thing as a failing disk.
    let refuse = match s.db.engine() {
        adwd::db::Engine::Sqlite => {
            "CREATE TRIGGER refuse BEFORE INSERT ON content WHEN NEW.name = 'second' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
        adwd::db::Engine::Postgres => {
            "ALTER TABLE content ADD CONSTRAINT refuse CHECK (name <> 'second')"
        }
    };
    s.db.exec(refuse, vec![]).await.unwrap();
    put(dir.path(), "agents/first.md", &WORKER.replace("worker", "first"));
    put(dir.path(), "agents/second.md", &WORKER.replace("worker", "second"));
    assert_eq!(place.library.sync().await.unwrap_err().code(), "internal");
    let names: Vec<String> =
        place.library.agents().await.unwrap().into_iter().map(|a| a.name).collect();
    assert_eq!(names, ["worker"]);
    std::fs::remove_file(dir.path().join("agents/second.md")).unwrap();
    assert_eq!(place.library.sync().await.unwrap().added, 1);
}

on_both_engines!(
    every_statement_stores_and_answers,
    a_folder_in_the_worlds_format_loads_as_it_is,
    every_workflow_that_ships_can_be_started,
    edits_are_seen_by_themselves_and_a_broken_file_keeps_its_last_good_version,
    what_is_not_there_or_not_in_order_is_told_apart,
    a_folder_that_goes_away_keeps_its_content_until_it_can_be_read_again,
    hosts_that_share_a_database_see_their_own_content,
    a_sync_that_fails_changes_nothing_and_says_so,
);
