//! The daemon's life, seen from the shell: one a state folder, found by its socket, gone as asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cli_support::{World, repository, until};

/// The first message of a client.
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

#[test]
fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
    let world = World::new();
    let mut first = world.serve(&[]);
    let second = world.run(&["serve"]).ended(3);
    assert!(second.err.contains(&format!("pid {}", first.pid())), "{second:?}");
    let json = world.run(&["--json", "serve"]).ended(3).json();
    assert_eq!(json["error"]["code"], "already_running");
    assert!(first.is_alive());
    world.run(&["list"]).ended(0);
    let stopped = world.run(&["--json", "stop"]).ended(0).json();
    assert_eq!(stopped["pid"], first.pid());
    assert_eq!(first.ended(), Some(0));
    world.run(&["stop"]).ended(3);
}

#[test]
fn the_socket_is_private_replaced_after_kill_9_and_gone_after_a_stop() {
    let world = World::new();
    let mut daemon = world.serve(&[]);
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.socket()), 0o600);
    assert_eq!(mode(world.socket().parent().unwrap()), 0o700);
    assert_eq!(mode(&world.state()), 0o700);
    let recorded = std::fs::read_to_string(world.state().join("socket.addr")).unwrap();
    assert_eq!(recorded.trim(), world.socket().display().to_string());
    let http = std::fs::read_to_string(world.state().join("http.addr")).unwrap();
    std::net::TcpStream::connect(http.trim()).unwrap();

    daemon.signal(Signal::SIGKILL);
    daemon.ended();
    assert!(world.socket().exists(), "a killed daemon takes nothing away");
    world.run(&["list"]).ended(3);
    let mut again = world.serve(&[]);
    world.run(&["list"]).ended(0);
    again.signal(Signal::SIGTERM);
    assert_eq!(again.ended(), Some(0));
    assert!(!world.socket().exists() && !world.state().join("http.addr").exists());
}

#[test]
fn hangup_is_ignored_and_an_open_wait_does_not_hold_up_the_end() {
    let world = World::new();
    let mut daemon = world.serve(&["--no-http"]);
    assert!(!world.state().join("http.addr").exists());
    daemon.signal(Signal::SIGHUP);
    let mut idle =
        world.command(&["stdio"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // One that connected only now would find no daemon, and start another.
    writeln!(idle.stdin.as_mut().unwrap(), "{HELLO}").unwrap();
    let mut answer = String::new();
    BufReader::new(idle.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
    assert!(answer.contains("\"id\":1"), "{answer}");
    assert!(daemon.is_alive());
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.ended(), Some(0));
    until("the bridge ends with the daemon", || idle.try_wait().unwrap().is_some());
}

#[test]
fn stdio_starts_a_daemon_adds_the_repository_and_speaks_json_alone() {
    let world = World::new();
    let root = world.dir().join("shop");
    repository(&root);
    let mut bridge = world
        .command(&["stdio"])
        .current_dir(&root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = bridge.stdin.take().unwrap();
    let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"list_adw_projects","arguments":{}}}"#;
    write!(stdin, "{HELLO}\n{ready}\n{call}\n").unwrap();
    // The end of input ends it, but only when the last answer is out.
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    bridge.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    bridge.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(bridge.wait().unwrap().success(), "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let projects = lines.iter().find(|l| l["id"] == 2).unwrap();
    let project = &projects["result"]["structuredContent"]["projects"][0];
    assert_eq!(project["name"], "shop", "{out}");
    assert!(err.contains("started one in the background") && err.contains("now serving"), "{err}");

    // It does not stay in the folder that its starter happened to be in.
    let lock = std::fs::read_to_string(world.state().join("adwd.lock")).unwrap();
    let cwd = std::fs::read_link(format!("/proc/{}/cwd", lock.trim())).unwrap();
    assert_eq!(cwd, std::path::Path::new("/"));

    // The same repository by path, by name, and from a folder inside it.
    let listed = world.run(&["project", "list"]).ended(0).out;
    assert!(listed.starts_with("shop\t"), "{listed}");
    let again = world.run(&["--json", "project", "add", root.to_str().unwrap()]).ended(0).json();
    assert_eq!(again["added"], false);
    world.run(&["list", "--project", "shop"]).ended(0);
    world.run(&["list", "--project", root.to_str().unwrap()]).ended(0);
    world.run(&["project", "remove", "shop"]).ended(0);
    world.run(&["project", "remove", "shop"]).ended(5);
    world.run(&["stop"]).ended(0);
}

#[test]
fn answers_of_the_daemon_have_exit_codes_and_hints_in_shell_words() {
    let world = World::new();
    let _daemon = world.serve(&[]);
    let unknown = world.run(&["state", "nobody00"]).ended(5);
    assert!(unknown.err.contains("hint: call `adwd list` to see"), "{unknown:?}");
    assert_eq!(
        world.run(&["--json", "wait", "nobody00"]).ended(5).json()["error"]["code"],
        "unknown_run"
    );
    world.run(&["logs", "nobody00"]).ended(5);
    world.run(&["cancel", "../../x"]).ended(5);
    assert!(world.run(&["trigger", "1"]).ended(5).err.contains("project add"));
    world.run(&["trigger", "1", "--project", "nope"]).ended(5);
    let page = world.run(&["--json", "list"]).ended(0).json();
    assert_eq!(page["total"], 0);
}

#[test]
fn a_socket_path_that_is_too_long_is_named_before_anything_is_made() {
    let world = World::new();
    let long = world.dir().join("x".repeat(120));
    let done = world.run(&["serve", "--runtime-dir", long.to_str().unwrap()]).ended(2);
    assert!(done.err.contains("107") && done.err.contains("runtime_dir"), "{done:?}");
    assert!(!world.state().exists());
}

#[test]
fn a_daemon_in_another_runtime_folder_is_found_through_its_state_folder() {
    let world = World::new();
    let other = world.dir().join("elsewhere");
    let _daemon = world.serve(&["--runtime-dir", other.to_str().unwrap()]);
    world.run(&["list"]).ended(0);
    assert!(!world.socket().exists());
}

#[test]
fn the_demo_keeps_its_promises_and_leaves_nothing() {
    let world = World::new().with_path(&crate::cli_support::uv_folder());
    let stage = world.dir().join("stage");
    let done = world.run(&["--json", "demo", "--dir", stage.to_str().unwrap()]).ended(0);
    let report = done.json();
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{report:#}");
    assert_eq!((&runs[0]["killed"], &runs[1]["killed"]), (&Value::Bool(false), &Value::Bool(true)));
    for run in runs {
        assert_eq!(run["status"], "completed");
        assert!(run["diff"].as_str().unwrap().contains("+++ b/tally.sh"));
        assert!(run["pull_request"].as_str().unwrap().contains("Review passed"));
        assert!(run["attempts"].as_object().unwrap().values().all(|n| n == 1), "{run:#}");
    }
    assert!(!stage.exists(), "it cleans up");
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(stage.to_str().unwrap())
    });
    assert_eq!(left.count(), 0, "it ends every process");
}
