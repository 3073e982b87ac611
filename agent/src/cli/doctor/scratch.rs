//! A container of the doctor's own: namespaces with one process in them, which has a default container's rights. No runtime is
//! asked, and it ends with whoever started it.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What a default container may do (containerd's `defaultUnixCaps`).
const USUAL: CapabilitySet = CapabilitySet::from_bits_retain(0xa804_25fb);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Be the container's first process.
    #[arg(long)]
    init: bool,
}

/// The running container. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Scratch {
    keeper: Child,
    pub(super) pidfd: std::os::fd::OwnedFd,
}

impl Scratch {
    pub(super) fn start() -> anyhow::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("scratch").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().context("starting a container of the doctor's own")?;
        let mut said = String::new();
        let mut byte = [0];
        // One line: the pid of the first process, once it stands.
        let mut out = keeper.stdout.take().context("no output of the container's")?;
        while !said.ends_with('\n') && out.read(&mut byte)? == 1 {
            said.extend(byte.map(char::from));
        }
        let pid: i32 = said.trim().parse().context("the container did not start")?;
        let pidfd = pidfd_open(Pid::from_raw(pid).context("no pid")?, PidfdFlags::empty())?;
        Ok(Self { keeper, pidfd })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// `parachute scratch`: the process that makes the namespaces, and with `--init` the first one in them.
pub(in crate::cli) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.init {
        return init();
    }
    let namespaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    unshare(namespaces | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS).context("unshare")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("making / private")?;
    let mut child = Command::new("/proc/self/exe")
        .args(["scratch", "--init"])
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the first process")?;
    let mut ready = [0; 1];
    child
        .stdout
        .take()
        .context("no output")?
        .read_exact(&mut ready)
        .context("the first process did not start")?;
    println!("{}", child.id());
    std::io::stdout().flush()?;
    ensure!(child.wait()?.success(), "the first process failed");
    Ok(ExitCode::SUCCESS)
}

fn init() -> anyhow::Result<ExitCode> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).context("mounting /proc")?;
    let has = rustix::thread::capabilities(None)?;
    for capability in has.permitted.difference(USUAL).iter() {
        rustix::thread::remove_capability_from_bounding_set(capability)?;
    }
    let kept = has.permitted & USUAL;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    let mut stdout = std::io::stdout();
    stdout.write_all(b".")?;
    stdout.flush()?;
    // Until whoever started it closes the other end.
    let _ = std::io::stdin().read(&mut [0; 1]);
    Ok(ExitCode::SUCCESS)
}
