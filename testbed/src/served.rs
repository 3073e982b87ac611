//! A program that serves HTTP on a loopback port of its own: started, waited for, and killed with whoever started it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::request;

/// How long a server may take to be ready on a busy machine.
const READY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Served {
    /// Starts what `command` makes for the address, with its output in `log`, and waits until `/-/ready` answers 200.
    pub(crate) async fn start(log: &Path, address: SocketAddr, mut command: Command) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let program = command.get_program().display().to_string();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {program} (cargo xtask setup installs it)"))?;
        let mut served = Self { child, address, log: log.to_owned() };
        let deadline = Instant::now() + READY;
        loop {
            if request(address, "GET", "/-/ready", "").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(served);
            }
            if let Some(status) = served.child.try_wait()? {
                bail!("{program} ended at once with {status}:\n{}", served.log());
            }
            if Instant::now() > deadline {
                bail!("{program} is not ready after {READY:?}:\n{}", served.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Both only fail when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

/// A word of a query string, percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
