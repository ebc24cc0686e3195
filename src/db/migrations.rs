//! The list of migrations. A landed one never changes: the checksums below are pinned by a test.

/// One step of the schema.
#[derive(Copy, Clone, Debug)]
pub struct Migration {
    /// Its number, ascending without gaps from 0.
    pub version: i64,
    /// Its name, as in the file name.
    pub name: &'static str,
    /// The script for SQLite.
    pub sqlite: &'static str,
    /// The script for PostgreSQL; nearly always the same text.
    pub postgres: &'static str,
}

/// `migration!(1, "runs")` reads `migrations/0001_runs.sql` given as third argument; with two
/// files the first is for SQLite and the second for PostgreSQL.
macro_rules! migration {
    ($version:literal, $name:literal, $file:literal) => {
        migration!($version, $name, $file, $file)
    };
    ($version:literal, $name:literal, $sqlite:literal, $postgres:literal) => {
        Migration {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../../migrations/", $sqlite)),
            postgres: include_str!(concat!("../../migrations/", $postgres)),
        }
    };
}

/// Every migration, in order. Append; never edit or reorder.
pub const ALL: &[Migration] = &[
    migration!(0, "foundation", "0000_foundation.sql"),
    migration!(1, "runs", "0001_runs.sql"),
    migration!(2, "content", "0002_content.sql"),
    migration!(3, "steps", "0003_steps.sql"),
    migration!(4, "writing", "0004_writing.sql"),
    migration!(5, "access", "0005_access.sql"),
    migration!(6, "audit", "0006_audit.sql"),
    migration!(7, "budget", "0007_budget.sql"),
    migration!(8, "outside", "0008_outside.sql"),
    migration!(9, "traces", "0009_traces.sql"),
    migration!(10, "counts", "0010_counts.sql"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::migrate::checksum;

    /// SHA-256 of each landed migration: version, SQLite script, PostgreSQL script (`""`: the
    /// same). When you add a migration, add its line; if this test fails for an older line, undo
    /// your edit and write a new migration instead.
    const PINNED: &[(i64, &str, &str)] = &[
        (0, "7b4a5971628fdc3f53feae524d5202f2b0f8ee4115678e9572db9010ec332ffe", ""),
        (1, "82fffab58f741e30c6cea9bb72125840f7ee00c3c1f2a83ffc20c995a6501751", ""),
        (2, "178fc856e785279d9c98723ceb45e30f01186ce6dbdb07f65e2eccde9b905052", ""),
        (3, "8705a21002f236e099c772a5a4cb8dc343c8f4c69e3a3c13ff951c75e0e50bfe", ""),
        (4, "7354651adf8cd54bdf70d297dae3307ba9fc6bb6abcfed39277d445f29b8c214", ""),
        (5, "355f8ceb547ac18f236e61cb93322576b2d779ae55fbdf7b759b456bb210b04a", ""),
        (6, "ccf797319ff6a4c7e67c0f298b18a5dc0b081dcf04ff310b17038ef6c2e2200b", ""),
        (7, "7dd8ddd286cdffbe6d7589cac4e1cd7eb51424ff1f933180cd61af50fa5fd37a", ""),
        (8, "f9c32819ce1c1ecbf3f0cfc838cec82663c2dda73d4d6adb57cc9add00d20074", ""),
        (9, "6651cf48bac1bbb25ff6abeb55ad3f1b0b466959419e003d80dd46874b59b7b0", ""),
        (10, "ca1dd96295b9828ec7c8f175e525b38f8b26bef74bfcb9d6006309b3d672e325", ""),
    ];

    #[test]
    fn landed_migrations_never_change() {
        assert_eq!(ALL.len(), PINNED.len(), "pin the checksum of the new migration");
        for (migration, (version, sqlite, postgres)) in ALL.iter().zip(PINNED) {
            assert_eq!(migration.version, *version);
            assert_eq!(checksum(migration.sqlite), *sqlite, "{version:04} for SQLite");
            let expected = if postgres.is_empty() { sqlite } else { postgres };
            assert_eq!(checksum(migration.postgres), *expected, "{version:04} for PostgreSQL");
        }
    }

    #[test]
    fn versions_ascend_without_gaps() {
        for (migration, expected) in ALL.iter().zip(0..) {
            assert_eq!(migration.version, expected, "{}", migration.name);
        }
    }

    #[test]
    fn scripts_leave_the_transaction_alone() {
        for migration in ALL {
            for script in [migration.sqlite, migration.postgres] {
                for statement in script.split(';') {
                    let code: Vec<&str> =
                        statement.lines().filter(|l| !l.trim_start().starts_with("--")).collect();
                    let code = code.join(" ").trim().to_ascii_uppercase();
                    for word in ["BEGIN", "COMMIT", "ROLLBACK", "END", "SAVEPOINT", "VACUUM"] {
                        assert!(!code.starts_with(word), "{}: {word}", migration.name);
                    }
                }
            }
        }
    }
}
