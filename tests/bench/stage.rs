//! The stage of the benchmark of runs: a daemon with two repositories, phases that do nothing, and
//! what the machine itself takes for the parts of a run.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use adwd::args;
use adwd::db::Db;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::World;
use crate::common::socket::Socket;

/// Files of the repository that worktrees are made of.
const FILES: u32 = 437;
/// Runs that warm a project.
pub const WARM: u64 = 3;
/// Longer than anything takes that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Triggers that are on their way at once while a queue is filled.
const FLIGHT: u32 = 16;

/// The program of a phase; removed with this value.
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    _dir: TempDir,
}

/// Compiles `phase.rs`.
pub fn compile_phase() -> Program {
    let dir = tempfile::Builder::new().prefix("adwd-bench-").tempdir().unwrap();
    let path = dir.path().join("uv");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/phase.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "-O", "-o"]).arg(&path).arg(source);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Program { path, _dir: dir }
}

/// A daemon that serves `plain`, whose runs have no worktree, and `tree`, whose runs have.
pub struct Stage {
    world: World,
    repos: TempDir,
}

impl Stage {
    /// With so many runs at once, in all and of each project.
    pub fn new(program: &Path, max_running: u32, of_project: u32) -> Stage {
        let repos = tempfile::Builder::new().prefix("adwd-bench-").tempdir().unwrap();
        std::fs::create_dir(repos.path().join("marks")).unwrap();
        for (name, files) in [("plain", 3), ("tree", FILES)] {
            repository(&repos.path().join(name), files);
        }
        let mut config = format!(
            "uv.path = {program:?}\n[limits]\nmax_running = {max_running}\n\
             max_running_per_project = {of_project}\nqueue_max = 5000\nmin_free_mb = 0\n"
        );
        for (name, worktree_by) in [("plain", "script"), ("tree", "daemon")] {
            config += &format!(
                "[[profile]]\nname = \"{name}\"\nextends = \"tac\"\nworktree_by = \"{worktree_by}\"\n\
                 required_files = []\nrequired_prompts = []\nrequired_tools = []\nrequired_env = []\n\
                 sequence = [\"noop\"]\nphases = [{}]\nenv = {{}}\n\
                 [[project]]\nname = \"{name}\"\nprofile = \"{name}\"\npath = {:?}\n\
                 env = {{ BENCH_MARKS = {:?} }}\n",
                ["noop", "rest", "hold"]
                    .map(|phase| format!("{{ name = \"{phase}\", scripts = [\"{phase}.py\"] }}"))
                    .join(", "),
                repos.path().join(name),
                repos.path().join("marks"),
            );
        }
        let world = World::start(&config);
        Stage { world, repos }
    }

    /// A folder for files beside; removed with the stage.
    pub fn dir(&self) -> &Path {
        self.repos.path()
    }

    /// Where phases write their times.
    pub fn marks(&self) -> PathBuf {
        self.repos.path().join("marks")
    }

    /// A connection of its own.
    pub fn client(&self) -> Socket {
        Socket::connect(&self.world.socket())
    }

    /// A few runs that are not counted; what the daemon found out of the project before is then
    /// old enough to be believed.
    pub fn warm(&self, client: &mut Socket, project: &str) {
        std::thread::sleep(Duration::from_secs(4));
        for n in 0..WARM {
            let id = self.trigger(client, project, "noop", &format!("4{n}"));
            self.ended(client, &id);
        }
    }

    /// Starts a run of one phase; its id.
    pub fn trigger(&self, client: &mut Socket, project: &str, phase: &str, issue: &str) -> String {
        let result = client.call("trigger_adw_workflow", request(project, phase, issue));
        id_of(&result)
    }

    /// Starts many, some on their way at once.
    pub fn trigger_all(&self, client: &mut Socket, project: &str, phase: &str, count: u32) {
        let mut sent = 0;
        for answered in 0..count {
            while sent < count && sent - answered < FLIGHT {
                let arguments = request(project, phase, &format!("6{sent}"));
                let call = json!({ "name": "trigger_adw_workflow", "arguments": arguments });
                client.send("tools/call", &call);
                sent += 1;
            }
            id_of(&client.reply());
        }
    }

    fn run(&self, client: &mut Socket, id: &str) -> Value {
        let result = client.call("get_adw_state", json!({ "adw_id": id }));
        result["structuredContent"].clone()
    }

    /// Waits until a run has ended as it should.
    pub fn ended(&self, client: &mut Socket, id: &str) {
        let begun = Instant::now();
        loop {
            let run = self.run(client, id);
            match run["status"].as_str().unwrap() {
                "completed" => return,
                "queued" | "starting" | "running" => {}
                _ => panic!("{run}"),
            }
            assert!(begun.elapsed() < PATIENCE, "{run}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Status of a run's phase.
    pub fn phase(&self, client: &mut Socket, id: &str) -> String {
        self.run(client, id)["phases"][0]["status"].as_str().unwrap().to_owned()
    }

    /// Waits until so many runs have ended as they should.
    pub fn all_completed(&self, client: &mut Socket, count: u64) {
        let begun = Instant::now();
        loop {
            let asked = json!({ "status_filter": "completed", "limit": 1 });
            let page = client.call("list_adw_workflows", asked);
            let total = page["structuredContent"]["total"].as_u64().unwrap();
            if total >= count {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{total} of {count} have ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// When a phase wrote that mark; `None` before it has.
    pub fn mark(&self, name: &str) -> Option<SystemTime> {
        let text = std::fs::read_to_string(self.marks().join(name)).ok()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(text.parse().unwrap()))
    }

    /// Lets a phase go that holds its place.
    pub fn go(&self, issue: &str) {
        std::fs::write(self.marks().join(format!("{issue}.go")), "").unwrap();
    }

    /// Folder of a run's state file.
    pub fn state_folder(&self, id: &str) -> PathBuf {
        self.repos.path().join("plain/agents").join(id)
    }

    fn phase_command(&self, program: &Path, script: &str, issue: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["run", script, issue]).env("BENCH_MARKS", self.marks());
        command.stdin(Stdio::null());
        command
    }

    /// From the start of the program to its first instruction, ms.
    pub fn spawn(&self, program: &Path, issue: &str) -> f64 {
        let at = SystemTime::now();
        self.phase_command(program, "noop.py", issue).status().unwrap();
        ms_between(at, self.mark(issue).unwrap())
    }

    /// From the end of the program to the return of a wait for it, ms.
    pub fn wait_for_end(&self, program: &Path, issue: &str) -> f64 {
        self.go(issue);
        self.phase_command(program, "hold.py", issue).status().unwrap();
        let at = SystemTime::now();
        ms_between(self.mark(&format!("{issue}.exit")).unwrap(), at)
    }

    /// `git worktree add` alone, in microseconds.
    pub fn git_worktree_add(&self, n: u32) -> f64 {
        let repo = self.repos.path().join("tree");
        let tree = self.repos.path().join(format!("floor-{n}"));
        let begun = Instant::now();
        git(&repo, &["worktree", "add", "--quiet", "--detach", &tree.to_string_lossy(), "main"]);
        begun.elapsed().as_secs_f64() * 1e6
    }

    /// The same programs started by `xargs`, ms.
    pub fn xargs(&self, program: &Path, at_once: u32, count: u32) -> f64 {
        let list = self.dir().join("list");
        let lines: String = (0..count).map(|n| format!("9{n}\n")).collect();
        std::fs::write(&list, lines).unwrap();
        let begun = Instant::now();
        let mut command = Command::new("xargs");
        command.args(["-P", &at_once.to_string(), "-n", "1"]).arg(program);
        command.args(["run", "noop.py"]).env("BENCH_MARKS", self.marks());
        command.stdin(std::fs::File::open(&list).unwrap());
        assert!(command.status().unwrap().success());
        begun.elapsed().as_secs_f64() * 1e3
    }
}

/// When a phase wrote that mark, which is waited for.
pub fn marks(stage: &Stage, name: &str) -> SystemTime {
    let begun = Instant::now();
    loop {
        if let Some(at) = stage.mark(name) {
            return at;
        }
        assert!(begun.elapsed() < PATIENCE, "no phase wrote {name}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Milliseconds from the one to the other; 0 where the clock was set back between.
pub fn ms_between(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64() * 1e3
}

fn request(project: &str, phase: &str, issue: &str) -> Value {
    json!({
        "project": project, "issue_number": issue, "phases": [phase], "skip_cleanup": true,
    })
}

/// The run that a trigger made: its task's id.
fn id_of(result: &Value) -> String {
    let id = [&result["task"]["taskId"], &result["taskId"]].into_iter().find_map(Value::as_str);
    id.unwrap_or_else(|| panic!("no task: {result}")).to_owned()
}

fn git(repo: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"]);
    let done = command.args(args).current_dir(repo).output().unwrap();
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn repository(root: &Path, files: u32) {
    std::fs::create_dir(root).unwrap();
    for phase in ["noop", "rest", "hold"] {
        std::fs::write(root.join(format!("{phase}.py")), "").unwrap();
    }
    for n in 3..files {
        let folder = root.join(format!("src/{}", n % 20));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{n}.txt")), format!("line {n}\n").repeat(300)).unwrap();
    }
    git(root, &["init", "--quiet", "--initial-branch", "main"]);
    git(root, &["add", "--all"]);
    git(root, &["commit", "--quiet", "--message", "all"]);
}

/// What the disk takes: one transaction in a database of its own, through the product's own driver.
pub struct Floor {
    runtime: tokio::runtime::Runtime,
    db: Db,
}

impl Floor {
    /// With its database in that folder.
    pub fn new(dir: &Path) -> Floor {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let path = dir.join("floor.db");
        let db = runtime.block_on(async {
            let db = Db::open(&format!("sqlite:{}", path.display())).await.unwrap();
            db.exec("CREATE TABLE floor (n BIGINT NOT NULL)", args![]).await.unwrap();
            db
        });
        Floor { runtime, db }
    }

    /// A commit that waits for the disk, in microseconds.
    pub fn commit(&self, n: u32) -> f64 {
        let begun = Instant::now();
        let stored = self.db.exec("INSERT INTO floor (n) VALUES ($1)", args![i64::from(n)]);
        self.runtime.block_on(stored).unwrap();
        begun.elapsed().as_secs_f64() * 1e6
    }
}

/// The uv of this machine, or one that is made once for tests and benchmarks.
pub fn real_uv() -> Option<PathBuf> {
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uv-for-tests");
    let path = std::env::var_os("PATH");
    adwd::uv::locate(None, path.as_deref(), &state).or_else(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let env = std::env::vars().collect();
        runtime.block_on(adwd::uv::provision(&state, &env, adwd::tool::run_step)).ok()
    })
}

/// A small repository to run scripts in.
pub struct Sample(TempDir);

impl Sample {
    /// With one issue.
    pub fn new() -> Sample {
        let dir = tempfile::Builder::new().prefix("adwd-bench-").tempdir().unwrap();
        repository(&dir.path().join("repo"), 3);
        Sample(dir)
    }

    /// A file beside the repository.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// From the start of a command to its first line, ms. The rest of it is cut off.
    pub fn first_line(&self, mut command: Command) -> f64 {
        command.current_dir(self.0.path().join("repo")).env("ADW_DAEMON", "1");
        // As the daemon sets them.
        command.env("PYTHONUNBUFFERED", "1").env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let took = begun.elapsed().as_secs_f64() * 1e3;
        assert!(read > 0, "it said nothing");
        let _ = child.kill();
        child.wait().unwrap();
        took
    }
}
