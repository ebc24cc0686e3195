//! The supervisor: one task, one enum of events, one synchronous [`Dispatcher::handle`]. It decides
//! which runs leave the queue and which need a driver; drivers do the work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::ctx::Ctx;
use super::error::RunsError;
use super::sql;
use super::sql_queue::{self, ActiveRow};
use super::view::RunStatus;
use super::{driver, external, janitor};
use crate::changes::Changed;
use crate::limits;

/// What the dispatcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The active runs as the database has them, the next to leave the queue first; of those that
    /// wait, at least as many of each project as there is room for.
    Scanned(Vec<ActiveRun>),
    /// A driver has come to rest.
    DriverEnded(String),
}

/// What the dispatcher wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Take the run out of the queue (compare-and-swap), then drive it.
    Admit(String),
    /// Give the run a driver.
    Drive(String),
}

/// An active run, as far as the dispatcher needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveRun {
    /// Its id.
    pub adw_id: String,
    /// Its project.
    pub project: String,
    /// Its status.
    pub status: RunStatus,
    /// How many runs of its project may work at once; 0 where the project is not served.
    pub project_max: u32,
}

/// Decides; does nothing.
#[derive(Debug, Default)]
pub struct Dispatcher {
    /// Runs that may work at once.
    max_running: u32,
    driven: BTreeSet<String>,
}

impl Dispatcher {
    /// A dispatcher for at most so many runs at once.
    #[must_use]
    pub fn new(max_running: u32) -> Dispatcher {
        Dispatcher { max_running, driven: BTreeSet::new() }
    }

    /// Takes one event; answers what to do.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::DriverEnded(adw_id) => {
                self.driven.remove(&adw_id);
                vec![]
            }
            Event::Scanned(active) => self.plan(&active),
        }
    }

    fn plan(&mut self, active: &[ActiveRun]) -> Vec<Effect> {
        let mut effects = vec![];
        let mut total = 0_u32;
        let mut per_project: BTreeMap<&str, u32> = BTreeMap::new();
        // A stop is seen through also where the project is not served any more.
        let moves = |r: &&ActiveRun| {
            r.status == RunStatus::Stopping || (r.status != RunStatus::Queued && r.project_max > 0)
        };
        for run in active.iter().filter(moves) {
            total += 1;
            *per_project.entry(&run.project).or_default() += 1;
            if self.driven.insert(run.adw_id.clone()) {
                effects.push(Effect::Drive(run.adw_id.clone()));
            }
        }
        for run in active.iter().filter(|r| r.status == RunStatus::Queued) {
            if self.driven.contains(&run.adw_id) {
                continue;
            }
            let of_project = per_project.entry(&run.project).or_default();
            if total < self.max_running && *of_project < run.project_max {
                total += 1;
                *of_project += 1;
                self.driven.insert(run.adw_id.clone());
                effects.push(Effect::Admit(run.adw_id.clone()));
            }
        }
        effects
    }
}

/// Runs until the daemon stops. Never returns early: a failed scan is done again.
pub(crate) async fn supervise(ctx: Arc<Ctx>) {
    let mut dispatcher = Dispatcher::new(ctx.config().limits.max_running);
    let mut drivers: JoinSet<String> = JoinSet::new();
    let sweeper = tokio::spawn(sweep(Arc::clone(&ctx)));
    let hinter = tokio::spawn(hint(Arc::clone(&ctx)));
    let looker = tokio::spawn(look_around(Arc::clone(&ctx)));
    while !ctx.deps.shutdown.is_cancelled() {
        ctx.beat();
        let mut pause = limits::SCAN_MS;
        match scan(&ctx, dispatcher.driven.len()).await {
            Ok(active) => {
                if active.is_empty() {
                    pause = limits::SCAN_IDLE_MS;
                }
                for effect in dispatcher.handle(Event::Scanned(active)) {
                    apply(&ctx, &mut drivers, effect).await;
                }
            }
            Err(e) => tracing::error!("scan failed, will be done again: {e}"),
        }
        tokio::select! {
            () = ctx.wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            () = ctx.deps.shutdown.cancelled() => {}
            Some(ended) = drivers.join_next() => {
                if let Ok(adw_id) = ended {
                    dispatcher.handle(Event::DriverEnded(adw_id));
                }
            }
        }
    }
    sweeper.abort();
    hinter.abort();
    looker.abort();
    // Drivers end by themselves: each looks at the shutdown between two steps.
    while drivers.join_next().await.is_some() {}
}

/// Those who work, and the first who wait, of each project as many as there may be room for. Some of
/// those who wait may still have a driver, `driven` at most; these are no candidates.
async fn scan(ctx: &Ctx, driven: usize) -> Result<Vec<ActiveRun>, RunsError> {
    let host = &ctx.deps.host;
    let mut rows = sql_queue::working(ctx.db(), host).await?;
    let max = |name: &str| ctx.project(name).map_or(0, |p| p.max_running(ctx.config()));
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let moving = rows.iter().filter(|r| r.status() == RunStatus::Stopping || max(&r.project) > 0);
    let room = ctx.config().limits.max_running.saturating_sub(count(moving.count()));
    for project in ctx.projects() {
        let working = rows.iter().filter(|row| row.project == project.name).count();
        let wanted = room.min(max(&project.name).saturating_sub(count(working)));
        if wanted > 0 {
            let limit = wanted.saturating_add(count(driven));
            let next = sql_queue::next_of_project(ctx.db(), host, &project.name, limit);
            rows.extend(next.await?);
        }
    }
    rows.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.queued_at, row.seq));
    let active = |row: ActiveRow| ActiveRun {
        status: row.status(),
        project_max: max(&row.project),
        adw_id: row.adw_id,
        project: row.project,
    };
    Ok(rows.into_iter().map(active).collect())
}

async fn apply(ctx: &Arc<Ctx>, drivers: &mut JoinSet<String>, effect: Effect) {
    let ctx = Arc::clone(ctx);
    let adw_id = match effect {
        Effect::Drive(adw_id) => adw_id,
        Effect::Admit(adw_id) => {
            match sql::move_status(
                ctx.db(),
                &adw_id,
                RunStatus::Queued,
                RunStatus::Starting,
                ctx.now(),
            )
            .await
            {
                Ok(true) => {
                    ctx.run_changed(&adw_id);
                    ctx.deps.changes.send(Changed::Queue);
                }
                // It was cancelled in the same moment; its driver finds that out and rests.
                Ok(false) => {}
                Err(e) => {
                    tracing::error!(adw_id, "could not leave the queue, will be tried again: {e}");
                    drivers.spawn(async move {
                        // It keeps its place for that long; without the pause a full disk would
                        // make the supervisor spin.
                        pause(&ctx).await;
                        adw_id
                    });
                    return;
                }
            }
            adw_id
        }
    };
    drivers.spawn(async move {
        // In a task of its own, so that a panic costs one step and not the run: whatever becomes
        // of the driver, the dispatcher hears of its end and gives the run another one.
        let driven = tokio::spawn(driver::drive(Arc::clone(&ctx), adw_id.clone())).await;
        if let Err(e) = driven {
            tracing::error!(adw_id, "driver broke off, will be started again: {e}");
            pause(&ctx).await;
        }
        adw_id
    });
}

async fn pause(ctx: &Ctx) {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(limits::DRIVER_BACKOFF_MS)) => {}
        () = ctx.deps.shutdown.cancelled() => {}
    }
}

/// The slow round: projects that could not be served, worktrees of ended runs.
async fn sweep(ctx: Arc<Ctx>) {
    loop {
        ctx.try_unserved();
        let waits = janitor::round(&ctx).await || !ctx.unserved().is_empty();
        if !waits {
            let idle = Duration::from_millis(limits::SWEEP_IDLE_MS - limits::SWEEP_MS);
            let _ = tokio::time::timeout(idle, ctx.sweep.notified()).await;
        }
        tokio::time::sleep(Duration::from_millis(limits::SWEEP_MS)).await;
    }
}

/// Runs that somebody starts by hand. Their folders are looked at, not watched: a watch on each of
/// all the runs that ever were costs more than a look at what is new.
async fn look_around(ctx: Arc<Ctx>) {
    let mut seen = external::Seen::default();
    loop {
        let looks = external::round(&ctx, &mut seen).await;
        let pause = if looks > 0 { limits::EXTERNAL_MS } else { limits::EXTERNAL_IDLE_MS };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Turns hints of the file system into looks.
async fn hint(ctx: Arc<Ctx>) {
    while let Some(hint) = ctx.hints.next().await {
        match hint {
            crate::watch::Hint::Path(path) => {
                if let Some(adw_id) = ctx.run_of_path(&path) {
                    ctx.poke(&adw_id);
                }
            }
            crate::watch::Hint::RescanAll => ctx.poke_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(id: &str, project: &str, status: RunStatus) -> ActiveRun {
        ActiveRun { adw_id: id.into(), project: project.into(), status, project_max: 2 }
    }

    #[test]
    fn the_queue_is_left_in_its_order_up_to_both_limits() {
        let mut d = Dispatcher::new(3);
        let queued = ["a", "b", "c"].map(|i| run(i, "p", RunStatus::Queued)).to_vec();
        let mut all = queued.clone();
        all.extend([run("d", "q", RunStatus::Queued), run("e", "q", RunStatus::Queued)]);
        assert_eq!(
            d.handle(Event::Scanned(all)),
            [Effect::Admit("a".into()), Effect::Admit("b".into()), Effect::Admit("d".into())]
        );
    }

    #[test]
    fn a_run_gets_one_driver_until_it_rests() {
        let mut d = Dispatcher::new(3);
        let active = vec![run("a", "p", RunStatus::Running)];
        assert_eq!(d.handle(Event::Scanned(active.clone())), [Effect::Drive("a".into())]);
        assert_eq!(d.handle(Event::Scanned(active.clone())), []);
        d.handle(Event::DriverEnded("a".into()));
        assert_eq!(d.handle(Event::Scanned(active)), [Effect::Drive("a".into())]);
    }

    #[test]
    fn runs_of_a_project_that_is_not_served_rest_and_take_no_place() {
        let mut d = Dispatcher::new(1);
        let mut gone = run("a", "gone", RunStatus::Running);
        gone.project_max = 0;
        assert_eq!(
            d.handle(Event::Scanned(vec![gone, run("b", "p", RunStatus::Queued)])),
            [Effect::Admit("b".into())]
        );
        let mut stopping = run("c", "gone", RunStatus::Stopping);
        stopping.project_max = 0;
        assert_eq!(d.handle(Event::Scanned(vec![stopping])), [Effect::Drive("c".into())]);
    }

    proptest! {
        #[test]
        fn limits_hold_whatever_the_mix(statuses in proptest::collection::vec(0..2_u8, 0..30), max in 0..6_u32) {
            let mut d = Dispatcher::new(max);
            let active: Vec<ActiveRun> = statuses.iter().enumerate().map(|(i, s)| {
                run(&format!("r{i}"), if i % 2 == 0 { "p" } else { "q" }, if *s == 0 { RunStatus::Queued } else { RunStatus::Running })
            }).collect();
            let running = u32::try_from(statuses.iter().filter(|s| **s == 1).count()).unwrap();
            let effects = d.handle(Event::Scanned(active));
            let admitted = u32::try_from(effects.iter().filter(|e| matches!(e, Effect::Admit(_))).count()).unwrap();
            prop_assert!(admitted <= max.saturating_sub(running));
        }
    }
}
