//! TLS, and what an address that others reach needs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use adwd::web::{Certificate, Serving, serve};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::hostile_support::*;
use crate::world::{ADWD, SOON, World, eventually, quoted};

/// A certificate for localhost and its key in a folder; the certificate's bytes.
fn certificate(folder: &Path) -> (PathBuf, PathBuf, CertificateDer<'static>) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    for (path, text) in [(&cert, made.cert.pem()), (&key, made.signing_key.serialize_pem())] {
        // As the usual tools do it: a new file in the place of the old one.
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }
    let der = CertificateDer::from_pem_file(&cert).unwrap();
    (cert, key, der)
}

async fn connected(
    address: &str,
    trusted: &CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    adwd::tls::install();
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn world_with_tls() -> (World, CertificateDer<'static>) {
    let world = World::new().await;
    let (cert, key, der) = certificate(&world.path("config"));
    world.set("http.tls_cert", &quoted(&cert.display().to_string()));
    world.set("http.tls_key", &quoted(&key.display().to_string()));
    (world, der)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_served_over_tls_and_nothing_else() {
    let (world, der) = world_with_tls().await;
    let _daemon = world.daemon().await;
    let said = std::fs::read_to_string(world.path("daemon-1.err")).unwrap();
    assert!(said.contains("MCP at https://"), "{said}");
    let at = address(&world);
    let call = post(&at, &[], &rpc("tools/list", json!({})).to_string());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = connected(&at, &der, &[version]).await.unwrap();
        let answer = say_over(stream, call.as_bytes()).await;
        assert_eq!(status(&answer), 200, "{answer}");
        let evil = call.replace(&format!("Host: {at}"), "Host: evil.example");
        let stream = connected(&at, &der, &[version]).await.unwrap();
        assert_eq!(status(&say_over(stream, evil.as_bytes()).await), 403);
    }
    // Plain HTTP is told what is spoken here; noise and a half hello are not answered.
    let answer = say(&at, &call).await;
    assert_eq!(status(&answer), 400, "{answer}");
    assert_eq!(body(&answer)["error"]["code"], "tls_required");
    assert!(!say(&at, b"\x16\x03\x01\x00\x05hello").await.contains("HTTP"));
    assert!(!say(&at, b"\x16\x03\x01\x02\x00\x01").await.contains("HTTP"));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_keep_nobody_out() {
    let (world, der) = world_with_tls().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    let before = resident_kib(&daemon);
    let call = post(&at, &[], &rpc("tools/list", json!({})).to_string());
    let flooded = flood(&at, 1_000, b"\x16\x03\x01\x02\x00\x01").await;
    for _ in 0..5 {
        let stream = connected(&at, &der, &[&rustls::version::TLS13]).await.unwrap();
        assert_eq!(status(&say_over(stream, call.as_bytes()).await), 200);
    }
    assert_flat(&daemon, before);
    drop(flooded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key, old) = certificate(dir.path());
    let serving = Serving {
        certificate: Some(Certificate::open(cert.clone(), key.clone()).unwrap()),
        certificate_look: Duration::from_millis(50),
        ..Serving::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, axum::Router::new(), serving, stop.clone()));
    let all = rustls::ALL_VERSIONS;
    drop(connected(&at, &old, all).await.unwrap());
    let (_, _, new) = certificate(dir.path());
    eventually("the new one is shown", SOON, async || {
        connected(&at, &new, all).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    // What cannot be used changes nothing.
    std::fs::write(&key, "rubbish").unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(connected(&at, &new, all).await.unwrap());
    }
    stop.cancel();
    served.await.unwrap().unwrap();
}

/// Starts a daemon that must refuse to; what it said.
async fn refused(world: &World) -> String {
    let mut command = world.command(&world.root, ADWD);
    command.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(SOON), command.output()).await;
    let output = ended.expect("it ends").unwrap();
    assert_ne!(output.status.code(), Some(0));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_reach_is_refused_with_what_to_do() {
    let (world, _) = world_with_tls().await;
    world.set("http.bind", "\"0.0.0.0:0\"");
    let said = refused(&world).await;
    assert!(said.contains("adwd key create --tier team --name"), "{said}");
    let absent = quoted(&world.path("absent.pem").display().to_string());
    world.set("http.bind", "\"127.0.0.1:0\"");
    world.set("http.tls_key", &absent);
    let said = refused(&world).await;
    assert!(said.contains("http.tls_key: cannot read") && said.contains("absent.pem"), "{said}");

    let plain = World::new().await;
    plain.set("http.bind", "\"0.0.0.0:0\"");
    let said = refused(&plain).await;
    assert!(said.contains("set http.tls_cert and http.tls_key, or http.behind_proxy"), "{said}");
    plain.set("http.tls_cert", &absent);
    let said = refused(&plain).await;
    assert!(said.contains("http.tls_key is not: TLS needs both"), "{said}");
}
