//! Death on demand, for tests of what a crash leaves. Not in release builds.
//!
//! `ADWD_TEST_CRASH` names a folder. A test arms a point by a file in it: `NAME@1`, or
//! `NAME.DETAIL@1` for one of the things that the point is passed for; `@3` dies the third time. Who
//! gets there renames the file, to the number below or to `NAME.reached`, and dies of the last: so
//! it dies once, however often it is started again, and the test sees that it did.
//! `adw_modules/crash.py` does the same with `ADW_TEST_CRASH`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Environment variable with the folder.
const VARIABLE: &str = "ADWD_TEST_CRASH";
/// The same for the Python side, which hands no variable `ADW_*` on to agents.
const OF_PYTHON: &str = "ADW_TEST_CRASH";
/// The most that a test may count, which is a digit.
const MAX_COUNT: u32 = 9;

fn folder() -> Option<&'static PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from)).as_ref()
}

pub(super) fn die_if_armed(name: &str, detail: &str) {
    let Some(folder) = folder() else { return };
    let name = if detail.is_empty() { name.to_owned() } else { format!("{name}.{detail}") };
    let armed = |count: u32| folder.join(format!("{name}@{count}"));
    if std::fs::rename(armed(1), folder.join(format!("{name}.reached"))).is_ok() {
        std::process::abort();
    }
    // Whoever wins a rename counts; of two at once both do.
    let _ = (2..=MAX_COUNT).find(|n| std::fs::rename(armed(*n), armed(n - 1)).is_ok());
}

pub(super) fn passed_on() -> Vec<(&'static str, OsString)> {
    let Some(folder) = folder() else { return vec![] };
    [VARIABLE, OF_PYTHON].map(|name| (name, folder.clone().into_os_string())).to_vec()
}
