//! The agent as a child process: its log is handed on line by line, and it never outlives whoever started it.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Answer, Sample, request, samples};

/// The agent's own default, taken when it is free.
const PORT: u16 = 10068;

/// How long the agent may take to end its runs and itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// A running `parachute agent` on an address of its own. Dropping it ends it with SIGTERM, and with SIGKILL if need be.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    address: SocketAddr,
    /// For its sockets; a real agent may run on this machine. Removed after the agent has ended.
    run_directory: tempfile::TempDir,
}

impl Agent {
    /// Every line of its standard output and error goes to `show`.
    pub fn start(
        program: &Path,
        configuration: &Path,
        show: impl Fn(&str) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        Self::start_with(program, configuration, &["--web.allow-unauthenticated"], show)
    }

    /// The same with more flags. Without `--storage.path` among them, what it keeps goes with it.
    pub fn start_with(
        program: &Path,
        configuration: &Path,
        flags: &[&str],
        show: impl Fn(&str) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let run_directory = tempfile::Builder::new().prefix("pt-run-").tempdir()?;
        let storage = run_directory.path().join("storage");
        let storage =
            (!flags.contains(&"--storage.path")).then(|| [OsStr::new("--storage.path"), storage.as_os_str()]);
        let mut child = Command::new(program)
            .arg("agent")
            .arg("--config.file")
            .arg(configuration)
            .args(["--web.listen-address", &address.to_string()])
            .arg("--run-directory")
            .arg(run_directory.path())
            .args(storage.into_iter().flatten())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is for our process, which ends the agent in its turn.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let show = Arc::new(show);
        relay(child.stdout.take(), Arc::clone(&show));
        relay(child.stderr.take(), show);
        Ok(Self { child, address, run_directory })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `parachute exec` finds its sockets.
    pub fn run_directory(&self) -> &Path {
        self.run_directory.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the agent has attached its hook and scanned what ran before.
    pub async fn ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let within = within * crate::patience();
        let deadline = Instant::now() + within;
        loop {
            if self.get("/-/ready").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            self.check()?;
            ensure!(Instant::now() < deadline, "the agent is not ready after {within:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        request(self.address, "GET", path, "").await
    }

    pub async fn post(&self, path: &str, body: &str) -> anyhow::Result<Answer> {
        request(self.address, "POST", path, body).await
    }

    pub async fn scrape(&self) -> anyhow::Result<Vec<Sample>> {
        samples(&self.get("/metrics").await?.body)
    }

    /// Ends the agent as an out-of-memory kill would: without a chance to clean up.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGHUP, on which the agent reads its configuration again.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGHUP)?;
        Ok(())
    }

    /// Fails once the agent has ended, which it should not.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the agent ended with {status}"),
            None => Ok(()),
        }
    }

    /// Returns only when the agent has ended by itself.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        loop {
            self.check()?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let child = &mut self.child;
        if let (Ok(None), Ok(pid)) = (child.try_wait(), i32::try_from(child.id())) {
            // Not reaped yet, so the pid is still its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + GRACE;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!("the agent does not end on SIGTERM: killing it");
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The default address, or any free one: a real agent may run on this machine.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .context("finding a free port on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

/// Hands on lines until the agent closes its end.
fn relay(pipe: Option<impl Read + Send + 'static>, show: Arc<impl Fn(&str) + Send + Sync + 'static>) {
    let Some(pipe) = pipe else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            show(&line);
        }
    });
}
