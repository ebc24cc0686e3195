//! Calls of the kernel that fail: `fsync`, `rename`, files and processes that cannot be had. Injected
//! with strace, or by taking limits away from a living daemon.

use std::fs;

use serde_json::json;

use crate::crash_support::{
    attempt_dir, counts, ends_well, exit_record, monitor, nothing_is_left, resume, shop,
    trigger_issue,
};
use crate::machine_support::{Faults, done, integrity, says, skipped};
use crate::mcp_support::{call, ok};
use crate::world::{Agent, SOON, World, eventually, state, wait_ended, wait_removed, wait_status};

/// Each way in which the record of the end can fail once or twice: the monitor tries again.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_could_not_be_recorded_is_recorded_at_the_next_try() {
    let world = World::new().await;
    let orders = Agent::good().on("implementor", "gate \"build-$ADW_ISSUE_NUMBER\"");
    let repo = shop(&world, &orders);
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    for (n, inject) in [
        (1, "fsync:error=EIO"),
        (2, "rename,renameat,renameat2:error=ENOSPC"),
        (3, "openat:error=EMFILE"),
    ] {
        let id = trigger_issue(&client, n).await;
        world.at_gate(&format!("build-{n}")).await;
        let who = monitor(&world).await;
        let Some(faults) = Faults::into(&world, who.pid, inject).await else { return };
        world.open_gate(&format!("build-{n}"));
        faults.struck(2).await;
        let dir = attempt_dir(&repo, &id, "build", 1);
        assert!(exit_record(&dir).is_none(), "{inject}");
        assert_eq!(state(&client, &id).await["status"], "running", "{inject}");
        faults.end().await;
        ends_well(&world, &repo, &client, &id).await;
        let left = fs::read_dir(&dir).unwrap().flatten().map(|e| e.file_name());
        let left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
        assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
    }
}

/// A disk that fails under the database: what cannot be promised is refused, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_reach_the_disk_refuses_and_goes_on_later() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    let inject = "fsync,fdatasync,sync_file_range:error=EIO";
    let Some(faults) = Faults::into(&world, daemon.pid(), inject).await else { return };
    let given = json!({ "issue_number": 2, "idempotency_key": "two" });
    let error = eventually("a trigger is refused", SOON, async || {
        let answer = call(&client, "trigger_adw_workflow", given.clone()).await;
        if answer.is_error == Some(true) {
            Ok(answer.structured_content.unwrap()["error"].clone())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    assert_eq!(error["code"], "database", "{error:#}");
    says(
        error["message"].as_str().unwrap(),
        &["reading or writing its file failed", "check the disk"],
    );
    assert_eq!(state(&client, &id).await["status"], "running");
    world.open_gate("build");
    crate::crash_support::recorded(&attempt_dir(&repo, &id, "build", 1)).await;
    faults.struck(2).await;
    faults.end().await;
    ends_well(&world, &repo, &client, &id).await;
    let second = ok(&client, "trigger_adw_workflow", given.clone()).await["adw_id"].clone();
    assert_eq!(ok(&client, "trigger_adw_workflow", given).await["adw_id"], second);
    ends_well(&world, &repo, &client, second.as_str().unwrap()).await;
    let list = ok(&client, "list_adw_workflows", json!({})).await;
    assert_eq!(list["workflows"].as_array().unwrap().len(), 2, "{list:#}");
    integrity(&world.database_url()).await;
}

/// What the daemon writes for an attempt cannot be put in place: named, and mended by a resume.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_folder_fails_is_named_and_a_resume_does_it() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("planner", "gate plan"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("plan").await;
    let inject = "rename,renameat,renameat2:error=EIO";
    let Some(faults) = Faults::into(&world, daemon.pid(), inject).await else { return };
    world.open_gate("plan");
    let run = wait_ended(&client, &id).await;
    assert_eq!(
        (&run["status"], &run["failure"]["class"]),
        (&json!("failed"), &json!("environment")),
        "{run:#}"
    );
    let place = attempt_dir(&repo, &id, "build", 1).display().to_string();
    says(
        run["failure"]["message"].as_str().unwrap(),
        &["build phase could not be started", &place, "Input/output error"],
    );
    assert!(faults.count() > 0);
    faults.end().await;
    world.quiet().await;
    resume(&client, &id).await;
    wait_status(&client, &id, "completed").await;
    let run = wait_removed(&client, &id).await;
    assert_eq!(counts(&run), [1, 2, 1], "{run:#}");
    nothing_is_left(&world, &repo).await;
}

fn open_files(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_file_descriptors_loses_nothing_and_comes_back() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("planner", "gate plan"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("plan").await;
    let pid = daemon.pid().to_string();
    let soft = |value: &str| done(&["prlimit", "--pid", &pid, &format!("--nofile={value}:")]);
    let before = soft_limit(daemon.pid());
    soft(&(open_files(daemon.pid()) + 1).to_string());
    // Who connects now is not served, and the daemon does not spin.
    let turned_away = tokio::net::UnixStream::connect(world.socket()).await;
    world.open_gate("plan");
    crate::crash_support::recorded(&attempt_dir(&repo, &id, "plan", 1)).await;
    let used = cpu_ticks(daemon.pid());
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let spent = cpu_ticks(daemon.pid()) - used;
    assert!(spent < 150, "{spent} ticks of CPU in 2 s");
    drop(turned_away);
    soft(&before);
    let run = wait_ended(&client, &id).await;
    if run["status"] == "failed" {
        // The next phase may have found no descriptor to start with: that is said.
        says(run["failure"]["message"].as_str().unwrap(), &["Too many open files"]);
        resume(&client, &id).await;
        wait_status(&client, &id, "completed").await;
    }
    let run = wait_removed(&client, &id).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    nothing_is_left(&world, &repo).await;
    let other = daemon.client().await;
    assert_eq!(state(&other, &id).await["status"], "completed");
}

fn soft_limit(pid: i32) -> String {
    let said =
        done(&["prlimit", "--pid", &pid.to_string(), "--nofile", "-o", "SOFT", "--noheadings"]);
    said.trim().to_owned()
}

/// User and system time of a process, in hundredths of a second.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 1..].split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A control group that allows no further process; removed when dropped.
struct NoMore(std::path::PathBuf);

impl NoMore {
    /// Of `pids` in either hierarchy; `None`, loudly, where there is none that can be written.
    fn around(pid: i32) -> Option<NoMore> {
        for root in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let dir = std::path::Path::new(root).join(format!("adwd-test-{pid}"));
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            let group = NoMore(dir);
            if group.0.join("pids.max").exists()
                && fs::write(group.0.join("cgroup.procs"), pid.to_string()).is_ok()
            {
                return Some(group);
            }
        }
        skipped("no pids control group that can be written: the limit of processes was not tried");
        None
    }

    fn allow(&self, more: Option<u64>) {
        let text = match more {
            None => "max".to_owned(),
            Some(more) => {
                let now = fs::read_to_string(self.0.join("pids.current")).unwrap();
                (now.trim().parse::<u64>().unwrap() + more).to_string()
            }
        };
        fs::write(self.0.join("pids.max"), text).unwrap();
    }
}

impl Drop for NoMore {
    fn drop(&mut self) {
        let root = self.0.parent().unwrap().join("cgroup.procs");
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(&root, pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_allows_no_further_process_fails_a_run_by_name() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good());
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let Some(group) = NoMore::around(daemon.pid()) else { return };
    group.allow(Some(0));
    let answer = call(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let told = answer.structured_content.unwrap();
    if answer.is_error == Some(true) {
        // The database itself may want a thread more.
        assert_eq!(told["error"]["code"], "database", "{told:#}");
        says(told["error"]["message"].as_str().unwrap(), &["no file, thread or process left"]);
        group.allow(None);
        let id = trigger_issue(&client, 1).await;
        ends_well(&world, &repo, &client, &id).await;
        return;
    }
    let id = told["adw_id"].as_str().unwrap().to_owned();
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["status"], "failed", "{run:#}");
    assert_eq!(counts(&run), [0, 0, 0], "{run:#}");
    says(run["failure"]["message"].as_str().unwrap(), &["Resource temporarily unavailable"]);
    assert_eq!(run["failure"]["retryable"], true, "{run:#}");
    group.allow(None);
    resume(&client, &id).await;
    ends_well(&world, &repo, &client, &id).await;
}
