//! The agent as a child process: its log is shown as it comes, and it never outlives the demo.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::{Sample, request, samples};

/// The agent's own default, taken when it is free.
const PORT: u16 = 10068;

/// How long the agent may take to end its runs and itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Agent {
    child: Child,
    address: SocketAddr,
}

impl Agent {
    pub(super) fn start(program: &Path, configuration: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut child = Command::new(program)
            .arg("agent")
            .arg("--config.file")
            .arg(configuration)
            .args(["--web.listen-address", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is for the demo, which ends the agent in its turn.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        show(child.stdout.take());
        show(child.stderr.take());
        Ok(Self { child, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            if request(self.address, "GET", "/-/ready", "").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            self.check()?;
            ensure!(Instant::now() < deadline, "the agent is not ready after {within:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) async fn scrape(&self) -> anyhow::Result<Vec<Sample>> {
        samples(&request(self.address, "GET", "/metrics", "").await?.body)
    }

    /// Fails once the agent has ended, which it should not.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the agent ended with {status}"),
            None => Ok(()),
        }
    }

    /// Returns only when the agent has ended by itself.
    pub(super) async fn ended(&mut self) -> anyhow::Result<()> {
        loop {
            self.check()?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let child = &mut self.child;
        if let Ok(pid) = i32::try_from(child.id()) {
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

/// Relays lines until the agent closes its end.
fn show(pipe: Option<impl Read + Send + 'static>) {
    let Some(pipe) = pipe else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            println!("     {line}");
        }
    });
}
