//! A hostile client below MCP: names, paths, heads, framing, protocols.

use serde_json::json;

use crate::hostile_support::*;
use crate::world::World;

/// Every route there is, and one that is not.
const ROUTES: [&str; 6] =
    ["POST /mcp", "GET /mcp", "GET /metrics", "GET /healthz", "POST /webhooks/github", "GET /none"];

fn list() -> String {
    rpc("tools/list", json!({})).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_or_origin_is_refused_on_every_route() {
    let world = World::new().await;
    let _daemon = world.daemon().await;
    let at = address(&world);
    for route in ROUTES {
        for header in [
            "Host: evil.example",
            "Host: localhost.evil.example",
            "Host: evil@localhost",
            "Host: ",
            "Host: localhost:port",
            "Origin: https://evil.example",
            "Origin: null",
            "Origin: http://localhost.evil.example",
        ] {
            let answer = say(&at, request(&at, route, &[header, "Content-Length: 0"], "")).await;
            assert_eq!(status(&answer), 403, "{route} {header}: {answer}");
            assert!(body(&answer)["error"]["hint"].is_string(), "{answer}");
        }
        let twice = ["Host: localhost", "Host: localhost"];
        assert_eq!(status(&say(&at, request(&at, route, &twice, "")).await), 400, "{route}");
        let none = format!("{route} HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&say(&at, none).await), 400, "{route}");
        let target = route.replace(" /", " http://evil.example/");
        assert_eq!(status(&say(&at, request(&at, &target, &[], "")).await), 403, "{route}");
    }
    let answer = say(&at, post(&at, &["Origin: http://localhost:3000"], &list())).await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_in_the_settings_is_served() {
    let world = World::new().await;
    world.set("http.allowed_hosts", "[\"adw.example\"]");
    world.set("http.allowed_origins", "[\"https://dash.example\"]");
    let _daemon = world.daemon().await;
    let at = address(&world);
    for (header, expected) in [
        ("Host: adw.example", 200),
        ("Host: ADW.example:443", 200),
        ("Host: other.example", 403),
        ("Origin: https://dash.example", 200),
        ("Origin: http://dash.example", 403),
    ] {
        let answer = say(&at, post(&at, &[header], &list())).await;
        assert_eq!(status(&answer), expected, "{header}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_has_one_form_and_an_answer_its_headers() {
    let world = World::new().await;
    let _daemon = world.daemon().await;
    let at = address(&world);
    for path in [
        "//mcp",
        "/./mcp",
        "/x/../mcp",
        "/../../etc/passwd",
        "/%2e%2e/mcp",
        "/%2E%2e/etc/passwd",
        "/mcp%00",
        "/mcp%0d%0aX: y",
        "/mcp/%2f",
        "/mcp%5c..",
        "/%252e%252e/mcp",
    ] {
        let line = format!("POST {path}");
        let answer = say(&at, post(&at, &[], &list()).replacen("POST /mcp", &line, 1)).await;
        assert_eq!(status(&answer), 400, "{path}: {answer}");
    }
    for path in ["/mcpx", "/mcp/", "/MCP", "/%6dcp", "/mcp;x", "/", "/etc/passwd"] {
        let answer = say(&at, request(&at, &format!("GET {path}"), &[], "")).await;
        assert_eq!(status(&answer), 404, "{path}: {answer}");
    }
    let good = say(&at, post(&at, &[], &list())).await;
    let absent = say(&at, request(&at, "GET /none", &[], "")).await;
    for answer in [good, absent] {
        assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
        assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_served_is_refused() {
    let world = World::new().await;
    let _daemon = world.daemon().await;
    let at = address(&world);
    for method in ["GET", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "FOO"] {
        let answer = say(&at, request(&at, &format!("{method} /mcp"), &[], "")).await;
        assert_eq!(status(&answer), 405, "{method}: {answer}");
    }
    let answer = say(&at, request(&at, "HEAD /mcp", &[], "")).await;
    assert_eq!(status(&answer), 405, "{answer}");
    let answer = say(&at, request(&at, "CONNECT evil.example:443", &[], "")).await;
    assert_eq!(status(&answer), 405, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_none_are_refused() {
    let world = World::new().await;
    let _daemon = world.daemon().await;
    let at = address(&world);
    let host = format!("Host: {at}\r\n");
    let with = |header: &str| format!("GET /mcp HTTP/1.1\r\n{host}{header}\r\n\r\n");
    for (what, bytes) in [
        ("a NUL in a value", with("X: a\0b")),
        ("a bare CR in a value", with("X: a\rb")),
        ("a folded value", with("X: a\r\n b")),
        ("a space before the colon", with("X : a")),
        ("no colon", with("X")),
        ("a NUL in the path", format!("GET /m\0cp HTTP/1.1\r\n{host}\r\n")),
        ("a space in the path", format!("GET /mcp x HTTP/1.1\r\n{host}\r\n")),
        ("another version", format!("GET /mcp HTTP/3.7\r\n{host}\r\n")),
        ("HTTP/0.9", "GET /mcp\r\n\r\n".to_owned()),
        ("no HTTP", "EHLO there\r\n\r\n".to_owned()),
    ] {
        let answer = say(&at, bytes).await;
        assert_eq!(status(&answer), 400, "{what}: {answer}");
        assert_eq!(answers(&answer), 1, "{what}: {answer}");
    }
    let long = with(&format!("X: {}", "x".repeat(64 * 1024)));
    assert_eq!(status(&say(&at, long).await), 431);
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: 1")).collect();
    assert_eq!(status(&say(&at, with(&many.join("\r\n"))).await), 431);
    let endless = with(&format!("X: {}", "x".repeat(8 << 20)));
    assert_eq!(status(&say(&at, endless).await), 431);
    let path = format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(100_000));
    let answer = say(&at, path).await;
    assert!(matches!(status(&answer), 414 | 431), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_ends_at_once() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    // HTTP/2, a TLS client hello, and noise.
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\xff\xfe\xfd\r\n\r\n",
    ] {
        let answer = say(&at, bytes).await;
        assert!(matches!(status(&answer), 0 | 400), "{answer}");
        assert!(answers(&answer) <= 1, "{answer}");
    }
    let good = Good::start(&daemon);
    good.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_as_long_as_it_says_and_nothing_hides_in_it() {
    let world = World::new().await;
    let _daemon = world.daemon().await;
    let at = address(&world);
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let head = |framing: &str| {
        format!(
            "POST /mcp HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n{framing}\r\n\r\n"
        )
    };
    for framing in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 5, 6",
        "Content-Length: 0x5",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ] {
        let answer = say(&at, head(framing) + "hello" + &hidden).await;
        assert_eq!((status(&answer), answers(&answer)), (400, 1), "{framing}: {answer}");
    }
    // Both lengths: the chunks count, and the connection ends, so that whatever was meant to be
    // hidden is never read as a request (RFC 9112 §6.3).
    let call = list();
    let chunks = format!("{:x}\r\n{call}\r\n0\r\n\r\n", call.len());
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        let answer = say(&at, head(framing) + &chunks + &hidden).await;
        assert_eq!((status(&answer), answers(&answer)), (200, 1), "{framing}: {answer}");
    }
    for chunks in ["zz\r\nhello\r\n0\r\n\r\n", "5;\nhello\r\n0\r\n\r\n", "fffffffffffffffff\r\nx"] {
        let answer = say(&at, head("Transfer-Encoding: chunked") + chunks + &hidden).await;
        assert!(status(&answer) >= 400 && answers(&answer) == 1, "{chunks:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order() {
    let world = World::new().await;
    let _daemon = world.daemon().await;
    let at = address(&world);
    let mut bytes = String::new();
    for _ in 0..200 {
        bytes += &format!("GET /none HTTP/1.1\r\nHost: {at}\r\n\r\n");
    }
    bytes += &post(&at, &[], &list());
    let answer = say(&at, &bytes).await;
    assert_eq!(answers(&answer), 201, "{}", &answer[..500]);
    let last = answer.rsplit_once("HTTP/1.1 ").unwrap().1;
    assert!(last.starts_with("200 ") && last.contains("\"tools\""), "{last}");
}
