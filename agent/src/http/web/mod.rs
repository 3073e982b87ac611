//! The web configuration file: TLS, users, tokens, headers and a limit, read and checked as a whole. It is read anew when one of
//! its files has changed, looked at with each new connection, and what is wrong is not taken.

mod check;
mod file;
mod names;
mod raw;
mod tls;
mod users;
mod verifier;

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use warp::http::{HeaderName, HeaderValue};

pub(super) use self::file::Files;
pub(super) use self::names::identity;
pub(super) use self::tls::Tls;
pub(super) use self::users::{Busy, Users, Work};
use super::roles::Roles;

/// A token that could be guessed protects nothing.
const SHORTEST: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{0} is no regular file of at most 1 MiB")]
    NoFile(String),
    #[error("{0} is no UTF-8 text")]
    NoText(String),
    #[error("{0} can be changed by others than root; chown root {0} && chmod go-w {0}")]
    Writable(String),
    #[error(
        "{0} holds a secret and can be read or changed by others than root; chown root {0} && chmod 600 {0}"
    )]
    Shared(String),
    #[error("the token in {0} has fewer than {SHORTEST} characters; make one with: openssl rand -hex 32")]
    Short(String),
    #[error("{path}: {message}")]
    Wrong { path: String, message: String },
    #[error(
        "nobody would have to authenticate, and {0} is no loopback address: name users, tokens or RequireAndVerifyClientCert \
         in a --web.config.file or a token in a --web.token-file, or give --web.allow-unauthenticated to let everybody who \
         can connect do everything"
    )]
    Unauthenticated(String),
    #[error(
        "--web.allow-unauthenticated contradicts the users, tokens or client certificates that are asked for"
    )]
    Contradiction,
}

/// Where the two files are that say who may ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    /// `--web.config.file`.
    pub(super) config: Option<PathBuf>,
    /// `--web.token-file`.
    pub(super) token: Option<PathBuf>,
}

/// What they say.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) tls: Option<Tls>,
    pub(super) users: Users,
    tokens: Vec<Bearer>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) rate: Option<Bucket>,
}

/// A bearer token: only its digest is kept.
#[derive(Debug)]
struct Bearer {
    name: String,
    roles: Roles,
    digest: [u8; 32],
}

impl Loaded {
    /// Reads all; `files` holds what was read, also when something was wrong.
    pub(super) fn read(paths: &Paths, files: &mut Files) -> Result<Self, WebError> {
        // The token first, so that it is among `files` whatever is wrong with the others.
        let token = paths.token.as_deref().map(|path| token(path, files)).transpose()?;
        let mut loaded = match &paths.config {
            Some(path) => check::read(path, files)?,
            None => Self::default(),
        };
        if let Some(token) = token {
            let digest = digest(token.as_bytes());
            loaded.tokens.push(Bearer { name: "token-file".to_owned(), roles: Roles::ALL, digest });
        }
        Ok(loaded)
    }

    /// Whether nobody is let in without a name. Not with TLS alone, nor with certificates that are only asked for.
    pub(super) fn authenticates(&self) -> bool {
        self.has_secrets() || self.tls.as_ref().is_some_and(|tls| tls.requires_verified)
    }

    /// Whether there are users or tokens: then a certificate alone is not enough, as in the toolkit.
    pub(super) fn has_secrets(&self) -> bool {
        !self.users.is_empty() || self.has_tokens()
    }

    pub(super) fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Name and roles of a token. All are compared, each in the same time, so that the time tells nothing of any.
    pub(super) fn token(&self, given: &[u8]) -> Option<(&str, Roles)> {
        let given = digest(given);
        let mut found = None;
        for bearer in &self.tokens {
            let same: Choice = bearer.digest.ct_eq(&given);
            if same.into() {
                found = Some((bearer.name.as_str(), bearer.roles));
            }
        }
        found
    }
}

fn digest(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// The first line of a file that root alone can read.
fn token(path: &Path, files: &mut Files) -> Result<String, WebError> {
    let text = files.text(path, file::Care::Secret)?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < SHORTEST {
        return Err(WebError::Short(path.display().to_string()));
    }
    Ok(token.to_owned())
}

/// `rate_limit`: a token bucket, as the toolkit has it.
#[derive(Debug)]
pub(super) struct Bucket {
    interval: Duration,
    burst: f64,
    /// How many requests may come, and when that was so.
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new(interval: Duration, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { interval, burst, level: Mutex::new((burst, Instant::now())) }
    }

    /// Takes one out; false if there is none.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let Ok(mut level) = self.level.lock() else { return false };
        let passed = now.saturating_duration_since(level.1).as_secs_f64();
        let there = (level.0 + passed / self.interval.as_secs_f64()).min(self.burst);
        let allowed = there >= 1.0;
        *level = (if allowed { there - 1.0 } else { there }, now.max(level.1));
        allowed
    }
}
