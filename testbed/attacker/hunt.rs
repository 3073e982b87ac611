//! Looks for foreign processes as fast as it can, and tries everything on them that could give something away.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::sys::{self, EFAULT, ESRCH, PIDFD_GETFD, PIDFD_OPEN, call, number};

/// The tests' commands carry this among their words. In the host's pid namespace nothing else is touched.
const MARK: &str = "31337";
/// How far beyond the newest pid is looked: a pid can be signalled before it is listed.
const AHEAD: i64 = 48;
/// The file says that the hunt goes on, at this interval.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

const SIGQUIT: i64 = 3;
const SIGABRT: i64 = 6;
const SIGCONT: i64 = 18;
const SIGSTOP: i64 = 19;
const NOBODY: i64 = 65534;
/// prlimit(2): RLIMIT_CPU, RLIMIT_CORE and RLIMIT_NOFILE.
const CPU: i64 = 0;
const CORE: i64 = 4;
const NOFILE: i64 = 7;
const CLONE_NEWNS: i64 = 0x0002_0000;
const PTRACE_SEIZE: i64 = 0x4206;
const PTRACE_DETACH: i64 = 17;
/// kcmp(2): whether two processes share their memory.
const KCMP_VM: i64 = 1;

struct Hunt {
    said: File,
    lines: HashSet<String>,
    /// Programs of processes that have been seen, kept to be written to when they are not busy any more (CVE-2019-5736).
    programs: Vec<File>,
    /// What is done besides looking: `read` for nothing, `limit`, `harm`, `abort`.
    mode: String,
    who: &'static str,
}

pub(crate) fn hunt(path: &str, mode: &str) -> io::Result<()> {
    // The same once more as nobody, in a process of its own.
    let as_nobody = std::env::var_os("NOBODY").is_some();
    let own = listed();
    let said = OpenOptions::new().create(true).append(true).open(path)?;
    let mut child = None;
    if as_nobody {
        let _ = call(number::SETUID, [NOBODY, 0, 0, 0, 0]);
    } else {
        child = Some(Command::new("/attacker").args(["hunt", path, mode]).env("NOBODY", "1").spawn()?);
    }
    let who = if as_nobody { "nobody" } else { "root" };
    let mut hunt = Hunt { said, lines: HashSet::new(), programs: Vec::new(), mode: mode.to_owned(), who };
    let mut known: HashSet<i64> = own.into_iter().collect();
    known.insert(i64::from(std::process::id()));
    known.extend(child.as_ref().map(|child| i64::from(child.id())));
    // The other half of the hunt, whichever started first.
    let is_own =
        |pid: i64| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(b"attacker"));
    let (mut loops, mut signs) = (0_u64, Instant::now());
    loop {
        let listed = listed();
        let newest = listed.iter().copied().max().unwrap_or(1);
        let ahead = (newest + 1..newest + AHEAD).filter(|pid| !matches!(sys::kill(*pid, 0), Err(ESRCH)));
        let foreign: Vec<i64> =
            listed.iter().copied().chain(ahead).filter(|pid| !known.contains(pid)).collect();
        for pid in foreign {
            if is_own(pid) {
                known.insert(pid);
            } else {
                hunt.found(pid);
            }
        }
        hunt.write_programs();
        loops += 1;
        if signs.elapsed() > SIGN_OF_LIFE {
            signs = Instant::now();
            // At once: the two halves of the hunt write to the same file.
            hunt.said.write_all(format!("loops {loops} {who}\n").as_bytes())?;
        }
    }
}

/// Pids that /proc shows.
pub(crate) fn listed() -> Vec<i64> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

impl Hunt {
    fn found(&mut self, pid: i64) {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace(['\0', '\n'], " ");
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let comm = comm.trim();
        // Every process of the host is in sight of a container in its pid namespace, and most are no business of the test's.
        let marked = words.contains(MARK);
        let crowded = listed().len() > 30;
        if crowded && !marked && !comm.starts_with("parachute") {
            return;
        }
        self.say(&format!("seen {comm} [{words}]"));
        // Who holds a command by ptrace keeps it from ending, which is not what these two are about.
        let tried =
            if ["abort", "limit"].contains(&self.mode.as_str()) { Vec::new() } else { self.try_all(pid) };
        for (what, hit) in tried {
            if hit {
                self.say(&format!("HIT {what} on {comm} [{words}]"));
            }
        }
        // What is not the test's command is the agent, which the test still needs.
        if crowded && !marked {
            return;
        }
        match self.mode.as_str() {
            "limit" => self.limit(pid, comm),
            "harm" => {
                self.limit(pid, comm);
                self.hurt(pid, comm);
            }
            "abort" if marked => self.dump(pid, comm),
            _ => {}
        }
    }

    fn try_all(&mut self, pid: i64) -> Vec<(&'static str, bool)> {
        let path = |name: &str| format!("/proc/{pid}/{name}");
        let reads = |name: &str| {
            let mut bytes = [0; 16];
            File::open(path(name)).and_then(|mut file| file.read(&mut bytes)).is_ok_and(|read| read > 0)
        };
        let program = File::open(path("exe"));
        if let (Ok(program), true) = (&program, self.programs.len() < 32) {
            self.programs.extend(program.try_clone());
        }
        let pidfd = call(PIDFD_OPEN, [pid, 0, 0, 0, 0]).unwrap_or(-1);
        let mut buffer = [0_u8; 8];
        let own = [buffer.as_mut_ptr() as u64, 8];
        let theirs = [0x1000_u64, 8];
        let vm = [pid, own.as_ptr() as i64, 1, theirs.as_ptr() as i64, 1];
        let mut list = [0_u64; 2];
        let lists = list.each_mut().map(|word| std::ptr::from_mut(word) as i64);
        let seized = call(number::PTRACE, [PTRACE_SEIZE, pid, 0, 0, 0]).is_ok();
        if seized {
            let _ = call(number::PTRACE, [PTRACE_DETACH, pid, 0, 0, 0]);
        }
        let written = OpenOptions::new().write(true).open(path("exe"));
        vec![
            ("root", fs::read_dir(path("root")).is_ok()),
            ("cwd", fs::read_dir(path("cwd/")).is_ok()),
            ("exe", program.is_ok()),
            // ETXTBSY: it was allowed, but for its running.
            ("exe-write", written.is_ok() || written.is_err_and(|e| e.raw_os_error() == Some(26))),
            ("fd", (0..10).any(|fd| fs::read_link(path(&format!("fd/{fd}"))).is_ok())),
            ("environ", reads("environ")),
            ("auxv", reads("auxv")),
            ("maps", reads("maps")),
            ("smaps", reads("smaps")),
            ("pagemap", reads("pagemap")),
            ("map_files", fs::read_dir(path("map_files")).is_ok_and(|files| files.flatten().count() > 0)),
            (
                "mapped-file",
                fs::read_dir(path("map_files"))
                    .is_ok_and(|files| files.flatten().any(|file| File::open(file.path()).is_ok())),
            ),
            ("syscall", reads("syscall")),
            ("stack", reads("stack")),
            ("personality", reads("personality")),
            ("io", reads("io")),
            ("namespaces", fs::read_link(path("ns/mnt")).is_ok()),
            ("mem", OpenOptions::new().read(true).write(true).open(path("mem")).is_ok()),
            ("ptrace", seized),
            // With a wild address EFAULT says that it was allowed.
            ("process_vm_readv", matches!(call(number::PROCESS_VM_READV, vm), Ok(_) | Err(EFAULT))),
            ("process_vm_writev", matches!(call(number::PROCESS_VM_WRITEV, vm), Ok(_) | Err(EFAULT))),
            ("kcmp", call(number::KCMP, [pid, pid, KCMP_VM, 0, 0]).is_ok()),
            ("get_robust_list", call(number::GET_ROBUST_LIST, [pid, lists[0], lists[1], 0, 0]).is_ok()),
            ("pidfd_getfd", (0..10).any(|fd| call(PIDFD_GETFD, [pidfd, fd, 0, 0, 0]).is_ok())),
            ("setns", call(number::SETNS, [pidfd, CLONE_NEWNS, 0, 0, 0]).is_ok()),
        ]
    }

    fn limit(&mut self, pid: i64, comm: &str) {
        if sys::limit(pid, NOFILE, 3).is_ok() | sys::limit(pid, CPU, 1).is_ok() {
            self.say(&format!("HARM limits on {comm}"));
        }
    }

    /// What needs no more than the same user.
    fn hurt(&mut self, pid: i64, comm: &str) {
        let tries = [
            ("core", sys::limit(pid, CORE, u64::MAX).is_ok()),
            ("stop", sys::kill(pid, SIGSTOP).is_ok()),
            ("oom", fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").is_ok()),
            ("abort", sys::kill(pid, SIGABRT).is_ok() && sys::kill(pid, SIGCONT).is_ok()),
        ];
        for (what, hit) in tries {
            if hit {
                self.say(&format!("HARM {what} on {comm}"));
            }
        }
    }

    /// What makes a process dump its memory, as often as it is seen.
    fn dump(&mut self, pid: i64, comm: &str) {
        let raised = sys::limit(pid, CORE, u64::MAX).or_else(|_| sys::raise(pid, CORE)).is_ok();
        let (what, signal) = if pid % 2 == 0 { ("quit", SIGQUIT) } else { ("abort", SIGABRT) };
        if sys::kill(pid, signal).is_ok() {
            self.say(&format!("HARM {what} on {comm}, limit raised: {raised}"));
        }
    }

    fn write_programs(&mut self) {
        let mut said = Vec::new();
        for program in &self.programs {
            let path = format!("/proc/self/fd/{}", program.as_raw_fd());
            let written = OpenOptions::new().write(true).open(&path);
            if written.is_ok() {
                said.push(format!("HIT overwrite of {:?}", fs::read_link(&path)));
            }
        }
        for line in said {
            self.say(&line);
        }
    }

    /// Each line once.
    fn say(&mut self, line: &str) {
        if self.lines.len() < 10_000 && self.lines.insert(line.to_owned()) {
            let _ = self.said.write_all(format!("{} {line}\n", self.who).as_bytes());
        }
    }
}
