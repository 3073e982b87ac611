//! Lies: what a container tells of its processes, of names and of itself, and what it asks others to do.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::thread;

use crate::sys::{self, call, number};

const CLONE_NEWPID: i64 = 0x2000_0000;
const MS_BIND: i64 = 0x1000;

/// Lies about the container's processes with what is on /proc: files of its own (`forged`), the processes of another pid
/// namespace (`foreign`), a folder of its own (`folder`) or a part of its own procfs (`subtree`) bound over it, a procfs
/// that shows only processes (`subset`) or only one's own (`hidden`).
pub(crate) fn proc(what: &str) -> io::Result<()> {
    let failed = |errno: i32| io::Error::from_raw_os_error(errno);
    match what {
        "foreign" => {
            if std::env::var_os("INNER").is_some() {
                sys::mount("proc", "/proc", "proc").map_err(failed)?;
                println!("ready");
                crate::sleep();
            }
            call(number::UNSHARE, [CLONE_NEWPID, 0, 0, 0, 0]).map_err(failed)?;
            let mut inner = Command::new("/attacker").args(["proc", "foreign"]).env("INNER", "1").spawn()?;
            inner.wait()?;
            return Ok(());
        }
        "folder" => {
            forge("/forged")?;
            sys::mount_with("/forged", "/proc", "", MS_BIND, "").map_err(failed)?;
        }
        "subtree" => drop(sys::mount_with("/proc/1/task", "/proc", "", MS_BIND, "").map_err(failed)?),
        "subset" => drop(sys::mount_with("proc", "/proc", "proc", 0, "subset=pid").map_err(failed)?),
        "hidden" => drop(sys::mount_with("proc", "/proc", "proc", 0, "hidepid=2").map_err(failed)?),
        _ => {
            sys::mount("tmpfs", "/proc", "tmpfs").map_err(failed)?;
            forge("/proc")?;
        }
    }
    println!("ready");
    crate::sleep()
}

/// What a look at PID 1 would read.
fn forge(folder: &str) -> io::Result<()> {
    fs::create_dir_all(format!("{folder}/1/ns"))?;
    for (name, text) in [
        ("ns/pid", ""),
        ("comm", "forged\n"),
        ("stat", "1 (forged) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0\n"),
        ("status", "Name:\tforged\nPid:\t1\n"),
    ] {
        fs::write(format!("{folder}/1/{name}"), text)?;
    }
    Ok(())
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
    crate::sleep()
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
    crate::sleep()
}

pub(crate) fn post(address: &str, path: &str, body: &str) -> io::Result<()> {
    let asked = || {
        let mut stream = TcpStream::connect(address)?;
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
    crate::sleep()
}
