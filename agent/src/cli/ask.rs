//! One request to a running agent, over TCP or a Unix socket. The agent answers one request per connection, so that reading
//! to the end is reading the answer.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::http::ListenAddress;

const DEADLINE: Duration = Duration::from_secs(5);
/// One container, or one run; a longer one is read as well.
const USUAL_ANSWER: usize = 4096;
/// A list of 4,096 containers is some megabytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// The body, or `None` if nobody listens there.
pub(super) fn get(address: &ListenAddress, path: &str) -> anyhow::Result<Option<String>> {
    get_within(address, path, DEADLINE)
}

/// The same for who cannot wait as long.
pub(super) fn get_within(
    address: &ListenAddress,
    path: &str,
    within: Duration,
) -> anyhow::Result<Option<String>> {
    match exchange(address, "GET", path, "", within)? {
        Some((200, body)) => Ok(Some(body)),
        Some((status, body)) => Err(refused(address, status, &body)),
        None => Ok(None),
    }
}

/// Sends a JSON body: status and body of the answer, or `None` if nobody listens there.
pub(super) fn post(
    address: &ListenAddress,
    path: &str,
    body: &str,
    within: Duration,
) -> anyhow::Result<Option<(u16, String)>> {
    exchange(address, "POST", path, body, within)
}

/// Removes what stands at the path: true if it was there, `None` if nobody listens.
pub(super) fn delete(address: &ListenAddress, path: &str) -> anyhow::Result<Option<bool>> {
    match exchange(address, "DELETE", path, "", DEADLINE)? {
        Some((200 | 204, _)) => Ok(Some(true)),
        Some((404, _)) => Ok(Some(false)),
        Some((status, body)) => Err(refused(address, status, &body)),
        None => Ok(None),
    }
}

fn refused(address: &ListenAddress, status: u16, body: &str) -> anyhow::Error {
    // Errors of the API are JSON with their text in it.
    let said: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let text = said.as_ref().and_then(|said| said["error"].as_str()).unwrap_or(body.trim());
    anyhow!("asking the agent at {address}: it answers {status}: {text}")
}

fn exchange(
    address: &ListenAddress,
    method: &str,
    path: &str,
    body: &str,
    within: Duration,
) -> anyhow::Result<Option<(u16, String)>> {
    let stream: std::io::Result<Box<dyn Stream>> = match address {
        ListenAddress::Tcp(tcp) => TcpStream::connect_timeout(tcp, within).and_then(|stream| {
            stream.set_read_timeout(Some(within))?;
            Ok(Box::new(stream) as _)
        }),
        ListenAddress::Unix(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(within))?;
            Ok(Box::new(stream) as _)
        }),
    };
    match stream {
        Ok(stream) => talk(stream, method, path, body)
            .map(Some)
            .with_context(|| format!("asking the agent at {address}")),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("connecting to the agent at {address}")),
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn talk(mut stream: Box<dyn Stream>, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let about = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    // HTTP/1.0: the answer is not chunked and ends with the connection. In one piece, so that the agent is woken once.
    let request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n{about}\r\n{body}");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::with_capacity(USUAL_ANSWER);
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("the answer is not HTTP")?, body.to_owned()))
}
