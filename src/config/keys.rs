//! The table of settings: for each its key, its environment variables, how it is read and shown.
//!
//! One table for the file, the environment and the flags, so that a setting can never exist in one
//! of them and be forgotten in another.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::LazyLock;

use super::types::{Config, DAY_MS, ToolNames};
use super::value::{Base, Input};
use crate::limits::{SOCKET_PATH_MAX_BYTES, STEPS_PARALLEL_COUNT, STEPS_TOKEN_TTL_MIN_S};

type Set = fn(&mut Config, &Input, &Base) -> Result<(), String>;
type Get = fn(&Config) -> String;

/// One setting.
pub(super) struct Key {
    /// Its name in the file, with dots for tables, and in `adwd config`.
    pub name: &'static str,
    /// Environment variables that set it; the later one wins.
    pub env: &'static [&'static str],
    pub set: Set,
    pub get: Get,
}

const fn key(name: &'static str, env: &'static [&'static str], set: Set, get: Get) -> Key {
    Key { name, env, set, get }
}

const COUNT: RangeInclusive<u64> = 1..=1_000;
const WEEK_S: u64 = 7 * 24 * 3_600;
const SECONDS: RangeInclusive<u64> = 1..=WEEK_S;
const PAUSE_S: RangeInclusive<u64> = 0..=24 * 3_600;
const DAYS: RangeInclusive<u64> = 0..=3_650;
const RATE: RangeInclusive<f64> = 0.001..=10_000.0;
/// Token lifetimes: a minute to a year.
const TTL_S: RangeInclusive<u64> = STEPS_TOKEN_TTL_MIN_S..=365 * 24 * 3_600;
/// Ages after which something is done; 0 is never.
const AGE_S: RangeInclusive<u64> = 0..=365 * 24 * 3_600;

fn small(input: &Input, range: &RangeInclusive<u64>) -> Result<u32, String> {
    let number = input.whole(range)?;
    u32::try_from(number).map_err(|_| "expected a smaller number".to_owned())
}

fn seconds(input: &Input, range: &RangeInclusive<u64>) -> Result<u64, String> {
    input.whole(range).map(|s| s * 1_000).map_err(|problem| format!("{problem}, in seconds"))
}

fn some_text(input: &Input) -> Result<String, String> {
    Some(input.text()?).filter(|t| !t.trim().is_empty()).ok_or("expected a text".to_owned())
}

macro_rules! seconds_key {
    ($name:literal, $env:expr, $range:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, _| { c.$($field).+ = seconds(v, &$range)?; Ok(()) },
            |c| (c.$($field).+ / 1_000).to_string(),
        )
    };
}

macro_rules! count_key {
    ($name:literal, $env:expr, $range:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, _| { c.$($field).+ = small(v, &$range)?; Ok(()) },
            |c| c.$($field).+.to_string(),
        )
    };
}

macro_rules! path_key {
    ($name:literal, $env:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, base| { c.$($field).+ = base.path(&v.text()?)?; Ok(()) },
            |c| c.$($field).+.display().to_string(),
        )
    };
}

macro_rules! list_key {
    ($name:literal, $env:expr, $check:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, _| {
                let list = v.list()?;
                list.iter().try_for_each(|item| $check(item.as_str()))?;
                c.$($field).+ = list;
                Ok(())
            },
            |c| c.$($field).+.join(","),
        )
    };
}

macro_rules! days_key {
    ($name:literal, $env:expr, $range:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, _| { c.$($field).+ = v.whole(&$range)? * DAY_MS; Ok(()) },
            |c| (c.$($field).+ / DAY_MS).to_string(),
        )
    };
}

macro_rules! rate_key {
    ($name:literal, $env:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, _| { c.$($field).+ = v.number(&RATE)?; Ok(()) },
            |c| c.$($field).+.to_string(),
        )
    };
}

macro_rules! bool_key {
    ($name:literal, $env:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, _| { c.$($field).+ = v.bool()?; Ok(()) },
            |c| c.$($field).+.to_string(),
        )
    };
}

/// A path that may be left out.
macro_rules! file_key {
    ($name:literal, $env:expr, $($field:ident).+) => {
        key(
            $name,
            $env,
            |c, v, base| { c.$($field).+ = Some(base.path(&v.text()?)?); Ok(()) },
            |c| c.$($field).+.as_deref().map(|p| p.display().to_string()).unwrap_or_default(),
        )
    };
}

mod access;
mod budget;
mod observe;
mod outside;
mod rates;
mod serve;
mod tools;

/// Every setting but `[[project]]`, `[[profile]]` and `[[content]]`.
pub(super) static KEYS: LazyLock<Vec<&'static Key>> = LazyLock::new(|| {
    let parts = [
        CORE,
        access::KEYS,
        serve::KEYS,
        rates::KEYS,
        tools::KEYS,
        budget::KEYS,
        observe::KEYS,
        outside::KEYS,
    ];
    parts.into_iter().flatten().collect()
});

/// What the foundation, the runs and the workflows need.
static CORE: &[Key] = &[
    path_key!("state_dir", &["ADWD_STATE_DIR"], paths.state_dir),
    path_key!("runtime_dir", &["ADWD_RUNTIME_DIR"], paths.runtime_dir),
    key("socket", &["ADWD_SOCKET"], set_socket, |c| c.paths.socket.display().to_string()),
    path_key!("log_dir", &["ADWD_LOG_DIR"], paths.log_dir),
    key(
        "database_url",
        &["ADWD_DATABASE_URL"],
        |c, v, base| {
            c.paths.database_url = database_url(&v.text()?, base)?;
            Ok(())
        },
        |c| c.paths.database_url.clone(),
    ),
    bool_key!("http.enabled", &["ADWD_HTTP_ENABLED"], http.enabled),
    key("http.bind", &["ADWD_HTTP_BIND"], set_bind, |c| c.http.bind.to_string()),
    list_key!(
        "http.allowed_origins",
        &["ADWD_HTTP_ALLOWED_ORIGINS"],
        check_origin,
        http.allowed_origins
    ),
    count_key!("limits.max_running", &["ADWD_LIMITS_MAX_RUNNING"], COUNT, limits.max_running),
    count_key!(
        "limits.max_running_per_project",
        &["ADWD_LIMITS_MAX_RUNNING_PER_PROJECT"],
        COUNT,
        limits.max_running_per_project
    ),
    count_key!("limits.queue_max", &["ADWD_LIMITS_QUEUE_MAX"], 0..=100_000, limits.queue_max),
    count_key!(
        "limits.min_free_mb",
        &["ADWD_LIMITS_MIN_FREE_MB"],
        0..=1_000_000_000,
        limits.min_free_mb
    ),
    seconds_key!("phases.plan.wall_s", &["ADWD_PHASES_PLAN_WALL_S"], SECONDS, phases.plan.wall_ms),
    seconds_key!(
        "phases.plan.silence_s",
        &["ADWD_PHASES_PLAN_SILENCE_S"],
        SECONDS,
        phases.plan.silence_ms
    ),
    seconds_key!(
        "phases.build.wall_s",
        &["ADWD_PHASES_BUILD_WALL_S"],
        SECONDS,
        phases.build.wall_ms
    ),
    seconds_key!(
        "phases.build.silence_s",
        &["ADWD_PHASES_BUILD_SILENCE_S"],
        SECONDS,
        phases.build.silence_ms
    ),
    seconds_key!(
        "phases.review.wall_s",
        &["ADWD_PHASES_REVIEW_WALL_S"],
        SECONDS,
        phases.review.wall_ms
    ),
    seconds_key!(
        "phases.review.silence_s",
        &["ADWD_PHASES_REVIEW_SILENCE_S"],
        SECONDS,
        phases.review.silence_ms
    ),
    seconds_key!(
        "phases.other.wall_s",
        &["ADWD_PHASES_OTHER_WALL_S"],
        SECONDS,
        phases.other.wall_ms
    ),
    seconds_key!(
        "phases.other.silence_s",
        &["ADWD_PHASES_OTHER_SILENCE_S"],
        SECONDS,
        phases.other.silence_ms
    ),
    seconds_key!("stop.int_grace_s", &["ADWD_STOP_INT_GRACE_S"], PAUSE_S, stop.int_grace_ms),
    seconds_key!("stop.term_grace_s", &["ADWD_STOP_TERM_GRACE_S"], PAUSE_S, stop.term_grace_ms),
    count_key!("retry.max_attempts", &["ADWD_RETRY_MAX_ATTEMPTS"], 1..=20, retry.max_attempts),
    seconds_key!("retry.base_delay_s", &["ADWD_RETRY_BASE_DELAY_S"], PAUSE_S, retry.base_delay_ms),
    seconds_key!("retry.max_delay_s", &["ADWD_RETRY_MAX_DELAY_S"], PAUSE_S, retry.max_delay_ms),
    days_key!(
        "worktrees.keep_failed_days",
        &["ADWD_WORKTREES_KEEP_FAILED_DAYS"],
        DAYS,
        worktrees.keep_failed_ms
    ),
    bool_key!("worktrees.keep_success", &["ADWD_WORKTREES_KEEP_SUCCESS"], worktrees.keep_success),
    seconds_key!("steps.token_ttl_s", &["ADWD_STEPS_TOKEN_TTL_S"], TTL_S, steps.token_ttl_ms),
    days_key!("steps.key_rotate_days", &["ADWD_STEPS_KEY_ROTATE_DAYS"], DAYS, steps.key_rotate_ms),
    count_key!(
        "steps.max_parallel",
        &["ADWD_STEPS_MAX_PARALLEL"],
        1..=u64::from(STEPS_PARALLEL_COUNT),
        steps.max_parallel
    ),
    bool_key!("steps.rate_limits", &["ADWD_STEPS_RATE_LIMITS"], steps.rate_limits),
    rate_key!("steps.task_per_s", &["ADWD_STEPS_TASK_PER_S"], steps.task_rate.per_second),
    count_key!("steps.task_burst", &["ADWD_STEPS_TASK_BURST"], COUNT, steps.task_rate.burst),
    rate_key!("steps.agent_per_s", &["ADWD_STEPS_AGENT_PER_S"], steps.agent_rate.per_second),
    count_key!("steps.agent_burst", &["ADWD_STEPS_AGENT_BURST"], COUNT, steps.agent_rate.burst),
    seconds_key!("steps.stall_after_s", &["ADWD_STEPS_STALL_AFTER_S"], AGE_S, steps.stall_after_ms),
    seconds_key!(
        "steps.abandon_after_s",
        &["ADWD_STEPS_ABANDON_AFTER_S"],
        AGE_S,
        steps.abandon_after_ms
    ),
    seconds_key!("steps.time_limit_s", &["ADWD_STEPS_TIME_LIMIT_S"], AGE_S, steps.time_limit_ms),
    days_key!(
        "steps.telemetry_keep_days",
        &["ADWD_STEPS_TELEMETRY_KEEP_DAYS"],
        DAYS,
        steps.telemetry_keep_ms
    ),
    key("logs.level", &["ADWD_LOGS_LEVEL", "ADWD_LOG"], set_level, |c| c.logs.level.clone()),
    count_key!("logs.keep_days", &["ADWD_LOGS_KEEP_DAYS"], 1..=3_650, logs.keep_days),
    list_key!("env_allow", &["ADWD_ENV_ALLOW"], check_env_pattern, env_allow),
    file_key!("uv.path", &["ADWD_UV_PATH"], uv.path),
    key(
        "uv.python",
        &["ADWD_UV_PYTHON"],
        |c, v, _| {
            c.uv.python = Some(some_text(v)?);
            Ok(())
        },
        |c| c.uv.python.clone().unwrap_or_default(),
    ),
    key("writing.enforce", &["ADWD_WRITING_ENFORCE"], set_enforce, |c| {
        if c.writing.enforce { "on" } else { "off" }.to_owned()
    }),
    key("writing.time_zone", &["ADWD_WRITING_TIME_ZONE"], set_time_zone, |c| {
        c.writing.time_zone.clone()
    }),
    seconds_key!(
        "state_timeout_s",
        &["ADW_MCP_STATE_TIMEOUT", "ADWD_STATE_TIMEOUT_S"],
        1..=3_600,
        state_timeout_ms
    ),
    seconds_key!(
        "trigger_timeout_s",
        &["ADW_MCP_TRIGGER_TIMEOUT", "ADWD_TRIGGER_TIMEOUT_S"],
        1..=3_600,
        trigger_timeout_ms
    ),
    key("tool_names", &["ADWD_TOOL_NAMES"], set_tool_names, |c| c.tool_names.as_str().to_owned()),
];

fn set_tool_names(config: &mut Config, input: &Input, _: &Base) -> Result<(), String> {
    let word = input.text()?;
    let known = ToolNames::WORDS.iter().find(|(known, _)| *known == word);
    config.tool_names = known.ok_or("expected underscore, dotted or both")?.1;
    Ok(())
}

fn set_socket(config: &mut Config, input: &Input, base: &Base) -> Result<(), String> {
    let path = base.path(&input.text()?)?;
    check_socket(&path)?;
    config.paths.socket = path;
    Ok(())
}

/// The kernel's limit, checked here because the error of `bind` would not name it.
pub(super) fn check_socket(path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().len();
    if bytes <= SOCKET_PATH_MAX_BYTES {
        return Ok(());
    }
    Err(format!(
        "the path has {bytes} bytes and a Unix socket's may have {SOCKET_PATH_MAX_BYTES}; set \
         socket (or runtime_dir) to a shorter one"
    ))
}

fn set_bind(config: &mut Config, input: &Input, _: &Base) -> Result<(), String> {
    let text = input.text()?;
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    config.http.bind = named
        .unwrap_or(text)
        .parse()
        .map_err(|_| "expected an address and a port, as in 127.0.0.1:7117".to_owned())?;
    Ok(())
}

fn set_level(config: &mut Config, input: &Input, _: &Base) -> Result<(), String> {
    let level = some_text(input)?;
    tracing_subscriber::EnvFilter::builder().parse(&level).map_err(|_| {
        "expected trace, debug, info, warn, error or off, or directives such as \
         \"info,adwd::runs=debug\""
            .to_owned()
    })?;
    config.logs.level = level;
    Ok(())
}

fn set_enforce(config: &mut Config, input: &Input, _: &Base) -> Result<(), String> {
    config.writing.enforce =
        input.bool_or_switch().map_err(|()| "expected \"on\" or \"off\"".to_owned())?;
    Ok(())
}

fn set_time_zone(config: &mut Config, input: &Input, _: &Base) -> Result<(), String> {
    config.writing.time_zone = time_zone(input)?;
    Ok(())
}

/// The name of a zone that the program carries.
fn time_zone(input: &Input) -> Result<String, String> {
    let name = some_text(input)?;
    jiff::tz::TimeZoneDatabase::bundled()
        .get(&name)
        .map_err(|_| "expected an IANA time zone, as in \"UTC\" or \"Europe/Berlin\"".to_owned())?;
    Ok(name)
}

fn check_origin(origin: &str) -> Result<(), String> {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', ' ', '*', '?']) => Ok(()),
        _ => Err(format!("{origin:?} is not an origin: expected https://HOST or http://HOST:PORT")),
    }
}

/// A variable's name, or the beginning of one and a `*`.
pub(super) fn check_env_pattern(pattern: &str) -> Result<(), String> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(format!("{pattern:?} is not a variable's name, nor the beginning of one and a *"))
}

/// Checks the scheme and completes the path of an SQLite file.
fn database_url(url: &str, base: &Base) -> Result<String, String> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains(":memory:") {
            return Err("expected sqlite:PATH with a file".to_owned());
        }
        return Ok(format!("sqlite:{}", base.path(path)?.display()));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(url.to_owned());
    }
    Err("expected sqlite:PATH or postgres://USER@HOST/NAME".to_owned())
}
