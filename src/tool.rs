//! Running a program to its end: what doctor, demo and the provisioning of uv have in common.

use std::collections::BTreeMap;
use std::path::Path;

use crate::runs::process::{Cmd, output};
use crate::uv::{Ended, Step};

/// Output beyond this is cut off.
const OUTPUT_MAX_BYTES: usize = 256 * 1024;

/// Runs a program in `cwd` with `env` as its whole environment. An error says why it could not be
/// started, or that it took too long.
pub async fn run(
    program: &Path,
    args: &[&str],
    cwd: &Path,
    env: &BTreeMap<String, String>,
    timeout_ms: u64,
) -> Result<Ended, String> {
    let command = Cmd {
        program: program.to_path_buf(),
        args: args.iter().map(Into::into).collect(),
        cwd: Some(cwd.to_path_buf()),
        env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        stdin: Vec::new(),
        timeout_ms,
        max_output_bytes: OUTPUT_MAX_BYTES,
    };
    let done = output(&command).await.map_err(|error| error.to_string())?;
    if done.timed_out {
        return Err(format!("{} did not end within {timeout_ms} ms", program.display()));
    }
    let stderr = done.last_error_line();
    Ok(Ended { code: done.code, stdout: done.stdout_text(), stderr })
}

/// Runs a step of uv's provisioning.
pub async fn run_step(step: Step) -> Result<Ended, String> {
    let args: Vec<&str> = step.args.iter().map(String::as_str).collect();
    run(&step.program, &args, Path::new("/"), &step.env, step.timeout_ms).await
}

/// A program by name on a search path.
#[must_use]
pub fn find(name: &str, env: &BTreeMap<String, String>) -> Option<std::path::PathBuf> {
    let path = env.get("PATH")?;
    crate::runs::process::find_program(name, path.as_ref())
}
