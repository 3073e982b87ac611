//! Who may ask what over TCP. A Unix socket is its file system's to guard; a TCP port, on a loopback address as well, can be
//! reached by every process in the host's network namespace, which includes containers with `hostNetwork`.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use base64::Engine as _;
use hyper::HeaderMap;
use prometheus::IntGauge;
use warp::http::HeaderValue;
use warp::http::header::AUTHORIZATION;

use super::ListenAddress;
use super::asker::Asker;
use super::roles::Roles;
pub use super::web::WebError;
use super::web::{Busy, Files, Loaded, Paths, Work};

/// Says who is who; cheap to clone.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: Paths,
    /// `--web.allow-unauthenticated`.
    open: bool,
    /// Set where the addresses demand that nobody is let in without a name: then no file can take that away.
    must_authenticate: AtomicBool,
    loaded: ArcSwap<Loaded>,
    /// What was read last, rightly or not.
    files: Mutex<Files>,
    reading: tokio::sync::Mutex<()>,
    work: Work,
}

/// Why somebody is not let in.
#[derive(Debug)]
pub(super) enum Stranger {
    /// No name, or one that is not proven.
    Unknown,
    /// Too many passwords are being compared.
    Busy,
}

impl Access {
    /// Reads the files that the flags name.
    pub fn new(
        config: Option<&Path>,
        token: Option<&Path>,
        allow_unauthenticated: bool,
    ) -> Result<Self, WebError> {
        let paths = Paths { config: config.map(Path::to_owned), token: token.map(Path::to_owned) };
        let mut files = Files::default();
        let loaded = Loaded::read(&paths, &mut files)?;
        if allow_unauthenticated && loaded.authenticates() {
            return Err(WebError::Contradiction);
        }
        Ok(Self(Arc::new(Inner {
            paths,
            open: allow_unauthenticated,
            must_authenticate: AtomicBool::new(false),
            loaded: ArcSwap::from_pointee(loaded),
            files: Mutex::new(files),
            reading: tokio::sync::Mutex::default(),
            work: Work::default(),
        })))
    }

    /// Refuses to listen where others than this host can connect and nobody would have to say who he is.
    pub fn suits(&self, addresses: &[ListenAddress]) -> Result<(), WebError> {
        let far = addresses.iter().find(|address| match address {
            ListenAddress::Tcp(address) => !is_loopback(address.ip()),
            ListenAddress::Unix(_) => false,
        });
        let Some(far) = far.filter(|_| !self.0.open) else { return Ok(()) };
        if !self.0.loaded.load().authenticates() {
            return Err(WebError::Unauthenticated(far.to_string()));
        }
        self.0.must_authenticate.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What the files say now. Where they have changed they are read first; what is wrong with them is logged once, and the old
    /// content stays in use. `good` is set to whether the last reading went well.
    pub(super) async fn current(&self, good: &IntGauge) -> Arc<Loaded> {
        let changed = self.0.files.lock().is_ok_and(|files| files.changed());
        // Who comes meanwhile is not kept waiting.
        if changed && let Ok(_one) = self.0.reading.try_lock() {
            let (mut files, paths) = (Files::default(), self.0.paths.clone());
            let read = tokio::task::spawn_blocking(move || (Loaded::read(&paths, &mut files), files)).await;
            if let Ok((read, files)) = read {
                if let Ok(mut known) = self.0.files.lock() {
                    *known = files;
                }
                self.take(read, good);
            }
        }
        self.0.loaded.load_full()
    }

    fn take(&self, read: Result<Loaded, WebError>, good: &IntGauge) {
        let needs_names = self.0.must_authenticate.load(Ordering::Relaxed);
        let read = read.and_then(|loaded| match (needs_names, self.0.open, loaded.authenticates()) {
            (true, _, false) => Err(WebError::Unauthenticated("one of --web.listen-address".to_owned())),
            (_, true, true) => Err(WebError::Contradiction),
            _ => Ok(loaded),
        });
        good.set(read.is_ok().into());
        match read {
            Ok(loaded) => {
                self.0.loaded.store(Arc::new(loaded));
                tracing::info!("the web configuration was read anew");
            }
            Err(error) => tracing::error!(%error, "the old web configuration stays in use"),
        }
    }

    /// Who sends these headers. `certificate` is the name in a client certificate that was verified.
    pub(super) async fn asker(
        &self,
        loaded: &Loaded,
        headers: &HeaderMap,
        certificate: Option<&str>,
        address: &str,
    ) -> Result<Asker, Stranger> {
        let asker = |name: String, roles| Ok(Asker { name, roles, address: address.to_owned() });
        if !loaded.has_secrets() {
            return match certificate {
                Some(name) => asker(format!("cert:{name}"), Roles::ALL),
                None if self.0.open => asker("anonymous".to_owned(), Roles::ALL),
                // A certificate that is only asked for: who has none is nobody.
                None if loaded.authenticates() => Err(Stranger::Unknown),
                None => asker("anonymous".to_owned(), Roles::READ),
            };
        }
        let mut given = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let (Some(given), None) = (given.next(), given.next()) else { return Err(Stranger::Unknown) };
        let Some((scheme, credentials)) = split(given, b' ') else { return Err(Stranger::Unknown) };
        if scheme.eq_ignore_ascii_case(b"Bearer") {
            let (name, roles) = loaded.token(credentials.trim_ascii()).ok_or(Stranger::Unknown)?;
            return asker(format!("token:{name}"), roles);
        }
        if !scheme.eq_ignore_ascii_case(b"Basic") {
            return Err(Stranger::Unknown);
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(credentials.trim_ascii());
        let decoded = decoded.map_err(|_| Stranger::Unknown)?;
        let (name, password) = split(&decoded, b':').ok_or(Stranger::Unknown)?;
        let name = std::str::from_utf8(name).map_err(|_| Stranger::Unknown)?;
        match loaded.users.roles(name, password, &self.0.work).await {
            Ok(Some(roles)) => asker(format!("user:{name}"), roles),
            Ok(None) => Err(Stranger::Unknown),
            Err(Busy) => Err(Stranger::Busy),
        }
    }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
