//! Settings: who may call over HTTP.

/// Who may call over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Whether a caller on loopback without a key may do what the team tier may.
    pub trust_loopback: bool,
    /// Whether a caller on loopback without a key is refused altogether.
    pub require_key: bool,
}
