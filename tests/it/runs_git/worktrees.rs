//! Making worktrees, also where others make them and where a making was cut off.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use adwd::lock::FileLock;
use adwd::runs::git::Kind;
use adwd::runs::procfs;
use adwd::runs::worktree::LOCK_NAME;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::repo::{Repo, search_paths};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_at_once_all_succeed_while_others_make_their_own() {
    for path in search_paths() {
        let repo = Repo::new(&path, 200);
        let head = repo.head();
        // People who know nothing of our lock; their own attempts may fail, ours must not.
        let strangers: Vec<_> = (0..6)
            .map(|i| {
                let to = repo.root().with_file_name(format!("stranger{i}"));
                let mut command =
                    repo.command(&repo.root(), &["worktree", "add", "-q", "--detach"]);
                command.arg(to).stderr(Stdio::null()).spawn().unwrap()
            })
            .collect();
        let adds = (0..20).map(|i| {
            // Handles of their own, as runs of several tasks have them.
            let (trees, tree, head) = (repo.worktrees(), repo.tree(&format!("t{i}")), head.clone());
            tokio::spawn(async move { trees.add_detached(&tree, &head).await })
        });
        for done in futures::future::join_all(adds).await {
            done.unwrap().unwrap();
        }
        for mut stranger in strangers {
            stranger.wait().unwrap();
        }
        for i in 0..20 {
            let tree = repo.tree(&format!("t{i}"));
            assert_eq!(repo.git_in(&tree, &["rev-parse", "HEAD"]), head);
            assert_eq!(repo.git_in(&tree, &["status", "--porcelain"]), "");
        }
    }
}

#[tokio::test]
async fn a_killed_making_is_mended_and_made_again() {
    for path in search_paths() {
        let repo = Repo::new(&path, 3000);
        let (head, trees) = (repo.head(), repo.worktrees());
        for delay_ms in [2, 5, 10, 20, 40, 80, 160] {
            let tree = repo.tree(&format!("k{delay_ms}"));
            std::fs::create_dir_all(tree.parent().unwrap()).unwrap();
            let mut command = repo.command(&repo.root(), &["worktree", "add", "-q", "--detach"]);
            command.arg(&tree).arg(&head).stderr(Stdio::null()).process_group(0);
            let mut git = command.spawn().unwrap();
            // Not for correctness: each delay cuts the making at another point.
            std::thread::sleep(Duration::from_millis(delay_ms));
            let _ = killpg(Pid::from_raw(i32::try_from(git.id()).unwrap()), Signal::SIGKILL);
            git.wait().unwrap();
            trees.repair().await.unwrap();
            trees.add_detached(&tree, &head).await.unwrap();
            assert_eq!(repo.git_in(&tree, &["status", "--porcelain"]), "", "after {delay_ms} ms");
            repo.git(&["worktree", "list"]);
        }
    }
}

#[tokio::test]
async fn what_a_killed_git_left_running_is_waited_for() {
    for path in search_paths() {
        let repo = Repo::new(&path, 3000);
        let (head, trees) = (repo.head(), repo.worktrees());
        std::fs::create_dir_all(repo.root().join("trees")).unwrap();
        for delay_ms in [10, 20, 30, 40, 60] {
            let tree = repo.tree(&format!("k{delay_ms}"));
            // As the daemon does it: the lock is handed to git, and through it to its children.
            let lock = FileLock::try_exclusive(&repo.root().join(".git").join(LOCK_NAME));
            let mut command = repo.command(&repo.root(), &["worktree", "add", "-q", "--detach"]);
            command.arg(&tree).arg(&head).stderr(Stdio::null());
            let mut git = command.stdin(lock.unwrap().unwrap().into_inherited()).spawn().unwrap();
            drop(command);
            std::thread::sleep(Duration::from_millis(delay_ms));
            // git alone, as the kernel's OOM killer would: its `git reset` goes on writing.
            git.kill().unwrap();
            git.wait().unwrap();
            trees.add_detached(&tree, &head).await.unwrap();
            assert_eq!(repo.git_in(&tree, &["status", "--porcelain"]), "", "after {delay_ms} ms");
        }
    }
}

#[tokio::test]
async fn a_git_that_hangs_is_ended_once_its_program_is_dead_and_nobody_else_is() {
    let repo = Repo::new(&search_paths()[0], 5);
    let (head, tree) = (repo.head(), repo.tree("one"));
    let trees = repo.worktrees().with_patience(200);
    let lock = repo.root().join(".git").join(LOCK_NAME);
    // Somebody whose owner is dead, who holds nothing; and one who holds, and whose owner lives.
    let gone = {
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        let who = format!("{}.1", dead.id());
        dead.wait().unwrap();
        who
    };
    let sleeper = |owner: &str, stdin: Stdio| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "trap '' TERM; exec sleep 600"]).env(procfs::OWNER, owner).stdin(stdin);
        command.spawn().unwrap()
    };
    let mut bystander = sleeper(&gone, Stdio::null());
    let held = || FileLock::exclusive(&lock, 5_000).unwrap().unwrap().into_inherited();
    let mut living = sleeper(&procfs::as_owner(), held().into());
    let limit = Duration::from_secs(2);
    assert!(tokio::time::timeout(limit, trees.add_detached(&tree, &head)).await.is_err());
    assert_eq!(living.try_wait().unwrap(), None, "its owner sees to it");
    end_group(&mut living);
    let mut hanging = sleeper(&gone, held().into());
    trees.add_detached(&tree, &head).await.unwrap();
    assert!(hanging.wait().unwrap().code().is_none(), "it was killed");
    assert_eq!(bystander.try_wait().unwrap(), None);
    end_group(&mut bystander);
}

fn end_group(child: &mut std::process::Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn giving_up_in_the_middle_leaves_nothing_that_hinders_the_next() {
    let repo = Repo::new(&search_paths()[0], 2000);
    let head = repo.head();
    for delay_ms in [5, 30, 60, 120] {
        let (trees, tree) = (repo.worktrees(), repo.tree("one"));
        let limit = Duration::from_millis(delay_ms);
        let _ = tokio::time::timeout(limit, trees.add_detached(&tree, &head)).await;
        trees.add_detached(&tree, &head).await.unwrap();
        assert_eq!(repo.git_in(&tree, &["status", "--porcelain"]), "");
        trees.remove(&tree, true).await.unwrap();
    }
}

#[tokio::test]
async fn a_poisoned_repository_is_mended_and_loses_no_work() {
    for path in search_paths() {
        let repo = Repo::new(&path, 5);
        let (head, trees) = (repo.head(), repo.worktrees());
        let ours = repo.tree("ours");
        trees.add_detached(&ours, &head).await.unwrap();
        std::fs::write(ours.join("work"), "uncommitted").unwrap();
        let theirs = repo.root().with_file_name("theirs");
        repo.git(&["worktree", "add", "-q", "--detach", &theirs.to_string_lossy()]);
        for name in ["ours", "theirs"] {
            std::fs::write(repo.admin(name).join("commondir"), "").unwrap();
        }
        assert!(
            !repo.command(&repo.root(), &["worktree", "list"]).output().unwrap().status.success()
        );
        trees.add_detached(&repo.tree("next"), &head).await.unwrap();
        assert!(repo.git(&["worktree", "list"]).contains("theirs"));
        assert_eq!(repo.git_in(&ours, &["status", "--porcelain"]), "?? work");
    }
}

#[tokio::test]
async fn a_fetch_in_a_poisoned_repository_mends_it() {
    let repo = Repo::new(&search_paths()[0], 5);
    let theirs = repo.root().with_file_name("theirs");
    repo.git(&["worktree", "add", "-q", "--detach", &theirs.to_string_lossy()]);
    std::fs::write(repo.admin("theirs").join("commondir"), "").unwrap();
    repo.worktrees().resolve_base("origin", Some("main")).await.unwrap();
}

#[tokio::test]
async fn what_is_there_and_intact_is_kept_with_its_work() {
    let repo = Repo::new(&search_paths()[0], 5);
    let (head, trees, tree) = (repo.head(), repo.worktrees(), repo.tree("one"));
    trees.add_detached(&tree, &head).await.unwrap();
    repo.git_in(&tree, &["checkout", "-q", "-b", "feature-7-abc"]);
    repo.commit(&tree, "done");
    std::fs::write(tree.join("draft"), "x").unwrap();
    // A git that was killed during a commit leaves this; and somebody may lock a worktree.
    std::fs::write(repo.admin("one").join("index.lock"), "").unwrap();
    repo.git(&["worktree", "lock", "--reason", "mine", &tree.to_string_lossy()]);
    trees.repair().await.unwrap();
    trees.add_detached(&tree, &head).await.unwrap();
    trees.add_branch(&tree, "feature-7-abc").await.unwrap();
    assert!(tree.join("draft").exists() && tree.join("done").exists());
    assert_eq!(repo.git_in(&tree, &["branch", "--show-current"]), "feature-7-abc");
}

#[tokio::test]
async fn a_folder_of_somebodys_is_never_touched() {
    let repo = Repo::new(&search_paths()[0], 5);
    let (head, trees, tree) = (repo.head(), repo.worktrees(), repo.tree("one"));
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("work"), "x").unwrap();
    let error = trees.add_detached(&tree, &head).await.unwrap_err();
    assert!(error.kind == Kind::Refused && error.message.contains("move it away"), "{error}");
    assert!(trees.remove(&tree, false).await.is_err());
    assert!(tree.join("work").exists());
    std::fs::remove_file(tree.join("work")).unwrap();
    trees.add_detached(&tree, &head).await.unwrap();
}

#[tokio::test]
async fn nothing_happens_outside_the_folder_of_trees() {
    let repo = Repo::new(&search_paths()[0], 5);
    let (head, trees) = (repo.head(), repo.worktrees());
    let outside = repo.root().with_file_name("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::create_dir_all(repo.root().join("trees")).unwrap();
    std::os::unix::fs::symlink(&outside, repo.tree("link")).unwrap();
    let nowhere = repo.root().with_file_name("nowhere");
    std::os::unix::fs::symlink(&nowhere, repo.tree("dangling")).unwrap();
    let dotted = repo.tree("../../outside");
    let links = [repo.tree("link"), repo.tree("dangling")];
    for path in [&outside, &dotted, &links[0], &links[1], &repo.root().join("trees"), &repo.root()]
    {
        assert_eq!(trees.add_detached(path, &head).await.unwrap_err().kind, Kind::Refused);
        assert_eq!(trees.remove(path, true).await.unwrap_err().kind, Kind::Refused);
        assert!(!trees.contains(path).await.unwrap());
    }
    assert!(outside.exists() && !nowhere.exists() && repo.root().join("d1").exists());
}

#[tokio::test]
async fn a_branch_in_use_and_a_wrong_commit_are_refused_at_once() {
    let repo = Repo::new(&search_paths()[0], 5);
    let trees = repo.worktrees();
    let error = trees.add_branch(&repo.tree("one"), "main").await.unwrap_err();
    assert_eq!(error.kind, Kind::Refused, "{error}");
    let error = trees.add_detached(&repo.tree("one"), &"0".repeat(40)).await.unwrap_err();
    assert!(error.message.contains("0000"), "{error}");
    assert!(!repo.tree("one").exists());
}

#[tokio::test]
async fn a_worktree_deleted_behind_our_back_is_made_again() {
    let repo = Repo::new(&search_paths()[0], 5);
    let (head, trees, tree) = (repo.head(), repo.worktrees(), repo.tree("one"));
    trees.add_detached(&tree, &head).await.unwrap();
    repo.git_in(&tree, &["checkout", "-q", "-b", "b"]);
    std::fs::remove_dir_all(&tree).unwrap();
    trees.add_branch(&tree, "b").await.unwrap();
    assert!(trees.contains(&tree).await.unwrap());
}

#[tokio::test]
async fn a_worktree_on_a_disk_that_is_away_is_not_forgotten() {
    let repo = Repo::new(&search_paths()[0], 5);
    let away = repo.root().with_file_name("away");
    repo.git(&["worktree", "add", "-q", "--detach", &away.to_string_lossy()]);
    std::fs::rename(&away, away.with_file_name("unmounted")).unwrap();
    repo.worktrees().repair().await.unwrap();
    std::fs::rename(away.with_file_name("unmounted"), &away).unwrap();
    repo.git_in(&away, &["status"]);
}

#[tokio::test]
async fn strays_are_found() {
    let repo = Repo::new(&search_paths()[0], 5);
    let (head, trees) = (repo.head(), repo.worktrees());
    for name in ["known", "stray"] {
        trees.add_detached(&repo.tree(name), &head).await.unwrap();
    }
    std::fs::create_dir(repo.tree("folder")).unwrap();
    let strays = trees.strays(&[repo.tree("known")]).await.unwrap();
    assert_eq!(strays, [repo.tree("folder"), repo.tree("stray")]);
}

#[tokio::test]
async fn the_exclude_block_reaches_every_worktree() {
    let repo = Repo::new(&search_paths()[0], 5);
    let (head, trees, tree) = (repo.head(), repo.worktrees(), repo.tree("one"));
    trees.add_detached(&tree, &head).await.unwrap();
    let exclude = repo.root().join(".git/info/exclude");
    std::fs::write(&exclude, "*.mine\n").unwrap();
    for _ in 0..2 {
        trees.ensure_exclude(&["/agents/".to_owned()]).await.unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(exclude).unwrap(),
        "*.mine\n# adwd begin\n/agents/\n# adwd end\n"
    );
    for root in [repo.root(), tree] {
        std::fs::create_dir(root.join("agents")).unwrap();
        std::fs::write(root.join("agents/x"), "").unwrap();
        assert_eq!(repo.git_in(&root, &["status", "--porcelain"]), "");
    }
}
