//! Settings: how HTTP is served.

/// How HTTP is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeConfig {
    /// Whether a proxy of the user's stands in front, which has the certificate.
    pub behind_proxy: bool,
}
