//! Bounds of the MCP layer: queues, messages, pages and waits. The unit is the last word.

use std::time::Duration;

/// Longest blocking wait; clients give up on a call after 60 s.
pub const WAIT_MAX_S: u64 = 50;
/// Wait where the caller names none.
pub const WAIT_DEFAULT_S: u64 = 45;
/// A waiting client hears something at least this often.
pub const HEARTBEAT: Duration = Duration::from_millis(4_000);
/// One progress notification may take this long to leave before the next one is tried.
pub const PROGRESS_SEND: Duration = Duration::from_millis(1_000);
/// How often a client should ask after a task.
pub const TASK_POLL_MS: u64 = 2_500;
/// `resources/updated` for one resource is at least this far apart.
pub const UPDATED_GAP_MS: i64 = 250;
/// `resources/list_changed` is at least this far apart: clients read every page again on each.
pub const LIST_CHANGED_GAP_MS: i64 = 1_000;
/// Runs in the resource list; the rest is reached through templates.
pub const LISTED_RUNS_COUNT: u32 = 20;
/// Open executions of step workflows in the resource list.
pub const LISTED_EXECUTIONS_COUNT: u32 = 50;
/// Workflows in the resource list, and prompts that start one; the rest is reached by name.
pub const LISTED_WORKFLOWS_COUNT: usize = 500;
/// Things that are looked through for a completion, newest first.
pub const COMPLETED_COUNT: u32 = 1_000;
/// Content of artifacts that a list of seed 001 carries along; the rest is read one by one. Escaped
/// twice (JSON in JSON) it may be four times as long, and clients read 16 MiB at most.
pub const INLINE_CONTENT_BYTES: i64 = 2 << 20;
/// Book series in the resource list.
pub const LISTED_SERIES_COUNT: u32 = 20;
/// Values in one completion, set by the protocol.
pub const COMPLETION_COUNT: usize = 100;
/// Resources one connection or stream may watch.
pub const WATCHED_COUNT: usize = 256;
/// The address of a resource: a path of 512 characters in a name of 200, all escaped, fits.
pub const URI_MAX_BYTES: usize = 16 * 1024;
/// Runs of which a stream of a bound caller remembers whether they are its own.
pub const AUDIENCE_COUNT: usize = 1_024;
/// Streams and waits that may be open at once: over HTTP, and as many on the socket.
pub const STREAMS_COUNT: usize = 256;
/// Those of one caller over HTTP: as many as one address may have connections.
pub const CALLER_STREAMS_COUNT: usize = 64;
/// Connections to the unix socket at once.
pub const UNIX_CONNECTIONS_COUNT: usize = 256;
/// One message over the socket: an output of a step at its bound (4 MiB) fits with its escapes, and
/// one beyond it is refused by name and not by a torn connection.
pub const MESSAGE_MAX_BYTES: usize = 12 << 20;
/// Values of one message: names, members and entries. Reading 100,000 takes some hundredths of a
/// second; no message that means something has a tenth of it.
pub const MESSAGE_VALUES_COUNT: usize = 100_000;
/// The line by which `adwd stdio` introduces a connection.
pub const HELLO_MAX_BYTES: usize = 512;
/// One request body over HTTP.
pub const BODY_MAX_BYTES: usize = MESSAGE_MAX_BYTES;
/// The text of a refusal by the HTTP library, put into other words.
pub const REFUSAL_MAX_BYTES: usize = 64 * 1024;
/// A comment keeps idle event streams open this often.
pub const SSE_KEEP_ALIVE: Duration = Duration::from_millis(15_000);
/// After a stop was asked for: streams and waits get this long to end with a result.
pub const GRACE: Duration = Duration::from_millis(300);
/// After that: connections get this long to be written out.
pub const DRAIN: Duration = Duration::from_millis(2_000);
/// A half-closed connection is served until its last reply, but no longer than this.
pub const HALF_CLOSED: Duration = Duration::from_millis(60_000);
/// How often a half-closed connection is looked at.
pub const HALF_CLOSED_POLL: Duration = Duration::from_millis(50);
/// Pause after an accept failed, so that a lack of file descriptors does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Lines of a log that a resource or a prompt shows.
pub const LOG_RESOURCE_LINES: u32 = 1_000;
/// Lines of a log that a diagnosis carries.
pub const DIAGNOSE_LINES: u32 = 80;
/// Runs that a summary carries.
pub const SUMMARY_RUNS_COUNT: u32 = 50;
/// A client's own call id longer than this is not used as a key.
pub const CALL_ID_MAX_CHARS: usize = 200;
/// A string argument longer than this is refused before it goes anywhere.
pub const ARGUMENT_MAX_CHARS: usize = 4_096;
/// Entries of a list argument: the paths that a step refers to can be many.
pub const ARGUMENT_LIST_COUNT: usize = 200;
/// A long text that is an argument of its own: a concept, a summary, findings.
pub const PROSE_MAX_CHARS: usize = 65_536;
/// Entries of an argument that is a list of objects.
pub const GROUPS_COUNT: usize = 512;
/// How long a client may keep lists of tools and templates, which change with the program only.
pub const STATIC_TTL_MS: u64 = 300_000;
/// How long a client may keep personas, rules and workflows, which change when a file is edited.
pub const CONTENT_TTL_MS: u64 = 300_000;
/// How long a client may keep what a run's resource said.
pub const LIVE_TTL_MS: u64 = 500;
