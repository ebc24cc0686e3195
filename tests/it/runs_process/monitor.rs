//! What the monitor does with a phase.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use adwd::runs::cgroup;
use adwd::runs::process::{ProcessError, ScopeSpec, find_program, launch_monitor, monitor_program};
use adwd::runs::records::{Probe, StopReason, request_stop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::attempt::{Attempt, lives, until};
use crate::world;

#[tokio::test]
async fn the_small_program_is_taken_where_it_is_of_this_version() {
    let ours = Path::new(world::ADWD);
    assert_eq!(monitor_program(ours).await, ours.with_file_name("adwd-monitor"));
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("adwd");
    assert_eq!(monitor_program(&alone).await, alone, "nothing is beside it");
    let beside = folder.path().join("adwd-monitor");
    for other in ["echo adwd-monitor 0.0.1", "exit 1", "exec sleep 60"] {
        std::fs::write(&beside, format!("#!/bin/sh\n{other}\n")).unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(monitor_program(&alone).await, alone, "{other}");
    }
}

#[tokio::test]
async fn the_exit_the_log_and_the_usage_are_recorded() {
    let mut attempt = Attempt::sh("echo out; echo err >&2; echo \"$SECRET\" | wc -c; exit 7");
    attempt.env.insert("SECRET".into(), "hunter2".into());
    attempt.start().await;
    let exit = attempt.end().await;
    assert_eq!((exit.code, exit.signal, exit.stopped), (Some(7), None, None));
    assert_eq!((exit.swept, exit.spawn_error), (0, None));
    assert!(exit.max_rss_kb > 0 && exit.ended_at >= exit.started_at);
    assert_eq!(attempt.log(), "out\nerr\n8\n");
    for file in std::fs::read_dir(attempt.dir()).unwrap().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains("hunter2"), "{} holds a secret", file.path().display());
    }
}

#[tokio::test]
async fn a_phase_starts_clean() {
    let script = "grep -E 'SigBlk|SigIgn' /proc/self/status; cat; env | grep ADWD_; \
                  ls -l /proc/self/fd; ps -o sid=,pgid= -p $$";
    let attempt = Attempt::sh(script);
    attempt.start().await;
    attempt.end().await;
    let log = attempt.log();
    let mask = |name: &str| {
        let text = log.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        u64::from_str_radix(text.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0, "signals are blocked in the phase:\n{log}");
    // SIGPIPE is 13: a phase that ignores it does not notice a closed pipe.
    assert_eq!(mask("SigIgn:") & (1 << 12), 0, "{log}");
    assert!(log.contains(&format!("ADWD_INTERNAL_ATTEMPT={}\n", attempt.dir().display())), "{log}");
    // Whoever started the tests may have leaked descriptors; the monitor adds none of its own.
    let ours = log
        .lines()
        .filter(|l| l.contains(" -> ") && l.contains(&*attempt.dir().to_string_lossy()))
        .count();
    assert_eq!(ours, 2, "only stdout and stderr are the log's:\n{log}");
    assert!(!log.contains("run.lock") && !log.contains("signalfd"), "a descriptor leaked:\n{log}");
}

#[tokio::test]
async fn launching_many_times_runs_the_phase_once() {
    let attempt = Attempt::sh("echo run >> runs; while [ ! -e go ]; do sleep 0.02; done");
    let launch = attempt.launch();
    let all = futures::future::join_all((0..6).map(|_| launch_monitor(&launch))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    std::fs::write(attempt.cwd().join("go"), "").unwrap();
    attempt.end().await;
    launch_monitor(&launch).await.unwrap();
    assert_eq!(std::fs::read_to_string(attempt.cwd().join("runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn what_outlives_a_phase_is_swept_wherever_it_hid() {
    let hidden = "setsid sh -c 'setsid sh -c \"trap : TERM; echo \\$\\$ > deep; while :; do sleep 1; done\" </dev/null >/dev/null 2>&1 &' &";
    let bare = "setsid env -i sh -c 'echo $$ > bare; exec sleep 1000' </dev/null >/dev/null 2>&1 &";
    let attempt = Attempt::sh(&format!(
        "{hidden} {bare} while [ ! -s deep ] || [ ! -s bare ]; do sleep 0.02; done; cat go; exit 3"
    ));
    let fifo = attempt.cwd().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    attempt.start().await;
    let (deep, bare) = (attempt.process("deep"), attempt.process("bare"));
    std::fs::write(&fifo, "").unwrap();
    let exit = attempt.end().await;
    assert!(!lives(deep) && !lives(bare), "an escaped process lives");
    assert_eq!((exit.code, exit.stopped), (Some(3), None));
    assert!(exit.swept >= 2, "{exit:?}");
}

#[tokio::test]
async fn a_stop_is_taken_without_a_daemon_and_lets_the_leader_unwind() {
    let attempt = Attempt::sh(
        "trap 'echo saved > saved; exit 42' INT; echo $$ > up; while :; do sleep 0.05; done",
    );
    attempt.start().await;
    attempt.sign("up");
    request_stop(&attempt.dir(), StopReason::Cancel).unwrap();
    request_stop(&attempt.dir(), StopReason::Silence).unwrap();
    let exit = attempt.end().await;
    assert_eq!((exit.code, exit.stopped), (Some(42), Some(StopReason::Cancel)));
    assert_eq!(attempt.sign("saved"), "saved\n");
}

#[tokio::test]
async fn who_ignores_every_request_is_killed() {
    let mut attempt = Attempt::sh(
        "trap '' INT TERM HUP; (setsid sleep 1000 & echo $! > child); echo $$ > up; while :; do sleep 1; done",
    );
    attempt.spec.int_grace_ms = 100;
    attempt.spec.term_grace_ms = 100;
    attempt.start().await;
    let (leader, child) = (attempt.process("up"), attempt.process("child"));
    request_stop(&attempt.dir(), StopReason::Silence).unwrap();
    let exit = attempt.end().await;
    assert_eq!((exit.signal, exit.stopped), (Some(9), Some(StopReason::Silence)));
    assert!(!lives(leader) && !lives(child));
}

#[tokio::test]
async fn a_stopped_tree_is_woken_to_unwind() {
    let mut attempt = Attempt::sh("trap 'exit 5' TERM; echo $$ > up; while :; do sleep 0.05; done");
    attempt.spec.int_grace_ms = 100;
    attempt.start().await;
    let leader = attempt.process("up");
    kill(Pid::from_raw(leader.pid), Signal::SIGSTOP).unwrap();
    request_stop(&attempt.dir(), StopReason::Cancel).unwrap();
    // dash dies of the SIGINT that waited for it, or takes the SIGTERM; it is not killed.
    assert_ne!(attempt.end().await.signal, Some(9));
}

#[tokio::test]
async fn the_wall_clock_limit_ends_a_phase() {
    let mut attempt = Attempt::sh("while :; do sleep 0.05; done");
    attempt.spec.wall_ms = 300;
    attempt.start().await;
    let exit = attempt.end().await;
    assert_eq!(exit.stopped, Some(StopReason::WallLimit));
    assert!(exit.wall_ms >= 300);
}

#[tokio::test]
async fn a_flood_of_output_ends_a_phase() {
    let mut attempt = Attempt::sh("trap '' INT TERM; yes");
    attempt.spec.log_cap_bytes = 10_000;
    attempt.start().await;
    assert_eq!(attempt.end().await.stopped, Some(StopReason::LogLimit));
}

#[tokio::test]
async fn sigterm_to_the_monitor_ends_the_phase() {
    let attempt = Attempt::sh("trap 'exit 9' INT; echo $$ > up; while :; do sleep 0.05; done");
    attempt.start().await;
    attempt.sign("up");
    kill(Pid::from_raw(attempt.started().monitor.pid), Signal::SIGTERM).unwrap();
    let exit = attempt.end().await;
    assert_eq!((exit.code, exit.stopped), (Some(9), Some(StopReason::Signal)));
}

#[tokio::test]
async fn a_leader_that_dies_of_a_signal_says_which() {
    for (name, number) in [("KILL", Some(9)), ("SEGV", Some(11))] {
        let attempt = Attempt::sh(&format!("ulimit -c 0; kill -{name} $$"));
        attempt.start().await;
        let exit = attempt.end().await;
        assert_eq!((exit.code, exit.signal), (None, number));
    }
    // A real-time signal has no name in nix; the end is recorded all the same.
    let attempt = Attempt::sh("kill -40 $$");
    attempt.start().await;
    assert_eq!(attempt.end().await.code, None);
}

#[tokio::test]
async fn what_cannot_be_started_is_recorded_with_its_reason() {
    let attempt = Attempt::argv(&["/nonexistent/uv", "run"]);
    attempt.start().await;
    let why = attempt.end().await.spawn_error.unwrap();
    assert!(why.contains("/nonexistent/uv"), "{why}");

    let mut attempt = Attempt::sh("true");
    attempt.spec.cwd = attempt.cwd().join("gone");
    attempt.start().await;
    let why = attempt.end().await.spawn_error.unwrap();
    assert!(why.contains("gone") && why.contains("working folder"), "{why}");
}

#[tokio::test]
async fn a_stop_before_the_start_starts_nothing() {
    let attempt = Attempt::sh("echo ran > ran");
    request_stop(&attempt.dir(), StopReason::Cancel).unwrap();
    attempt.start().await;
    let exit = attempt.end().await;
    assert_eq!((exit.code, exit.stopped, exit.spawn_error), (None, Some(StopReason::Cancel), None));
    assert!(!attempt.cwd().join("ran").exists());
}

#[tokio::test]
async fn without_a_specification_nothing_starts_and_the_error_says_so() {
    let attempt = Attempt::sh("true");
    let launch = attempt.launch();
    std::fs::remove_file(attempt.dir().join("spec.json")).unwrap();
    let error = launch_monitor(&launch).await.unwrap_err();
    assert!(matches!(error, ProcessError::Monitor { .. }), "{error}");
    assert!(error.to_string().contains("spec.json"), "{error}");
    assert_eq!(attempt.probe(), Probe::NotStarted);
}

#[tokio::test]
async fn the_monitor_is_reaped() {
    let attempt = Attempt::sh("echo $PPID > monitor; while [ ! -e go ]; do sleep 0.02; done");
    attempt.start().await;
    let monitor = attempt.process("monitor");
    std::fs::write(attempt.cwd().join("go"), "").unwrap();
    attempt.end().await;
    for _ in 0..6_000 {
        // A zombie still has its folder.
        if !std::path::Path::new(&format!("/proc/{}", monitor.pid)).exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the monitor stays as a zombie");
}

/// A stand-in for `systemd-run`: as that does, it becomes the command behind `--`.
fn scope(attempt: &Attempt, script: &str) -> ScopeSpec {
    use std::os::unix::fs::PermissionsExt;
    let program = attempt.cwd().join("systemd-run");
    std::fs::write(&program, format!("#!/bin/sh\necho \"$@\" > \"${{0%/*}}/asked\"\n{script}\n"))
        .unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    ScopeSpec { unit: "adw-x-plan-1".into(), program, user: false }
}

#[tokio::test]
async fn a_scope_is_asked_for_and_done_without_where_it_fails() {
    let become_it =
        format!("cd {0}; while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"", "/");
    for script in [become_it.as_str(), "echo no bus >&2; exit 1"] {
        let mut attempt = Attempt::sh("echo ran");
        attempt.scope = Some(scope(&attempt, script));
        attempt.start().await;
        assert_eq!(attempt.end().await.code, Some(0));
        assert_eq!(attempt.log(), "ran\n");
        let asked = attempt.sign("asked");
        assert!(
            asked.contains("--scope")
                && asked.contains("--unit=adw-x-plan-1 -- ")
                && !asked.contains("--user"),
            "{asked}"
        );
    }
}

#[tokio::test]
async fn without_a_control_group_nothing_escapes_either() {
    let unshare = find_program("unshare", std::env::var_os("PATH").unwrap_or_default().as_os_str());
    if !nix::unistd::geteuid().is_root() || unshare.is_none() {
        eprintln!(
            "SKIPPED: hiding the control groups takes root and unshare; an ordinary user has none anyway"
        );
        return;
    }
    let hide = "while [ \"$1\" != -- ]; do shift; done; shift
        exec unshare -m sh -c 'for m in $(awk \"/ - cgroup2 /{print \\$5}\" /proc/self/mountinfo); do umount -l $m; done; exec \"$@\"' sh \"$@\"";
    let mut attempt = Attempt::sh(
        "setsid sh -c 'trap \"\" TERM; echo $$ > deep; while :; do sleep 1; done' & while [ ! -s deep ]; do sleep 0.02; done; cat go",
    );
    attempt.scope = Some(scope(&attempt, hide));
    let fifo = attempt.cwd().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    attempt.spec.term_grace_ms = 100;
    attempt.start().await;
    let deep = attempt.process("deep");
    assert_eq!(attempt.started().cgroup, None);
    request_stop(&attempt.dir(), StopReason::Cancel).unwrap();
    attempt.end().await;
    assert!(!lives(deep));
}

#[tokio::test]
async fn a_script_under_uv_unwinds_when_it_is_stopped() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(uv) = find_program("uv", &path).or_else(|| find_program("/tmp/uvvenv/bin/uv", &path))
    else {
        eprintln!("SKIPPED: no uv on the PATH; `pip install uv` brings it");
        return;
    };
    let mut attempt = Attempt::argv(&[&uv.to_string_lossy(), "run", "--no-project", "phase.py"]);
    attempt.env.insert("PYTHONUNBUFFERED".into(), "1".into());
    let script = "# /// script\n# requires-python = \">=3.11\"\n# ///\nimport subprocess, sys, time\n\
        print('ADW_ID=abc12345')\nagent = subprocess.Popen(['setsid', 'sleep', '1000'])\n\
        open('agent', 'w').write(f'{agent.pid}\\n')\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n\
        \x20   print('unwound')\n    sys.exit(130)\n";
    std::fs::write(attempt.cwd().join("phase.py"), script).unwrap();
    attempt.start().await;
    let agent = attempt.process("agent");
    request_stop(&attempt.dir(), StopReason::Cancel).unwrap();
    let exit = attempt.end().await;
    assert_eq!((exit.code, exit.signal, exit.stopped), (Some(130), None, Some(StopReason::Cancel)));
    assert!(
        attempt.log().contains("ADW_ID=abc12345\n") && attempt.log().contains("unwound\n"),
        "{}",
        attempt.log()
    );
    assert!(!lives(agent));
}

#[tokio::test]
async fn the_phase_is_born_in_its_control_group_which_is_removed() {
    let attempt = Attempt::sh("cat /proc/self/cgroup > seen; echo >> seen; cat go");
    let fifo = attempt.cwd().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    attempt.start().await;
    let start = attempt.started();
    let group = start.cgroup;
    if let Some(dir) = &group {
        let name = dir.file_name().unwrap().to_str().unwrap();
        let seen = attempt.sign("seen");
        assert!(seen.lines().any(|l| l.starts_with("0::") && l.ends_with(name)), "{seen}");
        let members = cgroup::members(dir);
        assert!(members.contains(&start.child.unwrap().pid), "{members:?}");
        assert!(!members.contains(&start.monitor.pid), "the group can be killed: {members:?}");
    }
    std::fs::write(&fifo, "").unwrap();
    attempt.end().await;
    if let Some(dir) = group {
        until("removal of the group", || (!dir.exists()).then_some(()));
    }
}
