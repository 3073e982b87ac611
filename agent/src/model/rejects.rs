//! What of a command's output came to nothing, for people who look for the reason. Bounded: it is kept with every run.

use serde::Serialize;

/// A piece of output that a parser could not use, or that nothing asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Counted from 1; None where the format has no lines.
    pub line: Option<usize>,
    /// Its beginning. It comes from inside a container: show it escaped.
    pub text: String,
    pub why: String,
}

/// The first pieces of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rejects {
    /// Of what a run counts as `parse_errors`: lines and values that could not be used, or only after being changed.
    pub bad: Vec<Rejected>,
    /// Of what is no error: lines that no metric asks for.
    pub unmatched: Vec<Rejected>,
    /// How many of those there are among the lines that were looked at.
    pub unmatched_lines: u64,
}

impl Rejects {
    /// Pieces that are kept of each kind.
    pub const MOST: usize = 50;
    /// Longest text that is kept of a piece, in bytes.
    pub const MAX_TEXT: usize = 200;
    /// Longest reason, in bytes: it may have a name from the output in it.
    pub const MAX_WHY: usize = 300;

    /// The beginning of `text`, with what is no UTF-8 replaced.
    pub fn beginning(text: &[u8]) -> String {
        let cut = &text[..text.len().min(Self::MAX_TEXT)];
        let mut shown = String::from_utf8_lossy(cut).into_owned();
        shown.truncate(shown.floor_char_boundary(Self::MAX_TEXT));
        shown
    }
}
