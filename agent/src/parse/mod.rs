//! Bytes that a command printed → samples. Pure: no I/O, no clock but the one that bounds a search.
//!
//! The output comes from inside a container and is hostile. Whatever it is, nothing here panics; work and memory
//! grow no faster than the output, and memory for series not beyond `max_series`. Rules that all formats share:
//! - A line longer than [`text::MAX_LINE`] bytes is an error and is passed over.
//! - A number is the first word of its field, as Rust reads an `f64`: `12%` is an error, `12 kB` is 12.
//! - Label values are valid UTF-8 without control characters, at most [`series::MAX_LABEL`] bytes; each value that
//!   had to be changed for it is an error. An empty value is no label, as in Prometheus.
//! - No two samples of a family have the same labels. The first wins, each later one is an error; only the
//!   aggregates `count` and `sum` add up.
//! - Beyond `max_series` nothing is kept; what comes after is counted in `dropped`.

mod json;
mod keyvalue;
mod noted;
mod prometheus;
mod regex;
mod series;
mod table;
#[cfg(test)]
mod tests;
mod text;

use crate::config::parse::Parse;
use crate::model::{Family, Rejects};

/// What one output came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Every family has at least one sample.
    pub families: Vec<Family>,
    /// Lines and values that could not be used, or only after being changed.
    pub errors: u64,
    /// Series cut by `max_series`; for an aggregate, rows whose series was cut.
    pub dropped: u64,
    /// The first of what was passed over, with the reason; `errors` counts all of its bad ones.
    pub rejects: Rejects,
}

/// The output as a whole is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("the output is not JSON: {0}")]
    NotJson(String),
    #[error("the output has no header line")]
    NoHeader,
    #[error("the output's header has no column \"{0}\"")]
    NoColumn(String),
    #[error("metric {metric}: the output makes its expression run too long")]
    TooMuchWork { metric: String },
}

/// Reads `stdout` as `spec` says; at most `max_series` samples come out.
pub fn parse(spec: &Parse, stdout: &[u8], max_series: usize) -> Result<Parsed, ParseError> {
    let mut series = series::Series::new(max_series);
    match spec {
        Parse::None => {}
        Parse::Regex(metrics) => regex::parse(metrics, stdout, &mut series)?,
        Parse::Json(metrics) => json::parse(metrics, stdout, &mut series)?,
        Parse::Keyvalue(metrics) => keyvalue::parse(metrics, stdout, &mut series),
        Parse::Table(table) => table::parse(table, stdout, &mut series)?,
        Parse::Prometheus(passthrough) => prometheus::parse(passthrough, stdout, &mut series),
    }
    Ok(series.finish())
}
