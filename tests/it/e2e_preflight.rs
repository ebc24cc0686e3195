//! What is missing before a run begins is named, with its remedy; then the same run goes on.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::mcp_support::{Client, ok};
use crate::world::{Repo, World, wait_ended, wait_removed, wait_status};

impl World {
    /// Takes a program off the search path, whatever folder it is in.
    fn without(&self, program: &str) {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        for needed in ["git", "sh", "python3"].into_iter().filter(|name| *name != program) {
            let found =
                std::env::split_paths(&path).map(|dir| dir.join(needed)).find(|p| p.exists());
            let _ = std::os::unix::fs::symlink(found.unwrap(), bin.join(needed));
        }
        let kept = std::env::split_paths(&path).filter(|dir| !dir.join(program).exists());
        let all: Vec<PathBuf> = std::iter::once(bin).chain(kept).collect();
        self.set_env("PATH", Some(std::env::join_paths(all).unwrap().to_str().unwrap()));
    }
}

/// A run of issue 1 that ends before its first phase; its id and the sentence.
async fn refused_before_it_began(repo: &Repo, client: &Client, class: &str) -> (String, String) {
    let answer = ok(client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    let id = answer["adw_id"].as_str().unwrap().to_owned();
    let run = wait_ended(client, &id).await;
    assert_eq!(run["status"], "failed", "{run:#}");
    assert_eq!(run["failure"]["class"], class, "{run:#}");
    let phases: Vec<&Value> = run["phases"].as_array().unwrap().iter().collect();
    assert!(phases.iter().all(|p| p["attempts"].as_array().unwrap().is_empty()), "{run:#}");
    assert_eq!(repo.worktrees(), Vec::<String>::new());
    assert_eq!(repo.local_branches(), Vec::<String>::new());
    (id, run["failure"]["message"].as_str().unwrap().to_owned())
}

#[track_caller]
fn names(message: &str, words: &[&str]) {
    assert!(words.iter().all(|word| message.contains(word)), "{words:?} in {message:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_uv_is_named() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let path = world.env()["PATH"].clone();
    world.without("uv");
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let (id, message) = refused_before_it_began(&repo, &client, "preflight").await;
    names(&message, &["uv: not found", "pip install uv", "adwd doctor --fix"]);
    // The trigger itself had told it already.
    let again = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "2" })).await;
    assert_eq!(
        (&again["status"], &again["failure"]["class"]),
        (&json!("failed"), &json!("preflight"))
    );
    let ran = world.cli_in(&repo.root, &["trigger", "3"]).await.with_code(1);
    names(&format!("{}{}", ran.stdout, ran.stderr), &["uv: not found"]);

    let old = world.program("old/uv", "#!/bin/sh\necho 'uv 0.1.2 (a test)'\n");
    world.set("uv.path", &crate::world::quoted(old.to_str().unwrap()));
    daemon.restart().await;
    let client = daemon.client().await;
    let (_, message) = refused_before_it_began(&repo, &client, "preflight").await;
    names(&message, &["uv", "0.1", "0.8"]);

    world.set_env("PATH", Some(&path));
    let uv = path.split(':').next().unwrap().to_owned() + "/uv";
    world.set("uv.path", &crate::world::quoted(&uv));
    daemon.restart().await;
    let client = daemon.client().await;
    ok(&client, "resume_adw_workflow", json!({ "adw_id": id })).await;
    wait_status(&client, &id, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_base_branch_is_named_and_never_guessed() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "base_branch = \"develop\"");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let (id, message) = refused_before_it_began(&repo, &client, "preflight").await;
    names(&message, &["develop", "origin", "base_branch"]);
    assert_eq!(repo.remote_branches(), Vec::<String>::new());
    // Somebody pushes one that holds more than main; it is fetched, not taken from here.
    let other = repo.git(&["commit-tree", "main^{tree}", "-p", "main", "-m", "more"]);
    repo.git(&["push", "-q", "origin", &format!("{other}:refs/heads/develop")]);
    repo.git(&["update-ref", "-d", "refs/remotes/origin/develop"]);
    ok(&client, "resume_adw_workflow", json!({ "adw_id": id })).await;
    let run = wait_status(&client, &id, "completed").await;
    assert_eq!((&run["base_branch"], &run["base_commit"]), (&json!("develop"), &json!(other)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_unreachable_remote_is_named() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    repo.git(&["remote", "remove", "origin"]);
    let (id, message) = refused_before_it_began(&repo, &client, "preflight").await;
    names(&message, &["remote", "\"origin\"", "git remote add origin"]);
    let nowhere = world.path("nowhere.git");
    repo.git(&["remote", "add", "origin", nowhere.to_str().unwrap()]);
    let (_, message) = refused_before_it_began(&repo, &client, "preflight").await;
    names(&message, &["base", "nowhere.git"]);
    repo.git(&["remote", "set-url", "origin", repo.remote.to_str().unwrap()]);
    ok(&client, "resume_adw_workflow", json!({ "adw_id": id })).await;
    wait_status(&client, &id, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_agent_or_forge_program_is_named() {
    let world = World::new().await;
    let [one, two, three, four] = ["one", "two", "three", "four"].map(|name| world.repo(name));
    world.serve(&one, "agent = \"claude\"");
    world.serve(&two, "agent = \"codex\"");
    world.serve(&three, "agent = \"command\"");
    world.serve(&four, "forge = \"github\"\nforge_repo = \"o/r\"");
    for (variable, program) in
        [("CLAUDE_CODE_PATH", "claude"), ("CODEX_PATH", "codex"), ("GH_PATH", "gh")]
    {
        world.set_env(variable, Some(&format!("/nowhere/{program}")));
    }
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    for (repo, words) in [
        (&one, ["agent", "/nowhere/claude"]),
        (&two, ["agent", "/nowhere/codex"]),
        (&three, ["agent", "agent_command"]),
        (&four, ["forge", "gh"]),
    ] {
        let given = json!({ "issue_number": "1", "project": repo.name });
        let answer = ok(&client, "trigger_adw_workflow", given).await;
        let run = wait_ended(&client, answer["adw_id"].as_str().unwrap()).await;
        assert_eq!(run["failure"]["class"], "preflight", "{run:#}");
        names(run["failure"]["message"].as_str().unwrap(), &words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_free_space_is_named_and_nothing_is_made() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    world.set("limits.min_free_mb", "1_000_000_000");
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let (id, message) = refused_before_it_began(&repo, &client, "preflight").await;
    names(&message, &["disk", "MiB are free", "limits.min_free_mb", "adwd clean"]);
    world.set("limits.min_free_mb", "1");
    daemon.restart().await;
    let client = daemon.client().await;
    ok(&client, "resume_adw_workflow", json!({ "adw_id": id })).await;
    wait_status(&client, &id, "completed").await;
}

/// What a killed `git worktree add` leaves makes git's own commands fail in the whole repository.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_repository_is_mended_at_start_and_at_work() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let poison = |name: &str| {
        let tree = repo.root.join("automation/trees").join(name);
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("half.txt"), "").unwrap();
        let admin = repo.root.join(".git/worktrees").join(name);
        fs::create_dir_all(&admin).unwrap();
        fs::write(admin.join("gitdir"), format!("{}/.git\n", tree.display())).unwrap();
        fs::write(admin.join("locked"), "initializing").unwrap();
        fs::write(admin.join("commondir"), "").unwrap();
        (tree, admin)
    };
    let (tree, admin) = poison("adw-9-before");
    let daemon = world.daemon().await;
    assert!(!tree.exists() && !admin.exists(), "mended at the start");
    let client = daemon.client().await;
    let (tree, admin) = poison("adw-9-after");
    let answer = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    let id = answer["adw_id"].as_str().unwrap();
    wait_status(&client, id, "completed").await;
    wait_removed(&client, id).await;
    assert!(!tree.exists() && !admin.exists(), "mended at work");
    assert_eq!(repo.worktrees(), Vec::<String>::new());
    world.quiet().await;
}
