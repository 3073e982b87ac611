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
mod trace;

pub use self::trace::{Came, Explained, Step, What};
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
    let mut series = series::Series::new(max_series, noted::Noted::default());
    read(spec, stdout, &mut series)?;
    Ok(series.finish().0)
}

/// The same, with each step that led there.
pub fn explain(spec: &Parse, stdout: &[u8], max_series: usize) -> Explained {
    let mut series = series::Series::new(max_series, noted::Noted::traced());
    let end = read(spec, stdout, &mut series);
    let (parsed, trace) = series.finish();
    let trace = trace.unwrap_or_default();
    Explained { steps: trace.steps, untold: trace.untold, end: end.map(|()| parsed) }
}

fn read<'o>(spec: &Parse, stdout: &'o [u8], series: &mut series::Series<'o>) -> Result<(), ParseError> {
    match spec {
        Parse::None => {}
        Parse::Regex(metrics) => regex::parse(metrics, stdout, series)?,
        Parse::Json(metrics) => json::parse(metrics, stdout, series)?,
        Parse::Keyvalue(metrics) => keyvalue::parse(metrics, stdout, series),
        Parse::Table(table) => table::parse(table, stdout, series)?,
        Parse::Prometheus(passthrough) => prometheus::parse(passthrough, stdout, series),
    }
    Ok(())
}
