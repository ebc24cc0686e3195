//! How HTTP is served.

use super::*;

pub(super) static KEYS: &[Key] = &[
    bool_key!("http.behind_proxy", &["ADWD_HTTP_BEHIND_PROXY"], serve.behind_proxy),
    file_key!("http.tls_cert", &["ADWD_HTTP_TLS_CERT"], serve.tls_cert),
    file_key!("http.tls_key", &["ADWD_HTTP_TLS_KEY"], serve.tls_key),
    list_key!("http.allowed_hosts", &["ADWD_HTTP_ALLOWED_HOSTS"], check_host, serve.allowed_hosts),
];

/// A name or an address as it stands in a `Host` header, with or without a port.
fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_name = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        }
    };
    if is_name && port.is_none_or(|port| port.parse::<u16>().is_ok()) {
        return Ok(());
    }
    Err(format!("{host:?} is not a host: expected NAME or NAME:PORT, without http:// and path"))
}
