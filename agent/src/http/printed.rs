//! What `parachute run` prints of a run: made where the run was, by the agent or by that verb itself, and handed over whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::RunView;
use crate::metrics::encode::{Encoder, label_text};
use crate::model::{Outcome, RunResult};

/// What is printed: samples in the text format, everything as JSON, or the command's own output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Metrics,
    Json,
    Raw,
}

/// For the two streams, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// 0 for `ok`, the command's own for `nonzero`, 1 for any other outcome.
    pub status: u8,
}

/// The same in an answer, as JSON.
#[derive(Serialize, Deserialize)]
struct Wire {
    /// Base64.
    stdout: String,
    stderr: String,
    status: u8,
}

impl Printed {
    pub fn of(result: &RunResult, format: Format) -> serde_json::Result<Self> {
        let (stdout, mut stderr) = match format {
            Format::Metrics => (exposition(result).into_bytes(), result.output.stderr.clone()),
            Format::Raw => (result.output.stdout.clone(), result.output.stderr.clone()),
            Format::Json => {
                let mut text = serde_json::to_vec_pretty(&RunView::from(result))?;
                text.push(b'\n');
                (text, Vec::new())
            }
        };
        if format != Format::Json && !result.outcome.is_ok() {
            let (probe, container) = (&result.request.probe, &result.request.container);
            stderr.extend(format!("parachute: {probe} in {container}: {}\n", result.outcome).bytes());
        } else if format == Format::Metrics && result.families.is_empty() {
            let probe = &result.request.probe;
            let words = "ok, and no metrics came of it; -o raw shows what it printed";
            stderr.extend(format!("parachute: {probe}: {words}\n").bytes());
        }
        let status = match &result.outcome {
            Outcome::Ok => 0,
            Outcome::Nonzero { status } => u8::try_from(*status).unwrap_or(1),
            _ => 1,
        };
        Ok(Self { stdout, stderr, status })
    }

    pub(super) fn wire(&self) -> impl Serialize + use<> {
        Wire {
            stdout: STANDARD.encode(&self.stdout),
            stderr: STANDARD.encode(&self.stderr),
            status: self.status,
        }
    }

    /// Reads an answer's body.
    pub fn read(body: &str) -> Option<Self> {
        let Wire { stdout, stderr, status } = serde_json::from_str(body).ok()?;
        Some(Self { stdout: STANDARD.decode(stdout).ok()?, stderr: STANDARD.decode(stderr).ok()?, status })
    }
}

fn exposition(result: &RunResult) -> String {
    let labels = result.request.container.labels();
    let prefix = label_text(&[
        ("namespace", &labels.namespace),
        ("pod", &labels.pod),
        ("container", &labels.container),
    ]);
    let mut encoder = Encoder::default();
    for family in &result.families {
        encoder.family(&family.name, family.kind, &family.help);
        for sample in &family.samples {
            let labels = sample.labels.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
            encoder.sample(&family.name, sample.suffix, &prefix, labels, sample.value);
        }
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{container, named, result};

    #[test]
    fn it_comes_over_the_wire_as_it_was() {
        let shop = container("a", named("shop", "cart-0", "cart"));
        for (outcome, status, told) in [
            (Outcome::Ok, 0, ""),
            (Outcome::Nonzero { status: 7 }, 7, "parachute: p in shop/cart-0/cart"),
            (Outcome::Timeout, 1, "parachute: p in shop/cart-0/cart"),
        ] {
            let mut run = result("p", &shop, outcome, Vec::new());
            run.output.stdout = vec![0, 0xff, b'x'];
            let printed = Printed::of(&run, Format::Raw).unwrap();
            assert_eq!((printed.status, &printed.stdout), (status, &run.output.stdout));
            assert!(String::from_utf8_lossy(&printed.stderr).starts_with(told), "{printed:?}");
            let wire = serde_json::to_string(&printed.wire()).unwrap();
            assert_eq!(Printed::read(&wire), Some(printed));
        }
        assert_eq!(Printed::read("{}"), None);
    }
}
