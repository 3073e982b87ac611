//! What runs inside the pods: one static program with a verb for each thing that a test must know the truth about.
//! It stands alone in its image, beside no shell and no tool. Standard library only: build.rs compiles this one file.

use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;
use std::{env, fs, io, thread};

const USAGE: &str = "usage: workload sleep | true | listen LISTENERS CLIENTS [ZOMBIES] | udp SOCKETS | tree DESCENDANTS | \
                     execs [COUNT] | cgroups FOLDER COUNT | hostile | surge CONNECTIONS SECONDS | talk ADDRESS PORT | markup";

/// Where this program stands in every image.
const SELF: &str = "/workload";

/// The first TCP port that `listen` takes; the others follow it.
const FIRST_PORT: u16 = 8000;

fn main() -> ExitCode {
    let args: Vec<String> = env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let number = |at: usize| args.get(at).and_then(|a| a.parse::<u16>().ok()).unwrap_or(0);
    let done = match args.get(1).map(String::as_str) {
        Some("sleep") => sleep(),
        Some("true") => Ok(()),
        Some("listen") => listen(number(2), number(3), number(4)),
        Some("udp") => udp(number(2)),
        Some("tree") => tree(number(2)),
        Some("execs") => execs(args.get(2).map(|_| number(2))),
        Some("cgroups") => cgroups(args.get(2).map_or("", String::as_str), number(3)),
        Some("hostile") => hostile(),
        Some("surge") => surge(number(2), number(3)),
        Some("talk") => talk(args.get(2).map_or("", String::as_str), number(3)),
        Some("markup") => markup(),
        _ => Err(io::Error::other(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("workload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sleep() -> io::Result<()> {
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}

/// Listens on `listeners` ports of every address and holds `clients` connections to the first of them. Both ends live
/// here, so the pod has exactly `2 * clients` established sockets. So many `zombies` are children that nobody collects.
fn listen(listeners: u16, clients: u16, zombies: u16) -> io::Result<()> {
    let _uncollected: Vec<Child> =
        (0..zombies).map(|_| Command::new(SELF).arg("true").spawn()).collect::<io::Result<_>>()?;
    let sockets: Vec<TcpListener> =
        (0..listeners).map(|n| TcpListener::bind(("0.0.0.0", FIRST_PORT + n))).collect::<io::Result<_>>()?;
    let mut held = Vec::new();
    for _ in 0..clients {
        let client = TcpStream::connect(("127.0.0.1", FIRST_PORT))?;
        let (server, _) = sockets[0].accept()?;
        held.push((client, server));
    }
    sleep()
}

/// Holds bound UDP sockets: each is one row in `ss -uan`.
fn udp(sockets: u16) -> io::Result<()> {
    let held: Vec<UdpSocket> =
        (0..sockets).map(|_| UdpSocket::bind(("127.0.0.1", 0))).collect::<io::Result<_>>()?;
    sleep().map(|()| drop(held))
}

/// Keeps exactly `descendants` processes below this one, in a binary tree.
fn tree(descendants: u16) -> io::Result<()> {
    let left = descendants.div_ceil(2);
    let children: Vec<Child> = [left, descendants - left]
        .into_iter()
        .filter(|&share| share > 0)
        .map(|share| Command::new(SELF).args(["tree", &(share - 1).to_string()]).spawn())
        .collect::<io::Result<_>>()?;
    sleep().map(|()| drop(children))
}

/// Execs `count` short processes one after the other, then stays under the name `done`; without a count it goes on for ever.
fn execs(count: Option<u16>) -> io::Result<()> {
    for _ in 0..count.map_or(u64::MAX, u64::from) {
        Command::new(SELF).arg("true").status()?;
    }
    fs::write("/proc/self/comm", "done")?;
    sleep()
}

/// Execs once in each of `count` new cgroups in `folder`, without another process, and removes the one before; the last one
/// stays.
fn cgroups(folder: &str, count: u16) -> io::Result<()> {
    let Some(rest) = count.checked_sub(1) else { return Ok(()) };
    let cgroup = format!("{folder}/{count}");
    fs::create_dir(&cgroup)?;
    fs::write(format!("{cgroup}/cgroup.procs"), "0")?;
    // There is none before the first.
    let _ = fs::remove_dir(format!("{folder}/{}", u32::from(count) + 1));
    Err(Command::new(env::current_exe()?).args(["cgroups", folder, &rest.to_string()]).exec())
}

/// Names that break careless parsers: quotes, newlines, a fake second row, bytes that are not UTF-8.
fn hostile() -> io::Result<()> {
    let arguments: [&[u8]; 5] =
        [b"quo\"te", b"two\nlines", b"1 root fake row 99", b"\xff\xfe not utf-8", b"{\"json\": [1,"];
    let children: Vec<Child> = arguments
        .into_iter()
        .map(|name| Command::new(SELF).arg0(OsStr::from_bytes(name)).arg("sleep").spawn())
        .collect::<io::Result<_>>()?;
    // comm is what ps -e shows: 15 bytes of whatever the process likes.
    fs::write("/proc/self/comm", b"\"\n\xff fake{a=\"b\"}")?;
    sleep().map(|()| drop(children))
}

/// Holds `connections` to itself for so many seconds, then none for as long, over and over: an alert that fires, is
/// resolved and fires again. Both ends live here.
fn surge(connections: u16, seconds: u16) -> io::Result<()> {
    let rest = Duration::from_secs(seconds.into());
    let listener = TcpListener::bind(("0.0.0.0", FIRST_PORT))?;
    loop {
        let mut held = Vec::new();
        for _ in 0..connections {
            let client = TcpStream::connect(("127.0.0.1", FIRST_PORT))?;
            held.push((client, listener.accept()?));
        }
        thread::sleep(rest);
        drop(held);
        thread::sleep(rest);
    }
}

/// Sends a datagram to this address every 10 ms. Whether anybody listens there is of no interest.
fn talk(address: &str, port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    loop {
        // Refused when nobody listens, which ICMP tells and the next call returns.
        let _ = socket.send_to(b"said in the pod", (address, port));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Names that are markup and scripts for whoever prints them into a page.
fn markup() -> io::Result<()> {
    let names: [&[u8]; 6] = [
        b"</pre><script>document.title='PWNED'</script>",
        b"<img src=x onerror=document.title='PWNED'>",
        b"\"><svg/onload=document.title='PWNED'>",
        b"<!--<style>body{display:none}</style>",
        b"javascript:document.title='PWNED'",
        b"\x1b]0;PWNED\x07\x1b[31mred \xe2\x80\xaeedoc &lt;b&gt; &amp;",
    ];
    let children: Vec<Child> = names
        .into_iter()
        .map(|name| Command::new(SELF).arg0(OsStr::from_bytes(name)).arg("sleep").spawn())
        .collect::<io::Result<_>>()?;
    sleep().map(|()| drop(children))
}
