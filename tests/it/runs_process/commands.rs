//! Short commands of the daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adwd::lock::{FileLock, is_locked};
use adwd::runs::process::{Cmd, find_program, output, output_holding};

use super::attempt::{lives, until};

fn sh(script: &str) -> Cmd {
    Cmd {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.into()],
        cwd: None,
        env: BTreeMap::from([("PATH".into(), std::env::var_os("PATH").unwrap_or_default())]),
        stdin: vec![],
        timeout_ms: 60_000,
        max_output_bytes: 1 << 20,
    }
}

#[tokio::test]
async fn nothing_is_inherited_and_both_streams_are_kept() {
    let mut cmd = sh("cat; env | sort; echo progress >&2; echo 'fatal: no' >&2; echo >&2; exit 3");
    cmd.stdin = b"in\n".to_vec();
    cmd.env.insert("A".into(), "b".into());
    let out = output(&cmd).await.unwrap();
    assert_eq!((out.code, out.signal, out.timed_out, out.truncated), (Some(3), None, false, false));
    assert!(out.stdout_text().starts_with("in\nA=b\n"), "{}", out.stdout_text());
    assert!(!out.stdout_text().contains("CARGO"));
    assert_eq!(out.last_error_line(), "fatal: no");
}

#[tokio::test]
async fn more_than_the_bound_is_read_and_dropped() {
    let mut cmd = sh("head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2; echo end");
    cmd.max_output_bytes = 1000;
    let out = output(&cmd).await.unwrap();
    assert!(out.success() && out.truncated);
    assert_eq!((out.stdout.len(), out.stderr.len()), (1000, 1000));
}

#[tokio::test]
async fn a_command_past_its_limit_gets_term_before_kill_with_its_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut cmd = sh(
        "(trap '' TERM; echo $$ >&2; while :; do sleep 1; done) & echo $! > child; trap 'echo term; exit 0' TERM; while :; do sleep 0.05; done",
    );
    cmd.cwd = Some(folder.path().to_path_buf());
    cmd.timeout_ms = 500;
    let out = output(&cmd).await.unwrap();
    assert!(out.timed_out && !out.success());
    assert_eq!(out.stdout_text(), "term\n");
    let child: i32 =
        std::fs::read_to_string(folder.path().join("child")).unwrap().trim().parse().unwrap();
    until("end of the group", || adwd::runs::procfs::process(child).is_none().then_some(()));
}

#[tokio::test]
async fn giving_up_the_wait_ends_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let mut cmd = sh("trap '' TERM; echo $$ > up; while :; do sleep 1; done");
    cmd.cwd = Some(folder.path().to_path_buf());
    let up = folder.path().join("up");
    let look =
        |path: &Path| std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<i32>().ok());
    let id = {
        let running = output(&cmd);
        let found = async {
            loop {
                if let Some(process) = look(&up).and_then(adwd::runs::procfs::process) {
                    return process.id;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! { _ = running => panic!("it ended"), id = found => id }
    };
    until("end of the command", || (!lives(id)).then_some(()));
}

#[tokio::test]
async fn a_grandchild_with_the_pipe_does_not_hold_the_answer_back() {
    let begun = Instant::now();
    let out = output(&sh("echo done; setsid sleep 1000 & echo $! >&2")).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!((out.code, out.stdout_text().as_str()), (Some(0), "done\n"));
    let pid: i32 = String::from_utf8(out.stderr).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
}

#[tokio::test]
async fn a_program_that_is_being_written_is_tried_again() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::copy("/bin/true", &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    // An open for writing makes the kernel answer ETXTBSY.
    let writer = File::options().append(true).open(&program).unwrap();
    let mut cmd = sh("");
    cmd.program = program;
    cmd.args.clear();
    let (out, ()) = tokio::join!(output(&cmd), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(writer);
    });
    assert!(out.unwrap().success());
}

#[tokio::test]
async fn a_missing_program_is_an_error_that_names_it() {
    let mut cmd = sh("");
    cmd.program = PathBuf::from("/nonexistent/gh");
    let text = output(&cmd).await.unwrap_err().to_string();
    assert!(text.contains("/nonexistent/gh") && text.contains("installed"), "{text}");
    assert_eq!(find_program("nonesuch", std::ffi::OsStr::new("/usr/bin:/bin")), None);
    assert!(find_program("sh", std::ffi::OsStr::new("relative:/usr/bin:/bin")).is_some());
}

#[tokio::test]
async fn a_held_lock_lasts_as_long_as_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let lock = FileLock::try_exclusive(&path).unwrap().unwrap().into_inherited();
    let mut cmd = sh("echo $$ > up; while [ ! -e go ]; do sleep 0.02; done");
    cmd.cwd = Some(folder.path().to_path_buf());
    let task = tokio::spawn(async move { output_holding(&cmd, &lock).await });
    let up = folder.path().join("up");
    while !up.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_locked(&path).unwrap());
    std::fs::write(folder.path().join("go"), "").unwrap();
    assert!(task.await.unwrap().unwrap().success());
    assert!(!is_locked(&path).unwrap());
}
