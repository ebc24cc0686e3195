//! The daemon's own log: one line an event, rolled daily, without secrets.
//!
//! Nothing here ever writes to stdout: in stdio mode that is the MCP wire.

mod panic;
mod redact;

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use thiserror::Error;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

pub use panic::tell_panics;
pub use redact::{MASK, is_secret_name, mask_value, neutralise, redact};

use crate::limits::{LOG_BUFFER_COUNT, LOG_LINE_MAX_BYTES};

/// Name of the log: a link to the file of the day, `adwd.log.YYYY-MM-DD`.
const LOG_FILE: &str = "adwd.log";

/// An error with all its sources, for the log.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Where the log goes and what is in it.
#[derive(Clone, Debug, Default)]
pub struct TelemetryConfig {
    /// Folder of `adwd.log`; `None` for no file.
    pub log_dir: Option<PathBuf>,
    /// A level (`info`) or filter directives (`info,adwd::runs=debug`).
    pub level: String,
    /// Days a log file is kept; 0 keeps all.
    pub keep_days: u32,
    /// Whether to log to stderr as well.
    pub stderr: bool,
    /// The environment at start: the values of its secret variables are masked.
    pub env: BTreeMap<String, String>,
}

/// Why logging could not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The level is neither a level nor a list of directives.
    #[error(
        "the log level {level:?} is not valid: use trace, debug, info, warn, error or off, or \
         directives such as \"info,adwd::runs=debug\""
    )]
    Level {
        /// What was given.
        level: String,
        /// The parser's reason.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The log folder cannot be made.
    #[error("cannot make the log folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The log file cannot be opened.
    #[error("cannot open the log file in {}", path.display())]
    File {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: tracing_appender::rolling::InitError,
    },
    /// Logging was started twice in this process.
    #[error("logging has been started already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Keeps the log's writer alive; dropping it writes what is still waiting.
#[derive(Debug)]
pub struct Guard {
    _worker: Option<WorkerGuard>,
}

/// Starts logging for this process. Keep the guard until the end of `main`.
pub fn init(config: &TelemetryConfig) -> Result<Guard, TelemetryError> {
    redact::learn(&config.env);
    let (subscriber, guard) = build(config)?;
    subscriber.try_init().map_err(TelemetryError::Twice)?;
    Ok(guard)
}

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

fn build(
    config: &TelemetryConfig,
) -> Result<(impl SubscriberInitExt + tracing::Subscriber + use<>, Guard), TelemetryError> {
    let filter = || {
        // The protocol library tells four lines per connection at `info`; who wants them says so.
        let quiet = config.level.eq_ignore_ascii_case("info");
        let level = if quiet { "info,rmcp=warn" } else { &config.level };
        EnvFilter::builder()
            .parse(level)
            .map_err(|source| TelemetryError::Level { level: config.level.clone(), source })
    };
    let mut layers: Vec<Boxed> = Vec::new();
    let mut worker = None;
    if config.log_dir.is_some() {
        let (lines, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LOG_BUFFER_COUNT)
            .thread_name("adwd-log")
            .finish(appender(config)?);
        worker = Some(guard);
        layers.push(layer(filter()?, move || lines.clone()));
    }
    if config.stderr {
        layers.push(layer(filter()?, io::stderr));
    }
    Ok((tracing_subscriber::registry().with(layers), Guard { _worker: worker }))
}

fn appender(config: &TelemetryConfig) -> Result<RollingFileAppender, TelemetryError> {
    let path = config.log_dir.clone().unwrap_or_default();
    if let Err(source) = DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        return Err(TelemetryError::Folder { path, source });
    }
    let mut builder = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(LOG_FILE)
        .latest_symlink(LOG_FILE);
    if config.keep_days > 0 {
        builder = builder.max_log_files(usize::try_from(config.keep_days).unwrap_or(usize::MAX));
    }
    builder.build(&path).map_err(|source| TelemetryError::File { path, source })
}

fn layer<W: Write>(filter: EnvFilter, writer: impl Fn() -> W + Send + Sync + 'static) -> Boxed {
    let format = fmt::layer().with_ansi(false).with_target(true);
    format.with_writer(MakeRedacting(writer)).with_filter(filter).boxed()
}

/// Makes a writer that masks each line before it reaches the writer below.
struct MakeRedacting<F>(F);

impl<'a, W: Write, F: Fn() -> W> MakeWriter<'a> for MakeRedacting<F> {
    type Writer = Redacting<W>;
    fn make_writer(&'a self) -> Redacting<W> {
        Redacting(self.0())
    }
}

/// The formatter hands over one whole event a call, so a secret is never split between two.
struct Redacting<W>(W);

impl<W: Write> Write for Redacting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = clean_line(bytes);
        self.0.write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn clean_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let masked = redact(text);
    let mut line = neutralise(&masked).into_owned();
    if line.len() > LOG_LINE_MAX_BYTES {
        let mut end = LOG_LINE_MAX_BYTES;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push_str(" …[cut]");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &std::path::Path) -> TelemetryConfig {
        TelemetryConfig {
            log_dir: Some(dir.join("logs")),
            level: "info".to_owned(),
            keep_days: 2,
            ..TelemetryConfig::default()
        }
    }

    #[test]
    fn a_line_reaches_the_file_of_the_day_masked_and_on_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let (subscriber, guard) = build(&config(dir.path())).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(token = "ghp_abcdefghijklmnop", "hello\nforged \u{1b}[2J line");
            tracing::debug!("not at this level");
        });
        drop(guard);
        let text = std::fs::read_to_string(dir.path().join("logs/adwd.log")).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("hello") && text.contains("***"), "{text}");
        assert!(!text.contains("ghp_") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn old_files_are_removed_and_the_link_stays() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        for day in ["2020-01-01", "2020-01-02", "2020-01-03"] {
            std::fs::write(logs.join(format!("adwd.log.{day}")), "old").unwrap();
        }
        drop(build(&config(dir.path())).unwrap());
        let files = std::fs::read_dir(&logs)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().metadata().unwrap().is_file())
            .count();
        assert_eq!(files, 2);
        assert!(logs.join("adwd.log").is_symlink());
    }

    #[test]
    fn a_wrong_level_says_which_are_right() {
        let dir = tempfile::tempdir().unwrap();
        let config = TelemetryConfig { level: "a=b=c".to_owned(), ..config(dir.path()) };
        let error = build(&config).map(drop).unwrap_err().to_string();
        assert!(error.contains("use trace, debug, info"), "{error}");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let line = clean_line("é".repeat(LOG_LINE_MAX_BYTES).as_bytes());
        assert!(line.len() < LOG_LINE_MAX_BYTES + 20 && line.ends_with("[cut]\n"));
    }
}
