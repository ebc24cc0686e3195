//! The guard: who is let in over HTTP, as whom, and what the others are told. A served router over
//! real keys on both databases, with a clock that is moved by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use adwd::auth::{Access, AccessDeps, KeyView, NewKey, Principal, ShownKey};
use adwd::clock::{Millis, TestClock};
use adwd::config::AccessConfig;
use adwd::ids::OsRng;
use adwd::limits::{ACCESS_ADDRESSES_COUNT, ACCESS_FAILURES_COUNT, ACCESS_FORGET_MS};
use adwd::web::{Guard, guarded};
use axum::routing::any;
use axum::{Extension, Router};
use reqwest::{Client as Web, Response};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::db::Scratch;
use crate::on_both_engines;
use crate::world::{SOON, eventually};

on_both_engines!(
    a_key_is_who_it_says_and_what_is_not_quite_it_is_nobody,
    a_key_ends_at_its_time_and_says_so,
    a_rotated_key_is_good_for_its_grace,
    what_is_revoked_is_refused_at_once,
    bad_credentials_are_throttled_and_good_ones_are_not,
    a_restart_forgets_no_block,
    nobody_makes_a_key_above_himself,
    another_handle_on_the_database_sees_the_key,
    the_use_of_a_key_is_written_down,
    an_event_stream_ends_with_its_key,
    an_event_stream_ends_with_the_secret_that_opened_it,
    strangers_with_many_addresses_fill_no_table,
);

const NOW: Millis = Millis(1_795_000_000_000);

/// A guarded router on loopback that answers who asked.
struct Gate {
    access: Access,
    clock: Arc<TestClock>,
    url: String,
    _folder: tempfile::TempDir,
}

/// How peers are seen.
#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Loopback,
    Unknown,
}

async fn access(s: &Scratch, clock: &Arc<TestClock>, folder: &std::path::Path) -> Access {
    access_with(s, clock, folder, AccessConfig::default()).await
}

async fn access_with(
    s: &Scratch,
    clock: &Arc<TestClock>,
    folder: &std::path::Path,
    config: AccessConfig,
) -> Access {
    adwd::tls::install();
    s.db.migrate(clock.as_ref()).await.unwrap();
    let deps = AccessDeps {
        db: s.db.clone(),
        clock: clock.clone(),
        rng: Arc::new(OsRng),
        state_dir: folder.to_path_buf(),
        config,
    };
    Access::open(deps).await.unwrap()
}

async fn served(access: Access, peer: Peer, behind_proxy: bool) -> String {
    let who = |Extension(principal): Extension<Principal>, headers: axum::http::HeaderMap| async move {
        assert!(!headers.contains_key("authorization"), "nothing behind the guard sees it");
        format!("{} {}", principal.user_id, principal.tier.as_str())
    };
    // A stream that never ends by itself.
    let stream = || async {
        let body = axum::body::Body::from_stream(futures::stream::pending::<
            Result<String, std::io::Error>,
        >());
        ([("content-type", "text/event-stream")], body)
    };
    let router = Router::new().route("/mcp", any(who)).route("/stream", any(stream));
    let router = router.route("/healthz", any(|| async { "alive" }));
    let router = guarded(router, Guard::new(access, behind_proxy));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    match peer {
        Peer::Loopback => {
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            tokio::spawn(async move { axum::serve(listener, service).await });
        }
        Peer::Unknown => {
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
    }
    url
}

async fn gate(s: &Scratch) -> Gate {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::new(NOW));
    let access = access(s, &clock, folder.path()).await;
    let url = served(access.clone(), Peer::Loopback, false).await;
    Gate { access, clock, url, _folder: folder }
}

fn owner() -> Principal {
    Principal::unix(1000)
}

fn wanted(tier: &str) -> NewKey {
    NewKey { tier: tier.to_owned(), name: "test".to_owned(), ..NewKey::default() }
}

async fn make(access: &Access, tier: &str) -> ShownKey {
    access.create(&owner(), &wanted(tier)).await.unwrap()
}

async fn ask(url: &str, key: Option<&str>) -> Response {
    ask_with(url, key, &[]).await
}

async fn ask_with(url: &str, key: Option<&str>, headers: &[(&str, &str)]) -> Response {
    adwd::tls::install();
    let mut request = Web::new().post(format!("{url}/mcp"));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

/// Status, code of the error, and the challenge.
async fn told(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let challenge = header("www-authenticate").unwrap_or_default();
    let body: Value = response.json().await.unwrap();
    for word in ["message", "hint"] {
        assert!(body["error"][word].as_str().is_some_and(|text| text.len() > 10), "{body}");
    }
    (status, body["error"]["code"].as_str().unwrap().to_owned(), challenge)
}

async fn a_key_is_who_it_says_and_what_is_not_quite_it_is_nobody(s: Scratch) {
    let gate = gate(&s).await;
    for tier in ["free", "solo", "team", "enterprise", "admin"] {
        let key = make(&gate.access, tier).await;
        let said = ask(&gate.url, Some(&key.key)).await.text().await.unwrap();
        assert_eq!(said, format!("key:{} {tier}", key.facts.id));
    }
    let team = make(&gate.access, "team").await.key;
    let flipped = if team.ends_with('0') { "1" } else { "0" };
    for bad in [
        team.replace("_team_", "_admin_"),
        team.replace("_team_", "_solo_"),
        format!("{}{flipped}", &team[..team.len() - 1]),
        team[..team.len() - 1].to_owned(),
        "adwd_team_000000000000_".to_owned() + &"0".repeat(64),
        "adwd_".to_owned(),
        "x".to_owned(),
        "eyJhbGciOiJub25lIn0.e30.".to_owned(),
        String::new(),
    ] {
        // A gate each, because they add up to a block.
        let clock = Arc::new(TestClock::new(NOW));
        let folder = tempfile::tempdir().unwrap();
        let url = served(access(&s, &clock, folder.path()).await, Peer::Loopback, false).await;
        let (status, code, challenge) = told(ask(&url, Some(&bad)).await).await;
        assert_eq!((status, code.as_str()), (401, "invalid_credential"), "{bad}");
        assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{challenge}");
        assert!(!challenge.contains("resource_metadata"), "no tokens are taken: {challenge}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_credential_only_loopback_that_nobody_speaks_for_is_let_in() {
    let s = crate::db::sqlite().await;
    let clock = Arc::new(TestClock::new(NOW));
    let folder = tempfile::tempdir().unwrap();
    let config = |trust_loopback, require_key| AccessConfig {
        trust_loopback,
        require_key,
        ..AccessConfig::default()
    };
    for (settings, peer, behind_proxy, expected) in [
        (config(false, false), Peer::Loopback, false, Ok("loopback free")),
        (config(true, false), Peer::Loopback, false, Ok("loopback team")),
        (config(false, true), Peer::Loopback, false, Err(401)),
        (config(true, true), Peer::Loopback, false, Err(401)),
        (config(true, false), Peer::Loopback, true, Err(401)),
        (config(true, false), Peer::Unknown, false, Err(401)),
    ] {
        let access = access_with(&s, &clock, folder.path(), settings.clone()).await;
        let url = served(access, peer, behind_proxy).await;
        let response = ask(&url, None).await;
        match expected {
            Ok(who) => assert_eq!(response.text().await.unwrap(), who, "{settings:?}"),
            Err(status) => {
                let (told, code, challenge) = told(response).await;
                assert_eq!((told, code.as_str()), (status, "unauthorized"), "{settings:?}");
                assert_eq!(challenge, "Bearer");
            }
        }
        let alive = Web::new().get(format!("{url}/healthz")).send().await.unwrap();
        assert_eq!(alive.status(), 200, "whoever asks may know that it lives");
    }
    let access = access_with(&s, &clock, folder.path(), config(true, false)).await;
    let url = served(access, Peer::Loopback, false).await;
    for name in
        ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "CF-Connecting-IP"]
    {
        let response = ask_with(&url, None, &[(name, "127.0.0.1")]).await;
        assert_eq!(response.status(), 401, "{name}");
    }
    let basic = ask_with(&url, None, &[("authorization", "Basic YTpi")]).await;
    assert_eq!(basic.status(), 401, "another scheme is no reason to be anonymous");
}

async fn a_key_ends_at_its_time_and_says_so(s: Scratch) {
    let gate = gate(&s).await;
    let asked = NewKey { expires: Some("1h".to_owned()), ..wanted("team") };
    let key = gate.access.create(&owner(), &asked).await.unwrap();
    assert_eq!(ask(&gate.url, Some(&key.key)).await.status(), 200);
    // Believed or not: its end is looked at each time.
    gate.clock.advance(3_600_000);
    let (status, code, _) = told(ask(&gate.url, Some(&key.key)).await).await;
    assert_eq!((status, code.as_str()), (401, "key_expired"));
    let wrong = format!("{}{}", &key.key[..key.key.len() - 4], "0000");
    let (_, code, _) = told(ask(&gate.url, Some(&wrong)).await).await;
    assert_eq!(code, "invalid_credential", "who has not the secret learns nothing");
    let list = gate.access.list(&owner()).await.unwrap();
    assert_eq!(list.keys[0].state, "expired");
    assert!(gate.access.rotate(&owner(), &key.facts.id, None).await.is_err());
    assert!(!gate.access.has_good_keys().await.unwrap());
}

async fn a_rotated_key_is_good_for_its_grace(s: Scratch) {
    let gate = gate(&s).await;
    let first = make(&gate.access, "team").await;
    assert_eq!(ask(&gate.url, Some(&first.key)).await.status(), 200);
    let second = gate.access.rotate(&owner(), &first.facts.id, Some("24h")).await.unwrap();
    assert_eq!(second.facts.id, first.facts.id);
    assert_ne!(second.key, first.key);
    for key in [&first.key, &second.key] {
        assert_eq!(ask(&gate.url, Some(key)).await.status(), 200);
    }
    gate.clock.advance(24 * 3_600_000);
    let (status, code, _) = told(ask(&gate.url, Some(&first.key)).await).await;
    assert_eq!((status, code.as_str()), (401, "key_rotated"));
    assert_eq!(ask(&gate.url, Some(&second.key)).await.status(), 200);
    let third = gate.access.rotate(&owner(), &first.facts.id, None).await.unwrap();
    assert_eq!(ask(&gate.url, Some(&second.key)).await.status(), 401, "without grace: at once");
    assert_eq!(ask(&gate.url, Some(&third.key)).await.status(), 200);
    for grace in ["0h", "31d", "soon"] {
        let refused = gate.access.rotate(&owner(), &first.facts.id, Some(grace)).await;
        assert!(refused.unwrap_err().to_string().contains("24h"), "{grace}");
    }
}

async fn what_is_revoked_is_refused_at_once(s: Scratch) {
    let gate = gate(&s).await;
    let key = make(&gate.access, "team").await;
    assert_eq!(ask(&gate.url, Some(&key.key)).await.status(), 200);
    let view = gate.access.revoke(&owner(), &key.facts.id).await.unwrap();
    assert_eq!((view.state.as_str(), view.revoked_by.as_deref()), ("revoked", Some("uid:1000")));
    let (status, code, _) = told(ask(&gate.url, Some(&key.key)).await).await;
    assert_eq!((status, code.as_str()), (401, "key_revoked"));
    let again = gate.access.revoke(&owner(), &key.facts.id).await.unwrap();
    // When it was used is written down behind the answer.
    let again = KeyView { last_used_at: None, ..again };
    assert_eq!(again, KeyView { last_used_at: None, ..view }, "twice is as good as once");
    let unknown = gate.access.revoke(&owner(), "000000000000").await.unwrap_err();
    assert_eq!(unknown.code(), "unknown_key");
    let whole = gate.access.revoke(&owner(), &key.key).await.unwrap_err().to_string();
    assert!(whole.contains("not the key itself") && !whole.contains(&key.key), "{whole}");
}

async fn bad_credentials_are_throttled_and_good_ones_are_not(s: Scratch) {
    let gate = gate(&s).await;
    let good = make(&gate.access, "solo").await.key;
    for _ in 0..ACCESS_FAILURES_COUNT - 1 {
        assert_eq!(ask(&gate.url, Some("adwd_guess")).await.status(), 401);
    }
    let rows = async || -> (i64, i64) {
        let sql = "SELECT seen_at, blocks FROM access_failures";
        s.db.one(sql, vec![]).await.unwrap()
    };
    let last = ask(&gate.url, Some("adwd_guess")).await;
    assert_eq!(
        (last.status().as_u16(), &last.headers()["retry-after"]),
        (429, &"30".parse().unwrap())
    );
    let (_, code, _) = told(last).await;
    assert_eq!(code, "throttled");
    let stored = rows().await;
    gate.clock.advance(10_000);
    let more = ask(&gate.url, Some("adwd_guess")).await;
    assert_eq!(
        (more.status().as_u16(), &more.headers()["retry-after"]),
        (429, &"20".parse().unwrap())
    );
    assert_eq!(rows().await, stored, "nothing more is written of it");
    assert_eq!(ask(&gate.url, Some(&good)).await.status(), 200);
    assert_eq!(ask(&gate.url, None).await.status(), 200, "and who shows nothing is no guesser");
    gate.clock.advance(20_001);
    assert_eq!(ask(&gate.url, Some("adwd_guess")).await.status(), 401, "it begins anew");
    for _ in 0..ACCESS_FAILURES_COUNT - 2 {
        ask(&gate.url, Some("adwd_guess")).await;
    }
    let last = ask(&gate.url, Some("adwd_guess")).await;
    assert_eq!(
        (last.status().as_u16(), &last.headers()["retry-after"]),
        (429, &"60".parse().unwrap())
    );
}

async fn a_restart_forgets_no_block(s: Scratch) {
    let gate = gate(&s).await;
    for _ in 0..ACCESS_FAILURES_COUNT {
        ask(&gate.url, Some("adwd_guess")).await;
    }
    let again = access(&s, &gate.clock, gate._folder.path()).await;
    let url = served(again.clone(), Peer::Loopback, false).await;
    assert_eq!(ask(&url, Some("adwd_guess")).await.status(), 429);
    // Behind a proxy the address is the one that the proxy saw.
    let url = served(again, Peer::Loopback, true).await;
    let other = [("x-forwarded-for", "127.0.0.1, 192.0.2.9")];
    assert_eq!(ask_with(&url, Some("adwd_guess"), &other).await.status(), 401);
    let same = [("x-forwarded-for", "192.0.2.9, 127.0.0.1")];
    assert_eq!(ask_with(&url, Some("adwd_guess"), &same).await.status(), 429);
}

async fn nobody_makes_a_key_above_himself(s: Scratch) {
    let gate = gate(&s).await;
    let admin = NewKey { tier: "owner".to_owned(), ..wanted("") };
    let admin = gate.access.create(&owner(), &admin).await.unwrap();
    assert_eq!(admin.facts.tier, "admin", "owner is a synonym");
    let by = gate.access.identify(&admin.key, "192.0.2.1").await.unwrap().principal;
    gate.access.create(&by, &wanted("admin")).await.unwrap();
    let team = make(&gate.access, "team").await;
    let by = gate.access.identify(&team.key, "192.0.2.1").await.unwrap().principal;
    let refused = gate.access.create(&by, &wanted("free")).await.unwrap_err();
    assert_eq!(refused.code(), "not_allowed");
    let bound = NewKey { projects: vec!["shop".to_owned()], ..wanted("admin") };
    let bound = gate.access.create(&owner(), &bound).await.unwrap();
    let by = gate.access.identify(&bound.key, "192.0.2.1").await.unwrap().principal;
    assert!(by.scope.holds("shop") && !by.scope.holds("site"));
    let id = &team.facts.id;
    for refused in [
        gate.access.create(&by, &wanted("free")).await.map(drop),
        gate.access.list(&by).await.map(drop),
        gate.access.revoke(&by, id).await.map(drop),
        gate.access.rotate(&by, id, None).await.map(drop),
    ] {
        assert!(refused.unwrap_err().to_string().contains("bound to projects"));
    }
    for (asked, part) in [
        (NewKey { tier: "boss".into(), ..wanted("") }, "expected free"),
        (NewKey { name: " ".into(), ..wanted("free") }, "1 to 100"),
        (NewKey { name: "a\nb".into(), ..wanted("free") }, "one line"),
        (NewKey { name: team.key.clone(), ..wanted("free") }, "looks like a key"),
        (NewKey { expires: Some("2020-01-01".into()), ..wanted("free") }, "over already"),
        (NewKey { hourly: Some(0), ..wanted("free") }, "1 to"),
        (NewKey { day_budget_usd: Some(-1.0), ..wanted("free") }, "0 to"),
        (NewKey { day_budget_usd: Some(f64::NAN), ..wanted("free") }, "0 to"),
        (NewKey { projects: vec!["a/b".into()], ..wanted("free") }, "a/b"),
    ] {
        let error = gate.access.create(&owner(), &asked).await.unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains(&team.key), "{error}");
    }
}

async fn another_handle_on_the_database_sees_the_key(s: Scratch) {
    let gate = gate(&s).await;
    let key = make(&gate.access, "solo").await;
    // The same folder: with PostgreSQL it would not have to be.
    let other = access(&s, &gate.clock, gate._folder.path()).await;
    assert!(other.identify(&key.key, "192.0.2.1").await.is_ok());
    gate.access.revoke(&owner(), &key.facts.id).await.unwrap();
    eventually("the other handle looks again", SOON, async || {
        match other.identify(&key.key, "192.0.2.1").await {
            Err(_) => Ok(()),
            Ok(_) => Err("it is still believed".to_owned()),
        }
    })
    .await;
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = access(&s, &gate.clock, elsewhere.path()).await;
    let key = make(&gate.access, "solo").await;
    let known = stranger.identify(&key.key, "192.0.2.1").await.is_ok();
    let shared = s.db.engine() == adwd::db::Engine::Postgres;
    assert_eq!(known, shared, "a copy of an SQLite database alone opens nothing");
}

async fn the_use_of_a_key_is_written_down(s: Scratch) {
    let gate = gate(&s).await;
    let key = make(&gate.access, "solo").await;
    assert_eq!(gate.access.list(&owner()).await.unwrap().keys[0].last_used_at, None);
    ask(&gate.url, Some(&key.key)).await;
    let used = async |at: Millis| {
        eventually("the use is written down", SOON, async || {
            let seen = gate.access.list(&owner()).await.unwrap().keys[0].last_used_at.clone();
            if seen == Some(at.rfc3339()) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    };
    used(NOW).await;
    let later = gate.clock.advance(60_000);
    ask(&gate.url, Some(&key.key)).await;
    used(later).await;
}

/// A stream that was opened with that key.
async fn stream(gate: &Gate, key: &str) -> Response {
    adwd::tls::install();
    let request = Web::new().get(format!("{}/stream", gate.url));
    let stream = request.header("authorization", format!("bearer {key}")).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    stream
}

async fn ends(mut stream: Response) {
    let end = tokio::time::timeout(std::time::Duration::from_secs(SOON), stream.chunk()).await;
    assert!(end.expect("it ends").expect("in order").is_none());
}

async fn an_event_stream_ends_with_its_key(s: Scratch) {
    let gate = gate(&s).await;
    let key = make(&gate.access, "solo").await;
    let stream = stream(&gate, &key.key).await;
    gate.access.revoke(&owner(), &key.facts.id).await.unwrap();
    ends(stream).await;
}

/// Who rotates a key because it got out shuts out who has it, wherever that one already is.
async fn an_event_stream_ends_with_the_secret_that_opened_it(s: Scratch) {
    let gate = gate(&s).await;
    let first = make(&gate.access, "solo").await;
    let id = first.facts.id.as_str();
    let open = stream(&gate, &first.key).await;
    let second = gate.access.rotate(&owner(), id, None).await.unwrap();
    ends(open).await;
    // With a time of grace it lives as long as that; the newer secret's own goes on.
    let (old, held) = (stream(&gate, &second.key).await, second.key.as_str());
    let third = gate.access.rotate(&owner(), id, Some("1h")).await.unwrap();
    let of_old = gate.access.identify(held, "t").await.unwrap();
    let of_new = gate.access.identify(&third.key, "t").await.unwrap();
    gate.clock.advance(3_600_000);
    // Any change makes streams look again.
    gate.access.revoke(&owner(), &make(&gate.access, "free").await.facts.id).await.unwrap();
    ends(old).await;
    let is_over = async |identity| {
        let limit = std::time::Duration::from_millis(300);
        tokio::time::timeout(limit, gate.access.ended(identity)).await.is_ok()
    };
    assert!(is_over(&of_old).await && !is_over(&of_new).await);
}

async fn strangers_with_many_addresses_fill_no_table(s: Scratch) {
    let gate = gate(&s).await;
    ask(&gate.url, Some("adwd_guess")).await;
    // As if each had shown one bad credential, and none so many that it was shut out.
    s.db.exec(
        "INSERT INTO access_failures (address, failures, window_at, blocks, blocked_until, seen_at) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
         SELECT 'a' || CAST(i AS TEXT), 1, $2, 0, 0, $2 FROM n",
        adwd::args![ACCESS_ADDRESSES_COUNT + 500, NOW],
    )
    .await
    .unwrap();
    gate.clock.advance(ACCESS_FORGET_MS);
    assert_eq!(ask(&gate.url, Some("adwd_guess")).await.status(), 401);
    let (rows,): (i64,) =
        s.db.one("SELECT CAST(COUNT(*) AS BIGINT) FROM access_failures", adwd::args![])
            .await
            .unwrap();
    assert_eq!(rows, ACCESS_ADDRESSES_COUNT);
}
