//! Keeping account of a run: reads what its agents' streams say, stores it, and holds it against the
//! budgets.
//!
//! What `kill -9` of the daemon leaves at each point is tabled in [`crate::crash`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::budget::{self, Budget, Days, Limits, Whose};
use super::ctx::Ctx;
use super::error::RunsError;
use super::facts;
use super::project::Project;
use super::spend::{Account, Prices, Spent};
use super::sql::{AttemptRow, RunRow};
use super::sql_spending::{self, SpendingKey};
use super::state_file::AdwState;
use super::view::Usage;
use crate::clock::Millis;
use crate::config::ProjectConfig;
use crate::limits;
use crate::metrics;
use crate::plain;

/// One stream, as far as it was read.
#[derive(Debug, Default)]
struct Stream {
    offset: u64,
    /// How it begins: whoever writes another call into it begins it otherwise.
    head: Vec<u8>,
    /// What the calls said that it held before it was begun anew.
    before: Spent,
    /// The line in the making.
    rest: Vec<u8>,
    /// That line is too long to be kept.
    too_long: bool,
    account: Account,
    /// Somebody wrote down beside it that the call ended.
    recorded: bool,
}

impl Stream {
    /// Reads a step of what is new; whether there may be more.
    fn step(&mut self, path: &Path, prices: &Prices) -> bool {
        let Ok(mut file) = plain::open(path) else { return false };
        if self.is_begun_anew(&mut file) {
            // Scripts of the world write each try of a call into one file: the one before was paid
            // for all the same.
            *self = Stream { before: self.spent(true, prices), ..Stream::default() };
        }
        let mut bytes = vec![];
        let read = file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.take(limits::AGENT_STEP_BYTES).read_to_end(&mut bytes));
        if read.is_err() || bytes.is_empty() {
            return false;
        }
        self.offset += bytes.len() as u64;
        let missing = limits::AGENT_HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        let mut lines = bytes.split(|b| *b == b'\n').peekable();
        while let Some(part) = lines.next() {
            let ends = lines.peek().is_some();
            self.too_long |= self.rest.len() + part.len() > limits::AGENT_LINE_BYTES;
            if !self.too_long {
                self.rest.extend_from_slice(part);
            }
            if ends {
                if !self.too_long {
                    self.account.take(&self.rest);
                }
                self.rest.clear();
                self.too_long = false;
            }
        }
        bytes.len() as u64 == limits::AGENT_STEP_BYTES
    }

    fn is_begun_anew(&self, file: &mut File) -> bool {
        if file.metadata().is_ok_and(|meta| meta.len() < self.offset) {
            return true;
        }
        let mut head = vec![0; self.head.len()];
        // What cannot be read just now cannot be told apart either.
        file.read_exact(&mut head).is_ok() && head != self.head
    }

    /// What it says. Where nothing more comes, a last line without a line end is one too.
    fn spent(&self, ended: bool, prices: &Prices) -> Spent {
        if !ended || self.rest.is_empty() || self.too_long {
            return self.before.plus(&self.account.spent(self.recorded, prices));
        }
        let mut account = self.account.clone();
        account.take(&self.rest);
        self.before.plus(&account.spent(self.recorded, prices))
    }
}

/// Reads the streams of an attempt again and again, each byte once. After a restart it begins anew.
#[derive(Debug, Default)]
pub(super) struct Meter {
    streams: BTreeMap<PathBuf, Stream>,
    /// What is stored of the run's other attempts, which have ended.
    others: Option<Spent>,
    stored: Option<(String, Spent)>,
}

impl Meter {
    /// All that the attempt's agents have said by now. `ended`: nothing of them lives any more.
    ///
    /// A stream that was last written before the attempt is an earlier one's, whose figures are
    /// stored: where scripts write the next try into the same file, its beginning tells no longer.
    async fn read(
        &mut self,
        ctx: &Ctx,
        project: &Project,
        (attempt, since): (&AttemptRow, Millis),
        ended: bool,
    ) -> Spent {
        let mut paths = vec![];
        let mut left = limits::ACTIVITY_FILES_COUNT;
        let since = u64::try_from(since.0).unwrap_or(0);
        let since = std::time::UNIX_EPOCH + std::time::Duration::from_millis(since);
        for root in facts::stream_roots(ctx, project, &attempt.adw_id) {
            facts::walk(&root, 4, &mut left, &mut |path, meta| {
                if path.file_name().is_some_and(|n| n == project.profile.agent_stream.as_str())
                    && meta.modified().is_ok_and(|at| at >= since)
                {
                    paths.push(path.to_path_buf());
                }
            });
        }
        let prices = Prices {
            input: ctx.config().budget.input_usd_per_mtok,
            output: ctx.config().budget.output_usd_per_mtok,
        };
        for path in paths {
            let stream = self.streams.entry(path.clone()).or_default();
            while stream.step(&path, &prices) {
                // A flood of output must not keep other runs waiting.
                tokio::task::yield_now().await;
            }
            stream.recorded =
                stream.recorded || path.parent().is_some_and(|p| p.join("result.json").is_file());
        }
        self.streams.values().fold(Spent::default(), |sum, stream| {
            let spent = stream.spent(ended, &prices);
            // Whether a call was cut off shows at the end.
            let cut_calls = if ended { spent.cut_calls } else { 0 };
            sum.plus(&Spent { cut_calls, ..spent })
        })
    }

    /// Reads, and stores what is new under the attempt and today. `since` is the moment from which
    /// on what was written is the attempt's ([`records::since`](super::records::since)).
    ///
    /// # Errors
    /// [`RunsError::Db`].
    pub(super) async fn look(
        &mut self,
        ctx: &Ctx,
        project: &Project,
        (attempt, since): (&AttemptRow, Millis),
        state: Option<&AdwState>,
        ended: bool,
    ) -> Result<(), RunsError> {
        let others = match self.others {
            Some(others) => others,
            None => sql_spending::of_other_attempts(ctx.db(), attempt).await?,
        };
        self.others = Some(others);
        let mut seen = others.plus(&self.read(ctx, project, (attempt, since), ended).await);
        if let Some(told) = state.and_then(|s| s.usage("total")) {
            seen = seen.at_least(&told);
        }
        let now = ctx.now();
        let day = days(ctx).day(now);
        if seen == others || self.stored.as_ref() == Some(&(day.clone(), seen)) {
            return Ok(());
        }
        let key = SpendingKey {
            adw_id: attempt.adw_id.clone(),
            phase: attempt.phase.clone(),
            attempt: attempt.attempt,
            day: day.clone(),
        };
        let (_, new) = sql_spending::record(ctx.db(), &key, &seen, now).await?;
        ctx.deps.metrics.spent(&counted(&new));
        self.stored = Some((day, seen));
        if let Ok(id) = attempt.adw_id.parse() {
            ctx.deps.changes.send(crate::changes::Changed::Run(id));
        }
        Ok(())
    }
}

/// What is new, for the counters, which never fall: an estimate that is taken back stays counted.
fn counted(new: &Spent) -> metrics::Spent {
    let usage = new.usage();
    let tokens = |count: i64| u64::try_from(count).unwrap_or(0);
    metrics::Spent {
        cost_usd: usage.cost_usd.max(0.0),
        input_tokens: tokens(usage.input_tokens),
        output_tokens: tokens(usage.output_tokens),
        cache_read_tokens: tokens(usage.cache_read_tokens),
        cache_creation_tokens: tokens(usage.cache_creation_tokens),
    }
}

/// The zone of the budgets' days.
pub(super) fn days(ctx: &Ctx) -> Days {
    Days::of(&ctx.config().budget.time_zone)
}

/// Who pays, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payer<'a> {
    /// The run; empty for one that is not stored yet.
    pub adw_id: &'a str,
    /// Its project.
    pub project: &'a str,
    /// Who triggered it.
    pub user: &'a str,
}

impl<'a> Payer<'a> {
    pub(super) fn of(row: &'a RunRow) -> Payer<'a> {
        Payer {
            adw_id: &row.adw_id,
            project: &row.project,
            user: row.user_id.as_deref().unwrap_or_default(),
        }
    }
}

/// The budgets that hold, with what was spent of them; none where nothing is limited.
///
/// # Errors
/// [`RunsError::Db`].
pub(super) async fn budgets(ctx: &Ctx, payer: Payer<'_>) -> Result<Vec<Budget>, RunsError> {
    let served = ctx.project(payer.project);
    let table: Option<&ProjectConfig> = served.as_deref().map(|p| &p.config);
    let own_cents = if budget::is_key(payer.user) {
        ctx.deps.own_budgets.day_cents(payer.user).await?
    } else {
        None
    };
    let limits = Limits::of(&ctx.config().budget, table, payer.user, own_cents);
    if limits.is_none() {
        return Ok(vec![]);
    }
    let (now, days) = (ctx.now(), days(ctx));
    let (day, ends) = (days.day(now), days.end(now));
    let spent =
        sql_spending::spent(ctx.db(), payer.adw_id, payer.project, payer.user, &day).await?;
    let all = [
        (Whose::Run, payer.adw_id, limits.run, spent.run, None),
        (Whose::Project, payer.project, limits.project, spent.project, Some(ends)),
        (Whose::Key, payer.user, limits.key, spent.user, Some(ends)),
        (Whose::Day, day.as_str(), limits.day, spent.day, Some(ends)),
    ];
    Ok(all
        .into_iter()
        .filter(|(.., limit, _, _)| !limit.is_none())
        .map(|(whose, name, limit, spent, ends)| Budget {
            whose,
            name: name.to_owned(),
            limit,
            spent,
            ends,
        })
        .collect())
}

/// Stops a run one of whose budgets is passed; whether it was stopped. The stop is stored before
/// anything is signalled.
///
/// # Errors
/// [`RunsError::Db`].
pub(super) async fn stop_if_passed(
    ctx: &Ctx,
    row: &RunRow,
    phase: &str,
) -> Result<bool, RunsError> {
    stop_if(ctx, row, Some(phase), Budget::is_passed).await
}

/// Stops a run before its next step where nothing is left to pay for it; whether it was stopped.
///
/// # Errors
/// [`RunsError::Db`].
pub(super) async fn stop_if_used_up(
    ctx: &Ctx,
    row: &RunRow,
    phase: Option<&str>,
) -> Result<bool, RunsError> {
    stop_if(ctx, row, phase, Budget::is_used_up).await
}

async fn stop_if(
    ctx: &Ctx,
    row: &RunRow,
    phase: Option<&str>,
    over: impl Fn(&Budget) -> bool,
) -> Result<bool, RunsError> {
    let budgets = budgets(ctx, Payer::of(row)).await?;
    let Some(found) = budgets.iter().find(|b| over(b)) else { return Ok(false) };
    let failure = budget::failure(found, phase);
    let stopped = sql_spending::stop_for_budget(ctx.db(), &row.adw_id, &failure).await?;
    if stopped {
        tracing::warn!(adw_id = row.adw_id, budget = found.whose.as_str(), "{}", failure.message);
        ctx.run_changed(&row.adw_id);
    }
    // Where it was not, it ends already.
    Ok(true)
}

/// Refuses work that could not be paid for.
///
/// # Errors
/// [`RunsError::Budget`], or the database's.
pub(super) async fn refuse_if_used_up(ctx: &Ctx, payer: Payer<'_>) -> Result<(), RunsError> {
    let budgets = budgets(ctx, payer).await?;
    match budgets.iter().find(|b| b.is_used_up()) {
        None => Ok(()),
        Some(found) => Err(RunsError::Budget { message: found.sentence(), remedy: found.remedy() }),
    }
}

/// The sentence of a budget of the run that is used up.
///
/// # Errors
/// [`RunsError::Db`].
pub(super) async fn used_up(ctx: &Ctx, row: &RunRow) -> Result<Option<String>, RunsError> {
    if let Some(stop) = row.budget_stop() {
        return Ok(Some(stop.message));
    }
    let budgets = budgets(ctx, Payer::of(row)).await?;
    Ok(budgets.iter().find(|b| b.is_used_up()).map(|b| budget::failure(b, None).message))
}

/// What the agents of a run may cost in all by the scripts' own account, in US dollars: what they
/// cost so far by that account, and what is left of the tightest budget.
///
/// # Errors
/// [`RunsError::Db`].
pub(super) async fn agents_may_cost(
    ctx: &Ctx,
    project: &Project,
    row: &RunRow,
) -> Result<Option<f64>, RunsError> {
    let left = budgets(ctx, Payer::of(row)).await?.iter().filter_map(Budget::left_micro).min();
    let Some(left) = left else { return Ok(None) };
    let state = facts::read_state(&project.state_file(&row.adw_id), &row.adw_id).ok().flatten();
    let so_far = state.and_then(|s| s.usage("total")).map_or(0.0, |u| u.cost_usd);
    Ok(Some(so_far + super::spend::dollars(left)))
}

/// Takes over what runs have spent that ended before this was kept, or that the daemon only watches.
///
/// # Errors
/// [`RunsError::Db`].
pub(super) async fn carry_over(ctx: &Ctx) -> Result<(), RunsError> {
    loop {
        let runs = sql_spending::not_carried(ctx.db()).await?;
        for run in &runs {
            carry(ctx, run).await?;
        }
        if runs.is_empty() {
            return Ok(());
        }
        tracing::info!(runs = runs.len(), "what earlier runs have spent is carried over");
    }
}

/// Stores what a run says of itself.
///
/// # Errors
/// [`RunsError::Db`].
pub(super) async fn carry(ctx: &Ctx, run: &RunRow) -> Result<(), RunsError> {
    // A foreign run is stored again and again, always under the day that cannot change.
    let ended = run.ended_at.filter(|_| run.origin == "daemon");
    let day = days(ctx).day(Millis(ended.unwrap_or(run.created_at)));
    sql_spending::carry(ctx.db(), run, &day, &carried(run), ctx.now()).await?;
    Ok(())
}

/// What a run says of itself, by phase; what no phase accounts for is under the empty name.
fn carried(run: &RunRow) -> BTreeMap<String, Spent> {
    let usage: BTreeMap<String, Usage> =
        run.run_usage.as_deref().and_then(|u| serde_json::from_str(u).ok()).unwrap_or_default();
    let mut total = usage.get("total").map(Spent::of_usage).unwrap_or_default();
    total.usd_micro = total.usd_micro.max(run.cost_usd.map_or(0, super::spend::micros));
    let mut phases: BTreeMap<String, Spent> = usage
        .iter()
        .filter(|(name, _)| *name != "total")
        .map(|(name, usage)| (name.clone(), Spent::of_usage(usage)))
        .collect();
    let named = phases.values().fold(Spent::default(), |sum, phase| sum.plus(phase));
    phases.insert(String::new(), total.zip(&named, |total, named| (total - named).max(0)));
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices { input: 3.0, output: 15.0 };

    fn write(path: &Path, text: &str) {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_stream_is_read_once_however_its_lines_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw_output.jsonl");
        let mut stream = Stream::default();
        assert!(!stream.step(&path, &PRICES), "not there yet");
        write(&path, "{\"usage\": {\"cost_");
        stream.step(&path, &PRICES);
        write(&path, "usd\": 0.5}}\n{\"usage\": {\"cost_usd\": 0.75}}");
        stream.step(&path, &PRICES);
        assert_eq!(stream.spent(false, &PRICES).usd_micro, 500_000, "the second line is not whole");
        assert_eq!(stream.spent(true, &PRICES).usd_micro, 750_000, "nothing more comes");
        std::fs::write(&path, "{\"usage\": {\"cost_usd\": 0.1}}\n").unwrap();
        stream.step(&path, &PRICES);
        assert_eq!(stream.spent(false, &PRICES).usd_micro, 850_000, "begun anew, beside the first");
        let longer = format!("{}\n{{\"usage\": {{\"cost_usd\": 0.2}}}}\n", " ".repeat(200));
        std::fs::write(&path, longer).unwrap();
        stream.step(&path, &PRICES);
        let spent = stream.spent(false, &PRICES);
        assert_eq!(spent.usd_micro, 1_050_000, "a third, that is longer when it is looked at");
        assert_eq!(spent.agent_calls, 3);
    }

    #[test]
    fn a_line_longer_than_the_bound_tells_nothing_and_the_next_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        write(&path, &"x".repeat(limits::AGENT_LINE_BYTES + 1));
        write(&path, "{\"usage\": {\"cost_usd\": 9}}\n{\"usage\": {\"cost_usd\": 0.1}}\n");
        let mut stream = Stream::default();
        while stream.step(&path, &PRICES) {}
        assert!(stream.rest.capacity() <= 2 * limits::AGENT_LINE_BYTES);
        assert_eq!(stream.spent(false, &PRICES).usd_micro, 100_000);
    }

    #[test]
    fn what_an_old_run_says_of_itself_is_carried_whole() {
        let phase = r#"{"agent_calls":1,"input_tokens":5,"output_tokens":0,"cache_read_tokens":0,"cache_creation_tokens":0,"cost_usd":0.25}"#;
        let total = phase.replace("0.25", "0.75");
        let run = RunRow {
            run_usage: Some(format!("{{\"plan\":{phase},\"total\":{total}}}")),
            cost_usd: Some(0.75),
            ..RunRow::blank("r1", Millis(0))
        };
        let phases = carried(&run);
        assert_eq!(phases["plan"].usd_micro, 250_000);
        assert_eq!((phases[""].usd_micro, phases[""].input_tokens), (500_000, 0));
        let broken = RunRow { run_usage: Some("{".into()), ..run };
        assert_eq!(carried(&broken)[""].usd_micro, 750_000);
    }
}
