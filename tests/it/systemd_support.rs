//! A machine of a world: Debian's own systemd in namespaces, and an account on it that owns the
//! world. `tests/systemd/boot.sh` says how; nothing of it outlives the [`Machine`].

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use adwd::runs::procfs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::mcp_support::{Client, Ear, Era, http_client};
use crate::world::procs::Proc;
use crate::world::{ADWD, RUN, World, eventually};

/// The account; nobody has this id on a real machine.
pub const ACCOUNT: (&str, u32) = ("adwd-tester", 61_234);

/// How a command in the machine ended.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Insists that it went well; what it printed.
    #[track_caller]
    pub fn fine(self) -> String {
        assert!(self.ok, "{self:#?}");
        self.out
    }
}

/// A running machine.
pub struct Machine<'w> {
    world: &'w World,
    group: String,
    /// The parent of the machine's first process.
    outer: Child,
    /// The machine's first process, as it is called outside.
    init: i32,
}

fn boot_command(stage: &str, world: &World, group: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/boot.sh");
    let mut command = Command::new("bash");
    command.arg(script).args([stage]).arg(&world.root).arg(group).current_dir("/").env_clear();
    // By the ground's name the watchdog of the tests finds it, and the world does not take it for
    // one of its own processes.
    let ground = world.root.parent().unwrap().join("machine");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("ADWD_TEST_GROUND", ground);
    command.stdin(Stdio::null());
    command
}

fn new_group() -> String {
    static BOOTS: AtomicU32 = AtomicU32::new(0);
    format!("adwd-test-{}-{}", std::process::id(), BOOTS.fetch_add(1, Ordering::SeqCst))
}

/// Whether machines can be booted here; says so loudly where they cannot.
pub fn can_boot(world: &World) -> bool {
    let why = if !nix::unistd::geteuid().is_root() {
        "only root may make machines".to_owned()
    } else if !Path::new("/lib/systemd/systemd").exists() {
        "there is no systemd: apt-get install systemd".to_owned()
    } else {
        let tried = boot_command("can", world, &new_group()).output().expect("bash starts");
        if tried.status.success() {
            return true;
        }
        String::from_utf8_lossy(&tried.stderr).trim().to_owned()
    };
    // Straight to the file descriptor: libtest keeps what a passing test prints to itself.
    let _ = writeln!(
        std::io::stderr(),
        "\nSKIPPED ({why}): the service was not run by a real systemd\n"
    );
    false
}

/// The program and uv where the account can run them, settings and tokens where the service reads
/// them, and everything the account's own. To be called last, before the boot.
pub fn hand_over(world: &World) {
    fs::create_dir_all(world.path("bin")).unwrap();
    let uv = adwd::uv::locate(None, world.env().get("PATH").map(AsRef::as_ref), &world.root);
    for program in [PathBuf::from(ADWD), uv.expect("the world has uv")] {
        let copy = world.path("bin").join(program.file_name().unwrap());
        fs::copy(&program, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let gitconfig = fs::read_to_string(world.path("gitconfig")).unwrap();
    // The tests look into the account's repositories as root.
    world.write("gitconfig", &format!("{gitconfig}[safe]\n\tdirectory = *\n"));
    let wanted = ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "UV_PYTHON_DOWNLOADS", "UV_OFFLINE"];
    let env = world.env();
    let lines: Vec<String> = wanted.iter().map(|name| format!("{name}={}\n", env[*name])).collect();
    world.write("home/.config/adwd/environment", &lines.concat());
    let owner = format!("{0}:{0}", ACCOUNT.1);
    let done = Command::new("chown").arg("-R").arg(owner).arg(&world.root).status().unwrap();
    assert!(done.success());
    let ground = world.root.parent().unwrap();
    fs::set_permissions(ground, fs::Permissions::from_mode(0o711)).unwrap();
}

impl<'w> Machine<'w> {
    /// Boots one, and waits until everything that it starts by itself is up.
    pub async fn boot(world: &'w World) -> Machine<'w> {
        let group = new_group();
        let console = fs::File::create(world.path("console.log")).unwrap();
        let mut command = boot_command("boot", world, &group);
        command.stdout(console.try_clone().unwrap()).stderr(console);
        let outer = command.spawn().expect("bash starts");
        let mut machine = Machine { world, group, outer, init: 0 };
        let outer = machine.outer.id().cast_signed();
        machine.init = eventually("the machine has a first process", RUN, async || {
            let comm = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm"));
            let mut children = procfs::descendants(outer).into_iter().map(|p| p.id.pid);
            let init = children.find(|pid| comm(*pid).is_ok_and(|name| name.trim() == "systemd"));
            init.ok_or_else(|| fs::read_to_string(world.path("console.log")).unwrap_or_default())
        })
        .await;
        eventually("the machine is up", RUN, async || {
            let said = machine.run(&["systemctl", "is-system-running"]);
            match said.out.trim() {
                "running" => Ok(()),
                "degraded" => panic!("{}", machine.run(&["systemctl", "--failed"]).out),
                other => Err(format!("{other} {}", said.err)),
            }
        })
        .await;
        machine
    }

    /// Makes the account, on a machine that was booted for the first time.
    pub fn add_account(&self) {
        let (name, uid) = (ACCOUNT.0, ACCOUNT.1.to_string());
        let home = self.world.home().display().to_string();
        self.run(&["useradd", "-M", "-s", "/bin/sh", "-u", &uid, "-d", &home, name]).fine();
    }

    /// Runs a command as root.
    pub fn run(&self, argv: &[&str]) -> Said {
        self.enter(argv)
    }

    /// Runs a command as the account, in an environment as its login shell has it.
    pub fn as_account(&self, argv: &[&str]) -> Said {
        let uid = ACCOUNT.1.to_string();
        let env = [
            format!("HOME={}", self.world.home().display()),
            format!("XDG_RUNTIME_DIR=/run/user/{uid}"),
            self.path(),
        ];
        let mut words = vec!["setpriv", "--reuid", &uid, "--regid", &uid, "--init-groups"];
        words.extend(["env", "-i"]);
        words.extend(env.iter().map(String::as_str));
        words.extend(argv);
        self.enter(&words)
    }

    fn path(&self) -> String {
        format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", self.world.path("bin").display())
    }

    fn enter(&self, argv: &[&str]) -> Said {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-p", "-u", "-i", "-C"]);
        command.args(["env", "-i", &self.path()]).args(argv);
        let Output { status, stdout, stderr } =
            command.current_dir("/").stdin(Stdio::null()).output().expect("nsenter starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { ok: status.success(), out: text(stdout), err: text(stderr) }
    }

    /// Keeps what was installed and enabled, for the next boot of this world.
    pub fn keep_etc(&self) {
        let etc = self.world.path("etc").display().to_string();
        let parts = "passwd group shadow adwd systemd/system";
        let script = format!("mkdir -p {etc} && cd /etc && cp -a --parents {parts} {etc}/");
        self.run(&["sh", "-c", &script]).fine();
    }

    /// A client over HTTP: the network is everybody's. Tries once: who answers is ready.
    pub async fn client(&self) -> Client {
        let address = fs::read_to_string(self.world.state_dir().join("http.addr")).unwrap();
        let url = format!("http://{}/mcp", address.trim());
        http_client(&url, None, Era::Modern, Ear::named("test")).await
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && self.init != 0 {
            let said = self.run(&["journalctl", "--no-pager", "-n", "60", "-o", "short-precise"]);
            eprintln!("the machine's journal:\n{}", said.out);
        }
        // With the first process the kernel ends all others, and its parent ends after them.
        if self.init != 0 {
            let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        } else {
            let _ = self.outer.kill();
        }
        let _ = self.outer.wait();
        let _ = boot_command("clean", self.world, &self.group).status();
    }
}

/// The service of a machine, under one of its two managers.
pub struct Service<'m, 'w> {
    pub machine: &'m Machine<'w>,
    pub user: bool,
}

impl Service<'_, '_> {
    /// `systemctl` of its manager.
    pub fn ctl(&self, words: &[&str]) -> Said {
        match self.user {
            true => self.machine.as_account(&[&["systemctl", "--user"], words].concat()),
            false => self.machine.run(&[&["systemctl"], words].concat()),
        }
    }

    /// A property of the unit.
    pub fn shows(&self, property: &str) -> String {
        let said = self.ctl(&["show", "--value", "-p", property, "adwd.service"]);
        said.fine().trim().to_owned()
    }

    /// What the journal has of it.
    pub fn journal(&self) -> String {
        let field = if self.user { "_SYSTEMD_USER_UNIT" } else { "_SYSTEMD_UNIT" };
        let matches = format!("{field}=adwd.service");
        self.machine.run(&["journalctl", "--no-pager", "-o", "cat", &matches]).fine()
    }

    /// Installs the unit with the product's own command and enables it, as the README says.
    pub fn install(&self) {
        let world = self.machine.world;
        let (config, state) = (world.config_file(), world.state_dir());
        let (config, state) = (config.display().to_string(), state.display().to_string());
        let mut words = vec!["adwd", "--config", &config, "--state-dir", &state];
        let said = if self.user {
            words.extend(["service", "install", "--user"]);
            self.machine.as_account(&words)
        } else {
            words.extend(["service", "install", "--system", "--run-as", ACCOUNT.0]);
            let from = world.home().join(".config/adwd/environment").display().to_string();
            self.machine
                .run(&["install", "-D", "-m", "0600", &from, "/etc/adwd/environment"])
                .fine();
            self.machine.run(&words)
        };
        assert!(said.fine().contains("wrote "));
        self.ctl(&["daemon-reload"]).fine();
        self.ctl(&["enable", "--now", "adwd"]).fine();
    }

    /// Sends a signal to the daemon, as who stands beside it would.
    pub fn send(&self, signal: &str) {
        let pid = self.shows("MainPID");
        self.machine.run(&["kill", signal, &pid]).fine();
    }

    /// Waits until another daemon than `before` is ready; its process id, as the machine has it.
    pub async fn another_than(&self, before: &str) -> String {
        eventually("systemd has started another daemon", RUN, async || {
            let (state, pid) = (self.shows("ActiveState"), self.shows("MainPID"));
            let other = state == "active" && pid != before && pid != "0";
            if other { Ok(pid) } else { Err(format!("{state} {pid}")) }
        })
        .await
    }
}

/// Waits until an agent stands at a gate: on a busy machine everything before it takes its time.
pub async fn at_gate(world: &World, name: &str) {
    let mark = world.home().join(format!("at-{name}"));
    eventually(&format!("somebody is at gate {name}"), RUN, async || {
        if mark.exists() { Ok(()) } else { Err(format!("{:#?}", world.processes())) }
    })
    .await;
}

/// The monitor that works for that run.
pub async fn monitor_of(world: &World, id: &str) -> Proc {
    eventually("its monitor lives", RUN, async || {
        let all = world.processes();
        let is = |p: &&Proc| p.is_monitor() && p.argv.iter().any(|word| word.contains(id));
        all.iter().find(is).cloned().ok_or_else(|| format!("{all:#?}"))
    })
    .await
}
