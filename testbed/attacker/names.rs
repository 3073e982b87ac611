//! Names that look like a tool's rows, and very many of them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use crate::sys::{call, number};

const PR_SET_NAME: i64 = 15;
/// A new line, quotes, an escape sequence, a byte that is not UTF-8: as rows of ss, ps, status files and the exposition
/// format. None of them is a name that a tool would print as it is.
const HOSTILE: [&[u8]; 4] = [
    b"x 1\nLISTEN 0 128 6.6.6.6:666 0.0.0.0:* users:((\"dockerd\",pid=1,fd=3))\n",
    b"quo\"te\" }\n\"forged\": [1, 2]\n",
    b"\x1b]0;title\x07\x1b[2J\nforged{a=\"b\"} 99\n",
    b"\xff\xfe\nThreads:\t99\nS 99 forged\n",
];
/// The same for a process's name, which is 15 bytes at most.
const COMM: [&[u8]; 4] =
    [b"\nThreads:\t99\0", b"\"\n0 \"S\" 9\x1b]\0", b"a) S 0 1 99\n\0", b"\xff\xfe\x1b[2J\n7\0"];

/// A process with each of the names and three sockets, files and abstract names.
pub(crate) fn names() -> io::Result<()> {
    let _tcp: Vec<TcpListener> =
        (7001..7004).map(|port| TcpListener::bind(("127.0.0.1", port))).collect::<io::Result<_>>()?;
    fs::create_dir_all("/names")?;
    let mut sockets = Vec::new();
    let mut children: Vec<Child> = Vec::new();
    for (n, name) in HOSTILE.into_iter().enumerate() {
        sockets.push(UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?);
        // A slash is the one byte that a file's name cannot have.
        let file: Vec<u8> = name.iter().copied().filter(|byte| *byte != b'/').collect();
        File::create(Path::new("/names").join(OsStr::from_bytes(&file)))?;
        let child =
            Command::new("/attacker").arg0(OsStr::from_bytes(name)).args(["name", &n.to_string()]).spawn()?;
        children.push(child);
    }
    rename(COMM[0]);
    println!("ready");
    crate::sleep()
}

/// One of the children.
pub(crate) fn name(number: u16) -> io::Result<()> {
    rename(COMM.get(usize::from(number)).copied().unwrap_or(COMM[0]));
    crate::sleep()
}

fn rename(comm: &[u8]) {
    let _ = call(number::PRCTL, [PR_SET_NAME, comm.as_ptr() as i64, 0, 0, 0]);
}

/// Listens on `count` ports from `first` on.
pub(crate) fn listen(first: u16, count: u16) -> io::Result<()> {
    let _sockets: Vec<TcpListener> =
        (first..first + count).map(|port| TcpListener::bind(("0.0.0.0", port))).collect::<io::Result<_>>()?;
    println!("ready");
    crate::sleep()
}
