//! Commands about the daemon itself: serve, stop, stdio.

use std::time::Duration;

use super::args::{Serve, Stdio, Stop};
use super::fail::{Fail, chain, exit};
use super::link::Cx;
use super::place;
use crate::config::Toolsets;
use crate::daemon::{self, Ended, Misconfigured, Options};
use crate::lock::InstanceError;
use crate::mcp::{self, Hello};

/// `adwd serve`.
pub async fn serve(cx: Cx, given: Serve) -> Result<u8, Fail> {
    let named = cx.global.project.as_ref().map(|path| cx.here.join(path));
    let repository = match &named {
        Some(path) => Some(place::repository_root(path).ok_or_else(|| {
            Fail::usage(format!("--project {}: not in a git repository", path.display()))
        })?),
        // Started in the background, whoever started us adds what it is about.
        None if given.detached => None,
        None => place::repository_root(&cx.here),
    };
    if given.detached {
        // The terminal that we were started from may go; an error says that we lead already.
        let _ = nix::unistd::setsid();
        // Nor may it keep the folder that the starter happened to be in, a worktree perhaps, or a
        // disk that somebody wants to take out. What was given was made absolute.
        let _ = nix::unistd::chdir("/");
    }
    let options = Options {
        foreground: given.foreground,
        detached: given.detached,
        repository,
        repository_named: named.is_some(),
        exe: cx.exe,
    };
    match daemon::serve(cx.loaded, cx.env, options).await {
        Ok(Ended::Softly | Ended::Hard) => Ok(exit::OK),
        Err(error) => Err(match error.downcast_ref::<InstanceError>() {
            Some(InstanceError::Held { .. }) => {
                Fail::new(exit::NO_DAEMON, "already_running", error.to_string())
                    .hint("`adwd stop` ends the one that runs")
            }
            // A service manager need not try that again and again.
            _ if error.is::<Misconfigured>() => {
                Fail::new(exit::USAGE, "configuration", error.to_string())
                    .hint("`adwd config check` says whether the settings are right")
            }
            _ => Fail::new(exit::FAILED, "serve", chain(error.as_ref()))
                .hint("`adwd doctor` checks this machine"),
        }),
    }
}

/// `adwd stop`.
pub async fn stop(cx: &Cx, given: &Stop) -> Result<u8, Fail> {
    let state_dir = &cx.config().paths.state_dir;
    let stopped = daemon::stop(state_dir, Duration::from_secs(given.timeout))
        .await
        .map_err(|error| Fail::new(exit::FAILED, "stop", format!("{error:#}")))?;
    let Some(pid) = stopped else {
        return Err(Fail::new(
            exit::NO_DAEMON,
            "no_daemon",
            format!("no daemon runs on {}", state_dir.display()),
        ));
    };
    if cx.out.is_json() {
        cx.out.json(&serde_json::json!({"stopped": true, "pid": pid}));
    } else {
        cx.out.line(&format!("stopped (pid {pid}); runs live on and the next daemon finds them"));
    }
    Ok(exit::OK)
}

/// The toolsets of this connection: those of the flag, else those of the variable. In the environment
/// of `adwd stdio` the variable is the client's choice for itself, so it is taken out: a daemon that
/// this starts must not show everybody what one client asked for.
fn chosen(cx: &mut Cx, given: &Stdio) -> Result<Option<Toolsets>, Fail> {
    let variable = cx.env.remove("ADWD_TOOLSETS");
    let Some(text) = given.toolsets.as_ref().or(variable.as_ref()) else { return Ok(None) };
    Toolsets::parse(text).map(Some).map_err(|why| Fail::usage(format!("--toolsets: {why}")))
}

/// `adwd stdio`: bytes between a client on standard input and output and the daemon's socket.
pub async fn stdio(mut cx: Cx, given: &Stdio) -> Result<u8, Fail> {
    let hello = Hello::of_bridge(chosen(&mut cx, given)?);
    let client = cx.connect_or_start().await?;
    // A repository that cannot be served must not keep a client from talking to the daemon.
    if let Err(fail) = cx.project(&client).await {
        cx.out.note(&format!("adwd: {}", fail.message));
    }
    drop(client);
    // tokio reads standard input in a thread that nothing can interrupt; the runtime is left behind
    // at the end (`cli::run`), so that we end when the daemon hangs up.
    let socket = cx.socket();
    match mcp::bridge(&socket, &hello, tokio::io::stdin(), tokio::io::stdout()).await {
        Ok(()) => Ok(exit::OK),
        Err(error) => {
            Err(Fail::new(exit::NO_DAEMON, "socket", format!("{}: {error}", socket.display())))
        }
    }
}
