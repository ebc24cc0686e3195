//! Node and the npm packages of those who judge from outside, installed once in `target/`.
// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use adwd::lock::FileLock;

/// How long to wait for another test process that installs, in milliseconds.
const INSTALL_MS: u64 = 300_000;

/// A Node of our own version (the machine's may be too old for the suites) beside the packages of
/// `tests/clients/package.json`.
pub struct Node {
    folder: PathBuf,
}

/// The scripts and the package file that the tests bring.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Node, or `None`, loudly, where npm cannot be had; `what` then was not tried.
pub fn node(what: &str) -> Option<Node> {
    let has = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
    };
    if !has("node") || !has("npm") {
        // Straight to the file descriptor: libtest keeps what a passing test prints to itself.
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED (node and npm not found): apt-get install nodejs npm; {what} not tried\n"
        );
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    fs::create_dir_all(&folder).unwrap();
    let alone = FileLock::exclusive(&folder.join("lock"), INSTALL_MS).unwrap();
    let _alone = alone.expect("whoever installs comes to an end");
    let wanted = fs::read_to_string(scripts().join("package.json")).unwrap();
    let done = folder.join("installed.json");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Some(Node { folder });
    }
    fs::write(folder.join("package.json"), &wanted).unwrap();
    let mut npm = Command::new("npm");
    // No package of these needs its scripts: Node's binary is a package of its own.
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]);
    let output = npm.arg("--silent").current_dir(&folder).output().expect("npm starts");
    assert!(output.status.success(), "{output:?}");
    fs::write(done, wanted).unwrap();
    Some(Node { folder })
}

impl Node {
    fn program(&self) -> PathBuf {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
        self.folder.join(format!("node_modules/node-linux-{arch}/bin/node"))
    }

    /// Runs a file of an installed package.
    pub fn package(&self, file: &str) -> Command {
        let mut command = Command::new(self.program());
        command.arg(self.folder.join("node_modules").join(file));
        command
    }

    /// Runs one of [`scripts`]; copied to the packages, which Node looks for beside it.
    pub fn script(&self, name: &str) -> Command {
        let script = self.folder.join(name);
        fs::copy(scripts().join(name), &script).unwrap();
        let mut command = Command::new(self.program());
        command.arg(script);
        command
    }
}
