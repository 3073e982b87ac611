//! What a person sees of one command in many containers: lines with their container's name before them as they come, or
//! one JSON document at the end; a summary; progress where somebody looks on.

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::filter::show;
use super::many::Outcome;
use super::status::{exit_status, told};
use crate::model::End;

/// Lines that wait for a slow reader; when so much waits nothing more is read from the commands.
const ROOM: usize = 256 * 1024;
/// A longer line is cut in two.
const MAX_LINE: usize = 64 * 1024;
/// Of each stream of each command in the JSON document.
const MAX_CAPTURE: usize = 4 * 1024 * 1024;
/// A pipe that poll(2) calls writable takes this much without blocking (pipe(7), PIPE_BUF).
const PIECE: usize = 4096;
/// Longest progress line in characters: it must stay one line in the narrowest usual terminal.
const PROGRESS: usize = 79;

/// Whose output it is.
#[derive(Clone, Debug, Default)]
pub struct Label {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub id: String,
    /// As a person sees it: without control characters.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Lines,
    Json,
}

#[derive(Debug)]
struct Entry {
    label: Label,
    /// Of output and error: an unfinished line, or all that is kept for JSON.
    held: [Vec<u8>; 2],
    truncated: bool,
    result: Option<(Result<(), String>, Value)>,
}

/// One of this process's own streams, with what waits for it.
#[derive(Debug)]
struct Outlet {
    fd: OwnedFd,
    is_terminal: bool,
    waiting: Vec<u8>,
    /// Its reader has left.
    closed: bool,
}

#[derive(Debug)]
pub struct Report {
    style: Style,
    command: String,
    entries: Vec<Entry>,
    outlets: [Outlet; 2],
    width: usize,
    done: usize,
    failed: usize,
    /// Progress stands on the screen and must be wiped before anything else is written.
    progress: String,
}

impl Report {
    /// For these containers, on this process's standard output and error.
    pub fn new(style: Style, command: String, labels: Vec<Label>) -> io::Result<Self> {
        let outlet = |fd: BorrowedFd<'_>, is_terminal| {
            Ok::<_, io::Error>(Outlet {
                fd: fd.try_clone_to_owned()?,
                is_terminal,
                waiting: Vec::new(),
                closed: false,
            })
        };
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let outlets =
            [outlet(stdout.as_fd(), stdout.is_terminal())?, outlet(stderr.as_fd(), stderr.is_terminal())?];
        Ok(Self::with(style, command, labels, outlets))
    }

    fn with(style: Style, command: String, labels: Vec<Label>, outlets: [Outlet; 2]) -> Self {
        let width = labels.iter().map(|label| label.name.chars().count()).max().unwrap_or(0);
        let entries = labels
            .into_iter()
            .map(|label| Entry { label, held: Default::default(), truncated: false, result: None })
            .collect();
        Self { style, command, entries, outlets, width, done: 0, failed: 0, progress: String::new() }
    }

    /// What a command wrote to its output (0) or error (1).
    pub(super) fn output(&mut self, number: usize, stream: usize, bytes: &[u8]) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        let Some(held) = entry.held.get_mut(stream) else { return };
        if self.style == Style::Json {
            let room = MAX_CAPTURE.saturating_sub(held.len());
            entry.truncated |= bytes.len() > room;
            held.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
            return;
        }
        held.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = held
            .iter()
            .position(|byte| *byte == b'\n')
            .or_else(|| (held.len() > MAX_LINE).then_some(MAX_LINE))
        {
            let rest = held.split_off(end);
            lines.push(std::mem::replace(held, rest));
            if held.first() == Some(&b'\n') {
                held.remove(0);
            }
        }
        for line in lines {
            self.line(number, stream, &line);
        }
    }

    fn line(&mut self, number: usize, stream: usize, line: &[u8]) {
        self.wipe_progress();
        let (Some(entry), Some(outlet)) = (self.entries.get(number), self.outlets.get_mut(stream)) else {
            return;
        };
        let to = &mut outlet.waiting;
        to.extend(format!("{:width$} | ", entry.label.name, width = self.width).bytes());
        if outlet.is_terminal {
            for part in line.split_inclusive(|byte| *byte == b'\t') {
                let (tab, text) = part
                    .split_last()
                    .filter(|(last, _)| **last == b'\t')
                    .map_or((None, part), |(tab, text)| (Some(tab), text));
                show_text(to, text);
                to.extend(tab);
            }
        } else {
            to.extend_from_slice(line);
        }
        to.push(b'\n');
    }

    pub(super) fn done(&mut self, number: usize, outcome: &Outcome, duration: Duration) {
        for stream in 0..2 {
            let unfinished = self.style == Style::Lines;
            let held = self.entries.get_mut(number).and_then(|entry| entry.held.get_mut(stream));
            match held.map(std::mem::take).filter(|held| !held.is_empty()) {
                Some(line) if unfinished => self.line(number, stream, &line),
                Some(kept) => {
                    if let Some(held) =
                        self.entries.get_mut(number).and_then(|entry| entry.held.get_mut(stream))
                    {
                        *held = kept;
                    }
                }
                None => {}
            }
        }
        let command = self.command.clone();
        let Some(entry) = self.entries.get_mut(number) else { return };
        let (word, status, problem) = verdict(outcome, &command);
        self.done += 1;
        self.failed += usize::from(problem.is_some());
        let [stdout, stderr] = entry.held.each_mut().map(std::mem::take);
        let mut value = json!({
            "namespace": entry.label.namespace,
            "pod": entry.label.pod,
            "container": entry.label.container,
            "id": entry.label.id,
            "outcome": word,
            "exit_status": status,
            "duration_seconds": duration.as_secs_f64(),
            "truncated": entry.truncated,
            "stdout": String::from_utf8_lossy(&stdout),
            "stderr": String::from_utf8_lossy(&stderr),
        });
        // As the agent's answers have it: the exact bytes beside a text that cannot hold them.
        for (key, bytes) in [("stdout_base64", &stdout), ("stderr_base64", &stderr)] {
            if std::str::from_utf8(bytes).is_err() {
                value[key] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
            }
        }
        if let Some(problem) = &problem {
            value["error"] = problem.clone().into();
        }
        entry.result = Some((problem.map_or(Ok(()), Err), value));
    }

    /// Where somebody looks on: one line that is written over.
    pub(super) fn progress(&mut self, running: impl Iterator<Item = usize>) {
        let [_, stderr] = &mut self.outlets;
        if !stderr.is_terminal || !stderr.waiting.is_empty() || self.done == self.entries.len() {
            return;
        }
        let names: Vec<_> = running
            .filter_map(|number| self.entries.get(number))
            .map(|entry| entry.label.name.as_str())
            .collect();
        let line = format!(
            "{}/{} done, {} failed, running: {}",
            self.done,
            self.entries.len(),
            self.failed,
            names.join(", ")
        );
        let line: String = line.chars().take(PROGRESS).collect();
        if line != self.progress {
            stderr.waiting.extend(format!("\r\x1b[K{line}").bytes());
            self.progress = line;
        }
    }

    fn wipe_progress(&mut self) {
        if !std::mem::take(&mut self.progress).is_empty() {
            // To the same screen, through whichever stream is a terminal and is written first.
            for outlet in self.outlets.iter_mut().filter(|outlet| outlet.is_terminal) {
                outlet.waiting.extend(b"\r\x1b[K");
            }
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.outlets.iter().all(|outlet| outlet.waiting.len() < ROOM)
    }

    pub(super) fn is_written(&self) -> bool {
        self.outlets.iter().all(|outlet| outlet.waiting.is_empty())
    }

    /// What to poll for room.
    pub(super) fn watched(&self) -> Vec<BorrowedFd<'_>> {
        self.outlets
            .iter()
            .filter(|outlet| !outlet.waiting.is_empty())
            .map(|outlet| outlet.fd.as_fd())
            .collect()
    }

    /// Writes what can be written without waiting.
    pub(super) fn write(&mut self) {
        for outlet in &mut self.outlets {
            let mut fds = [rustix::event::PollFd::new(&outlet.fd, rustix::event::PollFlags::OUT)];
            while !outlet.waiting.is_empty()
                && matches!(rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())), Ok(1..))
            {
                let piece = outlet.waiting.get(..outlet.waiting.len().min(PIECE)).unwrap_or_default();
                match rustix::io::write(&outlet.fd, piece) {
                    Ok(written) => drop(outlet.waiting.drain(..written)),
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                    Err(_) => outlet.closed = true,
                }
                if outlet.closed {
                    break;
                }
            }
            if outlet.closed {
                outlet.waiting.clear();
            }
        }
    }

    /// The summary, and the document; true if every command ended with 0.
    pub(super) fn finish(&mut self) -> bool {
        self.wipe_progress();
        let ok = self.done - self.failed;
        let mut summary = format!("{} containers: {ok} ok, {} failed\n", self.entries.len(), self.failed);
        for entry in &self.entries {
            if let Some((Err(problem), _)) = &entry.result {
                summary.extend(["  ", &entry.label.name, ": ", problem, "\n"]);
            }
        }
        if self.style == Style::Json {
            let runs: Vec<_> =
                self.entries.iter().filter_map(|entry| Some(&entry.result.as_ref()?.1)).collect();
            let summary = json!({ "matched": self.entries.len(), "ok": ok, "failed": self.failed });
            let document = format!("{:#}\n", json!({ "runs": runs, "summary": summary }));
            self.outlets[0].waiting.extend(document.into_bytes());
        }
        self.outlets[1].waiting.extend(summary.into_bytes());
        // Nothing else is under way any more: a reader that is slow is waited for, as by any program.
        for outlet in self.outlets.iter_mut().filter(|outlet| !outlet.closed) {
            let mut rest = outlet.waiting.as_slice();
            while !rest.is_empty() {
                match rustix::io::write(&outlet.fd, rest) {
                    Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break,
                }
            }
        }
        self.failed == 0
    }
}

/// Word, exit status, and what is wrong.
fn verdict(outcome: &Outcome, command: &str) -> (&'static str, Option<u8>, Option<String>) {
    match outcome {
        Outcome::NotRun => ("not_run", None, Some("not run: a signal came first".to_owned())),
        Outcome::Failed(reason) => ("failed", None, Some(reason.clone())),
        Outcome::Ended(end) => {
            let status = exit_status(end);
            let word = match end {
                End::Exited { code: 0 } => "ok",
                End::Exited { .. } | End::Signaled { .. } => "nonzero",
                End::TimedOut { .. } => "timeout",
                End::Cancelled { .. } => "cancelled",
                End::TargetGone => "target_gone",
                End::Tampered => "tampered",
                End::EnterFailed { .. } => "enter_failed",
                End::Refused { .. } => "refused",
            };
            let problem =
                (status != 0).then(|| told(end, command).unwrap_or_else(|| format!("exit status {status}")));
            (word, Some(status), problem)
        }
    }
}

/// Text as it is, controls in caret form.
fn show_text(to: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                let mut bytes = [0; 4];
                show(to, character.encode_utf8(&mut bytes).as_bytes());
            } else {
                to.extend(character.to_string().bytes());
            }
        }
        show(to, chunk.invalid());
    }
}
