//! What is left when a monitor was killed.
// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use adwd::runs::orphans::end_orphans;
use adwd::runs::process::launch_monitor;
use adwd::runs::procfs;
use adwd::runs::records::{Identity, MARK, Probe};

use super::attempt::{Attempt, lives, until};

#[tokio::test]
async fn the_lock_lives_as_long_as_the_tree_and_then_the_attempt_has_vanished() {
    let attempt =
        Attempt::sh("echo run >> runs; echo $$ > up; while [ ! -e go ]; do sleep 0.02; done");
    attempt.start().await;
    attempt.sign("up");
    let start = attempt.kill_monitor();
    assert_eq!(attempt.probe(), Probe::Live { start: Some(start.clone()), monitor_alive: false });
    // A second monitor finds that it was started, and leaves it alone.
    launch_monitor(&attempt.launch()).await.unwrap();
    std::fs::write(attempt.cwd().join("go"), "").unwrap();
    until("end of the tree", || matches!(attempt.probe(), Probe::Vanished(_)).then_some(()));
    launch_monitor(&attempt.launch()).await.unwrap();
    assert_eq!(attempt.probe(), Probe::Vanished(Some(start.clone())));
    assert_eq!(std::fs::read_to_string(attempt.cwd().join("runs")).unwrap(), "run\n");
    // Nobody is left to end; the control group that nobody could remove is.
    assert_eq!(end_orphans(&attempt.dir(), &start, 100).await, 0);
    assert!(start.cgroup.is_none_or(|dir| !dir.exists()));
}

#[tokio::test]
async fn orphans_are_found_and_ended_wherever_they_hid() {
    let attempt = Attempt::sh(
        "setsid sh -c 'trap \"\" TERM; echo $$ > deep; while :; do sleep 1; done' </dev/null >/dev/null 2>&1 &
         env -i sh -c 'echo $$ > bare; exec sleep 1000' </dev/null >/dev/null 2>&1 &
         trap 'echo x > unwound; exit' INT; echo $$ > up; while :; do sleep 0.05; done",
    );
    attempt.start().await;
    let (deep, bare, up) =
        (attempt.process("deep"), attempt.process("bare"), attempt.process("up"));
    let start = attempt.kill_monitor();
    let ended = end_orphans(&attempt.dir(), &start, 300).await;
    assert!(ended >= 3, "{ended}");
    assert!(!lives(deep) && !lives(bare) && !lives(up));
    assert_eq!(attempt.sign("unwound"), "x\n");
    assert!(start.cgroup.is_none_or(|dir| !dir.exists()));
    assert!(matches!(attempt.probe(), Probe::Vanished(_)));
}

#[tokio::test]
async fn a_stranger_is_never_touched() {
    let attempt = Attempt::sh("echo $$ > up; while [ ! -e go ]; do sleep 0.02; done");
    attempt.start().await;
    attempt.sign("up");
    let mut start = attempt.kill_monitor();
    // A stranger that has the marks of another attempt, and the numbers of this one by accident:
    // it leads a session of that number. Of its own, never the test's: that would be everybody's
    // where the tests run in session 0.
    let other = attempt.dir().with_file_name("other");
    let mut stranger = std::process::Command::new("setsid")
        .args(["--wait", "sleep", "1000"])
        .env(MARK, &other)
        .spawn()
        .unwrap();
    let wrapper = i32::try_from(stranger.id()).unwrap();
    let sleeper = until("a session of the stranger's", || {
        let below = procfs::descendants(wrapper).into_iter().map(|p| p.id.pid);
        let led = below
            .chain([wrapper])
            .find(|pid| procfs::process(*pid).is_some_and(|p| p.session == *pid))?;
        procfs::process(led).map(|p| p.id)
    });
    let recycled = Identity { pid: sleeper.pid, start_ticks: 1 };
    std::fs::write(attempt.cwd().join("go"), "").unwrap();
    until("end of the tree", || matches!(attempt.probe(), Probe::Vanished(_)).then_some(()));
    assert_eq!(end_orphans(&attempt.dir(), &start, 100).await, 0);
    start.child = Some(recycled);
    start.monitor = recycled;
    assert_eq!(end_orphans(&attempt.dir(), &start, 100).await, 0);
    assert!(lives(sleeper), "a stranger was ended");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(sleeper.pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn what_a_stranger_left_in_a_session_of_the_monitors_number_is_not_ours() {
    let attempt = Attempt::sh("echo $$ > up; while [ ! -e go ]; do sleep 0.02; done");
    attempt.start().await;
    attempt.sign("up");
    let mut start = attempt.kill_monitor();
    std::fs::write(attempt.cwd().join("go"), "").unwrap();
    until("end of the tree", || matches!(attempt.probe(), Probe::Vanished(_)).then_some(()));
    // As a daemon does it: the leader of the session goes, somebody in it stays.
    let script = "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!";
    let done = std::process::Command::new("setsid").args(["--wait", "sh", "-c", script]).output();
    let pid: i32 = String::from_utf8(done.unwrap().stdout).unwrap().trim().parse().unwrap();
    let left = procfs::process(pid).unwrap();
    assert!(procfs::process(left.session).is_none(), "its leader is gone");
    start.monitor = Identity { pid: left.session, start_ticks: start.monitor.start_ticks };
    assert_eq!(end_orphans(&attempt.dir(), &start, 100).await, 0);
    assert!(lives(left.id), "a stranger was ended");
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_record_of_another_boot_ends_nobody() {
    let attempt = Attempt::sh("echo $$ > up; while [ ! -e go ]; do sleep 0.02; done");
    attempt.start().await;
    let up = attempt.process("up");
    let mut start = attempt.started();
    start.boot_id = "another".into();
    assert_eq!(end_orphans(&attempt.dir(), &start, 100).await, 0);
    assert!(lives(up));
    std::fs::write(attempt.cwd().join("go"), "").unwrap();
    attempt.end().await;
}
