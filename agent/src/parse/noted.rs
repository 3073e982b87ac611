//! Takes note of what a parser passes over: the first pieces of each kind with the reason, and no more than that.

use std::fmt::{self, Write as _};

use super::trace::{Trace, What};
use crate::model::{Rejected, Rejects};

/// Where in the output the parser is, and what it has passed over so far.
#[derive(Default)]
pub(super) struct Noted<'o> {
    line: Option<usize>,
    text: &'o [u8],
    rejects: Rejects,
    /// Which of the probe's metrics is being looked for.
    pub(super) rule: Option<usize>,
    /// Only where somebody wants to know each step.
    trace: Option<Trace>,
    /// Where a match in the whole output begins, for the trace.
    begins: Option<usize>,
}

/// How much was noted at some moment.
#[derive(Clone, Copy)]
pub(super) struct Mark(usize, usize);

impl<'o> Noted<'o> {
    pub(super) fn traced() -> Self {
        Self { trace: Some(Trace::default()), ..Self::default() }
    }

    pub(super) fn at(&mut self, line: Option<usize>, text: &'o [u8]) {
        (self.line, self.text, self.begins) = (line, text, line);
    }

    /// Of a match that begins so many bytes into the whole output. Costly, and only done for a trace.
    pub(super) fn begins(&mut self, output: &[u8], at: usize) {
        if self.trace.is_some() {
            let before = output.get(..at).unwrap_or(output);
            self.begins = Some(1 + before.iter().filter(|byte| **byte == b'\n').count());
        }
    }

    /// The row that the next steps are of, where the output has no lines to show.
    pub(super) fn row(&mut self, number: usize, row: &dyn fmt::Display) {
        if let Some(trace) = &mut self.trace {
            trace.row = Some((number, bounded(format_args!("{row}"), Rejects::MAX_TEXT).into()));
        }
    }

    pub(super) fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    pub(super) fn step(&mut self, what: impl FnOnce() -> What) {
        let (line, rule) = (self.begins, self.rule);
        if let Some(trace) = &mut self.trace {
            trace.note(line, rule, what());
        }
    }

    /// The reason is spelt out only if there is room for it.
    pub(super) fn bad(&mut self, why: fmt::Arguments<'_>) {
        self.step(|| What::Bad(bounded(why, Rejects::MAX_WHY)));
        if self.rejects.bad.len() < Rejects::MOST {
            let piece = self.piece(why);
            self.rejects.bad.push(piece);
        }
    }

    pub(super) fn unmatched(&mut self, why: fmt::Arguments<'_>) {
        self.step(|| What::Unmatched(bounded(why, Rejects::MAX_WHY)));
        self.rejects.unmatched_lines += 1;
        if self.rejects.unmatched.len() < Rejects::MOST {
            let piece = self.piece(why);
            self.rejects.unmatched.push(piece);
        }
    }

    fn piece(&self, why: fmt::Arguments<'_>) -> Rejected {
        Rejected { line: self.line, text: Rejects::beginning(self.text), why: bounded(why, Rejects::MAX_WHY) }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.rejects.bad.len(), self.rejects.unmatched.len())
    }

    /// Gives what was noted since `mark` a text that is costly to make, where the output has no lines to show.
    pub(super) fn describe(&mut self, mark: Mark, text: &dyn fmt::Display) {
        let Rejects { bad, unmatched, .. } = &mut self.rejects;
        for piece in bad.iter_mut().skip(mark.0).chain(unmatched.iter_mut().skip(mark.1)) {
            piece.text = bounded(format_args!("{text}"), Rejects::MAX_TEXT);
        }
    }

    pub(super) fn finish(self) -> (Rejects, Option<Trace>) {
        (self.rejects, self.trace)
    }
}

/// As much of the text as fits; what follows is not even made.
fn bounded(text: fmt::Arguments<'_>, max: usize) -> String {
    struct Bounded(String, usize);
    impl fmt::Write for Bounded {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            let room = self.1 - self.0.len();
            self.0.push_str(&part[..part.floor_char_boundary(room)]);
            if part.len() > room { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut bounded = Bounded(String::new(), max);
    // It fails when there is no more room, which is the point.
    let _ = bounded.write_fmt(text);
    bounded.0
}
