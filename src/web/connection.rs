//! One connection: from the first byte to the last, with an end to everything that could last.
//!
//! hyper reads and writes; what it does is watched from both sides, as bytes and as requests, and so
//! known without timers of its own: it has one for heads, which also runs while a connection rests.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::places::{Phase, Place, Standing};
use super::refusal::{Bare, bare};
use crate::limits::{
    HTTP_BUFFER_BYTES, HTTP_HANDSHAKE_MS, HTTP_HEAD_BYTES, HTTP_HEADERS_COUNT, HTTP_LINGER_MS,
};

/// What all connections of one listener have in common.
pub(super) struct Common {
    pub(super) router: Router,
    pub(super) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// Asks connections to end after what they are at.
    pub(super) soft: CancellationToken,
}

/// Serves one connection to its end.
pub(super) async fn serve(common: Arc<Common>, stream: TcpStream, peer: SocketAddr, place: Place) {
    let standing = place.standing.clone();
    let served = async {
        let Some(tls) = &common.tls else { return http(&common, stream, peer, &standing).await };
        let config = tls.borrow().clone();
        let limit = Duration::from_millis(HTTP_HANDSHAKE_MS);
        match timeout(limit, handshake(config, stream)).await {
            Ok(Ok(Some(stream))) => {
                standing.enter(Phase::New, Instant::now());
                http(&common, stream, peer, &standing).await;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS came about"),
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
        }
    };
    tokio::select! {
        () = standing.cut.cancelled() => tracing::debug!(%peer, "made room for another"),
        () = served => {}
    }
    drop(place);
}

/// `None`: the peer spoke plain HTTP, and was told.
async fn handshake(
    config: Arc<ServerConfig>,
    stream: TcpStream,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0_u8];
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        turn_away(stream, Bare::PlainToTls).await;
        return Ok(None);
    }
    TlsAcceptor::from(config).accept(stream).await.map(Some)
}

async fn http<IO>(common: &Common, io: IO, peer: SocketAddr, standing: &Arc<Standing>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = Answering {
        router: TowerToHyperService::new(common.router.clone()),
        peer,
        standing: standing.clone(),
    };
    let io = TokioIo::new(Watched { io, standing: standing.clone() });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(HTTP_HEADERS_COUNT)
        .max_header_size(HTTP_HEAD_BYTES)
        .max_buf_size(HTTP_BUFFER_BYTES)
        .serve_connection(io, service);
    let in_time = drive(&mut connection, standing, &common.soft).await;
    let io = connection.into_parts().io.into_inner().io;
    if in_time && standing.ended() {
        return;
    }
    let said = (!in_time && standing.is_within_head()).then_some(Bare::HeadTooSlow);
    if in_time || said.is_some() {
        tokio::select! {
            () = common.soft.cancelled() => {}
            () = part(io, said) => {}
        }
    }
}

/// Whether the connection ended by itself; otherwise it overran a limit.
async fn drive<IO>(
    connection: &mut http1::Connection<TokioIo<Watched<IO>>, Answering>,
    standing: &Standing,
    soft: &CancellationToken,
) -> bool
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut timer = pin!(sleep(Duration::from_millis(HTTP_HANDSHAKE_MS)));
    let mut asked_to_end = false;
    loop {
        let step = std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                return Poll::Ready(true);
            }
            // Whatever moves the deadline happens while the connection is polled.
            let Some(deadline) = standing.deadline() else { return Poll::Pending };
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            timer.as_mut().poll(cx).map(|()| false)
        });
        tokio::select! {
            in_time = step => return in_time,
            () = soft.cancelled(), if !asked_to_end => asked_to_end = true,
        }
        Pin::new(&mut *connection).graceful_shutdown();
    }
}

/// Tells somebody who gets no service why, and closes.
pub(super) async fn turn_away(stream: TcpStream, why: Bare) {
    part(stream, Some(why)).await;
}

/// Closes so that what was said last arrives: a socket that is closed with bytes unread is reset,
/// and the peer loses what it has not yet read. Bounded in time.
async fn part<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO, said: Option<Bare>) {
    let parting = async {
        if let Some(why) = said {
            io.write_all(&bare(why)).await?;
        }
        io.shutdown().await?;
        let mut rest = [0_u8; 8 * 1024];
        while io.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(Duration::from_millis(HTTP_LINGER_MS), parting).await;
}

/// A stream that tells its connection's standing what passes.
struct Watched<IO> {
    io: IO,
    standing: Arc<Standing>,
}

impl<IO> Watched<IO> {
    fn written<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.standing.wrote(poll.is_ready(), Instant::now());
        poll
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        let bytes = if read.is_ok() { buf.filled().len() - before } else { 0 };
        self.standing.heard(bytes, Instant::now());
        Poll::Ready(read)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.written(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The router, told whose request it is, and watched as it answers.
struct Answering {
    router: TowerToHyperService<Router>,
    peer: SocketAddr,
    standing: Arc<Standing>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Told>, Infallible>> + Send>>;

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Told>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.standing.enter(Phase::Busy, Instant::now());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let answered = self.router.call(request);
        let standing = self.standing.clone();
        Box::pin(async move { Ok(answered.await?.map(|body| Told { body, standing })) })
    }
}

/// The body of an answer, which tells when it is out.
struct Told {
    body: Body,
    standing: Arc<Standing>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.standing.answered(Instant::now());
    }
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
