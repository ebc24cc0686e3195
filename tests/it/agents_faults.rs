//! What goes wrong between a real agent program and its model, and what the run says of it.

use serde_json::{Value, json};

use crate::agents_support::{
    Cli, Model, PLAN, Shelf, agent_is, codex_config, good_work, shelf, work_but,
};
use crate::crash_support::{counts, trigger_issue};
use crate::world::{Repo, World, wait_ended, wait_removed, wait_status};

/// A world in which one run of issue 1 was made by that program, to its end; the program itself
/// tries what fails only once more.
struct Story {
    world: World,
    repo: Repo,
    model: Model,
    run: Value,
}

async fn story(shelf: &Shelf, cli: Cli, roles: Value, extra: &str) -> Story {
    let world = World::new().await;
    let model = Model::playing(roles).await;
    shelf.put_into(&world, &model);
    world.set_env("CLAUDE_CODE_MAX_RETRIES", Some("1"));
    world.write("home/.codex/config.toml", &codex_config(&model.url, 1));
    told(world, model, cli, extra).await
}

async fn told(world: World, model: Model, cli: Cli, extra: &str) -> Story {
    let repo = world.repo("shop");
    world.serve(&repo, &format!("{}{extra}", agent_is(cli)));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let mut run = wait_ended(&client, &id).await;
    if run["status"] == "completed" {
        run = wait_removed(&client, &id).await;
    }
    world.quiet().await;
    drop((client, daemon));
    Story { world, repo, model, run }
}

impl Story {
    /// Insists on how it ended, on the attempts of plan and build, and that nothing was pushed.
    #[track_caller]
    fn failed(
        &self,
        status: &str,
        class: &str,
        retryable: bool,
        attempts: [usize; 2],
        says: &[&str],
    ) {
        let run = &self.run;
        assert_eq!(run["status"], status, "{run:#}");
        let failure = &run["failure"];
        assert_eq!(
            (&failure["class"], &failure["retryable"]),
            (&json!(class), &json!(retryable)),
            "{failure:#}"
        );
        let message = failure["message"].as_str().unwrap();
        for part in says {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        assert_eq!(counts(run)[..2], attempts, "{run:#}");
        assert_eq!(self.repo.remote_branches(), Vec::<String>::new(), "nothing was pushed");
        for lock in ["index.lock", "HEAD.lock", "config.lock"] {
            assert!(!self.repo.root.join(".git").join(lock).exists(), "{lock}");
        }
        assert_eq!(self.repo.git(&["status", "--porcelain"]), "");
    }
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
    a_request_that_the_model_refuses_is_not_made_again,
    a_model_that_is_overloaded_is_asked_again_up_to_the_third_attempt,
    a_model_that_comes_back_is_worked_with,
    a_stream_that_is_cut_short_every_time_is_a_failure_of_the_agent,
    an_agent_that_was_refused_a_permission_and_says_done_has_done_nothing,
    an_agent_that_says_done_and_changed_nothing_has_done_nothing,
    an_api_that_is_not_there_is_a_failure_that_names_it,
    a_model_that_never_answers_is_ended_by_the_silence_limit,
    a_loop_without_end_is_ended_by_the_agents_own_time,
    an_agent_that_goes_its_own_way_leaves_no_mark_on_the_repository,
);

fn refusing(status: u16, kind: &str, message: &str) -> Value {
    let error = json!({ "status": status, "type": kind, "message": message });
    work_but("planner", json!([{ "error": error }]))
}

async fn a_request_that_the_model_refuses_is_not_made_again(shelf: Shelf, cli: Cli) {
    for (status, kind) in [(400, "invalid_request_error"), (401, "authentication_error")] {
        let roles = refusing(status, kind, "that is not for you");
        let story = story(&shelf, cli, roles, "").await;
        let says = [&*format!("the agent {} failed (exit code 1)", cli.name()), "not for you"];
        story.failed("failed", "agent", false, [1, 0], &says);
    }
}

async fn a_model_that_is_overloaded_is_asked_again_up_to_the_third_attempt(shelf: Shelf, cli: Cli) {
    let roles = refusing(529, "overloaded_error", "invalid: 401 is not found");
    let story = story(&shelf, cli, roles, "").await;
    // What the words say does not count: the status does.
    story.failed("failed", "agent", true, [3, 0], &["529"]);
    // Each attempt asked twice: the program's own second try is in there.
    assert!(story.model.asked_as("planner").len() >= 6);
}

async fn a_model_that_comes_back_is_worked_with(shelf: Shelf, cli: Cli) {
    let error = json!({ "status": 500, "type": "api_error", "message": "oops" });
    let turns = json!([
        { "text": "I look.", "shell": "git log --oneline", "error": error, "times": 1 },
        { "text": PLAN, "cut": "start", "times": 1 },
    ]);
    let story = story(&shelf, cli, work_but("planner", turns), "").await;
    assert_eq!(story.run["status"], "completed", "{:#}", story.run);
    assert_eq!(counts(&story.run), [1, 1, 1], "the program mended it by itself");
}

async fn a_stream_that_is_cut_short_every_time_is_a_failure_of_the_agent(shelf: Shelf, cli: Cli) {
    let turns = json!([{ "text": PLAN, "cut": "start" }]);
    let story = story(&shelf, cli, work_but("planner", turns), "").await;
    match cli {
        Cli::Codex => story.failed("failed", "agent", true, [3, 0], &["stream disconnected"]),
        // It asks once more without a stream, and gets an answer.
        _ => assert_eq!(story.run["status"], "completed", "{:#}", story.run),
    }
}

async fn an_agent_that_was_refused_a_permission_and_says_done_has_done_nothing(
    shelf: Shelf,
    cli: Cli,
) {
    let outside = "/etc/adwd-was-not-here";
    let turns = json!([
        { "write": { "path": outside, "text": "x\n" } },
        { "text": "Done, all of it." },
    ]);
    let story = story(&shelf, cli, work_but("implementor", turns), "").await;
    assert!(!std::path::Path::new(outside).exists());
    let mut says = vec!["the agent changed nothing beyond the plan"];
    if cli == Cli::Claude {
        says.extend(["it was refused a permission: Write", outside]);
    }
    story.failed("failed", "agent", false, [1, 1], &says);
}

async fn an_agent_that_says_done_and_changed_nothing_has_done_nothing(shelf: Shelf, cli: Cli) {
    let roles = work_but("implementor", json!([{ "text": "Done: I changed everything." }]));
    let story = story(&shelf, cli, roles, "").await;
    let message = story.run["failure"]["message"].as_str().unwrap();
    assert!(message.ends_with(": the agent changed nothing beyond the plan"), "{message}");
    story.failed("failed", "agent", false, [1, 1], &[]);
}

async fn an_api_that_is_not_there_is_a_failure_that_names_it(shelf: Shelf, cli: Cli) {
    let world = World::new().await;
    let model = Model::playing(good_work()).await;
    shelf.put_into(&world, &model);
    // A port that is nobody's: bound, and let go.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    world.set_env("ANTHROPIC_BASE_URL", Some(&url));
    world.set_env("CLAUDE_CODE_MAX_RETRIES", Some("1"));
    world.write("home/.codex/config.toml", &codex_config(&url, 1));
    world.set("retry.max_attempts", "1");
    // Claude gives up; Codex waits for the network for ever, and is stopped when its time is up.
    let story = told(world, model, cli, "agent_timeout_s = 40\n").await;
    let says = if cli == Cli::Codex {
        "waited for its model: Reconnecting"
    } else {
        "failed (exit code 1)"
    };
    story.failed("failed", "agent", true, [1, 0], &[&format!("the agent {}", cli.name()), says]);
    assert_eq!(story.model.requests().len(), 0);
}

async fn a_model_that_never_answers_is_ended_by_the_silence_limit(shelf: Shelf, cli: Cli) {
    let world = World::new().await;
    let model = Model::playing(work_but("planner", json!([{ "hang": true }]))).await;
    shelf.put_into(&world, &model);
    // Longer than a program takes to begin on a busy machine: that is silence too.
    world.set("phases.plan.silence_s", "25");
    let story = told(world, model, cli, "").await;
    story.failed("timed_out", "timeout", false, [1, 0], &["gave no sign of life for 25 s"]);
    assert_eq!(story.run["usage"]["lower_bound"], true, "{:#}", story.run);
}

async fn a_loop_without_end_is_ended_by_the_agents_own_time(shelf: Shelf, cli: Cli) {
    // The last turn repeats.
    let turns = json!([{ "shell": "sleep 1; date >>loop.txt" }]);
    let extra = "agent_timeout_s = 20\n";
    let world = World::new().await;
    let model = Model::playing(work_but("implementor", turns)).await;
    shelf.put_into(&world, &model);
    world.set("retry.max_attempts", "1");
    let story = told(world, model, cli, extra).await;
    let says = [&*format!("the agent {} did not end in 20 s and was stopped", cli.name())];
    // The limit is the agent's, so the failure is too: the next try may take less long.
    story.failed("failed", "agent", true, [1, 1], &says);
}

/// Claude has tools of its own to leave for another worktree, and to come back later.
async fn an_agent_that_goes_its_own_way_leaves_no_mark_on_the_repository(shelf: Shelf, cli: Cli) {
    let turns = json!([
        { "call": "EnterWorktree", "input": { "name": "elsewhere" } },
        { "call": "ScheduleWakeup", "input": { "delaySeconds": 60, "prompt": "on", "reason": "r" } },
        { "shell": "mkdir -p notes && echo here >notes/1.txt" },
        { "text": "done" },
    ]);
    let story = story(&shelf, cli, work_but("implementor", turns), "").await;
    assert_eq!(story.run["status"], "completed", "{:#}", story.run);
    let branch = story.run["branch"].as_str().unwrap().to_owned();
    assert_eq!(story.repo.local_branches(), std::slice::from_ref(&branch));
    assert_eq!(story.repo.worktrees().len(), 0, "{:?}", story.repo.worktrees());
    assert!(story.repo.changed_on(&branch).contains(&"notes/1.txt".to_owned()));
    assert!(!story.world.root.join("shop/.claude").exists());
}

/// The other way than by time: Claude is told what is left of the budget, and stops by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_without_end_is_ended_by_claudes_own_budget() {
    let Some(shelf) = shelf() else { return };
    let much = json!({ "input": 20_000, "output": 1000 });
    let turns = json!([{ "shell": "date >>loop.txt", "usage": much }]);
    let roles = work_but("implementor", turns);
    let story = story(&shelf, Cli::Claude, roles, "agent_budget_usd = 1.0\n").await;
    story.failed("failed", "budget", false, [1, 1], &["error_max_budget_usd"]);
    let cost = story.run["usage"]["cost_usd"].as_f64().unwrap();
    assert!((1.0..2.0).contains(&cost), "it knew when: {cost}");
    assert_eq!(story.run["usage"]["lower_bound"], Value::Null, "{:#}", story.run);
}

/// What a phase may not do: drive the daemon that runs it, also where its user allows that.
#[tokio::test(flavor = "multi_thread")]
async fn a_phases_claude_does_not_drive_the_daemon() {
    let Some(shelf) = shelf() else { return };
    let world = World::new().await;
    let turns = json!([
        { "mcp": "trigger_adw_workflow", "input": { "issue_number": "2" } },
        { "shell": "mkdir -p notes && echo here >notes/1.txt" },
        { "text": "done" },
    ]);
    let model = Model::playing(work_but("implementor", turns)).await;
    shelf.put_into(&world, &model);
    let repo = world.repo("shop");
    world.serve(&repo, &agent_is(Cli::Claude));
    let added = ["mcp", "add", "--scope", "user", "adwd", "--", "adwd", "stdio", "--no-start"];
    world.run_in(&world.home(), "claude", &added).await.with_code(0);
    let allow = json!({ "permissions": { "allow": ["mcp__adwd"] } });
    world.write("home/.claude/settings.json", &allow.to_string());
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    wait_status(&client, &id, "completed").await;
    world.quiet().await;
    let all = crate::mcp_support::ok(&client, "list_adw_workflows", json!({})).await;
    assert_eq!(all["total"], 1, "{all:#}");
}
