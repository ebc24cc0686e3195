//! Who somebody is by what they showed, and for how long.

use std::sync::Arc;

use super::error::Denied;
use super::keys::key_tier;
use super::store::KeyRow;
use super::{Principal, Scope, Transport, jwt};
use crate::clock::Millis;

/// Who a credential is, and how long that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Who it is.
    pub principal: Principal,
    /// When it ends; none: when it is revoked.
    pub until: Option<Millis>,
    /// The key, where it is one.
    pub key: Option<HeldKey>,
}

/// Which key was shown, and which of its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldKey {
    pub(super) id: String,
    secret_hash: String,
}

impl HeldKey {
    /// Whether this secret of the key is good: the present one, or the one before within its time.
    pub(super) fn is_good(&self, row: &KeyRow, now: Millis) -> bool {
        let is_old = row.old_hash.as_ref() == Some(&self.secret_hash);
        let old_is_good = is_old && row.old_until.is_some_and(|until| until > now);
        ended(row, now).is_none() && (row.secret_hash == self.secret_hash || old_is_good)
    }
}

/// How a key ended, where it has.
pub(super) fn ended(row: &KeyRow, now: Millis) -> Option<&'static str> {
    if row.revoked_at.is_some() {
        return Some("revoked");
    }
    row.expires_at.is_some_and(|at| at <= now).then_some("expired")
}

/// Whom a key stands for, shown with the secret of that hash.
///
/// # Errors
/// [`Denied`] where its tier is not one that keys have.
pub(super) fn of_row(row: &KeyRow, secret_hash: String) -> Result<Identity, Denied> {
    let tier = key_tier(&row.tier).ok_or(Denied::Unknown)?;
    let scope = match row.projects.as_deref() {
        None => Scope::All,
        // What cannot be read binds to nothing, not to everything.
        Some(names) => Scope::Projects(Arc::new(serde_json::from_str(names).unwrap_or_default())),
    };
    let principal = Principal {
        user_id: format!("key:{}", row.id),
        transport: Transport::Http,
        tier,
        scope,
        hourly_tenths: row.hourly_tenths.and_then(|tenths| u64::try_from(tenths).ok()),
    };
    let key = HeldKey { id: row.id.clone(), secret_hash };
    Ok(Identity { principal, until: row.expires_at, key: Some(key) })
}

/// Whom a token stands for.
///
/// # Errors
/// [`Denied::Scope`].
pub(super) fn of_claims(claims: jwt::Claims) -> Result<Identity, Denied> {
    let principal = Principal {
        user_id: format!("oauth:{}", claims.subject),
        transport: Transport::Http,
        tier: claims.tier.ok_or(Denied::Scope)?,
        scope: claims.scope,
        hourly_tenths: None,
    };
    Ok(Identity { principal, until: Some(claims.expires_at), key: None })
}
