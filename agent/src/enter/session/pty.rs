//! A pseudo-terminal in a devpts of its own: it is `pts/0` in there, and no other terminal of the host can be seen or
//! reached from it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use rustix::pty::{ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::User;

#[derive(Debug)]
pub(super) struct Pty {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
    /// The devpts as a detached mount, which ends with its last descriptor.
    pub(super) devpts: OwnedFd,
}

/// Adds the call's name to its error.
fn at<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> (&'static str, io::Error) {
    move |source| (call, source.into())
}

/// Opens one of this size, which belongs to the user that the command will be.
pub(super) fn open(size: Winsize, user: Option<&User>) -> Result<Pty, (&'static str, io::Error)> {
    let kind = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("fsopen(devpts)"))?;
    // As a host's own devpts is mounted: group 5 is `tty` on every distribution.
    for (key, value) in [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")] {
        fsconfig_set_string(&kind, key, value).map_err(at("fsconfig(devpts)"))?;
    }
    fsconfig_create(&kind).map_err(at("fsconfig(devpts)"))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let devpts = fsmount(&kind, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(at("fsmount(devpts)"))?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(&devpts, "ptmx", flags, Mode::empty()).map_err(at("opening ptmx"))?;
    unlockpt(&master).map_err(at("unlockpt"))?;
    let path = ptsname(&master, Vec::new()).map_err(at("ptsname"))?;
    let name = path.to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or_default();
    let slave = openat(&devpts, name, flags, Mode::empty()).map_err(at("opening the pseudo-terminal"))?;
    if let Some(user) = user {
        fchown(&slave, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(5))).map_err(at("fchown"))?;
    }
    tcsetwinsize(&slave, size).map_err(at("setting the window size"))?;
    Ok(Pty { master, slave, devpts })
}
