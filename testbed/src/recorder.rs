//! A receiver of webhooks that keeps what it is sent and answers what it is told to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// No webhook is longer.
const MAX_BYTES: usize = 8 << 20;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Request line and headers.
    pub head: String,
    pub body: String,
    /// The status that it was answered with.
    pub answered: u16,
    pub at: Instant,
}

/// A listening recorder; dropping it closes it.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Recorded>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Answers the first requests with these statuses, and all others with 200.
    pub async fn start(statuses: &[u16]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (kept, statuses) = (Arc::clone(&heard), statuses.to_vec());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Err(error) = answer(&mut stream, &kept, &statuses).await {
                    eprintln!("testbed: recording a webhook: {error:#}");
                }
            }
        });
        Ok(Self { address, heard, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    pub fn heard(&self) -> Vec<Recorded> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many have come, and returns all.
    pub async fn wait_for(&self, count: usize, within: Duration) -> anyhow::Result<Vec<Recorded>> {
        let deadline = Instant::now() + within;
        loop {
            let heard = self.heard();
            if heard.len() >= count {
                return Ok(heard);
            }
            ensure!(Instant::now() < deadline, "{} of {count} requests in {within:?}", heard.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request on each connection: what sends them opens another.
async fn answer(
    stream: &mut TcpStream,
    heard: &Mutex<Vec<Recorded>>,
    statuses: &[u16],
) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let lower = head.to_lowercase();
            let length =
                lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            bytes.drain(..end + 4);
            break (head, length.context("a request without a length")?);
        }
        read(stream, &mut bytes).await?;
    };
    while bytes.len() < length {
        read(stream, &mut bytes).await?;
    }
    let status = {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = statuses.get(heard.len()).copied().unwrap_or(200);
        let body = String::from_utf8_lossy(&bytes).into_owned();
        heard.push(Recorded { head, body, answered, at: Instant::now() });
        answered
    };
    let answer = format!("HTTP/1.1 {status} Recorded\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    Ok(stream.write_all(answer.as_bytes()).await?)
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    ensure!(bytes.len() < MAX_BYTES, "a request of more than {MAX_BYTES} bytes");
    let count = stream.read_buf(bytes).await?;
    ensure!(count > 0, "a connection that ended in the middle of a request");
    Ok(())
}
