//! Reads the kernel's table of mounts. Pure: which mounts matter, each reader decides for itself.

use std::path::PathBuf;

/// One line of `/proc/PID/mountinfo`, as far as anybody here asks (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub struct Mount<'a> {
    /// `MAJOR:MINOR`: mounts of one file system have the same.
    pub device: &'a str,
    /// What of its file system is mounted; `/` for all of it.
    pub root: &'a str,
    pub point: PathBuf,
    pub kind: &'a str,
    /// Of the file system, not of the mount: for cgroup v1 its controllers are among them.
    pub options: &'a str,
}

/// Every mount, in the table's order. A line that is not one is passed over.
pub fn mounts(table: &str) -> impl Iterator<Item = Mount<'_>> {
    table.lines().filter_map(|line| {
        // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAGS…] - TYPE SOURCE SUPER_OPTIONS
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let mut filesystem = filesystem.split(' ');
        Some(Mount {
            device: mount.next()?,
            root: mount.next()?,
            point: PathBuf::from(unescape(mount.next()?)),
            kind: filesystem.next()?,
            options: filesystem.nth(1).unwrap_or_default(),
        })
    })
}

/// mountinfo writes blank, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}
