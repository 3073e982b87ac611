//! From a file to a `Config`, or to every mistake in it.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::error::{ConfigError, Found, Mistakes, Place};
use super::host::{self, Host};
use super::raw::RawConfig;
use super::{Config, check, include, root, yaml};

/// No configuration that a person wrote comes near it, in bytes.
const LARGEST: u64 = 1 << 20;

/// Reads and checks the file at `path`. As root it refuses a file that others can write: they could run anything.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let failed = |source: io::Error| ConfigError::Read { path: path.to_owned(), source };
    let not_text = |what| ConfigError::NotText { path: path.to_owned(), what };
    // Without O_NONBLOCK a FIFO would be waited for, not refused.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(not_text("not a regular file"));
    }
    if rustix::process::geteuid().is_root() {
        trusted(meta.uid(), meta.mode())
            .map_err(|why| ConfigError::Untrusted { path: path.to_owned(), why })?;
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(not_text("too large"));
    }
    let text = String::from_utf8(bytes).map_err(|_| not_text("not UTF-8"))?;
    Ok(from_str(&text, path)?)
}

fn trusted(owner: u32, mode: u32) -> Result<(), String> {
    if owner != 0 {
        return Err(format!("owned by uid {owner}"));
    }
    if mode & 0o022 != 0 {
        return Err(format!("writable by its group or by others (mode {:04o})", mode & 0o7777));
    }
    Ok(())
}

/// Checks `text`, looking for its programs on this host. `file` is only named in the mistakes.
pub fn from_str(text: &str, file: &Path) -> Result<Config, Mistakes> {
    from_str_on(text, file, &Host { look: &root::look, node: &host::node_name() })
}

pub(super) fn from_str_on(text: &str, file: &Path, host: &Host<'_>) -> Result<Config, Mistakes> {
    let found = Found::default();
    let config = read(text, host, &found);
    match config {
        Some(config) if found.is_empty() => Ok(config),
        _ => Err(Mistakes::new(file, found.into_vec())),
    }
}

fn read(text: &str, host: &Host<'_>, found: &Found) -> Option<Config> {
    if yaml::is_empty(text) {
        let start = Place { line: 1, column: 1, field: "".into() };
        found.add(&start, "the file is empty; declare at least one probe under `probes:`");
        return None;
    }
    let root = yaml::parse(text).map_err(|(place, message)| found.add(&place, message)).ok()?;
    let raw: RawConfig = yaml::read::read(&root, text, found)?;
    Some(check::check(&raw, include::digest(text.as_bytes()), host, found))
}

/// The grammar as a JSON schema, for editors: `parachute.schema.json`, which a test holds to the types.
pub fn json_schema() -> String {
    // The program has it without the blanks before each line.
    let lines = include_str!(concat!(env!("OUT_DIR"), "/parachute.schema.json")).lines();
    let mut depth = 0_usize;
    let indented = lines.map(|line| {
        depth -= usize::from(line.starts_with(['}', ']']));
        let indented = format!("{:1$}{line}\n", "", 2 * depth);
        depth += usize::from(line.ends_with(['{', '[']));
        indented
    });
    indented.collect()
}

/// What that file must hold. What makes it is left out of the program, where it took 0.2 MB.
#[cfg(test)]
pub(super) fn made_schema() -> String {
    let schema = schemars::schema_for!(RawConfig);
    format!("{:#}\n", schema.as_value())
}
