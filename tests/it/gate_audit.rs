//! The record of calls on both engines: what is written when, what a dead daemon leaves, what goes.

use std::time::Duration;

use adwd::audit::{Audit, Call, End, InvocationFilter, Status, Writer};
use adwd::auth::{Principal, Tier};
use adwd::db::Db;
use adwd::limits::AUDIT_DELETE_COUNT;
use adwd::quota::Cost;

use crate::db::Scratch;
use crate::gate_support::*;
use crate::on_both_engines;

on_both_engines!(
    a_call_is_on_record_before_it_is_done_and_closed_after,
    an_end_that_nobody_follows_is_written_all_the_same,
    a_call_that_nobody_waits_for_is_interrupted,
    what_a_dead_daemon_left_open_is_interrupted_when_its_host_starts_again,
    the_first_refusal_of_an_hour_is_on_record_and_the_others_are_counted,
    a_page_leads_to_the_next_and_filters_narrow_it,
    old_records_go_and_so_do_the_oldest_of_too_many,
    a_flood_of_reads_without_a_key_pushes_nobody_out_of_the_record,
    ends_wait_for_a_database_that_comes_back,
    odd_text_is_stored_and_breaks_no_page,
);

fn failed(code: &str) -> End {
    End { status: Status::Error, adw_id: None, error_code: Some(code.to_owned()) }
}

async fn page(audit: &Audit, filter: InvocationFilter) -> Vec<String> {
    let page = audit.list(&filter).await.unwrap();
    page.invocations.into_iter().map(|call| call.tool_name).collect()
}

async fn a_call_is_on_record_before_it_is_done_and_closed_after(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    let open = audit.open(call("one")).await.unwrap();
    let before = audit.list(&InvocationFilter::default()).await.unwrap().invocations.remove(0);
    assert_eq!((before.status, &before.completed_at), (Status::Open, &None));
    assert_eq!(before.created_at, "2026-11-21T09:27:00.042Z");
    clock.advance(1_500);
    open.close(End { adw_id: Some("abc".to_owned()), ..failed("unknown_run") }).await;
    audit.flush().await;
    let after = audit.list(&InvocationFilter::default()).await.unwrap().invocations.remove(0);
    assert_eq!((after.status, after.duration_ms), (Status::Error, Some(1_500)));
    assert_eq!(after.completed_at.as_deref(), Some("2026-11-21T09:27:01.542Z"));
    assert_eq!(after.error_code.as_deref(), Some("unknown_run"));
    assert_eq!(after.adw_id.as_deref(), Some("abc"), "the answer named the run");
    assert_eq!((after.user_id.as_str(), after.tier.as_str()), ("key:k1", "team"));
    assert_eq!((after.transport.as_str(), after.request_id.as_deref()), ("http", Some("7")));
    assert_eq!((after.host.as_str(), &after.params["a"]), ("here", &serde_json::json!(1)));
    assert_eq!((&after.id, &after.tool_name), (&before.id, &before.tool_name));
}

async fn closed(db: &Db, tool: &str) -> bool {
    rows(db).await.iter().any(|row| row.0 == tool && row.1 == "ok")
}

async fn an_end_that_nobody_follows_is_written_all_the_same(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    audit.open(call("one")).await.unwrap().close(End::ok()).await;
    crate::world::eventually("the end is written", 10, async || {
        if closed(&s.db, "one").await { Ok(()) } else { Err("open".to_owned()) }
    })
    .await;
    // And the last ones when the daemon ends.
    audit.open(call("two")).await.unwrap().close(End::ok()).await;
    audit.end().await;
    assert!(closed(&s.db, "two").await);
}

async fn a_call_that_nobody_waits_for_is_interrupted(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    drop(audit.open(call("one")).await.unwrap());
    audit.flush().await;
    let hung_up = Some("hung_up".to_owned());
    assert_eq!(rows(&s.db).await, [("one".to_owned(), "interrupted".to_owned(), hung_up)]);
}

async fn what_a_dead_daemon_left_open_is_interrupted_when_its_host_starts_again(s: Scratch) {
    let (s, clock) = ready(s).await;
    let mut left = Vec::new();
    for (host, tool) in [("here", "mine"), ("there", "theirs")] {
        let (audit, writer) = start(&s.db, &clock, host).await;
        let task = tokio::spawn(writer.run());
        audit.open(call(&format!("{tool}, done"))).await.unwrap().close(End::ok()).await;
        audit.flush().await;
        left.push(audit.open(call(tool)).await.unwrap());
        // Dead, with what it had in memory.
        task.abort();
        let _ = task.await;
        clock.advance(1);
    }
    let second = audit(&s.db, &clock, "here").await;
    let of = |tool: &str, status: &str, code: Option<&str>| {
        (tool.to_owned(), status.to_owned(), code.map(str::to_owned))
    };
    assert_eq!(
        rows(&s.db).await,
        [
            of("mine, done", "ok", None),
            of("mine", "interrupted", Some("daemon_ended")),
            of("theirs, done", "ok", None),
            of("theirs", "open", None),
        ]
    );
    let filter = InvocationFilter { status: Some(Status::Interrupted), ..Default::default() };
    let found = second.list(&filter).await.unwrap().invocations.remove(0);
    assert_eq!((found.completed_at, found.duration_ms), (None, None), "nobody knows when");
}

async fn the_first_refusal_of_an_hour_is_on_record_and_the_others_are_counted(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    let pay = || Some(charge("key:k1", Cost::Write, 10));
    for hours in 1..=2 {
        let open = audit.admit(Some(call("granted")), pay()).await.unwrap().open;
        open.expect("there is enough").close(End::ok()).await;
        for _ in 0..5 {
            assert!(audit.admit(Some(call("refused")), pay()).await.unwrap().open.is_none());
        }
        audit.flush().await;
        let stored = rows(&s.db).await;
        assert_eq!(stored.len(), 2 * hours, "{stored:?}");
        let last = stored.last().unwrap();
        assert_eq!((last.1.as_str(), last.2.as_deref()), ("refused", Some("rate_limited")));
        assert_eq!(hour(&s.db, "key:k1").await.unwrap().2, 5);
        clock.advance(HOUR_MS);
    }
}

async fn a_page_leads_to_the_next_and_filters_narrow_it(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    for n in 0..7 {
        let mut call = call(&format!("t{n}"));
        call.adw_id = (n % 2 == 0).then(|| "even".to_owned());
        call.user_id = format!("key:{}", n % 3);
        let open = audit.open(call).await.unwrap();
        open.close(if n == 3 { failed("x") } else { End::ok() }).await;
        if n % 2 == 1 {
            // Two calls in each ms: they stay in order.
            clock.advance(1);
        }
    }
    audit.flush().await;
    let mut filter = InvocationFilter { limit: Some(3), ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let page = audit.list(&filter).await.unwrap();
        seen.extend(page.invocations.into_iter().map(|call| call.tool_name));
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]);
    let with = InvocationFilter::default;
    let text = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (InvocationFilter { adw_id: text("even"), ..with() }, vec!["t6", "t4", "t2", "t0"]),
        (InvocationFilter { user_id: text("key:1"), ..with() }, vec!["t4", "t1"]),
        (InvocationFilter { tool_name: text("t5"), ..with() }, vec!["t5"]),
        (InvocationFilter { status: Some(Status::Error), ..with() }, vec!["t3"]),
        (InvocationFilter { since_ms: Some(NOW.0 + 2), ..with() }, vec!["t6", "t5", "t4"]),
        (InvocationFilter { since_ms: Some(NOW.0 + 9), ..with() }, vec![]),
        (
            InvocationFilter { adw_id: text("even"), user_id: text("key:0"), ..with() },
            vec!["t6", "t0"],
        ),
        (InvocationFilter { adw_id: text("odd"), ..with() }, vec![]),
        (InvocationFilter { cursor: text("no cursor"), ..with() }, seen_all()),
    ] {
        assert_eq!(page(&audit, filter.clone()).await, expected, "{filter:?}");
    }
}

/// "no cursor" sorts behind every id.
fn seen_all() -> Vec<&'static str> {
    vec!["t6", "t5", "t4", "t3", "t2", "t1", "t0"]
}

async fn old_records_go_and_so_do_the_oldest_of_too_many(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    for n in 0..6 {
        audit.open(call(&format!("t{n}"))).await.unwrap().close(End::ok()).await;
        clock.advance(1_000);
    }
    audit.flush().await;
    let everything = deps(&s.db, &clock, "here");
    assert_eq!(Writer::sweep(&everything).await.unwrap(), 0);
    // t0 came 6 s ago and is too old; t1 came 5 s ago and is not.
    let mut aged = everything.clone();
    aged.keep_ms = 5_001;
    assert_eq!(Writer::sweep(&aged).await.unwrap(), 1);
    let mut few = everything.clone();
    few.keep_count = 2;
    assert_eq!(Writer::sweep(&few).await.unwrap(), 3);
    assert_eq!(page(&audit, InvocationFilter::default()).await, ["t5", "t4"]);
    assert_eq!(Writer::sweep(&few).await.unwrap(), 0);
}

async fn a_flood_of_reads_without_a_key_pushes_nobody_out_of_the_record(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    let nobody =
        |tier: Tier| Call { user_id: Principal::LOOPBACK.to_owned(), tier, ..call("nobody") };
    audit.open(call("first")).await.unwrap().close(End::ok()).await;
    // Where loopback is trusted it works, and what works is kept like everybody's.
    audit.open(nobody(Tier::Team)).await.unwrap().close(End::ok()).await;
    for n in 0..AUDIT_DELETE_COUNT + 50 {
        clock.advance(1);
        audit.open(nobody(Tier::Free)).await.unwrap().close(End::ok()).await;
        if n == 7 {
            audit.open(call("second")).await.unwrap().close(End::ok()).await;
        }
    }
    audit.flush().await;
    let mut small = deps(&s.db, &clock, "here");
    small.keep_count = 40;
    let gone = Writer::sweep(&small).await.unwrap();
    assert_eq!(gone, u64::from(AUDIT_DELETE_COUNT) + 50 - 4, "a tenth of the places is theirs");
    let left = page(&audit, InvocationFilter::default()).await;
    assert_eq!(left, ["nobody", "nobody", "nobody", "nobody", "second", "nobody", "first"]);
    assert_eq!(Writer::sweep(&small).await.unwrap(), 0);
}

async fn ends_wait_for_a_database_that_comes_back(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    let open = audit.open(call("one")).await.unwrap();
    with_record(&s.db, false).await;
    open.close(End::ok()).await;
    audit.flush().await;
    let error = audit.open(call("two")).await.unwrap_err().to_string();
    assert!(error.contains("cannot be put on record"), "{error}");
    with_record(&s.db, true).await;
    audit.open(call("three")).await.unwrap().close(End::ok()).await;
    let flushed = tokio::time::timeout(Duration::from_secs(10), audit.flush()).await;
    flushed.expect("it is not stuck");
    let ok = |tool: &str| (tool.to_owned(), "ok".to_owned(), None);
    assert_eq!(rows(&s.db).await, [ok("one"), ok("three")]);
}

async fn odd_text_is_stored_and_breaks_no_page(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    let nul = adwd::audit::Call { params: "{\"a\":\"\\u0000\0\"}".to_owned(), ..call("nul") };
    audit.open(nul).await.expect("a NUL is stored as a mark").close(End::ok()).await;
    audit.flush().await;
    assert_eq!(rows(&s.db).await.len(), 1);
    // Params that are no JSON object are shown as none, and break no page.
    let odd = adwd::audit::Call { params: "[1".to_owned(), ..call("odd") };
    audit.open(odd).await.unwrap().close(End::ok()).await;
    assert_eq!(page(&audit, InvocationFilter::default()).await, ["odd", "nul"]);
}
