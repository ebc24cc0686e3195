//! A throw-away PostgreSQL server, one for each test process, started by the first test that asks.
//!
//! It listens on a Unix socket only, in a short folder under /tmp, with fsync off. It ends with the
//! test process however that ends: a watchdog shell reads a pipe of which this process holds the
//! other end, and at end of file stops the server and removes the folder.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The server of this test process.
struct Server {
    /// Folder of the socket; short, because a socket's path is bounded.
    folder: PathBuf,
    /// Where `createdb` and the others are.
    bin: PathBuf,
    /// Closed by the kernel when this process ends; the watchdog waits for that.
    _watchdog: ChildStdin,
}

static SERVER: OnceLock<Option<Server>> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The URL of a fresh, empty database; `None` (said loudly) where there is no PostgreSQL.
pub fn fresh_database() -> Option<String> {
    let server = SERVER.get_or_init(|| start("", |_, _| String::new())).as_ref()?;
    let name = format!("t{}", DATABASES.fetch_add(1, Ordering::SeqCst));
    let folder = server.folder.display();
    let output = Command::new(server.bin.join("createdb"))
        .args(["-h", &folder.to_string(), "-U", "postgres", &name])
        .output()
        .expect("createdb starts");
    assert!(output.status.success(), "createdb: {}", String::from_utf8_lossy(&output.stderr));
    Some(format!("postgres:///{name}?host={folder}&user=postgres"))
}

/// A server of its own, to be stopped and started again; it ends with the test process.
pub struct AloneServer {
    server: Server,
    options: String,
}

/// Starts one; `None` (said loudly) where there is no PostgreSQL.
pub fn alone() -> Option<AloneServer> {
    // It is ended as a crash would end it, and what it has promised must hold.
    let durable = "-c synchronous_commit=on";
    let server = start("alone", |_, _| durable.to_owned())?;
    let options = options(&server.folder, durable);
    Some(AloneServer { server, options })
}

impl AloneServer {
    /// A database on it.
    pub fn url(&self) -> String {
        let folder = self.server.folder.display();
        format!("postgres:///postgres?host={folder}&user=postgres")
    }

    /// Ends it as a crash would, and waits for its end.
    pub fn stop(&self) {
        self.control(&["-m", "immediate", "-w", "stop"]);
    }

    /// Starts it again, and waits until it takes connections.
    pub fn start(&self) {
        let log = self.server.folder.join("log").display().to_string();
        self.control(&["-l", &log, "-w", "-t", "60", "-o", &self.options, "start"]);
    }

    /// Ends all sessions of others, as an administrator would.
    pub fn end_sessions(&self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let folder = self.server.folder.display().to_string();
        let psql = Command::new(self.server.bin.join("psql"))
            .args(["-h", &folder, "-U", "postgres", "-qAt", "-c", end])
            .output()
            .expect("psql starts");
        assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
    }

    fn control(&self, words: &[&str]) {
        let folder = &self.server.folder;
        run_as(unprivileged_user().as_ref(), &self.server.bin.join("pg_ctl"), folder, |command| {
            command.arg("-D").arg(folder.join("data")).args(words);
        });
    }
}

/// A server that is reached over TCP with TLS, and ends with the test process.
pub struct TlsServer {
    /// A database on it, without `sslmode`.
    pub url: String,
    /// The certificate that proves who it is.
    pub certificate: PathBuf,
    _server: Server,
}

/// Starts one; `None` (said loudly) where PostgreSQL or openssl is missing.
pub fn with_tls() -> Option<TlsServer> {
    if Command::new("openssl").arg("version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "\nSKIPPED (no openssl): TLS was not tested\n");
        return None;
    }
    // Below the range from which the kernel gives ports: what other tests are given in between is
    // not this one.
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let from = u16::try_from(std::process::id() % 8_000).unwrap();
    let port = (0..2_000).map(|n| 20_000 + (from + n) % 10_000).find(is_free).expect("a port");
    let server = start("tls", |user, folder| {
        make_certificate(user, folder);
        let folder = folder.display();
        format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c ssl=on \
             -c ssl_cert_file={folder}/cert -c ssl_key_file={folder}/key"
        )
    })?;
    let url = format!("postgres://postgres@localhost:{port}/postgres");
    Some(TlsServer { url, certificate: server.folder.join("cert"), _server: server })
}

/// A key and a certificate for `localhost` that stands for itself and for nobody else.
fn make_certificate(user: Option<&User>, folder: &Path) {
    let settings = "[req]\ndistinguished_name=n\nx509_extensions=e\nprompt=no\n[n]\nCN=localhost\n\
                    [e]\nsubjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n";
    fs::write(folder.join("settings"), settings).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "30", "-config", "settings", "-keyout", "key", "-out", "cert"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::remove_file(folder.join("settings")).unwrap();
    let key = folder.join("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    if let Some(user) = user {
        chown(&key, Some(user.uid), Some(user.gid)).unwrap();
    }
}

/// Starts a server; `None` where there is none to start. `more` prepares its folder and answers
/// further options.
fn start(name: &str, more: impl FnOnce(Option<&User>, &Path) -> String) -> Option<Server> {
    let Some(bin) = find_binaries() else {
        // Straight to the file descriptor, because libtest keeps what `eprintln!` of a passing
        // test says to itself, and a skipped engine must be seen.
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED (PostgreSQL not found): apt-get install postgresql, or put initdb and \
             pg_ctl on the PATH; only SQLite was tested\n"
        );
        return None;
    };
    let user = unprivileged_user();
    // Not named by the process id: in two containers that share /tmp two processes have the same.
    let folder = tempfile::Builder::new().prefix(&format!("adwpg{name}-")).tempdir_in("/tmp");
    let folder = folder.expect("a folder under /tmp").keep();
    // Searchable by the tests, whatever user the server runs as.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("chmod");
    if let Some(user) = &user {
        chown(&folder, Some(user.uid), Some(user.gid)).expect("chown");
    }
    let watchdog = start_watchdog(&bin, &folder, user.as_ref());
    let data = folder.join("data");
    let log = folder.join("log");
    run_as(user.as_ref(), &bin.join("initdb"), &folder, |command| {
        command.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust"]);
        command.args(["-E", "UTF8", "--locale", "C", "--no-sync"]);
    });
    let options = options(&folder, &more(user.as_ref(), &folder));
    run_as(user.as_ref(), &bin.join("pg_ctl"), &folder, |command| {
        command.arg("-D").arg(&data).arg("-l").arg(&log).args(["-w", "-t", "60"]);
        command.args(["-o", &options, "start"]);
    });
    Some(Server { folder, bin, _watchdog: watchdog })
}

/// How a server is started.
fn options(folder: &Path, more: &str) -> String {
    format!(
        "-k {} -c listen_addresses= -c fsync=off -c synchronous_commit=off \
         -c full_page_writes=off -c max_connections=300 -c shared_buffers=32MB {more}",
        folder.display(),
    )
}

/// The newest installed version, else what is on the `PATH`.
fn find_binaries() -> Option<PathBuf> {
    let complete = |folder: &PathBuf| {
        ["initdb", "pg_ctl", "createdb"].iter().all(|name| folder.join(name).is_file())
    };
    let version = |folder: &PathBuf| {
        let name = folder.parent().and_then(Path::file_name).unwrap_or_default();
        name.to_string_lossy().parse::<u32>().unwrap_or(0)
    };
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest =
        installed.map(|entry| entry.path().join("bin")).filter(complete).max_by_key(version);
    newest.or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(complete)
    })
}

/// Somebody for root to become: PostgreSQL refuses to run as root.
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

fn unprivileged_user() -> Option<User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let known = ["postgres", "nobody"].iter().find_map(|name| {
        let user = nix::unistd::User::from_name(name).ok().flatten()?;
        Some(User { name: (*name).to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    });
    Some(known.expect("root needs a user postgres or nobody to run PostgreSQL as"))
}

/// A command as that user; the working folder is one that the user may enter.
fn command_as(user: Option<&User>, program: &Path, folder: &Path) -> Command {
    let mut command = match user {
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", &user.name, "--"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.current_dir(folder);
    command
}

fn run_as(
    user: Option<&User>,
    program: &Path,
    folder: &Path,
    arguments: impl FnOnce(&mut Command),
) {
    let mut command = command_as(user, program, folder);
    arguments(&mut command);
    // The output goes to a file, not to a pipe: the server would keep a pipe open for ever.
    let out = fs::File::create(folder.join("setup")).expect("a file for the output");
    let err = out.try_clone().expect("its second descriptor");
    let status = command.stdin(Stdio::null()).stdout(out).stderr(err).status();
    let said = || {
        let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
        format!("{}\n{}", read("setup"), read("log"))
    };
    assert!(status.is_ok_and(|status| status.success()), "{}: {}", program.display(), said());
}

fn start_watchdog(bin: &Path, folder: &Path, user: Option<&User>) -> ChildStdin {
    const SCRIPT: &str = "cat >/dev/null; \"$1/pg_ctl\" -D \"$2/data\" -m immediate -w stop; \
                          rm -rf \"$2/data\" \"$2\"/.s.* \"$2/log\" \"$2/setup\" \"$2/key\" \
                          \"$2/cert\"; rmdir \"$2\"";
    // As the tests' own user and with what is needed to become the server's: root may remove
    // everything, an ordinary user owns everything.
    let script = match user {
        Some(user) => SCRIPT.replacen("\"$1/", &format!("runuser -u {} -- \"$1/", user.name), 1),
        None => SCRIPT.to_owned(),
    };
    // Never waited for: it outlives this process by design.
    #[allow(clippy::zombie_processes)]
    let mut child = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(bin)
        .arg(folder)
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
