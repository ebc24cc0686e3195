//! `adwd writing` with the real daemon.

use std::process::Stdio;

use adwd::db::Db;
use serde_json::{Value, json};

use crate::cli_support::World;
use crate::mcp_support::Ear;
use crate::support::postgres;
use crate::writing_mcp_support::Desk;

/// A client of the world's daemon.
async fn desk(world: &World) -> Desk {
    use rmcp::ServiceExt as _;
    let stream = tokio::net::UnixStream::connect(world.socket()).await.unwrap();
    Desk::of(Ear::named("desk").serve(stream).await.unwrap()).await
}

/// A series with some work done.
async fn begun(desk: &Desk) -> i64 {
    let made =
        json!({ "series_id": 3, "user_id": 1, "concept": "c", "series_title": "Iron\u{1b}Crown" });
    let id = desk.ask("create_workflow", made).await["workflow_id"].as_i64().unwrap();
    while desk.complete(id).await != json!(4) {}
    let gate = json!({ "workflow_id": id, "gate_type": "npe_series", "score": 84.5, "passed": true,
        "violations": [] });
    desk.ask("record_quality_gate", gate).await;
    desk.record(id, 1, "words_written", json!(2847.25)).await;
    desk.record(id, 1, "writing_time_minutes", json!(90)).await;
    desk.revise(id, 1, 1).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_is_listed_and_its_status_told_in_columns_and_as_json() {
    let world = World::new();
    world.run(&["writing", "list"]).ended(3);
    let _daemon = world.serve(&[]);
    assert_eq!(world.run(&["writing", "list"]).ended(0).out, "");
    let desk = desk(&world).await;
    let id = begun(&desk).await.to_string();

    let list = world.run(&["writing", "list"]).ended(0).out;
    let columns: Vec<&str> = list.trim_end().split('\t').collect();
    assert_eq!(columns[..4], [id.as_str(), "in_progress", "4 NPE Validation", "1/5"]);
    assert_eq!(columns[4], "Iron\\u{1b}Crown", "it cannot steer a terminal");
    let json = world.run(&["writing", "list", "--json", "--author", "1"]).ended(0).json();
    assert_eq!((&json["total"], &json["workflows"][0]["series_id"]), (&json!(1), &json!(3)));
    let none = world.run(&["writing", "list", "--json", "--author", "2"]).ended(0).json();
    assert_eq!(none["total"], 0);

    let told = world.run(&["writing", "status", &id]).ended(0).out;
    for row in [
        &format!("series\t{id}\tin_progress\t4\t1\t5\t7"),
        "gate\t4\tnpe_series\ttrue\t84.5",
        "pass\t1\tstructural\tcomplete",
        "pass\t6\tfinal_qa\tpending",
    ] {
        assert!(told.lines().any(|line| line == row), "{row:?} is not in {told}");
    }
    assert_eq!(told.lines().filter(|line| line.starts_with("day\t")).count(), 30);
    assert!(told.contains("\t2847.25\n"), "{told}");
    let json = world.run(&["writing", "status", &id, "--json", "--days", "7"]).ended(0).json();
    assert_eq!(json["state"]["phase_name"], "NPE Validation");
    assert_eq!(json["days"].as_array().unwrap().len(), 7);
    // Yesterday, where midnight has passed meanwhile.
    let days = json["days"].as_array().unwrap();
    assert!(days.iter().any(|day| day["words"] == 2847.25), "{days:?}");
    assert_eq!(json["velocity"]["velocity"]["words_per_hour"].as_f64(), Some(1898.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_word_an_unknown_series_and_a_missing_daemon_have_codes_of_their_own() {
    let world = World::new();
    let _daemon = world.serve(&[]);
    let unknown = world.run(&["writing", "status", "4711"]).ended(5);
    assert!(
        unknown.err.contains("4711") && unknown.err.contains("adwd writing list"),
        "{unknown:?}"
    );
    let json = world.run(&["writing", "status", "4711", "--json"]).ended(5).json();
    assert_eq!(json["error"]["code"], "unknown_workflow");
    world.run(&["writing", "status", "seven"]).ended(2);
    world.run(&["writing", "status", "1", "--days", "3"]).ended(2);
    world.run(&["writing"]).ended(2);
    let desk = desk(&world).await;
    let id = desk.begin().await.to_string();
    let book = world.run(&["writing", "status", &id, "--book", "77", "--json"]).ended(5).json();
    assert_eq!(book["error"]["code"], "unknown_book");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_the_status_is_drawn_within_its_width() {
    let world = World::new();
    let _daemon = world.serve(&[]);
    let desk = desk(&world).await;
    let id = begun(&desk).await;
    // `script` gives the program a terminal of its own.
    let adwd = env!("CARGO_BIN_EXE_adwd");
    let mut command = world.command(&[]);
    let script = format!("stty cols 70; exec {adwd} writing status {id}");
    let mut inner = replace_program(&mut command, "script", &["-qec", &script, "/dev/null"]);
    let output = inner.env("TERM", "xterm").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("\u{1b}[32m"), "a terminal has colours: {text:?}");
    let plain = without_colours(&text);
    assert!(plain.contains("4 NPE Validation"), "{plain}");
    assert!(plain.contains("└──") && plain.contains('█'), "{plain}");
    assert!(plain.lines().all(|line| line.chars().count() <= 70), "{plain}");
}

/// The same environment for another program.
#[allow(clippy::disallowed_methods, reason = "a terminal has to come from somewhere")]
fn replace_program(
    command: &mut std::process::Command,
    program: &str,
    args: &[&str],
) -> std::process::Command {
    let mut other = std::process::Command::new(program);
    other.args(args).env_clear().current_dir(command.get_current_dir().unwrap());
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other
}

fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => drop(chars.by_ref().find(|c| *c == 'm')),
            '\r' => {}
            c => plain.push(c),
        }
    }
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_is_exported_while_the_daemon_runs() {
    let world = World::new();
    let _daemon = world.serve(&[]);
    let desk = desk(&world).await;
    let id = begun(&desk).await.to_string();
    let text = world.run(&["writing", "export", &id]).ended(0).out;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 5, "{text}");
    let file = world.dir().join("home/series.csv");
    std::fs::write(&file, "what was there before").unwrap();
    let done =
        world.run(&["writing", "export", &id, "--format", "csv", "-o", "series.csv"]).ended(0);
    assert_eq!(done.out, "", "{done:?}");
    let csv = std::fs::read_to_string(&file).unwrap();
    assert!(csv.lines().next().unwrap().contains("metric_type"), "{csv}");
    assert!(csv.contains("words_written") && csv.contains("2847.25"), "{csv}");
    assert!(!csv.contains("before"), "{csv}");
    let missing = world.run(&["writing", "export", "4711", "-o", "none", "--json"]).ended(5).json();
    assert_eq!(missing["error"]["code"], "unknown_workflow");
    assert!(missing["error"]["hint"].as_str().unwrap().contains("adwd writing list"));
    assert!(!world.dir().join("home/none").exists(), "nothing half-done remains");
}

/// A small installation of the workflow manager, in tables of the seed's form: two series, three
/// figures, of which one cannot be.
async fn installation() -> Option<String> {
    let url = tokio::task::spawn_blocking(postgres::fresh_database).await.unwrap()?;
    let db = Db::open(&url).await.unwrap();
    for sql in [
        "CREATE TABLE workflow_instances (id SERIAL PRIMARY KEY, series_id INTEGER, \
         author_id INTEGER, current_phase INTEGER NOT NULL DEFAULT -1, phase_status TEXT NOT NULL \
         DEFAULT 'in_progress', current_book INTEGER DEFAULT 1, current_chapter INTEGER, \
         created_at TIMESTAMP DEFAULT NOW(), updated_at TIMESTAMP DEFAULT NOW(), \
         completed_at TIMESTAMP, metadata JSONB DEFAULT '{}'::jsonb)",
        "CREATE TABLE production_metrics (id SERIAL PRIMARY KEY, workflow_id INTEGER NOT NULL \
         REFERENCES workflow_instances(id), metric_type TEXT NOT NULL, metric_value DECIMAL(10,2) \
         NOT NULL, phase_number INTEGER, book_number INTEGER, chapter_number INTEGER, \
         recorded_at TIMESTAMP DEFAULT NOW(), metadata JSONB DEFAULT '{}'::jsonb)",
        "INSERT INTO workflow_instances (series_id, author_id, current_phase, created_at, \
         updated_at, metadata) VALUES (3, 1, 4, '2025-12-03', '2025-12-04', \
         '{\"concept\": \"A crown\"}'), (4, 1, 0, '2025-12-03', '2025-12-04', '{}')",
        "INSERT INTO production_metrics (workflow_id, metric_type, metric_value, book_number, \
         recorded_at) VALUES (1, 'words_written', 2847.25, 1, '2025-12-03 10:00'), \
         (1, 'writing_time_minutes', 90, 1, '2025-12-03 10:00'), \
         (1, 'words_written', -5, 1, '2025-12-03 11:00')",
    ] {
        db.exec(sql, vec![]).await.unwrap();
    }
    db.close().await;
    Some(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_is_imported_row_by_row_once_and_again() {
    let Some(url) = installation().await else { return };
    let world = World::new();
    let mut daemon = world.serve(&[]);
    let words = ["writing", "import", "--from", &url];
    // While a daemon writes, nobody else does; a rehearsal needs no place of its own.
    let refused = world.run(&words).ended(3);
    assert!(refused.err.contains(&format!("pid {}", daemon.pid())), "{refused:?}");
    assert!(refused.err.contains("adwd stop"), "{refused:?}");
    let rehearsed = world.run(&[&words[..], &["--dry-run"]].concat()).ended(1);
    assert!(rehearsed.out.contains("production_metrics\t3\t2\t0\t1"), "{rehearsed:?}");
    assert!(
        rehearsed.err.contains("production_metrics 3: left out: metric_value"),
        "{rehearsed:?}"
    );
    assert_eq!(world.run(&["writing", "list"]).ended(0).out, "", "a rehearsal leaves nothing");

    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.ended();
    let first = world.run(&[&words[..], &["--json"]].concat()).ended(1).json();
    assert_eq!(first["dry_run"], false);
    let table = |told: &Value, name: &str| {
        told["tables"].as_array().unwrap().iter().find(|t| t["table"] == name).unwrap().clone()
    };
    assert_eq!(table(&first, "workflow_instances")["imported"], 2);
    assert_eq!(table(&first, "production_metrics")["rejected"], 1);
    assert_eq!(
        (&first["rows"][0]["source_id"], &first["rows"][0]["rejected"]),
        (&json!(3), &json!(true))
    );
    let again = world.run(&[&words[..], &["--json"]].concat()).ended(1).json();
    assert_eq!(table(&again, "production_metrics")["known"], 2);
    assert_eq!(table(&again, "production_metrics")["imported"], 0);
    // The row is mended there, and taken here.
    let theirs = Db::open(&url).await.unwrap();
    theirs
        .exec("UPDATE production_metrics SET metric_value = 5 WHERE id = 3", vec![])
        .await
        .unwrap();
    theirs.close().await;
    let third = world.run(&[&words[..], &["--json"]].concat()).ended(0).json();
    assert_eq!(table(&third, "production_metrics")["imported"], 1);

    let _daemon = world.serve(&[]);
    let list = world.run(&["writing", "list", "--json"]).ended(0).json();
    assert_eq!(list["total"], 2);
    let id = list["workflows"][1]["workflow_id"].to_string();
    let csv =
        world.run(&["writing", "export", &id, "--format", "csv", "--table", "daily"]).ended(0);
    assert!(csv.out.contains("2025-12-03,2852.25"), "{csv:?}");
}

#[test]
fn what_cannot_be_imported_from_says_why_without_a_password() {
    let world = World::new();
    let wrong = world.run(&["writing", "import", "--from", "mysql://x/y"]).ended(2);
    assert!(wrong.err.contains("postgres://USER@HOST/NAME"), "{wrong:?}");
    let gone = "postgres://writer:hunter22@127.0.0.1:1/mcp_series";
    let failed = world.run(&["writing", "import", "--from", gone, "--dry-run", "--json"]).ended(1);
    assert_eq!(failed.json()["error"]["code"], "source_database");
    assert!(!format!("{failed:?}").contains("hunter22"), "{failed:?}");
    world.run(&["writing", "export"]).ended(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_open_the_phases_and_choose_the_zone_of_days() {
    let world = World::new();
    let folder = world.dir().join("home/.config/adwd");
    std::fs::create_dir_all(&folder).unwrap();
    let settings = "[writing]\nenforce = \"off\"\ntime_zone = \"Pacific/Auckland\"\n";
    std::fs::write(folder.join("config.toml"), settings).unwrap();
    let _daemon = world.serve(&[]);
    let desk = desk(&world).await;
    let id = desk.begin().await;
    let moved = json!({ "workflow_id": id, "target_phase": 7 });
    assert_eq!(desk.ask("advance_to_phase", moved).await["current_phase"], 7);
    let evening = json!({ "workflow_id": id, "metric_type": "words_written", "metric_value": 1,
        "recorded_at": "2026-01-05T20:00:00Z" });
    desk.ask("record_production_metric", evening).await;
    let told = desk.ask("get_daily_writing_stats", json!({ "workflow_id": id })).await;
    let day = told["stats"].as_array().unwrap().iter().find(|day| day["words_written"] == 1);
    assert_eq!(day.unwrap()["stat_date"], "2026-01-06", "it is the next morning there");
}
