//! What the tests of a hostile machine share: folders with little room that only the daemon sees,
//! faults injected from outside, and what a test says that cannot have them here.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use adwd::db::Db;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{SOON, World, eventually};

/// Says that something was not tried; straight to the file descriptor, because libtest keeps what a
/// passing test prints to itself.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED ({why})\n");
}

/// Whether a program is there and does that.
fn works(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a program that must succeed.
#[track_caller]
pub fn done(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{words:?}: {e}"));
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// `unshare` into mounts of its own, as root or as an ordinary user; `None`, loudly, where the
/// kernel does not let us.
fn unshare() -> Option<Vec<&'static str>> {
    let words = if is_root() {
        vec!["unshare", "-m", "--propagation", "private"]
    } else {
        vec!["unshare", "-Urm", "--propagation", "private"]
    };
    let mut probe = words.clone();
    probe.extend(["mount", "-t", "tmpfs", "none", "/mnt"]);
    if works(&probe) {
        return Some(words);
    }
    skipped("no mount namespace here: needs root or user namespaces; a full disk was not tried");
    None
}

/// The mounts of a daemon: `$1 $2` a size and a folder, until `--`. A folder `copy:PATH` begins with
/// what is in it, a size `ro` is the folder itself, read-only.
const MOUNTS: &str = r#"set -e
while [ "$1" != -- ]; do
    size=$1 folder=${2#copy:}
    if [ "$size" = ro ]; then
        mount --bind "$folder" "$folder"
        mount -o remount,bind,ro "$folder"
    elif [ "$folder" != "$2" ]; then
        mount -t tmpfs -o "size=$size" none "$KEEP"
        cp -a "$folder/." "$KEEP/"
        mount --move "$KEEP" "$folder"
    else
        mkdir -p "$folder"
        mount -t tmpfs -o "size=$size,mode=0700" none "$folder"
    fi
    shift 2
done
shift
exec "$@"
"#;

/// Has the world's daemons see these folders as small disks of their own; see [`MOUNTS`]. `false`
/// where that cannot be had. What is in them ends with the daemon and its runs.
pub fn on_small_disks(world: &World, disks: &[(&str, &str)]) -> bool {
    let Some(unshare) = unshare() else { return false };
    let keep = world.path("keep");
    fs::create_dir_all(&keep).unwrap();
    let script = MOUNTS.replace("$KEEP", &keep.display().to_string());
    let mut words: Vec<String> = unshare.into_iter().map(str::to_owned).collect();
    words.extend(["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]);
    for (size, folder) in disks {
        let folder = match folder.strip_prefix("copy:") {
            Some(folder) => format!("copy:{}", world.path(folder).display()),
            None => world.path(folder).display().to_string(),
        };
        words.extend([(*size).to_owned(), folder]);
    }
    words.push("--".to_owned());
    world.launch_by(words);
    true
}

/// The machine as a daemon with mounts of its own sees it.
pub struct Inside {
    pid: i32,
}

impl Inside {
    pub fn of(pid: i32) -> Inside {
        Inside { pid }
    }

    /// A path there, as a path here.
    pub fn path(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.pid, path.display()))
    }

    /// Runs a program there, in a folder.
    pub fn run(&self, folder: &Path, words: &[&str]) -> String {
        let (pid, folder) = (self.pid.to_string(), folder.display().to_string());
        let mut all = vec!["nsenter", "-t", pid.as_str(), "-m"];
        if !is_root() {
            all.extend(["-U", "--preserve-credentials"]);
        }
        all.extend(["sh", "-c", "cd \"$1\"; shift; exec \"$@\"", "sh", folder.as_str()]);
        all.extend(words);
        done(&all)
    }

    /// Fills the disk of a folder to the last byte.
    pub fn fill(&self, folder: &Path) {
        let mut file = fs::File::create(self.path(&folder.join(FILLER))).unwrap();
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// Makes room again.
    pub fn make_room(&self, folder: &Path) {
        fs::remove_file(self.path(&folder.join(FILLER))).unwrap();
    }

    /// Insists that the database is whole. Asked there: SQLite follows the link to the root.
    pub fn database_is_whole(&self, world: &World) {
        let ask = "import sqlite3, sys\n\
                   print(*sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone())";
        let file = world.state_dir().join("adwd.db").display().to_string();
        assert_eq!(self.run(&world.root, &["python3", "-c", ask, &file]), "ok\n");
    }
}

const FILLER: &str = ".filler";

/// Insists that an SQLite database is whole.
pub async fn integrity(url: &str) {
    let db = Db::open(url).await.unwrap();
    let (said,): (String,) = db.one("PRAGMA integrity_check", vec![]).await.unwrap();
    assert_eq!(said, "ok");
    db.close().await;
}

/// `strace` on a process, injecting faults until it is taken off.
pub struct Faults {
    tracer: Child,
    out: PathBuf,
}

impl Faults {
    /// Injects into a living process and all its threads; `None`, loudly, where that cannot be had.
    /// `inject` as strace has it: `fsync,fdatasync:error=EIO`.
    pub async fn into(world: &World, pid: i32, inject: &str) -> Option<Faults> {
        let words = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"];
        if !works(&words) {
            skipped(
                "strace is not there or may not trace: apt-get install strace; no fault was injected",
            );
            return None;
        }
        let out = world.path(&format!("strace-{pid}"));
        let calls = inject.split(':').next().unwrap();
        let tracer = Command::new("strace")
            .args(["-f", "-qq", "-p", &pid.to_string(), "-o", out.to_str().unwrap()])
            .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let faults = Faults { tracer, out };
        let traced = format!("/proc/{pid}/status");
        eventually("it is traced", SOON, async || {
            let status = fs::read_to_string(&traced).unwrap();
            let by = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap();
            if by.trim() == "0" { Err("not yet".to_owned()) } else { Ok(()) }
        })
        .await;
        Some(faults)
    }

    /// How many calls failed by it so far.
    pub fn count(&self) -> usize {
        fs::read_to_string(&self.out).unwrap_or_default().matches("(INJECTED)").count()
    }

    /// Waits until that many calls failed.
    pub async fn struck(&self, times: usize) {
        eventually(&format!("{times} calls failed"), SOON, async || {
            let count = self.count();
            if count >= times { Ok(()) } else { Err(format!("{count}")) }
        })
        .await;
    }

    /// Takes it off: from now on everything works.
    pub async fn end(mut self) {
        let _ = kill(Pid::from_raw(self.tracer.id().cast_signed()), Signal::SIGINT);
        eventually("strace is off", SOON, async || {
            self.tracer.try_wait().unwrap().ok_or_else(|| "it is there".to_owned())
        })
        .await;
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}

/// What the daemon has logged so far.
pub fn log_of(state_dir: &Path) -> String {
    let files = fs::read_dir(state_dir.join("logs")).into_iter().flatten().flatten();
    let files = files.map(|entry| entry.path()).filter(|path| !path.is_symlink());
    files.map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
}

/// Insists that a sentence holds all these words.
#[track_caller]
pub fn says(sentence: &str, words: &[&str]) {
    assert!(words.iter().all(|word| sentence.contains(word)), "{words:?} in {sentence:?}");
}
