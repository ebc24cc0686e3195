//! The endpoints: the unix socket, and HTTP; where they are is written down.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{exposure, private_folder};
use crate::config::{Loaded, Source};
use crate::limits::SOCKET_PATH_MAX_BYTES;
use crate::mcp::bounds::BODY_MAX_BYTES;
use crate::mcp::{self, HttpConfig, McpDeps};
use crate::web::{self, Front, Hosts, Origins};

/// File in the state folder that names the socket.
const SOCKET_FILE: &str = "socket.addr";
/// File in the state folder that names the HTTP address.
const HTTP_FILE: &str = "http.addr";
/// How long the endpoints may take to end: above the bounds that the MCP layer keeps.
const CLOSE_LIMIT_MS: u64 = 5_000;

/// The socket of the daemon that ran last on `state_dir`, where one is written down.
#[must_use]
pub fn recorded_socket(state_dir: &Path) -> Option<PathBuf> {
    read_line(&state_dir.join(SOCKET_FILE)).map(PathBuf::from)
}

/// The HTTP address of the daemon that runs on `state_dir`, where it has one.
#[must_use]
pub fn recorded_http(state_dir: &Path) -> Option<SocketAddr> {
    read_line(&state_dir.join(HTTP_FILE))?.parse().ok()
}

fn read_line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned()).filter(|line| !line.is_empty())
}

/// What is served.
pub struct Parts {
    /// Tools, resources and prompts.
    pub deps: McpDeps,
    /// How the daemon is.
    pub observed: web::Observed,
    /// What reaches the daemon from outside, and proves by itself whose it is.
    pub outside: Router,
}

/// The open endpoints.
pub struct Endpoints {
    socket: PathBuf,
    http: Option<SocketAddr>,
    tls: bool,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl Endpoints {
    /// Opens what the settings ask for. `outside` is not guarded: its routes carry their own proof,
    /// as a delivery does its signature. The caller holds the instance lock: only therefore may a
    /// socket file that is in the way be taken for a dead daemon's.
    pub async fn open(
        loaded: &Loaded,
        parts: Parts,
        stop: &CancellationToken,
    ) -> anyhow::Result<Endpoints> {
        let Parts { deps, observed, outside } = parts;
        let config = &loaded.config;
        let socket = config.paths.socket.clone();
        let listener = bind_socket(&socket)?;
        let mut tasks = vec![tokio::spawn(mcp::serve_unix(listener, deps.clone(), stop.clone()))];
        let mut http = None;
        let mut tls = false;
        if config.http.enabled {
            let chosen = loaded
                .provenance
                .iter()
                .any(|s| s.key == "http.bind" && s.source != Source::Default);
            let listener = bind_http(config.http.bind, chosen).await?;
            http = Some(listener.local_addr().context("the HTTP listener has no address")?);
            let serving = exposure::serving(config)?;
            tls = serving.certificate.is_some();
            let public = config.access.public_host();
            let allowed: Vec<String> =
                config.serve.allowed_hosts.iter().cloned().chain(public).collect();
            let hosts = Hosts::new(config.http.bind, &allowed);
            let names = hosts.list();
            let settings = HttpConfig {
                allowed_origins: config.http.allowed_origins.clone(),
                any_host: names.is_empty(),
                allowed_hosts: names,
                legacy_sessions: false,
            };
            let guard = web::Guard::new(deps.access.clone(), config.serve.behind_proxy);
            let metrics = deps.metrics.clone();
            let router = mcp::http_router(deps, settings, stop.clone());
            let router = web::guarded(router.merge(web::routes(observed.clone())), guard);
            let router = router.merge(web::open_routes(observed)).merge(outside);
            let front = Front::new(hosts, Origins::new(&config.http.allowed_origins))
                .with_bodies(mcp::HTTP_PATH, BODY_MAX_BYTES);
            let router = web::counted(web::fronted(router, front), metrics);
            tasks.push(tokio::spawn(web::serve(listener, router, serving, stop.clone())));
        }
        let endpoints = Endpoints { socket, http, tls, tasks };
        endpoints.record(&config.paths.state_dir).context("cannot write down where we listen")?;
        Ok(endpoints)
    }

    fn record(&self, state_dir: &Path) -> io::Result<()> {
        write_line(&state_dir.join(SOCKET_FILE), &self.socket.display().to_string())?;
        match self.http {
            Some(address) => write_line(&state_dir.join(HTTP_FILE), &address.to_string()),
            None => match std::fs::remove_file(state_dir.join(HTTP_FILE)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Where we listen, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let socket = self.socket.display();
        match self.http {
            Some(address) => {
                let scheme = if self.tls { "https" } else { "http" };
                format!("MCP at {scheme}://{address}/mcp and on {socket}")
            }
            None => format!("MCP on {socket}"),
        }
    }

    /// Waits until the endpoints have ended (the token is cancelled by now) and takes their traces
    /// away, still under the instance lock.
    pub async fn close(self, state_dir: &Path) {
        let all = async {
            for task in self.tasks {
                match task.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "an endpoint ended with an error"),
                    Err(error) => tracing::error!(%error, "an endpoint's task failed"),
                }
            }
        };
        if tokio::time::timeout(Duration::from_millis(CLOSE_LIMIT_MS), all).await.is_err() {
            tracing::warn!(limit_ms = CLOSE_LIMIT_MS, "the endpoints did not end in time");
        }
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(state_dir.join(SOCKET_FILE));
        let _ = std::fs::remove_file(state_dir.join(HTTP_FILE));
    }
}

fn bind_socket(socket: &Path) -> anyhow::Result<UnixListener> {
    let bytes = socket.as_os_str().len();
    if bytes > SOCKET_PATH_MAX_BYTES {
        bail!(
            "the socket's path has {bytes} bytes and may have {SOCKET_PATH_MAX_BYTES}: {}; set a shorter --socket or --runtime-dir",
            socket.display()
        );
    }
    let folder = socket.parent().unwrap_or(Path::new("/"));
    private_folder(folder)
        .with_context(|| format!("cannot use {} for the socket", folder.display()))?;
    remove_dead(socket)?;
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    // The folder is ours alone, so there is no moment in which others could connect.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot set the mode of {}", socket.display()))?;
    Ok(listener)
}

/// Takes a dead daemon's socket away; a living one's (of another state folder) and any other file
/// stay, and are an error.
fn remove_dead(socket: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(meta) = std::fs::symlink_metadata(socket) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        bail!("{} is in the way and is no socket; move it away", socket.display());
    }
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        bail!(
            "another daemon (of another state folder) listens on {}; give this one a --runtime-dir or --socket of its own",
            socket.display()
        );
    }
    std::fs::remove_file(socket)
        .with_context(|| format!("cannot remove the dead socket {}", socket.display()))
}

/// Binds the address. Where nobody chose it, a taken port is no reason not to start: another
/// user's daemon may have it, and then we take a free one.
async fn bind_http(address: SocketAddr, chosen: bool) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !chosen => {
            tracing::warn!(%address, "the port is taken: using a free one");
            let free = SocketAddr::new(address.ip(), 0);
            TcpListener::bind(free).await.with_context(|| format!("cannot listen on {free}"))
        }
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot listen on http://{address}; choose another with --http-bind, or --no-http"
            )
        }),
    }
}

fn write_line(path: &Path, line: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, format!("{line}\n"))?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_a_living_one_and_a_file_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/adwd.sock");
        let first = bind_socket(&socket).unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let error = bind_socket(&socket).unwrap_err().to_string();
        assert!(error.contains("another daemon"), "{error}");
        drop(first);
        drop(bind_socket(&socket).unwrap());
        std::fs::remove_file(&socket).unwrap();
        std::fs::write(&socket, "precious").unwrap();
        assert!(bind_socket(&socket).is_err());
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
        let long = dir.path().join("x".repeat(120));
        assert!(bind_socket(&long).unwrap_err().to_string().contains("107"));
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_only_where_it_was_chosen() {
        let first = bind_http("127.0.0.1:0".parse().unwrap(), true).await.unwrap();
        let taken = first.local_addr().unwrap();
        assert!(bind_http(taken, true).await.is_err());
        let other = bind_http(taken, false).await.unwrap().local_addr().unwrap();
        assert_ne!(other.port(), taken.port());
    }
}
