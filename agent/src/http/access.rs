//! Who may ask what over TCP. A Unix socket is its file system's to guard; a TCP port, on a loopback address as well, can be
//! reached by every process in the host's network namespace, which includes containers with `hostNetwork`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hyper::Request;
use warp::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use warp::http::{HeaderValue, Method, StatusCode};
use warp::reply::{Reply as _, Response};

/// A token that could be guessed protects nothing.
const SHORTEST: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("cannot read the token file {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("the token file {0} can be read or changed by others than root; chown root {0} && chmod 600 {0}")]
    Shared(String),
    #[error("the token in {0} has fewer than {SHORTEST} characters; make one with: openssl rand -hex 32")]
    Short(String),
}

/// What a request over TCP needs.
#[derive(Clone, Debug)]
pub enum Access {
    /// Nothing but health and readiness without `Authorization: Bearer TOKEN` (RFC 6750).
    Token(Token),
    /// Everything can be read; nothing can be started.
    ReadOnly,
    /// Everybody may do everything.
    Open,
}

/// A secret; it is not shown.
#[derive(Clone)]
pub struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads it from the first line of a file that root alone can read.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let shown = path.display().to_string();
        let read = |source| AccessError::Read { path: shown.clone(), source };
        let about = fs::metadata(path).map_err(read)?;
        if about.uid() != 0 || about.mode() & 0o077 != 0 {
            return Err(AccessError::Shared(shown));
        }
        let text = fs::read_to_string(path).map_err(read)?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.len() < SHORTEST {
            return Err(AccessError::Short(shown));
        }
        Ok(Self(token.as_bytes().to_vec()))
    }

    /// Takes as long whatever the two have in common, so that the time tells nothing (but their lengths).
    fn is(&self, given: &[u8]) -> bool {
        let differences = self.0.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
        self.0.len() == given.len() && std::hint::black_box(differences) == 0
    }
}

impl Access {
    /// The answer for a request that may not be made.
    pub(super) fn refuses<B>(&self, request: &Request<B>) -> Option<Response> {
        let is_health = matches!(request.uri().path(), "/-/healthy" | "/-/ready");
        match self {
            Self::Open => None,
            Self::ReadOnly if *request.method() != Method::POST => None,
            Self::ReadOnly => Some(refusal(
                StatusCode::FORBIDDEN,
                "nothing can be started over TCP without a token: start the agent with --web.token-file, or ask at its \
                 Unix socket, as with curl --unix-socket /run/parachute/agent.sock",
            )),
            Self::Token(_) if is_health => None,
            Self::Token(token) => {
                let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
                let bearer = given.and_then(|given| given.strip_prefix(b"Bearer "));
                if bearer.is_some_and(|given| token.is(given)) {
                    return None;
                }
                let mut response = refusal(
                    StatusCode::UNAUTHORIZED,
                    "the token is missing or wrong: Authorization: Bearer TOKEN",
                );
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                Some(response)
            }
        }
    }
}

fn refusal(status: StatusCode, reason: &str) -> Response {
    let body = serde_json::json!({ "error": reason });
    warp::reply::with_status(warp::reply::json(&body), status).into_response()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123";

    fn status(access: &Access, method: &str, path: &str, header: Option<&str>) -> Option<u16> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        access.refuses(&request.body(()).unwrap()).map(|response| response.status().as_u16())
    }

    #[test]
    fn each_request_needs_what_the_flags_say() {
        let token = Access::Token(Token(SECRET.into()));
        let bearer = format!("Bearer {SECRET}");
        let longer = format!("{bearer}0");
        for (access, method, path, header, refused) in [
            (&token, "GET", "/metrics", Some(bearer.as_str()), None),
            (&token, "POST", "/api/v1/run", Some(bearer.as_str()), None),
            (&token, "GET", "/-/ready", None, None),
            (&token, "GET", "/metrics", None, Some(401)),
            (&token, "GET", "/", None, Some(401)),
            (&token, "GET", "/api/v1/containers", Some(SECRET), Some(401)),
            (&token, "POST", "/api/v1/run", Some(longer.as_str()), Some(401)),
            (&token, "POST", "/-/reload", Some("Bearer "), Some(401)),
            (&token, "POST", "/api/v1/run", Some("Basic Og=="), Some(401)),
            (&Access::ReadOnly, "GET", "/metrics", None, None),
            (&Access::ReadOnly, "POST", "/api/v1/run", None, Some(403)),
            (&Access::ReadOnly, "POST", "/-/reload", Some(bearer.as_str()), Some(403)),
            (&Access::Open, "POST", "/api/v1/run", None, None),
        ] {
            assert_eq!(
                status(access, method, path, header),
                refused,
                "{access:?} {method} {path} {header:?}"
            );
        }
    }

    #[test]
    fn a_token_file_is_roots_alone_and_long_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (text, mode, good) in [
            (SECRET, 0o600, true),
            (SECRET, 0o400, true),
            (SECRET, 0o640, false),
            ("short\n", 0o600, false),
            ("", 0o600, false),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Token::read(&path).is_ok(), good, "{text:?} {mode:o}");
        }
        assert!(Token::read(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
        assert_eq!(format!("{:?}", Token(SECRET.into())), "Token");
    }
}
