//! Tests of the key file. The table is tested with the statements, on PostgreSQL.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::ids::{OsRng, TestRng};

const LIFETIMES: Lifetimes = Lifetimes { token_ms: 1_000_000, rotate_ms: 10_000_000 };

async fn db(folder: &TempDir) -> Db {
    Db::open(&format!("sqlite:{}/x.db", folder.path().display())).await.unwrap()
}

async fn open(folder: &TempDir, now: i64) -> Result<Keys, StepsError> {
    Keys::open(&db(folder).await, folder.path(), LIFETIMES, &OsRng, Millis(now)).await
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(KEY_FILE)).collect()
}

#[tokio::test]
async fn the_first_start_makes_a_private_key_and_the_next_one_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let (kid, key) = open(&folder, 1).await.unwrap().signing().unwrap();
    let path = folder.path().join(KEY_FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = open(&folder, 2).await.unwrap();
    assert_eq!(again.signing(), Some((kid.clone(), key)));
    assert_eq!(again.find(&kid), Some(key));
    assert_eq!(again.find("00000000"), None);
    assert_eq!(names(&folder), [KEY_FILE], "nothing is left beside it");
    assert!(!format!("{again:?}").contains(&STANDARD.encode(key)), "secrets are not shown");
}

#[tokio::test]
async fn of_two_that_make_the_first_key_one_is_first_and_both_have_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(KEY_FILE);
    let made: Vec<Key> = (1..3).map(|n| fresh(1, &TestRng::new(n), Millis(0))).collect();
    write_file(&path, &made[..1], true).unwrap();
    write_file(&path, &made[1..], true).unwrap();
    assert_eq!(read_file(&path).unwrap(), made[..1]);
}

#[tokio::test]
async fn a_key_is_replaced_at_its_age_and_kept_for_the_life_of_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, 0).await.unwrap();
    let (old, bytes) = keys.signing().unwrap();
    assert!(!keys.rotate(&OsRng, Millis(9_999_999)).await.unwrap());
    assert!(keys.rotate(&OsRng, Millis(10_000_000)).await.unwrap());
    let (new, _) = keys.signing().unwrap();
    assert_ne!(old, new);
    assert_eq!(keys.find(&old), Some(bytes), "its tokens are still good");
    let restarted = open(&folder, 10_000_001).await.unwrap();
    assert_eq!(restarted.find(&old), Some(bytes));
    let last = 10_000_000 + LIFETIMES.token_ms + STEPS_KEY_GRACE_MS;
    keys.rotate(&OsRng, Millis(last)).await.unwrap();
    assert_eq!(keys.find(&old), Some(bytes));
    keys.rotate(&OsRng, Millis(last + 1)).await.unwrap();
    assert_eq!(keys.find(&old), None, "no live token can be of it");
    assert_eq!(keys.signing().unwrap().0, new);
    assert_eq!(read_file(&folder.path().join(KEY_FILE)).unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_file_that_others_may_read_or_that_is_broken_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder, 0).await.unwrap();
    let path = folder.path().join(KEY_FILE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = open(&folder, 0).await.unwrap_err().to_string();
    assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for text in
        ["", "[]", "hello", r#"[{"generation":1,"kid":"x","secret":"eA==","created_at":0}]"#]
    {
        fs::write(&path, text).unwrap();
        let error = open(&folder, 0).await.unwrap_err().to_string();
        assert!(error.contains("not a key file"), "{error}");
    }
}
