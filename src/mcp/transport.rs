//! The roads in: streamable HTTP as a router, the unix socket, and the byte pipe of `adwd stdio`.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use futures::StreamExt as _;
use rmcp::model::{
    ClientNotification, ClientRequest, ErrorCode, ProtocolVersion, ServerConfig, ServerResult,
};
use rmcp::service::{NotificationContext, RequestContext, Service, ServiceExt};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::bounds::{
    ACCEPT_PAUSE, BODY_MAX_BYTES, DRAIN, GRACE, HALF_CLOSED, HALF_CLOSED_POLL, MESSAGE_MAX_BYTES,
    MESSAGE_VALUES_COUNT, REFUSAL_MAX_BYTES, SSE_KEEP_ALIVE, UNIX_CONNECTIONS_COUNT,
};
use super::gate::http::metered;
use super::greeting::{self, Greeting};
use super::server::{AdwServer, McpDeps, after};
use super::shown::Hello;
use super::weight::Weight;
use crate::auth::{Principal, own_uid, peer_is_welcome};

/// Path of the endpoint.
pub const HTTP_PATH: &str = "/mcp";

/// Pages that may talk to the daemon: those the user's own machine serves.
const LOOPBACK_ORIGINS: [&str; 6] = [
    "http://localhost:*",
    "http://127.0.0.1:*",
    "http://[::1]:*",
    "https://localhost:*",
    "https://127.0.0.1:*",
    "https://[::1]:*",
];

/// Names under which a loopback server is addressed; any other was rebound by somebody's DNS.
const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How rmcp begins its refusal of a body that it cannot read as a message.
const NO_MESSAGE: &[u8] = b"fail to deserialize request body ";

/// Settings of the HTTP endpoint.
#[derive(Clone, Debug, Default)]
pub struct HttpConfig {
    /// Origins of web pages that may call, beside those on loopback.
    pub allowed_origins: Vec<String>,
    /// Names by which the endpoint may be addressed, beside those of loopback.
    pub allowed_hosts: Vec<String>,
    /// Whether every name is one.
    pub any_host: bool,
    /// Whether clients of before 2026-07-28 get sessions, in which a server may ask its client. The
    /// daemon never gives any; what the conformance suite asks of that revision needs them.
    pub legacy_sessions: bool,
}

/// The endpoint as a router; must be called inside the runtime. Requests must carry the
/// [`Principal`] that `web::guarded` puts into their extensions; one without is refused.
pub fn http_router(deps: McpDeps, cfg: HttpConfig, ct: CancellationToken) -> Router {
    let gate = deps.gate.clone();
    let server = AdwServer::new(deps, ct.clone());
    let handler = move |principal: &Principal, hello: Hello| {
        server.of(principal.clone(), hello, CancellationToken::new())
    };
    http_router_of(handler, cfg, ct).layer(from_fn_with_state(gate, metered))
}

/// The same endpoint over any handler: the conformance suite's fixtures are graded on our own
/// configuration this way. `handler` is asked once for every request, with what the address says
/// the client wants to be shown; an address that asks for what is not there is answered 400.
///
/// Every setting here is one that a real client needs: sessions would die with idleness and
/// restarts, priming events break Gemini CLI, and replies in one JSON body are one write.
pub fn http_router_of<H: ServerHandler>(
    handler: impl Fn(&Principal, Hello) -> H + Clone + Send + Sync + 'static,
    cfg: HttpConfig,
    ct: CancellationToken,
) -> Router {
    let hard = CancellationToken::new();
    let ended = hard.clone();
    // Streams and waits end by themselves first; what then is left is cut.
    tokio::spawn(async move {
        after(&ct, GRACE + DRAIN).await;
        ended.cancel();
    });
    let origins = LOOPBACK_ORIGINS.iter().map(|o| (*o).to_owned()).chain(cfg.allowed_origins);
    let own_hosts = LOOPBACK_HOSTS.iter().map(|host| (*host).to_owned());
    let hosts: Vec<String> = match cfg.any_host {
        true => Vec::new(),
        false => own_hosts.chain(cfg.allowed_hosts).collect(),
    };
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_sse_retry(None)
        .with_sse_keep_alive(Some(SSE_KEEP_ALIVE))
        .with_allowed_hosts(hosts)
        .with_allowed_origins(origins)
        .with_max_request_body_bytes(BODY_MAX_BYTES)
        .with_cancellation_token(hard);
    if !cfg.legacy_sessions {
        return routed(handler, NeverSessionManager::default(), config);
    }
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.sse_retry = None;
    routed(handler, sessions, config.with_legacy_session_mode(true))
}

fn routed<H: ServerHandler>(
    handler: impl Fn(&Principal, Hello) -> H + Clone + Send + Sync + 'static,
    sessions: impl SessionManager,
    config: StreamableHttpServerConfig,
) -> Router {
    let sessions = Arc::new(sessions);
    let endpoint = move |request: Request| {
        let (handler, sessions, config) = (handler.clone(), sessions.clone(), config.clone());
        async move {
            let Some(principal) = request.extensions().get::<Principal>().cloned() else {
                tracing::error!("a request reached the endpoint without passing the guard");
                return StatusCode::UNAUTHORIZED.into_response();
            };
            let hello = match Hello::of_query(request.uri().query()) {
                Ok(hello) => hello,
                Err(why) => return no_message(ErrorCode::INVALID_REQUEST, &why),
            };
            // A service of its own, because rmcp asks for its handler without naming the request.
            let make = move || Ok(handler(&principal, hello.clone()));
            let heavy = Arc::new(AtomicBool::new(false));
            let request = weighed(request, heavy.clone());
            let service = StreamableHttpService::new(make, sessions, config);
            let response = service.handle(request).await.into_response();
            if heavy.load(Ordering::Acquire) { too_heavy() } else { response }
        }
    };
    Router::new().route(HTTP_PATH, any(endpoint)).layer(map_response(told_as_json_rpc))
}

/// The request with a body that ends, and says so in `heavy`, where it holds too many values.
fn weighed(request: Request, heavy: Arc<AtomicBool>) -> Request {
    request.map(|body| {
        let mut weight = Weight::default();
        Body::from_stream(body.into_data_stream().map(move |piece| {
            let piece = piece?;
            if weight.add(&piece) {
                return Ok(piece);
            }
            heavy.store(true, Ordering::Release);
            Err(axum::Error::new(io::Error::from(io::ErrorKind::InvalidData)))
        }))
    })
}

fn too_heavy() -> Response {
    let why = format!("a message holds at most {MESSAGE_VALUES_COUNT} values");
    no_message(ErrorCode::INVALID_REQUEST, &format!("Invalid request: {why}"))
}

/// 400 with an error that answers no message.
fn no_message(code: ErrorCode, message: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(unasked(code, message))).into_response()
}

fn unasked(code: ErrorCode, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message } })
}

/// A body that is no message, answered as JSON-RPC wants it: 400 with an error of a null id. rmcp
/// answers 415 and a line of text, the same for a wrong media type, which stays as it is.
async fn told_as_json_rpc(response: Response) -> Response {
    if response.status() != StatusCode::UNSUPPORTED_MEDIA_TYPE {
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(text) = to_bytes(body, REFUSAL_MAX_BYTES).await else {
        return parts.status.into_response();
    };
    let Some(why) = text.strip_prefix(NO_MESSAGE) else {
        return Response::from_parts(parts, Body::from(text));
    };
    let why = String::from_utf8_lossy(why);
    // Only what is no JSON at all has a place where reading stopped.
    let (code, message) = match why.contains(" at line ") {
        true => (ErrorCode::PARSE_ERROR, "Parse error"),
        false => (ErrorCode::INVALID_REQUEST, "Invalid request"),
    };
    no_message(code, &format!("{message}: {}", why.trim()))
}

/// Serves the unix socket until `ct`: newline-framed JSON-RPC, one handler a connection.
pub async fn serve_unix(
    listener: UnixListener,
    deps: McpDeps,
    ct: CancellationToken,
) -> io::Result<()> {
    let server = AdwServer::new(deps, ct.clone());
    let places = Arc::new(Semaphore::new(UNIX_CONNECTIONS_COUNT));
    let hard = CancellationToken::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = ct.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some((principal, place)) = admit(&stream, &places) {
                        let server = server.clone();
                        connections.spawn(connection(server, stream, principal, place, hard.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the socket accepts no connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // Streams and waits have seen `ct` and end by themselves; then the connections are closed,
    // which sends what is still on its way.
    let all = async { while connections.join_next().await.is_some() {} };
    let mut all = pin!(all);
    if tokio::time::timeout(GRACE, &mut all).await.is_err() {
        hard.cancel();
        let _ = tokio::time::timeout(DRAIN + GRACE, all).await;
    }
    Ok(())
}

/// Who the peer is, and a place for it; none where it is another user or too many are here.
fn admit(
    stream: &UnixStream,
    places: &Arc<Semaphore>,
) -> Option<(Principal, OwnedSemaphorePermit)> {
    let uid = match stream.peer_cred() {
        Ok(cred) => cred.uid(),
        Err(error) => {
            tracing::warn!(%error, "the kernel does not say who connected; refused");
            return None;
        }
    };
    if !peer_is_welcome(own_uid(), uid) {
        tracing::warn!(uid, "another user connected to the socket; refused");
        return None;
    }
    match places.clone().try_acquire_owned() {
        Ok(place) => Some((Principal::unix(uid), place)),
        Err(_) => {
            tracing::warn!(max = UNIX_CONNECTIONS_COUNT, "too many connections; refused");
            None
        }
    }
}

async fn connection(
    server: AdwServer,
    stream: UnixStream,
    principal: Principal,
    place: OwnedSemaphorePermit,
    hard: CancellationToken,
) {
    let gone = CancellationToken::new();
    let _gone = gone.clone().drop_guard();
    let busy = Arc::new(AtomicUsize::new(0));
    let (mut read, mut write) = stream.into_split();
    let greeted = tokio::select! {
        greeted = greeting::read(&mut read) => greeted,
        () = hard.cancelled() => return,
    };
    let Greeting { hello, rest } = match greeted {
        Ok(greeting) => greeting,
        Err(why) => {
            tracing::warn!(%why, "a connection introduced itself in a way that is not understood");
            let told = unasked(ErrorCode::INVALID_REQUEST, &why).to_string() + "\n";
            // Whoever is gone need not be told.
            let _ = write.write_all(told.as_bytes()).await;
            return;
        }
    };
    let handler = Counted { inner: server.of(principal, hello, gone), busy: busy.clone() };
    let transport = AsyncRwTransport::new_server(Lingering::new(rest, read, busy), write)
        .with_max_line_length(MESSAGE_MAX_BYTES);
    // A child: rmcp cancels the token it is given when the connection ends.
    match handler.serve_with_ct(transport, hard.child_token()).await {
        Ok(running) => {
            if let Err(error) = running.waiting().await {
                tracing::warn!(%error, "a connection's task failed");
            }
        }
        Err(error) => tracing::debug!(%error, "a connection ended before it began"),
    }
    drop(place);
}

/// Counts the requests being answered, so that a half-closed connection knows when it is done.
struct Counted {
    inner: AdwServer,
    busy: Arc<AtomicUsize>,
}

struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service<RoleServer> for Counted {
    async fn handle_request(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        // An event stream never ends by itself: nobody can be waiting for its reply.
        let _busy = (!matches!(request, ClientRequest::SubscriptionsListenRequest(_))).then(|| {
            self.busy.fetch_add(1, Ordering::SeqCst);
            Busy(self.busy.clone())
        });
        self.inner.handle_request(request, context).await
    }

    async fn handle_notification(
        &self,
        notification: ClientNotification,
        context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.inner.handle_notification(notification, context).await
    }

    fn get_info(&self) -> ServerConfig {
        Service::<RoleServer>::get_info(&self.inner)
    }

    fn supported_protocol_versions(&self) -> std::borrow::Cow<'static, [ProtocolVersion]> {
        Service::<RoleServer>::supported_protocol_versions(&self.inner)
    }
}

/// The reading half, which tells the end of input only when the last request is answered.
///
/// rmcp gives replies 5 s after the end of input; a wait takes up to 50 s, and
/// `echo … | adwd stdio` is entitled to its answer. A peer that is gone altogether is told apart
/// from one that only stopped sending, so that its waits end at once.
struct Lingering {
    /// What came with the greeting and is not read yet.
    rest: VecDeque<u8>,
    read: OwnedReadHalf,
    busy: Arc<AtomicUsize>,
    weight: Weight,
    ended: Option<(Pin<Box<Sleep>>, Instant)>,
}

impl Lingering {
    fn new(rest: Vec<u8>, read: OwnedReadHalf, busy: Arc<AtomicUsize>) -> Lingering {
        Lingering { rest: rest.into(), read, busy, weight: Weight::default(), ended: None }
    }

    fn peer_is_gone(&self, cx: &mut Context<'_>) -> bool {
        match pin!(self.read.ready(Interest::READABLE | Interest::WRITABLE)).poll(cx) {
            Poll::Ready(Ok(ready)) => ready.is_write_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() {
            let count = self.rest.len().min(buf.remaining());
            let bytes: Vec<u8> = self.rest.drain(..count).collect();
            buf.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        if self.ended.is_none() {
            let before = buf.filled().len();
            match Pin::new(&mut self.read).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() == before => {
                    let until = Instant::now() + HALF_CLOSED;
                    self.ended = Some((Box::pin(tokio::time::sleep(HALF_CLOSED_POLL)), until));
                }
                Poll::Ready(Ok(())) if !self.weight.add_lines(&buf.filled()[before..]) => {
                    let max = MESSAGE_VALUES_COUNT;
                    tracing::warn!(max, "a message on the socket holds too many values; closed");
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                other => return other,
            }
        }
        loop {
            let gone = self.peer_is_gone(cx);
            let idle = self.busy.load(Ordering::SeqCst) == 0;
            let Some((sleep, until)) = self.ended.as_mut() else { return Poll::Ready(Ok(())) };
            if gone {
                return Poll::Ready(Ok(()));
            }
            // The first pause lets the last request reach its handler before "idle" counts.
            std::task::ready!(sleep.as_mut().poll(cx));
            if idle || Instant::now() >= *until {
                return Poll::Ready(Ok(()));
            }
            sleep.as_mut().reset(Instant::now() + HALF_CLOSED_POLL);
        }
    }
}

/// Carries bytes between a client on stdin and stdout and the daemon's socket, after a line that
/// says so and what the client is to be shown.
///
/// At the end of `stdin` the socket is half-closed and what the daemon still has to say is
/// carried out before this returns. It also returns when the daemon closes the connection.
/// `stdout` carries what the socket sent and nothing else.
pub async fn bridge<R, W>(socket_path: &Path, hello: &Hello, stdin: R, stdout: W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut from_daemon, mut to_daemon) = UnixStream::connect(socket_path).await?.into_split();
    let (mut stdin, mut stdout) = (stdin, stdout);
    let up = async {
        let greeted = to_daemon.write_all(hello.line().as_bytes()).await;
        let copied = match greeted {
            Ok(()) => tokio::io::copy(&mut stdin, &mut to_daemon).await,
            Err(error) => Err(error),
        };
        // Also after an error: the daemon must learn that nothing more will come.
        let closed = to_daemon.shutdown().await;
        copied.and(closed)
    };
    let down = async {
        tokio::io::copy(&mut from_daemon, &mut stdout).await?;
        stdout.flush().await
    };
    let (mut up, mut down) = (pin!(up), pin!(down));
    tokio::select! {
        done = &mut down => done,
        sent = &mut up => {
            let said = down.await;
            // A daemon that is stopping closes first; its last words are what counts.
            match sent {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
                _ => said,
            }
        }
    }
}
