//! The names in a client's certificate: those that `client_allowed_sans` is compared with, and the one in the log.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// `id-at-commonName`, RFC 5280 appendix A.1.
const COMMON_NAME: &str = "2.5.4.3";
/// Of a name, in the log.
const MAX_NAME: usize = 128;

/// DNS names, e-mail addresses, IP addresses and URIs of its subject, as the toolkit takes them; none for what cannot be read.
pub(super) fn alternative(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let found = certificate.tbs_certificate.get::<SubjectAltName>().ok()?;
    let names = found.map(|(_, names)| names.0).unwrap_or_default();
    Some(names.iter().filter_map(text).collect())
}

fn text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name)
        | GeneralName::Rfc822Name(name)
        | GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            ref bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

fn common(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let parts = certificate.tbs_certificate.subject.0;
    let mut parts = parts.iter().flat_map(|part| part.0.iter());
    let part = parts.find(|part| part.oid.to_string() == COMMON_NAME)?;
    Some(String::from_utf8_lossy(part.value.value()).into_owned()).filter(|name| !name.is_empty())
}

/// What a verified certificate is called: its first alternative name, or its common name, or the beginning of its digest.
pub(in crate::http) fn identity(certificate: &CertificateDer<'_>) -> String {
    let first = alternative(certificate).and_then(|names| names.into_iter().next());
    let name = first.or_else(|| common(certificate)).unwrap_or_else(|| {
        let digest: [u8; 32] = Sha256::digest(certificate).into();
        digest.iter().take(8).fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    });
    name.chars().take(MAX_NAME).collect()
}
