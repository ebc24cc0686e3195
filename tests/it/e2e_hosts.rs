//! Two daemons on one database, each with a state folder of its own: they share what is known, and
//! neither touches what the other's processes do.

use serde_json::json;

use crate::mcp_support::{ok, refused};
use crate::world::{Engine, World, quoted, state, wait_removed, wait_status};

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_on_one_database_leave_each_others_runs_alone() {
    let Some(one) = World::on(Engine::Postgres).await else { return };
    let two = World::new().await;
    two.set("database_url", &quoted(&one.database_url()));
    let (shop, depot) = (one.repo("shop"), two.repo("depot"));
    one.serve(&shop, "");
    two.serve(&depot, "");
    one.close_check();
    let mut first = one.daemon().await;
    let mut second = two.daemon().await;
    let (here, there) = (first.client().await, second.client().await);
    let given = json!({ "issue_number": "1", "adw_id": "aa1" });
    ok(&here, "trigger_adw_workflow", given).await;
    one.at_check().await;
    let seen = state(&there, "aa1").await;
    assert_eq!((&seen["status"], &seen["project"]), (&json!("running"), &json!("shop")));
    for tool in ["cancel_adw_workflow", "resume_adw_workflow"] {
        let error = refused(&there, tool, json!({ "adw_id": "aa1" })).await;
        let said = error["message"].as_str().unwrap();
        assert!(said.contains("belongs to the daemon on") && said.contains("ask there"), "{said}");
    }
    // Neither a restart nor the other's absence makes it its own.
    let attempts = async |client: &_| state(client, "aa1").await["phases"].clone();
    let before = attempts(&there).await;
    drop(here);
    first.kill9().await;
    second.restart().await;
    let there = second.client().await;
    let own = json!({ "issue_number": "1", "adw_id": "bb1" });
    ok(&there, "trigger_adw_workflow", own).await;
    wait_status(&there, "bb1", "completed").await;
    wait_removed(&there, "bb1").await;
    assert_eq!(attempts(&there).await, before);
    assert!(two.path("depot").exists() && !depot.root.join("logs/shop").exists());

    first.start().await;
    let here = first.client().await;
    one.open_check();
    let done = wait_status(&here, "aa1", "completed").await;
    for phase in done["phases"].as_array().unwrap() {
        assert_eq!(phase["attempts"].as_array().unwrap().len(), 1, "{done:#}");
    }
    assert_ne!(state(&here, "bb1").await["host"], done["host"]);
    wait_removed(&here, "aa1").await;
    one.quiet().await;
    two.quiet().await;
}
