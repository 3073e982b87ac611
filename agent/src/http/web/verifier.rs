//! Whether a client's certificate is good enough, by Go's five kinds of client authentication.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::names;

/// Of a certificate that was given.
#[derive(Debug)]
pub(super) enum Trust {
    /// Any will do; that the client has its key is checked all the same.
    Any,
    /// One of `client_ca`'s.
    Chain(Arc<dyn ClientCertVerifier>),
    /// None: there is no authority to trust.
    Nobody,
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Trust,
    /// Whether there must be one.
    pub(super) mandatory: bool,
    /// `client_allowed_sans`; one of the certificate's names must be among them.
    pub(super) names: Option<Vec<String>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.trust {
            Trust::Chain(chain) => chain.root_hint_subjects(),
            Trust::Any | Trust::Nobody => &[],
        }
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &self.trust {
            Trust::Any => {}
            Trust::Chain(chain) => _ = chain.verify_client_cert(certificate, between, now)?,
            Trust::Nobody => return Err(CertificateError::UnknownIssuer.into()),
        }
        let Some(allowed) = &self.names else { return Ok(ClientCertVerified::assertion()) };
        let names = names::alternative(certificate).ok_or(CertificateError::BadEncoding)?;
        if names.iter().any(|name| allowed.contains(name)) {
            return Ok(ClientCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
