//! A peer for the same work, where it is on the search path: pueue 4, a queue of shell commands.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::common::Times;
use crate::stage::ms_between;

/// Longer than anything takes that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon of pueue with folders of its own; ended with this value.
pub struct Pueue {
    dir: TempDir,
    daemon: Child,
}

impl Pueue {
    /// Starts one, where both of its programs are there.
    pub fn find() -> Option<Pueue> {
        let path = std::env::var_os("PATH")?;
        let there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
        if !there("pueue") || !there("pueued") {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("adwd-bench-").tempdir().unwrap();
        let at = dir.path().display();
        let config = format!(
            "shared:\n  pueue_directory: {at}\n  runtime_directory: {at}\n  use_unix_socket: true\n  \
             unix_socket_path: {at}/socket\ndaemon:\n  callback: null\nclient: {{}}\nprofiles: {{}}\n"
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut command = Command::new("pueued");
        command.arg("-c").arg(dir.path().join("config.yml"));
        let daemon = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pueue = Pueue { dir, daemon };
        let begun = Instant::now();
        while !pueue.client(&["status"]).status().unwrap().success() {
            assert!(begun.elapsed() < PATIENCE, "pueued does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(pueue)
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new("pueue");
        command.arg("-c").arg(self.dir.path().join("config.yml")).args(words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) {
        let status = self.client(words).status().unwrap();
        assert!(status.success(), "pueue {words:?}");
    }

    fn add(&self, program: &Path, marks: &Path, script: &str, name: &str) {
        let program = program.display().to_string();
        let mut command = self.client(&["add", "--", &program, "run", script, name]);
        command.env("BENCH_MARKS", marks);
        assert!(command.status().unwrap().success());
    }

    /// From a task that is added to its first instruction, with free slots.
    pub fn begins(&self, program: &Path, marks: &Path, count: u32) -> Times {
        self.run(&["parallel", "4"]);
        let times = (0..count).map(|n| {
            let name = format!("b{n}");
            let at = SystemTime::now();
            self.add(program, marks, "noop.py", &name);
            ms_between(at, wait_for(&marks.join(name))) * 1e3
        });
        Times::new(times.collect())
    }

    /// From the end of one task to the first instruction of the next, with one slot.
    pub fn slots(&self, program: &Path, marks: &Path, count: u32) -> Times {
        self.run(&["parallel", "1"]);
        let times = (0..count).map(|n| {
            let (first, second) = (format!("s{n}"), format!("t{n}"));
            self.add(program, marks, "rest.py", &first);
            self.add(program, marks, "noop.py", &second);
            let ended = wait_for(&marks.join(format!("{first}.exit")));
            ms_between(ended, wait_for(&marks.join(second))) * 1e3
        });
        Times::new(times.collect())
    }

    /// Tasks that do nothing, from the moment that their queue is opened until all have begun, ms.
    pub fn drain(&self, program: &Path, marks: &Path, at_once: u32, count: u32) -> f64 {
        self.run(&["parallel", &at_once.to_string()]);
        self.run(&["pause"]);
        let names: Vec<PathBuf> = (0..count).map(|n| marks.join(format!("d{n}"))).collect();
        for name in &names {
            let name = name.file_name().unwrap().to_str().unwrap();
            self.add(program, marks, "noop.py", name);
        }
        let begun = Instant::now();
        self.run(&["start"]);
        for name in &names {
            wait_for(name);
        }
        begun.elapsed().as_secs_f64() * 1e3
    }
}

impl Drop for Pueue {
    fn drop(&mut self) {
        let _ = self.client(&["shutdown"]).status();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn wait_for(mark: &Path) -> SystemTime {
    let begun = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(mark) {
            return SystemTime::UNIX_EPOCH + Duration::from_nanos(text.parse().unwrap());
        }
        assert!(begun.elapsed() < PATIENCE, "no task wrote {}", mark.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}
