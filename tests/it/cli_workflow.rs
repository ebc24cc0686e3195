//! `adwd workflow` against the real daemon: what there is, where it stands, steering, exit codes.

use serde_json::Value;

use crate::cli_support::World;

/// A world with a folder of content of its own in the configuration.
fn world() -> World {
    let world = World::new();
    let home = world.dir().join("home");
    let put = |path: &str, text: &str| {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put(".config/adwd/config.toml", "[[content]]\npath = \"~/content\"\n");
    put("content/agents/worker.md", "---\nname: worker\ndescription: Works\n---\n# Worker\n");
    put(
        "content/workflows/gated.md",
        "---\nname: gated\ndescription: A gate\ncomplexity: simple\nphases:\n\
         \x20 - phase: make\n    agent: worker\n    description: Make it\n    requires_approval: true\n\
         \x20 - phase: ship\n    agent: worker\n    description: Ship it\n    dependsOn: [make]\n---\n\
         How it is made.\n",
    );
    put(
        "content/workflows/broken.md",
        "---\nname: broken\ndescription: B\ncomplexity: simple\nphases:\n\
         \x20 - phase: a\n    agent: nobody\n    description: A\n---\nNo.\n",
    );
    world
}

#[test]
fn workflows_are_listed_and_shown_the_users_own_among_them() {
    let world = world();
    let _daemon = world.serve(&[]);
    let list = world.run(&["workflow", "list"]).ended(0);
    let row = |name: &str| {
        let line = list.out.lines().find(|line| line.starts_with(&format!("{name}\t")));
        line.unwrap_or_else(|| panic!("{name}: {list:?}")).split('\t').map(str::to_owned).collect()
    };
    let bug_fix: Vec<String> = row("bug-fix");
    assert_eq!(bug_fix[1], "ok");
    assert_eq!(row("gated")[1..3], ["ok", "2"]);
    assert_eq!(row("broken")[1], "broken");
    assert!(list.err.contains("broken: workflows/broken.md:6: "), "{list:?}");
    assert!(list.err.contains("nobody"), "{list:?}");
    let json = world.run(&["--json", "workflow", "list"]).ended(0).json();
    assert!(json.as_array().unwrap().iter().any(|w| w["name"] == "bug-fix"));

    let shown = world.run(&["workflow", "show", "gated", "--text"]).ended(0).out;
    assert!(shown.contains("step\tmake\tworker\t\tneeds approval\tMake it"), "{shown}");
    assert!(shown.contains("step\tship\tworker\tmake\t\tShip it"), "{shown}");
    assert!(shown.contains("How it is made."), "{shown}");
    let unknown = world.run(&["workflow", "show", "nope"]).ended(5);
    assert!(
        unknown.err.contains("'nope' not found") && unknown.err.contains("bug-fix"),
        "{unknown:?}"
    );
    let doctor = world.run(&["--json", "doctor", "--offline"]).json();
    let content = doctor["checks"].as_array().unwrap().iter().find(|c| c["check"] == "content");
    let content = content.unwrap();
    assert_eq!(content["level"], "warn");
    assert!(content["mend"].as_str().unwrap().contains("adwd content check"), "{content}");
}

#[test]
fn an_execution_is_started_watched_and_steered() {
    let world = world();
    let _daemon = world.serve(&[]);
    let held = world.run(&["workflow", "start", "gated", "--hold", "--id", "mine"]).ended(0).out;
    assert_eq!(held.trim_end(), "mine\tidle");
    let list = world.run(&["workflow", "status", "--open"]).ended(0).out;
    assert!(list.starts_with("mine\tidle\t0/2\tgated\t"), "{list}");
    let control = |words: &[&str]| {
        let mut all = vec!["workflow", "control", "mine"];
        all.extend(words);
        world.run(&all)
    };
    // The first step waits for a person.
    let begun = control(&["start"]).ended(0).out;
    assert_eq!(begun.trim_end(), "mine\tidle\tpaused");
    let status = world.run(&["workflow", "status", "mine"]).ended(0).out;
    assert!(status.contains("waits for\ta person's approval of make"), "{status}");
    assert!(status.contains("step\tmake\tpending\tworker\t0"), "{status}");
    let approved = control(&["approve"]).ended(0).out;
    assert_eq!(approved.trim_end(), "mine\tpaused\trunning\tmake");
    let conflict = control(&["resume"]).ended(4);
    assert!(conflict.err.contains("running") && conflict.err.contains("pause"), "{conflict:?}");
    assert!(conflict.err.contains("hint: call `adwd workflow status mine` to see"), "{conflict:?}");
    control(&["pause", "--expected-state", "paused"]).ended(4);
    control(&["diverge"]).ended(2);
    let json = world.run(&["--json", "workflow", "status", "mine"]).ended(0).json();
    assert_eq!((&json["state"], &json["steps"]["total"]), (&"running".into(), &2.into()));
    assert_eq!(json["step_list"][0]["status"], "running");
    assert_eq!(json["artifacts"], Value::Array(vec![]));
    let ended = control(&["diverge", "--reason", "we buy it instead"]).ended(0).out;
    assert_eq!(ended.trim_end(), "mine\trunning\tdiverged");
    let status = world.run(&["workflow", "status", "mine"]).ended(0).out;
    assert!(status.contains("because\twe buy it instead"), "{status}");
    assert!(world.run(&["workflow", "status", "--open"]).ended(0).out.is_empty());
}

#[test]
fn what_is_not_there_or_not_right_has_its_exit_code() {
    let world = world();
    world.run(&["workflow", "status", "mine"]).ended(3);
    let _daemon = world.serve(&[]);
    for words in [
        &["workflow", "status", "nobody"][..],
        &["workflow", "status", "../x"],
        &["workflow", "control", "nobody", "pause"],
        &["workflow", "start", "nope"],
    ] {
        let done = world.run(words).ended(5);
        assert!(done.err.contains("not found"), "{done:?}");
    }
    world.run(&["workflow", "start", "broken"]).ended(4);
    world.run(&["workflow", "start", "gated", "--max-parallel", "99"]).ended(2);
    world.run(&["workflow", "control", "nobody", "explode"]).ended(2);
    world.run(&["workflow", "start", "gated", "--id", "final"]).ended(2);
    let started = world.run(&["--json", "workflow", "start", "bug-fix"]).ended(0).json();
    assert!(started["new_token"].is_string() && started["agent_content"].is_string());
    let again = ["--json", "workflow", "start", "bug-fix", "--id"];
    let id = started["execution_id"].as_str().unwrap();
    let taken = world.run(&[&again[..], &[id]].concat()).ended(4).json();
    assert_eq!(taken["error"]["code"], "execution_exists");
}

#[test]
fn an_execution_outlives_a_killed_daemon_and_its_token_is_as_good_as_before() {
    let world = world();
    let mut daemon = world.serve(&[]);
    let started = world.run(&["--json", "workflow", "start", "bug-fix"]).ended(0).json();
    let id = started["execution_id"].as_str().unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    daemon.ended();
    let _again = world.serve(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let told = runtime.block_on(async {
        let client = adwd::client::Client::connect(&world.socket()).await.unwrap();
        let call = serde_json::json!({
            "token": started["new_token"], "output": { "summary": "found the cause" } });
        let arguments = call.as_object().unwrap().clone();
        client.call_value("workflow_next_step", arguments).await.unwrap()
    });
    assert_eq!((&told["success"], &told["execution_id"]), (&true.into(), &id.into()));
    let status = world.run(&["--json", "workflow", "status", id]).ended(0).json();
    assert_eq!(status["steps"]["completed"], 1);
}
