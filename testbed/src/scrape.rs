//! As much of an HTTP client and of the exposition format as the demo and the tests need to ask the agent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No answer of the agent's takes longer than its longest probe deadline in the tests.
const DEADLINE: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers as they came.
    pub head: String,
    pub body: String,
}

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    /// The label's value; empty where there is none, as Prometheus has it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Sends one request on a connection of its own and reads the whole answer.
pub async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
    let (status, head, body) = exchange(address, method, path, &[], body).await?;
    Ok(Answer { status, head, body: String::from_utf8(body).context("an answer that is not UTF-8")? })
}

/// The same with more headers, for an answer that may be any bytes: its status, its head and its body.
pub async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<(u16, String, Vec<u8>)> {
    let more = headers.iter().fold(String::new(), |all, (name, value)| format!("{all}{name}: {value}\r\n"));
    // HTTP/1.0: the answer comes unchunked and ends with the connection.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(DEADLINE, exchange)
        .await
        .with_context(|| format!("no answer from {address}{path} in {DEADLINE:?}"))?
        .with_context(|| format!("asking {address}{path}"))?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.context("an answer without an end of its headers")?;
    let head = String::from_utf8(answer[..end].to_vec()).context("headers that are not UTF-8")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no status line")?;
    Ok((status, head, answer[end + 4..].to_vec()))
}

/// Reads the samples of an exposition text; every line that is neither a sample nor a comment is an error.
pub fn samples(text: &str) -> anyhow::Result<Vec<Sample>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| sample(line).with_context(|| format!("not a sample: {line}"))).collect()
}

fn sample(line: &str) -> anyhow::Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"").context("no label value")?;
            let (value, after) = unquote(quoted)?;
            labels.insert(label.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next().context("no value")?;
    Ok(Sample { name: name.to_owned(), labels, value: value.parse()? })
}

/// Reads up to the closing quote; what follows it is handed back.
fn unquote(text: &str) -> anyhow::Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => bail!("an unknown escape"),
            },
            plain => value.push(plain),
        }
    }
    bail!("a label value without an end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP a b\na 1\nb{x=\"1\"} 2.5 1700\nc{x=\"q\\\"\\\\\\n}\",y=\"\"} +Inf\nd{} NaN\n";
        let found = samples(text).unwrap();
        let values: Vec<(&str, &str, f64)> =
            found[..3].iter().map(|s| (s.name.as_str(), s.label("x"), s.value)).collect();
        assert_eq!(values, [("a", "", 1.0), ("b", "1", 2.5), ("c", "q\"\\\n}", f64::INFINITY)]);
        assert!(found[3].value.is_nan());
    }

    #[test]
    fn what_is_no_sample_is_an_error() {
        for line in ["a", "a{x=\"1\" 2", "a{x=1} 2", "a{x=\"\\t\"} 2", "a b"] {
            assert!(samples(line).is_err(), "{line}");
        }
    }
}
