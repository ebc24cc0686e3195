//! The configuration file and a project's `.adw.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use adwd::config::{Config, Flags};
use adwd::runs::profile::ScriptsFrom;
use adwd::runs::project_file;

use super::{choice, file, text};

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (choice, bytes) = choice(bytes);
    if choice & 1 == 0 {
        let Some(text) = text(bytes) else { return };
        for scripts in [ScriptsFrom::Embedded, ScriptsFrom::Project] {
            let read = project_file::parse(Path::new("/p/.adw.toml"), text, scripts);
            assert!(read.err().is_none_or(|problem| problem.contains("/p/.adw.toml")));
        }
        return;
    }
    let flags = Flags { config: Some(file("config.toml", bytes)), ..Flags::default() };
    let env = BTreeMap::from([("HOME".to_owned(), "/nonexistent".to_owned())]);
    match Config::load(&flags, &env) {
        // Every key is told once, and every telling can be shown.
        Ok(loaded) => {
            let mut keys: Vec<_> = loaded.provenance.iter().map(|s| s.key.as_str()).collect();
            let count = keys.len();
            keys.sort_unstable();
            keys.dedup_by(|a, b| a == b && !a.starts_with("profile."));
            assert_eq!(keys.len(), count);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
