//! The record as the real program keeps it: across `kill -9`, and in the shell.

use adwd::args;
use adwd::db::Db;
use serde_json::{Value, json};

use crate::mcp_support::{ok, params};
use crate::world::World;

crate::in_worlds_on_both_engines!(
    kill_9_during_calls_leaves_them_interrupted_and_the_answered_ones_on_record,
    the_shell_shows_who_asked_what
);

async fn kill_9_during_calls_leaves_them_interrupted_and_the_answered_ones_on_record(world: World) {
    let mut daemon = world.daemon().await;
    let mut callers = Vec::new();
    for _ in 0..8 {
        let client = daemon.client().await;
        callers.push(tokio::spawn(async move {
            let mut answered = 0_usize;
            while client.call_tool(params("list_adw_projects", json!({}))).await.is_ok() {
                answered += 1;
            }
            answered
        }));
    }
    let db = Db::open(&world.database_url()).await.unwrap();
    let count = async |status: &str| -> i64 {
        let sql = "SELECT COUNT(*) FROM mcp_invocations WHERE status = $1";
        db.one::<(i64,)>(sql, args![status]).await.unwrap().0
    };
    crate::world::eventually("calls are on record", 30, async || {
        let done = count("ok").await;
        if done > 100 { Ok(()) } else { Err(done.to_string()) }
    })
    .await;
    daemon.kill9().await;
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.unwrap();
    }
    assert!(count("open").await > 0, "ends are written behind the answers");
    daemon.start().await;
    assert_eq!(count("open").await, 0);
    let (ended, cut) = (count("ok").await, count("interrupted").await);
    assert!(cut > 0);
    let known = usize::try_from(ended + cut).unwrap();
    assert!(known >= answered, "{answered} were answered, {ended} + {cut} are on record");
    // A soft end loses no end.
    let client = daemon.client().await;
    ok(&client, "list_adw_projects", json!({})).await;
    daemon.terminate().await;
    assert_eq!((count("open").await, count("ok").await), (0, ended + 1));
}

async fn the_shell_shows_who_asked_what(world: World) {
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    ok(&client, "list_adw_projects", json!({})).await;
    world.cli(&["state", "nosuch"]).await.with_code(5);
    let uid = format!("uid:{}", nix::unistd::geteuid().as_raw());
    let found = crate::world::eventually("the ends are written", 30, async || {
        let failed = world.cli(&["audit", "--status", "error", "--json"]).await.with_code(0);
        let failed = failed.json();
        if failed["invocations"] == json!([]) { Err(failed.to_string()) } else { Ok(failed) }
    })
    .await;
    let call = &found["invocations"][0];
    assert_eq!((&call["tool_name"], &call["user_id"]), (&json!("get_adw_state"), &json!(uid)));
    assert_eq!((&call["error_code"], &call["adw_id"]), (&json!("unknown_run"), &json!("nosuch")));
    let about = world.cli(&["audit", "--adw-id", "nosuch", "--since", "1h"]).await.with_code(0);
    let lines: Vec<&str> = about.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "{about:?}");
    assert!(lines[0].contains("get_adw_state\t") && lines[0].contains("\tunknown_run\t"));
    for _ in 0..3 {
        ok(&client, "list_adw_projects", json!({})).await;
    }
    // Page by page it is the same list, without gaps.
    let words = ["audit", "--json", "--tool", "list_adw_projects", "--user", &uid];
    let whole = world.cli(&words).await.with_code(0).json();
    let ids = |page: &Value| -> Vec<Value> {
        page["invocations"].as_array().unwrap().iter().map(|call| call["id"].clone()).collect()
    };
    let (mut paged, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut words = words.to_vec();
        words.extend(["-n", "1"]);
        words.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor.as_str()]));
        let page = world.cli(&words).await.with_code(0).json();
        paged.extend(ids(&page));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((paged.len(), paged), (4, ids(&whole)));
    world.cli(&["audit", "--status", "done"]).await.with_code(2);
    world.cli(&["audit", "--since", "soon"]).await.with_code(2);
    world.cli(&["audit", "--user", "nobody"]).await.with_code(0);
}
