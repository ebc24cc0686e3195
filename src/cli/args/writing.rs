//! The words of `adwd writing`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `writing`.
#[derive(Clone, Debug, Subcommand)]
pub enum Writing {
    /// List book series in work, newest first
    List {
        /// Only of this author
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
        author: Option<i64>,
        /// How many, 1 to 200
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=200))]
        limit: i64,
        /// Only those with a smaller id: the last one of the page before
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
        before: Option<i64>,
    },
    /// Draw where a book series stands: phases, passes, gates, words by day
    Status {
        /// Id of the writing workflow
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
        /// The book whose passes are shown [default: the present one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=100))]
        book: Option<i64>,
        /// Days in the plot, 7 to 365
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(7..=365))]
        days: u32,
    },
    /// Read the tables of a workflow-manager installation into ours
    #[command(after_help = "\
Examples:
  adwd writing import --from postgres://writer@localhost/mcp_series --dry-run
  adwd stop && adwd writing import --from postgres://writer@localhost/mcp_series
  adwd writing import --from postgres://writer@localhost/mcp_series --json | jq .rows

The other database (the workflow manager's migrations 025 to 027) is only read. What was
imported before is left as it is, so the command can be repeated and takes what is new. A row
that does not fit is told with its table, its id and the reason, and left out; then the exit
code is 1.

The rows go straight into our database, under the lock of the state folder: stop the daemon
first (runs live on), so that there is one writer. A password belongs into PGPASSWORD or
~/.pgpass, where no other user sees it.")]
    Import(Import),
    /// Write what is known of a book series
    #[command(after_help = "\
Examples:
  adwd writing export 7 > series-7.jsonl
  adwd writing export 7 --format csv --table daily --output series-7.csv
  adwd writing export --all | gzip > series.jsonl.gz

It reads our database directly and changes nothing, so a daemon may run meanwhile. A file that
is there already is replaced when the export is complete, and stays as it is where the export
fails.")]
    Export(Export),
}

/// `writing import`.
#[derive(Clone, Debug, Args)]
pub struct Import {
    /// The other database, postgres://USER@HOST/NAME
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// Rehearse in a throw-away database: counts as for a first import, nothing of ours changes
    #[arg(long)]
    pub dry_run: bool,
    /// Zone in which the days of what is imported are counted [default: writing.time_zone]
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Name under which the other database is remembered [default: made of what it is]
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
}

/// `writing export`.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// Id of the writing workflow
    #[arg(value_parser = clap::value_parser!(i64).range(1..), required_unless_present = "all")]
    pub id: Option<i64>,
    /// All book series
    #[arg(long, conflicts_with = "id")]
    pub all: bool,
    /// jsonl: everything, one JSON document a line; csv: one table
    #[arg(long, default_value = "jsonl")]
    pub format: ExportFormat,
    /// With --format csv: which table
    #[arg(long, default_value = "metrics")]
    pub table: ExportTable,
    /// Where to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// JSON Lines.
    Jsonl,
    /// Comma-separated values.
    Csv,
}

/// A table of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportTable {
    /// Every recorded figure.
    Metrics,
    /// Every day.
    Daily,
    /// Every visit of a phase.
    Phases,
}
