//! `kill -9` of everything below the daemon: monitor, uv, Python, agent; and trees that do not want
//! to go.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::crash_support::{
    ROLES, attempt_dir, attempts, calls, cancel, counts, ends_well, exit_record, kill9, monitor,
    nothing_is_left, process, resume, send, shop, start_record, trigger_issue,
};
use crate::world::procs::Proc;
use crate::world::{Agent, SOON, World, eventually, state, wait_removed, wait_status};

/// An agent that stays at its gate in a role, once.
fn gated(role: &str) -> Agent {
    Agent::good().on(role, "[ -e \"$HOME/at-first\" ] || gate first")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_monitor_a_phase_is_judged_by_its_work() {
    for (phase, role) in ROLES {
        let world = World::new().await;
        let repo = shop(&world, &gated(role));
        let daemon = world.daemon().await;
        let client = daemon.client().await;
        let id = trigger_issue(&client, 1).await;
        world.at_gate("first").await;
        kill9(monitor(&world).await.pid);
        world.open_gate("first");
        let run = ends_well(&world, &repo, &client, &id).await;
        assert!(attempts(&run, phase)[0].get("exit_code").is_none(), "nobody recorded it: {run:#}");
    }
}

crate::in_worlds_on_both_engines!(without_a_monitor_a_cancel_ends_the_tree);

/// Also with a daemon that was killed in between.
async fn without_a_monitor_a_cancel_ends_the_tree(world: World) {
    let stubborn = "trap '' INT TERM; (setsid setsid sh -c 'trap \"\" TERM; sleep 998' &) ; gate b";
    shop(&world, &Agent::good().on("implementor", stubborn));
    let mut daemon = world.daemon().await;
    let id = trigger_issue(&daemon.client().await, 1).await;
    world.at_gate("b").await;
    daemon.kill9().await;
    kill9(monitor(&world).await.pid);
    daemon.start().await;
    let client = daemon.client().await;
    assert_eq!(state(&client, &id).await["status"], "running");
    cancel(&client, &id).await;
    let run = wait_status(&client, &id, "cancelled").await;
    assert_eq!(attempts(&run, "build")[0]["status"], "cancelled", "{run:#}");
    world.quiet().await;
}

fn is_agent(p: &Proc) -> bool {
    p.argv.iter().any(|word| word.ends_with("agents/ordered"))
}

/// Uv, Python and the agent, each alone, in the plan phase.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_part_of_a_phase_is_killed_the_phase_is_tried_again() {
    for victim in ["uv", "python", "agent"] {
        let world = World::new().await;
        let repo = shop(&world, &gated("planner"));
        let daemon = world.daemon().await;
        let client = daemon.client().await;
        let id = trigger_issue(&client, 1).await;
        world.at_gate("first").await;
        let all = world.processes();
        let fits = |p: &&Proc| match victim {
            "agent" => is_agent(p),
            "uv" => p.argv[0].ends_with("/uv"),
            _ => p.argv[0].contains("python") && p.argv.iter().any(|w| w.ends_with("adw_plan.py")),
        };
        let found = all.iter().find(fits).unwrap_or_else(|| panic!("no {victim} in {all:#?}"));
        kill9(found.pid);
        wait_status(&client, &id, "completed").await;
        let run = wait_removed(&client, &id).await;
        assert_eq!(counts(&run), [2, 1, 1], "{victim}: {run:#}");
        let failed = &attempts(&run, "plan")[0];
        assert_eq!(
            (&failed["status"], &failed["failure"]["retryable"]),
            (&json!("failed"), &json!(true))
        );
        assert_eq!(calls(&repo, &id)[..2], ["plan/planner/1", "plan/planner/2"], "{victim}");
        assert_eq!(repo.pulls().len(), 1);
        crate::crash_support::assert_one_at_a_time(&repo, &id);
        nothing_is_left(&world, &repo).await;
    }
}

/// Who is killed in a phase, the class of the failure, and words of its sentence.
const VICTIMS: [(&str, &str, &str); 4] = [
    ("uv", "internal", "was killed (signal 9)"),
    ("python", "internal", "exited 137"),
    ("agent", "agent", "(signal 9)"),
    ("everything", "lost", "nobody recorded how they ended"),
];

/// Each of them, and all at once with the monitor, in each phase, without an automatic retry: the run
/// ends with what happened, nothing of its tree is left, and a resume mends it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_in_whichever_phase_is_named_and_a_resume_mends_it() {
    for (at, (phase, role)) in ROLES.into_iter().enumerate() {
        let world = World::new().await;
        world.set("retry.max_attempts", "1");
        world.set("limits.max_running", "4");
        world.set("limits.max_running_per_project", "4");
        let gate = "[ -e \"$HOME/at-$ADW_ISSUE_NUMBER\" ] || gate $ADW_ISSUE_NUMBER";
        let repo = shop(&world, &Agent::good().on(role, gate));
        repo.issue(4);
        let daemon = world.daemon().await;
        let client = daemon.client().await;
        let mut ids = vec![];
        for n in 1..=4 {
            ids.push(trigger_issue(&client, n).await);
            world.at_gate(&n.to_string()).await;
        }
        for (id, (victim, ..)) in ids.iter().zip(VICTIMS) {
            kill_of(&world, id, victim);
        }
        for (id, (victim, class, words)) in ids.iter().zip(VICTIMS) {
            let status = if victim == "everything" { "lost" } else { "failed" };
            let run = wait_status(&client, id, status).await;
            let failure = &run["failure"];
            assert_eq!(
                (&failure["class"], &failure["phase"]),
                (&json!(class), &json!(phase)),
                "{victim}"
            );
            assert!(failure["message"].as_str().unwrap().contains(words), "{victim}: {failure:#}");
            assert_eq!(failure["retryable"], true, "{victim}: {failure:#}");
            assert_eq!(counts(&run), [1, 2, 3].map(|n| usize::from(n <= at + 1)), "{run:#}");
            assert_eq!(run["worktree"], "present", "what was done is kept");
        }
        world.quiet().await;
        for id in &ids {
            resume(&client, id).await;
        }
        for id in &ids {
            wait_status(&client, id, "completed").await;
            let run = wait_removed(&client, id).await;
            let mut want = [1, 1, 1];
            want[at] = 2;
            assert_eq!(counts(&run), want, "{run:#}");
            crate::crash_support::assert_one_at_a_time(&repo, id);
        }
        assert_eq!((repo.pulls().len(), repo.remote_branches().len()), (ids.len(), ids.len()));
        nothing_is_left(&world, &repo).await;
    }
}

/// Kills a part of a run's phase; or all of it, its monitor first.
fn kill_of(world: &World, id: &str, victim: &str) {
    let of_run = |p: &Proc| {
        let named = p.attempt.as_ref().is_some_and(|dir| dir.to_string_lossy().contains(id));
        named || p.argv.iter().any(|word| word.contains(id))
    };
    let mut found: Vec<Proc> = world.processes().into_iter().filter(of_run).collect();
    found.sort_by_key(|p| !p.is_monitor());
    let fits = |p: &Proc| match victim {
        "agent" => is_agent(p),
        "uv" => p.argv[0].ends_with("/uv"),
        "python" => p.argv[0].contains("python"),
        _ => true,
    };
    assert!(found.iter().any(fits), "no {victim} in {found:#?}");
    for p in found.iter().filter(|p| fits(p)) {
        // One may take the other along.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(p.pid), Signal::SIGKILL);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_outlives_monitor_uv_and_python_is_ended_before_the_next_attempt() {
    let world = World::new().await;
    let repo = shop(&world, &gated("planner"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("first").await;
    let agent = world.processes().into_iter().find(is_agent).unwrap();
    let python = process(&world, &["python", "adw_plan.py"]).pid;
    send(agent.pid, Signal::SIGSTOP);
    let uv = process(&world, &["run", "--no-progress"]).pid;
    for pid in [monitor(&world).await.pid, uv, python] {
        // One may take the other along.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
    wait_status(&client, &id, "completed").await;
    let run = wait_removed(&client, &id).await;
    assert_eq!(counts(&run), [2, 1, 1], "{run:#}");
    assert_eq!(attempts(&run, "plan")[0]["status"], "lost", "{run:#}");
    assert!(!world.processes().iter().any(|p| p.pid == agent.pid), "it is gone");
    nothing_is_left(&world, &repo).await;
}

/// It holds no lock, has no parent of ours and a session of its own: only its mark tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_stray_that_gave_everything_away_is_ended_before_the_next_attempt() {
    let world = World::new().await;
    let stray = "import os; os.closerange(0, 1024); os.execvp('sleep', ['sleep', '1234'])";
    let orders = format!(
        "if [ ! -e \"$HOME/at-first\" ]; then (setsid setsid python3 -c \"{stray}\" &) ; gate first; fi"
    );
    let repo = shop(&world, &Agent::good().on("planner", &orders));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("first").await;
    let is_stray = |p: &Proc| p.argv == ["sleep", "1234"];
    eventually("the stray is on its own", SOON, async || {
        let all = world.processes();
        if all.iter().any(is_stray) { Ok(()) } else { Err(format!("{all:#?}")) }
    })
    .await;
    for p in world.processes().iter().filter(|p| !is_stray(p)) {
        // One may take the other along.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(p.pid), Signal::SIGKILL);
    }
    assert!(world.processes().iter().any(is_stray), "{:#?}", world.processes());
    wait_status(&client, &id, "completed").await;
    let run = wait_removed(&client, &id).await;
    assert_eq!(counts(&run), [2, 1, 1], "{run:#}");
    assert_eq!(attempts(&run, "plan")[0]["status"], "lost", "{run:#}");
    nothing_is_left(&world, &repo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_told_to_stop_from_outside_ends_the_run_as_cancelled() {
    let world = World::new().await;
    let repo = shop(&world, &gated("planner"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("first").await;
    send(monitor(&world).await.pid, Signal::SIGTERM);
    let run = wait_status(&client, &id, "cancelled").await;
    assert_eq!(counts(&run), [1, 0, 0], "{run:#}");
    assert!(run["failure"]["message"].as_str().unwrap().contains("signal"), "{run:#}");
    world.quiet().await;
    // And the daemon goes on as if nothing had been.
    let next = trigger_issue(&client, 2).await;
    wait_status(&client, &next, "completed").await;
    assert_eq!(repo.pulls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_monitor_does_not_keep_a_cancel_waiting() {
    let world = World::new().await;
    world.set("stop.int_grace_s", "0");
    world.set("stop.term_grace_s", "0");
    shop(&world, &gated("planner"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("first").await;
    send(monitor(&world).await.pid, Signal::SIGSTOP);
    cancel(&client, &id).await;
    wait_status(&client, &id, "cancelled").await;
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_phase_is_ended_all_the_same() {
    let world = World::new().await;
    let repo = shop(&world, &gated("planner"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("first").await;
    for p in world.processes().iter().filter(|p| !p.is_monitor()) {
        send(p.pid, Signal::SIGSTOP);
    }
    cancel(&client, &id).await;
    let run = wait_status(&client, &id, "cancelled").await;
    world.quiet().await;
    assert_eq!(counts(&run), [1, 0, 0]);
    let exit = exit_record(&attempt_dir(&repo, &id, "plan", 1)).unwrap();
    assert_eq!(exit.stopped, Some(adwd::runs::records::StopReason::Cancel));
}

/// Three runs, each in another phase, each with a tree that ignores SIGTERM and has grandchildren
/// in sessions of their own, with their output given away.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_in_any_phase_ends_a_tree_that_does_not_want_to_go() {
    let world = World::new().await;
    let mut agent = Agent::good();
    for (n, (_, role)) in ROLES.iter().enumerate() {
        let n = n + 1;
        let orders = format!(
            "if [ \"$ADW_ISSUE_NUMBER\" = {n} ]; then
                trap '' INT TERM HUP
                (setsid setsid sh -c 'trap \"\" TERM INT; exec >/dev/null 2>&1; while :; do sleep 1; done' &)
                (setsid setsid sleep 1000 >/dev/null 2>&1 &)
                gate cancel-{n}
            fi"
        );
        agent = agent.on(role, &orders);
    }
    let repo = shop(&world, &agent);
    world.set("limits.max_running", "3");
    world.set("limits.max_running_per_project", "3");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let mut ids = vec![];
    for n in 1..=3 {
        ids.push(trigger_issue(&client, n).await);
    }
    for n in 1..=3 {
        world.at_gate(&format!("cancel-{n}")).await;
    }
    for id in &ids {
        cancel(&client, id).await;
    }
    for (n, id) in ids.iter().enumerate() {
        let run = wait_status(&client, id, "cancelled").await;
        let done = [1, 2, 3].map(|m| usize::from(m <= n + 1));
        assert_eq!(counts(&run), done, "{run:#}");
        assert_eq!(run["failure"]["class"], "cancelled", "{run:#}");
        assert_eq!(run["worktree"], "present", "what was done is kept");
        let dir = attempt_dir(&repo, id, ROLES[n].0, 1);
        assert!(start_record(&dir).is_some() && exit_record(&dir).is_some());
    }
    world.quiet().await;
    assert_eq!(repo.pulls().len(), 1, "the one whose review was cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_forks_is_caught() {
    let world = World::new().await;
    // Each link lives for a moment only, and its child for the next.
    let chain = world.program(
        "chain",
        "#!/bin/sh\ntrap '' TERM INT\n: >\"$HOME/links\"\nsleep 0.01\nsetsid \"$0\" >/dev/null 2>&1 &\nexit 0\n",
    );
    let orders = format!("{} & gate first", chain.display());
    shop(&world, &Agent::good().on("planner", &orders));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("first").await;
    cancel(&client, &id).await;
    wait_status(&client, &id, "cancelled").await;
    eventually("the chain ended", SOON, async || {
        let left = world.processes();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    })
    .await;
}

/// Both itself, and Python under it, whose end it hands on as a code.
#[tokio::test(flavor = "multi_thread")]
async fn a_uv_that_is_killed_while_the_environment_is_made_ready_is_not_taken_for_an_answer() {
    for (word, ends) in [("sync", "kill -9 $$"), ("-c", "exit 137")] {
        let world = World::new().await;
        let path = world.env()["PATH"].clone();
        let mut places = path.split(':').map(|dir| format!("{dir}/uv"));
        let real = places.find(|uv| std::path::Path::new(uv).exists()).unwrap();
        let script = format!(
            "#!/bin/sh
case \" $* \" in *\" {word} \"*)
    if [ ! -e \"$HOME/killed\" ]; then : >\"$HOME/killed\"; {ends}; fi ;;
esac
exec {real} \"$@\"\n"
        );
        world.program("fragile/uv", &script);
        world.set_env("PATH", Some(&format!("{}:{path}", world.path("fragile").display())));
        let repo = shop(&world, &Agent::good());
        let daemon = world.daemon().await;
        let client = daemon.client().await;
        let id = trigger_issue(&client, 1).await;
        let run = wait_status(&client, &id, "failed").await;
        let failure = &run["failure"];
        assert_eq!(
            (&failure["class"], &failure["retryable"]),
            (&json!("environment"), &json!(true))
        );
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains("was killed (signal 9)"), "{word}: {message}");
        resume(&client, &id).await;
        ends_well(&world, &repo, &client, &id).await;
    }
}
