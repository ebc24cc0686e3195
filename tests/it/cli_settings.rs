//! Commands that need no daemon, and what the others say where none runs.

use crate::cli_support::{World, repository};

#[test]
fn every_command_has_help_with_an_example_and_the_long_help_tells_the_exit_codes() {
    let world = World::new();
    let help = world.run(&["--help"]).ended(0).out;
    for text in ["Exit codes:", "130  interrupted", "adwd trigger 42 --wait"] {
        assert!(help.contains(text), "{text}: {help}");
    }
    for command in [
        "serve",
        "stop",
        "stdio",
        "trigger",
        "phase",
        "list",
        "state",
        "logs",
        "cancel",
        "resume",
        "wait",
        "project",
        "doctor",
        "health",
        "config",
        "content",
        "demo",
        "service",
        "completions",
    ] {
        let help = world.run(&[command, "--help"]).ended(0).out;
        assert!(help.contains("Example"), "{command}: {help}");
    }
    assert!(world.run(&["--version"]).ended(0).out.starts_with("adwd "));
}

#[test]
fn completions_are_scripts_of_their_shell() {
    let world = World::new();
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef adwd"), ("fish", "complete -c adwd")]
    {
        let script = world.run(&["completions", shell]).ended(0).out;
        assert!(script.contains(sign) && script.contains("trigger"), "{shell}");
    }
    world.run(&["completions", "tcsh"]).ended(2);
}

#[test]
fn config_says_where_each_value_came_from_and_what_is_wrong_with_one() {
    let world = World::new();
    let show = world.run(&["--json", "config", "show", "--log-level", "warn"]).ended(0).json();
    let of = |key: &str| {
        let all = show["settings"].as_array().unwrap();
        all.iter().find(|s| s["key"] == key).unwrap()["source"].as_str().unwrap().to_owned()
    };
    assert_eq!(of("logs.level"), "flag --log-level");
    assert_eq!(of("http.bind"), "environment variable ADWD_HTTP_BIND");
    assert_eq!(of("limits.max_running"), "default");

    let file = world.dir().join("home/.config/adwd/config.toml");
    assert_eq!(world.run(&["config", "path"]).ended(0).out.trim(), file.display().to_string());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, world.run(&["config", "example"]).ended(0).out).unwrap();
    world.run(&["config", "check"]).ended(0);
    std::fs::write(&file, "[limits]\nmax_runing = 3\n").unwrap();
    let wrong = world.run(&["--json", "config", "check"]).ended(2).json();
    assert_eq!(wrong["error"]["code"], "configuration");
    let message = wrong["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("config.toml:2") && message.contains("limits.max_running"),
        "{message}"
    );
    // What mends it must work meanwhile.
    world.run(&["config", "example"]).ended(0);
}

#[test]
fn without_a_daemon_reading_says_how_to_start_one_and_no_start_is_obeyed() {
    let world = World::new();
    for args in [
        &["list"][..],
        &["state", "x"],
        &["wait", "x"],
        &["logs", "x"],
        &["cancel", "x"],
        &["project", "list"],
        &["--no-start", "trigger", "1"],
        &["--no-start", "stdio"],
    ] {
        let done = world.run(args).ended(3);
        assert!(done.err.contains("adwd serve") && done.out.is_empty(), "{args:?}: {done:?}");
    }
    let json = world.run(&["--json", "list"]).ended(3).json();
    assert_eq!(json["error"]["code"], "no_daemon");
    world.run(&["stop"]).ended(3);
    assert!(!world.state().exists(), "reading makes nothing");
}

#[test]
fn wrong_usage_is_exit_2_and_json_where_asked() {
    let world = World::new();
    let done = world.run(&["trigger"]).ended(2);
    assert!(done.err.contains("<ISSUE>"), "{done:?}");
    let json = world.run(&["nonsense", "--json"]).ended(2).json();
    assert_eq!(json["error"]["code"], "usage");
    world.run(&["trigger", "1", "--timeout", "3"]).ended(2);
    world.run(&["list", "--status", "odd"]).ended(2);
    world.run(&["list", "--since", "soon"]).ended(2);
    world.run(&["project", "detect", "/"]).ended(2);
    world.run(&["project", "add", "/nowhere"]).ended(5);
}

#[test]
fn a_reader_that_goes_away_ends_the_output_quietly() {
    let world = World::new();
    let line = format!("{} config show | head -1", env!("CARGO_BIN_EXE_adwd"));
    let mut shell = world.command(&[]);
    let path = shell.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
    #[allow(clippy::disallowed_methods)]
    let done = std::process::Command::new("bash")
        .args(["-o", "pipefail", "-c", &line])
        .env_clear()
        .env("PATH", path)
        .env("HOME", world.dir())
        .output()
        .unwrap();
    shell.arg("--version").output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
}

#[test]
fn doctor_names_what_is_missing_and_how_to_mend_it() {
    let world = World::new();
    let root = world.dir().join("shop");
    repository(&root);
    let args = ["doctor", "--json", "--offline", "--project", root.to_str().unwrap()];
    // A search path with git alone: uv is missing, and that is a failure that says what to do.
    let git = world.dir().join("bin");
    std::fs::create_dir(&git).unwrap();
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("git"))
        .find(|path| path.is_file())
        .unwrap();
    std::os::unix::fs::symlink(real, git.join("git")).unwrap();
    let mut command = world.command(&args);
    command.env("PATH", &git);
    let done = crate::cli_support::Done::of(command.output().unwrap()).ended(1);
    let report = done.json();
    let check = |name: &str| {
        let all = report["checks"].as_array().unwrap();
        all.iter()
            .find(|c| c["check"] == name)
            .unwrap_or_else(|| panic!("{name}: {report:#}"))
            .clone()
    };
    assert_eq!(check("uv")["level"], "fail");
    assert!(check("uv")["mend"].as_str().unwrap().contains("doctor --fix"));
    for name in [
        "state_dir",
        "git",
        "clock",
        "repository",
        "profile",
        "scripts",
        "worktrees",
        "base",
        "strays",
    ] {
        assert_eq!(check(name)["level"], "ok", "{name}: {report:#}");
    }
}

#[test]
fn doctor_mends_what_a_killed_git_left_and_keeps_what_holds_work() {
    let world = World::new().with_path(&crate::cli_support::uv_folder());
    let root = world.dir().join("shop");
    repository(&root);
    // A poisoned repository: an admin folder whose commondir is empty makes git's list fail.
    let poison = root.join(".git/worktrees/half");
    std::fs::create_dir_all(&poison).unwrap();
    std::fs::write(poison.join("commondir"), "").unwrap();
    std::fs::write(poison.join("gitdir"), "/nowhere/.git\n").unwrap();
    std::fs::write(poison.join("HEAD"), "ref: refs/heads/x\n").unwrap();
    let named = root.display().to_string();
    let look = |fix: bool| {
        let mut args = vec!["doctor", "--json", "--offline", "--project", &named];
        if fix {
            args.push("--fix");
        }
        let report = world.run(&args).json();
        let all = report["checks"].as_array().unwrap().clone();
        all.into_iter().filter(|c| c["check"] == "worktrees").collect::<Vec<_>>()
    };
    assert_eq!(look(false)[0]["level"], "fail");
    let fixed = look(true);
    assert!(fixed.iter().any(|c| c["fixed"] == true), "{fixed:?}");
    assert!(look(false).iter().all(|c| c["level"] == "ok"));
    assert!(root.join("file").exists());
}

/// git in a repository; its words.
#[allow(clippy::disallowed_methods)]
fn git(root: &std::path::Path, args: &[&str]) -> String {
    let who = ["-c", "user.name=t", "-c", "user.email=t@t"];
    let done = std::process::Command::new("git").args(who).args(args).current_dir(root).output();
    let done = done.unwrap();
    assert!(done.status.success(), "git {args:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn doctor_forgets_no_worktree_of_the_users_and_stops_no_git_of_theirs() {
    let world = World::new().with_path(&crate::cli_support::uv_folder());
    let root = world.dir().join("shop");
    repository(&root);
    // One on a disk that is away just now, with a commit that nothing but its record holds.
    let (disk, away) = (world.dir().join("disk"), world.dir().join("away"));
    git(&root, &["worktree", "add", "-q", "--detach", disk.to_str().unwrap()]);
    git(&disk, &["commit", "-q", "--allow-empty", "-m", "theirs"]);
    let head = git(&disk, &["rev-parse", "HEAD"]);
    std::fs::rename(&disk, &away).unwrap();
    // One whose making takes long: the checkout of a large repository.
    let making = world.dir().join("making");
    git(&root, &["worktree", "add", "-q", "--detach", making.to_str().unwrap()]);
    let lock = root.join(".git/worktrees/making/locked");
    std::fs::write(&lock, "initializing").unwrap();
    let then = std::fs::metadata(&lock).unwrap().modified().unwrap();
    let hour_ago = then - std::time::Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&lock).unwrap().set_modified(hour_ago).unwrap();

    let named = root.display().to_string();
    let report = world.run(&["doctor", "--json", "--offline", "--fix", "--project", &named]).json();
    let all = report["checks"].as_array().unwrap();
    let told: Vec<_> = all.iter().filter(|c| c["check"] == "worktrees").collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["level"], "warn", "{told:#?}");
    assert!(told[0]["mend"].as_str().unwrap().contains("not ours"), "{told:#?}");
    assert!(making.join("file").exists() && lock.exists());
    std::fs::rename(&away, &disk).unwrap();
    assert_eq!(git(&disk, &["rev-parse", "HEAD"]), head);
}

#[test]
fn the_units_are_what_systemd_understands_and_the_systems_one_scores_well() {
    let world = World::new();
    for args in [&["service", "print", "--user"][..], &["service", "print", "--system"]] {
        let unit = world.run(args).ended(0).out;
        assert!(unit.contains("Type=notify") && unit.contains("WatchdogSec="), "{unit}");
        assert!(unit.contains("KillMode=process"), "runs survive a restart: {unit}");
        analyse(&world, args[2] == "--user", &unit);
    }
    let done = world.run(&["service", "install", "--user"]).ended(0);
    let file = world.dir().join("home/.config/systemd/user/adwd.service");
    assert!(done.out.contains(&file.display().to_string()) && done.err.contains("daemon-reload"));
    assert!(world.run(&["service", "install", "--user"]).ended(0).out.contains("unchanged"));
    std::fs::write(&file, "[Unit]\n").unwrap();
    let refused = world.run(&["service", "install", "--user", "--json"]).ended(1).json();
    assert!(refused["error"]["message"].as_str().unwrap().contains("not written by adwd"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "[Unit]\n");
}

/// `systemd-analyze` where there is one. It exits 0 on unknown keys: silence is what counts.
#[allow(clippy::disallowed_methods)]
fn analyse(world: &World, user: bool, unit: &str) {
    let file = world.dir().join("adwd.service");
    std::fs::write(&file, unit).unwrap();
    let mut command = std::process::Command::new("systemd-analyze");
    command.env("XDG_RUNTIME_DIR", world.dir().join("run"));
    if user {
        command.arg("--user");
    }
    let Ok(done) = command.arg("verify").arg(&file).output() else {
        eprintln!("SKIPPED: no systemd-analyze here; the units were not verified");
        return;
    };
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}");
    if !user {
        let mut command = std::process::Command::new("systemd-analyze");
        let args = ["security", "--offline=true", "--threshold=40", "--no-pager"];
        let done = command.args(args).arg(&file).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
}

#[test]
fn an_address_that_is_not_listened_on_is_a_wrong_setting_and_not_a_failure_to_be_tried_again() {
    let world = World::new();
    for command in [&["config", "check"][..], &["serve"]] {
        let done = world.run(&[command, &["--http-bind", "0.0.0.0:0"]].concat()).ended(2);
        assert!(done.err.contains("http.tls_cert and http.tls_key"), "{done:?}");
    }
    world.run(&["config", "check", "--http-bind", "0.0.0.0:0", "--no-http"]).ended(0);
}
