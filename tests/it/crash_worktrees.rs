//! What the daemon must not take away.

use std::fs;
use std::os::unix::fs::symlink;

use adwd::runs::git::{Git, Kind};
use adwd::runs::worktree::{Discard, Worktrees};

use crate::world::{Repo, World};

fn trees(world: &World, repo: &Repo) -> Worktrees {
    Worktrees::new(Git::new(&repo.root, world.env()), repo.root.join("automation/trees"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_below_the_tree_folder_leads_to_nobodys_worktree() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let trees = trees(&world, &repo);
    let theirs = world.path("theirs");
    repo.git(&["worktree", "add", "-q", "--detach", &theirs.display().to_string()]);
    fs::create_dir_all(repo.root.join("automation/trees")).unwrap();
    let link = repo.root.join("automation/trees/link");
    symlink(&theirs, &link).unwrap();
    for force in [false, true] {
        let refused = trees.remove(&link, force).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Refused, "{refused}");
    }
    let head = repo.git(&["rev-parse", "HEAD"]);
    assert!(trees.add_detached(&link, &head).await.is_err());
    assert!(theirs.join("README.md").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_that_is_away_stays_known() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let trees = trees(&world, &repo);
    let (theirs, away) = (world.path("disk/theirs"), world.path("disk/away"));
    repo.git(&["worktree", "add", "-q", "-b", "theirs", &theirs.display().to_string()]);
    let ours = repo.root.join("automation/trees/ours");
    trees.add_detached(&ours, "main").await.unwrap();
    fs::rename(&theirs, &away).unwrap();
    fs::remove_dir_all(&ours).unwrap();
    trees.repair().await.unwrap();
    assert_eq!(repo.worktrees(), [theirs.display().to_string()], "ours is cleared, theirs stays");
    fs::rename(&away, &theirs).unwrap();
    let env: Vec<(String, String)> = world.env().into_iter().collect();
    crate::world::repo::git_at(&theirs, &env, &["status"]);
    // A folder that went away behind git's back is made again.
    fs::remove_dir_all(repo.root.join("automation/trees")).unwrap();
    trees.add_detached(&ours, "main").await.unwrap();
    fs::remove_dir_all(&ours).unwrap();
    trees.add_detached(&ours, "main").await.unwrap();
    assert!(ours.join("README.md").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_objection_under_the_lock_keeps_a_worktree() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let trees = trees(&world, &repo);
    let ours = repo.root.join("automation/trees/ours");
    trees.add_detached(&ours, "main").await.unwrap();
    let kept =
        trees.remove_unless(&ours, Discard::Nothing, async || Err("run x uses it".into())).await;
    assert!(kept.unwrap_err().to_string().contains("run x uses it"));
    assert!(ours.join("README.md").exists());
    trees.remove_unless(&ours, Discard::Nothing, async || Ok(())).await.unwrap();
    assert!(!ours.exists());
}
