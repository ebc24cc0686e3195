//! State files as no script should write them, written by the phase itself while it is at work. What was
//! good stays shown, the problem is named, nobody waits, and the work is what counts at the end.

use serde_json::{Value, json};

use crate::crash_support::{attempts, nothing_is_left, shop, trigger_issue};
use crate::hostile_support::Good;
use crate::mcp_support::{Client, ok};
use crate::phases_support::*;
use crate::world::{Agent, SOON, World, eventually, state, wait_ended, wait_removed};

/// Each: what is put in the place of the state file, and the words of the problem that is shown.
const PUTS: [(&str, &str); 9] = [
    ("os.mkfifo(state_file)", "not a plain file"),
    ("os.mkdir(state_file)", "not a plain file"),
    ("os.symlink('/dev/zero', state_file)", "not a plain file"),
    ("os.symlink('/etc/passwd', state_file)", "not a plain file"),
    ("open(state_file, 'w').write('{\"a\":' * 100_000 + '1' + '}' * 100_000)", "not valid JSON"),
    ("open(state_file, 'w').write('[1, 2]')", "an array"),
    ("open(state_file, 'w').write('{\"adw_id\": \"' + 'x' * 500_000 + '\"}')", "names run"),
    ("open(state_file, 'w').write('{\"branch_name\": 1e999}')", "not valid JSON"),
    ("open(state_file, 'wb').write(b'\\xff\\xfe{}')", "not valid JSON"),
];

async fn problem(client: &Client, id: &str, word: &str) -> Value {
    eventually(&format!("the state's problem speaks of {word:?}"), SOON, async || {
        let run = state(client, id).await;
        let said = run["state_problem"].as_str().unwrap_or_default();
        if said.contains(word) { Ok(run) } else { Err(format!("{:#}", run["state_problem"])) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_in_the_place_of_the_state_the_last_good_one_is_shown() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    let clear = "if os.path.isdir(state_file): os.rmdir(state_file)
else: os.remove(state_file)";
    let steps: String =
        (0..).zip(PUTS).map(|(n, (put, _))| format!("{clear}\n{put}\ngate('put-{n}')\n")).collect();
    // At last the folder itself is a file, then a link, then a folder again.
    let folder = "shutil.rmtree(folder); open(folder, 'w').close(); gate('file')
os.remove(folder); os.mkdir(folder + '.aside'); os.symlink(folder + '.aside', folder)
open(state_file, 'w').write('{\"branch_name\": \"evil\"}'); gate('link')";
    rogue.on(1, &format!("save(plan_file='plan.md')\ngate('good')\n{steps}{folder}"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let before = memory(&daemon);
    let good = Good::start(&daemon);
    let id = rogue.start(&client, 1).await;
    world.at_gate("good").await;
    let known = eventually("the state is told", SOON, async || {
        let run = state(&client, &id).await;
        if run["plan_file"] == "plan.md" { Ok(run) } else { Err(run.to_string()) }
    })
    .await;
    world.open_gate("good");
    let same = |run: Value| {
        assert_eq!(run["status"], "running", "{run:#}");
        for key in ["branch", "plan_file", "issue_number", "state"] {
            assert_eq!(run[key], known[key], "{key}: {run:#}");
        }
    };
    for (n, (put, words)) in (0..).zip(PUTS) {
        let name = format!("put-{n}");
        world.at_gate(&name).await;
        eprintln!("{put}");
        same(problem(&client, &id, words).await);
        answers(&client, &id).await;
        world.open_gate(&name);
    }
    world.at_gate("file").await;
    same(problem(&client, &id, "cannot be read").await);
    world.open_gate("file");
    world.at_gate("link").await;
    same(problem(&client, &id, "is a link").await);
    world.open_gate("link");
    let run = watched(&world, &client, &id).await;
    assert_eq!((&run["status"], tries(&run).len()), (&json!("completed"), 1), "{run:#}");
    assert_eq!(run["branch"], known["branch"], "{run:#}");
    good.end().await;
    assert_flat("state files of all kinds", &daemon, &before);
    all_is_well(&world, &rogue, &client).await;
}

/// Only where the daemon is not root, who may read everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_may_not_be_read_is_named() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: root may read a file of mode 000; run the tests as an ordinary user");
        return;
    }
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    rogue
        .on(1, "gate('first')\nos.chmod(state_file, 0)\ngate('shut')\nos.chmod(state_file, 0o600)");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = rogue.start(&client, 1).await;
    world.at_gate("first").await;
    world.open_gate("first");
    world.at_gate("shut").await;
    problem(&client, &id, "Permission denied").await;
    world.open_gate("shut");
    let run = watched(&world, &client, &id).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    assert!(run["state_problem"].is_null(), "{run:#}");
    all_is_well(&world, &rogue, &client).await;
}

crate::in_worlds_on_both_engines!(figures_and_names_beyond_all_bounds_spoil_nothing);

/// One figure near the end of an integer would make every sum overflow that it comes into, and one name
/// of a megabyte every page of a list.
async fn figures_and_names_beyond_all_bounds_spoil_nothing(world: World) {
    let rogue = Rogue::new(&world);
    let huge = "usage = {key: 2**63 - 1 for key in ('agent_calls', 'input_tokens', 'output_tokens', 'cache_read_tokens', 'cache_creation_tokens')}
save(issue={'number': 1, 'title': 't' * 300_000}, plan_file='p' * 300_000, pr_url='https://forge.test/' + 'u' * 300_000,
     usage={'total': {**usage, 'cost_usd': 1e300}, 'work': {**usage, 'cost_usd': -1e300}})
gate(f'huge-{issue}')";
    rogue.on(1, huge);
    rogue.on(2, &huge.replace("2**63 - 1", "10**30"));
    rogue.on(3, &huge.replace("2**63 - 1", "-2**63"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let mut ids = vec![];
    for issue in 1..=3 {
        ids.push(rogue.start(&client, issue).await);
    }
    for (issue, id) in (1..).zip(&ids) {
        world.at_gate(&format!("huge-{issue}")).await;
        let run = eventually("the title is told", SOON, async || {
            let run = state(&client, id).await;
            if run["issue_title"].is_string() { Ok(run) } else { Err(run.to_string()) }
        })
        .await;
        assert!(run["issue_title"].as_str().unwrap().ends_with("t…"), "cut off");
        assert!(run["plan_file"].is_null() && run["pr_url"].is_null(), "no names");
        answers(&client, id).await;
        world.open_gate(&format!("huge-{issue}"));
    }
    for id in &ids {
        let run = wait_ended(&client, id).await;
        assert_eq!(run["status"], "completed", "{run:#}");
        wait_removed(&client, id).await;
    }
    for by in ["day", "run", "project"] {
        let usage = ok(&client, "get_usage", json!({ "by": by })).await;
        assert!(usage.to_string().len() < 100_000);
        let cost = usage["total"]["cost_usd"].as_f64();
        assert!(cost.is_none_or(|usd| (0.0..1_000_000.0).contains(&usd)), "{usage:#}");
    }
    let page = ok(&client, "list_adw_workflows", json!({})).await;
    assert!(page.to_string().len() < 64 * 1024, "{} bytes", page.to_string().len());
    all_is_well(&world, &rogue, &client).await;
}

/// The scripts of ours refuse such a state themselves, in words, and nothing is left half-done.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_spoils_the_state_fails_its_phase_and_says_why() {
    let world = World::new().await;
    let at = "S=\"$HOME/../shop/automation/agents/$ADW_ID/adw_state.json\"; rm -f \"$S\"; case $ADW_ISSUE_NUMBER in
1) mkfifo \"$S\" ;;
2) ln -s /etc/passwd \"$S\" ;;
3) printf '{\"adw_id\": \"' >\"$S\" ;;
4) python3 -c 'print(\"{\\\"a\\\":\" * 100000 + \"1\" + \"}\" * 100000)' >\"$S\" ;;
esac";
    let repo = shop(&world, &Agent::good().on("implementor", at));
    repo.issue(4);
    world.set("limits.max_running", "4");
    world.set("limits.max_running_per_project", "4");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let mut ids = vec![];
    for issue in 1..=4 {
        ids.push(trigger_issue(&client, issue).await);
    }
    for (id, words) in
        ids.iter().zip(["empty", "symbolic link", "not valid JSON", "not valid JSON"])
    {
        let run = wait_ended(&client, id).await;
        assert_failed(
            &run,
            "failed",
            "validation",
            &["the state file is missing or invalid", words],
        );
        assert_eq!(attempts(&run, "build").len(), 1, "{run:#}");
        assert_eq!(attempts(&run, "build")[0]["exit_code"], 3);
        assert!(run["branch"].is_string() && run["plan_file"].is_string(), "known before: {run:#}");
        assert_eq!(run["worktree"], "present");
    }
    assert!(repo.pulls().is_empty());
    world.quiet().await;
    // With a good state it goes on.
    let file = repo.root.join("automation/agents").join(&ids[2]).join("adw_state.json");
    let known = state(&client, &ids[2]).await["state"].clone();
    std::fs::write(&file, known.to_string()).unwrap();
    world.agent("ordered", &Agent::good());
    ok(&client, "resume_adw_workflow", json!({ "adw_id": ids[2] })).await;
    let run = wait_ended(&client, &ids[2]).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    wait_removed(&client, &ids[2]).await;
    for id in &ids {
        let path = state(&client, id).await["worktree_path"].as_str().unwrap().to_owned();
        let _ = repo.git(&["worktree", "list"]);
        if std::path::Path::new(&path).exists() {
            repo.git(&["worktree", "remove", "--force", &path]);
        }
    }
    nothing_is_left(&world, &repo).await;
}
