//! The command line: words, connection, and what each command does.
//!
//! Every command but `serve`, `doctor`, `demo` and those about settings is an MCP client of the
//! daemon: the shell has no powers that another client lacks.

pub mod args;
mod audit;
mod clean;
mod content;
mod control;
pub mod fail;
mod health;
mod key;
pub mod link;
mod outside;
pub mod place;
mod project;
mod render;
mod runs;
mod settings;
mod usage;
mod watch;
mod workflow;
mod workflow_view;
mod writing;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::config::Config;
use crate::demo;
use crate::doctor;
use crate::out::Out;
use crate::tls;
use args::{Cli, Command};
use fail::{Fail, exit};
use link::Cx;

/// Reads the command line, does what it says, and answers the exit code.
#[must_use]
pub fn main() -> u8 {
    tls::install();
    let words: Vec<OsString> = std::env::args_os().collect();
    let json = words.iter().any(|word| word == "--json");
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return misread(&error, json),
    };
    let out = Out::new(cli.global.json);
    match run(cli, out) {
        Ok(code) => code,
        Err((out, fail)) => {
            fail.tell(&out);
            fail.exit
        }
    }
}

/// Help, version, or wrong usage.
fn misread(error: &clap::Error, json: bool) -> u8 {
    if !error.use_stderr() {
        // A reader that went away has read enough.
        let _ = error.print();
        return exit::OK;
    }
    let asked_nothing = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if json && !asked_nothing {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Fail::usage(first).hint("`adwd --help` shows what there is").tell(&Out::new(true));
    } else {
        let _ = error.print();
    }
    exit::USAGE
}

fn run(cli: Cli, out: Out) -> Result<u8, (Out, Fail)> {
    // These work whatever the present configuration says: one of them is how to mend it.
    match &cli.command {
        Command::Completions { shell } => return Ok(settings::completions(&out, *shell)),
        Command::Config(args::Config::Example) => {
            settings::example(&out);
            return Ok(exit::OK);
        }
        Command::Content(given) => {
            return content::command(&out, given).map_err(|fail| (out, fail));
        }
        _ => {}
    }
    let cx = match context(cli.global, out) {
        Ok(cx) => cx,
        Err((out, fail)) => return Err((out, fail)),
    };
    let json = cx.out.is_json();
    let serving = matches!(cli.command, Command::Serve(_));
    let runtime = match runtime(serving) {
        Ok(runtime) => runtime,
        Err(error) => {
            let fail =
                Fail::new(exit::FAILED, "internal", format!("cannot start the runtime: {error}"));
            return Err((cx.out, fail));
        }
    };
    let done = runtime.block_on(command(cx, cli.command));
    // Not waited for: a thread that reads standard input ends with the process, and what a second
    // signal cut off is cut off.
    runtime.shutdown_background();
    done.map_err(|fail| (Out::new(json), fail))
}

fn runtime(serving: bool) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = if serving {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().thread_name("adwd").build()
}

fn context(global: args::Global, out: Out) -> Result<Cx, (Out, Fail)> {
    // What is not UTF-8 cannot be passed on as text; no setting needs it.
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let loaded = match Config::load(&global.flags, &env) {
        Ok(loaded) => loaded,
        Err(error) => return Err((out, error.into())),
    };
    let place = || -> io::Result<_> { Ok((std::env::current_dir()?, std::env::current_exe()?)) };
    match place() {
        Ok((here, exe)) => Ok(Cx { global, env, loaded, out, here, exe }),
        Err(error) => {
            let text = format!("cannot find the current folder or this program: {error}");
            Err((out, Fail::new(exit::FAILED, "internal", text)))
        }
    }
}

async fn command(cx: Cx, command: Command) -> Result<u8, Fail> {
    match command {
        Command::Serve(given) => control::serve(cx, given).await,
        Command::Stop(given) => control::stop(&cx, &given).await,
        Command::Stdio(given) => control::stdio(cx, &given).await,
        Command::Trigger(given) => runs::trigger(&cx, given).await,
        Command::Phase(given) => runs::phase(&cx, given).await,
        Command::List(given) => runs::list(&cx, given).await,
        Command::State(given) => runs::state(&cx, given).await,
        Command::Logs(given) => watch::logs(&cx, given).await,
        Command::Cancel(given) => runs::cancel(&cx, given).await,
        Command::Resume(given) => runs::resume(&cx, given).await,
        Command::Wait(given) => watch::command(&cx, given).await,
        Command::Usage(given) => usage::command(&cx, given).await,
        Command::Project(given) => project::command(&cx, given).await,
        Command::Key(given) => key::command(&cx, given).await,
        Command::Audit(given) => audit::command(&cx, given).await,
        Command::Clean(given) => clean::command(&cx, given).await,
        Command::Workflow(given) => workflow::command(&cx, given).await,
        Command::Writing(given) => writing::command(&cx, given).await,
        Command::Schedule(given) => outside::schedule(&cx, &given).await,
        Command::Hook(given) => outside::hook(&cx, &given).await,
        Command::Doctor(given) => examine(&cx, &given).await,
        Command::Health => health::command(&cx).await,
        Command::Config(given) => settings::config(&cx, &given),
        Command::Demo(given) => show(&cx, given).await,
        Command::Service(given) => settings::service(&cx, &given),
        Command::Completions { shell } => Ok(settings::completions(&cx.out, shell)),
        Command::Content(given) => content::command(&cx.out, &given),
    }
}

/// `adwd doctor`.
async fn examine(cx: &Cx, given: &args::Doctor) -> Result<u8, Fail> {
    let root = match cx.global.project.as_deref() {
        Some(named) => {
            let known = cx.config().projects.iter().find(|p| p.name.as_str() == named);
            let path = known.map_or_else(|| cx.here.join(named), |p| p.path.clone());
            let root = place::repository_root(&path);
            Some(root.ok_or_else(|| {
                Fail::usage(format!("{} is in no git repository", path.display()))
            })?)
        }
        None => place::repository_root(&cx.here),
    };
    let visit = doctor::Visit {
        config: cx.config(),
        env: &cx.env,
        root,
        socket: cx.socket(),
        offline: given.offline,
        fix: given.fix,
    };
    let report = doctor::examine(&visit, &|what| {
        if cx.out.can_animate() {
            cx.out.note(&format!("… {what}"));
        }
    })
    .await;
    if cx.out.is_json() {
        cx.out.json(&report);
    } else {
        doctor::show(&report, &cx.out);
    }
    Ok(if report.failed > 0 { exit::FAILED } else { exit::OK })
}

/// `adwd demo`.
async fn show(cx: &Cx, given: args::Demo) -> Result<u8, Fail> {
    let plan = demo::Plan {
        keep: given.keep,
        first: !given.crash,
        second: !given.quick,
        dir: given.dir.map(|dir| cx.here.join(dir)),
        exe: cx.exe.clone(),
        env: cx.env.clone(),
        state_dir: cx.config().paths.state_dir.clone(),
    };
    let report = demo::run(&plan, &cx.out).await.map_err(|error| {
        Fail::new(exit::FAILED, "demo", format!("{error:#}")).hint(
            "`adwd doctor` checks this machine; `adwd demo --keep` leaves everything in place",
        )
    })?;
    if cx.out.is_json() {
        cx.out.json(&report);
    }
    Ok(exit::OK)
}
