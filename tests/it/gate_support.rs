//! What the tests of quotas and of the record share.

use std::sync::Arc;

use adwd::args;
use adwd::audit::{Audit, AuditDeps, Call, Writer};
use adwd::auth::{Principal, Scope, Tier, Transport};
use adwd::clock::{Millis, TestClock};
use adwd::db::Db;
use adwd::ids::OsRng;
use adwd::quota::{Charge, Cost};

use crate::db::Scratch;

/// The moment at which the tests begin; no whole second.
pub const NOW: Millis = Millis(1_795_253_220_042);
/// An hour.
pub const HOUR_MS: i64 = 3_600_000;

/// A database with the program's own tables, and a clock.
pub async fn ready(s: Scratch) -> (Scratch, Arc<TestClock>) {
    s.db.migrate(&TestClock::new(Millis(0))).await.expect("migrates");
    (s, Arc::new(TestClock::new(NOW)))
}

pub fn deps(db: &Db, clock: &Arc<TestClock>, host: &str) -> AuditDeps {
    AuditDeps {
        db: db.clone(),
        clock: clock.clone(),
        rng: Arc::new(OsRng),
        host: host.to_owned(),
        keep_ms: 0,
        keep_count: 1_000_000,
    }
}

/// The record as a daemon on `host` keeps it.
pub async fn audit(db: &Db, clock: &Arc<TestClock>, host: &str) -> Audit {
    let (audit, writer) = start(db, clock, host).await;
    tokio::spawn(writer.run());
    audit
}

pub async fn start(db: &Db, clock: &Arc<TestClock>, host: &str) -> (Audit, Writer) {
    Audit::start(deps(db, clock, host)).await.expect("starts")
}

pub fn call(tool: &str) -> Call {
    Call {
        adw_id: None,
        tool_name: tool.to_owned(),
        user_id: "key:k1".to_owned(),
        tier: Tier::Team,
        params: r#"{"a":1}"#.to_owned(),
        transport: "http".to_owned(),
        request_id: Some("7".to_owned()),
    }
}

pub fn charge(user: &str, cost: Cost, limit_tenths: i64) -> Charge {
    Charge { user_id: user.to_owned(), cost, limit_tenths }
}

/// A key's principal.
pub fn key(tier: Tier, hourly_tenths: Option<u64>) -> Principal {
    Principal {
        user_id: "key:k1".to_owned(),
        transport: Transport::Http,
        tier,
        scope: Scope::All,
        hourly_tenths,
    }
}

/// Tool, status and error code of every row, oldest first.
pub async fn rows(db: &Db) -> Vec<(String, String, Option<String>)> {
    let sql = "SELECT tool_name, status, error_code FROM mcp_invocations ORDER BY id";
    db.all(sql, args![]).await.unwrap()
}

/// Window, used tenths and refusals of a caller.
pub async fn hour(db: &Db, user: &str) -> Option<(i64, i64, i64)> {
    let sql = "SELECT window_start, used_tenths, refused FROM quotas WHERE user_id = $1";
    db.optional(sql, args![user]).await.unwrap()
}

/// Takes the record's table away, or gives it back: a database that fails for real.
pub async fn with_record(db: &Db, there: bool) {
    let sql = if there {
        "ALTER TABLE mcp_gone RENAME TO mcp_invocations"
    } else {
        "ALTER TABLE mcp_invocations RENAME TO mcp_gone"
    };
    db.exec(sql, args![]).await.unwrap();
}
