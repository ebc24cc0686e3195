//! Removing worktrees: never what would be lost.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::os::unix::fs::PermissionsExt;

use adwd::runs::git::Kind;
use adwd::runs::worktree::Discard;

use super::repo::{Repo, search_paths};

async fn with_tree(path: &str) -> (Repo, std::path::PathBuf) {
    let repo = Repo::new(path, 5);
    let tree = repo.tree("one");
    repo.worktrees().add_detached(&tree, &repo.head()).await.unwrap();
    repo.git_in(&tree, &["checkout", "-q", "-b", "b"]);
    (repo, tree)
}

#[tokio::test]
async fn what_would_be_lost_is_refused_by_name() {
    for path in search_paths() {
        let (repo, tree) = with_tree(&path).await;
        let trees = repo.worktrees();
        std::fs::write(tree.join("new.rs"), "x").unwrap();
        let error = trees.remove(&tree, false).await.unwrap_err();
        assert!(error.kind == Kind::Refused && error.message.contains("new.rs"), "{error}");
        repo.commit(&tree, "new.rs");
        let error = trees.remove(&tree, false).await.unwrap_err();
        assert!(error.kind == Kind::Refused && error.message.contains("1 commit"), "{error}");
        repo.git_in(&tree, &["push", "-q", "origin", "b"]);
        repo.git(&["worktree", "lock", "--reason", "mine", &tree.to_string_lossy()]);
        let error = trees.remove(&tree, false).await.unwrap_err();
        assert!(error.kind == Kind::Refused && error.message.contains("mine"), "{error}");
        assert!(tree.exists());
        repo.git(&["worktree", "unlock", &tree.to_string_lossy()]);
        trees.remove(&tree, false).await.unwrap();
        assert!(!tree.exists() && !repo.git(&["worktree", "list"]).contains("one"));
        assert_eq!(repo.git(&["branch", "--list", "b"]), "b");
    }
}

#[tokio::test]
async fn a_push_to_a_url_counts_as_pushed() {
    let (repo, tree) = with_tree(&search_paths()[0]).await;
    repo.commit(&tree, "new.rs");
    assert_eq!(repo.handle().unpushed_count(&tree).await.unwrap(), 1);
    repo.git_in(&tree, &["push", "-q", &repo.remote().to_string_lossy(), "b"]);
    assert_eq!(repo.handle().unpushed_count(&tree).await.unwrap(), 0);
    repo.worktrees().remove(&tree, false).await.unwrap();
}

#[tokio::test]
async fn without_a_remote_a_branch_keeps_the_commits() {
    let (repo, tree) = with_tree(&search_paths()[0]).await;
    repo.git(&["remote", "remove", "origin"]);
    repo.commit(&tree, "new.rs");
    assert_eq!(repo.handle().unpushed_count(&tree).await.unwrap(), 0);
    repo.git_in(&tree, &["checkout", "-q", "--detach"]);
    repo.commit(&tree, "newer.rs");
    assert_eq!(repo.handle().unpushed_count(&tree).await.unwrap(), 1);
    assert_eq!(repo.worktrees().remove(&tree, false).await.unwrap_err().kind, Kind::Refused);
}

#[tokio::test]
async fn leftovers_of_tools_do_not_hinder() {
    for path in search_paths() {
        let (repo, tree) = with_tree(&path).await;
        std::fs::write(tree.join("uv.lock"), "x").unwrap();
        std::fs::write(tree.join("ignored.log"), "x").unwrap();
        let cache = tree.join("d1/__pycache__");
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(cache.join("x.pyc"), "x").unwrap();
        let venv = tree.join(".venv/deep");
        std::fs::create_dir_all(&venv).unwrap();
        std::fs::write(tree.join(".venv/.gitignore"), "*").unwrap();
        std::fs::write(venv.join("f"), "x").unwrap();
        std::fs::set_permissions(&venv, PermissionsExt::from_mode(0o500)).unwrap();
        repo.worktrees().remove(&tree, false).await.unwrap();
        assert!(!tree.exists());
    }
}

#[tokio::test]
async fn a_folder_that_is_gone_is_removed_without_a_word() {
    let (repo, tree) = with_tree(&search_paths()[0]).await;
    std::fs::remove_dir_all(&tree).unwrap();
    repo.worktrees().remove(&tree, false).await.unwrap();
    repo.worktrees().remove(&tree, false).await.unwrap();
    assert!(!repo.admin("one").exists());
}

#[tokio::test]
async fn force_removes_everything_below_the_folder_of_trees() {
    let (repo, tree) = with_tree(&search_paths()[0]).await;
    repo.commit(&tree, "new.rs");
    std::fs::write(tree.join("more.rs"), "x").unwrap();
    repo.worktrees().remove(&tree, true).await.unwrap();
    assert!(!tree.exists());
    let folder = repo.tree("folder");
    std::fs::create_dir_all(folder.join("x")).unwrap();
    assert!(repo.worktrees().remove(&folder, false).await.is_err());
    repo.worktrees().remove(&folder, true).await.unwrap();
    assert!(!folder.exists());
}

#[tokio::test]
async fn where_a_process_works_nothing_is_removed() {
    let (repo, tree) = with_tree(&search_paths()[0]).await;
    let mut shell = std::process::Command::new("sleep");
    let mut shell = shell.arg("600").current_dir(tree.join("d1")).spawn().unwrap();
    let error = repo.worktrees().remove(&tree, false).await.unwrap_err();
    assert!(error.message.contains(&format!("process {} works", shell.id())), "{error}");
    let forecast = repo.worktrees().objection_to_removing(&tree, Discard::Changes).await;
    assert!(forecast.is_some_and(|why| why.contains("works in")));
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert_eq!(repo.worktrees().objection_to_removing(&tree, Discard::Nothing).await, None);
    repo.worktrees().remove(&tree, false).await.unwrap();
}

#[tokio::test]
async fn changes_can_be_given_up_and_commits_not() {
    let (repo, tree) = with_tree(&search_paths()[0]).await;
    let trees = repo.worktrees();
    repo.git_in(&tree, &["checkout", "-q", "--detach"]);
    repo.commit(&tree, "new.rs");
    std::fs::write(tree.join("more.rs"), "x").unwrap();
    let give_up = async |what| trees.remove_unless(&tree, what, async || Ok(())).await;
    let error = give_up(Discard::Folder).await.unwrap_err();
    assert!(error.message.contains("more.rs"), "{error}");
    let error = give_up(Discard::Changes).await.unwrap_err();
    assert!(error.message.contains("1 commit"), "{error}");
    // A branch keeps it, with or without a worktree.
    repo.git_in(&tree, &["branch", "keeper"]);
    give_up(Discard::Changes).await.unwrap();
    assert!(!tree.exists());
}

#[tokio::test]
async fn a_commit_that_only_a_submodule_has_is_kept() {
    let (repo, tree) = with_tree(&search_paths()[0]).await;
    let lib = Repo::new(&search_paths()[0], 1);
    let url = lib.remote().display().to_string();
    let allow = ["-c", "protocol.file.allow=always"];
    let add = [&allow[..], &["submodule", "--quiet", "add", &url, "lib"]].concat();
    repo.git_in(&tree, &add);
    let inside = tree.join("lib");
    repo.git_in(&inside, &["commit", "-q", "--allow-empty", "-m", "inside"]);
    repo.git_in(&tree, &["add", "-A"]);
    repo.git_in(&tree, &["commit", "-q", "-m", "with lib"]);
    repo.git_in(&tree, &["push", "-q", "origin", "b"]);
    let error = repo.worktrees().remove(&tree, false).await.unwrap_err();
    assert!(error.message.contains("submodule"), "{error}");
    repo.git_in(&inside, &["push", "-q", "origin", "HEAD:refs/heads/more"]);
    repo.worktrees().remove(&tree, false).await.unwrap();
    assert!(!tree.exists());
}
