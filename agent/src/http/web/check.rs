//! From what is written to what is used: every value of the web configuration file checked, and each mistake named by its field.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_saphyr::DuplicateKeyPolicy;
use warp::http::{HeaderName, HeaderValue};

use super::file::{Care, Files};
use super::raw::{RawRate, RawToken, RawWeb, Scalar};
use super::users::Users;
use super::{Bearer, Bucket, Loaded, WebError, tls, token};
use crate::http::roles::Roles;

/// The headers that may be set, each with the values that it may have; none means any. As in the toolkit's `web/handler.go`.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

pub(super) fn read(path: &Path, files: &mut Files) -> Result<Loaded, WebError> {
    let text = files.text(path, Care::Public)?;
    let wrong = |message| WebError::Wrong { path: path.display().to_string(), message };
    let raw = parse(&text).map_err(wrong)?;
    let inline =
        raw.tls_server_config.as_ref().is_some_and(|tls| tls.key.as_ref().is_some_and(|key| !key.is_empty()));
    if inline && !Files::is_private(path) {
        return Err(WebError::Shared(path.display().to_string()));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let http = raw.http_server_config.unwrap_or_default();
    let http2 = http.http2.unwrap_or(true);
    let tls = tls::read(raw.tls_server_config, folder, files, http2).map_err(|error| in_file(path, error))?;
    let users = users(raw.basic_auth_users.unwrap_or_default(), &raw.user_roles.unwrap_or_default())
        .map_err(wrong)?;
    let tokens = raw.bearer_tokens.unwrap_or_default().into_iter();
    let tokens = tokens
        .map(|(name, token)| bearer(&name, &token, folder, files).map_err(|error| in_file(path, error)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Loaded {
        tls,
        users,
        tokens,
        headers: headers(http.headers.unwrap_or_default()).map_err(wrong)?,
        rate: rate(&raw.rate_limit.unwrap_or_default()),
    })
}

fn parse(text: &str) -> Result<RawWeb, String> {
    if text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---") {
        return Ok(RawWeb::default());
    }
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        with_snippet: false,
        // A file of some hundred users; these stop one that is built to explode.
        budget: serde_saphyr::budget! { max_depth: 16, max_nodes: 20_000, max_events: 100_000, max_aliases: 100, max_documents: 1 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let text = error.without_snippet().to_string();
        let first = text.lines().next().unwrap_or_default().trim();
        let first = first.strip_prefix("error: ").unwrap_or(first);
        // What the library says to programmers.
        first.replace(", set DuplicateKeyPolicy in Options if acceptable", "").replace(
            "budget breached: Documents { documents: 2 }",
            "a second document starts here; a web configuration is one document,",
        )
    })
}

/// A mistake that was found in another file, or at a field, with the name of the one that leads to it.
fn in_file(path: &Path, error: WebError) -> WebError {
    let message = match error {
        WebError::Wrong { path: field, message } => format!("{field}: {message}"),
        other => other.to_string(),
    };
    WebError::Wrong { path: path.display().to_string(), message }
}

/// As the toolkit has it: from the folder of the web configuration file.
pub(super) fn beside(folder: &Path, path: &str) -> PathBuf {
    folder.join(path)
}

fn roles(field: &str, names: &[String]) -> Result<Roles, String> {
    if names.is_empty() {
        return Err(format!("{field}: needs at least one of read, view, trigger"));
    }
    names.iter().try_fold(Roles::NONE, |all, name| match Roles::named(name) {
        Some(role) => Ok(all.and(role)),
        None => Err(format!("{field}: {name:?} is no role; there are read, view, trigger")),
    })
}

fn users(
    hashes: BTreeMap<String, String>,
    with_roles: &BTreeMap<String, Vec<String>>,
) -> Result<Users, String> {
    if let Some(stranger) = with_roles.keys().find(|name| !hashes.contains_key(*name)) {
        return Err(format!("user_roles.{stranger}: there is no such user in basic_auth_users"));
    }
    let mut users = Users::default();
    for (name, hash) in hashes {
        let roles = match with_roles.get(&name) {
            Some(names) => roles(&format!("user_roles.{name}"), names)?,
            None => Roles::ALL,
        };
        users.add(&name, hash, roles).map_err(|reason| format!("basic_auth_users.{name}: {reason}"))?;
    }
    Ok(users)
}

fn bearer(name: &str, raw: &RawToken, folder: &Path, files: &mut Files) -> Result<Bearer, WebError> {
    let field = format!("bearer_tokens.{name}");
    let wrong = |message: String| WebError::Wrong { path: field.clone(), message };
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(wrong(
            "a token's name is made of letters, digits, dots, dashes and underscores".to_owned(),
        ));
    }
    let roles = roles("roles", &raw.roles).map_err(wrong)?;
    let digest = match (&raw.sha256, &raw.file) {
        (Some(hex), None) => digest_of(hex).ok_or_else(|| {
            wrong("sha256: must be 64 hexadecimal digits; make them with: sha256sum".to_owned())
        })?,
        (None, Some(path)) => {
            let token =
                token(&beside(folder, path), files).map_err(|error| wrong(format!("file: {error}")))?;
            super::digest(token.as_bytes())
        }
        _ => return Err(wrong("needs either sha256 or file".to_owned())),
    };
    Ok(Bearer { name: name.to_owned(), roles, digest })
}

fn digest_of(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

fn headers(raw: BTreeMap<String, Scalar>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (name, Scalar(value)) in raw {
        let field = format!("http_server_config.headers.{name}");
        let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| *known == name) else {
            let known = HEADERS.map(|(known, _)| known).join(", ");
            return Err(format!("{field}: cannot be configured; there are {known}"));
        };
        if value.is_empty() {
            // "Unset if blank", says the toolkit's page.
            continue;
        }
        if !allowed.is_empty() && !allowed.contains(&value.as_str()) {
            return Err(format!("{field}: {value:?} is none of {}", allowed.join(", ")));
        }
        let value = HeaderValue::from_str(&value)
            .map_err(|_| format!("{field}: {value:?} is no value of a header"))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| format!("{field}: {error}"))?;
        headers.push((name, value));
    }
    Ok(headers)
}

/// An interval of 0 is no limit; a burst of 0 lets nothing through. Both as in the toolkit.
fn rate(raw: &RawRate) -> Option<Bucket> {
    let interval = raw.interval.map(|interval| interval.0).filter(|interval| !interval.is_zero())?;
    Some(Bucket::new(interval, raw.burst.unwrap_or(0)))
}
