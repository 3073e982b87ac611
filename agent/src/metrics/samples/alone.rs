//! One run's families by themselves, for whoever asked for that run: what may be shown is decided as for the page of all,
//! and nothing of it is kept.

use std::time::Duration;

use super::MAX_SERIES;
use super::part::Part;
use super::store::Inner;
use crate::metrics::admit;
use crate::metrics::encode::Encoder;
use crate::model::{Family, MetricKind, ProbeName};

/// The exposition of one run.
#[derive(Clone, Debug, Default)]
pub struct Alone {
    pub text: String,
    /// The run's series that are in it.
    pub series: usize,
    /// Those that may not be shown: invalid, or in conflict with others.
    pub dropped: u64,
}

/// What is said of the run itself: name, help and value of a gauge.
pub type Note = (&'static str, &'static str, f64);

/// The run's families and after them the `notes`, whose names no family of the run's can have.
pub fn alone(families: &[Family], notes: &[Note]) -> Alone {
    let (admitted, mut dropped) = admit::admit(families);
    let mut beside = Inner::new(Duration::ZERO, MAX_SERIES);
    let nobody = ProbeName::new("");
    for family in admitted.into_values() {
        if notes.iter().any(|(name, ..)| *name == &*family.name) || beside.conflicts(&family) {
            dropped += family.samples.len() as u64;
        } else {
            let part = Part::of(&family.samples);
            beside.insert(0, &nobody, family, part);
        }
    }
    let mut encoder = Encoder::default();
    for (name, slot) in &beside.slots {
        encoder.family(name, slot.kind, &slot.help);
        for (suffix, tail) in slot.parts.values().flat_map(Part::lines) {
            encoder.line(name, suffix, "", tail);
        }
    }
    for (name, help, value) in notes {
        encoder.family(name, MetricKind::Gauge, help);
        encoder.sample(name, "", "", [], *value);
    }
    Alone { text: encoder.finish(), series: beside.series, dropped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::promtool::assert_clean;
    use crate::model::Sample;

    fn family(name: &str, kind: MetricKind, samples: &[(&'static str, &[(&str, &str)])]) -> Family {
        let sample = |(suffix, labels): &(&'static str, &[(&str, &str)])| Sample {
            suffix,
            labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect(),
            value: 1.0,
        };
        let samples = samples.iter().map(sample).collect();
        Family { name: name.into(), kind, help: "Help.".into(), samples }
    }

    #[test]
    fn only_the_runs_own_valid_series_and_the_notes_come_out() {
        use MetricKind::{Gauge, Histogram};
        let families = [
            family("sockets", Gauge, &[("", &[("state", "a\"\\\nb")]), ("", &[("pod", "other")])]),
            family("probe_success", Gauge, &[("", &[("faked", "yes")])]),
            family("parachute_build_info", Gauge, &[("", &[])]),
            family(
                "lat_seconds",
                Histogram,
                &[("_bucket", &[("le", "+Inf")]), ("_sum", &[]), ("_count", &[])],
            ),
            family("lat_seconds_sum", Gauge, &[("", &[])]),
            family("bad name", Gauge, &[("", &[])]),
        ];
        let told = alone(&families, &[("probe_success", "Whether it went well.", 1.0)]);
        let expected = "# HELP lat_seconds Help.\n# TYPE lat_seconds histogram\nlat_seconds_bucket{le=\"+Inf\"} 1\n\
                        lat_seconds_sum 1\nlat_seconds_count 1\n# HELP sockets Help.\n# TYPE sockets gauge\n\
                        sockets{state=\"a\\\"\\\\\\nb\"} 1\nsockets{exported_pod=\"other\"} 1\n\
                        # HELP probe_success Whether it went well.\n# TYPE probe_success gauge\nprobe_success 1\n";
        assert_eq!((told.text.as_str(), told.series, told.dropped), (expected, 5, 4));
        assert_clean(&told.text);
        assert_eq!(alone(&[], &[]).text, "");
    }
}
