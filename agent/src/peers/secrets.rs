//! The token that peers are shown, and the authority by which they are known. Both are read anew for each round, so that a
//! change needs no reload; whoever could change them could have the token sent to himself, so that they must be root's.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use hyper::header::HeaderValue;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::PeersError;
use crate::config::Peers;

/// A bundle of some hundred authorities is smaller.
const MAX_BYTES: u64 = 1 << 20;
/// As the web configuration has it.
const SHORTEST: usize = 16;

/// What a round of requests needs.
pub(super) struct Secrets {
    /// The whole value of `Authorization`.
    pub(super) authorization: HeaderValue,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Secrets {
    /// Looks at the disk.
    pub(super) fn read(settings: &Peers) -> Result<Self, PeersError> {
        let path = &settings.token_file;
        let text = String::from_utf8_lossy(&file(path, 0o077)?).into_owned();
        let token = text.lines().next().unwrap_or_default().trim();
        if token.len() < SHORTEST {
            return Err(PeersError::Token(path.clone()));
        }
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| PeersError::Token(path.clone()))?;
        authorization.set_sensitive(true);
        let tls = settings.ca_file.as_deref().map(tls).transpose()?;
        Ok(Self { authorization, tls })
    }
}

/// A file that is root's, and with which others may not do what is in `forbidden`.
fn file(path: &Path, forbidden: u32) -> Result<Vec<u8>, PeersError> {
    let failed = |source| PeersError::Read { path: path.to_owned(), source };
    // A pipe at this path would otherwise be waited for.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let about = opened.metadata().map_err(failed)?;
    if !about.is_file() || about.uid() != 0 || about.mode() & (forbidden | 0o022) != 0 {
        return Err(PeersError::Careless(path.to_owned()));
    }
    let mut bytes = Vec::new();
    opened.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn tls(path: &Path) -> Result<Arc<ClientConfig>, PeersError> {
    let wrong = |why: String| PeersError::Authority { path: path.to_owned(), why };
    let pem = file(path, 0)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(format!("it is no PEM: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it holds no certificate in PEM".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
