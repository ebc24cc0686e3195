//! What all worlds of a test process stand on: one folder, one uv with one cache, one watchdog.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

struct Ground {
    root: PathBuf,
    /// Closed by the kernel when this process ends; the watchdog waits for that.
    _watchdog: ChildStdin,
}

static GROUND: OnceLock<Ground> = OnceLock::new();
static WORLDS: AtomicU32 = AtomicU32::new(0);
static UV: OnceCell<PathBuf> = OnceCell::const_new();

fn ground() -> &'static Ground {
    GROUND.get_or_init(|| {
        // Short, because a socket's path is bounded; and in /tmp, whatever TMPDIR says. Not named
        // by the process id: in two containers that share /tmp two processes have the same.
        let root = tempfile::Builder::new().prefix("adwe-").tempdir_in("/tmp");
        let root = root.expect("a folder under /tmp").keep();
        Ground { _watchdog: start_watchdog(&root), root }
    })
}

/// A new, empty folder of a world.
pub fn new_root() -> PathBuf {
    let root = ground().root.join(format!("w{}", WORLDS.fetch_add(1, Ordering::SeqCst)));
    fs::create_dir(&root).expect("a world's folder is new");
    root
}

/// The uv of the search path; where there is none, one of the tests' own, made once with pip and
/// kept for the next test process.
pub async fn uv() -> PathBuf {
    let made = UV.get_or_init(async || {
        let path = std::env::var_os("PATH");
        let uid = nix::unistd::geteuid();
        let shelf = std::env::temp_dir().join(format!("adwd-tests-{uid}"));
        if let Some(uv) = adwd::uv::locate(None, path.as_deref(), &shelf) {
            return uv;
        }
        let env: BTreeMap<String, String> = std::env::vars().collect();
        adwd::uv::provision(&shelf, &env, adwd::tool::run_step)
            .await
            .unwrap_or_else(|error| panic!("the tests need uv: {error}"))
    });
    made.await.clone()
}

/// The whole environment of a world.
pub fn environment(root: &Path, uv: &Path) -> BTreeMap<String, String> {
    let text = |path: &Path| path.display().to_string();
    let path = std::env::var("PATH").expect("a search path");
    let uv_folder = uv.parent().expect("uv lies in a folder");
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), format!("{}:{path}", text(uv_folder))),
        ("HOME".to_owned(), text(&root.join("home"))),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("XDG_STATE_HOME".to_owned(), text(&root.join("state"))),
        ("XDG_CONFIG_HOME".to_owned(), text(&root.join("config"))),
        ("XDG_RUNTIME_DIR".to_owned(), text(&root.join("run"))),
        ("GIT_CONFIG_GLOBAL".to_owned(), text(&root.join("gitconfig"))),
        ("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()),
        ("UV_CACHE_DIR".to_owned(), text(&ground().root.join("uv-cache"))),
        ("UV_PYTHON_DOWNLOADS".to_owned(), "never".to_owned()),
        ("UV_OFFLINE".to_owned(), "1".to_owned()),
    ]);
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "PYENV_VERSION"] {
        if let Ok(value) = std::env::var(name) {
            env.insert(name.to_owned(), value);
        }
    }
    env
}

/// Ends what is left and removes the folder when this process is gone, however it went.
fn start_watchdog(root: &Path) -> ChildStdin {
    const SCRIPT: &str = "cat >/dev/null
for pass in 1 2 3; do
    for process in /proc/[0-9]*; do
        if tr '\\0' '\\n' <\"$process/environ\" 2>/dev/null | grep -qF \"$1/\"; then
            kill -9 \"${process#/proc/}\" 2>/dev/null
        fi
    done
done
rm -rf \"$1\"";
    // Never waited for: it outlives this process by design.
    #[allow(clippy::zombie_processes)]
    let mut child = Command::new("sh")
        .args(["-c", SCRIPT, "sh"])
        .arg(root)
        .current_dir("/")
        // Out of the terminal's group: Ctrl-C is for the tests, and their end is its sign.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh starts");
    child.stdin.take().expect("its input is a pipe")
}
