//! `adwd content check`: by file and line, without a daemon.

use std::path::Path;

use crate::cli_support::World;

fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

const FLOW: &str =
    "---\nname: flow\ndescription: d\nphases:\n  - phase: one\n    agent: implementer\n";

#[test]
fn a_folder_in_order_ends_with_0_and_may_name_built_in_agents() {
    let world = World::new();
    let folder = world.dir().join("mine");
    put(&folder, "workflows/flow.md", &format!("{FLOW}colour: red\n---\n"));
    let done = world.run(&["content", "check", folder.to_str().unwrap()]).ended(0);
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", done.out);
    let at = format!("{}/workflows/flow.md:7: remark: the key colour", folder.display());
    assert!(lines[0].starts_with(&at), "{}", done.out);
    assert!(lines[1].ends_with("0 agents, 0 rules, 1 workflow can be used; 0 errors, 1 remark"));
    assert!(!world.socket().exists(), "no daemon was started");
}

#[test]
fn what_cannot_be_used_ends_with_1_and_names_file_and_line() {
    let world = World::new();
    let folder = world.dir().join("mine");
    let broken = FLOW.replace("implementer", "nobody");
    put(&folder, "workflows/flow.md", &format!("{broken}    dependsOn: [two]\n---\n"));
    put(&folder, "workflows/far.md", &format!("{}---\n", broken.replace("flow", "far")));
    put(&folder, "agents/a.md", "no front matter\n");
    let path = folder.to_str().unwrap();
    let out = world.run(&["content", "check", path]).ended(1).out;
    assert!(out.contains("/workflows/flow.md:5: error: phase \"one\" depends on \"two\""), "{out}");
    assert!(out.contains("/workflows/far.md:5: error: phase \"one\": no agent is named"), "{out}");
    assert!(out.contains("/agents/a.md:1: error: the file has no front matter"), "{out}");
    let json = world.run(&["content", "check", path, "--json"]).ended(1).json();
    assert_eq!(json["ok"], false);
    // Also of a file in which something else is wrong: one look is enough to mend it.
    assert!(out.contains("/workflows/flow.md:5: error: phase \"one\": no agent is named"), "{out}");
    assert_eq!(json["problems"].as_array().unwrap().len(), 4);
    assert_eq!(json["problems"][0]["path"], "agents/a.md");
    assert_eq!(json["problems"][0]["line"], 1);
    assert_eq!(json["problems"][0]["fatal"], true);
}

#[test]
fn no_folder_is_wrong_usage() {
    let world = World::new();
    let done = world.run(&["content", "check", "/nowhere/at/all"]).ended(2);
    assert!(done.err.contains("/nowhere/at/all is no folder"), "{}", done.err);
    world.run(&["content", "check"]).ended(2);
}

#[test]
fn it_works_while_the_configuration_is_wrong_and_on_what_ships() {
    let world = World::new();
    put(&world.dir().join("home"), ".config/adwd/config.toml", "nonsense = 1\n");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/automation/content");
    let json = world.run(&["content", "check", shipped, "--json"]).ended(0).json();
    assert_eq!((&json["agents"], &json["workflows"]), (&10.into(), &7.into()));
    assert_eq!(json["problems"].as_array().unwrap().len(), 0, "{json}");
}

#[test]
fn a_content_folder_of_the_configuration_is_shown_and_checked() {
    let world = World::new();
    let home = world.dir().join("home");
    put(&home, ".config/adwd/config.toml", "[[content]]\npath = \"~/mine\"\n");
    let show = world.run(&["config", "show"]).ended(0).out;
    assert!(show.contains(&format!("content.1\t{}/mine\t", home.display())), "{show}");
    let done = world.run(&["config", "check"]).ended(2);
    assert!(done.err.contains("/mine is no folder"), "{}", done.err);
    std::fs::create_dir(home.join("mine")).unwrap();
    world.run(&["config", "check"]).ended(0);
    for (text, words) in [
        ("[[content]]\npaht = \"x\"\n", "content.paht"),
        ("[[content]]\n", "expected path"),
        ("[[content]]\npath = 3\n", "expected path"),
        ("[content]\npath = \"x\"\n", "[[content]]"),
        ("[[content]]\npath = \"x\"\n[[content]]\npath = \"./x\"\n", "there twice"),
    ] {
        put(&home, ".config/adwd/config.toml", text);
        let done = world.run(&["config", "check"]).ended(2);
        assert!(done.err.contains(words), "{text}: {}", done.err);
    }
}
