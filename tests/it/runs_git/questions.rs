//! What git is asked, and how it is understood.

use adwd::runs::git::{Kind, toplevel};

use super::repo::{Repo, search_paths};

#[tokio::test]
async fn the_root_is_that_of_the_main_checkout_from_anywhere_inside() {
    for path in search_paths() {
        let repo = Repo::new(&path, 25);
        repo.worktrees().add_detached(&repo.tree("one"), &repo.head()).await.unwrap();
        let root = std::fs::canonicalize(repo.root()).unwrap();
        for inside in
            [repo.root(), repo.root().join("d1"), repo.tree("one"), repo.tree("one").join("d1")]
        {
            assert_eq!(toplevel(&inside, &repo.env).await.unwrap(), root);
        }
        for outside in
            [repo.remote(), repo.root().with_file_name("nowhere"), std::path::PathBuf::from("/")]
        {
            let error = toplevel(&outside, &repo.env).await.unwrap_err();
            assert_eq!(error.kind, Kind::Missing, "{error}");
        }
    }
}

#[tokio::test]
async fn the_base_is_fetched_and_never_guessed() {
    for path in search_paths() {
        let repo = Repo::new(&path, 5);
        let trees = repo.worktrees();
        // Somebody else pushed; this clone does not know it yet.
        let other = repo.root().with_file_name("other");
        repo.git(&["clone", "-q", &repo.remote().to_string_lossy(), &other.to_string_lossy()]);
        repo.commit(&other, "theirs");
        repo.git_in(&other, &["push", "-q", "origin", "main", "main:release"]);
        let theirs = repo.git_in(&other, &["rev-parse", "HEAD"]);
        for (asked, got) in [(None, "main"), (Some("main"), "main"), (Some("release"), "release")] {
            let base = trees.resolve_base("origin", asked).await.unwrap();
            assert_eq!(
                (base.branch.as_str(), base.commit.as_str(), base.fetched),
                (got, theirs.as_str(), true)
            );
        }
        assert!(!repo.root().join(".git/FETCH_HEAD").exists());
        assert_ne!(repo.head(), theirs, "the local branch is the user's");

        repo.git(&["branch", "local-only"]);
        let base = trees.resolve_base("origin", Some("local-only")).await.unwrap();
        assert_eq!((base.commit, base.fetched), (repo.head(), false));

        let error = trees.resolve_base("origin", Some("nonesuch")).await.unwrap_err();
        assert_eq!(error.kind, Kind::Missing);
        assert!(error.message.contains("nonesuch") && error.message.contains("origin"), "{error}");
        assert_eq!(repo.git(&["branch", "--list", "nonesuch"]), "");
    }
}

#[tokio::test]
async fn without_a_remote_the_local_branch_is_the_base() {
    let repo = Repo::new(&search_paths()[0], 5);
    repo.git(&["remote", "remove", "origin"]);
    let trees = repo.worktrees();
    let base = trees.resolve_base("origin", None).await.unwrap();
    assert_eq!((base.branch.as_str(), base.fetched), ("main", false));
    assert_eq!(trees.resolve_base("origin", Some("x")).await.unwrap_err().kind, Kind::Missing);
}

#[tokio::test]
async fn an_empty_remote_leaves_the_local_branch() {
    let repo = Repo::new(&search_paths()[0], 5);
    let empty = repo.root().with_file_name("empty.git");
    repo.git(&["init", "-q", "--bare", "-b", "main", &empty.to_string_lossy()]);
    repo.git(&["remote", "set-url", "origin", &empty.to_string_lossy()]);
    let base = repo.worktrees().resolve_base("origin", None).await.unwrap();
    assert_eq!((base.branch.as_str(), base.fetched), ("main", false));
}

#[tokio::test]
async fn a_remote_that_cannot_be_reached_is_told_from_one_that_is_not_there() {
    let repo = Repo::new(&search_paths()[0], 5);
    repo.git(&["remote", "set-url", "origin", "http://127.0.0.1:9/x.git"]);
    let error = repo.worktrees().resolve_base("origin", Some("main")).await.unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    repo.git(&["remote", "set-url", "origin", "/nonexistent.git"]);
    let error = repo.worktrees().resolve_base("origin", Some("main")).await.unwrap_err();
    assert!(!error.is_passing(), "{error:?}");
}

#[tokio::test]
async fn branches_commits_and_files_are_found() {
    let repo = Repo::new(&search_paths()[0], 25);
    let git = repo.handle();
    let base = repo.head();
    repo.git(&["checkout", "-q", "-b", "feature-7-abc"]);
    repo.commit(&repo.root(), "new.rs");
    assert_eq!(git.head(&repo.root()).await.unwrap(), repo.head());
    assert_eq!(git.ahead_count(&base, "feature-7-abc").await.unwrap(), 1);
    assert!(git.ahead_count(&base, "nonesuch").await.is_err());
    assert!(git.file_in_commit("feature-7-abc", "new.rs".as_ref()).await.unwrap());
    assert!(!git.file_in_commit(&base, "new.rs".as_ref()).await.unwrap());
    assert_eq!(git.branches("*-7-abc").await.unwrap(), ["feature-7-abc"]);
    assert_eq!(git.remote_branch_commit("origin", "main").await.unwrap(), Some(base));
    assert_eq!(git.remote_branch_commit("origin", "feature-7-abc").await.unwrap(), None);
    assert_eq!(git.local_branch_commit("nonesuch").await.unwrap(), None);
    assert!(git.is_clean(&repo.root()).await.unwrap());
    std::fs::write(repo.root().join("x"), "").unwrap();
    assert!(!git.is_clean(&repo.root()).await.unwrap());
    assert_eq!(git.remote_url("nonesuch").await.unwrap(), None);
    repo.git(&["remote", "set-url", "origin", "https://me:hunter2secret@example.org/x.git"]);
    let url = git.remote_url("origin").await.unwrap().unwrap();
    assert!(url.contains("example.org") && !url.contains("hunter2secret"), "{url}");
}
