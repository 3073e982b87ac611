//! `tls_server_config`, with Go's names for what Go has and rustls has, too; what rustls lacks is refused by its name.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::WebError;
use super::check::beside;
use super::file::{Care, Files};
use super::raw::RawTls;
use super::verifier::{Trust, Verifier};

/// Go's names (`crypto/tls`, `CurveID`) of what the provider has.
fn curves() -> [(&'static str, &'static dyn SupportedKxGroup); 3] {
    [
        ("CurveP256", ring::kx_group::SECP256R1),
        ("CurveP384", ring::kx_group::SECP384R1),
        ("X25519", ring::kx_group::X25519),
    ]
}

/// A listener's TLS.
#[derive(Debug)]
pub(in crate::http) struct Tls {
    /// With `h2` offered, or not.
    pub(in crate::http) config: Arc<ServerConfig>,
    /// Whether a certificate that a client gives is verified against an authority, so that its name means something.
    pub(in crate::http) verifies: bool,
    /// Whether nobody comes in without one.
    pub(in crate::http) requires_verified: bool,
}

fn wrong(field: &str, message: impl Into<String>) -> WebError {
    WebError::Wrong { path: format!("tls_server_config.{field}"), message: message.into() }
}

/// None for no TLS: no section, or an empty one.
pub(super) fn read(
    raw: Option<RawTls>,
    folder: &Path,
    files: &mut Files,
    http2: bool,
) -> Result<Option<Tls>, WebError> {
    let Some(raw) = raw.filter(|raw| *raw != RawTls::default()) else { return Ok(None) };
    let mut read = |name: &str, inline: &Option<String>, file: &Option<String>, care| {
        let inline = inline.as_ref().filter(|text| !text.is_empty());
        match (inline, file.as_ref().filter(|path| !path.is_empty())) {
            (Some(_), Some(_)) => Err(wrong(name, format!("excludes {name}_file; leave one out"))),
            (Some(text), None) => Ok(Some(text.clone().into_bytes())),
            (None, Some(path)) => files
                .read(&beside(folder, path), care)
                .map(Some)
                .map_err(|error| wrong(&format!("{name}_file"), error.to_string())),
            (None, None) => Ok(None),
        }
    };
    let chain = read("cert", &raw.cert, &raw.cert_file, Care::Public)?
        .ok_or_else(|| wrong("cert_file", "TLS needs cert_file or cert"))?;
    let key = read("key", &raw.key, &raw.key_file, Care::Secret)?
        .ok_or_else(|| wrong("key_file", "TLS needs key_file or key"))?;
    let authorities = read("client_ca", &raw.client_ca, &raw.client_ca_file, Care::Public)?;

    let chain = certificates(&chain).map_err(|reason| wrong("cert_file", reason))?;
    let key =
        PrivateKeyDer::from_pem_slice(&key).map_err(|_| wrong("key_file", "holds no private key in PEM"))?;
    let provider = Arc::new(provider(&raw)?);
    let versions = versions(&raw)?;
    let (verifier, verifies, requires_verified) = verifier(&raw, authorities.as_deref(), &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| wrong("cipher_suites", error.to_string()))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::new(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong("key_file", format!("does not go with the certificate: {error}")))?;
    config.ignore_client_order = raw.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { Vec::new() };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    // No session is taken up again: a client is verified each time, by what the files say now.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Some(Tls { config: Arc::new(config), verifies, requires_verified }))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("is no PEM: {error}"))?;
    if all.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(all) }
}

/// Go's list is of the suites up to TLS 1.2; those of 1.3 cannot be chosen, there as here.
fn provider(raw: &RawTls) -> Result<CryptoProvider, WebError> {
    let mut provider = ring::default_provider();
    if let Some(names) = raw.cipher_suites.as_ref().filter(|names| !names.is_empty()) {
        let is_13 = |suite: &SupportedCipherSuite| suite.version().version == ProtocolVersion::TLSv1_3;
        let all = provider.cipher_suites;
        let mut chosen: Vec<_> = all.iter().copied().filter(is_13).collect();
        for name in names {
            let Some(suite) = all.iter().find(|suite| go_name(suite) == *name) else {
                let known = all.iter().map(go_name).collect::<Vec<_>>().join(", ");
                return Err(wrong("cipher_suites", format!("{name} is not offered; there are {known}")));
            };
            if !chosen.contains(suite) {
                chosen.push(*suite);
            }
        }
        provider.cipher_suites = chosen;
    }
    if let Some(names) = raw.curve_preferences.as_ref().filter(|names| !names.is_empty()) {
        provider.kx_groups = Vec::new();
        for name in names {
            let Some((_, curve)) = curves().into_iter().find(|(known, _)| known == name) else {
                let known = curves().map(|(known, _)| known).join(", ");
                return Err(wrong("curve_preferences", format!("{name} is not offered; there are {known}")));
            };
            provider.kx_groups.push(curve);
        }
    }
    Ok(provider)
}

/// rustls and Go have the same names, but for the beginning of those of TLS 1.3.
fn go_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or(name.clone(), |rest| format!("TLS_{rest}"))
}

fn versions(raw: &RawTls) -> Result<Vec<&'static SupportedProtocolVersion>, WebError> {
    let version = |field: &str, name: &Option<String>, default: u16| match name.as_deref() {
        None => Ok(default),
        Some("TLS12") => Ok(12),
        Some("TLS13") => Ok(13),
        Some(old @ ("TLS10" | "TLS11")) => {
            Err(wrong(field, format!("{old} is not offered; there are TLS12, TLS13")))
        }
        Some(other) => Err(wrong(field, format!("{other:?} is no version of TLS; there are TLS12, TLS13"))),
    };
    let lowest = version("min_version", &raw.min_version, 12)?;
    let highest = version("max_version", &raw.max_version, 13)?;
    if lowest > highest {
        return Err(wrong("min_version", "is above max_version"));
    }
    let all = [(12, &TLS12), (13, &TLS13)];
    Ok(all
        .into_iter()
        .filter(|(number, _)| (lowest..=highest).contains(number))
        .map(|(_, version)| version)
        .collect())
}

/// The verifier, whether it verifies, and whether there must be a certificate that it verified.
fn verifier(
    raw: &RawTls,
    authorities: Option<&[u8]>,
    provider: &Arc<CryptoProvider>,
) -> Result<(Option<Verifier>, bool, bool), WebError> {
    let kind = raw.client_auth_type.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("NoClientCert");
    // Asked for, must be there, must be an authority's.
    let (asks, mandatory, verifies) = match kind {
        "NoClientCert" => (false, false, false),
        "RequestClientCert" => (true, false, false),
        // The second is an old name of the toolkit's for the first.
        "RequireAnyClientCert" | "RequireClientCert" => (true, true, false),
        "VerifyClientCertIfGiven" => (true, false, true),
        "RequireAndVerifyClientCert" => (true, true, true),
        other => {
            let known = "NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert";
            return Err(wrong("client_auth_type", format!("{other:?} is not known; there are {known}")));
        }
    };
    let names = raw.client_allowed_sans.clone().filter(|names| !names.is_empty());
    if names.is_some() && !mandatory {
        return Err(wrong(
            "client_allowed_sans",
            "needs client_auth_type RequireAnyClientCert or RequireAndVerifyClientCert: others let clients without a certificate in",
        ));
    }
    if authorities.is_some() && !asks {
        return Err(wrong("client_auth_type", "must be set where there is a client_ca or client_ca_file"));
    }
    if !asks {
        return Ok((None, false, false));
    }
    let trust = match authorities {
        _ if !verifies => Trust::Any,
        Some(pem) => Trust::Chain(chain(pem, provider).map_err(|reason| wrong("client_ca_file", reason))?),
        None if mandatory => {
            return Err(wrong(
                "client_auth_type",
                "RequireAndVerifyClientCert needs client_ca_file or client_ca: the system's authorities are not asked",
            ));
        }
        None => Trust::Nobody,
    };
    let algorithms = provider.signature_verification_algorithms;
    Ok((Some(Verifier { trust, mandatory, names, algorithms }), verifies, verifies && mandatory))
}

fn chain(
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("holds a certificate that cannot be an authority: {error}"))?;
    }
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    built.map_err(|error| error.to_string())
}
