//! The store and the encoder with whatever a parser might ever hand out, and more: names, labels, types and numbers from
//! the input, in several containers of which some are named alike, that come and go.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parachute::metrics::encode::Encoder;
use parachute::metrics::{AgentMetrics, Samples};
use parachute::model::{Family, MetricKind, Outcome, ProbeName, Sample};

use super::keep;
use super::page::{container, named, result, samples_of};

/// Chance would seldom find a name twice.
const NAMES: [&str; 12] = [
    "a",
    "a_sum",
    "a_count",
    "a_bucket",
    "b_total",
    "b",
    "process_open_fds",
    "parachute_containers",
    "parachute_probe_duration_seconds",
    "parachute_probe_duration_seconds_sum",
    "parachute_probe_last_success",
    "1x",
];
const LABELS: [&str; 9] = ["le", "quantile", "pod", "exported_pod", "container", "a", "b", "__name__", "a:b"];
const TEXTS: [&str; 9] =
    ["", "1", "+Inf", "-NaN", "1e999", "x", "\"\\\n", "\u{0}\u{7f}\r\u{2028}é🪂", "0x1p3"];
const KINDS: [MetricKind; 5] =
    [MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram, MetricKind::Summary, MetricKind::Untyped];

pub fn published(input: &[u8]) {
    static METRICS: OnceLock<AgentMetrics> = OnceLock::new();
    let metrics = METRICS.get_or_init(|| AgentMetrics::new().expect("the metrics can be made"));
    let samples = Samples::new(Duration::from_mins(1), metrics.series_dropped.clone());
    let probes = [ProbeName::new("one"), ProbeName::new("two")];
    let input = &mut Bytes(input);
    let mut containers = Vec::new();
    for id in ["a", "b", "c"].iter().take(1 + input.below(3)) {
        let metadata = (input.below(4) > 0).then(|| named(&input.text(), &input.text(), &input.text()));
        let container = container(id, metadata);
        samples.container_up(&container);
        containers.push(container);
    }
    for _ in 0..=input.below(4) {
        let container = &containers[input.below(containers.len())];
        let families = (0..input.below(5)).map(|_| family(input)).collect();
        samples.publish(&result(&probes[input.below(2)], container, Outcome::Ok, families));
        if input.below(8) == 0 {
            samples.container_gone(container);
        }
    }
    let mut encoder = Encoder::default();
    samples.render(&mut encoder, &[]);
    let page = encoder.finish();
    samples_of(&page, usize::MAX);
    keep(page.as_bytes());
}

fn family(input: &mut Bytes<'_>) -> Family {
    let name = input.word(&NAMES).into();
    let kind = KINDS[input.below(KINDS.len())];
    let help = input.text().into();
    let samples = (0..input.below(5)).map(|_| sample(input)).collect();
    Family { name, kind, help, samples }
}

fn sample(input: &mut Bytes<'_>) -> Sample {
    let suffix = ["", "_bucket", "_sum", "_count"][input.below(4)];
    let labels = (0..input.below(4)).map(|_| (Arc::from(input.word(&LABELS)), input.text())).collect();
    let bits = input.take(8).iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    Sample { suffix, labels, value: f64::from_bits(bits) }
}

/// The input, as far as it goes; then zeros.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn below(&mut self, end: usize) -> usize {
        self.take(1).first().map_or(0, |byte| usize::from(*byte) % end)
    }

    /// One that is known, or any.
    fn word(&mut self, known: &[&str]) -> String {
        match self.below(known.len() + 1) {
            any if any == known.len() => {
                let length = self.below(200);
                String::from_utf8_lossy(self.take(length)).into_owned()
            }
            place => known[place].to_owned(),
        }
    }

    fn text(&mut self) -> String {
        self.word(&TEXTS)
    }
}
