//! What is written beside a run's output: why it ran, where, when, how, and what came of it. One JSON object with a version;
//! the same that the HTTP API answers with.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

use super::disk::Fault;
use crate::config::Probe;
use crate::model::{Alert, End, Outcome, RunId, RunResult, Stream, Way};

/// Of the form below. A field more does not change it, a field that means something else does.
pub(super) const VERSION: u64 = 1;
/// In bytes, far above what the bounds on labels, commands and alerts allow together.
pub(super) const LARGEST: u64 = 1 << 20;

/// One capture's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub version: u64,
    #[serde(deserialize_with = "run_id")]
    pub id: RunId,
    pub trigger: String,
    /// The alert that asked for the run, where one did.
    pub alert: Option<Alert>,
    /// The node's name, as the configuration's `H` in schedules is hashed from.
    pub node: String,
    pub container: Place,
    pub probe: String,
    /// argv.
    pub command: Vec<String>,
    pub isolation: String,
    /// None if the command never came so far as to be led anywhere.
    pub way: Option<Way>,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub duration_seconds: f64,
    #[serde(flatten)]
    pub outcome: Outcome,
    pub end: End,
    /// As a shell has it, 128 + signal for a killed command; none when the command never came to an end by itself.
    pub exit_status: Option<i32>,
    /// The probe's cap on each stream, in bytes.
    pub max_output: u64,
    /// The output is not whole, of one stream or of both.
    pub truncated: bool,
    pub stdout: Part,
    pub stderr: Part,
}

/// The container that the run was in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub id: String,
    pub namespace: String,
    pub pod: String,
    /// As in the pod's spec; the short id where no runtime has named it.
    pub container: String,
    pub image: String,
    pub pod_uid: String,
    pub runtime: String,
    pub labels: BTreeMap<String, String>,
}

/// One stream of the two, as it is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Raw ones.
    pub bytes: u64,
    pub compressed_bytes: u64,
    /// Of the raw bytes, hex.
    pub sha256: String,
    pub truncated: bool,
    pub kind: Kind,
}

/// What a stream looks like, all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// UTF-8 without NUL, or nothing.
    #[default]
    Text,
    Pcap,
    Pcapng,
    Binary,
}

impl Kind {
    /// IANA's name of the type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Pcap | Self::Pcapng => "application/vnd.tcpdump.pcap",
            Self::Binary => "application/octet-stream",
        }
    }

    /// What a file of it is called at the end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Pcap => "pcap",
            Self::Pcapng => "pcapng",
            Self::Binary => "bin",
        }
    }
}

impl Record {
    /// Of a finished run, all but what the writer knows of the streams. `probe` is the one that ran, if it was found.
    pub fn of(result: &RunResult, probe: Option<&Probe>, node: &str) -> Self {
        let request = &result.request;
        let container = &request.container;
        let labels = container.labels();
        let known = container.metadata.load_full().map(|metadata| (*metadata).clone()).unwrap_or_default();
        let pod_uid =
            if known.pod_uid.is_empty() { container.cgroup_pod_uid.clone() } else { Some(known.pod_uid) };
        Self {
            version: VERSION,
            id: request.id.clone(),
            trigger: request.trigger.as_str().to_owned(),
            alert: request.alert.as_deref().cloned(),
            node: node.to_owned(),
            container: Place {
                id: container.id.as_str().to_owned(),
                namespace: labels.namespace,
                pod: labels.pod,
                container: labels.container,
                image: known.image,
                pod_uid: pod_uid.unwrap_or_default(),
                runtime: container.runtime.as_str().to_owned(),
                labels: known.labels,
            },
            probe: request.probe.as_str().to_owned(),
            command: probe.map(|probe| probe.command.clone()).unwrap_or_default(),
            isolation: probe.map(|probe| probe.isolation.as_str().to_owned()).unwrap_or_default(),
            way: result.output.way,
            started_at: humantime::format_rfc3339_millis(result.started_at).to_string(),
            duration_seconds: result.output.duration.as_secs_f64(),
            outcome: result.outcome.clone(),
            end: result.output.end.clone(),
            exit_status: result.output.end.exit_status(),
            max_output: probe.map_or(0, |probe| probe.max_output),
            truncated: result.output.truncated,
            stdout: Part::default(),
            stderr: Part::default(),
        }
    }

    pub fn part(&self, stream: Stream) -> &Part {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// The alert's name; empty where no alert asked.
    pub fn alert_name(&self) -> &str {
        self.alert.as_ref().map_or("", Alert::name)
    }

    /// What a stream's file is called where it is saved. Probes' names are names of files already; a record that was
    /// tampered with may say anything.
    pub fn file_name(&self, stream: Stream) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let probe: String = self.probe.chars().map(|c| if plain(c) { c } else { '_' }).take(64).collect();
        let error = if stream == Stream::Stderr { ".stderr" } else { "" };
        format!("{probe}-{}{error}.{}", self.id, self.part(stream).kind.extension())
    }

    /// Puts in what the writer has found. Which stream was cut is told by the cap: where neither has reached it, the end of
    /// both was lost.
    pub(super) fn complete(&mut self, [stdout, stderr]: [Part; 2]) {
        let full = |part: &Part| self.max_output > 0 && part.bytes >= self.max_output;
        let neither = !full(&stdout) && !full(&stderr);
        let (of_stdout, of_stderr) = (full(&stdout) || neither, full(&stderr) || neither);
        self.stdout = Part { truncated: self.truncated && of_stdout, ..stdout };
        self.stderr = Part { truncated: self.truncated && of_stderr, ..stderr };
    }

    /// Reads one, whatever the bytes are.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let corrupt = |error: serde_json::Error| Fault::Corrupt(format!("record.json: {error}"));
        let Versioned { version } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if version > VERSION {
            return Err(Fault::FutureVersion(version));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(corrupt)?;
        let is_digest =
            |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if version != VERSION || !Stream::BOTH.iter().all(|stream| is_digest(&record.part(*stream).sha256)) {
            return Err(Fault::Corrupt("record.json: a version or a digest that was never written".into()));
        }
        if humantime::parse_rfc3339(&record.started_at).is_err() || !record.duration_seconds.is_finite() {
            return Err(Fault::Corrupt("record.json: a time that is none".into()));
        }
        Ok(record)
    }
}

fn run_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RunId, D::Error> {
    let text = String::deserialize(deserializer)?;
    RunId::parse(&text).ok_or_else(|| serde::de::Error::custom("id is none of a run"))
}

/// Looks at a stream as it passes.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) bytes: u64,
    digest: Sha256,
    first: Vec<u8>,
    /// Not UTF-8, or with a NUL.
    binary: bool,
    /// The beginning of a character that goes on in the next piece.
    begun: Vec<u8>,
}

/// First bytes of a capture file in either byte order, with microseconds or nanoseconds (pcap-savefile(5)), and of the newer
/// form (draft-ietf-opsawg-pcapng, 4.1).
const PCAP: [[u8; 4]; 4] =
    [[0xa1, 0xb2, 0xc3, 0xd4], [0xd4, 0xc3, 0xb2, 0xa1], [0xa1, 0xb2, 0x3c, 0x4d], [0x4d, 0x3c, 0xb2, 0xa1]];
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

impl Observed {
    pub(super) fn see(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.digest.update(piece);
        let room = 4_usize.saturating_sub(self.first.len());
        self.first.extend(piece.iter().take(room));
        if self.binary {
            return;
        }
        let mut joined = std::mem::take(&mut self.begun);
        let text = if joined.is_empty() {
            piece
        } else {
            joined.extend_from_slice(piece);
            &joined
        };
        match std::str::from_utf8(text) {
            Ok(_) => {}
            Err(error) if error.error_len().is_none() => {
                self.begun = text.get(error.valid_up_to()..).unwrap_or_default().to_vec();
            }
            Err(_) => self.binary = true,
        }
        self.binary |= piece.contains(&0);
    }

    pub(super) fn part(self, compressed_bytes: u64) -> Part {
        let kind = if PCAP.iter().any(|magic| self.first == magic) {
            Kind::Pcap
        } else if self.first == PCAPNG && (self.binary || !self.begun.is_empty()) {
            Kind::Pcapng
        } else if self.binary || !self.begun.is_empty() {
            Kind::Binary
        } else {
            Kind::Text
        };
        Part {
            bytes: self.bytes,
            compressed_bytes,
            sha256: hex(&self.digest.finalize()),
            truncated: false,
            kind,
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
