//! Recording metrics: what arrives at once is stored in one transaction.
//!
//! Each commit waits for the disk, so a commit for each metric would bound how many can be recorded
//! a second. One task takes whatever waits, judges each metric by itself, stores the good ones in
//! one transaction and answers nobody before it is committed. A single metric waits for nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::super::day::{Zone, moment};
use super::super::ledger::Ledger;
use super::super::metric::{self, Hundredths};
use super::super::phase;
use super::super::request::RecordMetric;
use super::super::sql::{self, Take};
use super::super::sql_metrics;
use super::super::sql_rows::{MetricRow, WorkflowRow};
use super::super::view::MetricRecorded;
use super::{
    Answer, Desk, check_book, committed, number, object, phase_number, row, text, time, to_json,
    zone,
};
use crate::clock::Millis;
use crate::db::{DbError, Tx};
use crate::limits::{
    WRITING_BATCH_COUNT, WRITING_CHAPTERS_MAX_COUNT, WRITING_CLOCK_SKEW_MS, WRITING_QUEUE_COUNT,
    WRITING_TYPES_MAX_COUNT, WRITING_WORD_MAX_CHARS,
};
use crate::writing::error::WritingError;

/// A metric whose form is right; what its workflow says of it comes later.
#[derive(Clone, Debug)]
struct Draft {
    row: MetricRow,
    correction: bool,
    /// When it happened; now unless given.
    at: Option<Millis>,
}

struct Waiting {
    draft: Draft,
    reply: oneshot::Sender<Answer<MetricRecorded>>,
}

/// The way to the recording task; cheap to clone. The task ends when the last one is dropped.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Waiting>);

impl Recorder {
    /// Starts the task; needs a tokio runtime.
    pub fn start(desk: Arc<Desk>) -> Recorder {
        let (queue, waiting) = mpsc::channel(WRITING_QUEUE_COUNT);
        tokio::spawn(serve(desk, waiting));
        Recorder(queue)
    }

    /// `record_production_metric`.
    pub async fn record(&self, q: RecordMetric) -> Answer<MetricRecorded> {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { draft: draft(q)?, reply };
        self.0.send(waiting).await.map_err(|_| WritingError::Stopping)?;
        answer.await.map_err(|_| WritingError::Stopping)?
    }
}

async fn serve(desk: Arc<Desk>, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(WRITING_BATCH_COUNT);
    while queue.recv_many(&mut batch, WRITING_BATCH_COUNT).await > 0 {
        let (drafts, replies): (Vec<Draft>, Vec<_>) =
            batch.drain(..).map(|waiting| (waiting.draft, waiting.reply)).unzip();
        for (reply, outcome) in replies.into_iter().zip(record_all(&desk, &drafts).await) {
            // Whoever went away meanwhile does not want to know.
            let _ = reply.send(outcome);
        }
    }
}

/// Records several; one outcome each. A transaction that fails as a whole is tried again one by
/// one, so that nobody fails for somebody else's metric; but where the commit got no answer, only
/// metrics with a key are, because the others might be counted twice.
async fn record_all(desk: &Desk, drafts: &[Draft]) -> Vec<Answer<MetricRecorded>> {
    match record_together(desk, drafts).await {
        Ok(outcomes) => outcomes,
        Err(error) if drafts.len() == 1 => vec![Err(error)],
        Err(failed) => {
            let unsure = matches!(failed, WritingError::Unsure);
            let mut down = None;
            let mut outcomes = Vec::with_capacity(drafts.len());
            for draft in drafts {
                let outcome = if unsure && draft.row.idempotency_key.is_none() {
                    // It may be stored already: only a key tells whether it is.
                    Err(WritingError::Unsure)
                } else if let Some(failed) = down.clone() {
                    // Each would wait for a database that does not answer, and who comes later
                    // would wait for all of them.
                    let operation = "record a metric".to_owned();
                    Err(DbError::Aborted { operation, failed }.into())
                } else {
                    let one = record_together(desk, std::slice::from_ref(draft)).await;
                    one.and_then(|mut one| one.pop().unwrap_or(Err(WritingError::Stopping)))
                };
                if let Err(WritingError::Db(
                    error @ (DbError::Unavailable { .. } | DbError::Busy { .. }),
                )) = &outcome
                {
                    down = Some(error.to_string());
                }
                outcomes.push(outcome);
            }
            outcomes
        }
    }
}

/// A workflow that metrics of the batch belong to.
struct Target {
    row: WorkflowRow,
    zone: Zone,
    ledger: Ledger,
}

/// The batch while it is judged.
#[derive(Default)]
struct Batch {
    targets: BTreeMap<i64, Target>,
    /// Good metrics, in order; their ids come when all are judged.
    good: Vec<MetricRow>,
    /// Keys of the good ones, by workflow.
    keys: BTreeMap<(i64, String), usize>,
    /// Types of their own that the good ones bring, by workflow.
    new_types: BTreeSet<(i64, String)>,
    /// What the good ones add to totals.
    added: BTreeMap<(i64, String, i64), i64>,
}

/// What a draft becomes.
enum Judged {
    /// One of the good ones, new or the same as an earlier one of the batch.
    Good(usize),
    /// Recorded before.
    Known(MetricRow),
}

async fn record_together(desk: &Desk, drafts: &[Draft]) -> Answer<Vec<Answer<MetricRecorded>>> {
    let (mut tx, _) = desk.begin(Take::default()).await?;
    let now = desk.now();
    let mut batch = Batch::default();
    let mut judged = Vec::with_capacity(drafts.len());
    for draft in drafts {
        match batch.judge(&mut tx, draft, now).await {
            Err(error) if !error.is_callers() => return Err(error),
            outcome => judged.push(outcome),
        }
    }
    let count = i64::try_from(batch.good.len()).unwrap_or(0);
    let ids = sql::take(&mut tx, Take { metric: count, ..Take::default() }).await?;
    for (row, id) in batch.good.iter_mut().zip(ids.metric - count + 1..) {
        row.id = id;
    }
    for row in &batch.good {
        if let Some(target) = batch.targets.get_mut(&row.workflow_id) {
            target.ledger.add(&mut target.row, &target.zone, row.clone());
        }
    }
    let mut changed = Vec::new();
    for target in batch.targets.values_mut().filter(|target| !target.ledger.is_empty()) {
        target.row.updated_at = now.0;
        target.ledger.store(&mut tx, &target.row, now).await?;
        if !sql::save_workflow(&mut tx, &target.row).await? {
            let message = format!("workflow {} was changed meanwhile; ask again", target.row.id);
            return Err(WritingError::WrongState { message });
        }
        changed.push(target.row.id);
    }
    if changed.is_empty() {
        tx.rollback().await?;
    } else {
        committed(tx.commit().await)?;
    }
    for workflow in changed {
        desk.tell(workflow);
    }
    let row = |judged: Judged| match judged {
        Judged::Good(at) => recorded(&batch.good[at]),
        Judged::Known(row) => recorded(&row),
    };
    Ok(judged.into_iter().map(|outcome| outcome.map(row)).collect())
}

fn recorded(row: &MetricRow) -> MetricRecorded {
    MetricRecorded {
        metric_id: row.id,
        recorded_at: time(row.recorded_at),
        metric_value: Hundredths(row.value),
        kind: metric::kind(&row.metric_type),
        known_type: metric::known(&row.metric_type).is_some(),
    }
}

impl Batch {
    async fn judge(&mut self, tx: &mut Tx, draft: &Draft, now: Millis) -> Answer<Judged> {
        let workflow = draft.row.workflow_id;
        if let Entry::Vacant(free) = self.targets.entry(workflow) {
            let row = row(tx, workflow).await?;
            free.insert(Target { zone: zone(&row)?, row, ledger: Ledger::default() });
        }
        if let Some(key) = draft.row.idempotency_key.as_deref()
            && let Some(earlier) = self.earlier(tx, &draft.row, key).await?
        {
            return Ok(earlier);
        }
        let mut row = draft.row.clone();
        if let Some(target) = self.targets.get(&workflow)
            && let Some(book) = row.book
        {
            check_book(&target.row, book)?;
        }
        row.recorded_at = match draft.at {
            None => now.0,
            Some(at) if at.0 > now.0 + WRITING_CLOCK_SKEW_MS => {
                let expected = "a moment that is not in the future";
                return Err(WritingError::invalid("recorded_at", at.rfc3339(), expected));
            }
            // A clock that is a little ahead: nothing is recorded after now.
            Some(at) => at.0.min(now.0),
        };
        if metric::known(&row.metric_type).is_none() {
            self.has_room(tx, workflow, &row.metric_type).await?;
        }
        let total = (workflow, row.metric_type.clone(), row.book.unwrap_or(0));
        if draft.correction && row.value < 0 {
            let stored = sql_metrics::total(tx, workflow, &row.metric_type, total.2).await?;
            let have = stored + self.added.get(&total).copied().unwrap_or(0);
            if have + row.value < 0 {
                let expected = format!("at most {} to be taken back", Hundredths(have).text());
                let given = Hundredths(row.value).text();
                let given = format_args!("{given}");
                return Err(WritingError::invalid("metric_value", given, expected));
            }
        }
        *self.added.entry(total).or_default() += row.value;
        if let Some(key) = &row.idempotency_key {
            self.keys.insert((workflow, key.clone()), self.good.len());
        }
        self.good.push(row);
        Ok(Judged::Good(self.good.len() - 1))
    }

    /// Refuses one type of their own too many.
    async fn has_room(&mut self, tx: &mut Tx, workflow: i64, name: &str) -> Answer<()> {
        let key = (workflow, name.to_owned());
        let (types, found) = sql_metrics::types(tx, workflow, name).await?;
        if found || self.new_types.contains(&key) {
            return Ok(());
        }
        let new = self.new_types.iter().filter(|(owner, _)| *owner == workflow).count();
        if types + i64::try_from(new).unwrap_or(i64::MAX) >= WRITING_TYPES_MAX_COUNT {
            let expected = format!(
                "one of the {WRITING_TYPES_MAX_COUNT} types that this workflow has; what differs \
                 from call to call belongs into context.metadata"
            );
            return Err(WritingError::invalid("metric_type", name, expected));
        }
        self.new_types.insert(key);
        Ok(())
    }

    /// What was recorded under a key, here or before; refused for other arguments.
    async fn earlier(&self, tx: &mut Tx, row: &MetricRow, key: &str) -> Answer<Option<Judged>> {
        let here = self.keys.get(&(row.workflow_id, key.to_owned())).copied();
        let earlier = match here {
            Some(at) => self.good[at].clone(),
            None => match sql_metrics::metric_of_key(tx, row.workflow_id, key).await? {
                Some(stored) => stored,
                None => return Ok(None),
            },
        };
        if earlier.digest != row.digest {
            let (key, metric_id) = (key.to_owned(), earlier.id);
            return Err(WritingError::KeyReused { key, metric_id });
        }
        Ok(Some(here.map_or(Judged::Known(earlier), Judged::Good)))
    }
}

/// Checks the form of a metric.
fn draft(q: RecordMetric) -> Answer<Draft> {
    if !metric::is_name(&q.metric_type) {
        let expected = "a name of letters, digits, '_', '.' and '-' that begins with a letter, at \
                        most 64 characters, as in words_written";
        return Err(WritingError::invalid("metric_type", &q.metric_type, expected));
    }
    metric::check_value(&q.metric_type, q.metric_value, q.correction).map_err(|expected| {
        WritingError::invalid("metric_value", format_args!("{}", q.metric_value.text()), expected)
    })?;
    let context = q.context.unwrap_or_default();
    if let Some(phase) = context.phase_number {
        phase_number("context.phase_number", phase, phase::NOT_STARTED)?;
    }
    if let Some(chapter) = context.chapter_number {
        number("context.chapter_number", chapter, 1..=WRITING_CHAPTERS_MAX_COUNT)?;
    }
    let per_chapter = metric::known(&q.metric_type).is_some_and(|known| known.per_chapter);
    if per_chapter && (context.book_number.is_none() || context.chapter_number.is_none()) {
        let expected = format!("book_number and chapter_number, which {} needs", q.metric_type);
        return Err(WritingError::invalid("context", (), expected));
    }
    let at = q.recorded_at.as_ref().map(|given| {
        let expected = "a moment with its offset from 1970 on, as in 2026-01-31T12:00:00Z";
        // The first figure begins the pace: one of the year 1 by mistake would spoil it for good.
        let at = moment(given).filter(|at| at.0 >= 0);
        at.ok_or_else(|| WritingError::invalid("recorded_at", given, expected))
    });
    let at = at.transpose()?;
    let key = q.idempotency_key.as_deref();
    let key = key.map(|key| text("idempotency_key", key, WRITING_WORD_MAX_CHARS)).transpose()?;
    let metadata = object("context.metadata", context.metadata.as_ref())?;
    let row = MetricRow {
        id: 0,
        workflow_id: q.workflow_id,
        metric_type: q.metric_type,
        value: q.metric_value.0,
        phase: context.phase_number,
        book: context.book_number,
        chapter: context.chapter_number,
        recorded_at: 0,
        digest: None,
        idempotency_key: key,
        metadata,
    };
    let about = context.metadata.map(Value::Object);
    let digest = row.idempotency_key.is_some().then(|| digest(&row, about, q.correction, at));
    Ok(Draft { row: MetricRow { digest, ..row }, correction: q.correction, at })
}

/// A digest of the arguments, in whatever order the metadata came.
fn digest(row: &MetricRow, about: Option<Value>, correction: bool, at: Option<Millis>) -> String {
    let arguments = serde_json::json!([
        row.metric_type,
        row.value,
        row.phase,
        row.book,
        row.chapter,
        about.map(sorted),
        correction,
        at.map(|at| at.0),
    ]);
    let hash = Sha256::digest(to_json(&arguments).as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value with the keys of its objects in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let ordered: BTreeMap<String, Value> =
                object.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

// They cut connections with `db::fault`, which release builds do not have.
#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;
    use crate::changes::Changes;
    use crate::clock::TestClock;
    use crate::db::{Db, fault};
    use crate::writing::WritingDeps;

    async fn desk(folder: &std::path::Path) -> Arc<Desk> {
        let db = Db::open(&format!("sqlite:{}", folder.join("w.db").display())).await.unwrap();
        let clock = Arc::new(TestClock::new(Millis(1_800_000_000_000)));
        db.migrate(&*clock).await.unwrap();
        let rng = Arc::new(crate::ids::TestRng::new(1));
        let config = crate::config::WritingConfig::default();
        Desk::new(WritingDeps { db, clock, rng, changes: Changes::new(), config })
    }

    fn metric(workflow_id: i64, key: Option<&str>) -> Draft {
        let asked = serde_json::json!({
            "workflow_id": workflow_id, "metric_type": "words_written", "metric_value": 1,
            "idempotency_key": key,
        });
        draft(serde_json::from_value(asked).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn after_a_commit_without_answer_only_what_has_a_key_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let desk = desk(folder.path()).await;
        let asked = serde_json::json!({ "series_id": 1, "user_id": 1, "concept": "A lighthouse" });
        let asked = serde_json::from_value(asked).unwrap();
        let id = super::super::phases::create(&desk, asked).await.unwrap().workflow_id;
        let drafts = [metric(id, None), metric(id, Some("once"))];
        let mut unsure = Vec::new();
        for statements in 0.. {
            let (outcomes, cut) = fault::after(statements, record_all(&desk, &drafts)).await;
            if !cut {
                assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
                break;
            }
            let codes: Vec<_> = outcomes
                .iter()
                .map(|o| o.as_ref().map_or_else(WritingError::code, |_| ""))
                .collect();
            if statements == 0 {
                let given_up = WritingError::Db(DbError::Aborted {
                    operation: "record a metric".to_owned(),
                    failed: outcomes[0].as_ref().unwrap_err().to_string(),
                });
                let second = outcomes[1].as_ref().unwrap_err();
                assert_eq!(second.to_string(), given_up.to_string(), "nobody waits once more");
            }
            if codes[0] == "outcome_unknown" {
                unsure.push(codes[1]);
            } else {
                assert_eq!(codes, ["database", "database"]);
            }
        }
        // Only the cut at the commit leaves a doubt; the one with a key was tried again there.
        assert_eq!(unsure, ["database"]);
        let complete = |statements| {
            let output = serde_json::json!({ "summary": "done" });
            let asked = serde_json::json!({ "workflow_id": id, "output": output });
            let asked = serde_json::from_value(asked).unwrap();
            fault::after(statements, super::super::phases::complete(&desk, asked))
        };
        let mut codes = Vec::new();
        for statements in 0.. {
            match complete(statements).await {
                (Err(error), true) => codes.push(error.code()),
                (outcome, cut) => {
                    assert!(!cut && outcome.is_ok(), "{outcome:?}");
                    break;
                }
            }
        }
        let last = codes.pop();
        assert_eq!(last, Some("outcome_unknown"), "to complete again would complete the next one");
        assert!(codes.iter().all(|code| *code == "database"), "{codes:?}");
    }
}
