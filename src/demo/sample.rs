//! The sample repository: a shell script with tests, and two issues that carry their change.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context as _;

/// Files of the sample: path, text, whether it is a program.
const FILES: &[(&str, &str, bool)] = &[
    ("README.md", include_str!("sample/README.md"), false),
    (".adw.toml", include_str!("sample/adw.toml"), false),
    ("tally.sh", include_str!("sample/tally.sh"), true),
    ("tests/run.sh", include_str!("sample/tests/run.sh"), true),
    ("tests/sum.test.sh", include_str!("sample/tests/sum.test.sh"), false),
    ("issues/1.md", include_str!("sample/issues/1.md"), false),
    ("issues/2.md", include_str!("sample/issues/2.md"), false),
];

/// Writes the files below `root`.
pub fn write(root: &Path) -> anyhow::Result<()> {
    for (path, text, program) in FILES {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let mode = if *program { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))?;
    }
    Ok(())
}
