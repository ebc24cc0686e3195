//! How much a caller may ask in an hour.
//!
//! An hour begins with the first call in it. A write costs one call, a read a tenth of one; both are
//! kept as whole tenths. One statement decides ([`spend`]): it begins a new hour or adds to the one
//! that is open, and touches nothing where too little is left. The row of a caller is its one
//! window, in the database, so it survives a restart and holds across the daemons that share one.

use crate::args;
use crate::auth::{Principal, Tier};
use crate::clock::Millis;
use crate::config::RatesConfig;
use crate::db::{Db, DbError, Tx};
use crate::limits::QUOTA_WINDOW_MS;

/// Tenths in one call, as limits are configured and told.
pub const TENTHS: i64 = 10;

/// What a call costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cost {
    /// It reads: a tenth of a call.
    Read,
    /// It changes something: one call.
    Write,
}

impl Cost {
    /// The cost in tenths of a call.
    #[must_use]
    pub fn tenths(self) -> i64 {
        match self {
            Cost::Read => 1,
            Cost::Write => TENTHS,
        }
    }
}

/// What is to be taken from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Whose hour it is.
    pub user_id: String,
    /// What the call costs.
    pub cost: Cost,
    /// What the caller may ask in an hour, in tenths of a call.
    pub limit_tenths: i64,
}

/// Where a caller stands after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it may ask in an hour, in tenths of a call.
    pub limit_tenths: i64,
    /// What is left of that, in tenths.
    pub remaining_tenths: i64,
    /// When the hour ends and all of it is there again.
    pub resets_at: Millis,
    /// When it was so.
    pub now: Millis,
}

impl Standing {
    /// From now to the end of the hour, in ms; at least 1.
    #[must_use]
    pub fn reset_ms(&self) -> i64 {
        self.resets_at.since_ms(self.now).max(1)
    }
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, and is paid for.
    Granted(Standing),
    /// Too little is left; nothing was taken.
    Refused {
        /// Where the caller stands.
        standing: Standing,
        /// How many were refused in this hour, this one included.
        refused: i64,
    },
}

impl Verdict {
    /// Where the caller stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self {
            Verdict::Granted(standing) | Verdict::Refused { standing, .. } => *standing,
        }
    }
}

/// What a principal may ask in an hour, in tenths of a call; `None`: as much as it likes.
///
/// The socket's owner and admins are not limited, nor is loopback without a key: all local
/// programs would share its one hour, and whoever exhausted it would lock out the others.
#[must_use]
pub fn limit_tenths(principal: &Principal, rates: &RatesConfig) -> Option<i64> {
    if let Some(own) = principal.hourly_tenths {
        return (own > 0).then(|| i64::try_from(own).unwrap_or(i64::MAX));
    }
    if principal.user_id == Principal::LOOPBACK {
        return None;
    }
    let calls = match principal.tier {
        Tier::Free => rates.free,
        Tier::Solo => rates.solo,
        Tier::Team => rates.team,
        Tier::Enterprise => rates.enterprise,
        Tier::Admin | Tier::Owner => 0,
    };
    (calls > 0).then(|| i64::from(calls) * TENTHS)
}

/// Whether the stored hour is not the present one: over, or begun so far ahead that the clock must
/// have been set back. Within an hour of each other, the clocks of several daemons agree on it.
const SPEND: &str = "INSERT INTO quotas (user_id, window_start, used_tenths, refused) \
     VALUES ($1, $2, $3, 0) ON CONFLICT (user_id) DO UPDATE SET \
     window_start = CASE WHEN quotas.window_start <= $4 OR quotas.window_start > $5 \
         THEN excluded.window_start ELSE quotas.window_start END, \
     used_tenths = CASE WHEN quotas.window_start <= $4 OR quotas.window_start > $5 \
         THEN excluded.used_tenths ELSE quotas.used_tenths + excluded.used_tenths END, \
     refused = CASE WHEN quotas.window_start <= $4 OR quotas.window_start > $5 \
         THEN 0 ELSE quotas.refused END \
     WHERE quotas.window_start <= $4 OR quotas.window_start > $5 \
         OR quotas.used_tenths + excluded.used_tenths <= $6 \
     RETURNING window_start, used_tenths";

const REFUSE: &str = "INSERT INTO quotas (user_id, window_start, used_tenths, refused) \
     VALUES ($1, $2, 0, 1) ON CONFLICT (user_id) DO UPDATE SET \
     refused = quotas.refused + 1 RETURNING window_start, used_tenths, refused";

/// Takes the cost of a call from its caller's hour, or nothing where too little is left.
///
/// In a transaction that charges several callers, charge them in the order of their names: it
/// holds each one's row until its end.
///
/// # Errors
/// [`DbError`].
pub async fn spend(tx: &mut Tx, charge: &Charge, now: Millis) -> Result<Verdict, DbError> {
    let cost = charge.cost.tenths();
    let standing = |start: i64, used: i64| Standing {
        limit_tenths: charge.limit_tenths,
        remaining_tenths: (charge.limit_tenths - used).max(0),
        resets_at: Millis(start).plus_ms(QUOTA_WINDOW_MS),
        now,
    };
    // A new hour would take it without a look at the limit.
    if cost <= charge.limit_tenths {
        let over = now.plus_ms(-QUOTA_WINDOW_MS);
        let ahead = now.plus_ms(QUOTA_WINDOW_MS);
        let arguments = args![&charge.user_id, now, cost, over, ahead, charge.limit_tenths];
        if let Some((start, used)) = tx.optional::<(i64, i64)>(SPEND, arguments).await? {
            return Ok(Verdict::Granted(standing(start, used)));
        }
    }
    let (start, used, refused) =
        tx.one::<(i64, i64, i64)>(REFUSE, args![&charge.user_id, now]).await?;
    Ok(Verdict::Refused { standing: standing(start, used), refused })
}

/// Forgets hours that ended before `before`.
///
/// # Errors
/// [`DbError`].
pub async fn forget(db: &Db, before: Millis) -> Result<u64, DbError> {
    db.exec("DELETE FROM quotas WHERE window_start < $1", args![before.plus_ms(-QUOTA_WINDOW_MS)])
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Scope, Transport};

    fn key(tier: Tier, hourly_tenths: Option<u64>) -> Principal {
        Principal {
            user_id: "key:k1".to_owned(),
            transport: Transport::Http,
            tier,
            scope: Scope::All,
            hourly_tenths,
        }
    }

    #[test]
    fn each_tier_has_its_limit_and_a_key_may_have_its_own() {
        let rates = RatesConfig::default();
        let of = |tier| limit_tenths(&key(tier, None), &rates);
        assert_eq!(
            Tier::ALL.map(of),
            [Some(1_000), Some(10_000), Some(100_000), Some(1_000_000), None, None]
        );
        assert_eq!(limit_tenths(&key(Tier::Admin, Some(25)), &rates), Some(25));
        assert_eq!(limit_tenths(&key(Tier::Free, Some(0)), &rates), None, "0 is no limit");
        let open = RatesConfig { solo: 0, ..rates.clone() };
        assert_eq!(limit_tenths(&key(Tier::Solo, None), &open), None);
    }

    #[test]
    fn the_socket_and_loopback_without_a_key_are_not_limited() {
        let rates = RatesConfig::default();
        for principal in [Principal::unix(0), Principal::loopback(false), Principal::loopback(true)]
        {
            assert_eq!(limit_tenths(&principal, &rates), None, "{principal:?}");
        }
    }
}
