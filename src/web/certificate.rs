//! The certificate that the daemon shows: read at the start, and again when its files change.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::limits::HTTP_PEM_BYTES;
use crate::tls;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{key}: cannot read {}: {source}", path.display())]
    Read {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{key}: {} {problem}", path.display())]
    Content {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        problem: String,
    },
    /// Each is in order, but not with the other.
    #[error(
        "http.tls_cert and http.tls_key do not go together ({source}): {} must begin with the certificate of the key in {}",
        cert.display(), key.display()
    )]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
}

/// What tells one state of a file from another.
type Stamp = (i64, i64, u64, u64);

/// A certificate and its key, in two PEM files.
#[derive(Debug)]
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    /// The files as they were when last read, whether they could be used or not.
    seen: [Option<Stamp>; 2],
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Certificate {
    /// Reads both files. A key that others may read is used, and warned of.
    pub fn open(cert: PathBuf, key: PathBuf) -> Result<Certificate, CertificateError> {
        let seen = [stamp(&cert), stamp(&key)];
        let config = read(&cert, &key)?;
        Ok(Certificate { cert, key, seen, current: watch::Sender::new(config) })
    }

    /// What new connections are served with.
    pub(super) fn current(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    /// Reads the files again where they have changed. What cannot be used is logged, once for each
    /// state of the files, and the last good certificate stays. Whether it is another one now.
    pub fn look(&mut self) -> bool {
        let now = [stamp(&self.cert), stamp(&self.key)];
        if now == self.seen {
            return false;
        }
        self.seen = now;
        let file = self.cert.display();
        match read(&self.cert, &self.key) {
            Ok(config) => {
                self.current.send_replace(config);
                tracing::info!(%file, "the certificate was renewed");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the renewed certificate cannot be used; the last one stays");
                false
            }
        }
    }

    /// Looks every `period` until `ct`.
    pub(super) async fn follow(mut self, period: Duration, ct: CancellationToken) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = ct.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(certificate) => self = certificate,
                Err(error) => {
                    tracing::error!(%error, "the certificate is no longer looked at");
                    return;
                }
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta: Metadata = std::fs::metadata(path).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.ino(), meta.size()))
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
    tls::install();
    let chain = chain(cert)?;
    let private = private_key(key)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|source| CertificateError::Pair { cert: cert.into(), key: key.into(), source })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let key = "http.tls_cert";
    let content = |problem| CertificateError::Content { key, path: path.into(), problem };
    let (text, _) = contents(key, path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| content(format!("is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(content("holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let key = "http.tls_key";
    let (text, meta) = contents(key, path)?;
    if meta.mode() & 0o077 != 0 {
        let (file, mode) = (path.display(), format!("{:03o}", meta.mode() & 0o777));
        tracing::warn!(%file, %mode, "others may read the private key; chmod 600 it");
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let problem = match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                "holds no private key in PEM (-----BEGIN PRIVATE KEY-----); one with a passphrase \
                 must be decrypted first"
                    .to_owned()
            }
            other => format!("is no PEM: {other}"),
        };
        CertificateError::Content { key, path: path.into(), problem }
    })
}

fn contents(key: &'static str, path: &Path) -> Result<(Vec<u8>, Metadata), CertificateError> {
    let failed = |source| CertificateError::Read { key, path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let mut text = Vec::new();
    file.take(HTTP_PEM_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > HTTP_PEM_BYTES {
        let problem = format!("has more than {HTTP_PEM_BYTES} bytes");
        return Err(CertificateError::Content { key, path: path.into(), problem });
    }
    Ok((text, meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(folder: &Path) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (cert, key)
    }

    fn refusal(cert: &Path, key: &Path) -> String {
        Certificate::open(cert.into(), key.into()).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_file_and_reason() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = made(dir.path());
        let absent = dir.path().join("absent.pem");
        assert!(refusal(&absent, &key).contains("absent.pem: No such file"));
        assert!(refusal(&cert, &absent).starts_with("http.tls_key: cannot read"));
        assert!(refusal(&key, &key).contains("key.pem holds no certificate"));
        assert!(refusal(&cert, &cert).contains("cert.pem holds no private key"));
        assert!(refusal(&cert, dir.path()).contains("http.tls_key: cannot read"));
        let torn = dir.path().join("torn.pem");
        std::fs::write(&torn, "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
        assert!(refusal(&torn, &key).contains("torn.pem"));
        std::fs::write(&torn, vec![b'x'; HTTP_PEM_BYTES as usize + 1]).unwrap();
        assert!(refusal(&torn, &key).contains("more than 1048576 bytes"));
        let other = tempfile::tempdir().unwrap();
        let error = refusal(&cert, &made(other.path()).1);
        assert!(error.contains("do not go together"), "{error}");
    }

    #[test]
    fn a_renewed_pair_is_taken_and_half_of_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = made(dir.path());
        let mut certificate = Certificate::open(cert.clone(), key.clone()).unwrap();
        let mut current = certificate.current();
        assert!(!certificate.look());
        let other = tempfile::tempdir().unwrap();
        let (new_cert, new_key) = made(other.path());
        std::fs::rename(new_cert, &cert).unwrap();
        assert!(!certificate.look(), "the key is still the old one's");
        assert!(!current.has_changed().unwrap());
        std::fs::rename(new_key, &key).unwrap();
        assert!(certificate.look());
        assert!(current.has_changed().unwrap());
        current.mark_unchanged();
        std::fs::remove_file(&cert).unwrap();
        assert!(!certificate.look());
        assert!(!certificate.look());
    }
}
