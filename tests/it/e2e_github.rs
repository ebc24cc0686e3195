//! The `github` forge: the real `gh` against a stub of GitHub (`tests/fixtures/gh_stub.py`).

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::mcp_support::ok;
use crate::world::{Repo, SOON, World, eventually, wait_ended, wait_removed, wait_status};

const STUB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gh_stub.py");

/// A GitHub of a world.
pub struct GitHub<'w> {
    world: &'w World,
}

impl GitHub<'_> {
    /// Starts it, and tells `gh` of it; `None` (said loudly) where there is no `gh`.
    pub async fn of(world: &World) -> Option<GitHub<'_>> {
        let env = world.env();
        let path = env["PATH"].clone();
        if adwd::runs::process::find_program("gh", path.as_ref()).is_none() {
            // Straight to the file descriptor: a skipped test must be seen.
            let _ = writeln!(
                std::io::stderr(),
                "\nSKIPPED (gh not found): apt-get install gh, or https://cli.github.com; the \
                 github forge was not tested\n"
            );
            return None;
        }
        let socket = world.path("gh.sock");
        world.write("gh/config.yml", &format!("http_unix_socket: {}\n", socket.display()));
        world.set_env("GH_CONFIG_DIR", Some(world.path("gh").to_str().unwrap()));
        world.set_env("GH_HOST", Some("any.test"));
        world.set_env("GH_ENTERPRISE_TOKEN", Some("a-token-of-the-test"));
        let said = std::fs::File::create(world.path("gh-stub.log")).unwrap();
        #[allow(
            clippy::disallowed_methods,
            clippy::zombie_processes,
            reason = "ended with its world"
        )]
        Command::new("python3")
            .arg(STUB)
            .args([&socket, &world.path("gh")])
            .env_clear()
            .envs(world.env())
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .expect("python3 starts");
        eventually("the stub listens", SOON, async || {
            if world.path("gh/forge.json").exists() && socket.exists() {
                return Ok(());
            }
            Err(std::fs::read_to_string(world.path("gh-stub.log")).unwrap())
        })
        .await;
        Some(GitHub { world })
    }

    /// Makes it know issue 7, which asks for what issue 1 of the repository asks for.
    pub fn knows(&self, repo: &Repo) {
        let diff = std::fs::read_to_string(repo.root.join("issues/1.md")).unwrap();
        let body = diff.splitn(3, "---\n").nth(2).unwrap();
        let issues = json!({ "7": { "title": "Add a note", "body": body, "labels": ["feature"] } });
        self.world.write("gh/issues.json", &issues.to_string());
    }

    fn forge(&self) -> Value {
        let text = std::fs::read_to_string(self.world.path("gh/forge.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The only pull request, and what was said on the issue and on it.
    #[track_caller]
    pub fn only_pull(&self) -> (Value, Vec<String>, Vec<String>) {
        let unknown =
            std::fs::read_to_string(self.world.path("gh/unknown.log")).unwrap_or_default();
        assert_eq!(unknown, "", "gh asked what the stub cannot answer; teach it");
        let forge = self.forge();
        assert_eq!(forge["pulls"].as_array().unwrap().len(), 1, "{forge:#}");
        let on = |id: &str| -> Vec<String> {
            let all = forge["comments"].as_array().unwrap().iter();
            all.filter(|c| c["on"] == id).map(|c| c["body"].as_str().unwrap().to_owned()).collect()
        };
        (forge["pulls"][0].clone(), on("I_7"), on(forge["pulls"][0]["id"].as_str().unwrap()))
    }

    /// The processes of the world but the stub.
    pub async fn quiet(&self) {
        eventually("only the stub is left", SOON, async || {
            let mut left = self.world.processes();
            left.retain(|process| !process.argv.iter().any(|word| word == STUB));
            if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_github_makes_one_pull_request_however_often_it_is_built() {
    let world = World::new().await;
    let Some(github) = GitHub::of(&world).await else { return };
    let repo = world.repo("shop");
    github.knows(&repo);
    world.serve(&repo, "forge = \"github\"\nforge_repo = \"any.test/o/r\"");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    // The first answer to its creation gets lost on the way.
    world.write("gh/lose-create", "");
    world.write("gh/lose-comment", "");
    let answer = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "7" })).await;
    let id = answer["adw_id"].as_str().unwrap();
    let run = wait_status(&client, id, "completed").await;
    assert!(!world.path("gh/lose-create").exists() && !world.path("gh/lose-comment").exists());
    let (pull, on_issue, on_pull) = github.only_pull();
    assert_eq!(run["pr_url"], pull["url"], "{run:#}");
    let branch = format!("feature-7-{id}");
    assert_eq!((&pull["headRefName"], &pull["baseRefName"]), (&json!(branch), &json!("main")));
    assert!(pull["body"].as_str().unwrap().contains("Closes #7"), "{pull:#}");
    assert_eq!(repo.file_on(&branch, "notes/1.txt"), "note 1");
    assert_eq!(on_issue.len(), 2, "planned, built: {on_issue:#?}");
    assert!(on_pull.len() == 1 && on_pull[0].contains("Review passed"), "{on_pull:#?}");
    wait_removed(&client, id).await;
    assert_eq!(repo.pulls().len(), 0, "no file of the local forge");

    // Built again from the start, though the worktree is gone by now.
    let head = repo.remote_git(&["rev-parse", &branch]);
    let given = json!({ "adw_id": id, "from_phase": "build" });
    ok(&client, "resume_adw_workflow", given).await;
    let run = wait_status(&client, id, "completed").await;
    assert_eq!(run["phases"][1]["attempts"].as_array().unwrap().len(), 2, "{run:#}");
    let (again, on_issue, on_pull) = github.only_pull();
    assert_eq!(again["number"], pull["number"]);
    assert_eq!((on_issue.len(), on_pull.len()), (2, 1), "nothing is said twice: {on_issue:#?}");
    assert_eq!(repo.remote_git(&["rev-parse", &branch]), head, "nothing new was pushed");
    wait_removed(&client, id).await;
    // Its token is in no file: not in a log, a record, the state or the database.
    let secret = "a-token-of-the-test";
    for (path, content) in world.snapshot(&[&repo]).await {
        assert!(!content.contains(secret), "the token is in {path}");
    }
    github.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_issue_and_a_missing_login_are_told_apart() {
    let world = World::new().await;
    let Some(github) = GitHub::of(&world).await else { return };
    let repo = world.repo("shop");
    github.knows(&repo);
    world.serve(&repo, "forge = \"github\"\nforge_repo = \"any.test/o/r\"");
    let mut daemon = world.daemon().await;
    for (issue, token, class, words) in [
        ("8", true, "validation", ["issue 8", "not found"]),
        ("7", false, "preflight", ["not logged in", "gh auth login"]),
    ] {
        if !token {
            world.set_env("GH_ENTERPRISE_TOKEN", None);
            daemon.restart().await;
        }
        let client = daemon.client().await;
        let answer = ok(&client, "trigger_adw_workflow", json!({ "issue_number": issue })).await;
        let run = wait_ended(&client, answer["adw_id"].as_str().unwrap()).await;
        assert_eq!(run["failure"]["class"], class, "{run:#}");
        let message = run["failure"]["message"].as_str().unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
    assert_eq!(github.forge()["pulls"], json!([]));
    github.quiet().await;
}
