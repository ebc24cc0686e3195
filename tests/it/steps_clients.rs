//! The official Python and TypeScript clients, led through every shipped workflow by a real daemon.
// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::cli_support::{self, World};
use crate::node::{self, scripts};

/// A world with a daemon that does not slow its clients down and lets those on loopback work.
fn world() -> World {
    let world = World::new();
    let folder = world.dir().join("home/.config/adwd");
    std::fs::create_dir_all(&folder).unwrap();
    let settings = "[steps]\nrate_limits = false\n[http]\ntrust_loopback = true\n";
    std::fs::write(folder.join("config.toml"), settings).unwrap();
    world
}

/// Runs a client's script with the two roads as its arguments; answers what it reports.
fn run(world: &World, mut client: Command) -> Value {
    let address = std::fs::read_to_string(world.state().join("http.addr")).unwrap();
    client.arg(format!("http://{}/mcp", address.trim()));
    client.args([env!("CARGO_BIN_EXE_adwd"), "stdio", "--no-start"]);
    client.env("HOME", world.dir().join("home")).env("XDG_RUNTIME_DIR", world.dir().join("run"));
    for name in ["XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
        client.env_remove(name);
    }
    let Output { status, stdout, stderr } = client.output().expect("the client starts");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status}\n{out}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{err}"))
}

/// What every client must have seen, on every way it came.
fn check(report: &Value, ways: usize) {
    let name = regex::Regex::new("^[a-zA-Z0-9_-]{1,64}$").unwrap();
    let report = report.as_object().unwrap();
    assert_eq!(report.len(), ways, "{:?}", report.keys());
    for (way, seen) in report {
        for tool in seen["tools"].as_array().unwrap() {
            assert!(name.is_match(tool.as_str().unwrap()), "{way}: {tool}");
        }
        let workflows = seen["workflows"].as_array().unwrap();
        assert!(workflows.len() >= 7, "{way}: {workflows:?}");
        let walks = seen["walks"].as_object().unwrap();
        assert_eq!(walks.len(), workflows.len() * 2, "{way}");
        for (walk, steps) in walks {
            assert!(steps.as_array().unwrap().len() >= 3, "{way}, {walk}: {steps}");
        }
    }
}

#[test]
fn the_python_client_is_led_through_every_workflow() {
    let world = world();
    let _daemon = world.serve(&[]);
    let mut client = Command::new(cli_support::uv_folder().join("uv"));
    client.args(["run", "--no-project", "--no-progress", "--with", "mcp==2.3.0"]).arg("python");
    client.arg(scripts().join("steps.py")).env("UV_SYSTEM_CERTS", "1");
    // The packages are those of the machine, not of the world's empty home.
    if let Some(home) = std::env::var_os("HOME") {
        client.env("UV_CACHE_DIR", Path::new(&home).join(".cache/uv"));
    }
    check(&run(&world, client), 4);
}

#[test]
fn the_typescript_clients_are_led_through_every_workflow() {
    let Some(node) = node::node("the official TypeScript clients on step workflows were") else {
        return;
    };
    let world = world();
    let _daemon = world.serve(&[]);
    check(&run(&world, node.script("steps.mjs")), 5);
}
