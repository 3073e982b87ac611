//! Podman of a user who is not root: the user, whose part of the cgroup tree systemd makes, and the way out of both.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::containerd::random_number;
use crate::engine::{self, Engine, Traces};
use crate::{SubordinateIds, image};

/// How long systemd may take to start or end what it runs for a user.
const DEADLINE: Duration = Duration::from_mins(1);

/// A user with a Podman that has the bed's images. Dropping it removes containers, files and the user.
#[derive(Debug)]
pub struct Rootless {
    user: String,
    uid: u32,
    traces: Traces,
    _ids: SubordinateIds,
}

impl Rootless {
    /// Why there can be none here; `None` where there can.
    pub fn why_not() -> Option<String> {
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            return Some("a user's containers have cgroups of their own on pure cgroup v2 alone".to_owned());
        }
        if !Path::new("/run/systemd/system").is_dir() {
            return Some("users have a part of the cgroup tree under systemd alone".to_owned());
        }
        let wanted = ["podman", "newuidmap", "loginctl", "runuser", "useradd"];
        let missing = wanted.into_iter().find(|name| !engine::found(name))?;
        Some(format!("there is no {missing} in PATH"))
    }

    /// Makes the user and waits for their systemd. `dir` is for what is handed to them. Needs root.
    pub fn start_under(lock: File, dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let user = format!("pt-{:08x}", random_number()?);
        tell("useradd", &["--create-home", "--shell", "/bin/sh", &user])?;
        let traces = Traces::new(dir, "no-bridge".to_owned(), dir.join("no-bundles"), lock);
        let made = SubordinateIds::lend(&user).and_then(|ids| Ok((ids, uid_of(&user)?)));
        let (ids, uid) = made.inspect_err(|_| remove_user(&user))?;
        let bed = Self { user, uid, traces, _ids: ids };
        tell("loginctl", &["enable-linger", &bed.user])?;
        let deadline = Instant::now() + DEADLINE;
        while !Path::new(&bed.runtime_folder()).join("bus").exists() {
            ensure!(
                Instant::now() < deadline,
                "there is no D-Bus of {}'s: is dbus-user-session installed?",
                bed.user
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let archive = dir.join("images.tar");
        image::write_archive(&archive)?;
        bed.load(&archive)?;
        fs::remove_file(&archive)?;
        Ok(bed)
    }

    fn runtime_folder(&self) -> String {
        format!("/run/user/{}", self.uid)
    }
}

impl Engine for Rootless {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn client(&self) -> Command {
        let mut client = engine::patient("runuser");
        let folder = self.runtime_folder();
        client.args(["--user", &self.user, "--", "env", &format!("XDG_RUNTIME_DIR={folder}")]);
        client.arg(format!("DBUS_SESSION_BUS_ADDRESS=unix:path={folder}/bus"));
        client.args(["podman", "--cgroup-manager", "systemd", "--events-backend", "file"]);
        client.current_dir("/").env_remove("CONTAINER_HOST").env_remove("CONTAINERS_CONF");
        client
    }

    fn traces(&self) -> &Traces {
        &self.traces
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        let _ = self.ask(&["rm", "--all", "--force", "--time", "0", "--volumes"]);
        let _ = tell("loginctl", &["disable-linger", &self.user]);
        let _ = tell("loginctl", &["terminate-user", &self.user]);
        let deadline = Instant::now() + DEADLINE;
        while Path::new(&self.runtime_folder()).exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        remove_user(&self.user);
        self.traces.remove();
    }
}

fn remove_user(user: &str) {
    if let Err(error) = tell("userdel", &["--remove", user]) {
        eprintln!("testbed: {error:#}");
    }
}

fn uid_of(user: &str) -> anyhow::Result<u32> {
    let output = Command::new("id").args(["--user", user]).output().context("starting id")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

fn tell(program: &str, words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(words).output().with_context(|| format!("starting {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", words.join(" "), said.trim());
    Ok(())
}
