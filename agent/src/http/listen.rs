//! Where the agent listens: TCP addresses and Unix sockets, one type for both.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// Waiting connections that the kernel keeps for a Unix socket; TCP's default in tokio is the same.
const BACKLOG: i32 = 1024;

/// What the kernel keeps of an answer that is not read: enough for a scrape's round trip over a slow network.
const SEND_BUFFER: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("listen address {0:?} is neither IP:PORT nor :PORT nor unix:PATH with an absolute path")]
    Address(String),
    #[error("cannot listen on {address}: {source}")]
    Bind { address: ListenAddress, source: io::Error },
    #[error("cannot listen on {0}: another process answers there")]
    InUse(ListenAddress),
    #[error("cannot listen on {0}: the path exists and is no socket")]
    NotASocket(ListenAddress),
}

/// One `--web.listen-address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = HttpError;

    /// `:PORT` is every address of the host, as exporters have it.
    fn from_str(text: &str) -> Result<Self, HttpError> {
        let wrong = || HttpError::Address(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        if let Some(port) = text.strip_prefix(':') {
            let port = port.parse().map_err(|_| wrong())?;
            return Ok(Self::Tcp((Ipv6Addr::UNSPECIFIED, port).into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| wrong())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that listens; a Unix socket's path is removed when this is dropped.
#[derive(Debug)]
pub enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Who is at the other end: an address, or a user of this host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    Unix(u32),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => {
                write!(f, "{}", SocketAddr::new(address.ip().to_canonical(), address.port()))
            }
            Self::Unix(_) => f.write_str("unix"),
        }
    }
}

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Bound {
    pub async fn new(address: &ListenAddress) -> Result<Self, HttpError> {
        let failed = |source| HttpError::Bind { address: address.clone(), source };
        match address {
            ListenAddress::Tcp(tcp) => TcpListener::bind(tcp).await.map(Self::Tcp).map_err(failed),
            ListenAddress::Unix(path) => {
                remove_stale(address, path)?;
                let listener = bind_unix(path).map_err(failed)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// The address in use, with the port that the kernel chose where 0 was asked for.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
            Self::Unix(_, path) => Ok(ListenAddress::Unix(path.clone())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without it the kernel would hold megabytes for each client that does not read.
                // A connection that has gone already ends by itself.
                let _ = sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
                (Box::new(stream), Peer::Tcp(address))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                (Box::new(stream), Peer::Unix(uid))
            }
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Somebody may have removed it already; a path left behind is cleared at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes a socket on which nobody listens any more, and nothing else.
fn remove_stale(address: &ListenAddress, path: &Path) -> Result<(), HttpError> {
    let failed = |source| HttpError::Bind { address: address.clone(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) => metadata,
    };
    if !metadata.file_type().is_socket() {
        return Err(HttpError::NotASocket(address.clone()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
        Ok(_) => Err(HttpError::InUse(address.clone())),
    }
}

/// The mode is set before the bind, which gives the path the socket's own mode (`unix_bind` in the kernel's
/// `net/unix/af_unix.c`): there is no moment in which others could connect.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_read_as_exporters_read_them() {
        for (text, shown) in [
            ("127.0.0.1:10068", "127.0.0.1:10068"),
            ("[::1]:1", "[::1]:1"),
            (":10068", "[::]:10068"),
            ("unix:/run/parachute.sock", "unix:/run/parachute.sock"),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), shown);
        }
        for text in ["", "localhost:1", "127.0.0.1", ":http", ":70000", "unix:", "unix:relative"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
