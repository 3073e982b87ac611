//! `launcher.sock`: whoever may open it, which is root, gets the template mount namespace, so that `parachute exec` need
//! not build one at a cost that grows with the host's mounts. Nothing is read from it and nothing can be asked there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
    sockopt,
};

use super::super::protocol::{receive, send};
use super::template::Template;

/// Name of the socket in the agent's run directory.
const NAME: &str = "launcher.sock";
/// Persons who ask at the same moment; more of them build their own template.
const BACKLOG: i32 = 64;
/// A launcher that is stopped or busy is not waited for: building a template oneself takes milliseconds.
const ASK_DEADLINE: Duration = Duration::from_millis(250);

/// The listening socket; its path goes with it.
#[derive(Debug)]
pub(super) struct Handout {
    socket: OwnedFd,
    path: PathBuf,
    /// Of the path, to know it again.
    inode: Option<u64>,
}

impl Handout {
    /// Listens in the agent's run directory, which the agent has made and holds alone.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let path = folder.join(NAME);
        // Left behind by a launcher that was killed: the agent has made sure that no other serves this folder.
        let _ = std::fs::remove_file(&path);
        let socket = bound(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let inode = inode(&path);
        Ok(Self { socket, path, inode })
    }

    pub(super) fn watched(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Answers everybody who is waiting.
    pub(super) fn serve(&self, template: &Template) {
        while let Ok(asker) = accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            // Who has left in the meantime needs none.
            let _ = send(asker.as_fd(), &NAME, &[template.namespace(), template.root()]);
        }
    }
}

impl Drop for Handout {
    fn drop(&mut self) {
        // The agent may have been killed and started again, and this be its successor's.
        if inode(&self.path) == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|about| about.ino())
}

fn bound(path: &Path) -> rustix::io::Result<OwnedFd> {
    let socket = socket()?;
    // Before the bind, which gives the path the socket's own mode (`unix_bind` in net/unix/af_unix.c).
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// The template of the agent that serves `folder`; none if there is no agent, or it does not answer at once.
pub(in crate::enter) fn ask(folder: &Path) -> Option<Template> {
    let socket = socket().ok()?;
    connect(&socket, &SocketAddrUnix::new(folder.join(NAME)).ok()?).ok()?;
    rustix::io::ioctl_fionbio(&socket, false).ok()?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ASK_DEADLINE)).ok()?;
    let (_, fds) = receive::<String>(socket.as_fd()).ok()??;
    let [namespace, root] = <[OwnedFd; 2]>::try_from(fds).ok()?;
    Some(Template::received(namespace, root))
}
