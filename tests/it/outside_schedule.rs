//! Schedules, against the real binary.

use serde_json::{Value, json};

use crate::mcp_support::ok;
use crate::outside_support::stub_gh;
use crate::world::{World, eventually};

/// A minute comes within a minute; the rest is for a busy machine.
const A_MINUTE: u64 = 100;

fn schedule(world: &World, table: &str) {
    let path = world.config_file();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}\n{table}")).unwrap();
}

async fn listed(world: &World) -> Vec<Value> {
    let list = world.cli(&["schedule", "list", "--json"]).await.with_code(0).json();
    list["schedules"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_minute_starts_a_run_once_across_a_kill_9() {
    let world = World::new().await;
    stub_gh(&world);
    let repo = world.repo("shop");
    world.serve(&repo, "forge = \"github\"\nforge_repo = \"acme/shop\"\n");
    schedule(
        &world,
        "[[schedule]]\nname = \"often\"\ncron = \"* * * * *\"\nproject = \"shop\"\nissues = [7, 8]\nphases = [\"plan\"]\n\
         [[schedule]]\nname = \"never\"\ncron = \"* * * * *\"\nissues = [9]\nenabled = false\n",
    );
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let first = eventually("the schedule fired", A_MINUTE, async || {
        let page = ok(&client, "list_adw_workflows", json!({})).await;
        let runs = page["workflows"].as_array().unwrap().clone();
        if runs.len() == 2 { Ok(runs) } else { Err(format!("{runs:#?}")) }
    })
    .await;
    for run in &first {
        assert_eq!(run["triggered_by"], "cron", "{run:#}");
    }
    let (_, moment) = eventually("it is moved on", A_MINUTE, async || {
        let all = listed(&world).await;
        let last = all[0]["last"].as_str().unwrap_or_default().to_owned();
        match all[0]["last_at"].as_str() {
            Some(at) if last.contains("#7: run ") => Ok((last, at.to_owned())),
            _ => Err(format!("{all:#?}")),
        }
    })
    .await;
    assert!(moment.ends_with(":00.000Z"), "{moment}");

    // As if the daemon had been killed after the start and before it was moved on.
    daemon.kill9().await;
    let db = adwd::db::Db::open(&world.database_url()).await.unwrap();
    let before = adwd::clock::Millis::parse_rfc3339(&moment).unwrap().plus_ms(-1);
    let back = "UPDATE schedules SET handled_at = $1 WHERE name = 'often'";
    assert_eq!(db.exec(back, adwd::args![before]).await.unwrap(), 1);
    db.close().await;
    daemon.start().await;
    let client = daemon.client().await;
    eventually("the moment is handled again", A_MINUTE, async || {
        let all = listed(&world).await;
        let last = all[0]["last"].as_str().unwrap_or_default();
        if last.contains("run ") { Ok(()) } else { Err(format!("{all:#?}")) }
    })
    .await;
    let page = ok(&client, "list_adw_workflows", json!({})).await;
    let runs = page["workflows"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "the same two: {runs:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_listed_with_their_next_times_and_without_a_daemon() {
    let world = World::new().await;
    schedule(
        &world,
        "[[schedule]]\nname = \"nightly\"\ncron = \"30 2 * * *\"\ntime_zone = \"Europe/Berlin\"\nissues = [42]\n",
    );
    let all = listed(&world).await;
    assert_eq!(all[0]["name"], "nightly");
    let next = all[0]["next"].as_array().unwrap();
    assert_eq!(next.len(), 3);
    assert!(next.iter().all(|at| at.as_str().unwrap().contains("T0")), "{next:?}");
    assert!(!world.state_dir().join("adwd.db").exists(), "looking makes nothing");
    let table = world.cli(&["schedule", "list"]).await.with_code(0);
    assert!(table.stdout.contains("30 2 * * * Europe/Berlin"), "{table:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_schedule_keeps_the_daemon_from_starting_and_names_its_line() {
    let world = World::new().await;
    schedule(&world, "[[schedule]]\nname = \"n\"\ncron = \"0 25 * * *\"\nissues = [1]\n");
    let refused = world.cli(&["serve"]).await.with_code(2);
    assert!(refused.stderr.contains("config.toml:"), "{refused:?}");
    assert!(refused.stderr.contains("hour: \"25\" is none of 0 to 23"), "{refused:?}");
}
