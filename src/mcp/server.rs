//! The handler: what the protocol asks, sent to where it is answered.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams,
    CompleteResult, DiscoverResult, GetPromptRequestParams, GetPromptResponse, GetTaskParams,
    GetTaskResult, Implementation, InitializeRequestParams, InitializeResult, JsonObject,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::args::clip;
use super::bounds::STATIC_TTL_MS;
use super::callable::refusal;
use super::caller::caller;
use super::error::ToolError;
use super::gate::{Asked, Gate};
use super::health::Health;
use super::runs::tasks;
use super::shown::{Hello, Shown};
use super::streams::{StreamPlace, Streams};
use super::subscriptions::{Watched, acceptable, pump};
use super::tools::{self, Catalogue};
use super::{completion, prompts, resources};
use crate::auth::{Access, Action, Principal, Transport};
use crate::changes::Subscription;
use crate::clock::Clock;
use crate::config::{ToolNames, Toolset, Toolsets};
use crate::metrics::Metrics;
use crate::runs::Runs;
use crate::steps::Steps;
use crate::writing::Writing;

/// What the layer is made from.
#[derive(Clone)]
pub struct McpDeps {
    /// The runs slice.
    pub runs: Runs,
    /// The slice of step workflows. Both send their changes through one [`crate::changes::Changes`].
    pub steps: Steps,
    /// The writing slice.
    pub writing: Writing,
    /// Keys.
    pub access: Access,
    /// Whether the tools that start runs are offered at all.
    pub trigger_tools_enabled: bool,
    /// What a connection is shown that does not choose.
    pub toolsets: Toolsets,
    /// Under which names tools with an alias are listed.
    pub tool_names: ToolNames,
    /// The program's version, for clients.
    pub version: &'static str,
    /// Where calls are counted.
    pub metrics: Metrics,
    /// How the daemon is, asked anew at each read of `adw://health`.
    pub health: Health,
    /// Where "a week ago" is counted from.
    pub clock: Arc<dyn Clock>,
    /// What limits and records.
    pub gate: Gate,
}

/// What a model is told about the server as a whole, of each set that it is shown.
const INSTRUCTIONS: [(Toolset, &str); 3] =
    [(Toolset::Adw, ABOUT_RUNS), (Toolset::Steps, ABOUT_STEPS), (Toolset::Writing, ABOUT_WRITING)];

const ABOUT_RUNS: &str = "adwd turns an issue number into a reviewed branch and pull request. \
    trigger_adw_workflow starts a run (phases plan, build, review) and answers at once with its \
    adw_id; wait_adw_workflow waits for it in steps of at most 50 s; get_adw_state tells where it \
    stands and why it failed, get_adw_logs what it printed. Runs go on when you stop waiting or \
    disconnect. Errors come as {\"error\": {code, message, hint}}: do what the hint says. Before \
    you trigger again, look at list_adw_workflows: an issue has one active run at a time.";

const ABOUT_STEPS: &str = "adwd leads you through step workflows, in which the work is yours: \
    midex://workflow/available_workflows lists them, workflow_start hands out the first step (a \
    persona to work as, limits, a token), workflow_next_step takes the output in and hands out the \
    next until workflow_state is completed, workflow_control pauses, resumes, approves and ends. \
    These tools say {success: false, code, error, hint} when they refuse.";

const ABOUT_WRITING: &str = "adwd carries series of books through their production (writing workflows): create_workflow \
    begins one, get_workflow_state says where it stands and what is missing, \
    complete_current_phase goes on, record_production_metric records work, run_qa_checklist judges \
    a book.";

/// The handler of one connection (unix socket) or one request (HTTP).
#[derive(Clone)]
pub struct AdwServer {
    shared: Arc<Shared>,
    runs: Runs,
    steps: Steps,
    principal: Principal,
    shown: Shown,
    watched: Watched,
    /// What a client of before 2026-07-28 will be told of, from the handshake on.
    heard: Arc<Mutex<Option<Subscription>>>,
    gone: CancellationToken,
}

struct Shared {
    deps: McpDeps,
    catalogue: Catalogue,
    streams: Streams,
    stopping: CancellationToken,
}

impl AdwServer {
    /// A handler to make connections' handlers from. When `stopping` is cancelled, event streams
    /// end with a result and waits answer early.
    #[must_use]
    pub fn new(deps: McpDeps, stopping: CancellationToken) -> AdwServer {
        let (runs, steps) = (deps.runs.clone(), deps.steps.clone());
        let principal = Principal::loopback(false);
        let shown = Shown::of(&principal, Hello::default(), &deps.toolsets);
        let shared = Shared {
            catalogue: Catalogue::new(deps.trigger_tools_enabled, deps.tool_names),
            deps,
            streams: Streams::default(),
            stopping,
        };
        AdwServer {
            shared: Arc::new(shared),
            runs,
            steps,
            principal,
            shown,
            watched: Watched::list(),
            heard: Arc::default(),
            gone: CancellationToken::new(),
        }
    }

    /// The handler of a new connection or request by `principal`, with what it said of itself;
    /// `gone` is cancelled when the connection has ended.
    #[must_use]
    pub fn of(&self, principal: Principal, hello: Hello, gone: CancellationToken) -> AdwServer {
        // HTTP has no connections here, only requests: these count together.
        let steps = match principal.transport {
            Transport::Unix => self.steps.of_connection(),
            Transport::Http => self.steps.clone(),
        };
        AdwServer {
            shared: self.shared.clone(),
            runs: self.shared.deps.runs.within(&principal.scope),
            steps,
            shown: Shown::of(&principal, hello, &self.shared.deps.toolsets),
            principal,
            watched: Watched::list(),
            heard: Arc::default(),
            gone,
        }
    }

    /// The runs that exist for the caller.
    pub(super) fn runs(&self) -> &Runs {
        &self.runs
    }

    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }

    pub(super) fn steps(&self) -> &Steps {
        &self.steps
    }

    pub(super) fn writing(&self) -> &Writing {
        &self.shared.deps.writing
    }

    pub(super) fn access(&self) -> &Access {
        &self.shared.deps.access
    }

    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.shared.catalogue
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.shared.deps.clock.as_ref()
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.shared.deps.gate
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    fn heard(&self) -> MutexGuard<'_, Option<Subscription>> {
        // It is whole after every statement, so a poisoned lock is as good as another.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn health(&self) -> serde_json::Value {
        (self.shared.deps.health)().await
    }

    /// Counts a call that is over.
    fn count(&self, name: &str, began: Instant, answer: &Result<CallToolResponse, ErrorData>) {
        let tool = tools::named(name).map(|def| (def.name, def.family.as_str()));
        let transport = self.principal.transport.as_str();
        let outcome = tools::outcome(answer);
        self.shared.deps.metrics.call(tool, transport, outcome, began.elapsed());
    }

    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.shared.stopping
    }

    /// A place among the streams and waits that may be open at once.
    pub(super) fn place(&self) -> Result<StreamPlace, ToolError> {
        self.shared.streams.place(&self.principal)
    }

    /// A call of a tool through the gate, and what it answers.
    async fn pass(
        &self,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let asked = Asked::tool(request, tools::named(&request.name));
        let entering = self.gate().enter(&self.principal, asked, context);
        let (entered, answer) = if self.gate().only_records(&self.principal, asked) {
            // Nothing is changed and nothing is used up: the row need only be there before the answer is.
            let (entered, answer) =
                tokio::join!(biased; entering, self.guarded_answer(request, context));
            (entered, Some(answer))
        } else {
            (entering.await, None)
        };
        let pass = match entered {
            Ok(pass) => pass,
            Err(barred) => return Ok(refusal(request, barred.into_answer(&self.principal)?)),
        };
        let answer = match answer {
            Some(answer) => answer,
            None => self.guarded_answer(request, context).await,
        };
        pass.leave(&answer, context).await;
        answer
    }

    /// The answer, also where the daemon has a defect: a panic costs one call, and its caller learns
    /// of it instead of waiting for ever.
    async fn guarded_answer(
        &self,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let answer = async {
            #[cfg(debug_assertions)]
            super::fault::panic_where_asked(request);
            self.answer_call(request, context).await
        };
        AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
            let error = ToolError::new(
                "internal",
                format!("{} failed by a defect of the daemon", clip(&request.name)),
                "look at what was done before you try again; the daemon's log says more",
            );
            Ok(refusal(request, error))
        })
    }

    /// Lets a request through that is no call of a tool and reads something.
    async fn may_read(&self, context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.gate().read(&self.principal, context).await
    }
}

/// All lists fit on one page, so no cursor was ever given out.
fn first_page(request: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|request| request.cursor) {
        None => Ok(()),
        Some(cursor) => {
            let message = format!("Unknown cursor {:?}: the list has one page", clip(&cursor));
            Err(ErrorData::invalid_params(message, None))
        }
    }
}

impl ServerHandler for AdwServer {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_completions()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_tasks()
            .build();
        let info = Implementation::new("adwd", self.shared.deps.version)
            .with_title("ADW daemon")
            .with_description(
                "Issue numbers become reviewed branches and pull requests; workflows step by step",
            );
        let shown = INSTRUCTIONS.iter().filter(|(set, _)| self.shown.lists(*set));
        let instructions: Vec<&str> = shown.map(|(_, about)| *about).collect();
        let config = ServerConfig::new(capabilities).with_server_info(info);
        match instructions.as_slice() {
            [] => config,
            some => config.with_instructions(some.join("\n\n")),
        }
    }

    /// Before 2026-07-28 a stateless HTTP server has no way to send notifications of its own
    /// accord, so it does not claim that it will.
    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let mut info = self.negotiate_initialize(&request)?;
        if self.principal.transport == Transport::Http {
            if let Some(resources) = info.capabilities.resources.as_mut() {
                resources.subscribe = None;
                resources.list_changed = None;
            }
            if let Some(prompts) = info.capabilities.prompts.as_mut() {
                prompts.list_changed = None;
            }
        } else {
            *self.heard() = Some(self.runs().changes());
        }
        Ok(info)
    }

    async fn discover(
        &self,
        _context: RequestContext<RoleServer>,
    ) -> Result<DiscoverResult, ErrorData> {
        let versions = self.supported_protocol_versions().into_owned();
        Ok(DiscoverResult::from_server_info(versions, self.get_info())
            .with_ttl_ms(STATIC_TTL_MS)
            .with_cache_scope(CacheScope::Private))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.shared.catalogue.find(name).map(|(_, tool)| tool.clone())
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        first_page(request)?;
        let tools = self.shared.catalogue.list(&self.principal, &self.shown);
        Ok(ListToolsResult::with_all_items(tools)
            .with_ttl_ms(STATIC_TTL_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let began = Instant::now();
        let answer = self.pass(&request, &context).await;
        self.count(&request.name, began, &answer);
        answer
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.may_read(&context).await?;
        first_page(request)?;
        resources::list(self).await
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        first_page(request)?;
        Ok(resources::templates(self))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.may_read(&context).await?;
        Ok(resources::read(self, &request.uri).await?.into())
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        first_page(request)?;
        prompts::list(self).await
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.may_read(&context).await?;
        Ok(prompts::get(self, &request).await?.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        self.may_read(&context).await?;
        completion::complete(self, &request).await
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(acceptable(requested))
    }

    /// Returning is the graceful end: the client gets a result instead of a torn stream.
    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let changes = self.runs().changes();
        self.gate().listen(&self.principal).await?;
        let _place = self.place().map_err(ToolError::into_protocol)?;
        let watched = Watched::of(context.accepted());
        tokio::select! {
            () = pump(self, &watched, changes, context.sink(), self.stopping()) => {}
            () = context.cancelled() => {}
        }
        Ok(())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        if self.principal.transport != Transport::Unix {
            return;
        }
        // One pump a connection; it ends with the connection, whichever side ends it.
        let (server, peer) = (self.clone(), context.peer);
        let changes = self.heard().take().unwrap_or_else(|| self.runs().changes());
        let stop = self.gone.child_token();
        tokio::spawn(async move {
            tokio::select! {
                () = pump(&server, &server.watched, changes, &peer, &stop) => {}
                () = server.stopping().cancelled() => {}
            }
        });
    }

    #[allow(deprecated, reason = "clients before 2026-07-28 know no other way")]
    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.may_read(&context).await?;
        self.watched.add(&request.uri).then_some(()).ok_or_else(|| {
            ErrorData::invalid_params("too many resources are watched; unsubscribe some", None)
        })
    }

    #[allow(deprecated, reason = "clients before 2026-07-28 know no other way")]
    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.watched.remove(&request.uri);
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.may_read(&context).await?;
        let run = self.runs().get(&request.task_id).await;
        let run = run.map_err(|error| tasks::task_error(&request.task_id, error))?;
        Ok(GetTaskResult::new(tasks::detailed(run)))
    }

    /// A run asks its client nothing, so there is nothing to answer; answers to questions that
    /// are not open are ignored, as the extension says.
    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.may_read(&context).await?;
        let run = self.runs().get(&request.task_id).await;
        run.map(|_| ()).map_err(|error| tasks::task_error(&request.task_id, error))
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = caller(&self.principal, &context);
        let arguments = JsonObject::from_iter([("taskId".to_owned(), json!(request.task_id))]);
        let asked = Asked::method("tasks/cancel", &arguments);
        let entered = self.gate().enter(&self.principal, asked, &context).await;
        let pass = entered.map_err(|barred| barred.into_protocol(&self.principal))?;
        let outcome = match self.principal.allows(Action::Steer) {
            true => match self.runs().cancel(&caller, &request.task_id).await {
                Ok(_) => Ok(()),
                Err(error) => Err(tasks::task_error(&request.task_id, error)),
            },
            false => {
                let code = json!({ "code": "not_allowed" });
                Err(ErrorData::invalid_request("Team tier required to cancel runs", Some(code)))
            }
        };
        pass.leave_plainly(&outcome).await;
        outcome
    }
}

/// The grace that event streams and waits get to end by themselves.
pub(super) async fn after(token: &CancellationToken, grace: Duration) {
    token.cancelled().await;
    tokio::time::sleep(grace).await;
}
