//! Every bound in the program: queues, lines, files, pages and waits.
//!
//! One place, so that "what happens when there is too much of it" has one place to be answered.
//! The unit is the last word of the name: `_ms`, `_bytes`, `_chars`, `_count`.

mod told;

pub use told::*;

// Hints.

/// Changes a slow listener may fall behind before it is told to read everything again.
pub const CHANGES_BUFFER_COUNT: usize = 1024;

// Locks.

/// Pause between two tries for a file lock.
pub const LOCK_POLL_MS: u64 = 20;
/// How long the pid of the instance that holds the lock may take to appear in the lock file.
pub const INSTANCE_PID_WAIT_MS: u64 = 200;

// Database.

/// Read connections to SQLite.
pub const DB_SQLITE_READERS_COUNT: u32 = 4;
/// Connections to PostgreSQL.
pub const DB_POSTGRES_CONNECTIONS_COUNT: u32 = 10;
/// How long SQLite waits for another process's write lock.
pub const DB_BUSY_TIMEOUT_MS: u64 = 5_000;
/// How long a caller waits for a free connection.
pub const DB_ACQUIRE_TIMEOUT_MS: u64 = 10_000;
/// How long opening the database may take, first connection included.
pub const DB_OPEN_TIMEOUT_MS: u64 = 10_000;
/// A PostgreSQL connection idle this long is given back.
pub const DB_IDLE_TIMEOUT_MS: u64 = 600_000;
/// How long PostgreSQL works on one statement, where neither server, role nor URL says otherwise.
pub const DB_STATEMENT_MS: u64 = 30_000;
/// How long PostgreSQL lets an open transaction of a client that went silent hold its locks.
pub const DB_IDLE_TRANSACTION_MS: u64 = 60_000;
/// How long an answer of PostgreSQL is waited for: longer than the server itself would work, so
/// that only a server that cannot be reached any more comes to it.
pub const DB_ANSWER_MS: u64 = 45_000;
/// A statement slower than this is reported in the log.
pub const DB_SLOW_MS: u64 = 1_000;
/// Prepared statements kept per connection.
pub const DB_STATEMENT_CACHE_COUNT: usize = 256;

// Configuration.

/// Size of a configuration file.
pub const CONFIG_FILE_MAX_BYTES: u64 = 1 << 20;
/// Projects one daemon serves.
pub const CONFIG_PROJECTS_MAX_COUNT: usize = 256;
/// Content folders beside the built-in one.
pub const CONFIG_CONTENTS_MAX_COUNT: usize = 32;
/// Entries of one list in the configuration.
pub const CONFIG_LIST_MAX_COUNT: usize = 256;
/// Length of a Unix socket's path: the kernel's `sun_path` less the closing zero.
pub const SOCKET_PATH_MAX_BYTES: usize = 107;

// Log.

/// One line of the daemon's own log; the rest is cut off.
pub const LOG_LINE_MAX_BYTES: usize = 64 * 1024;
/// Lines waiting for the log file before new ones are dropped.
pub const LOG_BUFFER_COUNT: usize = 16_384;
/// Values of secret environment variables shorter than this are not masked: masking every `1`
/// or `true` would make the log unreadable.
pub const LOG_SECRET_MIN_CHARS: usize = 8;

// Runs.

/// A marker line (`spec/adw.md` §2).
pub const MARKER_BYTES: usize = 4 * 1024;
/// A state file (`spec/adw.md` §1).
pub const STATE_FILE_BYTES: u64 = 1 << 20;
/// A name that a state file tells (branch, path, URL): a longer one is none.
pub const STATE_NAME_BYTES: usize = 4 * 1024;
/// Prose that a state file tells (title, summary, error): the rest is cut off.
pub const STATE_PROSE_CHARS: usize = 8_000;
/// A record of an attempt's folder.
pub const RECORD_BYTES: u64 = 1 << 20;
/// Files looked at to tell whether a run still moves.
pub const ACTIVITY_FILES_COUNT: usize = 4_000;
/// One line of an agent's stream; a longer one tells nothing of what was spent.
pub const AGENT_LINE_BYTES: usize = 8 << 20;
/// Bytes of an agent's stream that are read before others get their turn.
pub const AGENT_STEP_BYTES: u64 = 1 << 20;
/// The beginning of an agent's stream by which it is known again.
pub const AGENT_HEAD_BYTES: usize = 512;
/// Messages of one agent call whose usage is told apart.
pub const AGENT_MESSAGES_COUNT: usize = 20_000;
/// So much of the id of an agent's message tells it from others.
pub const AGENT_MESSAGE_ID_BYTES: usize = 128;
/// Project folders of a log tree that are looked into.
pub const LOG_PROJECTS_COUNT: usize = 64;
/// The log of one attempt; one that outgrows it is ended.
pub const PHASE_LOG_BYTES: u64 = 256 << 20;
/// Lines of a failed phase's log that its failure carries.
pub const FAILURE_TAIL_COUNT: usize = 20;
/// By how much the start of an attempt must lie ahead of what the clock says of it before the clock
/// counts as set back: more than a start takes and than an adjustment in small steps.
pub const CLOCK_SET_BACK_MS: i64 = 2_000;
/// How often an attended phase is looked at without a hint.
pub const ATTEND_POLL_MS: u64 = 2_000;
/// How often the supervisor scans without a hint while runs are active.
pub const SCAN_MS: u64 = 5_000;
/// The same while none is: each look of an idle daemon wakes a processor that may sleep.
pub const SCAN_IDLE_MS: u64 = 30_000;
/// How often ended runs' worktrees are looked at, and projects that could not be served.
pub const SWEEP_MS: u64 = 15_000;
/// The same while there are none.
pub const SWEEP_IDLE_MS: u64 = 60_000;
/// How often runs that somebody started by hand are looked at while there are any.
pub const EXTERNAL_MS: u64 = 3_000;
/// How often they are looked for while there are none.
pub const EXTERNAL_IDLE_MS: u64 = 5_000;
/// Longest time between two signs of life of a wait.
pub const WAIT_HEARTBEAT_MS: u64 = 5_000;
/// Pause after a failed step of a driver, before it looks again.
pub const DRIVER_BACKOFF_MS: u64 = 1_000;
/// Grace that a trigger gives the supervisor to take a run out of the queue before it answers
/// that the run waits.
pub const ADMISSION_GRACE_MS: u64 = 400;
/// A git or uv command of the preflight.
pub const PREFLIGHT_COMMAND_MS: u64 = 60_000;
/// How long an answer of uv or git may stand for the next run's, while no file under it changes.
pub const KNOWN_MS: u64 = 60_000;
/// A file whose last change is younger may change again without a new time, s.
pub const KNOWN_SETTLED_S: i64 = 2;
/// Answers that are kept.
pub const KNOWN_COUNT: usize = 1_024;
/// References and their folders that are looked at; where there are more, git is asked each time.
pub const KNOWN_REFS_COUNT: usize = 512;
/// Output kept of such a command.
pub const COMMAND_OUTPUT_BYTES: usize = 1 << 20;
/// Foreign runs of a project that one round reads; those that ended long ago are not read again.
pub const EXTERNAL_RUNS_COUNT: usize = 2_000;
/// Runs on one page of a list.
pub const LIST_PAGE_COUNT: u32 = 100;
/// Runs on a page where nothing is said.
pub const LIST_DEFAULT_COUNT: u32 = 50;
/// Lines on one page of a log.
pub const LOG_PAGE_COUNT: u32 = 1_000;
/// Lines on a page where nothing is said.
pub const LOG_DEFAULT_COUNT: u32 = 200;
/// One git command.
pub const GIT_COMMAND_MS: u64 = 120_000;
/// One git command that writes or deletes a whole checkout.
pub const GIT_CHECKOUT_MS: u64 = 900_000;
/// How long the lock round a repository's worktrees is waited for.
pub const GIT_LOCK_WAIT_MS: u64 = 300_000;
/// Folders in one another below `refs/heads` that are looked into.
pub const GIT_REF_DEPTH_COUNT: usize = 8;
/// A lock of what all worktrees share is younger than that while somebody may still have it who is not
/// seen. git itself waits that long for `packed-refs.lock`.
pub const GIT_SHARED_LOCK_MS: u64 = 1_000;
/// How long a git that a killed daemon left behind may hold that lock while others wait for it.
pub const GIT_ORPHAN_MS: u64 = 60_000;
/// Remotes that are asked whether they have a commit.
pub const GIT_REMOTES_COUNT: usize = 4;
/// Tries of a `worktree add` that another process disturbed.
pub const GIT_ADD_TRIES_COUNT: u32 = 5;
/// Half of the pause after the first of them; it doubles each time.
pub const GIT_ADD_PAUSE_MS: u64 = 50;
/// Tries to remove a folder that somebody may still write into.
pub const REMOVE_TRIES_COUNT: u32 = 10;
/// Pause between two of them.
pub const REMOVE_PAUSE_MS: u64 = 100;
/// How long mending a repository may hold up the daemon's start.
pub const GIT_REPAIR_MS: u64 = 10_000;
/// How long a worktree that could not be removed is left alone.
pub const JANITOR_AGAIN_MS: u64 = 600_000;
/// A worktree's record that names no folder for so long was left by a crash.
pub const GIT_HALF_MADE_MS: u64 = 10_000;
/// An empty `commondir` is filled within the same moment, or never: it poisons the repository.
pub const GIT_POISON_MS: u64 = 500;

// Logs of phases.

/// One line of a phase's log; the rest of it is cut off.
pub const TAIL_LINE_BYTES: usize = 16 * 1024;
/// How far the end of one line is looked for, to pass over the rest of it.
pub const TAIL_LONG_LINE_BYTES: u64 = 128 << 20;
/// What one step of a tail reads.
pub const TAIL_STEP_BYTES: usize = 1 << 20;
/// What one page of a log reads.
pub const TAIL_PAGE_BYTES: usize = 1 << 20;
/// What is read from the end of a log for its last lines.
pub const TAIL_LAST_BYTES: u64 = 64 * 1024;

// Hints of the file system.

/// Hints are held back this long, so that one save of a file is one hint.
pub const WATCH_DEBOUNCE_MS: u64 = 50;
/// Dirty paths remembered before everything counts as dirty.
pub const WATCH_DIRTY_COUNT: usize = 1_024;
/// A new folder is looked at again after this long: what is written into it before the watch
/// reaches it gives no event.
pub const WATCH_AGAIN_MS: u64 = 150;
/// How often a polling watcher looks.
pub const WATCH_POLL_MS: u64 = 1_000;

// Processes.

/// How long a monitor tries for its locks: a look of the daemon holds them for an instant.
pub const MONITOR_LOCK_MS: u64 = 2_000;
/// How long a monitor may take to begin.
pub const MONITOR_BEGIN_MS: u64 = 15_000;
/// Launches of a monitor that somebody kills before it has begun.
pub const MONITOR_LAUNCHES_COUNT: u32 = 3;
/// How long after the end of its ladder a monitor that was asked to stop counts as stuck.
pub const MONITOR_STUCK_MS: u64 = 5_000;
/// How long `adwd-monitor` may take to say its version.
pub const MONITOR_VERSION_MS: u64 = 2_000;
/// How often a monitor looks for stop requests and limits.
pub const MONITOR_TICK_MS: u16 = 250;
/// The same while it ends its tree.
pub const MONITOR_FAST_TICK_MS: u16 = 20;
/// From SIGTERM to SIGKILL for what outlives a phase that ended by itself.
pub const STRAGGLER_GRACE_MS: u64 = 2_000;
/// How long SIGKILL is repeated.
pub const KILL_LIMIT_MS: u64 = 10_000;
/// Longest grace for a phase whose log outgrew its bound.
pub const FLOOD_GRACE_MS: u64 = 1_000;
/// How long a monitor tries to write down the end where the disk is full.
pub const EXIT_RECORD_MS: u64 = 60_000;
/// Pause between two of these tries.
pub const EXIT_RECORD_PAUSE_MS: u64 = 1_000;
/// Pause before a spawn that failed for a passing reason is tried once more.
pub const SPAWN_RETRY_MS: u64 = 1_000;
/// From SIGTERM to SIGKILL for a short command that passed its limit.
pub const COMMAND_TERM_GRACE_MS: u64 = 2_000;
/// How long a stream that a grandchild keeps open is read after a command's end.
pub const COMMAND_DRAIN_MS: u64 = 500;

// Content of step workflows.

/// One content file.
pub const CONTENT_FILE_BYTES: u64 = 256 << 10;
/// Files of one content folder.
pub const CONTENT_FILES_COUNT: usize = 2_000;
/// Folders below `agents`, `rules` or `workflows`.
pub const CONTENT_DEPTH_COUNT: usize = 8;
/// Entries of one folder that are looked at.
pub const CONTENT_ENTRIES_COUNT: usize = 20_000;
/// Levels of front matter.
pub const CONTENT_YAML_DEPTH_COUNT: usize = 16;
/// Values in front matter.
pub const CONTENT_YAML_NODES_COUNT: usize = 20_000;
/// Phases of one workflow.
pub const CONTENT_PHASES_COUNT: usize = 100;
/// Problems that are told of one content folder.
pub const CONTENT_PROBLEMS_COUNT: usize = 1_000;
/// Name of an agent, a rule or a phase (`spec/steps.md` §1.1).
pub const CONTENT_NAME_CHARS: usize = 100;
/// Name of a workflow.
pub const CONTENT_WORKFLOW_NAME_CHARS: usize = 200;
/// Description of an agent, a rule or a phase.
pub const CONTENT_DESCRIPTION_CHARS: usize = 500;
/// Description of a workflow.
pub const CONTENT_WORKFLOW_DESCRIPTION_CHARS: usize = 2_000;
/// Tags of anything, and one of them.
pub const CONTENT_TAGS_COUNT: usize = 20;
/// One tag.
pub const CONTENT_TAG_CHARS: usize = 50;
/// Patterns of a rule or phase.
pub const CONTENT_GLOBS_COUNT: usize = 50;
/// One pattern.
pub const CONTENT_GLOB_CHARS: usize = 200;
/// Patterns that the braces of one pattern may stand for.
pub const CONTENT_GLOB_BRANCHES_COUNT: usize = 256;
/// Keywords of a workflow.
pub const CONTENT_KEYWORDS_COUNT: usize = 50;
/// One keyword.
pub const CONTENT_KEYWORD_CHARS: usize = 100;
/// Actions that a phase allows.
pub const CONTENT_ACTIONS_COUNT: usize = 50;
/// One of them.
pub const CONTENT_ACTION_CHARS: usize = 500;
/// A version, or the type of a workflow.
pub const CONTENT_WORD_CHARS: usize = 20;
/// Longest duration that a workflow may announce: a year.
pub const CONTENT_DURATION_MAX_MINUTES: u32 = 525_600;
/// Hints about content are gathered this long, so that a checkout is one sync.
pub const CONTENT_DEBOUNCE_MS: u64 = 150;
/// How often content is looked at without a hint.
pub const CONTENT_RESCAN_MS: u64 = 30_000;

// Step workflows.

/// One artifact's content (`spec/steps.md` §3.3).
pub const STEPS_ARTIFACT_BYTES: usize = 1 << 20;
/// Artifacts, with and without content, that one step submits.
pub const STEPS_ARTIFACTS_COUNT: usize = 100;
/// One submission as JSON, its artifacts included.
pub const STEPS_OUTPUT_BYTES: usize = 4 << 20;
/// Steps of one execution that may be out at once.
pub const STEPS_PARALLEL_COUNT: u32 = 16;
/// A token: an execution id, a step's name of 100 characters and two hashes fit well.
pub const STEPS_TOKEN_CHARS: usize = 4_096;
/// How far in the future a token may have been issued: the clocks of two hosts differ.
pub const STEPS_TOKEN_SKEW_MS: i64 = 5_000;
/// Shortest lifetime of a token.
pub const STEPS_TOKEN_TTL_MIN_S: u64 = 60;
/// A replaced signing key is kept this long beyond a token's lifetime: another host may go on
/// signing with it until its next look.
pub const STEPS_KEY_GRACE_MS: i64 = 600_000;
/// How often an unknown key id makes the daemon look for keys of other hosts.
pub const STEPS_KEY_RELOAD_MS: u64 = 1_000;
/// Tokens that are none of ours, which one connection may present at once, and how many more each
/// second; beyond them it is told to wait, and they are no events any more (`spec/steps.md` §6).
pub const STEPS_GUESSES_COUNT: u32 = 20;
/// See [`STEPS_GUESSES_COUNT`].
pub const STEPS_GUESSES_PER_S: f64 = 1.0;
/// A key file.
pub const STEPS_KEY_FILE_BYTES: u64 = 64 * 1024;
/// How often stalls, ages and retention are looked at (`spec/steps.md` §6).
pub const STEPS_SWEEP_MS: u64 = 60_000;
/// Executions on one page of the sweeper.
pub const STEPS_SWEEP_COUNT: u32 = 1_000;
/// Telemetry events that are kept, whatever their age.
pub const STEPS_EVENTS_KEEP_COUNT: i64 = 1_000_000;
/// Telemetry events that one statement deletes, so that no writer waits long.
pub const STEPS_EVENTS_DELETE_COUNT: u32 = 5_000;
/// Rows on one page of events, artifacts or executions.
pub const STEPS_PAGE_COUNT: u32 = 1_000;
/// Rows on a page where nothing is said.
pub const STEPS_PAGE_DEFAULT_COUNT: u32 = 100;
/// Artifacts of one execution where nothing is said: all that it can have, and the synthesis.
pub const STEPS_EXECUTION_ARTIFACTS_COUNT: u32 =
    (CONTENT_PHASES_COUNT * STEPS_ARTIFACTS_COUNT + 1) as u32;
/// Snapshots kept parsed in memory.
pub const STEPS_SNAPSHOTS_COUNT: usize = 64;
/// Events about refused calls that wait to be stored; more are dropped.
pub const STEPS_NOTES_COUNT: usize = 256;
/// Rows that one INSERT stores.
pub const STEPS_BATCH_COUNT: usize = 16;
/// Paths that a completed step hands on to the steps after it.
pub const STEPS_FOCUS_COUNT: usize = 200;
/// One of them; a longer one is not a path.
pub const STEPS_FOCUS_CHARS: usize = 512;
/// Entries of a list of hints.
pub const STEPS_HINTS_COUNT: usize = 200;
/// A reason or rationale.
pub const STEPS_REASON_CHARS: usize = 2_000;
/// A rate bucket that was not touched for so long is full, and forgotten.
pub const STEPS_BUCKET_KEEP_MS: i64 = 24 * 3_600_000;
/// Forbidden actions that a contract names (`spec/steps.md` §6): the gravest.
pub const STEPS_FORBIDDEN_COUNT: usize = 5;

// Writing.

/// Books of one series.
pub const WRITING_BOOKS_MAX_COUNT: i64 = 100;
/// A concept, summary, blurb or other free text.
pub const WRITING_TEXT_MAX_CHARS: usize = 20_000;
/// A title, name, reason, key or entry of a list.
pub const WRITING_WORD_MAX_CHARS: usize = 500;
/// Entries of a list that a caller gives.
pub const WRITING_LIST_MAX_COUNT: usize = 500;
/// Metadata, as JSON text.
pub const WRITING_METADATA_MAX_BYTES: usize = 64 * 1024;
/// Workflows, gates or approvals on a page.
pub const WRITING_PAGE_MAX_COUNT: i64 = 200;
/// The same where nothing is said.
pub const WRITING_PAGE_COUNT: i64 = 50;
/// Visits of phases in one answer.
pub const WRITING_HISTORY_MAX_COUNT: i64 = 500;
/// The same where nothing is said.
pub const WRITING_HISTORY_COUNT: i64 = 100;
/// QA reports in one answer.
pub const WRITING_REPORTS_MAX_COUNT: i64 = 50;
/// Days in one answer.
pub const WRITING_DAYS_MAX_COUNT: i64 = 1_000;
/// Metric types of one workflow, its own included; reads take as long as there are types.
pub const WRITING_TYPES_MAX_COUNT: i64 = 200;
/// Metric types that a caller may ask for at once.
pub const WRITING_TYPES_ASKED_COUNT: usize = 100;
/// Chapters of a book, scenes of a chapter.
pub const WRITING_CHAPTERS_MAX_COUNT: i64 = 10_000;
/// Metrics that wait to be recorded before callers wait in turn.
pub const WRITING_QUEUE_COUNT: usize = 1_024;
/// Metrics recorded in one transaction.
pub const WRITING_BATCH_COUNT: usize = 128;
/// Rows of one step of an import or an export.
pub const WRITING_STEP_COUNT: i64 = 500;
/// How far a clock elsewhere may be ahead of ours before a moment counts as the future.
pub const WRITING_CLOCK_SKEW_MS: i64 = 60_000;

// Serving HTTP.

/// HTTP connections at once; the soft bound on open files is usually 1,024.
pub const HTTP_CONNECTIONS_COUNT: usize = 512;
/// Those of one address of another machine (of one /64 with IPv6).
pub const HTTP_PEER_CONNECTIONS_COUNT: usize = 64;
/// Connections that are told at once that all places are taken; more are closed without a word.
pub const HTTP_TURNED_AWAY_COUNT: usize = 64;
/// How long somebody who was turned away should wait.
pub const HTTP_TURNED_AWAY_RETRY_S: u64 = 1;
/// Headers of one request.
pub const HTTP_HEADERS_COUNT: usize = 100;
/// A request line and its headers: a token of an issuer has a few KiB.
pub const HTTP_HEAD_BYTES: usize = 32 * 1024;
/// What is read from one connection ahead of its being used.
pub const HTTP_BUFFER_BYTES: usize = 64 * 1024;
/// From the first byte of a request to the end of its headers.
pub const HTTP_HEAD_MS: u64 = 10_000;
/// From a connection's beginning to its first byte: on a busy machine a client connects long before
/// it speaks, and then its call would fail. Who says nothing makes room first and so costs nobody.
pub const HTTP_SILENT_MS: u64 = 30_000;
/// When all places are taken, a connection that came so lately is not yet blamed for having sent no
/// head: one that rests between two requests makes room first.
pub const HTTP_HEAD_GRACE_MS: u64 = 1_000;
/// A TLS handshake.
pub const HTTP_HANDSHAKE_MS: u64 = 10_000;
/// A whole request body.
pub const HTTP_BODY_MS: u64 = 30_000;
/// A request body where a route says nothing else.
pub const HTTP_BODY_BYTES: usize = 1 << 20;
/// A body up to this size is read without asking for a share of [`HTTP_BODIES_BYTES`].
pub const HTTP_SMALL_BODY_BYTES: usize = 64 * 1024;
/// All larger bodies that are being read or worked on at once.
pub const HTTP_BODIES_BYTES: usize = 16 << 20;
/// The same for all paths that have no bound of their own.
pub const HTTP_OTHER_BODIES_BYTES: usize = 4 << 20;
/// A connection between two requests. An open event stream is one request.
pub const HTTP_IDLE_MS: u64 = 75_000;
/// A client that takes nothing of its answer for so long is gone.
pub const HTTP_STALL_MS: u64 = 30_000;
/// What a refused client still sends is read this long, because closing at once would take the
/// refusal away from it.
pub const HTTP_LINGER_MS: u64 = 2_000;
/// Pause after an accept failed for want of something (file descriptors).
pub const HTTP_ACCEPT_PAUSE_MS: u64 = 100;
/// After a stop was asked for: connections get this long to be answered. The MCP layer ends its
/// streams and waits within that.
pub const HTTP_DRAIN_MS: u64 = 2_600;
/// How often the files of a certificate are looked at.
pub const HTTP_CERTIFICATE_LOOK_MS: u64 = 60_000;
/// The file of a certificate, with its chain, or of a key.
pub const HTTP_PEM_BYTES: u64 = 1 << 20;
// Access.

/// A key's name.
pub const ACCESS_NAME_CHARS: usize = 100;
/// Projects that one key is bound to.
pub const ACCESS_PROJECTS_COUNT: usize = 100;
/// Keys that are good, and keys in one list.
pub const ACCESS_KEYS_COUNT: i64 = 1_000;
/// A key that has not been good for so long is forgotten when the next one is made.
pub const ACCESS_KEEP_MS: i64 = 400 * 24 * 3_600_000;
/// Longest life of a key that has an end, and of a secret after its rotation.
pub const ACCESS_LIFE_MS: i64 = 100 * 365 * 24 * 3_600_000;
/// See [`ACCESS_LIFE_MS`].
pub const ACCESS_GRACE_MS: i64 = 30 * 24 * 3_600_000;
/// Calls an hour that a key may be given as its own.
pub const ACCESS_HOURLY_COUNT: i64 = 1_000_000_000;
/// What a key may be given to spend in a day.
pub const ACCESS_DAY_BUDGET_USD: i64 = 1_000_000;
/// How long a key that was looked up is believed: so soon a revocation by another daemon holds.
pub const ACCESS_CACHE_MS: u64 = 1_000;
/// Keys that are believed at once.
pub const ACCESS_CACHE_COUNT: usize = 1_024;
/// How often the use of one key is written down.
pub const ACCESS_TOUCH_MS: i64 = 60_000;
/// How often the key behind an open stream is looked up again.
pub const ACCESS_STREAM_CHECK_MS: u64 = 15_000;
/// The file with what keys are hashed with.
pub const ACCESS_PEPPER_BYTES: u64 = 1_024;
/// Bad credentials that an address may show in [`ACCESS_FAILURE_WINDOW_MS`] before it is shut out.
pub const ACCESS_FAILURES_COUNT: i64 = 10;
/// See [`ACCESS_FAILURES_COUNT`].
pub const ACCESS_FAILURE_WINDOW_MS: i64 = 60_000;
/// How long an address is shut out the first time; it doubles each time.
pub const ACCESS_BLOCK_MS: i64 = 30_000;
/// How long at most.
pub const ACCESS_BLOCK_MAX_MS: i64 = 15 * 60_000;
/// An address that showed nothing bad for so long begins anew, and is forgotten.
pub const ACCESS_FORGIVE_MS: i64 = 3_600_000;
/// Addresses that are remembered.
pub const ACCESS_ADDRESSES_COUNT: i64 = 10_000;
/// How often those beyond it are forgotten, while bad credentials come.
pub const ACCESS_FORGET_MS: i64 = 60_000;
/// Bad credentials that one daemon writes down in a second, of all addresses together.
pub const ACCESS_FAILURE_WRITES_PER_S: u32 = 50;
/// A bearer token.
pub const OAUTH_TOKEN_BYTES: usize = 16 * 1024;
/// The subject of a token.
pub const OAUTH_SUBJECT_CHARS: usize = 200;
/// How far the clocks of issuer and daemon may differ.
pub const OAUTH_LEEWAY_MS: i64 = 60_000;
/// One request to the issuer.
pub const OAUTH_FETCH_MS: u64 = 5_000;
/// One document of the issuer.
pub const OAUTH_DOCUMENT_BYTES: usize = 256 * 1024;
/// Keys of the issuer.
pub const OAUTH_KEYS_COUNT: usize = 100;
/// How often an unknown key id makes the daemon ask the issuer.
pub const OAUTH_REFRESH_MS: u64 = 60_000;
/// The issuer's keys are asked for again at this age.
pub const OAUTH_KEYS_AGE_MS: u64 = 15 * 60_000;
// Quotas and the record of calls.

/// A caller's hour.
pub const QUOTA_WINDOW_MS: i64 = 3_600_000;
/// An hour that ended so long ago is forgotten.
pub const QUOTA_KEEP_MS: i64 = 24 * 3_600_000;
/// Calls that wait to be recorded before callers wait in turn.
pub const AUDIT_QUEUE_COUNT: usize = 1_024;
/// Calls that one transaction records.
pub const AUDIT_BATCH_COUNT: usize = 256;
/// Rows that one INSERT stores.
pub const AUDIT_ROWS_COUNT: usize = 16;
/// How long the end of a call waits for the beginning of another, to be written with it.
pub const AUDIT_LINGER_MS: u64 = 20;
/// Ends that wait for a database that does not take them; the oldest are given up beyond it.
pub const AUDIT_ENDS_COUNT: usize = 10_000;
/// How long the record may take to be written at the end of the daemon.
pub const AUDIT_END_MS: u64 = 2_000;
/// Pause after a batch that the database did not take, before its ends are tried again.
pub const AUDIT_AGAIN_MS: u64 = 1_000;
/// How long after the start old records are first looked for.
pub const AUDIT_FIRST_SWEEP_MS: u64 = 60_000;
/// How often they are from then on.
pub const AUDIT_SWEEP_MS: u64 = 600_000;
/// Records that one statement deletes, so that no call waits long.
pub const AUDIT_DELETE_COUNT: u32 = 500;
/// Pause between two of these, in which calls go first.
pub const AUDIT_DELETE_PAUSE_MS: u64 = 50;
/// Records that are kept, whatever their age.
pub const AUDIT_KEEP_COUNT: i64 = 1_000_000;
/// How many of them may be reads by callers who show no key, in percent.
pub const AUDIT_ANONYMOUS_PERCENT: i64 = 10;
/// Arguments as they are recorded, as JSON.
pub const AUDIT_PARAMS_BYTES: usize = 8 * 1024;
/// One text of them; of a longer one the beginning is recorded and its length.
pub const AUDIT_TEXT_CHARS: usize = 500;
/// How much of a text is looked through for secrets before it is cut.
pub const AUDIT_LOOKED_BYTES: usize = 4 * 1024;
/// Levels of arguments that are recorded.
pub const AUDIT_DEPTH_COUNT: usize = 8;
/// A name, id or word of a record.
pub const AUDIT_WORD_CHARS: usize = 128;
/// Records on one page.
pub const AUDIT_PAGE_COUNT: u32 = 500;
/// Records on a page where nothing is said.
pub const AUDIT_PAGE_DEFAULT_COUNT: u32 = 50;
