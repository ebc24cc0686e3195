//! What the writing slice answers about figures; see [`super::view`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metric::{Hundredths, MetricKind};
use super::request::TimeWindow;
use super::view::answers;

answers! {
    /// Answer of `record_production_metric`.
    pub struct MetricRecorded {
        /// Its id.
        pub metric_id: i64,
        /// When it counts.
        pub recorded_at: String,
        /// The figure as it is kept.
        pub metric_value: Hundredths,
        /// How figures of its type belong together.
        pub kind: MetricKind,
        /// Whether the type is one that the program knows.
        pub known_type: bool,
    }

    /// The figures of `get_workflow_metrics`. Null where the type was not asked for, and averages
    /// and pace where there is nothing to make them of.
    pub struct Metrics {
        /// Words.
        pub total_words_written: Option<Hundredths>,
        /// Chapters.
        pub total_chapters_completed: Option<Hundredths>,
        /// Scenes written.
        pub total_scenes_written: Option<Hundredths>,
        /// Scenes validated.
        pub total_scenes_validated: Option<Hundredths>,
        /// Minutes.
        pub total_writing_time_minutes: Option<Hundredths>,
        /// Mean NPE score.
        pub avg_npe_score: Option<f64>,
        /// Mean commercial score.
        pub avg_commercial_score: Option<f64>,
        /// Books whose completion is approved.
        pub books_completed: i64,
        /// Books for which something was recorded.
        pub books_with_activity: i64,
        /// Words an hour.
        pub current_velocity: Option<f64>,
    }

    /// One book in `get_workflow_metrics`.
    pub struct BookMetrics {
        /// The book.
        pub book_number: i64,
        /// Words.
        pub words_written: Option<Hundredths>,
        /// Chapters.
        pub chapters_completed: Option<Hundredths>,
        /// Minutes.
        pub writing_time_minutes: Option<Hundredths>,
    }

    /// One phase in `get_workflow_metrics`.
    pub struct PhaseMetrics {
        /// The phase.
        pub phase_number: i64,
        /// Its name.
        pub phase_name: String,
        /// Minutes of all its visits.
        pub duration_minutes: Option<Hundredths>,
        /// Mean score of its gates, 0 to 100.
        pub quality_score: Option<f64>,
    }

    /// One type in `get_workflow_metrics`.
    pub struct TypeMetrics {
        /// The type.
        pub metric_type: String,
        /// How its figures belong together.
        pub kind: MetricKind,
        /// Whether the program knows it.
        pub known: bool,
        /// Figures recorded.
        pub count: i64,
        /// Their sum; null for a gauge.
        pub total: Option<Hundredths>,
        /// Their mean, 2 decimals; null for a counter.
        pub average: Option<f64>,
    }

    /// Answer of `get_workflow_metrics`.
    pub struct WorkflowMetrics {
        /// The workflow.
        pub workflow_id: i64,
        /// The figures.
        pub metrics: Metrics,
        /// By book.
        pub by_book: Vec<BookMetrics>,
        /// By phase.
        pub by_phase: Vec<PhaseMetrics>,
        /// By type, those of your own included.
        pub by_type: Vec<TypeMetrics>,
    }

    /// How fast the work goes.
    pub struct Velocity {
        /// Words an hour of writing.
        pub words_per_hour: Option<f64>,
        /// Words a day of the calendar.
        pub words_per_day: Option<f64>,
        /// Chapters a day of the calendar.
        pub chapters_per_day: Option<f64>,
        /// Scenes an hour of writing.
        pub scenes_per_hour: Option<f64>,
        /// Days on which something was written.
        pub active_days: i64,
        /// Days of the window; null before anything was recorded.
        pub window_days: Option<i64>,
    }

    /// How well the work goes.
    pub struct Efficiency {
        /// Minutes of planning for each of writing.
        pub planning_to_writing_ratio: Option<f64>,
        /// Passes that each chapter saw.
        pub revision_rate: Option<f64>,
        /// Scenes that passed at the first try, in per cent.
        pub npe_pass_rate: Option<f64>,
    }

    /// Where the work goes.
    pub struct Projections {
        /// The day of the last word at this pace.
        pub estimated_completion_date: Option<String>,
        /// Words of the whole series.
        pub estimated_total_words: Option<f64>,
        /// Books that are not approved.
        pub books_remaining: i64,
        /// Hours of writing left.
        pub hours_remaining: Option<f64>,
    }

    /// Answer of `get_workflow_velocity`.
    pub struct WorkflowVelocity {
        /// The workflow.
        pub workflow_id: i64,
        /// The window.
        pub time_window: TimeWindow,
        /// How fast.
        pub velocity: Velocity,
        /// How well.
        pub efficiency: Efficiency,
        /// Where to.
        pub projections: Projections,
    }

    /// One day of `get_daily_writing_stats`.
    pub struct DailyStat {
        /// The workflow.
        pub workflow_id: i64,
        /// The day in its zone.
        pub stat_date: String,
        /// Words.
        pub words_written: Hundredths,
        /// Chapters.
        pub chapters_completed: Hundredths,
        /// Scenes.
        pub scenes_written: Hundredths,
        /// Minutes.
        pub writing_time_minutes: Hundredths,
        /// Phases.
        pub phases_completed: Hundredths,
        /// Words an hour; 0 where no minutes were recorded.
        pub avg_words_per_hour: f64,
    }

    /// Answer of `get_daily_writing_stats`, newest first.
    pub struct DailyStats {
        /// The days.
        pub stats: Vec<DailyStat>,
        /// Whether older days were left out: narrow the range to see them.
        pub truncated: bool,
    }

    /// Answer of `update_daily_stats`.
    pub struct DailyUpdated {
        /// True.
        pub updated: bool,
        /// The day.
        pub stat_date: String,
    }

    /// One phase of `get_phase_analytics`, over all workflows.
    pub struct PhaseAnalytics {
        /// The phase.
        pub phase_number: i64,
        /// Its name.
        pub phase_name: String,
        /// Visits that were completed or failed.
        pub total_executions: i64,
        /// Those completed.
        pub successful_executions: i64,
        /// Those failed.
        pub failed_executions: i64,
        /// Completed of all, in per cent; 0 where there is none.
        pub success_rate: f64,
        /// Mean duration, 2 decimals.
        pub avg_duration_minutes: Option<f64>,
        /// Mean score of its gates, 0 to 100, 2 decimals.
        pub avg_quality_score: Option<f64>,
        /// When one ended last.
        pub last_execution: Option<String>,
    }

    /// Answer of `get_phase_analytics`, by number.
    pub struct PhaseAnalyticsList {
        /// The phases.
        pub phases: Vec<PhaseAnalytics>,
    }
}
