//! What a world holds at a moment, to prove that something changed nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use adwd::db::Db;

use super::{Repo, World};

adwd::row! {
    #[derive(Debug)]
    struct Fact {
        fact: String,
    }
}

const FACTS: [&str; 5] = [
    "SELECT 'run ' || adw_id || ' ' || status || ' ' || CAST(revision AS TEXT) AS fact FROM runs",
    "SELECT 'attempt ' || adw_id || ' ' || phase || ' ' || CAST(attempt AS TEXT) || ' ' || status AS fact FROM attempts",
    "SELECT 'key ' || request_key || ' ' || adw_id AS fact FROM request_keys",
    "SELECT 'counter ' || name || ' ' || CAST(value AS TEXT) AS fact FROM counters",
    "SELECT 'project ' || name || ' ' || path AS fact FROM projects",
];

/// Facts by name: files with their content, rows of the database.
pub type Snapshot = BTreeMap<String, String>;

impl World {
    /// Everything in the repositories, their remotes, the state folder and the database; without
    /// the daemon's log.
    pub async fn snapshot(&self, repos: &[&Repo]) -> Snapshot {
        let mut all = Snapshot::new();
        for repo in repos {
            walk(&repo.root, &mut all);
            walk(&repo.remote, &mut all);
        }
        walk(&self.state_dir(), &mut all);
        walk(&self.home(), &mut all);
        let db = Db::open(&self.database_url()).await.unwrap();
        for sql in FACTS {
            let facts: Vec<Fact> = db.all(sql, vec![]).await.unwrap();
            all.extend(facts.into_iter().map(|fact| (fact.fact, String::new())));
        }
        db.close().await;
        all
    }
}

/// Insists that nothing changed, and says what did.
#[track_caller]
pub fn assert_same(before: &Snapshot, after: &Snapshot, what: &str) {
    let changed = |a: &Snapshot, b: &Snapshot| -> Vec<String> {
        a.iter().filter(|(k, v)| b.get(*k) != Some(v)).map(|(k, _)| k.clone()).collect()
    };
    let (gone, new) = (changed(before, after), changed(after, before));
    assert!(gone.is_empty() && new.is_empty(), "{what} changed something: -{gone:#?} +{new:#?}");
}

fn walk(path: &Path, all: &mut Snapshot) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // The daemon's log; the database, which is read as such; and git's cache of file times.
    if name.starts_with("adwd.db") || name.starts_with("adwd.log") || name == "index" {
        return;
    }
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if meta.is_dir() {
        all.insert(format!("{}/", path.display()), String::new());
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            walk(&entry.path(), all);
        }
    } else {
        let content = fs::read(path).unwrap_or_default();
        all.insert(path.display().to_string(), String::from_utf8_lossy(&content).into_owned());
    }
}
