//! How HTTP is served.

use super::*;

pub(super) static KEYS: &[Key] =
    &[bool_key!("http.behind_proxy", &["ADWD_HTTP_BEHIND_PROXY"], serve.behind_proxy)];
