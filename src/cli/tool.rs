//! Running a program to its end: what doctor, demo and uv's provisioning have in common.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::runs::process::{Cmd, output};
use crate::uv::{Ended, Step};

/// Output beyond this is cut off.
const OUTPUT_MAX_BYTES: usize = 256 * 1024;

/// Runs a program in `cwd` with `env` as its whole environment.
pub async fn run(
    program: &Path,
    args: &[&str],
    cwd: &Path,
    env: &BTreeMap<String, String>,
    timeout_ms: u64,
) -> Result<Ended, String> {
    let step = Step {
        what: "",
        program: program.to_path_buf(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: env.clone(),
        timeout_ms,
    };
    run_step(step, cwd.to_path_buf()).await
}
