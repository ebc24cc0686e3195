//! Claude Code and Codex as the phases' agent: whole runs, budgets, cancels and crashes with the real
//! programs, against a model on loopback.

use serde_json::{Value, json};

use crate::agents_support::{Cli, KEY, Model, Shelf, agent_is, good_work, shelf, work_but};
use crate::crash_support::{
    CALLS_ONCE, assert_one_at_a_time, calls, cancel, counts, resume, trigger_issue,
};
use crate::e2e_github::GitHub;
use crate::mcp_support::{Client, ok};
use crate::world::{Repo, SOON, World, eventually, state, wait_ended, wait_removed, wait_status};

/// A world with a repository whose agent is that program, and a model that does good work.
async fn scene(shelf: &Shelf, cli: Cli, extra: &str) -> (World, Repo, Model) {
    let world = World::new().await;
    let model = Model::playing(good_work()).await;
    shelf.put_into(&world, &model);
    let repo = world.repo("shop");
    world.serve(&repo, &format!("{}{extra}", agent_is(cli)));
    (world, repo, model)
}

/// Declares a test for each of the two programs from one `async fn(Shelf, Cli)`.
macro_rules! with_both_agents {
    ($($name:ident),+ $(,)?) => {
        mod claude {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let Some(shelf) = super::shelf() else { return };
                super::$name(shelf, super::Cli::Claude).await;
            })+
        }
        mod codex {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let Some(shelf) = super::shelf() else { return };
                super::$name(shelf, super::Cli::Codex).await;
            })+
        }
    };
}

with_both_agents!(
    an_issue_becomes_a_reviewed_pull_request,
    a_cancel_ends_everything_the_agent_started,
    a_killed_daemon_finds_the_agent_again,
    a_run_that_was_stopped_by_its_tokens_goes_on_with_more,
);

/// Nothing is left of a run in the repository but its branch.
fn assert_tidy(repo: &Repo) {
    assert_eq!(repo.worktrees(), Vec::<String>::new());
    assert_eq!(repo.git(&["status", "--porcelain"]), "", "the main checkout was not touched");
    for lock in ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock"] {
        assert!(!repo.root.join(".git").join(lock).exists(), "{lock}");
    }
}

async fn log_of(client: &Client, id: &str, phase: &str) -> String {
    let given = json!({ "adw_id": id, "phase": phase, "tail": true, "limit": 500 });
    ok(client, "get_adw_logs", given).await.to_string()
}

async fn an_issue_becomes_a_reviewed_pull_request(shelf: Shelf, cli: Cli) {
    let world = World::new().await;
    let Some(github) = GitHub::of(&world).await else { return };
    let model = Model::playing(good_work()).await;
    shelf.put_into(&world, &model);
    let repo = world.repo("shop");
    // No label and no prefix: the classifier is asked too.
    let issues =
        json!({ "7": { "title": "Two notes", "body": "Please add two notes.", "labels": [] } });
    world.write("gh/issues.json", &issues.to_string());
    let forge = "forge = \"github\"\nforge_repo = \"any.test/o/r\"\n";
    world.serve(&repo, &format!("{}{forge}", agent_is(cli)));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 7).await;
    let run = wait_status(&client, &id, "completed").await;
    wait_removed(&client, &id).await;
    github.quiet().await;

    assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
    let branch = format!("feature-7-{id}");
    assert_eq!(run["branch"], json!(branch), "{run:#}");
    let (pull, _, on_pull) = github.only_pull();
    assert_eq!(run["pr_url"], pull["url"]);
    assert_eq!(pull["headRefName"], json!(branch));
    assert!(on_pull.iter().any(|text| text.contains("It is as planned.")), "{on_pull:?}");
    let mut changed = repo.changed_on(&branch);
    changed.retain(|name| !name.starts_with("specs/"));
    assert_eq!(changed, ["notes/1.txt", "notes/2.txt"]);
    assert_eq!(repo.file_on(&branch, "notes/2.txt"), "by the editor");
    assert_tidy(&repo);
    assert_spent(&run, cli);
    assert_transcript(&repo, &id, cli);
    let log = log_of(&client, &id, "build").await;
    assert!(log.contains("as implementor"), "where the transcript is: {log}");
    assert!(log.contains("Two notes were added"), "what it said at the end: {log}");
    assert!(!log.contains(KEY), "{log}");
    assert_eq!(model.asked_as("classifier").len(), 1);
}

/// Eight turns of 10 and 5 tokens; what they cost says Claude, of Codex it is estimated.
fn assert_spent(run: &Value, cli: Cli) {
    let usage = &run["usage"];
    assert_eq!(usage["agent_calls"], 4, "{usage:#}");
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(80), &json!(40)));
    assert_eq!(usage["lower_bound"], Value::Null, "nothing was cut off: {usage:#}");
    assert!(usage["cost_usd"].as_f64().unwrap() > 0.0, "{usage:#}");
    match cli {
        Cli::Codex => assert_eq!(usage["estimated_usd"], usage["cost_usd"], "{usage:#}"),
        _ => assert_eq!(usage["estimated_usd"], Value::Null, "{usage:#}"),
    }
    assert_eq!(run["phases"][0]["usage"]["agent_calls"], 2, "classifier and planner: {run:#}");
}

/// Every call left its whole stream and its result.
fn assert_transcript(repo: &Repo, id: &str, cli: Cli) {
    let made = calls(repo, id);
    let own = [
        "build/check/1",
        "build/implementor/1",
        "plan/classifier/1",
        "plan/planner/1",
        "review/reviewer/1",
    ];
    let mut sorted = made.clone();
    sorted.sort();
    assert_eq!(sorted, own);
    let folder = repo.root.join("automation/agents").join(id);
    for call in sorted.iter().filter(|call| *call != "build/check/1") {
        let raw = std::fs::read_to_string(folder.join(call).join("raw_output.jsonl")).unwrap();
        let end = if cli == Cli::Codex { "\"turn.completed\"" } else { "\"type\":\"result\"" };
        assert!(raw.contains(end), "{call}: {raw}");
        let result = std::fs::read(folder.join(call).join("result.json")).unwrap();
        let result: Value = serde_json::from_slice(&result).unwrap();
        assert_eq!((&result["success"], &result["exit_code"]), (&json!(true), &json!(0)));
        assert!(result["session_id"].is_string(), "{call}: {result:#}");
        assert_eq!(result["permission_denials"], json!([]), "{call}: {result:#}");
    }
}

/// Words of a process that an agent starts: found in the process table.
const SLEEPERS: &str = "setsid sleep 86399 & (sleep 86398 &) ; sleep 86397";

fn sleepers(world: &World) -> usize {
    let slept = |word: &String| word.starts_with("8639");
    world.processes().iter().filter(|p| p.argv.len() == 2 && slept(&p.argv[1])).count()
}

async fn a_cancel_ends_everything_the_agent_started(shelf: Shelf, cli: Cli) {
    let (world, repo, model) = scene(&shelf, cli, "").await;
    model.play(work_but("implementor", json!([{ "shell": SLEEPERS }, { "text": "done" }])));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    eventually(
        "the agent's command runs, and what it put into the background",
        SOON * 3,
        async || {
            let found = sleepers(&world);
            if found == 3 {
                Ok(())
            } else {
                Err(format!("{found}: {:#}", state(&client, &id).await))
            }
        },
    )
    .await;
    cancel(&client, &id).await;
    let run = wait_status(&client, &id, "cancelled").await;
    world.quiet().await;
    assert_eq!(run["failure"]["class"], "cancelled", "{run:#}");
    assert_eq!(run["usage"]["lower_bound"], true, "the agent was cut off: {run:#}");
    assert_eq!(repo.remote_branches(), Vec::<String>::new(), "nothing was pushed");
    // What a cancel leaves can be gone on with.
    model.play(good_work());
    resume(&client, &id).await;
    wait_status(&client, &id, "completed").await;
    wait_removed(&client, &id).await;
    world.quiet().await;
    assert_tidy(&repo);
    assert_one_at_a_time(&repo, &id);
}

async fn a_killed_daemon_finds_the_agent_again(shelf: Shelf, cli: Cli) {
    let (world, repo, model) = scene(&shelf, cli, "").await;
    let turns = json!([
        { "shell": "mkdir -p notes && echo once >>notes/1.txt", "gate": "first" },
        { "text": "done", "gate": "last" },
    ]);
    model.play(work_but("implementor", turns));
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    model.at_gate("first").await;
    drop(client);
    daemon.kill9().await;
    model.open_gate("first");
    // It works on while no daemon is there.
    model.at_gate("last").await;
    daemon.start().await;
    let client = daemon.client().await;
    assert_eq!(state(&client, &id).await["status"], "running");
    model.open_gate("last");
    let run = wait_status(&client, &id, "completed").await;
    wait_removed(&client, &id).await;
    world.quiet().await;
    assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
    let mut made = calls(&repo, &id);
    made.sort();
    let mut once = CALLS_ONCE.to_vec();
    once.sort_unstable();
    assert_eq!(made, once);
    let branch = run["branch"].as_str().unwrap();
    assert_eq!(repo.file_on(branch, "notes/1.txt"), "once");
    assert_eq!(run["usage"]["agent_calls"], 3, "{run:#}");
    assert_eq!(run["usage"]["input_tokens"], 60, "counted once: {run:#}");
    assert_tidy(&repo);
}

/// Claude tells its tokens with each message, so it is stopped in the middle of its call; Codex at
/// the end of a turn, so the next phase does not begin.
async fn a_run_that_was_stopped_by_its_tokens_goes_on_with_more(shelf: Shelf, cli: Cli) {
    let (world, repo, model) = scene(&shelf, cli, "budget_run_tokens = 50000\n").await;
    let much = json!({ "input": 60_000, "output": 10 });
    let turns = json!([
        { "shell": "mkdir -p notes && echo a >notes/1.txt", "usage": much },
        { "text": "done", "gate": "after" },
    ]);
    model.play(work_but("implementor", turns));
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    model.at_gate("after").await;
    if cli == Cli::Codex {
        model.open_gate("after");
    }
    let run = wait_status(&client, &id, "failed").await;
    world.quiet().await;
    let failure = &run["failure"];
    assert_eq!((&failure["class"], &failure["retryable"]), (&json!("budget"), &json!(false)));
    let told = failure["message"].as_str().unwrap();
    assert!(told.contains(&format!("budget of run {id}")) && told.contains("of 50000"), "{told}");
    assert_eq!(run["usage"]["lower_bound"] == true, cli == Cli::Claude, "{run:#}");
    assert_eq!(counts(&run)[2], 0, "no review began: {run:#}");

    drop(client);
    model.open_gate("after");
    model.play(good_work());
    world.serve_nothing();
    world.serve(&repo, &format!("{}budget_run_tokens = 500000\n", agent_is(cli)));
    daemon.restart().await;
    let client = daemon.client().await;
    resume(&client, &id).await;
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    assert!(run["usage"]["input_tokens"].as_i64().unwrap() > 60_000, "{run:#}");
    wait_removed(&client, &id).await;
    world.quiet().await;
    assert_tidy(&repo);
}
