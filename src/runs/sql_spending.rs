//! Every statement about what was spent.

use std::collections::BTreeMap;

use super::spend::{Spent, settle};
use super::view::{Failure, Usage};
use crate::args;
use crate::clock::Millis;
use crate::crash::{self, Point};
use crate::db::{Db, DbError, Tx};

/// The row that figures are added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendingKey {
    /// The run.
    pub adw_id: String,
    /// The phase; empty where nobody knows it.
    pub phase: String,
    /// The attempt; 0 where none of the daemon's made it.
    pub attempt: i64,
    /// `YYYY-MM-DD`.
    pub day: String,
}

crate::row! {
    /// Figures of one row or of a sum of rows.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in Spent")]
    pub struct SpentRow {
        pub name: String,
        pub agent_calls: i64,
        pub cut_calls: i64,
        pub input_tokens: i64,
        pub output_tokens: i64,
        pub cache_read_tokens: i64,
        pub cache_creation_tokens: i64,
        pub usd_micro: i64,
        pub estimated_micro: i64,
        pub runs: i64,
        pub last_day: String,
    }
}

impl SpentRow {
    /// The figures.
    #[must_use]
    pub fn spent(&self) -> Spent {
        Spent {
            agent_calls: self.agent_calls,
            cut_calls: self.cut_calls,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_tokens: self.cache_read_tokens,
            cache_creation_tokens: self.cache_creation_tokens,
            usd_micro: self.usd_micro,
            estimated_micro: self.estimated_micro,
        }
    }
}

/// The sums of all figures under a name.
macro_rules! sums {
    ($name:literal) => {
        concat!(
            "SELECT ",
            $name,
            " AS name, \
             CAST(COALESCE(SUM(agent_calls), 0) AS BIGINT) AS agent_calls, \
             CAST(COALESCE(SUM(cut_calls), 0) AS BIGINT) AS cut_calls, \
             CAST(COALESCE(SUM(input_tokens), 0) AS BIGINT) AS input_tokens, \
             CAST(COALESCE(SUM(output_tokens), 0) AS BIGINT) AS output_tokens, \
             CAST(COALESCE(SUM(cache_read_tokens), 0) AS BIGINT) AS cache_read_tokens, \
             CAST(COALESCE(SUM(cache_creation_tokens), 0) AS BIGINT) AS cache_creation_tokens, \
             CAST(COALESCE(SUM(usd_micro), 0) AS BIGINT) AS usd_micro, \
             CAST(COALESCE(SUM(estimated_micro), 0) AS BIGINT) AS estimated_micro, \
             CAST(COUNT(DISTINCT adw_id) AS BIGINT) AS runs, \
             COALESCE(MAX(day), '') AS last_day FROM spending "
        )
    };
}

/// Stores all that was seen of a run so far, as what `key` adds to what is stored, and the run's
/// usage with it; answers the run's sum and what of it is new. Done twice it changes nothing the
/// second time.
///
/// # Errors
/// [`DbError`]; [`DbError::NotFound`] where the run is not stored.
pub async fn record(
    db: &Db,
    key: &SpendingKey,
    seen: &Spent,
    now: Millis,
) -> Result<(Spent, Spent), DbError> {
    let mut tx = db.begin().await?;
    // The run's row first: of two that look at once the later one sees what the first has stored.
    let (project, user): (String, String) = tx
        .one(
            "UPDATE runs SET revision = revision + 1 WHERE adw_id = $1 \
             RETURNING project, COALESCE(user_id, '')",
            args![&key.adw_id],
        )
        .await?;
    let own: Option<SpentRow> = tx
        .optional(
            concat!(
                sums!("phase"),
                "WHERE adw_id = $1 AND phase = $2 AND attempt = $3 AND day = $4 GROUP BY phase"
            ),
            args![&key.adw_id, &key.phase, key.attempt, &key.day],
        )
        .await?;
    let own = own.map(|row| row.spent()).unwrap_or_default();
    let mut phases = by_phase(&mut tx, &key.adw_id).await?;
    let all = phases.values().fold(Spent::default(), |sum, phase| sum.plus(phase));
    let settled = settle(&all, &own, seen);
    put(&mut tx, key, &project, &user, &settled, now).await?;
    let change = settled.zip(&own, |new, old| new - old);
    let phase = phases.entry(key.phase.clone()).or_default();
    *phase = phase.plus(&change);
    let total = all.plus(&change);
    tx.exec(
        "UPDATE runs SET run_usage = $2, cost_usd = $3 WHERE adw_id = $1",
        args![&key.adw_id, usage_json(&phases, &total), total.usage().cost_usd],
    )
    .await?;
    crash::here(Point::SpendingUncommitted);
    tx.commit().await?;
    crash::here(Point::SpendingStored);
    Ok((total, change))
}

/// What is stored of a run, less that of one attempt.
///
/// # Errors
/// [`DbError`].
pub async fn of_other_attempts(
    db: &Db,
    attempt: &super::sql::AttemptRow,
) -> Result<Spent, DbError> {
    let sum: SpentRow = db
        .one(
            concat!(sums!("''"), "WHERE adw_id = $1 AND NOT (phase = $2 AND attempt = $3)"),
            args![&attempt.adw_id, &attempt.phase, attempt.attempt],
        )
        .await?;
    Ok(sum.spent())
}

async fn by_phase(tx: &mut Tx, adw_id: &str) -> Result<BTreeMap<String, Spent>, DbError> {
    let rows: Vec<SpentRow> =
        tx.all(concat!(sums!("phase"), "WHERE adw_id = $1 GROUP BY phase"), args![adw_id]).await?;
    Ok(rows.into_iter().map(|row| (row.name.clone(), row.spent())).collect())
}

/// Per phase and `total`, as `runs.run_usage` has it.
fn usage_json(phases: &BTreeMap<String, Spent>, total: &Spent) -> String {
    let named = phases.iter().filter(|(name, _)| !name.is_empty());
    let mut usage: BTreeMap<&str, Usage> =
        named.map(|(name, spent)| (name.as_str(), spent.usage())).collect();
    usage.insert("total", total.usage());
    serde_json::to_string(&usage).unwrap_or_default()
}

async fn put(
    tx: &mut Tx,
    key: &SpendingKey,
    project: &str,
    user: &str,
    spent: &Spent,
    now: Millis,
) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO spending (adw_id, phase, attempt, day, project, user_id, agent_calls, \
         cut_calls, input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, \
         usd_micro, estimated_micro, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
         ON CONFLICT (adw_id, phase, attempt, day) DO UPDATE SET \
         agent_calls = excluded.agent_calls, cut_calls = excluded.cut_calls, \
         input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, \
         cache_read_tokens = excluded.cache_read_tokens, \
         cache_creation_tokens = excluded.cache_creation_tokens, \
         usd_micro = excluded.usd_micro, estimated_micro = excluded.estimated_micro, \
         updated_at = excluded.updated_at",
        args![
            &key.adw_id,
            &key.phase,
            key.attempt,
            &key.day,
            project,
            user,
            spent.agent_calls,
            spent.cut_calls,
            spent.input_tokens,
            spent.output_tokens,
            spent.cache_read_tokens,
            spent.cache_creation_tokens,
            spent.usd_micro,
            spent.estimated_micro,
            now,
        ],
    )
    .await
    .map(drop)
}

/// Runs with a usage of which this table knows nothing: those from before it, at most 500. What a
/// run of the daemon spends from now on is stored as it goes.
///
/// # Errors
/// [`DbError`].
pub async fn not_carried(db: &Db) -> Result<Vec<super::sql::RunRow>, DbError> {
    db.all(
        "SELECT * FROM runs WHERE run_usage IS NOT NULL AND NOT active AND NOT EXISTS \
         (SELECT 1 FROM spending WHERE spending.adw_id = runs.adw_id) ORDER BY seq LIMIT 500",
        args![],
    )
    .await
}

/// Stores what a run from before this table has spent, by phase; nothing where that is done. Of a
/// run that the daemon only watches what is stored is replaced.
///
/// # Errors
/// [`DbError`].
pub async fn carry(
    db: &Db,
    run: &super::sql::RunRow,
    day: &str,
    phases: &BTreeMap<String, Spent>,
    now: Millis,
) -> Result<(), DbError> {
    let mut tx = db.begin().await?;
    let free = tx
        .exec(
            "UPDATE runs SET revision = revision + 1 WHERE adw_id = $1 AND (origin = 'external' \
             OR NOT EXISTS (SELECT 1 FROM spending WHERE spending.adw_id = runs.adw_id))",
            args![&run.adw_id],
        )
        .await?;
    if free == 1 {
        for (phase, spent) in phases {
            let key = SpendingKey {
                adw_id: run.adw_id.clone(),
                phase: phase.clone(),
                attempt: 0,
                day: day.to_owned(),
            };
            let user = run.user_id.clone().unwrap_or_default();
            put(&mut tx, &key, &run.project, &user, spent, now).await?;
        }
    }
    crash::here(Point::CarryUncommitted);
    tx.commit().await?;
    crash::here(Point::Carried);
    Ok(())
}

/// What was spent by a run in all, and on one day by a project, by a user, and by all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpentSums {
    /// By the run.
    pub run: Spent,
    /// By the project on the day.
    pub project: Spent,
    /// By the user on the day.
    pub user: Spent,
    /// By all on the day.
    pub day: Spent,
}

/// The sums that budgets are held against; only their dollars and tokens are filled in.
///
/// # Errors
/// [`DbError`].
pub async fn spent(
    db: &Db,
    adw_id: &str,
    project: &str,
    user: &str,
    day: &str,
) -> Result<SpentSums, DbError> {
    /// The dollars and tokens of what fits, as two columns.
    macro_rules! pair {
        ($fits:literal) => {
            concat!(
                "CAST(COALESCE(SUM(CASE WHEN ",
                $fits,
                " THEN usd_micro ELSE 0 END), 0) AS BIGINT), ",
                "CAST(COALESCE(SUM(CASE WHEN ",
                $fits,
                " THEN input_tokens + cache_creation_tokens + output_tokens ELSE 0 END), 0) AS BIGINT)"
            )
        };
    }
    let of = |usd_micro, tokens| Spent { usd_micro, input_tokens: tokens, ..Spent::default() };
    let (run, run_tokens, own, own_tokens, by, by_tokens, all, all_tokens): (
        i64,
        i64,
        i64,
        i64,
        i64,
        i64,
        i64,
        i64,
    ) = db
        .one(
            concat!(
                "SELECT ",
                pair!("adw_id = $1"),
                ", ",
                pair!("day = $4 AND project = $2"),
                ", ",
                pair!("day = $4 AND user_id = $3"),
                ", ",
                pair!("day = $4"),
                " FROM spending WHERE adw_id = $1 OR day = $4"
            ),
            args![adw_id, project, user, day],
        )
        .await?;
    Ok(SpentSums {
        run: of(run, run_tokens),
        project: of(own, own_tokens),
        user: of(by, by_tokens),
        day: of(all, all_tokens),
    })
}

/// Asks for the end of a run because a budget is used up; `false` where it ends already. Of this
/// and a cancel the first wins.
///
/// # Errors
/// [`DbError`].
pub async fn stop_for_budget(db: &Db, adw_id: &str, failure: &Failure) -> Result<bool, DbError> {
    let failure = serde_json::to_string(failure).unwrap_or_default();
    crash::here(Point::BudgetStopUnstored);
    let n = db
        .exec(
            "UPDATE runs SET status = 'stopping', stop_requested = TRUE, budget_stop = $2, \
             revision = revision + 1 \
             WHERE adw_id = $1 AND active AND status IN ('starting', 'running')",
            args![adw_id, failure],
        )
        .await?;
    crash::here(Point::BudgetStopStored);
    Ok(n == 1)
}

/// What a table of spending has a line for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Each run.
    Run,
    /// Each project.
    Project,
    /// Each user.
    User,
    /// Each day.
    Day,
}

/// What spending is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpendingFilter {
    /// From this day on.
    pub since: Option<String>,
    /// Up to this day.
    pub until: Option<String>,
    /// Of one project.
    pub project: Option<String>,
    /// Of one user.
    pub user: Option<String>,
    /// Of one run.
    pub adw_id: Option<String>,
    /// Also of others than the one who asks and the projects below.
    pub everything: bool,
    /// Who asks.
    pub viewer: String,
    /// The projects that exist for whoever asks, each between slashes: `/shop/tools/` (two
    /// neighbours have a slash each, so `//` parts them).
    pub projects: String,
}

/// A text of [`SpendingFilter::projects`].
#[must_use]
pub fn projects_text<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("/{name}/")).collect()
}

/// The condition of a [`SpendingFilter`].
macro_rules! fits {
    () => {
        "WHERE ($1 IS NULL OR day >= $1) AND ($2 IS NULL OR day <= $2) \
         AND ($3 IS NULL OR project = $3) AND ($4 IS NULL OR user_id = $4) \
         AND ($5 IS NULL OR adw_id = $5) AND ($6 OR user_id = $7 \
         OR LENGTH(REPLACE($8, '/' || project || '/', '')) < LENGTH($8)) "
    };
}

/// The lines with most dollars first.
macro_rules! largest {
    ($group:literal) => {
        concat!(
            sums!($group),
            fits!(),
            "GROUP BY ",
            $group,
            " HAVING $9 IS NULL OR CAST(SUM(usd_micro) AS BIGINT) < $9 \
             OR (CAST(SUM(usd_micro) AS BIGINT) = $9 AND ",
            $group,
            " > $10) ORDER BY 8 DESC, 1 LIMIT $11"
        )
    };
}

/// A page of spending: largest first, days newest first. `after` is the dollars (millionths) and the
/// name of the last line of the page before.
///
/// # Errors
/// [`DbError`].
pub async fn spending(
    db: &Db,
    by: GroupBy,
    f: &SpendingFilter,
    after: Option<(i64, String)>,
    limit: i64,
) -> Result<Vec<SpentRow>, DbError> {
    let (usd, name) = after.unzip();
    let mut args = filter_args(f);
    if by != GroupBy::Day {
        args.extend(args![usd]);
    }
    args.extend(args![name, limit]);
    let sql = match by {
        GroupBy::Run => largest!("adw_id"),
        GroupBy::Project => largest!("project"),
        GroupBy::User => largest!("user_id"),
        GroupBy::Day => concat!(
            sums!("day"),
            fits!(),
            "GROUP BY day HAVING $9 IS NULL OR day < $9 ORDER BY 1 DESC LIMIT $10"
        ),
    };
    db.all(sql, args).await
}

/// The sum over all that fits.
///
/// # Errors
/// [`DbError`].
pub async fn spending_sum(db: &Db, f: &SpendingFilter) -> Result<SpentRow, DbError> {
    db.one(concat!(sums!("''"), fits!()), filter_args(f)).await
}

fn filter_args(f: &SpendingFilter) -> Vec<crate::db::Arg> {
    args![&f.since, &f.until, &f.project, &f.user, &f.adw_id, f.everything, &f.viewer, &f.projects,]
}
