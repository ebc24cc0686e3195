//! The handle of keys and credentials: makes, lists, revokes and rotates keys, and tells whose a
//! credential is.
//!
//! A key that was looked up is believed for [`ACCESS_CACHE_MS`], so that calls in a row cost no
//! statement each. What this daemon changes holds at once; what another one that shares the database
//! changes, after that time.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::{AccessError, Denied};
use super::identity::{Identity, ended, of_claims, of_row};
use super::issuer::Issuer;
use super::keys::{
    KEY_PREFIX, KeyText, Pepper, SECRET_BYTES, expiry, is_id, key_tier, remembered_by, span_ms,
};
use super::store::{self, KeyRow};
use super::view::{KeyList, KeyView, NewKey, ShownKey};
use super::{Action, Principal, Tier, jwt, pepper};
use crate::clock::{Clock, Millis};
use crate::config::AccessConfig;
use crate::db::{Db, DbError};
use crate::ids::{ProjectName, Rng};
use crate::limits::{
    ACCESS_CACHE_COUNT, ACCESS_CACHE_MS, ACCESS_DAY_BUDGET_USD, ACCESS_FAILURE_WRITES_PER_S,
    ACCESS_FORGET_MS, ACCESS_GRACE_MS, ACCESS_HOURLY_COUNT, ACCESS_KEYS_COUNT, ACCESS_NAME_CHARS,
    ACCESS_PROJECTS_COUNT, ACCESS_STREAM_CHECK_MS, ACCESS_TOUCH_MS,
};
use crate::telemetry;

/// What the handle is made from.
#[derive(Debug)]
pub struct AccessDeps {
    /// The database.
    pub db: Db,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where secrets come from.
    pub rng: Arc<dyn Rng>,
    /// The state folder, for the pepper.
    pub state_dir: PathBuf,
    /// The settings.
    pub config: AccessConfig,
}

/// Keys and credentials; clones share everything.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deps: AccessDeps,
    pepper: Pepper,
    issuer: Option<Arc<Issuer>>,
    cache: Mutex<Cache>,
    /// Counts what this daemon changed; those who hold streams open listen to it.
    changes: watch::Sender<u64>,
    writes: Mutex<Writes>,
}

/// Keys that are believed, by what was shown.
#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<[u8; SECRET_BYTES], (Arc<KeyRow>, Instant)>,
    /// When the use of a key was last handed on to be written down.
    touched: HashMap<String, Millis>,
}

/// Bad credentials that were written down in the present second, and when old ones were last
/// forgotten.
#[derive(Debug)]
struct Writes {
    second: i64,
    count: u32,
    forgot_at: Millis,
}

impl Access {
    /// Opens it; makes the pepper where there is none.
    ///
    /// # Errors
    /// [`AccessError::Io`] about the pepper; the database's.
    pub async fn open(deps: AccessDeps) -> Result<Access, AccessError> {
        let (rng, now) = (deps.rng.as_ref(), deps.clock.now());
        let pepper = pepper::open(&deps.db, &deps.state_dir, rng, now).await?;
        let issuer = Issuer::new(&deps.config.oauth).map_err(|error| AccessError::Invalid {
            argument: "oauth.issuer",
            problem: telemetry::chain(&error),
        })?;
        Ok(Access(Arc::new(Inner {
            deps,
            pepper,
            issuer: issuer.map(Arc::new),
            cache: Mutex::default(),
            changes: watch::Sender::new(0),
            writes: Mutex::new(Writes { second: 0, count: 0, forgot_at: Millis(0) }),
        })))
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &AccessConfig {
        &self.0.deps.config
    }

    /// Whether any key is good: somebody could call.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_good_keys(&self) -> Result<bool, DbError> {
        Ok(store::count_good(&self.0.deps.db, self.now()).await? > 0)
    }

    /// What the key may spend in a day, in cents, where it was made with a budget of its own.
    ///
    /// # Errors
    /// The database's.
    pub async fn day_budget_cents(&self, id: &str) -> Result<Option<i64>, DbError> {
        let usd = store::key(&self.0.deps.db, id).await?.and_then(|row| row.day_budget_usd);
        // Bounded when the key was made, so it fits.
        #[allow(clippy::cast_possible_truncation, reason = "at most a million dollars")]
        Ok(usd.map(|usd| (usd * 100.0).round() as i64))
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`AccessError::NotAllowed`] above the maker's own tier or by one that is bound to projects;
    /// [`AccessError::Invalid`]; [`AccessError::TooMany`]; the database's.
    pub async fn create(&self, by: &Principal, asked: &NewKey) -> Result<ShownKey, AccessError> {
        may_manage(by)?;
        let now = self.now();
        let (tier, row) = new_row(by, asked, now)?;
        let db = &self.0.deps.db;
        store::forget_keys(db, now).await?;
        let count = store::count_good(db, now).await?;
        if count >= ACCESS_KEYS_COUNT {
            return Err(AccessError::TooMany { count });
        }
        loop {
            let key = KeyText::generate(tier, self.0.deps.rng.as_ref());
            let hash = key.hash(&self.0.pepper);
            let row = KeyRow { id: key.id.clone(), secret_hash: hash, ..row.clone() };
            if store::insert_key(db, &row).await? {
                tracing::info!(key = %row.id, tier = %row.tier, by = %by.user_id, "a key was made");
                return Ok(ShownKey { key: key.shown(), facts: view(&row, now) });
            }
        }
    }

    /// All keys, newest first, without secrets.
    ///
    /// # Errors
    /// [`AccessError::NotAllowed`]; the database's.
    pub async fn list(&self, by: &Principal) -> Result<KeyList, AccessError> {
        may_manage(by)?;
        let now = self.now();
        let rows = store::keys(&self.0.deps.db).await?;
        Ok(KeyList { keys: rows.iter().map(|row| view(row, now)).collect() })
    }

    /// Revokes a key, for good. One that is revoked already is answered as it is.
    ///
    /// # Errors
    /// [`AccessError::NotAllowed`]; [`AccessError::UnknownKey`]; the database's.
    pub async fn revoke(&self, by: &Principal, id: &str) -> Result<KeyView, AccessError> {
        may_manage(by)?;
        let row = self.row(id).await?;
        may_give(by, &row)?;
        let now = self.now();
        if store::revoke(&self.0.deps.db, &row.id, &by.user_id, now).await? {
            tracing::info!(key = %row.id, by = %by.user_id, "a key was revoked");
        }
        self.changed();
        Ok(view(&self.row(id).await?, now))
    }

    /// Gives a key another secret; the present one is good for `grace` more (`24h`), where that is
    /// said.
    ///
    /// # Errors
    /// [`AccessError::NotAllowed`]; [`AccessError::UnknownKey`]; [`AccessError::Ended`];
    /// [`AccessError::Conflict`]; the database's.
    pub async fn rotate(
        &self,
        by: &Principal,
        id: &str,
        grace: Option<&str>,
    ) -> Result<ShownKey, AccessError> {
        may_manage(by)?;
        let row = self.row(id).await?;
        let tier = may_give(by, &row)?;
        let now = self.now();
        if let Some(state) = ended(&row, now) {
            return Err(AccessError::Ended { id: row.id, state });
        }
        let until = grace.map(|grace| {
            let ms = span_ms(grace, ACCESS_GRACE_MS).ok_or(AccessError::Invalid {
                argument: "grace",
                problem: "expected a time such as 24h, at most 30d".to_owned(),
            });
            ms.map(|ms| now.plus_ms(ms))
        });
        let until = until.transpose()?;
        let key = KeyText::of(tier, &row.id).with_new_secret(tier, self.0.deps.rng.as_ref());
        let hash = key.hash(&self.0.pepper);
        if !store::rotate(&self.0.deps.db, &row, &hash, until, now).await? {
            return Err(AccessError::Conflict { id: row.id });
        }
        self.changed();
        tracing::info!(key = %row.id, by = %by.user_id, "a key got another secret");
        Ok(ShownKey { key: key.shown(), facts: view(&self.row(id).await?, now) })
    }

    async fn row(&self, id: &str) -> Result<KeyRow, AccessError> {
        let id = id.trim();
        if !is_id(id) {
            // Perhaps a whole key: it is not repeated.
            let problem = "expected the id of a key, 12 characters such as 3f9a1c2e77b0, as \
                           `adwd key list` shows it; not the key itself";
            return Err(AccessError::Invalid { argument: "id", problem: problem.to_owned() });
        }
        let found = store::key(&self.0.deps.db, id).await?;
        found.ok_or_else(|| AccessError::UnknownKey { id: id.to_owned() })
    }

    /// Whose credential this is. A bad one is counted against the address it came from; once there
    /// were too many, bad ones are answered as [`Denied::Throttled`] and good ones as ever.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn identify(&self, credential: &str, address: &str) -> Result<Identity, Denied> {
        let denied = match self.look(credential).await {
            Ok(identity) => return Ok(identity),
            Err(other @ (Denied::Db(_) | Denied::Issuer | Denied::Scope)) => return Err(other),
            Err(denied) => denied,
        };
        Err(self.count(address).await?.unwrap_or(denied))
    }

    /// Counts what was no credential at all, as [`Access::identify`] does.
    ///
    /// # Errors
    /// [`Denied`], always.
    pub async fn refuse(&self, address: &str) -> Result<Identity, Denied> {
        Err(self.count(address).await?.unwrap_or(Denied::Unknown))
    }

    async fn look(&self, credential: &str) -> Result<Identity, Denied> {
        if credential.starts_with(KEY_PREFIX) {
            return self.look_key(credential).await;
        }
        match &self.0.issuer {
            Some(issuer) if jwt::looks_like_one(credential) => {
                let claims = issuer.check(credential, self.now()).await?;
                of_claims(claims)
            }
            _ => Err(Denied::Unknown),
        }
    }

    async fn look_key(&self, text: &str) -> Result<Identity, Denied> {
        let Some(key) = KeyText::parse(text) else { return Err(Denied::Unknown) };
        let shown = remembered_by(text, &self.0.pepper);
        let row = match self.believed(&shown) {
            Some(row) => row,
            None => {
                let before = *self.0.changes.borrow();
                let row = store::key(&self.0.deps.db, &key.id).await?.ok_or(Denied::Unknown)?;
                let row = Arc::new(row);
                self.check(&row, &key)?;
                self.believe(shown, &row, before);
                row
            }
        };
        // Also what is believed ends in time.
        self.check(&row, &key)?;
        self.touch(&row);
        of_row(&row, key.hash(&self.0.pepper))
    }

    /// Whether this key is that row's, now. What is said of a revoked or ended key is said only to
    /// whoever has its secret.
    fn check(&self, row: &KeyRow, key: &KeyText) -> Result<(), Denied> {
        let (pepper, now) = (&self.0.pepper, self.now());
        let current = key.is(&row.secret_hash, pepper);
        let old = row.old_hash.as_deref().is_some_and(|hash| key.is(hash, pepper));
        if !(current || old) || row.tier != key.tier.as_str() {
            return Err(Denied::Unknown);
        }
        match ended(row, now) {
            Some("revoked") => return Err(Denied::Revoked),
            Some(_) => return Err(Denied::Expired),
            None => {}
        }
        if !current && row.old_until.is_none_or(|until| until <= now) {
            return Err(Denied::Rotated);
        }
        Ok(())
    }

    fn believed(&self, shown: &[u8; SECRET_BYTES]) -> Option<Arc<KeyRow>> {
        let cache = self.cache();
        let (row, at) = cache.entries.get(shown)?;
        (at.elapsed() < Duration::from_millis(ACCESS_CACHE_MS)).then(|| row.clone())
    }

    /// Believes a row that was read while the count of changes was `before`; what was read beside a
    /// change may be from before it.
    fn believe(&self, shown: [u8; SECRET_BYTES], row: &Arc<KeyRow>, before: u64) {
        let mut cache = self.cache();
        if *self.0.changes.borrow() != before {
            return;
        }
        if cache.entries.len() >= ACCESS_CACHE_COUNT {
            cache.entries.clear();
        }
        cache.entries.insert(shown, (row.clone(), Instant::now()));
    }

    fn changed(&self) {
        let mut cache = self.cache();
        self.0.changes.send_modify(|count| *count += 1);
        cache.entries.clear();
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        self.0.deps.clock.now()
    }

    /// Has the use of a key written down, beside the call and at most once a minute.
    fn touch(&self, row: &KeyRow) {
        let now = self.now();
        let is_due = |at: Millis| now.since_ms(at) >= ACCESS_TOUCH_MS;
        {
            let mut cache = self.cache();
            let known = cache.touched.get(&row.id).copied().max(row.last_used_at);
            if !known.is_none_or(is_due) {
                return;
            }
            if cache.touched.len() >= ACCESS_CACHE_COUNT {
                cache.touched.clear();
            }
            cache.touched.insert(row.id.clone(), now);
        }
        let (db, id) = (self.0.deps.db.clone(), row.id.clone());
        tokio::spawn(async move {
            if let Err(error) = store::touch(&db, &id, now).await {
                tracing::warn!(key = %id, %error, "the use of a key cannot be written down");
            }
        });
    }

    /// Counts a bad credential; answers a refusal where the address is shut out.
    async fn count(&self, address: &str) -> Result<Option<Denied>, Denied> {
        let (db, now) = (&self.0.deps.db, self.now());
        let throttled = |until: Millis| Denied::Throttled { retry_after_ms: until.since_ms(now) };
        if let Some(until) = store::blocked_until(db, address, now).await? {
            return Ok(Some(throttled(until)));
        }
        if !self.may_write(now) {
            return Ok(None);
        }
        let until = store::failed(db, address, now).await?;
        if let Some(until) = until {
            let ms = until.since_ms(now);
            tracing::warn!(address, for_ms = ms, "too many bad credentials: shut out");
        }
        // Whoever has many addresses need never be shut out, so it cannot wait for that.
        if self.has_to_forget(now) {
            store::forget_addresses(db, now).await?;
        }
        Ok(until.map(throttled))
    }

    fn has_to_forget(&self, now: Millis) -> bool {
        let mut writes = self.0.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = now.since_ms(writes.forgot_at) >= ACCESS_FORGET_MS;
        if is_time {
            writes.forgot_at = now;
        }
        is_time
    }

    fn may_write(&self, now: Millis) -> bool {
        let mut writes = self.0.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let second = now.0.div_euclid(1_000);
        if writes.second != second {
            (writes.second, writes.count) = (second, 0);
        }
        writes.count += 1;
        writes.count <= ACCESS_FAILURE_WRITES_PER_S
    }

    /// Returns when an identity does not hold any more: for streams that outlive their request.
    pub async fn ended(&self, identity: &Identity) {
        let mut changes = self.0.changes.subscribe();
        loop {
            let now = self.now();
            let left = identity.until.map(|until| until.since_ms(now));
            if left.is_some_and(|ms| ms <= 0) {
                return;
            }
            if let Some(held) = &identity.key {
                match store::key(&self.0.deps.db, &held.id).await {
                    Ok(Some(row)) if held.is_good(&row, now) => {}
                    Ok(_) => return,
                    // The next look will tell.
                    Err(error) => tracing::debug!(%error, "a key cannot be looked up"),
                }
            }
            let left = left.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(u64::MAX);
            let pause = Duration::from_millis(left.min(ACCESS_STREAM_CHECK_MS));
            let _ = tokio::time::timeout(pause, changes.changed()).await;
        }
    }
}

/// Managing keys is for those who may, and who see everything: a key that is bound to projects could
/// make itself one that is not.
fn may_manage(by: &Principal) -> Result<(), AccessError> {
    if by.allows(Action::ManageKeys) {
        return Ok(());
    }
    let (message, hint) = match by.tier.allows(Action::ManageKeys) {
        true => (
            "a key that is bound to projects may not manage keys",
            "use one that is not, or `adwd key` in a shell of the daemon's own user",
        ),
        false => (
            "Admin tier required to manage keys",
            "use a key of that tier, or `adwd key` in a shell of the daemon's own user",
        ),
    };
    Err(AccessError::NotAllowed { message: message.to_owned(), hint })
}

/// The row's tier, where it is not above one's own.
fn may_give(by: &Principal, row: &KeyRow) -> Result<Tier, AccessError> {
    let unreadable = || AccessError::Invalid {
        argument: "tier",
        problem: format!("key {} is stored with an unknown tier", row.id),
    };
    let tier = key_tier(&row.tier).ok_or_else(unreadable)?;
    not_above(by, tier).map(|()| tier)
}

fn not_above(by: &Principal, tier: Tier) -> Result<(), AccessError> {
    if tier <= by.tier {
        return Ok(());
    }
    Err(AccessError::NotAllowed {
        message: format!(
            "{} tier cannot deal with keys of tier {}",
            by.tier.as_str(),
            tier.as_str()
        ),
        hint: "use a key of that tier, or `adwd key` in a shell of the daemon's own user",
    })
}

/// A row without id and secret, out of what was asked.
fn new_row(by: &Principal, asked: &NewKey, now: Millis) -> Result<(Tier, KeyRow), AccessError> {
    let invalid =
        |argument, problem: &str| AccessError::Invalid { argument, problem: problem.to_owned() };
    let word = asked.tier.trim();
    let tier = key_tier(if word == "owner" { "admin" } else { word });
    let tier = tier.ok_or(invalid("tier", "expected free, solo, team, enterprise or admin"))?;
    not_above(by, tier)?;
    let name = asked.name.trim();
    let length = name.chars().count();
    if !(1..=ACCESS_NAME_CHARS).contains(&length) || name.chars().any(char::is_control) {
        return Err(invalid("name", "expected 1 to 100 characters in one line"));
    }
    if name.contains(KEY_PREFIX) {
        return Err(invalid("name", "that looks like a key; give it a name that may be shown"));
    }
    let hourly = asked.hourly.map(|n| {
        let fits = (1..=ACCESS_HOURLY_COUNT).contains(&n);
        fits.then_some(n * 10).ok_or(invalid("hourly", "expected 1 to 1000000000 calls"))
    });
    let day_budget_usd = asked.day_budget_usd.map(|usd| {
        let fits = (0.0..=ACCESS_DAY_BUDGET_USD as f64).contains(&usd);
        fits.then_some(usd).ok_or(invalid("day_budget_usd", "expected 0 to 1000000 dollars"))
    });
    let expires_at = asked.expires.as_deref().map(|text| {
        expiry(text, now).map_err(|problem| AccessError::Invalid { argument: "expires", problem })
    });
    let row = KeyRow {
        id: String::new(),
        name: name.to_owned(),
        tier: tier.as_str().to_owned(),
        projects: project_list(&asked.projects)?,
        hourly_tenths: hourly.transpose()?,
        day_budget_usd: day_budget_usd.transpose()?,
        secret_hash: String::new(),
        old_hash: None,
        old_until: None,
        created_at: now,
        created_by: by.user_id.clone(),
        expires_at: expires_at.transpose()?,
        rotated_at: None,
        revoked_at: None,
        revoked_by: None,
        last_used_at: None,
    };
    Ok((tier, row))
}

fn project_list(names: &[String]) -> Result<Option<String>, AccessError> {
    let invalid = |problem: String| AccessError::Invalid { argument: "projects", problem };
    if names.is_empty() {
        return Ok(None);
    }
    if names.len() > ACCESS_PROJECTS_COUNT {
        return Err(invalid(format!("expected at most {ACCESS_PROJECTS_COUNT} projects")));
    }
    let parsed: Result<BTreeSet<String>, _> =
        names.iter().map(|n| ProjectName::parse(n).map(|n| n.as_str().to_owned())).collect();
    let parsed = parsed.map_err(|error| invalid(error.to_string()))?;
    serde_json::to_string(&parsed).map(Some).map_err(|error| invalid(error.to_string()))
}

fn view(row: &KeyRow, now: Millis) -> KeyView {
    let at = |at: Option<Millis>| at.map(Millis::rfc3339);
    KeyView {
        id: row.id.clone(),
        name: row.name.clone(),
        tier: row.tier.clone(),
        state: ended(row, now).unwrap_or("good").to_owned(),
        projects: row.projects.as_deref().map(|p| serde_json::from_str(p).unwrap_or_default()),
        hourly: row.hourly_tenths.map(|tenths| tenths / 10),
        day_budget_usd: row.day_budget_usd,
        created_at: row.created_at.rfc3339(),
        created_by: row.created_by.clone(),
        expires_at: at(row.expires_at),
        rotated_at: at(row.rotated_at),
        old_secret_until: at(row.old_until.filter(|until| *until > now)),
        revoked_at: at(row.revoked_at),
        revoked_by: row.revoked_by.clone(),
        last_used_at: at(row.last_used_at),
    }
}
