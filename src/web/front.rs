//! The front: what holds for every request on every route, before anybody asks whose it is.
//!
//! Names, origins, paths, sizes and times. A route that is added behind it cannot forget them.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
    HeaderValue, ORIGIN, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::PollSemaphore;

use super::names::{Hosts, Origins};
use super::refusal::{last_refusal, refusal};
use crate::limits::{
    HTTP_BODIES_BYTES, HTTP_BODY_BYTES, HTTP_BODY_MS, HTTP_OTHER_BODIES_BYTES,
    HTTP_SMALL_BODY_BYTES, HTTP_TURNED_AWAY_RETRY_S,
};

/// What the front knows.
#[derive(Clone, Debug)]
pub struct Front {
    hosts: Hosts,
    origins: Origins,
    /// Paths whose requests may be larger (or must be smaller) than the usual, in bytes, and the room
    /// of each: what strangers send elsewhere must not take it from those who were let in there.
    bodies: Vec<(&'static str, usize, Room)>,
    /// The room for bodies of all other paths.
    room: Room,
}

/// What larger bodies may take up together, and what is left of it, in bytes.
#[derive(Clone, Debug)]
struct Room {
    max: usize,
    left: Arc<Semaphore>,
}

impl Room {
    fn new(max: usize) -> Room {
        Room { max, left: Arc::new(Semaphore::new(max)) }
    }
}

impl Front {
    /// A front for these names and pages; every body up to [`HTTP_BODY_BYTES`].
    #[must_use]
    pub fn new(hosts: Hosts, origins: Origins) -> Front {
        let room = Room::new(HTTP_OTHER_BODIES_BYTES);
        Front { hosts, origins, bodies: Vec::new(), room }
    }

    /// With another bound for the bodies of one path.
    #[must_use]
    pub fn with_bodies(mut self, path: &'static str, max_bytes: usize) -> Front {
        self.bodies.push((path, max_bytes, Room::new(HTTP_BODIES_BYTES)));
        self
    }

    /// How large a body may be, and the room that it shares.
    fn body(&self, path: &str) -> (usize, &Room) {
        let own = self.bodies.iter().find(|(own, ..)| *own == path);
        own.map_or((HTTP_BODY_BYTES, &self.room), |(_, max, room)| (*max, room))
    }

    /// The refusal of a request that is none at all, or none for us; its body is not looked at.
    fn refused(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            let message = format!("{} is not served", request.method());
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let mut refused =
                last_refusal(status, "method_not_allowed", &message, "this is no proxy");
            let _ = refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
            return Some(refused);
        }
        let host = self.refused_host(request.uri(), headers, request.version());
        if host.is_some() {
            return host;
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        if origins.any(|origin| !origin.to_str().is_ok_and(|text| self.origins.allow(text))) {
            return Some(refusal(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "pages of this origin may not call",
                "list it in http.allowed_origins if it is yours",
            ));
        }
        (!is_plain(request.uri().path())).then(|| {
            refusal(
                StatusCode::BAD_REQUEST,
                "bad_path",
                "the path is not in its plain form",
                "send it without //, dot segments and encoded separators",
            )
        })
    }

    fn refused_host(&self, uri: &Uri, headers: &HeaderMap, version: Version) -> Option<Response> {
        let hosts: Vec<_> = headers.get_all(HOST).iter().collect();
        if hosts.len() > 1 || (hosts.is_empty() && version == Version::HTTP_11) {
            return Some(last_refusal(
                StatusCode::BAD_REQUEST,
                "bad_host",
                &format!("a request has one Host header, and this one {}", hosts.len()),
                "send exactly one",
            ));
        }
        // An absolute target names the host as well, and then is what counts (RFC 9112 §3.2.2).
        let own = hosts.iter().map(|host| host.to_str().unwrap_or_default());
        let named: Vec<&str> = own.chain(uri.authority().map(|a| a.as_str())).collect();
        if !named.is_empty() && named.iter().all(|name| self.hosts.allow(name)) {
            return None;
        }
        Some(refusal(
            StatusCode::FORBIDDEN,
            "host_not_allowed",
            "this daemon is not addressed by that name",
            "list the name in http.allowed_hosts if it is yours",
        ))
    }
}

/// A path that means the same to everybody: no empty or dot segments, and nothing encoded that would
/// change how it is cut into segments or where it ends.
fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let hidden = ["%00", "%0a", "%0d", "%2e", "%2f", "%5c", "%25", "\\", "//"];
    // `OPTIONS *` has a path of its own, and nothing is served there.
    !hidden.iter().any(|mark| lower.contains(mark))
        && !lower.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// The routes behind the front. The outermost layer: what is merged into the router afterwards has
/// none.
pub fn fronted(router: Router, front: Front) -> Router {
    router.layer(from_fn_with_state(Arc::new(front), pass))
}

async fn pass(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let mut response = match front.refused(&request) {
        None => bounded(&front, request, next).await,
        Some(refused) => refused,
    };
    harden(response.headers_mut());
    response
}

/// Headers that keep browsers and caches from making more of an answer than it is.
fn harden(headers: &mut HeaderMap) {
    let streams = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let mut put = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    put(X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(CACHE_CONTROL, "no-store");
    put(CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    if streams {
        // nginx would keep events back until it has a buffer full of them.
        put(HeaderName::from_static("x-accel-buffering"), "no");
    }
}

/// Answers a request whose body keeps its bounds, or says which it broke.
async fn bounded(front: &Front, request: Request, next: Next) -> Response {
    let (max, room) = front.body(request.uri().path());
    let length = request.headers().get(CONTENT_LENGTH);
    let declared = length.and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|bytes| bytes > max) {
        return broken(Broken::TooLarge, max);
    }
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let fate = Arc::new(Fate::default());
    let request = request.map(|body| {
        Body::new(Metered {
            body,
            max,
            read: 0,
            declared,
            room: PollSemaphore::new(room.left.clone()),
            room_max: room.max,
            late: Box::pin(sleep(Duration::from_millis(HTTP_BODY_MS))),
            fate: fate.clone(),
        })
    });
    let response = next.run(request).await;
    match fate.broken() {
        Some(how) => broken(how, max),
        None => response,
    }
}

/// How a body broke its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    TooLarge = 1,
    TooSlow = 2,
    NoRoom = 3,
}

fn broken(how: Broken, max: usize) -> Response {
    match how {
        Broken::TooLarge => last_refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            &format!("the request's body exceeds {max} bytes"),
            "send less at once",
        ),
        Broken::TooSlow => last_refusal(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            &format!("the request's body took longer than {} s", HTTP_BODY_MS / 1_000),
            "send it without pauses",
        ),
        Broken::NoRoom => {
            let message = "too many large requests are being worked on";
            let mut refused = last_refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                message,
                "try again in a moment",
            );
            let again = HeaderValue::from(HTTP_TURNED_AWAY_RETRY_S);
            let _ = refused.headers_mut().insert(RETRY_AFTER, again);
            refused
        }
    }
}

/// What became of a body, told to who waits for the answer. It keeps the body's share of the room
/// until the answer is there: what was made of the body is as large as it.
#[derive(Debug, Default)]
struct Fate {
    how: AtomicU8,
    share: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Fate {
    fn broken(&self) -> Option<Broken> {
        [Broken::TooLarge, Broken::TooSlow, Broken::NoRoom]
            .into_iter()
            .find(|how| *how as u8 == self.how.load(Ordering::Acquire))
    }
}

/// A body within bounds of size, time and room.
struct Metered {
    body: Body,
    max: usize,
    read: usize,
    declared: Option<usize>,
    room: PollSemaphore,
    room_max: usize,
    late: Pin<Box<Sleep>>,
    fate: Arc<Fate>,
}

impl Metered {
    fn fail(&self, how: Broken) -> axum::Error {
        self.fate.how.store(how as u8, Ordering::Release);
        axum::Error::new(std::io::Error::other(format!("the body broke a bound: {how:?}")))
    }

    /// Waits for the body's share of the room, once.
    fn poll_share(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let has = self.fate.share.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if has || self.declared.unwrap_or(self.read) <= HTTP_SMALL_BODY_BYTES {
            return Poll::Ready(());
        }
        // One that comes in chunks may grow to the bound.
        let share = self.declared.unwrap_or(self.max).min(self.room_max);
        let bytes = u32::try_from(share).unwrap_or(u32::MAX);
        let permit = ready!(self.room.poll_acquire_many(cx, bytes));
        *self.fate.share.lock().unwrap_or_else(PoisonError::into_inner) = permit;
        Poll::Ready(())
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let late = self.late.as_mut().poll(cx).is_ready();
        if self.poll_share(cx).is_pending() {
            return if late {
                Poll::Ready(Some(Err(self.fail(Broken::NoRoom))))
            } else {
                Poll::Pending
            };
        }
        if late {
            return Poll::Ready(Some(Err(self.fail(Broken::TooSlow))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.read += frame.data_ref().map_or(0, Bytes::len);
            if self.read > self.max {
                return Poll::Ready(Some(Err(self.fail(Broken::TooLarge))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_form() {
        for plain in ["/mcp", "/", "/webhooks/github", "/.well-known/x", "*", "/a%20b", "/a/..b"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in [
            "//mcp",
            "/x//y",
            "/./mcp",
            "/x/../mcp",
            "/%2e%2e/mcp",
            "/%2E/mcp",
            "/mcp%00",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/%252e",
            "/a%0d%0ab",
        ] {
            assert!(!is_plain(other), "{other}");
        }
    }
}
