//! What a joined run comes to where agent and launcher cost nothing (bench/floor.c): the floor that ours is told beside. It does
//! not enter as safely, and is no way to do it.

use std::fs;
use std::io::{IoSlice, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recv, sendmsg, setsockopt,
    shutdown, socketpair,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::Bench;

/// Seconds that a command of milliseconds may take.
const PATIENCE: i64 = 10;
/// For its processes and cgroups to go.
const GONE_WITHIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// Where cgroups are mounted (systemd's docs/CGROUP_DELEGATION.md).
const HIERARCHIES: &str = "/sys/fs/cgroup";
/// Of cgroup v1, with a probe's usual limits. Where there is only v2 the kernel puts a command into it as it is made, with
/// limits or without.
const LIMITS: [(&str, &str, &str); 3] = [
    ("memory", "memory.limit_in_bytes", "134217728"),
    ("pids", "pids.max", "64"),
    ("cpu", "cpu.cfs_quota_us", "100000"),
];

/// The program's processes, which take one command at a time.
#[derive(Debug)]
pub(crate) struct Floor {
    socket: OwnedFd,
    process: Child,
    /// What it has made, and takes with it.
    _groups: Groups,
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let deadline = Instant::now() + GONE_WITHIN;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What is asked for besides the command, as in bench/floor.c.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Nothing else is run at this moment.
    pub alone: bool,
    /// With the cgroups and looks that protect a joined command.
    pub guarded: bool,
}

impl Floor {
    /// With a launcher between agent and spawner.
    pub(crate) fn with_launcher(bench: &Bench) -> anyhow::Result<Self> {
        Self::start(&program(bench)?, "launcher", 0)
    }

    /// So many, each for a thread of its own, without a launcher.
    pub(crate) fn direct(bench: &Bench, count: usize) -> anyhow::Result<Vec<Self>> {
        let program = program(bench)?;
        (0..count).map(|number| Self::start(&program, "direct", number)).collect()
    }

    fn start(program: &Path, way: &str, number: usize) -> anyhow::Result<Self> {
        let groups = Groups::make(number)?;
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        let mut command = Command::new(program);
        command.arg(way).args(groups.words()).stdin(Stdio::from(theirs));
        // Not with what a terminal ends: it ends with its socket.
        let process = command.process_group(0).spawn()?;
        Ok(Self { socket, process, _groups: groups })
    }

    /// Runs the command and reads what it prints.
    pub(crate) fn run(
        &self,
        container: BorrowedFd<'_>,
        words: &[&str],
        how: How,
    ) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let pipes = [nix::unistd::pipe2(OFlag::O_CLOEXEC)?, nix::unistd::pipe2(OFlag::O_CLOEXEC)?];
        let message = format!("{}{}\0", u8::from(how.alone) + 2 * u8::from(how.guarded), words.join("\0"));
        let fds = [container.as_raw_fd(), pipes[0].1.as_raw_fd(), pipes[1].1.as_raw_fd()];
        let beside = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message.as_bytes())],
            &beside,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        let readers = pipes.map(|(read, _write)| read);
        let mut status = [0; 4];
        let got = loop {
            match recv(self.socket.as_raw_fd(), &mut status, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                got => break got.context("bench/floor.c")?,
            }
        };
        ensure!((got, status) == (4, [0; 4]), "bench/floor.c answers {:?} for {words:?}", &status[..got]);
        let mut output = Vec::new();
        for read in readers {
            fs::File::from(read).read_to_end(&mut output)?;
        }
        Ok(started.elapsed())
    }
}

/// Compiled for as little memory as it needs.
fn program(bench: &Bench) -> anyhow::Result<PathBuf> {
    bench.compiled("floor", &["-static"])
}

/// The cgroups that its commands join: the unified one, which they are made in, before those of cgroup v1.
#[derive(Debug)]
struct Groups(Vec<PathBuf>);

impl Groups {
    fn make(number: usize) -> anyhow::Result<Self> {
        let root = Path::new(HIERARCHIES);
        let unified = root.join("unified");
        let unified = if unified.is_dir() { unified } else { root.to_owned() };
        let limiting = LIMITS.iter().filter(|(name, ..)| root.join(name).join("tasks").exists());
        let mut made = Self(Vec::new());
        let name = format!("parachute-floor-{}-{number}", std::process::id());
        for (hierarchy, limit) in std::iter::once((unified, None))
            .chain(limiting.map(|(name, file, limit)| (root.join(name), Some((file, limit)))))
        {
            let folder = hierarchy.join(&name);
            fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
            made.0.push(folder.clone());
            if let Some((file, limit)) = limit {
                fs::write(folder.join(file), limit)
                    .with_context(|| folder.join(file).display().to_string())?;
            }
        }
        Ok(made)
    }

    fn words(&self) -> impl Iterator<Item = PathBuf> {
        let tasks = self.0.iter().skip(1).map(|folder| folder.join("tasks"));
        self.0.iter().take(1).cloned().chain(tasks)
    }
}

impl Drop for Groups {
    /// The last command may still be on its way out of them.
    fn drop(&mut self) {
        let deadline = Instant::now() + GONE_WITHIN;
        for folder in &self.0 {
            while fs::remove_dir(folder).is_err() && folder.exists() && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// What it comes to beside bare spawns, plain and guarded.
pub(crate) fn told([plain, guarded]: [f64; 2]) -> String {
    format!("; the steps alone (bench/floor.c): {plain:.2} ×, with what protects it: {guarded:.2} ×")
}
