//! Budgets, with the real program: what agents say they spend is counted as they go, and what passes
//! a budget is stopped, refused, or fails when its turn comes.

use adwd::args;
use adwd::clock::SystemClock;
use adwd::db::{Db, migrations};
use adwd::runs::sql_spending::stop_for_budget;
use adwd::runs::{Failure, FailureClass};
use serde_json::{Value, json};

use crate::mcp_support::{Client, Era, ok, refused};
use crate::world::{Agent, Repo, SOON, World, eventually, state, wait_ended, wait_status};

/// An implementor that says what it spent as it goes: 0.40, at gate `first`, then 1.20, and then
/// it waits for ever. Where gate `work` is open it works for 0.30.
const SPENDER: &str = r#"
if [ ! -e "$HOME/open-work" ]; then
    echo '{"usage": {"cost_usd": 0.4, "input_tokens": 100, "output_tokens": 10}}'
    gate first
    echo '{"usage": {"cost_usd": 1.2, "input_tokens": 200, "output_tokens": 30}}'
    gate never
fi
echo '{"usage": {"cost_usd": 0.3, "output_tokens": 5}}'
"#;

fn spender(world: &World) -> String {
    world.agent_lines("spender", &Agent::good().on("implementor", SPENDER))
}

async fn start(client: &Client, issue: u32) -> String {
    let given = json!({ "issue_number": issue.to_string() });
    let answer = ok(client, "trigger_adw_workflow", given).await;
    answer["adw_id"].as_str().unwrap().to_owned()
}

/// Waits until so many dollars are counted for the run.
async fn wait_spent(client: &Client, id: &str, usd: f64) -> Value {
    eventually(&format!("run {id} has spent {usd}"), SOON, async || {
        let run = state(client, id).await;
        if run["usage"]["cost_usd"] == usd { Ok(run) } else { Err(format!("{:#}", run["usage"])) }
    })
    .await
}

async fn usage(client: &Client, given: Value) -> Value {
    ok(client, "get_usage", given).await
}

/// Insists that the budget of the run ended it, in the middle of its build.
fn assert_stopped(run: &Value) {
    assert_eq!(run["status"], "failed", "{run:#}");
    let failure = &run["failure"];
    assert_eq!((&failure["class"], &failure["retryable"]), (&json!("budget"), &json!(false)));
    let told = failure["message"].as_str().unwrap();
    let id = run["adw_id"].as_str().unwrap();
    assert!(told.contains(&format!("budget of run {id}")), "{told}");
    assert!(told.contains("1.20 USD spent of 1.00 USD (budget.run_usd"), "{told}");
    let build = &run["phases"][1];
    assert_eq!((&build["phase"], &build["status"]), (&json!("build"), &json!("failed")));
    assert_eq!(build["attempts"].as_array().unwrap().len(), 1, "it is not tried again");
    assert_eq!(build["attempts"][0]["failure"]["class"], "budget", "{run:#}");
    assert_eq!(run["worktree"], "present", "what was done is kept");
}

crate::in_worlds_on_both_engines!(
    a_run_that_passes_its_budget_is_stopped_and_goes_on_with_more,
    what_was_spent_before_there_were_budgets_is_counted,
);

/// A database of the program before budgets, with an ended run: the next daemon carries over what
/// the run has spent, and a second start adds nothing.
async fn what_was_spent_before_there_were_budgets_is_counted(world: World) {
    let db = Db::open(&world.database_url()).await.unwrap();
    db.migrate_with(&migrations::ALL[..7], &SystemClock).await.unwrap();
    let usage = r#"{"plan":{"agent_calls":2,"input_tokens":5,"output_tokens":3,"cache_read_tokens":9,"cache_creation_tokens":1,"cost_usd":0.25},"total":{"agent_calls":3,"input_tokens":5,"output_tokens":3,"cache_read_tokens":9,"cache_creation_tokens":1,"cost_usd":0.5}}"#;
    db.exec(
        "INSERT INTO runs (adw_id, seq, project, issue_number, host, origin, profile, status, \
         active, stop_requested, revision, priority, phases, todo, floors, digest, skip_cleanup, \
         triggered_by, transport, user_id, created_at, queued_at, ended_at, run_usage, cost_usd) \
         VALUES ('old', 1, 'shop', '1', 'h', 'daemon', 'adwd', 'completed', FALSE, FALSE, 1, 0, \
         '[\"plan\"]', '[\"plan\"]', '{}', 'd', FALSE, 'mcp', 'http', 'key:a', 1, 1, \
         1767323045000, $1, 0.5)",
        args![usage],
    )
    .await
    .unwrap();
    db.close().await;
    let mut daemon = world.daemon().await;
    for _ in 0..2 {
        let client = daemon.client().await;
        let page = usage_by(&client, "day").await;
        let line = &page["lines"][0];
        assert_eq!((&line["name"], &line["cost_usd"]), (&json!("2026-01-02"), &json!(0.5)));
        assert_eq!((&line["agent_calls"], &line["tokens"]), (&json!(3), &json!(9)), "{page:#}");
        assert_eq!(usage_by(&client, "user").await["lines"][0]["name"], "key:a");
        let run = state(&client, "old").await;
        assert_eq!(run["phases"][0]["usage"]["cost_usd"], 0.25, "{run:#}");
        drop(client);
        daemon.restart().await;
    }
}

async fn usage_by(client: &Client, by: &str) -> Value {
    usage(client, json!({ "by": by })).await
}

async fn a_run_that_passes_its_budget_is_stopped_and_goes_on_with_more(world: World) {
    let repo = world.repo("shop");
    world.serve(&repo, &spender(&world));
    world.set("budget.run_usd", "1");
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = start(&client, 1).await;
    world.at_gate("first").await;
    let run = wait_spent(&client, &id, 0.4).await;
    assert_eq!(run["status"], "running", "{run:#}");
    assert_eq!(run["budgets"][0]["left_usd"], 0.6, "{run:#}");
    assert_eq!(run["phases"][1]["usage"]["input_tokens"], 100, "while it works: {run:#}");
    world.open_gate("first");
    let run = wait_status(&client, &id, "failed").await;
    assert_stopped(&run);
    world.quiet().await;
    assert_eq!(run["usage"]["lower_bound"], true, "it was cut off: {run:#}");
    assert_eq!(run["usage"]["cost_usd"], 1.2);

    let error = refused(&client, "resume_adw_workflow", json!({ "adw_id": id })).await;
    assert_eq!(error["code"], "budget", "{error:#}");
    assert_eq!(state(&client, &id).await["revision"], run["revision"], "nothing was changed");

    drop(client);
    world.set("budget.run_usd", "5");
    world.open_gate("work");
    daemon.restart().await;
    let client = daemon.client().await;
    ok(&client, "resume_adw_workflow", json!({ "adw_id": id })).await;
    let run = wait_status(&client, &id, "completed").await;
    assert_eq!(run["usage"]["cost_usd"], 1.5, "what was spent before stays counted: {run:#}");
    let page = usage(&client, json!({ "by": "run" })).await;
    assert_eq!(page["lines"][0]["name"], json!(id));
    assert_eq!(page["lines"][0]["cost_usd"], 1.5, "{page:#}");
    assert_eq!(page["lines"][0]["budget"]["left_usd"], 3.5, "{page:#}");
    assert_eq!(page["total"]["tokens"], 235, "{page:#}");
    let shell = world.cli(&["usage", "--by", "run", "--since", "7d"]).await.with_code(0);
    let columns: Vec<&str> = shell.stdout.trim_end().split('\t').collect();
    assert_eq!((columns[0], columns[1], columns[2], columns[3]), (&*id, ">1.5000", "235", "1"));
    assert_eq!(columns[6], "3.5000", "{shell:?}");
    let json = world.cli(&["usage", "--by", "user", "--json"]).await.with_code(0).json();
    assert!(json["lines"][0]["name"].as_str().unwrap().starts_with("uid:"), "{json:#}");
}

/// The daemon is killed before it could notice, and after it noticed and stored the stop, before it
/// could signal anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_passed_while_no_daemon_runs_is_noticed_by_the_next() {
    for noticed in [false, true] {
        let world = World::new().await;
        let repo = world.repo("shop");
        world.serve(&repo, &spender(&world));
        world.set("budget.run_usd", "1");
        let mut daemon = world.daemon().await;
        let client = daemon.client().await;
        let id = start(&client, 1).await;
        world.at_gate("first").await;
        wait_spent(&client, &id, 0.4).await;
        drop(client);
        daemon.kill9().await;
        world.open_gate("first");
        world.at_gate("never").await;
        if noticed {
            let failure = Failure {
                class: FailureClass::Budget,
                message: format!(
                    "the budget of run {id} is used up: 1.20 USD spent of 1.00 USD (budget.run_usd)"
                ),
                retryable: false,
                phase: None,
                log_tail: vec![],
            };
            let db = Db::open(&world.database_url()).await.unwrap();
            assert!(stop_for_budget(&db, &id, &failure).await.unwrap());
            db.close().await;
        }
        daemon.start().await;
        let client = daemon.client().await;
        let run = wait_status(&client, &id, "failed").await;
        assert_stopped(&run);
        assert_eq!(run["usage"]["cost_usd"], 1.2, "counted once: {run:#}");
        world.quiet().await;
    }
}

/// Claude tells no cost before a call ends: its messages are priced, and it is told what is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_claude_that_has_not_said_its_cost_is_stopped_by_what_its_messages_tell() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let message = r#"{"type":"assistant","message":{"id":"m1","usage":{"input_tokens":10,"cache_read_input_tokens":1000000,"output_tokens":60000}}}"#;
    let program = format!(
        "#!/bin/sh\ncase \"$*\" in *--version*) echo 2.0.0; exit;; esac\ncat >/dev/null\n\
         echo \"$*\" >\"$HOME/words\"\necho '{message}'\necho '{message}'\nsleep 1000\n"
    );
    let claude = world.program("bin/claude", &program).display().to_string();
    world.set_env("CLAUDE_CODE_PATH", Some(&claude));
    world.serve(&repo, "agent = \"claude\"\nbudget_run_usd = 1.25\nagent_budget_usd = 3\n");
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    // 10 × 3 + 1,000,000 × 0.3 + 60,000 × 15 millionths of a dollar: less than the budget.
    let id = start(&client, 1).await;
    let run = wait_spent(&client, &id, 1.200_03).await;
    assert_eq!(run["usage"]["estimated_usd"], 1.200_03, "{run:#}");
    assert_eq!(run["status"], "running", "{run:#}");
    let words = std::fs::read_to_string(world.home().join("words")).unwrap();
    assert!(words.contains("--max-budget-usd 1.2500"), "{words}");
    ok(&client, "cancel_adw_workflow", json!({ "adw_id": id })).await;
    wait_status(&client, &id, "cancelled").await;
    drop(client);

    world.set("budget.output_usd_per_mtok", "25");
    daemon.restart().await;
    let client = daemon.client().await;
    let id = start(&client, 2).await;
    let run = wait_status(&client, &id, "failed").await;
    assert_eq!(run["failure"]["class"], "budget", "{run:#}");
    assert_eq!(run["usage"]["lower_bound"], true, "{run:#}");
    assert_eq!(run["phases"][0]["usage"]["output_tokens"], 60_000, "a message counts once");
    world.quiet().await;
}

/// Two runs share the budget of a day; a third waits for its turn, a fourth comes too late.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_spent_stops_refuses_and_fails_what_waits() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let agent = Agent::good().on(
        "implementor",
        "echo '{\"usage\": {\"cost_usd\": 0.6}}'\ngate \"never-$ADW_ISSUE_NUMBER\"",
    );
    world.serve(&repo, &world.agent_lines("spender", &agent));
    world.set("budget.day_usd", "1");
    world.set("limits.max_running", "2");
    // So that neither ends, and makes room, before the third waits.
    let agent_gate = |n: u32| format!("never-{n}");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let first = start(&client, 1).await;
    world.at_gate(&agent_gate(1)).await;
    wait_spent(&client, &first, 0.6).await;
    let second = start(&client, 2).await;
    let waiting = start(&client, 3).await;
    for id in [&first, &second, &waiting] {
        let run = wait_ended(&client, id).await;
        assert_eq!(
            (&run["status"], &run["failure"]["class"]),
            (&json!("failed"), &json!("budget"))
        );
        let told = run["failure"]["message"].as_str().unwrap();
        assert!(told.contains("1.20 USD spent of 1.00 USD (budget.day_usd"), "{told}");
        assert!(told.contains("begins anew at"), "{told}");
    }
    let run = state(&client, &waiting).await;
    let attempts = |p: &Value| p["attempts"].as_array().unwrap().len();
    assert_eq!(run["phases"].as_array().unwrap().iter().map(attempts).sum::<usize>(), 0);
    world.quiet().await;

    let before = ok(&client, "list_adw_workflows", json!({})).await;
    let error = refused(&client, "trigger_adw_workflow", json!({ "issue_number": "4" })).await;
    assert_eq!(error["code"], "budget", "{error:#}");
    assert!(error["hint"].as_str().unwrap().contains("T00:00:00.000Z"), "{error:#}");
    let shell = world.cli(&["trigger", "4", "--project", "shop"]).await.with_code(4);
    assert!(shell.stderr.contains("budget of all runs for the day"), "{shell:?}");
    assert_eq!(ok(&client, "list_adw_workflows", json!({})).await, before, "nothing was stored");
    let page = usage(&client, json!({ "by": "day" })).await;
    assert_eq!(page["lines"][0]["budget"]["left_usd"], 0.0, "{page:#}");
}

/// A key's budget holds for whoever is not the daemon's own user; a project has one of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_and_a_project_have_budgets_of_their_own() {
    let world = World::new().await;
    world.open_gate("work");
    let (shop, tools) = (world.repo("shop"), world.repo("tools"));
    let agent = spender(&world);
    world.serve(&shop, &agent);
    world.serve(&tools, &format!("{agent}budget_day_tokens = 4\n"));
    world.set("budget.key_day_usd", "0.25");
    let daemon = world.daemon().await;
    let (owner, guest) = (daemon.client().await, daemon.http_client(Era::Modern).await);
    let on = |repo: &Repo, issue: &str| json!({ "issue_number": issue, "project": repo.name });
    let run = async |client: &Client, given: Value| {
        let id = ok(client, "trigger_adw_workflow", given).await["adw_id"].clone();
        wait_ended(client, id.as_str().unwrap()).await
    };
    // 0.30 in one go: it is told at the end, when the build is done; no phase begins any more.
    let ended = run(&guest, on(&shop, "1")).await;
    assert_eq!(ended["failure"]["class"], "budget", "{ended:#}");
    assert!(ended["failure"]["message"].as_str().unwrap().contains("loopback"), "{ended:#}");
    let error = refused(&guest, "trigger_adw_workflow", on(&shop, "2")).await;
    assert_eq!(error["code"], "budget", "{error:#}");
    let done = run(&owner, on(&shop, "2")).await;
    assert_eq!(done["status"], "completed", "the owner has no key: {done:#}");

    let ended = run(&owner, on(&tools, "1")).await;
    let told = ended["failure"]["message"].as_str().unwrap();
    assert!(told.contains("project tools") && told.contains("5 tokens spent of 4"), "{told}");
    let error = refused(&owner, "trigger_adw_workflow", on(&tools, "2")).await;
    assert_eq!(error["code"], "budget", "{error:#}");

    // Below admin one sees the projects' figures and its own, not who else spends.
    let users = usage(&guest, json!({ "by": "user" })).await;
    assert_eq!(users["lines"].as_array().unwrap().len(), 1, "{users:#}");
    assert_eq!(users["lines"][0]["name"], "loopback");
    assert_eq!(users["lines"][0]["budget"]["left_usd"], 0.0, "{users:#}");
    let error = refused(&guest, "get_usage", json!({ "user": "uid:0" })).await;
    assert_eq!(error["code"], "invalid_argument", "{error:#}");
    let projects = usage(&guest, json!({ "by": "project" })).await;
    assert_eq!(projects["lines"][0]["name"], "shop", "{projects:#}");
    assert_eq!(projects["lines"][0]["cost_usd"], 0.6, "{projects:#}");
}
