//! The guard: every request learns here whose it is, before anything else sees it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use crate::auth::Principal;
use crate::config::AccessConfig;

/// What the guard knows.
#[derive(Clone, Debug)]
pub struct Guard {
    access: AccessConfig,
}

impl Guard {
    /// A guard with these settings.
    #[must_use]
    pub fn new(access: AccessConfig) -> Guard {
        Guard { access }
    }
}

/// The routes behind the guard.
pub fn guarded(router: Router, guard: Guard) -> Router {
    router.layer(from_fn_with_state(Arc::new(guard), pass))
}

async fn pass(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Principal::loopback(guard.access.trust_loopback));
    next.run(request).await
}
