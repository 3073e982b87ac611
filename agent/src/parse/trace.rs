//! What became of each piece of an output, step by step, for the person who writes a probe. It is noted by the parsers
//! themselves as they work, so that it cannot say anything else than what they do. Without a reader nothing is noted.

use std::sync::Arc;

use super::{ParseError, Parsed};

/// One thing that became of a piece of the output, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Counted from 1. None where the format has no lines, and before the first.
    pub line: Option<usize>,
    /// The row with its number, where the format has rows and no lines. It comes from inside a container: show it escaped.
    pub row: Option<(usize, Arc<str>)>,
    /// Which of the probe's metrics it was, counted from 0; none where it concerns all of them.
    pub rule: Option<usize>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Sample {
        /// Name and suffix of the metric.
        name: String,
        labels: Vec<(Arc<str>, String)>,
        /// What this piece gave, scaled.
        value: f64,
        came: Came,
    },
    /// It could not be used, or only after being changed: an error that is counted.
    Bad(String),
    /// No metric asks for it.
    Unmatched(String),
    /// It is not looked at for samples, because the probe says so.
    Passed(&'static str),
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Came {
    New,
    /// It came to one that is there already, which is this much now.
    Together(f64),
    /// There are `max_series` already.
    Cut,
}

/// What a traced look at an output came to.
#[derive(Debug)]
pub struct Explained {
    pub steps: Vec<Step>,
    /// Steps beyond those, which are not told.
    pub untold: u64,
    pub end: Result<Parsed, ParseError>,
}

/// Steps that are kept: more than anybody reads, and some MB.
const MOST: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) steps: Vec<Step>,
    pub(super) untold: u64,
    pub(super) row: Option<(usize, Arc<str>)>,
}

impl Trace {
    pub(super) fn note(&mut self, line: Option<usize>, rule: Option<usize>, what: What) {
        if self.steps.len() == MOST {
            self.untold += 1;
            return;
        }
        self.steps.push(Step { line, row: self.row.clone(), rule, what });
    }
}
