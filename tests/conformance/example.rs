//! `cargo run --example adwd-conformance [ADDRESS] [--sessions]`: the endpoint of `adwd` with the
//! fixtures that the MCP conformance suite asks of a server, so that anybody can repeat its full
//! requirement sets. Says its address on standard output and serves until it is interrupted.

mod fixture;

use std::io::{self, Write as _};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut bind = "127.0.0.1:0".to_owned();
    let mut sessions = false;
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--sessions" => sessions = true,
            _ => bind = word,
        }
    }
    let listener = TcpListener::bind(&bind).await?;
    writeln!(io::stdout(), "http://{}/mcp", listener.local_addr()?)?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(fixture::serve(listener, sessions, stop.clone()));
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    serving.await?
}
