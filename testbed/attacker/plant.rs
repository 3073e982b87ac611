//! Traps: what a container can leave where a host's program may look.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::sys::{self, call, number};

const CLONE_NEWPID: i64 = 0x2000_0000;
const PR_SET_NAME: i64 = 15;

/// Lies about the container's processes: with files of its own, or with those of another pid namespace.
pub(crate) fn proc(foreign: bool) -> io::Result<()> {
    let failed = |errno: i32| io::Error::from_raw_os_error(errno);
    if foreign {
        if std::env::var_os("INNER").is_some() {
            sys::mount("proc", "/proc", "proc").map_err(failed)?;
            println!("ready");
            sleep();
        }
        call(number::UNSHARE, [CLONE_NEWPID, 0, 0, 0, 0]).map_err(failed)?;
        let mut inner = Command::new("/attacker").args(["proc", "foreign"]).env("INNER", "1").spawn()?;
        inner.wait()?;
        return Ok(());
    }
    sys::mount("tmpfs", "/proc", "tmpfs").map_err(failed)?;
    fs::create_dir_all("/proc/1/ns")?;
    fs::write("/proc/1/ns/pid", "")?;
    fs::write("/proc/1/comm", "forged\n")?;
    fs::write("/proc/1/stat", "1 (forged) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0\n")?;
    fs::write("/proc/1/status", "Name:\tforged\nPid:\t1\n")?;
    println!("ready");
    sleep()
}

pub(crate) fn plant() -> io::Result<()> {
    symlink("/root/hostsecret", "/absolute")?;
    symlink("../../../../../../etc/shadow", "/upwards")?;
    symlink("/circle", "/circle")?;
    sys::make_pipe("/pipe").map_err(io::Error::from_raw_os_error)?;
    fs::File::create("/sparse")?.set_len(1 << 40)?;
    // One that changes its mind while somebody looks.
    thread::spawn(|| {
        loop {
            for target in ["/absolute", "/attacker"] {
                let _ = fs::remove_file("/swapped.new");
                let _ = symlink(target, "/swapped.new");
                let _ = fs::rename("/swapped.new", "/swapped");
            }
        }
    });
    sleep()
}

/// A resolver in the container's network namespace, where the host's own has its address.
pub(crate) fn resolve() -> io::Result<()> {
    let sockets = ["127.0.0.53:53", "127.0.0.1:53"].map(UdpSocket::bind);
    let answer = |socket: UdpSocket| {
        let mut asked = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut asked) {
            // The question again, flags for an answer, one record that points to the question's name: A, IN, 1 s, 6.6.6.6.
            let mut told = asked.get(..length).unwrap_or_default().to_vec();
            told.splice(2..4, [0x81, 0x80]);
            told.splice(6..12, [0, 1, 0, 0, 0, 0]);
            told.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 6, 6, 6, 6]);
            let _ = socket.send_to(&told, from);
        }
    };
    let threads = sockets.into_iter().flatten().map(|socket| thread::spawn(move || answer(socket)));
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| drop(thread.join()));
    sleep()
}

/// Names with newlines, quotes and escapes that would be rows and labels if they were believed.
pub(crate) fn names() -> io::Result<()> {
    let name = b"x 1\nLISTEN 0 128 6.6.6.6:666 0.0.0.0:* users:((\"dockerd\",pid=1,fd=3))\n\x1b[2J\xff";
    let _socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    let comm = b"\n0 \"S\" 9\x1b]\0";
    let _ = call(number::PRCTL, [PR_SET_NAME, comm.as_ptr() as i64, 0, 0, 0]);
    sleep()
}

/// A nested cgroup whose name says that it is another container's.
pub(crate) fn cgroups(folder: &str, id: &str) -> io::Result<()> {
    for hierarchy in fs::read_dir(folder)?.flatten() {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        for line in own.lines() {
            let Some((_, path)) = line.rsplit_once(':') else { continue };
            let nested = format!("{}{path}/kubepods/{id}", hierarchy.path().display());
            if fs::create_dir_all(&nested).is_ok() {
                let mut child = Command::new("/attacker").args(["hunt", "/dev/null", "read"]).spawn()?;
                let _ = fs::write(format!("{nested}/cgroup.procs"), child.id().to_string());
                // Its first exec in there is what detection would see.
                let _ = child.kill();
                let _ = child.wait();
                let _ = fs::write(format!("{nested}/cgroup.procs"), "0");
                let _ = Command::new("/workload").arg("true").status();
            }
        }
    }
    sleep()
}

pub(crate) fn post(port: &str, path: &str, body: &str) -> io::Result<()> {
    let asked = || {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        write!(
            stream,
            "POST /api/v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    let line = asked().unwrap_or_else(|error: io::Error| format!("failed: {error}"));
    fs::write(path, line + "\n")?;
    sleep()
}

pub(crate) fn sleep() -> ! {
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}
