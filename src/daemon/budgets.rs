//! What keys may spend by their own word: the runs ask, the keys know.

use std::future::Future;
use std::pin::Pin;

use crate::auth::Access;
use crate::db::DbError;
use crate::runs::OwnBudgets;

/// The day budgets that keys were made with.
pub(super) struct KeyBudgets(pub(super) Access);

impl OwnBudgets for KeyBudgets {
    fn day_cents<'a>(
        &'a self,
        user_id: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Option<i64>, DbError>> + Send + 'a>> {
        Box::pin(async move {
            let Some(id) = user_id.strip_prefix("key:") else { return Ok(None) };
            self.0.day_budget_cents(id).await
        })
    }
}
