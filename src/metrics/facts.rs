//! What is asked for at the scrape, because somebody knows it anyway.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// What the database says of the runs of this host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFigures {
    /// Runs that have not ended, by status.
    pub active: Vec<(String, i64)>,
    /// Runs that wait in the queue.
    pub queued: i64,
    /// How long the one that waits longest has waited, in seconds.
    pub oldest_wait_s: f64,
    /// Attempts whose processes are there, or about to be, by phase.
    pub attempts: Vec<(String, i64)>,
}

/// What the kernel says of this process. What it does not say is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// When it started, in seconds since 1970.
    pub started_s: Option<f64>,
    /// Processor time, in seconds.
    pub cpu_s: Option<f64>,
}

/// The facts of one moment. What could not be asked is absent, never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The runs; `None` where the database did not answer.
    pub runs: Option<RunFigures>,
    /// How hints of the file system come: `inotify`, `poll` or `none`.
    pub watcher: Option<&'static str>,
    /// How often the watcher asked for a look at everything.
    pub rescans: u64,
    /// How often it did because events were lost.
    pub overflows: u64,
    /// Since the supervisor's last round, in seconds.
    pub beat_age_s: Option<f64>,
    /// Projects that are served.
    pub projects_served: i64,
    /// Projects that should be and cannot.
    pub projects_unserved: i64,
    /// This process.
    pub process: ProcessFacts,
}

/// The facts that are shown next.
#[derive(Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Facts>>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl Shown {
    pub(super) fn show(&self, facts: Facts) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = facts;
    }
}

/// Writes families, one after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    /// One value without labels.
    fn one(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: &impl EncodeMetric,
    ) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, unit, value.metric_type())?;
        value.encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        self.one(name, help, None, &ConstGauge::new(value))
    }

    /// A gauge for each value of a label.
    fn by<W: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(W, i64)],
    ) -> fmt::Result {
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (word, value) in values {
            let labels = [(label, word.as_ref())];
            let series = encoder.encode_family(&labels)?;
            ConstGauge::new(*value).encode(series)?;
        }
        Ok(())
    }
}

impl Collector for Shown {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let facts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut w = Writer(encoder);
        w.gauge(
            "adwd_database_up",
            "Whether the database answered",
            i64::from(facts.runs.is_some()),
        )?;
        if let Some(runs) = &facts.runs {
            of_runs(&mut w, runs)?;
        }
        let projects = [("served", facts.projects_served), ("unserved", facts.projects_unserved)];
        w.by("adwd_projects", "Projects", "state", &projects)?;
        let means = ["inotify", "poll", "none"];
        let means = means.map(|word| (word, i64::from(facts.watcher == Some(word))));
        w.by("adwd_watcher", "How changes of files are noticed", "mode", &means)?;
        w.one(
            "adwd_watcher_rescans",
            "Looks at everything that the watcher asked for",
            None,
            &ConstCounter::new(facts.rescans),
        )?;
        w.one(
            "adwd_watcher_overflows",
            "Those that it asked for because events were lost",
            None,
            &ConstCounter::new(facts.overflows),
        )?;
        if let Some(age) = facts.beat_age_s {
            let help = "Since the supervisor's last round";
            let value = ConstGauge::new(age);
            w.one("adwd_supervisor_beat_age", help, Some(&Unit::Seconds), &value)?;
        }
        of_process(&mut w, &facts.process)
    }
}

fn of_runs(w: &mut Writer<'_>, runs: &RunFigures) -> fmt::Result {
    w.by("adwd_runs", "Runs that have not ended", "status", &runs.active)?;
    w.gauge("adwd_queue_length", "Runs that wait for a free place", runs.queued)?;
    let wait = ConstGauge::new(runs.oldest_wait_s);
    let help = "How long the run that waits longest has waited";
    w.one("adwd_queue_oldest_wait", help, Some(&Unit::Seconds), &wait)?;
    w.by("adwd_attempts_live", "Attempts with a process tree", "phase", &runs.attempts)
}

/// Under the names that every Prometheus client uses, so that dashboards know them.
fn of_process(w: &mut Writer<'_>, process: &ProcessFacts) -> fmt::Result {
    if let Some(bytes) = process.resident_bytes {
        let value = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        w.one("process_resident_memory", "Resident memory", Some(&Unit::Bytes), &value)?;
    }
    if let Some(fds) = process.open_fds {
        let fds = i64::try_from(fds).unwrap_or(i64::MAX);
        w.gauge("process_open_fds", "Open file descriptors", fds)?;
    }
    if let Some(at) = process.started_s {
        let value = ConstGauge::new(at);
        let help = "When the process started, since 1970";
        w.one("process_start_time", help, Some(&Unit::Seconds), &value)?;
    }
    if let Some(used) = process.cpu_s {
        let value = ConstCounter::new(used);
        w.one("process_cpu", "Processor time used", Some(&Unit::Seconds), &value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Metrics};
    use super::*;

    #[test]
    fn what_is_not_known_is_not_shown() {
        let metrics = Metrics::default();
        let text = metrics.render(Facts::default(), Format::OpenMetrics);
        assert!(text.contains("adwd_database_up 0\n"), "{text}");
        assert!(!text.contains("adwd_queue_length"), "{text}");
        assert!(!text.contains("process_open_fds"), "{text}");
        let runs = RunFigures {
            active: vec![("running".to_owned(), 2)],
            queued: 3,
            oldest_wait_s: 1.5,
            attempts: vec![("plan".to_owned(), 1)],
        };
        let process = ProcessFacts { cpu_s: Some(0.25), ..ProcessFacts::default() };
        let facts = Facts {
            runs: Some(runs),
            watcher: Some("inotify"),
            beat_age_s: Some(0.5),
            process,
            ..Facts::default()
        };
        let text = metrics.render(facts, Format::OpenMetrics);
        for line in [
            "adwd_database_up 1",
            "adwd_runs{status=\"running\"} 2",
            "adwd_queue_length 3",
            "adwd_queue_oldest_wait_seconds 1.5",
            "adwd_attempts_live{phase=\"plan\"} 1",
            "adwd_watcher{mode=\"inotify\"} 1",
            "adwd_watcher{mode=\"poll\"} 0",
            "adwd_supervisor_beat_age_seconds 0.5",
            "process_cpu_seconds_total 0.25",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
