//! Phases that flood: their log, their agent's stream, the disk. The daemon's memory stays flat (the
//! figures are printed), everybody is answered, and what was said is kept.

use adwd::limits;
use serde_json::json;

use crate::crash_support::{attempts, exit_record, shop, trigger_issue};
use crate::hostile_support::Good;
use crate::phases_support::*;
use crate::world::{Agent, World, wait_removed, wait_status};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_and_a_hundred_thousand_markers_are_read_and_forgotten() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    rogue.on(
        1,
        "line = b'x' * 1023 + b'\\n'
for _ in range(100): sys.stdout.buffer.write(line * 1024)
for n in range(100_000): sys.stdout.buffer.write(b'PR_URL=https://forge.test/%d\\nADW_ID=evil\\nSTATUS=completed\\n' % n)
sys.stdout.flush()
gate('said')
print('the last line', flush=True)",
    );
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let before = memory(&daemon);
    let good = Good::start(&daemon);
    let id = rogue.start(&client, 1).await;
    // The gate comes behind the flood.
    crate::world::eventually("all of it is written", 300, async || {
        if world.home().join("at-said").exists() { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let (run, log) = answers(&client, &id).await;
    assert_eq!(run["adw_id"], id.as_str());
    assert_eq!(log["lines"].as_array().unwrap().last().unwrap(), "STATUS=completed");
    world.open_gate("said");
    let run = ended(&client, &id).await;
    assert_eq!((&run["status"], tries(&run).len()), (&json!("completed"), 1), "{run:#}");
    assert!(run["pr_url"].as_str().unwrap().starts_with("https://forge.test/"), "{run:#}");
    assert_flat("100 MB and 300,000 marker lines", &daemon, &before);
    good.end().await;
    let log = rogue.first(&id).join("execution.log");
    assert!(std::fs::metadata(log).unwrap().len() > 100 * MIB);
    wait_removed(&client, &id).await;
    all_is_well(&world, &rogue, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_fifty_megabytes_is_shown_once_and_hides_nothing() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    rogue.on(
        1,
        "sys.stdout.buffer.write(b'y' * (50 << 20)); sys.stdout.flush()
gate('middle')
print('\\nPR_URL=https://forge.test/behind-it', flush=True)
os.write(1, b'a\\x00b\\xff\\xfe\\x1b[31m\\xe2\\x80\\xae\\r\\nADW_ID=\\xff\\n')",
    );
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let before = memory(&daemon);
    let id = rogue.start(&client, 1).await;
    world.at_gate("middle").await;
    let (_, log) = answers(&client, &id).await;
    assert!(log["lines"].as_array().unwrap().len() <= 1, "a line that is not whole is held back");
    world.open_gate("middle");
    let run = watched(&world, &client, &id).await;
    assert_eq!((&run["status"], tries(&run).len()), (&json!("completed"), 1), "{run:#}");
    assert_eq!(run["pr_url"], "https://forge.test/behind-it", "heard behind the long line");
    let lines = whole_log(&client, &id).await;
    let long: Vec<&String> = lines.iter().filter(|line| line.starts_with("yyy")).collect();
    assert_eq!(long.len(), 1, "{}", lines.len());
    assert!(long[0].ends_with(&format!("[{} bytes in all]", 50 * MIB)), "{}", long[0].len());
    let odd = "a\u{2400}b\u{fffd}\u{fffd}\u{241b}[31m\u{fffd}";
    assert!(lines.iter().any(|line| line == odd), "{lines:#?}");
    assert!(lines.contains(&"ADW_ID=\u{fffd}".to_owned()));
    assert_flat("a line of 50 MB", &daemon, &before);
    all_is_well(&world, &rogue, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_reaches_its_cap_ends_the_phase() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    rogue.on(1, "block = b'z' * (1 << 20)\nwhile True: os.write(1, block)");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let before = memory(&daemon);
    let id = rogue.start(&client, 1).await;
    wait_status(&client, &id, "running").await;
    let run = ended(&client, &id).await;
    assert_failed(&run, "failed", "internal", &["work wrote more to its log than is kept"]);
    assert_eq!(tries(&run).len(), 1, "it is never tried again");
    let exit = exit_record(&rogue.first(&id)).unwrap();
    assert!(exit.stopped.is_some(), "{exit:?}");
    let log = rogue.first(&id).join("execution.log");
    let size = std::fs::metadata(&log).unwrap().len();
    assert!(size > limits::PHASE_LOG_BYTES && size < 64 * limits::PHASE_LOG_BYTES, "{size}");
    assert_flat("a log of more than 256 MiB", &daemon, &before);
    std::fs::remove_file(log).unwrap();
    all_is_well(&world, &rogue, &client).await;
}

/// Of the agent inside our own phase: its stream is a file of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_json_line_of_fifty_megabytes_costs_its_figures_and_nothing_else() {
    let world = World::new().await;
    let orders = r#"python3 -c "
import sys
sys.stdout.write('{\"usage\": {\"output_tokens\": 11}}\n')
sys.stdout.write('{\"usage\": {\"output_tokens\": 99}, \"x\": \"' + 'w' * (50 << 20) + '\"}\n')
for n in range(2000): sys.stdout.write('{\"type\": \"assistant\", \"message\": {\"id\": \"' + 'i' * 20000 + str(n) + '\"}}\n')
sys.stdout.write('{\"usage\": {\"output_tokens\": 12}}\n')
""#;
    let repo = shop(&world, &Agent::good().on("implementor", orders));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let before = memory(&daemon);
    let id = trigger_issue(&client, 1).await;
    let run = watched(&world, &client, &id).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    assert_eq!(attempts(&run, "build").len(), 1);
    assert_eq!(run["usage"]["output_tokens"], 12, "the last that could be read: {run:#}");
    assert_flat("a stream with a line of 50 MB", &daemon, &before);
    wait_removed(&client, &id).await;
    crate::crash_support::nothing_is_left(&world, &repo).await;
    assert_eq!(repo.pulls().len(), 1);
}
