//! Tests of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ids::{PhaseName, ProjectName};

/// A home of its own, with or without a configuration file.
struct World {
    dir: TempDir,
    env: BTreeMap<String, String>,
    flags: Flags,
}

impl World {
    fn new(file: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let folder = dir.path().join(".config/adwd");
        std::fs::create_dir_all(&folder).unwrap();
        if !file.is_empty() {
            std::fs::write(folder.join("config.toml"), file).unwrap();
        }
        let run = format!("{home}/run");
        let env = [("HOME", home), ("XDG_RUNTIME_DIR", run)];
        let env = env.map(|(name, value)| (name.to_owned(), value)).into();
        World { dir, env, flags: Flags::default() }
    }

    fn env(mut self, name: &str, value: &str) -> World {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(&self.flags, &self.env)
    }

    fn config(&self) -> Config {
        self.load().unwrap().config
    }

    fn error(&self) -> String {
        self.load().unwrap_err().to_string()
    }

    fn home(&self) -> &Path {
        self.dir.path()
    }
}

fn source_of(loaded: &Loaded, key: &str) -> Source {
    loaded.provenance.iter().find(|setting| setting.key == key).unwrap().source.clone()
}

#[test]
fn without_anything_everything_has_a_default() {
    let world = World::new("");
    let loaded = world.load().unwrap();
    let (home, config) = (world.home(), &loaded.config);
    assert_eq!(config.paths.config_file, home.join(".config/adwd/config.toml"));
    assert_eq!(config.paths.state_dir, home.join(".local/state/adwd"));
    assert_eq!(config.paths.runtime_dir, home.join("run/adwd"));
    assert_eq!(config.paths.socket, home.join("run/adwd/adwd.sock"));
    assert_eq!(config.paths.log_dir, home.join(".local/state/adwd/logs"));
    let database = format!("sqlite:{}", home.join(".local/state/adwd/adwd.db").display());
    assert_eq!(config.paths.database_url, database);
    assert_eq!(config.http.bind.to_string(), "127.0.0.1:7117");
    assert_eq!(config.state_timeout_ms, 30_000);
    assert_eq!(config.trigger_timeout_ms, 5_000);
    assert_eq!(config.phases.build.wall_ms, 7_200_000);
    assert!(loaded.provenance.iter().all(|setting| setting.source == Source::Default));
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let mut world = World::new("state_dir = '~/f'\n[http]\nbind = '127.0.0.1:1'\n");
    assert_eq!(world.config().http.bind.port(), 1);
    let file = world.home().join(".config/adwd/config.toml");
    assert_eq!(source_of(&world.load().unwrap(), "http.bind"), Source::File(file, Some(3)));
    assert_eq!(world.config().paths.state_dir, world.home().join("f"));

    world = world.env("ADWD_HTTP_BIND", "[::1]:2");
    assert_eq!(world.config().http.bind.port(), 2);
    let env = Source::Env("ADWD_HTTP_BIND".to_owned());
    assert_eq!(source_of(&world.load().unwrap(), "http.bind"), env);

    world.flags.http_bind = Some("localhost:3".to_owned());
    assert_eq!(world.config().http.bind.to_string(), "127.0.0.1:3");
    let flag = Source::Flag("--http-bind".to_owned());
    assert_eq!(source_of(&world.load().unwrap(), "http.bind"), flag);
    world.flags.no_http = true;
    assert!(!world.config().http.enabled);
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_the_nearest_one() {
    let error = World::new("[limits]\nmax_running = 2\nqueue_maxx = 3\n").error();
    assert!(error.contains("config.toml:3:"), "{error}");
    assert!(error.contains("\"limits.queue_maxx\"; did you mean \"limits.queue_max\"?"), "{error}");
    let error = World::new("max_running = 2\n").error();
    assert!(error.contains("did you mean \"limits.max_running\"?"), "{error}");
    let error = World::new("\n[htttp]\nbind = 'x'\n").error();
    assert!(error.contains("config.toml:2:"), "{error}");
    let error = World::new("[[project]]\nname = 'a'\npath = '/a'\nbase_brnch = 'x'\n").error();
    assert!(error.contains(":4:") && error.contains("\"base_branch\""), "{error}");
    let error = World::new("http = 3\n").error();
    assert!(error.contains("write [http]"), "{error}");
    let error = World::new("[project]\nname = 'a'\n").error();
    assert!(error.contains("write [[project]]"), "{error}");
}

#[test]
fn an_unknown_variable_is_refused_and_internal_ones_are_not() {
    let error = World::new("").env("ADWD_STATEDIR", "/x").error();
    assert!(error.contains("did you mean ADWD_STATE_DIR?"), "{error}");
    World::new("").env("ADWD_TEST_X", "1").env("ADWD_INTERNAL_Y", "1").load().unwrap();
    // Of clients, in the same environment.
    World::new("").env("ADWD_KEY", "adwd_team_x").env("ADWD_URL", "http://x").load().unwrap();
    let config = World::new("").env("ADWD_LOG", "debug").config();
    assert_eq!(config.logs.level, "debug");
}

#[test]
fn a_wrong_value_says_what_is_right_and_where_it_stands() {
    for (file, expected) in [
        ("[limits]\nmax_running = 'x'\n", "whole number from 1 to 1000"),
        ("[limits]\nmax_running = 0\n", "whole number from 1 to 1000"),
        ("[http]\nenabled = 'maybe'\n", "expected true or false"),
        ("[http]\nbind = '7117'\n", "as in 127.0.0.1:7117"),
        ("[http]\nallowed_hosts = ['https://adw.example']\n", "is not a host"),
        ("[http]\nallowed_hosts = ['adw.example:99999']\n", "is not a host"),
        ("[http]\nallowed_hosts = ['*']\n", "is not a host"),
        ("[http]\nallowed_origins = ['*']\n", "is not an origin"),
        ("[logs]\nlevel = 'a=b=c'\n", "expected trace, debug"),
        ("\ndatabase_url = 'mysql://u:hunter22@h/d'\n", "expected sqlite:PATH or postgres"),
        ("\nenv_allow = ['A B']\n", "not a variable's name"),
        ("\nsocket = 3\n", "expected text in quotes"),
        ("\nstate_dir = '~bob/x'\n", "~USER is not supported"),
        ("[phases.plan]\nwall_s = -1\n", "in seconds"),
        ("[[project]]\nname = 'a b'\npath = '/a'\n", "not a valid project name"),
        ("[[project]]\nname = 'a'\n", "missing field `path`"),
        ("[[project]]\nname = 'a'\npath = '/a'\nmax_running = 'x'\n", "max_running ="),
        ("[[project]]\nname = 'a'\npath = '/a'\nagent_budget_usd = -1.0\n", "above 0"),
        ("[[project]]\nname = 'a'\npath = '/a'\nbudget_day_usd = -1.0\n", "0 (no limit) or more"),
        ("[budget]\nrun_usd = -1\n", "number from 0 to 1000000"),
        ("[budget]\ntime_zone = 'Mars'\n", "IANA time zone"),
        ("a = \n", "config.toml:1:"),
    ] {
        let error = World::new(file).error();
        assert!(error.contains(expected), "{file}: {error}");
        assert!(error.contains("config.toml:"), "{error}");
        assert!(!error.contains("hunter22"), "{error}");
    }
    let error = World::new("").env("ADWD_HTTP_ENABLED", "maybe").error();
    assert!(error.starts_with("environment variable ADWD_HTTP_ENABLED: http.enabled"), "{error}");
}

#[test]
fn projects_are_read_whole() {
    let world = World::new(
        "[[project]]\nname = 'a'\npath = '~/a'\nstate_in = 'daemon'\nenv = { X = 'y' }\n\
         limits = { build = { wall_s = 60 } }\nagent_budget_usd = 2.5\n\
         [[project]]\nname = 'b'\npath = '../b'\n\
         [[profile]]\nname = 'p'\nanything = [1, 2]\n",
    );
    let loaded = world.load().unwrap();
    let [a, b] = &loaded.config.projects[..] else { panic!("two projects") };
    assert_eq!(a.path, world.home().join("a"));
    assert_eq!(a.state_in, StateIn::Daemon);
    let build = PhaseName::parse("build").unwrap();
    let limit = a.phase_limit(&build, &loaded.config.phases);
    assert_eq!((limit.wall_ms, limit.silence_ms), (60_000, 1_200_000));
    assert_eq!(b.path, world.home().join(".config/adwd/../b"));
    assert_eq!(b.phase_limit(&build, &loaded.config.phases), loaded.config.phases.build);
    assert_eq!(loaded.config.profiles.len(), 1);
    let file = loaded.config.paths.config_file.clone();
    assert_eq!(source_of(&loaded, "project.b"), Source::File(file, Some(8)));
    source_of(&loaded, "profile.p");
    let twice = "[[project]]\nname='a'\npath='/a'\n[[project]]\nname='a'\npath='/b'\n";
    assert!(World::new(twice).error().contains("twice"));
}

#[test]
fn a_named_file_must_exist_and_the_usual_one_need_not() {
    let mut world = World::new("");
    world.flags.config = Some(PathBuf::from("/nonexistent/adwd.toml"));
    assert!(world.error().contains("/nonexistent/adwd.toml"));
    let world = World::new("").env("ADWD_CONFIG", "/nonexistent/e.toml");
    assert!(world.error().contains("/nonexistent/e.toml"));
}

#[test]
fn a_password_is_masked_in_the_provenance() {
    let url = "postgres://u:hunter22@h/d";
    let loaded = World::new("").env("ADWD_DATABASE_URL", url).load().unwrap();
    assert_eq!(loaded.config.paths.database_url, url);
    let shown = loaded.provenance.iter().find(|s| s.key == "database_url").unwrap();
    assert_eq!(shown.value, "postgres://u:***@h/d");
}

#[test]
fn keys_of_a_collector_are_masked_also_where_they_are_wrong() {
    let loaded = World::new("").env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter22").load().unwrap();
    let pairs: Vec<_> = loaded.config.observe.otlp.headers.iter().collect();
    assert_eq!(pairs, [("x-key", "hunter22")]);
    let shown = loaded.provenance.iter().find(|s| s.key == "otlp.headers").unwrap();
    assert_eq!(shown.value, "x-key=***");
    assert!(!format!("{:?}", loaded.config).contains("hunter22"));
    let error = World::new("[otlp]\nheaders = 'hunter22'\n").error();
    assert!(error.contains("name=value") && !error.contains("hunter22"), "{error}");
}

#[test]
fn the_collectors_address_is_put_together_as_opentelemetry_says() {
    let url = |world: World| world.config().observe.otlp.traces_url();
    assert_eq!(url(World::new("")), None);
    let base = World::new("").env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base/");
    assert_eq!(url(base).as_deref(), Some("http://c:4318/base/v1/traces"));
    let whole = World::new("[otlp]\nendpoint = 'http://c:4318'\n")
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/x");
    assert_eq!(url(whole).as_deref(), Some("http://t/x"));
    assert_eq!(url(World::new("").env("OTEL_EXPORTER_OTLP_ENDPOINT", "")), None);
    let error = World::new("").env("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317").error();
    assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && error.contains("4318"), "{error}");
}

#[test]
fn a_socket_path_that_the_kernel_would_refuse_is_refused_with_the_reason() {
    let error = World::new("").env("ADWD_RUNTIME_DIR", &format!("/{}", "x".repeat(120))).error();
    assert!(error.contains("a Unix socket's may have 107"), "{error}");
}

#[test]
fn the_list_of_project_keys_is_the_structs() {
    let full = ProjectConfig {
        remote: Some(String::new()),
        base_branch: Some(String::new()),
        profile: Some(String::new()),
        agent: Some(String::new()),
        agent_command: Some(String::new()),
        model: Some(String::new()),
        forge: Some(String::new()),
        forge_repo: Some(String::new()),
        issues_dir: Some(String::new()),
        check_command: Some(String::new()),
        max_running: Some(1),
        env_allow: vec!["A".to_owned()],
        env: [("A".to_owned(), "b".to_owned())].into(),
        limits: [(PhaseName::parse("plan").unwrap(), ProjectPhaseLimit::default())].into(),
        agent_timeout_s: Some(1),
        agent_budget_usd: Some(1.0),
        budget_run_usd: Some(1.0),
        budget_run_tokens: Some(1),
        budget_day_usd: Some(1.0),
        budget_day_tokens: Some(1),
        keep_failed_days: Some(1),
        ..ProjectConfig::new(ProjectName::parse("a").unwrap(), PathBuf::from("/a"))
    };
    let value = toml::Value::try_from(&full).unwrap();
    let names: BTreeSet<&str> = value.as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, PROJECT_KEYS.into_iter().collect());
    assert_eq!(value.try_into::<ProjectConfig>().unwrap(), full);
}

#[test]
fn every_key_has_one_name_everywhere() {
    let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), KEYS.len());
    for key in KEYS.iter() {
        let expected = format!("ADWD_{}", key.name.to_uppercase().replace('.', "_"));
        assert!(key.env.contains(&expected.as_str()), "{} lacks {expected}", key.name);
    }
    for (key, ..) in flag_values(&Flags {
        state_dir: Some(PathBuf::new()),
        runtime_dir: Some(PathBuf::new()),
        socket: Some(PathBuf::new()),
        http_bind: Some(String::new()),
        no_http: true,
        database: Some(String::new()),
        log_level: Some(String::new()),
        config: None,
    }) {
        assert!(names.contains(key), "{key}");
    }
}

/// A valid value that is not the default, as the environment would have it.
fn other_value(key: &str) -> &'static str {
    match key {
        "state_dir" | "runtime_dir" | "socket" | "log_dir" | "uv.path" | "http.tls_cert"
        | "http.tls_key" => "/tmp/other",
        "database_url" => "sqlite:/tmp/other.db",
        "http.enabled" | "steps.rate_limits" | "trigger_tools" => "false",
        "steps.token_ttl_s" => "617",
        "steps.max_parallel" => "7",
        "tool_names" => "both",
        "worktrees.keep_success"
        | "http.trust_loopback"
        | "http.require_key"
        | "http.behind_proxy" => "true",
        "toolsets" => "adw,admin",
        "http.bind" => "127.0.0.1:4711",
        "http.allowed_origins" => "https://a.example,https://b.example",
        "http.allowed_hosts" => "adw.example,box.example:8443,[::1]:7117",
        "http.public_url" => "https://adwd.example",
        "oauth.issuer" | "oauth.jwks_url" => "https://id.example/tenant",
        "oauth.audience" => "https://adwd.example/mcp",
        "env_allow" => "A,B_*",
        "github.webhook_secret_file" => "/tmp/other",
        "github.webhook_secret" => "0123456789abcdef",
        "github.label" => "robot",
        "github.authors" => "octocat,hubot-2",
        "github.associations" => "OWNER,NONE",
        "logs.level" => "warn",
        "uv.python" => "3.13",
        "otlp.endpoint" => "http://127.0.0.1:4318",
        "otlp.traces_endpoint" => "https://traces.example/otlp",
        "otlp.service_name" => "adw-box",
        // Already as it is shown.
        "otlp.headers" => "x-key=***",
        "writing.enforce" => "off",
        "writing.time_zone" | "budget.time_zone" => "Europe/Berlin",
        _ => "17",
    }
}

/// The same value as TOML, with its key.
fn as_toml(key: &str, value: &str) -> String {
    let value = match key {
        "http.allowed_origins"
        | "http.allowed_hosts"
        | "env_allow"
        | "toolsets"
        | "github.authors"
        | "github.associations" => {
            format!(
                "[{}]",
                value.split(',').map(|v| format!("'{v}'")).collect::<Vec<_>>().join(",")
            )
        }
        _ if value.parse::<i64>().is_ok() || value == "true" || value == "false" => {
            value.to_owned()
        }
        _ => format!("'{value}'"),
    };
    format!("{key} = {value}\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any choice of keys, each set in the file, in the environment, in both or nowhere: the value
    /// and its origin are the strongest source's, and nothing else moves.
    #[test]
    fn every_key_can_be_set_from_each_source(
        choice in proptest::collection::vec(0_u8..4, KEYS.len())
    ) {
        let mut file = String::new();
        let mut world = World::new("");
        for (key, choice) in KEYS.iter().zip(&choice) {
            let value = other_value(key.name);
            if choice & 1 != 0 {
                file.push_str(&as_toml(key.name, value));
            }
            if choice & 2 != 0 {
                let name = format!("ADWD_{}", key.name.to_uppercase().replace('.', "_"));
                world.env.insert(name, value.to_owned());
            }
        }
        std::fs::write(world.home().join(".config/adwd/config.toml"), &file).unwrap();
        let loaded = world.load().unwrap();
        for ((key, choice), setting) in KEYS.iter().zip(&choice).zip(&loaded.provenance) {
            prop_assert_eq!(key.name, &setting.key);
            match choice {
                0 => prop_assert_eq!(&setting.source, &Source::Default),
                1 => prop_assert!(matches!(&setting.source, Source::File(_, Some(_)))),
                _ => prop_assert!(matches!(&setting.source, Source::Env(_))),
            }
            if *choice != 0 {
                let secret = key.name.ends_with("secret");
                let shown = if secret { MASK } else { other_value(key.name) };
                prop_assert_eq!(&setting.value, shown, "{}", key.name);
            }
        }
    }

    #[test]
    fn any_file_is_read_or_refused(text in "[a-z_\\[\\]='\"0-9.\n ]{0,80}") {
        let _ = World::new(&text).load();
    }
}

#[test]
fn the_names_of_tools_are_one_of_three_words() {
    assert_eq!(World::new("").config().tool_names, ToolNames::Underscore);
    assert_eq!(World::new("tool_names = \"both\"\n").config().tool_names, ToolNames::Both);
    let dotted = World::new("").env("ADWD_TOOL_NAMES", "dotted");
    assert_eq!(dotted.config().tool_names, ToolNames::Dotted);
    let error = World::new("tool_names = \"dots\"\n").error();
    assert!(error.contains("underscore, dotted or both"), "{error}");
}

#[test]
fn toolsets_are_known_words_and_at_least_one() {
    assert_eq!(World::new("").config().tools.toolsets.to_string(), "adw,steps,writing");
    let chosen = World::new("toolsets = [\"writing\", \"adw\"]\n").config().tools.toolsets;
    assert_eq!(chosen.to_string(), "adw,writing");
    let env = World::new("").env("ADWD_TOOLSETS", "admin, steps");
    assert_eq!(env.config().tools.toolsets.to_string(), "steps,admin");
    let error = World::new("toolsets = [\"adw\", \"books\"]\n").error();
    assert!(
        error.contains("unknown toolset \"books\"; known: adw, steps, writing, admin"),
        "{error}"
    );
    assert!(World::new("toolsets = []\n").error().contains("at least one"));
}

#[test]
fn step_workflows_are_set_in_a_table_of_their_own() {
    let world = World::new(
        "[steps]\ntoken_ttl_s = 600\ntask_per_s = 1\nagent_per_s = 0.25\nabandon_after_s = 0\n",
    )
    .env("ADWD_STEPS_MAX_PARALLEL", "5")
    .env("ADWD_STEPS_TASK_BURST", "7");
    let steps = world.config().steps;
    assert_eq!(steps.token_ttl_ms, 600_000);
    assert_eq!(steps.task_rate, Rate { per_second: 1.0, burst: 7 });
    assert_eq!(steps.agent_rate, Rate { per_second: 0.25, burst: 10 });
    assert_eq!((steps.max_parallel, steps.abandon_after_ms), (5, 0));
    assert_eq!(steps.stall_after_ms, 1_800_000, "what is not said stays");
    let loaded = world.load().unwrap();
    assert_eq!(
        source_of(&loaded, "steps.max_parallel"),
        Source::Env("ADWD_STEPS_MAX_PARALLEL".to_owned())
    );
    for (file, part) in [
        ("[steps]\ntoken_ttl_s = 59\n", "60"),
        ("[steps]\nmax_parallel = 17\n", "1 to 16"),
        ("[steps]\ntask_per_s = 0\n", "0.001"),
        ("[steps]\ntask_per_s = \"fast\"\n", "a number"),
        ("[steps]\ntoken_ttl = 60\n", "token_ttl"),
    ] {
        let error = World::new(file).error();
        assert!(error.contains(part), "{error}");
    }
}

const HOOK: &str = "[[hook]]\nname = 'ops'\nurl = 'https://ops.example/in/S3CR3T'\n";

#[test]
fn schedules_and_hooks_are_read_whole_and_shown_without_secrets() {
    let world = World::new(&format!(
        "[[schedule]]\nname = 'nightly'\ncron = '0 3 * * mon-fri'\ntime_zone = 'Europe/Berlin'\n\
         project = 'shop'\nissues = [42, '007']\nphases = ['plan']\nmodel = 'opus'\n\
         enabled = false\ncatch_up = 'once'\n\
         [[schedule]]\nname = 'plain'\ncron = '@daily'\nissues = [1]\n\
         {HOOK}secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'\nevents = ['failed']\nprojects = ['shop']\n\
         [[hook]]\nname = 'chat'\nurl = 'http://127.0.0.1:9/x'\nformat = 'slack'\nsecret_file = 's'\n"
    ));
    let loaded = world.load().unwrap();
    let outside = &loaded.config.outside;
    let [nightly, plain] = &outside.schedules[..] else { panic!("two schedules") };
    assert_eq!(
        (nightly.cron.text(), nightly.cron.zone_name()),
        ("0 3 * * mon-fri", "Europe/Berlin")
    );
    assert_eq!(nightly.issues, ["42", "7"]);
    assert_eq!((nightly.enabled, nightly.catch_up), (false, CatchUp::Once));
    assert_eq!((plain.enabled, plain.catch_up), (true, CatchUp::Skip));
    assert_eq!(plain.cron.zone_name(), "UTC");
    let [ops, chat] = &outside.hooks[..] else { panic!("two hooks") };
    assert_eq!((ops.events.len(), chat.events.len()), (1, HOOK_EVENTS.len()));
    assert_eq!(chat.secret_file, Some(world.home().join(".config/adwd/s")));
    let shown = format!("{:?} {:?}", loaded.provenance, loaded.config);
    assert!(!shown.contains("S3CR3T") && !shown.contains("MfKQ9r8G"), "{shown}");
    let file = loaded.config.paths.config_file.clone();
    assert_eq!(source_of(&loaded, "schedule.plain"), Source::File(file, Some(11)));
    source_of(&loaded, "hook.ops");
}

#[test]
fn a_wrong_schedule_or_hook_is_refused_at_its_line() {
    let schedule = "[[schedule]]\nname = 'n'\nissues = [1]\n";
    for (file, line, part) in [
        (format!("{schedule}cron = '0 25 * * *'\n"), 4, "hour: \"25\" is none of 0 to 23"),
        (format!("{schedule}cron = '0 3 * *'\n"), 4, "has 4 fields and needs 5"),
        (format!("{schedule}cron = '0 3 * * *'\ntime_zone = 'Berlin'\n"), 5, "IANA name"),
        (schedule.to_owned(), 1, "write cron ="),
        (format!("{schedule}cron = '@daily'\ncatchup = 'once'\n"), 5, "\"catch_up\""),
        (format!("{schedule}cron = '@daily'\ncatch_up = 'twice'\n"), 5, "expected skip or once"),
        (format!("{schedule}cron = '@daily'\n{schedule}cron = '@daily'\n"), 5, "there twice"),
        (
            "[[schedule]]\nname = 'n'\ncron = '@daily'\nissues = ['x']\n".to_owned(),
            4,
            "issue number",
        ),
        ("[[schedule]]\nname = 'n'\ncron = '@daily'\nissues = []\n".to_owned(), 4, "1 to"),
        (HOOK.to_owned(), 1, "openssl rand"),
        (format!("{HOOK}secret = 'x'\nevents = ['done']\n"), 5, "\"done\" is none of completed"),
        ("[[hook]]\nname = 'h'\nurl = 'ftp://x/S3CR3T'\n".to_owned(), 3, "https://"),
        ("[[hook]]\nname = 'h'\nurl = 'https://u:S3CR3T@x/'\n".to_owned(), 3, "no password"),
        ("[github]\nwebhook_secret = 'S3CR3T'\n".to_owned(), 2, "at least 16"),
        ("[github]\nassociations = ['FRIEND']\n".to_owned(), 2, "none of OWNER"),
        ("[github]\nauthors = ['@me']\n".to_owned(), 2, "without an @"),
    ] {
        let error = World::new(&file).error();
        assert!(error.contains(part), "{file}: {error}");
        assert!(error.contains(&format!("config.toml:{line}:")), "{file}: {error}");
        assert!(!error.contains("S3CR3T"), "{error}");
    }
}
