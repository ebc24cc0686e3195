//! Import from a database of the seed's schema, with the rows that its own server left behind.

use adwd::args;
use adwd::db::Db;
use adwd::writing::import::{ImportOptions, ImportReport, News, Told};
use adwd::writing::*;
use sqlx::Connection;

use super::{World, ask, code, world};
use crate::db::Scratch;
use crate::on_both_engines;
use crate::support::postgres;

on_both_engines!(
    an_installation_is_taken_over_with_every_bad_row_told,
    an_import_can_be_repeated_and_takes_only_what_is_new,
    what_is_no_such_installation_is_refused,
);

/// The tables of migration 025 and of the seed's migration 026, as 027 left them.
const SCHEMA: &str = "
CREATE TABLE authors (id SERIAL PRIMARY KEY, name TEXT);
CREATE TABLE series (id SERIAL PRIMARY KEY, title TEXT, author_id INTEGER);
CREATE TABLE books (
  id SERIAL PRIMARY KEY, series_id INTEGER, book_number INTEGER, title TEXT,
  target_word_count INTEGER, cover_image_url TEXT
);
CREATE TABLE workflow_instances (
  id SERIAL PRIMARY KEY, series_id INTEGER, author_id INTEGER,
  current_phase INTEGER NOT NULL DEFAULT -1, phase_status TEXT NOT NULL,
  current_book INTEGER DEFAULT 1, current_chapter INTEGER,
  created_at TIMESTAMP DEFAULT NOW(), updated_at TIMESTAMP DEFAULT NOW(),
  completed_at TIMESTAMP, metadata JSONB DEFAULT '{}'
);
CREATE TABLE workflow_phase_history (
  id SERIAL PRIMARY KEY, workflow_id INTEGER, phase_number INTEGER, phase_name TEXT,
  started_at TIMESTAMP, completed_at TIMESTAMP, status TEXT, agent TEXT, output_summary TEXT,
  validation_score DECIMAL(5,2), metadata JSONB DEFAULT '{}'
);
CREATE TABLE workflow_approvals (
  id SERIAL PRIMARY KEY, workflow_id INTEGER, phase_number INTEGER, approval_type TEXT,
  requested_at TIMESTAMP, approved_at TIMESTAMP, approved_by TEXT, status TEXT, feedback TEXT,
  artifacts JSONB DEFAULT '[]', metadata JSONB DEFAULT '{}'
);
CREATE TABLE workflow_quality_gates (
  id SERIAL PRIMARY KEY, workflow_id INTEGER, phase_number INTEGER, gate_type TEXT,
  score DECIMAL(5,2) NOT NULL, passed BOOLEAN NOT NULL, violations JSONB DEFAULT '[]',
  executed_at TIMESTAMP DEFAULT NOW(), metadata JSONB DEFAULT '{}'
);
CREATE TABLE revision_passes (
  id SERIAL PRIMARY KEY, workflow_id INTEGER, book_number INTEGER NOT NULL,
  pass_number INTEGER NOT NULL, pass_name VARCHAR(50) NOT NULL,
  status VARCHAR(20) NOT NULL DEFAULT 'not_started', started_at TIMESTAMP,
  completed_at TIMESTAMP, duration_minutes DECIMAL(10,2), findings_summary TEXT,
  edits_made BOOLEAN DEFAULT FALSE, user_approved BOOLEAN DEFAULT FALSE,
  UNIQUE (workflow_id, book_number, pass_number)
);
CREATE TABLE production_metrics (
  id SERIAL PRIMARY KEY, workflow_id INTEGER, metric_type TEXT NOT NULL,
  metric_value DECIMAL(10,2) NOT NULL, phase_number INTEGER, book_number INTEGER,
  chapter_number INTEGER, recorded_at TIMESTAMP DEFAULT NOW(), metadata JSONB DEFAULT '{}'
);
CREATE TABLE daily_writing_stats (
  id SERIAL PRIMARY KEY, workflow_id INTEGER, author_id INTEGER, stat_date DATE NOT NULL,
  words_written INTEGER DEFAULT 0, chapters_completed INTEGER DEFAULT 0,
  scenes_written INTEGER DEFAULT 0, writing_time_minutes INTEGER DEFAULT 0,
  phases_completed INTEGER DEFAULT 0, UNIQUE (workflow_id, stat_date)
);
CREATE TABLE qa_reports (
  id SERIAL PRIMARY KEY, workflow_id INTEGER, book_number INTEGER NOT NULL,
  created_at TIMESTAMP DEFAULT NOW(), status VARCHAR(20) NOT NULL,
  npe_validation JSONB DEFAULT '{}', continuity_validation JSONB DEFAULT '{}',
  ku_optimization JSONB DEFAULT '{}', production_completeness JSONB DEFAULT '{}',
  metadata_validation JSONB DEFAULT '{}', blockers JSONB DEFAULT '[]',
  blocker_count INTEGER DEFAULT 0, recommendations JSONB DEFAULT '[]',
  estimated_time_to_ready_hours DECIMAL(5,2)
);";

/// Two workflows that can be taken and two that cannot, and what hangs on them.
const ROWS: &str = r#"
INSERT INTO series (title, author_id) VALUES ('The Lamp', 1);
INSERT INTO books (series_id, book_number, title, target_word_count, cover_image_url) VALUES
  (1, 1, 'Lit', 90000, 'https://x/y.png'), (1, 2, 'Out', NULL, NULL), (1, 77, 'Far', 1, NULL),
  (9, 1, 'Nobody''s', 1, NULL);
INSERT INTO workflow_instances
  (series_id, author_id, current_phase, phase_status, current_book, created_at, updated_at, metadata)
VALUES
  (1, 3, 12, 'waiting_approval', 1, '2025-12-01 10:00', '2025-12-20 10:00',
   '{"concept": "A lighthouse", "books_ready_to_publish": [3, 3]}'),
  (1, 3, 13, 'in_progress', 1, '2025-12-02', '2025-12-03', '{}'),
  (1, 3, 99, 'in_progress', 1, '2025-12-02', '2025-12-03', '{}'),
  (1, 3, 2, 'thinking', 1, '2025-12-02', '2025-12-03', '{}');
INSERT INTO workflow_phase_history
  (workflow_id, phase_number, phase_name, started_at, completed_at, status, output_summary) VALUES
  (1, -1, 'Premise Development', '2025-12-01 10:00', '2025-12-01 10:30', 'completed', 'begun'),
  (1, 0, 'x', '2025-12-01 10:30', '2025-12-01 11:00', 'completed', 'premise'),
  (1, 3, 'x', '2025-12-02 10:30', NULL, 'started', NULL),
  (1, 12, 'x', '2025-12-19 10:00', NULL, 'started', NULL),
  (1, 55, 'x', '2025-12-19 10:00', NULL, 'started', NULL),
  (3, 0, 'x', '2025-12-19 10:00', NULL, 'started', NULL);
INSERT INTO workflow_phase_history
  (workflow_id, phase_number, started_at, completed_at, status, validation_score) VALUES
  (1, 4, '2025-12-03', '2025-12-04', 'completed', 'NaN');
INSERT INTO workflow_approvals
  (workflow_id, phase_number, approval_type, requested_at, approved_at, status, artifacts) VALUES
  (1, 7, 'series_plan', '2025-12-05', '2025-12-06', 'approved', '["plan.md"]'),
  (1, 12, 'book_completion', '2025-12-20', NULL, 'pending', '[]'),
  (1, 12, 'book_completion', '2025-12-20', NULL, 'pending', '[]'),
  (1, 12, 'cover_art', '2025-12-20', NULL, 'pending', '[]'),
  (2, 12, 'book_completion', '2025-12-02', '2025-12-03', 'approved', '[]');
INSERT INTO workflow_quality_gates
  (workflow_id, phase_number, gate_type, score, passed, violations, executed_at) VALUES
  (1, 4, 'npe_series', 86.50, TRUE, '[]', '2025-12-03'),
  (1, 4, 'npe_series', 5, TRUE, '[{"category": "arc", "message": "flat"}, "thin"]', '2025-12-02'),
  (1, 4, 'vibes', 5, TRUE, '[]', '2025-12-02'),
  (1, 5, 'commercial', 85, TRUE, '[]', '2025-12-02');
INSERT INTO revision_passes
  (workflow_id, book_number, pass_number, pass_name, status, started_at, completed_at,
   duration_minutes, findings_summary, user_approved) VALUES
  (1, 1, 1, 'structural', 'complete', '2025-12-18 10:00', '2025-12-18 10:45', 45.50, 'ok', TRUE),
  (1, 1, 2, 'dialogue', 'not_started', NULL, NULL, NULL, NULL, NULL),
  (1, 1, 9, 'nonsense', 'in_progress', NULL, NULL, NULL, NULL, NULL);
INSERT INTO production_metrics
  (workflow_id, metric_type, metric_value, phase_number, book_number, recorded_at) VALUES
  (1, 'words_written', 2847.25, 11, 1, '2025-12-10 12:00'),
  (1, 'words_written', 1000.50, 11, 1, '2025-12-11 12:00'),
  (1, 'writing_time_minutes', 120, 11, 1, '2025-12-11 12:00'),
  (1, 'npe_score', 86.50, 4, NULL, '2025-12-03'),
  (1, 'phase_duration_minutes', 30, -1, NULL, '2025-12-01 10:30'),
  (1, 'words_written', 'NaN', 11, 1, '2025-12-11 12:00'),
  (1, 'words_written', -5, 11, 1, '2025-12-11 12:00'),
  (1, 'words_written', 5, 11, 77, '2025-12-11 12:00'),
  (1, 'words_written', 5, 11, 1, '2062-01-01'),
  (1, 'words written!', 5, 11, 1, '2025-12-11'),
  (8, 'words_written', 5, 11, 1, '2025-12-11');
INSERT INTO daily_writing_stats (workflow_id, author_id, stat_date, words_written, scenes_written)
VALUES (1, NULL, '2025-12-11', 1500, 2), (1, NULL, '2025-12-12', 100, 0);
INSERT INTO qa_reports (workflow_id, book_number, created_at, status, npe_validation, blockers,
  blocker_count, recommendations, estimated_time_to_ready_hours) VALUES
  (1, 1, '2025-12-19', 'READY_TO_PUBLISH', '{"status": "PASS", "score": "86.50"}', '[]', 0, 'null', NULL),
  (1, 1, '2025-12-18', 'NOT_READY', '{"status": "FAIL"}',
   '[{"category": "npe", "blocker": "NPE validation not run"}]', 1, '["Address: x"]', 1),
  (1, 1, '2025-12-18', 'PENDING', '{}', '[]', 0, '[]', 0);
"#;

/// A source with those rows; `None` where there is no PostgreSQL.
async fn source() -> Option<(String, Db)> {
    let url = tokio::task::spawn_blocking(postgres::fresh_database).await.unwrap()?;
    run(&url, SCHEMA).await;
    run(&url, ROWS).await;
    let db = Db::open(&url).await.unwrap();
    Some((url, db))
}

async fn run(url: &str, sql: &'static str) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

async fn import(w: &World, from: &Db) -> (ImportReport, Vec<Told>) {
    let mut told = Vec::new();
    let mut read = 0;
    let mut tell = |news: News<'_>| match news {
        News::Row(row) => told.push(row.clone()),
        News::Page(table) => read = read.max(table.read),
    };
    let report = w.writing.import(from, &ImportOptions::default(), &mut tell).await.unwrap();
    let most = report.tables.iter().map(|table| table.read).max();
    assert_eq!(Some(read), most, "each page is told");
    (report, told)
}

async fn an_installation_is_taken_over_with_every_bad_row_told(s: Scratch) {
    let Some((_, from)) = source().await else { return };
    let w = world(s).await;
    let (report, told) = import(&w, &from).await;
    let counts: Vec<(&str, i64, i64, i64, i64)> = report
        .tables
        .iter()
        .map(|t| (t.table.as_str(), t.read, t.imported, t.known, t.rejected))
        .collect();
    let expected = [
        ("workflow_instances", 4, 2, 0, 2),
        ("workflow_phase_history", 7, 4, 0, 3),
        ("books", 4, 2, 0, 2),
        ("workflow_approvals", 5, 3, 0, 2),
        ("workflow_quality_gates", 4, 2, 0, 2),
        ("revision_passes", 3, 2, 0, 1),
        ("production_metrics", 11, 5, 0, 6),
        ("daily_writing_stats", 2, 2, 0, 0),
        ("qa_reports", 3, 2, 0, 1),
    ];
    assert_eq!(counts, expected, "{told:#?}");
    let reason = |table: &str, id: i64| {
        let row = told.iter().find(|row| row.table == table && row.source_id == id);
        row.map(|row| row.reason.clone()).unwrap_or_default()
    };
    for (table, id, part) in [
        ("workflow_instances", 2, "phase 13"),
        ("workflow_instances", 3, "99"),
        ("workflow_instances", 4, "thinking"),
        ("workflow_phase_history", 5, "55"),
        ("workflow_phase_history", 7, "NaN"),
        ("books", 3, "77"),
        ("workflow_approvals", 3, "open already"),
        ("workflow_approvals", 5, "taken for book 1"),
        ("workflow_quality_gates", 2, "80"),
        ("workflow_quality_gates", 4, "0 to 10"),
        ("revision_passes", 2, "continuity"),
        ("revision_passes", 3, "1 to 6"),
        ("production_metrics", 6, "NaN"),
        ("production_metrics", 7, "0 or more"),
        ("production_metrics", 9, "future"),
        ("production_metrics", 11, "workflow 8"),
        ("qa_reports", 3, "PENDING"),
    ] {
        assert!(reason(table, id).contains(part), "{table} {id}: {}", reason(table, id));
    }
    let rows: Vec<_> = told.iter().filter(|row| row.rejected).collect();
    assert_eq!(rows.len() as i64, report.rejected(), "each is told once: {told:#?}");
    let asked = ask! { "phase_number": 4 };
    let phases = w.writing.get_phase_analytics(asked).await.unwrap().phases;
    assert_eq!(phases[0].total_executions, 0, "what was left out counts nowhere");
    taken_over(&w).await;
}

async fn taken_over(w: &World) {
    let state = w.state(1).await;
    assert_eq!((state.current_phase, state.phase_status), (12, PhaseStatus::WaitingApproval));
    assert_eq!(state.series_title.as_deref(), Some("The Lamp"));
    assert_eq!((state.concept.as_str(), state.user_id), ("A lighthouse", 3));
    assert_eq!(w.phase(2).await, (12, PhaseStatus::Completed));
    let history = w.writing.get_phase_history(ask! { "workflow_id": 1 }).await.unwrap();
    let visits: Vec<_> = history.phases.iter().map(|v| (v.phase_number, v.status)).collect();
    let expected = [
        (-1, VisitStatus::Completed),
        (0, VisitStatus::Completed),
        (3, VisitStatus::Skipped),
        (12, VisitStatus::Started),
    ];
    assert_eq!(visits, expected);
    assert_eq!(history.phases[3].started_at, "2025-12-19T10:00:00.000Z");
    let m = w.metrics(1).await;
    assert_eq!(m.metrics.total_words_written.unwrap().text(), "3847.75");
    assert_eq!(m.metrics.current_velocity, Some(1_924.0));
    assert_eq!(m.metrics.avg_npe_score, Some(86.5));
    let days: Vec<_> = w
        .days(1)
        .await
        .into_iter()
        .map(|day| (day.stat_date, day.words_written.text(), day.scenes_written.text()))
        .collect();
    let day = |date: &str, words: &str, scenes: &str| {
        (date.to_owned(), words.to_owned(), scenes.to_owned())
    };
    let expected = [
        day("2025-12-12", "100", "0"),
        day("2025-12-11", "1500", "2"),
        day("2025-12-10", "2847.25", "0"),
    ];
    assert_eq!(days, expected, "raised to what the source says");
    let gates = w.writing.gates(1, Some(GateType::NpeSeries)).await.unwrap().gates;
    let passed: Vec<bool> = gates.iter().map(|gate| gate.passed).collect();
    assert_eq!(passed, [false, true], "a score of 5 does not pass");
    let book = BookRef { workflow_id: 1, book_number: 1 };
    let record = w.writing.book_record(book.clone()).await.unwrap();
    assert_eq!((record.title.as_deref(), record.target_word_count), (Some("Lit"), Some(90_000)));
    assert_eq!(record.cover_status, CoverStatus::Complete);
    let passes = w.writing.get_revision_status(book.clone()).await.unwrap();
    assert_eq!(passes.passes[0].duration_minutes.unwrap().text(), "45.5");
    assert_eq!(passes.passes[1].pass_name, "continuity");
    let asked = ask! { "workflow_id": 1, "book_number": 1, "limit": 5 };
    let reports = w.writing.get_qa_report(asked).await.unwrap();
    assert_eq!((reports.total, reports.current), (2, false));
    assert_eq!(reports.reports[0].blockers[0].message, "NPE validation not run");
    assert_eq!(code(w.mark(1, 1).await), "not_ready", "an imported report is no evidence");
    // It goes on where it stood: the open approval is decided, the next book begins.
    let pending = w.writing.get_pending_approvals(WorkflowRef { workflow_id: 1 }).await.unwrap();
    assert_eq!(pending.approvals.len(), 1);
    w.decide(pending.approvals[0].approval_id, "approved").await;
    let next = BookRef { workflow_id: 1, book_number: 2 };
    w.writing.start_book_iteration(next).await.unwrap();
    assert_eq!(w.phase(1).await, (9, PhaseStatus::InProgress));
}

async fn an_import_can_be_repeated_and_takes_only_what_is_new(s: Scratch) {
    let Some((url, from)) = source().await else { return };
    let w = world(s).await;
    let (first, told) = import(&w, &from).await;
    let words = || async { w.metrics(1).await.metrics.total_words_written.unwrap().text() };
    assert_eq!(words().await, "3847.75");
    let everything = |report: &ImportReport| -> (i64, i64, i64) {
        let sum = |of: fn(&import::TableReport) -> i64| report.tables.iter().map(of).sum();
        (sum(|t| t.imported), sum(|t| t.known), sum(|t| t.rejected))
    };
    let (imported, known, rejected) = everything(&first);
    let (second, again) = import(&w, &from).await;
    assert_eq!(everything(&second), (0, imported + known, rejected), "{again:?}");
    assert_eq!(first.source, second.source);
    assert_eq!(again.len() as i64, rejected, "what was mended is here, what was rejected is not");
    assert!(told.len() > again.len());
    assert_eq!(words().await, "3847.75");
    let more = "INSERT INTO production_metrics (workflow_id, metric_type, metric_value, \
                book_number, recorded_at) VALUES (1, 'words_written', 0.25, 1, '2025-12-12'); \
                UPDATE production_metrics SET metric_value = 100 WHERE id = 6";
    run(&url, more).await;
    let (third, _) = import(&w, &from).await;
    assert_eq!(everything(&third), (2, imported + known, rejected - 1), "the new, and the mended");
    assert_eq!(words().await, "3948");
    let sql =
        "SELECT CAST(COUNT(*) AS BIGINT) FROM writing_metrics WHERE metric_type <> 'gate_score'";
    assert_eq!(w.db.one::<(i64,)>(sql, args![]).await.unwrap(), (7,));
}

async fn what_is_no_such_installation_is_refused(s: Scratch) {
    let w = world(s).await;
    let mut tell = |_: News<'_>| {};
    let own = w.writing.import(&w.db.clone(), &ImportOptions::default(), &mut tell).await;
    let error = own.unwrap_err();
    assert_eq!(error.code(), "invalid_argument");
    let Some((_, from)) = source().await else { return };
    let bad = ImportOptions { time_zone: Some("Mars".to_owned()), ..ImportOptions::default() };
    assert_eq!(code(w.writing.import(&from, &bad, &mut tell).await), "invalid_argument");
    assert_eq!(w.writing.list_active_workflows(ask! {}).await.unwrap().total, 0);
}
