//! Subordinate ids for a user (subuid(5)): what engines map the users of a container's own user namespace to.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};

const FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
/// Far above those that distributions hand out; enough for a dozen containers.
const RANGE: &str = "1000000000:1048576";

/// Ids that a user has as long as this lives. What somebody else has given the user stays, and is used instead.
#[derive(Debug)]
pub struct SubordinateIds {
    line: Option<String>,
    /// Who was made for them.
    user: Option<String>,
}

impl SubordinateIds {
    /// A user is made where there is neither one nor a group of that name: shadow 4.20 finds ids of nobody else.
    pub fn lend(user: &str) -> anyhow::Result<Self> {
        let start = format!("{user}:");
        let has = |file: &str| {
            fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.starts_with(&start)))
        };
        if FILES.into_iter().all(has) {
            return Ok(Self { line: None, user: None });
        }
        let is_known = ["/etc/passwd", "/etc/group"].into_iter().any(has);
        if !is_known {
            let mut useradd = Command::new("useradd");
            let made = useradd.args(["--system", "--no-create-home", user]).status().context("useradd")?;
            ensure!(made.success(), "useradd {user}: {made}");
        }
        let line = format!("{start}{RANGE}\n");
        let lent = Self { line: Some(line.clone()), user: (!is_known).then(|| user.to_owned()) };
        for file in FILES {
            let text = fs::read_to_string(file).unwrap_or_default();
            fs::write(file, text + &line).with_context(|| format!("writing {file}"))?;
        }
        Ok(lent)
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
        if let Some(user) = &self.user {
            let gone = Command::new("userdel").arg(user).status();
            if !gone.as_ref().is_ok_and(std::process::ExitStatus::success) {
                eprintln!("testbed: removing the user {user}: {gone:?}");
            }
        }
    }
}
