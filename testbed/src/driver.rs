//! How a bed's containerd has its containers made: by which driver in which cgroups, and by which program. The variable
//! `TESTBED_CONTAINERD` says it for all beds of a run, as `systemd crun`; without it they are made as ever, by runc with
//! cgroupfs, which needs no systemd.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fmt};

use anyhow::{Context as _, bail, ensure};

/// For tests on machines that are much slower than a developer's: every deadline of a bed and of a test is so many times as
/// long.
pub fn patience() -> u32 {
    env::var("TESTBED_PATIENCE").ok().and_then(|times| times.parse().ok()).unwrap_or(1).clamp(1, 100)
}

/// Who makes cgroups for pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cgroups {
    #[default]
    Cgroupfs,
    Systemd,
}

impl Cgroups {
    /// Where a kubelet with this driver puts a pod of the burstable class, without the leading `/`.
    pub fn of_pod(self, uid: &str) -> String {
        match self {
            Self::Cgroupfs => format!("kubepods/burstable/pod{uid}"),
            // A dash in a slice's name stands for a slice above it.
            Self::Systemd => format!("kubepods.slice/kubepods-burstable.slice/{}", Self::slice(uid)),
        }
    }

    pub(crate) fn slice(uid: &str) -> String {
        format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"))
    }

    /// The folders above it, the lowest first.
    pub(crate) fn above(self) -> [&'static str; 2] {
        match self {
            Self::Cgroupfs => ["kubepods/burstable", "kubepods"],
            Self::Systemd => ["kubepods.slice/kubepods-burstable.slice", "kubepods.slice"],
        }
    }
}

impl fmt::Display for Cgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        })
    }
}

/// The way a bed's containers are made.
#[derive(Clone, Debug)]
pub struct Driver {
    pub cgroups: Cgroups,
    /// `runc` or `crun`.
    pub program: &'static str,
}

impl Driver {
    pub(crate) fn asked() -> anyhow::Result<Self> {
        Self::of(&env::var("TESTBED_CONTAINERD").unwrap_or_default())
    }

    fn of(words: &str) -> anyhow::Result<Self> {
        let mut driver = Self { cgroups: Cgroups::default(), program: "runc" };
        for word in words.split_whitespace() {
            match word {
                "cgroupfs" => driver.cgroups = Cgroups::Cgroupfs,
                "systemd" => driver.cgroups = Cgroups::Systemd,
                "runc" => driver.program = "runc",
                "crun" => driver.program = "crun",
                _ => bail!("TESTBED_CONTAINERD: {word} is none of cgroupfs, systemd, runc, crun"),
            }
        }
        Ok(driver)
    }

    /// The program's file: containerd 1.6 looks for another one than runc only where it is told to.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|folder| folder.join(self.program))
            .find(|file| file.is_file())
            .with_context(|| format!("{} is not installed", self.program))
    }

    /// What it says of its version, such as `1.1.5`.
    pub fn version(&self) -> anyhow::Result<String> {
        version_of(self.program)
    }
}

/// The version that a program tells in the first line of `--version`: the first word of it that begins with a digit, without
/// what a distribution adds.
pub(crate) fn version_of(program: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("starting {program}"))?;
    ensure!(output.status.success(), "{program} --version: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.split([' ', ',']).map(|word| word.trim_start_matches('v'));
    let word = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    let word = word.with_context(|| format!("{program} tells no version in {line:?}"))?;
    Ok(word.split(['~', '+', '-']).next().unwrap_or(word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_a_driver_and_others_are_mistakes() {
        let driver = Driver::of("systemd crun").unwrap();
        assert_eq!((driver.cgroups, driver.program), (Cgroups::Systemd, "crun"));
        let driver = Driver::of("").unwrap();
        assert_eq!((driver.cgroups, driver.program), (Cgroups::Cgroupfs, "runc"));
        assert!(Driver::of("kata").unwrap_err().to_string().contains("kata"));
    }

    #[test]
    fn a_pods_uid_is_in_its_cgroups_path_as_each_driver_writes_it() {
        let uid = "1-2-3";
        assert_eq!(Cgroups::Cgroupfs.of_pod(uid), "kubepods/burstable/pod1-2-3");
        assert_eq!(
            Cgroups::Systemd.of_pod(uid),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2_3.slice"
        );
    }
}
