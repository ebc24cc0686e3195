//! The loop that accepts connections.
//!
//! Our own, because `axum::serve` bounds neither their number nor the time of anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::certificate::Certificate;
use super::connection::{self, Common};
use super::places::Places;
use super::refusal::Bare;
use crate::limits::{
    HTTP_ACCEPT_PAUSE_MS, HTTP_CERTIFICATE_LOOK_MS, HTTP_CONNECTIONS_COUNT, HTTP_DRAIN_MS,
    HTTP_PEER_CONNECTIONS_COUNT, HTTP_TURNED_AWAY_COUNT,
};

/// How a listener is served.
#[derive(Debug)]
pub struct Serving {
    /// The certificate where TLS is spoken.
    pub certificate: Option<Certificate>,
    /// How often its files are looked at.
    pub certificate_look: Duration,
    /// Connections at once.
    pub connections_count: usize,
    /// Connections of one peer on another machine at once.
    pub peer_connections_count: usize,
}

impl Default for Serving {
    fn default() -> Serving {
        Serving {
            certificate: None,
            certificate_look: Duration::from_millis(HTTP_CERTIFICATE_LOOK_MS),
            connections_count: HTTP_CONNECTIONS_COUNT,
            peer_connections_count: HTTP_PEER_CONNECTIONS_COUNT,
        }
    }
}

impl Serving {
    /// Behind a proxy: all connections are the proxy's, wherever it stands.
    #[must_use]
    pub fn behind_proxy(self) -> Serving {
        Serving { peer_connections_count: self.connections_count, ..self }
    }
}

/// Serves a router until `ct`, then until the last answer is out or the drain time is over.
/// Each request carries its peer's address as [`axum::extract::ConnectInfo`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    serving: Serving,
    ct: CancellationToken,
) -> io::Result<()> {
    let places = Places::new(serving.connections_count, serving.peer_connections_count);
    let mut connections = JoinSet::new();
    let tls = serving.certificate.map(|certificate| {
        let current = certificate.current();
        connections.spawn(certificate.follow(serving.certificate_look, ct.clone()));
        current
    });
    let common = Arc::new(Common { router, tls, soft: ct.clone() });
    let strangers = Arc::new(Semaphore::new(HTTP_TURNED_AWAY_COUNT));
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            () = ct.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                is_failing = false;
                prepare(&stream);
                match places.admit(peer.ip(), Instant::now()) {
                    Some(place) => {
                        connections.spawn(connection::serve(common.clone(), stream, peer, place));
                    }
                    None => {
                        refuse(&mut connections, &strangers, stream, peer, common.tls.is_some())
                    }
                }
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if !is_failing {
                    tracing::warn!(%error, "no connection can be accepted; trying again and again");
                }
                is_failing = true;
                sleep(Duration::from_millis(HTTP_ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(Duration::from_millis(HTTP_DRAIN_MS), all).await;
    Ok(())
}

fn prepare(stream: &TcpStream) {
    // With Nagle's algorithm every event of a stream waits for a delayed ACK, some 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
}

/// All places are taken by connections that are being answered.
fn refuse(
    connections: &mut JoinSet<()>,
    strangers: &Arc<Semaphore>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: bool,
) {
    tracing::debug!(%peer, "all places are taken; turned away");
    // Over TLS nothing can be said before a handshake, which is what there is no room for.
    if tls {
        return;
    }
    if let Ok(permit) = strangers.clone().try_acquire_owned() {
        connections.spawn(async move {
            connection::turn_away(stream, Bare::Full).await;
            drop(permit);
        });
    }
}

/// Whether one connection failed before it was accepted, and not the accepting.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
