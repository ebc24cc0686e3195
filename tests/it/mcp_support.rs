//! A served MCP layer and real rmcp clients for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use adwd::audit::{Audit, AuditDeps};
use adwd::auth::{Access, AccessDeps, Principal};
use adwd::changes::Changes;
use adwd::clock::{Clock, SystemClock};
use adwd::config::{
    AccessConfig, BudgetConfig, Config, Flags, ProjectConfig, RatesConfig, StepsConfig, ToolNames,
    Toolsets, WritingConfig,
};
use adwd::db::Db;
use adwd::ids::{OsRng, ProjectName};
use adwd::mcp::bounds::BODY_MAX_BYTES;
use adwd::mcp::{Gate, HTTP_PATH, HttpConfig, McpDeps, http_router, serve_unix};
use adwd::metrics::Metrics;
use adwd::runs::{Runs, RunsDeps};
use adwd::steps::{Library, LibraryDeps, Steps, StepsDeps};
use adwd::web::{Front, Guard, Hosts, Origins, Serving, fronted, guarded, serve};
use adwd::writing::{Writing, WritingDeps};
use axum::Router;
use axum::extract::Request;
use axum::middleware::map_request;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation,
    ProgressNotificationParam, ProtocolVersion, ResourceUpdatedNotificationParam,
};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::Value;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A road to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    Http,
    Unix,
}

/// A revision of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    Legacy,
    Modern,
}

/// Every way to talk to the server.
pub const WAYS: [(Road, Era); 4] = [
    (Road::Http, Era::Legacy),
    (Road::Http, Era::Modern),
    (Road::Unix, Era::Legacy),
    (Road::Unix, Era::Modern),
];

/// A client that writes down what it is told.
#[derive(Clone, Debug, Default)]
pub struct Ear {
    pub name: String,
    pub tasks: bool,
    pub heard: Arc<Mutex<Vec<String>>>,
}

impl Ear {
    pub fn named(name: &str) -> Ear {
        Ear { name: name.to_owned(), ..Ear::default() }
    }

    pub fn with_tasks() -> Ear {
        Ear { name: "tasks".to_owned(), tasks: true, ..Ear::default() }
    }

    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn note(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }
}

impl ClientHandler for Ear {
    fn get_info(&self) -> ClientConfig {
        let capabilities = if self.tasks {
            ClientCapabilities::builder().enable_tasks().build()
        } else {
            ClientCapabilities::default()
        };
        ClientConfig::new(capabilities, Implementation::new(self.name.clone(), "1"))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.note(format!("{} {}", params.progress, params.message.unwrap_or_default()));
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.note(format!("updated {}", params.uri));
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.note("list_changed".to_owned());
    }

    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.note("prompts_changed".to_owned());
    }
}

/// A connected client.
pub type Client = RunningService<RoleClient, Ear>;

/// What a world is made with.
pub struct Options {
    pub trigger_tools_enabled: bool,
    pub tool_names: ToolNames,
    /// Who may call over HTTP; everybody may work unless a test is about that.
    pub access: AccessConfig,
    /// What a connection is shown that does not choose.
    pub toolsets: Toolsets,
    /// Names of the projects that are served.
    pub projects: &'static [&'static str],
    /// Settings of step workflows; calls are not limited unless a test is about that.
    pub steps: StepsConfig,
    /// What may be spent; as much as one likes unless a test is about that.
    pub budget: BudgetConfig,
    /// What limits and records; nothing does unless a test is about that.
    pub gate: GateOptions,
    /// Whether the guard asks who calls; without it the gate's own principal is everybody.
    pub guarded: bool,
}

/// The gate of a world.
#[derive(Clone, Debug, Default)]
pub struct GateOptions {
    /// Limits and records, with these limits and this clock.
    pub on: Option<(RatesConfig, Arc<dyn Clock>)>,
    /// Who everybody on HTTP is, whatever the guard says.
    pub principal: Option<Principal>,
    /// The database, where it is not the world's own.
    pub database: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            trigger_tools_enabled: true,
            tool_names: ToolNames::Underscore,
            access: AccessConfig { trust_loopback: true, ..AccessConfig::default() },
            toolsets: Toolsets::default(),
            projects: &["demo"],
            steps: StepsConfig { rate_limits: false, ..StepsConfig::default() },
            budget: BudgetConfig::default(),
            gate: GateOptions::default(),
            guarded: true,
        }
    }
}

/// The server on both roads, over real slices. The runs' queue never moves: `max_running` is 0, so
/// a triggered run stays queued until it is cancelled. Step workflows have the content that ships
/// and a folder of the test's own.
pub struct World {
    pub url: String,
    pub socket: PathBuf,
    pub stop: CancellationToken,
    /// Where every wait and every stream listens.
    pub changes: Changes,
    pub served: Vec<JoinHandle<std::io::Result<()>>>,
    pub steps: Steps,
    /// Content of the test's own, as users have it.
    pub content: PathBuf,
    pub db: Db,
    /// What its servers are made from.
    pub deps: McpDeps,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> World {
        World::with(Options::default()).await
    }

    pub async fn with(options: Options) -> World {
        adwd::tls::install();
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let own = format!("sqlite:{}", dir.path().join("db").display());
        let url = options.gate.database.as_deref().unwrap_or(&own);
        let db = Db::open(url).await.unwrap();
        db.migrate(&SystemClock).await.unwrap();
        let changes = Changes::new();
        let runs =
            slice(dir.path(), options.projects, options.budget, &db, &changes, stop.clone()).await;
        let content = dir.path().join("content");
        let steps = workflows(dir.path(), &db, &changes, options.steps, stop.clone()).await;
        let writing = Writing::open(WritingDeps {
            db: db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            changes: changes.clone(),
            config: WritingConfig::default(),
        });
        let access = Access::open(AccessDeps {
            db: db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            state_dir: dir.path().to_path_buf(),
            config: options.access,
        });
        let access = access.await.unwrap();
        let guard = Guard::new(access.clone(), false);
        let deps = McpDeps {
            runs,
            steps: steps.clone(),
            writing,
            access,
            trigger_tools_enabled: options.trigger_tools_enabled,
            toolsets: options.toolsets,
            tool_names: options.tool_names,
            version: "0.0.0-test",
            metrics: Metrics::default(),
            health: adwd::mcp::no_health(),
            clock: Arc::new(SystemClock),
            gate: gate(&db, &options.gate).await,
        };
        let kept = deps.clone();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bind = http.local_addr().unwrap();
        let url = format!("http://{bind}/mcp");
        let socket = dir.path().join("s");
        let unix = UnixListener::bind(&socket).unwrap();
        let router = http_router(deps.clone(), HttpConfig::default(), stop.clone());
        let router = as_principal(router, options.gate.principal);
        let router = if options.guarded { guarded(router, guard) } else { router };
        let front = Front::new(Hosts::new(bind, &[]), Origins::default());
        let router = fronted(router, front.with_bodies(HTTP_PATH, BODY_MAX_BYTES));
        let served = vec![
            tokio::spawn(serve(http, router, Serving::default(), stop.clone())),
            tokio::spawn(serve_unix(unix, deps, stop.clone())),
        ];
        World { url, socket, stop, changes, served, steps, content, db, deps: kept, _dir: dir }
    }

    /// Waits until the ends of all calls so far are on record.
    pub async fn recorded(&self) {
        self.deps.gate.audit().expect("the gate is on").flush().await;
    }

    pub async fn client(&self, way: (Road, Era)) -> Client {
        self.connect(way, Ear::named("test")).await
    }

    pub async fn connect(&self, (road, era): (Road, Era), ear: Ear) -> Client {
        match road {
            Road::Http => http_client(&self.url, None, era, ear).await,
            Road::Unix => {
                let stream = UnixStream::connect(&self.socket).await.unwrap();
                ear.serve_with_lifecycle(stream, lifecycle(era)).await.unwrap()
            }
        }
    }
}

/// How a client of that era begins.
pub fn lifecycle(era: Era) -> ClientLifecycleMode {
    match era {
        Era::Legacy => ClientLifecycleMode::Initialize,
        Era::Modern => ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        },
    }
}

/// A client over HTTP, with a key or without.
pub async fn http_client(url: &str, key: Option<&str>, era: Era, ear: Ear) -> Client {
    adwd::tls::install();
    let mut config = StreamableHttpClientTransportConfig::with_uri(url.to_owned());
    config.auth_header = key.map(str::to_owned);
    let transport = StreamableHttpClientTransport::from_config(config);
    ear.serve_with_lifecycle(transport, lifecycle(era)).await.unwrap()
}

async fn gate(db: &Db, options: &GateOptions) -> Gate {
    let Some((rates, clock)) = options.on.clone() else { return Gate::off() };
    let (audit, writer) = Audit::start(AuditDeps {
        db: db.clone(),
        clock,
        rng: Arc::new(OsRng),
        host: "testhost".to_owned(),
        keep_ms: 0,
        keep_count: 1_000_000,
    })
    .await
    .unwrap();
    tokio::spawn(writer.run());
    Gate::new(audit, rates)
}

/// Inside the guard: everybody is `principal`, as a key would say.
fn as_principal(router: Router, principal: Option<Principal>) -> Router {
    let Some(principal) = principal else { return router };
    router.layer(map_request(move |mut request: Request| {
        request.extensions_mut().insert(principal.clone());
        std::future::ready(request)
    }))
}

/// The content that ships.
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("automation/content")
}

async fn workflows(
    dir: &Path,
    db: &Db,
    changes: &Changes,
    config: StepsConfig,
    shutdown: CancellationToken,
) -> Steps {
    let own = dir.join("content");
    std::fs::create_dir_all(own.join("workflows")).unwrap();
    let library = LibraryDeps {
        db: db.clone(),
        clock: Arc::new(SystemClock),
        changes: changes.clone(),
        host: "testhost".to_owned(),
        folders: vec![shipped(), own],
        shutdown: shutdown.clone(),
    };
    let deps = StepsDeps {
        db: db.clone(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(OsRng),
        changes: changes.clone(),
        library: Library::open(library).await.unwrap(),
        config,
        state_dir: dir.to_path_buf(),
        shutdown,
    };
    Steps::open(deps).await.unwrap().0
}

/// A repository with one commit.
pub fn repository(dir: &Path, name: &str) -> PathBuf {
    git(dir, &["init", "-q", "-b", "main", name]);
    git(&dir.join(name), &["commit", "-q", "--allow-empty", "-m", "first"]);
    dir.join(name)
}

async fn slice(
    dir: &Path,
    projects: &[&str],
    budget: BudgetConfig,
    db: &Db,
    changes: &Changes,
    shutdown: CancellationToken,
) -> Runs {
    let served = projects.iter().map(|name| {
        let root = repository(dir, &format!("repo-{name}"));
        ProjectConfig::new(ProjectName::parse(name).unwrap(), root)
    });
    let served = served.collect();
    let env: BTreeMap<String, String> = std::env::vars()
        .filter(|(name, _)| name == "PATH")
        .chain([("HOME".to_owned(), dir.display().to_string())])
        .collect();
    let mut config = Config::load(&Flags::default(), &env).unwrap().config;
    config.limits.max_running = 0;
    config.trigger_timeout_ms = 50;
    config.projects = served;
    config.budget = budget;
    let deps = RunsDeps {
        own_budgets: Arc::new(adwd::runs::NoOwnBudgets),
        config: Arc::new(config),
        db: db.clone(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(OsRng),
        changes: changes.clone(),
        exe: PathBuf::from("/nonexistent/adwd"),
        host: "testhost".to_owned(),
        automation: dir.join("automation"),
        base_env: env,
        metrics: Metrics::default(),
        shutdown,
    };
    Runs::start(deps).await.unwrap().0
}

#[allow(clippy::disallowed_methods, reason = "a repository has to come from somewhere")]
fn git(dir: &Path, args: &[&str]) {
    let done = std::process::Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(args)
        .current_dir(dir)
        .status();
    assert!(done.unwrap().success(), "git {args:?}");
}

/// A call with JSON arguments.
pub fn params(tool: &str, arguments: Value) -> CallToolRequestParams {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments)
}

/// Calls a tool that must answer, well or with an error result.
pub async fn call(client: &Client, tool: &str, arguments: Value) -> CallToolResult {
    client.call_tool(params(tool, arguments)).await.unwrap()
}

/// Calls a tool that must succeed; its structured answer.
pub async fn ok(client: &Client, tool: &str, arguments: Value) -> Value {
    let result = call(client, tool, arguments).await;
    assert_eq!(result.is_error, Some(false), "{result:?}");
    assert_mirrored(&result);
    result.structured_content.unwrap()
}

/// Calls a tool that must refuse; its error.
pub async fn refused(client: &Client, tool: &str, arguments: Value) -> Value {
    let result = call(client, tool, arguments).await;
    assert_eq!(result.is_error, Some(true), "{result:?}");
    assert_mirrored(&result);
    result.structured_content.unwrap()["error"].clone()
}

/// The text says what the structured content says.
pub fn assert_mirrored(result: &CallToolResult) {
    let text = result.content[0].as_text().unwrap();
    let mirrored: Value = serde_json::from_str(&text.text).unwrap();
    assert_eq!(Some(&mirrored), result.structured_content.as_ref());
}

/// Waits until something holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never came: {what}");
}
