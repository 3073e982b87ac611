//! Moves one stream: reads when there is something and room for it, writes when it would not block, so that a reader who
//! is slow holds up neither signals nor the other streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::exec::filter::Filter;

/// Read and not yet written; when it is full nothing is read.
const BUFFER: usize = 64 * 1024;
/// A pipe that poll(2) calls writable takes this much without blocking (pipe(7), PIPE_BUF).
const PIECE: usize = 4096;

#[derive(Debug)]
pub(super) struct Pump {
    /// None once it has ended, or once nobody wants more of it.
    from: Option<OwnedFd>,
    /// None once everything has been written, or its reader has left: closing it is how its reader knows.
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    filter: Option<Filter>,
    pub(super) from_command: bool,
    readable: bool,
    writable: bool,
}

impl Pump {
    /// `filtered` for what goes to a person's terminal.
    pub(super) fn new(from: OwnedFd, to: OwnedFd, from_command: bool, filtered: bool) -> Self {
        let filter = filtered.then(Filter::default);
        Self {
            from: Some(from),
            to: Some(to),
            buffer: Vec::new(),
            filter,
            from_command,
            readable: false,
            writable: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.to.is_none()
    }

    /// What to poll for.
    pub(super) fn watched(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let from =
            self.from.as_ref().filter(|_| self.buffer.len() < BUFFER).map(|fd| (fd.as_fd(), PollFlags::IN));
        let to = self.to.as_ref().filter(|_| !self.buffer.is_empty()).map(|fd| (fd.as_fd(), PollFlags::OUT));
        from.into_iter().chain(to).collect()
    }

    /// Takes note of what poll(2) said of [`Pump::watched`], in its order.
    pub(super) fn note(&mut self, events: &[PollFlags]) {
        let mut events = events.iter().map(|events| !events.is_empty());
        self.readable = self.from.is_some() && self.buffer.len() < BUFFER && events.next().unwrap_or(false);
        self.writable = self.to.is_some() && !self.buffer.is_empty() && events.next().unwrap_or(false);
    }

    /// Does what can be done.
    pub(super) fn turn(&mut self) {
        if self.writable {
            self.write();
        }
        if self.readable {
            self.read();
        }
        (self.readable, self.writable) = (false, false);
        if self.from.is_none() && self.buffer.is_empty() {
            self.to = None;
        }
    }

    fn read(&mut self) {
        let Some(from) = &self.from else { return };
        let mut piece = [0; 16 * 1024];
        match rustix::io::read(from, &mut piece) {
            Ok(0) => self.from = None,
            Ok(got) => {
                let piece = piece.get(..got).unwrap_or_default();
                match &mut self.filter {
                    Some(filter) => filter.feed(piece, &mut self.buffer),
                    None => self.buffer.extend_from_slice(piece),
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO: nobody has the pseudo-terminal open any more, or the person's has hung up.
            Err(_) => self.from = None,
        }
    }

    fn write(&mut self) {
        let Some(to) = &self.to else { return };
        let piece = self.buffer.get(..self.buffer.len().min(PIECE)).unwrap_or_default();
        match rustix::io::write(to, piece) {
            Ok(written) => drop(self.buffer.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Its reader has left: the writer learns it by writing to a pipe that nobody reads.
            Err(_) => {
                self.buffer.clear();
                (self.from, self.to) = (None, None);
            }
        }
    }

    /// At the end: puts the terminal right. It is a few bytes, and only for a terminal.
    pub(super) fn finish(&mut self) {
        if let (Some(filter), Some(to)) = (&mut self.filter, &self.to) {
            let mut last = std::mem::take(&mut self.buffer);
            filter.finish(&mut last);
            let _ = rustix::io::write(to, &last);
        }
    }
}
