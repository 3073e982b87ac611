//! Subordinate ids for a user (subuid(5)): what engines map the users of a container's own user namespace to.

use std::fs;

use anyhow::Context as _;

const FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
/// Far above those that distributions hand out; enough for a dozen containers.
const RANGE: &str = "1000000000:1048576";

/// Ids that a user has as long as this lives. What somebody else has given the user stays, and is used instead.
#[derive(Debug)]
pub struct SubordinateIds {
    line: Option<String>,
}

impl SubordinateIds {
    pub fn lend(user: &str) -> anyhow::Result<Self> {
        let start = format!("{user}:");
        let has = |file: &str| {
            fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.starts_with(&start)))
        };
        if FILES.into_iter().all(has) {
            return Ok(Self { line: None });
        }
        let line = format!("{start}{RANGE}\n");
        for file in FILES {
            let text = fs::read_to_string(file).unwrap_or_default();
            fs::write(file, text + &line).with_context(|| format!("writing {file}"))?;
        }
        Ok(Self { line: Some(line) })
    }
}

impl Drop for SubordinateIds {
    fn drop(&mut self) {
        let Some(line) = &self.line else { return };
        for file in FILES {
            let text = fs::read_to_string(file).unwrap_or_default();
            if let Err(error) = fs::write(file, text.replace(line.as_str(), "")) {
                eprintln!("testbed: cleaning up {file}: {error}");
            }
        }
    }
}
