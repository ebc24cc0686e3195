//! Who may call over HTTP.

use super::*;

pub(super) static KEYS: &[Key] = &[
    bool_key!("http.trust_loopback", &["ADWD_HTTP_TRUST_LOOPBACK"], access.trust_loopback),
    bool_key!("http.require_key", &["ADWD_HTTP_REQUIRE_KEY"], access.require_key),
];
