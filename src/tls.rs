//! The cryptography that TLS uses, everywhere in the program.

/// Makes ring the process's provider of cryptography, for every client and server of TLS that is
/// made afterwards. Twice is as good as once.
pub fn install() {
    // An error says that there is one already: ours, from an earlier call.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
