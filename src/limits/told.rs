//! Bounds of what leaves the daemon: health, metrics, traces, webhooks, schedules and notices.

// What is told to those who watch the daemon.

/// Names of phases that metrics tell apart; further ones count together.
pub const METRICS_LABELS_COUNT: usize = 64;
/// A scrape that comes sooner after another one gets the same facts.
pub const METRICS_CACHE_MS: u64 = 1_000;
/// How long the database is waited for at a scrape or a look at readiness.
pub const OBSERVE_DB_MS: u64 = 3_000;
/// How long an examination of the machine is good for.
pub const HEALTH_CACHE_MS: u64 = 30_000;
/// How long one program may take that is asked for its version.
pub const HEALTH_PROGRAM_MS: u64 = 10_000;
/// How long the script may take that is run through uv.
pub const HEALTH_SCRIPT_MS: u64 = 30_000;
/// The supervisor must beat at least this often, or systemd's watchdog is left to bark.
pub const BEAT_LIMIT_MS: u64 = 45_000;
/// Ended runs that are sent to the collector in one go.
pub const TRACES_PAGE_COUNT: i64 = 50;
/// A run that ended longer ago is not sent any more.
pub const TRACES_BACKLOG_MS: i64 = 7 * 24 * 3_600_000;
/// How often ended runs are looked for where no hint comes.
pub const TRACES_LOOK_MS: u64 = 30_000;
/// How long the collector is waited for.
pub const TRACES_SEND_MS: u64 = 10_000;
/// First and longest pause after the collector could not be reached.
pub const TRACES_BACKOFF_MS: u64 = 1_000;
/// See [`TRACES_BACKOFF_MS`].
pub const TRACES_BACKOFF_MAX_MS: u64 = 300_000;
/// What is read of the collector's answer.
pub const TRACES_ANSWER_MAX_BYTES: usize = 64 * 1024;
// Outside.

/// A delivery's body. GitHub sends up to 25 MiB; those of issues and comments are far smaller.
pub const OUTSIDE_BODY_MAX_BYTES: usize = 1 << 20;
/// How long a delivery's body may take to come.
pub const OUTSIDE_BODY_MS: u64 = 8_000;
/// The log tells of one refused webhook in this time.
pub const OUTSIDE_REFUSAL_LOG_MS: i64 = 1_000;
/// How long the answer to a delivery may take; GitHub waits 10 s.
pub const OUTSIDE_ANSWER_MS: u64 = 8_000;
/// How long a delivery is remembered, and how long one who was told is.
pub const OUTSIDE_KEEP_MS: i64 = 30 * 24 * 3_600_000;
/// How often what is older is forgotten.
pub const OUTSIDE_PRUNE_MS: u64 = 3_600_000;
/// Characters of a secret, at least.
pub const OUTSIDE_SECRET_MIN_CHARS: usize = 16;
/// A file that holds a secret.
pub const OUTSIDE_SECRET_FILE_MAX_BYTES: u64 = 4_096;
/// Tables of one kind in the configuration.
pub const OUTSIDE_TABLES_COUNT: usize = 64;
/// Issues of one schedule.
pub const OUTSIDE_SCHEDULE_ISSUES_COUNT: usize = 50;
/// An address that is told.
pub const OUTSIDE_URL_MAX_CHARS: usize = 2_000;
/// How late a schedule still counts as in time: a restart, a busy machine.
pub const SCHEDULE_LATE_MS: i64 = 10 * 60_000;
/// How far what was last handled may lie ahead of the clock before the clock is believed instead.
pub const SCHEDULE_AHEAD_MS: i64 = 26 * 3_600_000;
/// The clock is looked at this often, whatever it said before: it may have been set.
pub const SCHEDULE_LOOK_MS: u64 = 20_000;
/// How often is looked for ends of runs that nobody was told of, where no change hints at it.
pub const HOOK_LOOK_MS: u64 = 5_000;
/// How far back is looked for them; shorter than [`OUTSIDE_KEEP_MS`], or they would be told again.
pub const HOOK_LOOK_BACK_MS: i64 = 7 * 24 * 3_600_000;
/// After a change of a run, how long further ones are waited for before ends are looked for.
pub const HOOK_GATHER_MS: u64 = 250;
/// Ends of runs taken in at once, and notices sent in a row.
pub const HOOK_BATCH_COUNT: i64 = 50;
/// One attempt to tell: connection, request and answer.
pub const HOOK_ATTEMPT_MS: u64 = 15_000;
/// Attempts to tell, in all.
pub const HOOK_ATTEMPTS_COUNT: i64 = 12;
/// Pause after the first attempt; it triples with each further one.
pub const HOOK_PAUSE_MS: i64 = 5_000;
/// The longest pause.
pub const HOOK_PAUSE_MAX_MS: i64 = 6 * 3_600_000;
/// The longest pause that a receiver can ask for with `Retry-After`.
pub const HOOK_RETRY_AFTER_MAX_MS: i64 = 24 * 3_600_000;
/// What is read of a receiver's answer, to show it.
pub const HOOK_ANSWER_MAX_BYTES: usize = 2_048;
/// The body of a notice; of a larger one the log's last lines are left out.
pub const HOOK_BODY_MAX_BYTES: usize = 256 * 1024;
/// One text in a chat message.
pub const HOOK_TEXT_MAX_CHARS: usize = 300;
/// Notices in one listing.
pub const HOOK_LIST_COUNT: i64 = 200;
