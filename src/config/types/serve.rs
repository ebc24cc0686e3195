//! Settings: how HTTP is served.

use std::path::PathBuf;

/// How HTTP is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeConfig {
    /// Whether a proxy of the user's stands in front, which has the certificate.
    pub behind_proxy: bool,
    /// PEM file of the certificate and its chain.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its private key.
    pub tls_key: Option<PathBuf>,
    /// Names (`adw.example`, `adw.example:8443`) under which the daemon may be addressed, beside
    /// those of this machine for itself.
    pub allowed_hosts: Vec<String>,
}
