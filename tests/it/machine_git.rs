//! Both gits of a machine, under whole runs; and repositories whose worktree records are poisoned,
//! each in its own way: the run mends what is nobody's and names what is somebody's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::crash_support::{ends_well, nothing_is_left, resume, shop, trigger_issue};
use crate::machine_support::says;
use crate::world::{Agent, Repo, World, state, wait_ended, wait_removed, wait_status};

/// Each git of this machine, once.
fn gits() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    let mut all: Vec<PathBuf> = vec![];
    for git in folders.map(|folder| folder.join("git")).filter(|git| git.is_file()) {
        let real = fs::canonicalize(&git).unwrap();
        if all.iter().all(|known| fs::canonicalize(known).unwrap() != real) {
            all.push(git);
        }
    }
    all
}

/// Puts a git before every other one.
fn with_git(world: &World, git: &Path) {
    fs::create_dir_all(world.path("git")).unwrap();
    symlink(git, world.path("git/git")).unwrap();
    let path = format!("{}:{}", world.path("git").display(), world.env()["PATH"]);
    world.set_env("PATH", Some(&path));
}

/// What a killed `git worktree add` leaves: a record and a folder, half-made.
fn half_made(repo: &Repo, name: &str) -> (PathBuf, PathBuf) {
    let tree = repo.root.join("automation/trees").join(name);
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("half.txt"), "").unwrap();
    let admin = repo.root.join(".git/worktrees").join(name);
    fs::create_dir_all(&admin).unwrap();
    fs::write(admin.join("gitdir"), format!("{}/.git\n", tree.display())).unwrap();
    fs::write(admin.join("locked"), "initializing").unwrap();
    fs::write(admin.join("commondir"), "").unwrap();
    (tree, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_crash_and_a_poisoned_repository_ends_well_with_every_git() {
    for git in gits() {
        let world = World::new().await;
        with_git(&world, &git);
        let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
        let mut daemon = world.daemon().await;
        let client = daemon.client().await;
        let id = trigger_issue(&client, 1).await;
        world.at_gate("build").await;
        daemon.kill9().await;
        let (tree, admin) = half_made(&repo, "adw-9-dead");
        daemon.start().await;
        let client = daemon.client().await;
        let run = state(&client, &id).await;
        assert_eq!(run["status"], "running", "{}: {run:#}", git.display());
        assert!(!tree.exists() && !admin.exists(), "{}", git.display());
        world.open_gate("build");
        ends_well(&world, &repo, &client, &id).await;
        assert_eq!(repo.git(&["fsck", "--connectivity-only"]), "");
    }
}

/// A poison, and the words of the failure where the run cannot mend it by itself.
type Poison = (&'static str, fn(&Repo), &'static [&'static str]);

const POISONS: &[Poison] = &[
    ("an empty commondir of a record without a head", empty_commondir, &[]),
    ("a record with a head of zeros", null_head, &[]),
    ("the record of a folder that is gone", gone_folder, &[]),
    ("a stale lock of the index", index_lock, &[]),
    ("a folder of trees that is a file", trees_file, &["worktree", "automation/trees"]),
    ("a folder of records that is a file", records_file, &["worktree", ".git/worktrees"]),
    ("a stale lock of the packed refs", packed_refs_lock, &[]),
];

fn empty_commondir(repo: &Repo) {
    let admin = repo.root.join(".git/worktrees/elsewhere");
    fs::create_dir_all(&admin).unwrap();
    fs::write(admin.join("gitdir"), "/nonexistent/elsewhere/.git\n").unwrap();
    fs::write(admin.join("commondir"), "").unwrap();
}

fn null_head(repo: &Repo) {
    let (_, admin) = half_made(repo, "adw-8-null");
    fs::write(admin.join("commondir"), "../..\n").unwrap();
    fs::write(admin.join("HEAD"), format!("{}\n", "0".repeat(40))).unwrap();
}

fn gone_folder(repo: &Repo) {
    let tree = repo.root.join("automation/trees/adw-7-gone");
    repo.git(&["worktree", "add", "-q", "--detach", &tree.display().to_string()]);
    fs::remove_dir_all(tree).unwrap();
}

fn index_lock(repo: &Repo) {
    fs::write(repo.root.join(".git/index.lock"), "").unwrap();
}

fn packed_refs_lock(repo: &Repo) {
    fs::write(repo.root.join(".git/packed-refs.lock"), "").unwrap();
}

fn trees_file(repo: &Repo) {
    fs::create_dir_all(repo.root.join("automation")).unwrap();
    fs::write(repo.root.join("automation/trees"), "").unwrap();
}

fn records_file(repo: &Repo) {
    fs::write(repo.root.join(".git/worktrees"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_poison_of_a_repository_is_mended_or_named_and_nothing_half_made_stays() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    for (what, poison, words) in POISONS {
        let _ = fs::remove_dir(repo.root.join("automation/trees"));
        let _ = fs::remove_dir_all(repo.root.join(".git/worktrees"));
        poison(&repo);
        let mut id = trigger_issue(&client, 1).await;
        let mut run = wait_ended(&client, &id).await;
        if !words.is_empty() {
            assert_eq!(run["status"], "failed", "{what}: {run:#}");
            assert_eq!(run["failure"]["class"], "git", "{what}: {run:#}");
            says(run["failure"]["message"].as_str().unwrap(), words);
            assert_eq!(repo.local_branches(), Vec::<String>::new(), "{what}");
            let file = ["automation/trees", ".git/worktrees"].map(|name| repo.root.join(name));
            file.iter()
                .filter(|path| path.is_file())
                .for_each(|path| fs::remove_file(path).unwrap());
            resume(&client, &id).await;
            run = wait_ended(&client, &id).await;
        }
        assert_eq!(run["status"], "completed", "{what}: {run:#}");
        wait_removed(&client, &id).await;
        let locks =
            ["index.lock", "packed-refs.lock"].map(|name| repo.root.join(".git").join(name));
        for lock in locks.iter().filter(|lock| lock.exists()) {
            // Somebody's own git may hold it: it is not ours to take away.
            fs::remove_file(lock).unwrap();
        }
        nothing_is_left(&world, &repo).await;
        id.clear();
        repo.git(&["worktree", "prune"]);
        for branch in repo.local_branches() {
            repo.git(&["branch", "-q", "-D", &branch]);
        }
    }
}

/// A lock that the build itself needs, left in its worktree by a git that was killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_lock_in_the_worktree_is_named_and_taken_away_and_a_resume_goes_on() {
    let world = World::new().await;
    let orders = "[ -e \"$HOME/open-second\" ] || : >\"$(git rev-parse --git-dir)/index.lock\"";
    let repo = shop(&world, &Agent::good().on("implementor", orders));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = wait_ended(&client, &id).await;
    assert_eq!(
        (&run["status"], &run["failure"]["class"]),
        (&json!("failed"), &json!("git")),
        "{run:#}"
    );
    says(run["failure"]["message"].as_str().unwrap(), &["index.lock"]);
    world.quiet().await;
    world.open_gate("second");
    let tree = PathBuf::from(run["worktree_path"].as_str().unwrap());
    let name = tree.file_name().unwrap();
    assert!(!repo.root.join(".git/worktrees").join(name).join("index.lock").exists());
    resume(&client, &id).await;
    wait_status(&client, &id, "completed").await;
    wait_removed(&client, &id).await;
    nothing_is_left(&world, &repo).await;
}
