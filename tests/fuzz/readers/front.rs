//! What HTTP carries before anybody asks whose it is: names, origins, paths; and how connections
//! introduce themselves.

use std::sync::LazyLock;

use adwd::mcp::{Hello, greeting};
use adwd::web::{Front, Hosts, Origins, fronted};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::{at_once, choice, halves, text};

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let allowed = ["adw.example".to_owned(), "box:8443".to_owned()];
    let hosts = Hosts::new(([127, 0, 0, 1], 7117).into(), &allowed);
    let pages = ["https://dash.example".to_owned()];
    let router = Router::new().fallback(async || "inside");
    fronted(router, Front::new(hosts, Origins::new(&pages)))
});

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (choice, bytes) = choice(bytes);
    match choice % 3 {
        0 => request(bytes),
        1 => {
            let mut input = bytes;
            if let Ok(greeting) = at_once(greeting::read(&mut input)) {
                let rest = [greeting.rest.as_slice(), input].concat();
                assert!(bytes.ends_with(&rest));
                assert!(greeting.hello.bridged || rest == bytes);
            }
        }
        _ => {
            let Some(query) = text(bytes) else { return };
            if let Ok(hello) = Hello::of_query(Some(query)) {
                let line = Hello::of_bridge(hello.toolsets).line();
                assert!(Hello::parse(line.trim_end()).is_ok());
            }
        }
    }
}

/// A stranger's request comes through the front only if its names are ours, said another way here.
fn request(bytes: &[u8]) {
    let (host, rest) = halves(bytes);
    let (origin, target) = halves(rest);
    let mut request = Request::builder().uri(target).header("host", host);
    if !origin.is_empty() {
        request = request.header("origin", origin);
    }
    let Ok(request) = request.body(Body::empty()) else { return };
    let authority = request.uri().authority().map(|a| a.as_str().to_owned());
    let path = request.uri().path().to_owned();
    let response = at_once(TowerToHyperService::new(ROUTER.clone()).call(request))
        .expect("a router never fails");
    if response.status() != StatusCode::OK {
        return;
    }
    let ours = ["localhost", "127.0.0.1", "[::1]", "::1", "adw.example", "box:8443"];
    let stem = |name: &str| {
        let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse());
        match name.rsplit_once(':').and_then(|(stem, text)| Some((stem, port(text)?.ok()?))) {
            Some(("box", 8443_u16)) => "box:8443".to_owned(),
            Some((stem, _)) if !ours.contains(&name) => stem.to_owned(),
            _ => name.to_owned(),
        }
    };
    let host = String::from_utf8_lossy(host).trim().to_ascii_lowercase();
    for name in [Some(host), authority.map(|a| a.to_ascii_lowercase())].into_iter().flatten() {
        assert!(ours.contains(&stem(&name).as_str()), "{name:?}");
    }
    if !origin.is_empty() {
        let origin = String::from_utf8_lossy(origin).trim().to_ascii_lowercase();
        let page = origin.split_once("://").map_or("", |(_, page)| page);
        let local = ["localhost", "127.0.0.1", "[::1]", "::1"].contains(&stem(page).as_str());
        assert!(local || page == "dash.example" || page == "dash.example:443", "{origin:?}");
    }
    assert!(!path.contains("//") && !path.contains("/../") && !path.contains('\\'), "{path:?}");
}
