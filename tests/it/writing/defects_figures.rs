//! Defects of the upstream implementation (`spec/writing.md` §3), each with what is right: metrics,
//! totals, velocity, days.

use adwd::args;
use adwd::config::WritingConfig;
use adwd::writing::*;

use super::{DAY_MS, HOUR_MS, ask, code, world, world_with};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    d03_the_four_daily_types_can_be_recorded_again_and_again,
    d04_a_refused_metric_leaves_nothing_and_a_retry_counts_once,
    d05_phase_0_stays_phase_0,
    d25_types_and_ranges_apply_to_every_part_and_the_last_day_counts,
    d26_books_are_completed_by_approval_and_not_by_activity,
    d27_the_pace_is_null_without_time,
    d28_velocity_follows_what_was_recorded_in_its_window,
    d29_words_a_day_are_words_of_the_calendar_day,
    d30_daily_stats_need_an_id_and_both_must_fit,
    d32_the_day_is_that_of_the_moment_in_the_workflows_zone,
    d33_a_day_is_changed_by_known_fields_only,
    d34_values_are_finite_and_negative_only_as_declared_corrections,
    d35_types_have_kinds_and_unknown_ones_are_flagged,
);

async fn d03_the_four_daily_types_can_be_recorded_again_and_again(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for _ in 0..3 {
        w.metric(id, "words_written", 2_847.0).await;
        w.metric(id, "chapters_completed", 1.0).await;
        w.metric(id, "scenes_written", 2.5).await;
        w.metric(id, "writing_time_minutes", 60.0).await;
    }
    let days = w.days(id).await;
    assert_eq!(days.len(), 1);
    assert_eq!(days[0].words_written.text(), "8541");
    assert_eq!(days[0].scenes_written.text(), "7.5");
    assert_eq!(days[0].avg_words_per_hour, 2_847.0);
}

async fn d04_a_refused_metric_leaves_nothing_and_a_retry_counts_once(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let asked = |value: f64, key: &str| -> RecordMetric {
        ask! {
            "workflow_id": id, "metric_type": "words_written", "metric_value": value,
            "context": { "book_number": 1, "metadata": { "a": 1, "b": [2] } },
            "idempotency_key": key,
        }
    };
    let first = w.writing.record_production_metric(asked(2_847.0, "k1")).await.unwrap();
    w.later(HOUR_MS);
    let again = w.writing.record_production_metric(asked(2_847.0, "k1")).await.unwrap();
    assert_eq!(first, again, "the first answer");
    let mut shuffled = asked(2_847.0, "k1");
    shuffled.context.as_mut().unwrap().metadata = Some(ask! { "b": [2], "a": 1 });
    assert_eq!(w.writing.record_production_metric(shuffled).await.unwrap(), first);
    let other = w.writing.record_production_metric(asked(1.0, "k1")).await;
    assert_eq!(code(other), "idempotency_conflict");
    let far = ask! {
        "workflow_id": id, "metric_type": "words_written", "metric_value": 5,
        "context": { "book_number": 6 },
    };
    assert_eq!(code(w.writing.record_production_metric(far).await), "unknown_book");
    assert_eq!(w.metrics(id).await.metrics.total_words_written.unwrap().text(), "2847");
    assert_eq!(w.days(id).await[0].words_written.text(), "2847");
    let second = w.metric(id, "words_written", 1.0).await;
    assert_eq!(second.metric_id, first.metric_id + 1, "refused ones take no ids");
}

async fn d05_phase_0_stays_phase_0(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let asked = ask! {
        "workflow_id": id, "metric_type": "phase_duration_minutes", "metric_value": 12,
        "context": { "phase_number": 0 },
    };
    w.writing.record_production_metric(asked).await.unwrap();
    let (phase,): (Option<i64>,) =
        w.db.one("SELECT phase FROM writing_metrics", args![]).await.unwrap();
    assert_eq!(phase, Some(0));
    let by_phase = w.metrics(id).await.by_phase;
    assert_eq!((by_phase[0].phase_number, by_phase.len()), (0, 1));
}

async fn d25_types_and_ranges_apply_to_every_part_and_the_last_day_counts(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for day in 0..5 {
        w.book_metric(id, 1 + day % 2, "words_written", 100.0).await;
        w.book_metric(id, 1, "chapters_completed", 1.0).await;
        w.later(DAY_MS);
    }
    let get = |range: serde_json::Value| {
        let asked = ask! {
            "workflow_id": id, "metric_types": ["words_written"], "date_range": range,
        };
        w.writing.get_workflow_metrics(asked)
    };
    let found = get(serde_json::json!({ "start": "2026-01-06", "end": "2026-01-07" })).await;
    let found = found.unwrap();
    assert_eq!(found.metrics.total_words_written.unwrap().text(), "200");
    assert_eq!(found.metrics.total_chapters_completed, None, "not asked for");
    assert_eq!(found.by_type.len(), 1);
    let books: Vec<_> =
        found.by_book.iter().map(|b| (b.book_number, b.words_written.unwrap().text())).collect();
    assert_eq!(books, [(1, "100".to_owned()), (2, "100".to_owned())]);
    let open = get(serde_json::json!({ "start": "2026-01-08" })).await.unwrap();
    assert_eq!(open.metrics.total_words_written.unwrap().text(), "200");
    let open = get(serde_json::json!({ "end": "2026-01-05T12:00:00Z" })).await.unwrap();
    assert_eq!(open.metrics.total_words_written.unwrap().text(), "100", "to the millisecond");
    let open = get(serde_json::json!({ "end": "2026-01-05T11:59:59.999Z" })).await.unwrap();
    assert_eq!(open.metrics.total_words_written.unwrap().text(), "0");
    for bad in [
        serde_json::json!({ "start": "yesterday" }),
        serde_json::json!({ "start": "2026-01-09", "end": "2026-01-08" }),
    ] {
        assert_eq!(code(get(bad).await), "invalid_argument");
    }
}

async fn d26_books_are_completed_by_approval_and_not_by_activity(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.pass(id, 1, 1).await;
    let metrics = w.metrics(id).await.metrics;
    assert_eq!((metrics.books_completed, metrics.books_with_activity), (0, 1));
    w.plan(id).await;
    w.write_book(id, 1).await;
    assert_eq!(w.metrics(id).await.metrics.books_completed, 1);
}

async fn d27_the_pace_is_null_without_time(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    assert_eq!(w.metrics(id).await.metrics.current_velocity, None);
    w.metric(id, "words_written", 2_847.0).await;
    assert_eq!(w.metrics(id).await.metrics.current_velocity, None);
    w.metric(id, "writing_time_minutes", 60.0).await;
    assert_eq!(w.metrics(id).await.metrics.current_velocity, Some(2_847.0));
}

async fn d28_velocity_follows_what_was_recorded_in_its_window(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let get = |window: &str| {
        let asked = ask! { "workflow_id": id, "time_window": window };
        w.writing.get_workflow_velocity(asked)
    };
    let fresh = get("all").await.unwrap();
    assert_eq!(fresh.velocity.words_per_hour, None);
    assert_eq!(fresh.velocity.window_days, None);
    assert_eq!(fresh.efficiency.revision_rate, None);
    assert_eq!(fresh.projections.estimated_total_words, Some(375_000.0));
    for (words, minutes, after) in [(1_000.0, 60.0, 3), (2_000.0, 60.0, 2), (600.0, 30.0, 0)] {
        w.book_metric(id, 1, "words_written", words).await;
        w.book_metric(id, 1, "writing_time_minutes", minutes).await;
        w.later(after * DAY_MS);
    }
    let paces = [
        get("day").await.unwrap().velocity,
        get("week").await.unwrap().velocity,
        get("all").await.unwrap().velocity,
    ];
    let hours: Vec<_> = paces.iter().map(|v| v.words_per_hour).collect();
    assert_eq!(hours, [Some(1_200.0), Some(1_440.0), Some(1_440.0)]);
    let days: Vec<_> = paces.iter().map(|v| (v.window_days, v.active_days)).collect();
    assert_eq!(days, [(Some(1), 1), (Some(5), 3), (Some(6), 3)]);
    w.later(5 * DAY_MS + 1);
    let week = get("week").await.unwrap().velocity;
    assert_eq!(week.words_per_hour, Some(1_200.0), "the second session is a millisecond too old");
    assert_eq!((week.window_days, week.active_days), (Some(7), 1));
    assert!(
        serde_json::from_value::<VelocityQuery>(serde_json::json!({
            "workflow_id": id, "time_window": "month",
        }))
        .is_err()
    );
}

async fn d29_words_a_day_are_words_of_the_calendar_day(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.book_metric(id, 1, "words_written", 9_000.0).await;
    w.book_metric(id, 1, "writing_time_minutes", 180.0).await;
    w.later(2 * DAY_MS);
    let v = w.writing.get_workflow_velocity(ask! { "workflow_id": id }).await.unwrap();
    assert_eq!(v.velocity.words_per_hour, Some(3_000.0));
    assert_eq!(v.velocity.words_per_day, Some(3_000.0), "three days, not eight hours");
    // 66 000 + 4 × 75 000 words are left: 122 days of 3 000.
    assert_eq!(v.projections.estimated_completion_date.as_deref(), Some("2026-05-09"));
    assert_eq!(v.projections.hours_remaining, Some(122.0));
}

async fn d30_daily_stats_need_an_id_and_both_must_fit(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for _ in 0..3 {
        w.metric(id, "words_written", 10.0).await;
        w.later(DAY_MS);
    }
    let error = w.writing.get_daily_writing_stats(ask! {}).await.unwrap_err();
    assert_eq!(error.code(), "invalid_argument");
    assert!(error.to_string().contains("got nothing; expected a workflow_id"), "{error}");
    let get = |json: serde_json::Value| w.writing.get_daily_writing_stats(super::parsed(json));
    let both = get(serde_json::json!({ "workflow_id": id, "author_id": 1 })).await.unwrap();
    let dates: Vec<_> = both.stats.iter().map(|day| day.stat_date.as_str()).collect();
    assert_eq!(dates, ["2026-01-07", "2026-01-06", "2026-01-05"], "newest first");
    let other = get(serde_json::json!({ "workflow_id": id, "author_id": 2 })).await.unwrap();
    assert!(other.stats.is_empty());
    let range = serde_json::json!({ "start": "2026-01-06", "end": "2026-01-06" });
    let one = get(serde_json::json!({ "author_id": 1, "date_range": range })).await.unwrap();
    assert_eq!(one.stats.len(), 1);
}

async fn d32_the_day_is_that_of_the_moment_in_the_workflows_zone(s: Scratch) {
    let config = WritingConfig { time_zone: "Asia/Tokyo".to_owned(), ..WritingConfig::default() };
    let w = world_with(s, config).await;
    let tokyo = w.create().await;
    assert_eq!(w.state(tokyo).await.time_zone, "Asia/Tokyo");
    let asked = ask! {
        "series_id": 8, "user_id": 1, "concept": "Elsewhere", "time_zone": "America/New_York",
    };
    let york = w.writing.create_workflow(asked).await.unwrap().workflow_id;
    w.later(10 * HOUR_MS);
    for id in [tokyo, york] {
        w.metric(id, "words_written", 1.0).await;
        let late = ask! {
            "workflow_id": id, "metric_type": "words_written", "metric_value": 2,
            "recorded_at": "2026-01-05T04:30:00Z",
        };
        w.writing.record_production_metric(late).await.unwrap();
    }
    let days = |stats: Vec<DailyStat>| -> Vec<(String, String)> {
        stats.into_iter().map(|day| (day.stat_date, day.words_written.text())).collect()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let expected = [pair("2026-01-06", "1"), pair("2026-01-05", "2")];
    assert_eq!(days(w.days(tokyo).await), expected);
    let expected = [pair("2026-01-05", "1"), pair("2026-01-04", "2")];
    assert_eq!(days(w.days(york).await), expected);
    let asked = ask! { "series_id": 8, "user_id": 1, "concept": "x", "time_zone": "Mars" };
    assert_eq!(code(w.writing.create_workflow(asked).await), "invalid_argument");
    // Without an offset it would be anybody's guess on which day; before 1970 it is a mistake, and
    // the pace would be counted from there for ever.
    for at in ["2026-01-05T04:30:00", "2026-01-05", "1969-12-31T23:59:59Z", "0026-01-05T00:00:00Z"]
    {
        let asked = ask! {
            "workflow_id": york, "metric_type": "words_written", "metric_value": 2,
            "recorded_at": at,
        };
        assert_eq!(code(w.writing.record_production_metric(asked).await), "invalid_argument");
        let range = serde_json::json!({ "end": at });
        let asked: MetricsQuery = ask! { "workflow_id": york, "date_range": range };
        let naive = at == "2026-01-05T04:30:00";
        assert_eq!(w.writing.get_workflow_metrics(asked).await.is_err(), naive, "{at}");
    }
}

async fn d33_a_day_is_changed_by_known_fields_only(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let update = |date: &str, updates: serde_json::Value| {
        let asked = ask! { "workflow_id": id, "date": date, "updates": updates };
        w.writing.update_daily_stats(asked)
    };
    let asked = serde_json::json!({ "words_written": 100, "phases_completed": 1 });
    let done = update("2026-01-02", asked.clone()).await.unwrap();
    assert_eq!((done.updated, done.stat_date.as_str()), (true, "2026-01-02"));
    update("2026-01-02", asked).await.unwrap();
    let days = w.days(id).await;
    assert_eq!(days[0].words_written.text(), "200", "it adds");
    assert_eq!(w.metrics(id).await.metrics.total_words_written.unwrap().text(), "0");
    assert_eq!(code(update("2026-01-02", serde_json::json!({})).await), "invalid_argument");
    for date in ["2026-1-2", "2026-02-30", "tomorrow", "2026-01-06"] {
        let words = serde_json::json!({ "words_written": 1 });
        assert_eq!(code(update(date, words).await), "invalid_argument", "{date}");
    }
    let unknown = serde_json::json!({ "words_written) VALUES (1); --": 1 });
    assert!(serde_json::from_value::<DailyUpdates>(unknown).is_err());
}

async fn d34_values_are_finite_and_negative_only_as_declared_corrections(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for bad in ["NaN", "1e400", "\"5\"", "null", "true", "1e10"] {
        let text = format!(
            r#"{{"workflow_id": {id}, "metric_type": "words_written", "metric_value": {bad}}}"#
        );
        assert!(serde_json::from_str::<RecordMetric>(&text).is_err(), "{bad}");
    }
    let take = |value: f64, correction: bool| -> RecordMetric {
        ask! {
            "workflow_id": id, "metric_type": "words_written", "metric_value": value,
            "correction": correction,
        }
    };
    let record = |asked: RecordMetric| w.writing.record_production_metric(asked);
    let error = record(take(-5.0, false)).await.unwrap_err();
    assert!(error.to_string().contains("got -5;"), "{error}");
    record(take(100.0, false)).await.unwrap();
    record(take(-40.25, true)).await.unwrap();
    let error = record(take(-60.0, true)).await.unwrap_err();
    assert!(error.to_string().contains("59.75"), "{error}");
    assert_eq!(w.metrics(id).await.metrics.total_words_written.unwrap().text(), "59.75");
}

async fn d35_types_have_kinds_and_unknown_ones_are_flagged(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let known = w.metric(id, "scenes_validated", 3.0).await;
    assert_eq!((known.kind, known.known_type), (MetricKind::Counter, true));
    for score in [70.0, 85.0] {
        let gauge = w.metric(id, "npe_score", score).await;
        assert_eq!(gauge.kind, MetricKind::Gauge);
    }
    let own = w.metric(id, "coffees", 2.0).await;
    assert_eq!((own.kind, own.known_type), (MetricKind::Counter, false));
    let metrics = w.metrics(id).await;
    assert_eq!(metrics.metrics.avg_npe_score, Some(77.5));
    assert_eq!(metrics.metrics.total_scenes_validated.unwrap().text(), "3");
    let own = metrics.by_type.iter().find(|t| t.metric_type == "coffees").unwrap();
    assert_eq!((own.known, own.total.unwrap().text()), (false, "2".to_owned()));
    let asked = ask! { "workflow_id": id, "metric_type": "a; DROP", "metric_value": 1 };
    assert_eq!(code(w.writing.record_production_metric(asked).await), "invalid_argument");
}
