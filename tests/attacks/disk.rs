//! A disk of the host's for the tests that lead somebody to one.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::Rig;

/// A block device of the host's, with a text all over it; it goes when this is dropped.
pub(super) struct Disk {
    pub(super) device: String,
}

impl Disk {
    pub(super) fn new(rig: &Rig, text: &str) -> Self {
        let file = rig.path("disk");
        fs::write(&file, text.repeat(1 << 16)).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let disk = Self { device: String::from_utf8(made.stdout).unwrap().trim().to_owned() };
        assert!(fs::read(&disk.device).unwrap().starts_with(text.as_bytes()), "the host can read it");
        disk
    }

    /// MAJOR:MINOR, as the kernel has it.
    pub(super) fn number(&self) -> String {
        let name = Path::new(&self.device).file_name().unwrap().to_string_lossy();
        fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap().trim().to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        assert!(Command::new("losetup").args(["--detach", &self.device]).status().unwrap().success());
    }
}
