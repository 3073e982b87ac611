//! An authority of the tests' own, and what it signs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType, date_time_ymd,
};

pub(in crate::http) struct Authority {
    pub(in crate::http) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub(in crate::http) struct Identity {
    pub(in crate::http) certificate: String,
    pub(in crate::http) key: String,
}

impl Authority {
    pub(in crate::http) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(in crate::http) fn server(&self) -> Identity {
        self.sign("server", vec![SanType::DnsName("localhost".try_into().unwrap())], false)
    }

    pub(in crate::http) fn client(&self, common: &str, names: Vec<SanType>) -> Identity {
        self.sign(common, names, false)
    }

    pub(in crate::http) fn expired(&self) -> Identity {
        self.sign("expired", Vec::new(), true)
    }

    fn sign(&self, common: &str, names: Vec<SanType>, expired: bool) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if !common.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.subject_alt_names = names;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

/// A folder with `server.crt`, `server.key` and `ca.pem`, and room for more.
pub(in crate::http) struct Folder {
    pub(in crate::http) folder: tempfile::TempDir,
    pub(in crate::http) authority: Authority,
}

impl Folder {
    pub(in crate::http) fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("test authority"));
        let this = Self { folder, authority };
        this.write("ca.pem", &this.authority.pem, 0o644);
        this.install(&this.authority.server());
        this
    }

    pub(in crate::http) fn install(&self, server: &Identity) {
        self.write("server.crt", &server.certificate, 0o644);
        self.write("server.key", &server.key, 0o600);
    }

    pub(in crate::http) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file in the place of another one, as a rotation does.
    pub(in crate::http) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let (path, next) = (self.path(name), self.path("next"));
        fs::write(&next, text).unwrap();
        set_mode(&next, mode);
        fs::rename(&next, &path).unwrap();
        path
    }
}

pub(in crate::http) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
