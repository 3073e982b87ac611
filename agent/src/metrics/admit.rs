//! The last gate before the exposition: a run's families come out with valid, unique series or not at all, because
//! one bad line costs Prometheus the whole scrape. Pure; what the store already holds is compared in `samples`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::model::{Family, MetricKind, Sample};

/// What the agent adds to every series; a command's own label of that name becomes `exported_…`, as Prometheus does.
const CONTAINER_LABELS: [&str; 3] = ["namespace", "pod", "container"];

/// The families that may be shown, one per name, and how many series may not.
pub fn admit(families: &[Family]) -> (BTreeMap<Arc<str>, Family>, u64) {
    let mut admitted: BTreeMap<Arc<str>, Family> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut dropped = 0;
    for family in families {
        let first = admitted.entry(Arc::clone(&family.name)).or_insert_with(|| Family {
            name: Arc::clone(&family.name),
            kind: family.kind,
            help: Arc::clone(&family.help),
            samples: Vec::with_capacity(family.samples.len()),
        });
        let usable = valid_name(&family.name, true) && first.kind == family.kind;
        for sample in &family.samples {
            let Some(sample) = usable.then(|| clean(family.kind, sample)).flatten() else {
                dropped += 1;
                continue;
            };
            let series = (Arc::clone(&family.name), sample.suffix, sample.labels.clone());
            if seen.insert(series) {
                first.samples.push(sample);
            } else {
                dropped += 1;
            }
        }
    }
    admitted.retain(|_, family| !family.samples.is_empty());
    (admitted, dropped)
}

/// The sample with its labels in order of name (equal series are then equal values), or None if it is not valid.
fn clean(kind: MetricKind, sample: &Sample) -> Option<Sample> {
    let mut labels = sample.labels.clone();
    for (label, _) in &mut labels {
        if CONTAINER_LABELS.contains(&label.as_ref()) {
            *label = format!("exported_{label}").into();
        }
    }
    labels.sort();
    let names_valid = labels.iter().all(|(label, _)| valid_name(label, false) && !label.starts_with("__"));
    let names_unique = labels.windows(2).all(|pair| pair[0].0 != pair[1].0);
    let shape_valid = kind.takes(sample.suffix, |wanted| {
        labels.iter().find(|(label, _)| label.as_ref() == wanted).map(|(_, text)| text.as_str())
    });
    (names_valid && names_unique && shape_valid).then_some(Sample {
        suffix: sample.suffix,
        labels,
        value: sample.value,
    })
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*` for metrics, the same without colons for labels.
fn valid_name(name: &str, colons: bool) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    name.bytes().all(fits) && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(suffix: &'static str, labels: &[(&str, &str)]) -> Sample {
        let labels = labels.iter().map(|(label, text)| (Arc::from(*label), (*text).to_owned())).collect();
        Sample { suffix, labels, value: 1.0 }
    }

    fn family(name: &str, kind: MetricKind, samples: Vec<Sample>) -> Family {
        Family { name: name.into(), kind, help: "h".into(), samples }
    }

    #[test]
    fn what_would_break_a_scrape_is_dropped() {
        use MetricKind::{Gauge, Histogram, Summary};
        for (name, kind, bad) in [
            ("1x", Gauge, sample("", &[])),
            ("", Gauge, sample("", &[])),
            ("x y", Gauge, sample("", &[])),
            ("x", Gauge, sample("", &[("bad-label", "")])),
            ("x", Gauge, sample("", &[("a:b", "")])),
            ("x", Gauge, sample("", &[("__name__", "y")])),
            ("x", Gauge, sample("", &[("a", "1"), ("a", "2")])),
            ("x", Gauge, sample("_sum", &[])),
            ("x", Histogram, sample("", &[])),
            ("x", Histogram, sample("_bucket", &[])),
            ("x", Histogram, sample("_bucket", &[("le", "much")])),
            ("x", Histogram, sample("_bucket", &[("le", "-NaN")])),
            ("x", Histogram, sample("_count", &[("le", "")])),
            ("x", Summary, sample("", &[("quantile", "")])),
            ("x", Summary, sample("_sum", &[("quantile", "0")])),
        ] {
            let (kept, dropped) = admit(&[family(name, kind, vec![bad.clone()])]);
            assert!(kept.is_empty() && dropped == 1, "{name} {bad:?}");
        }
    }

    #[test]
    fn good_series_pass_unchanged_and_equal_ones_once() {
        let samples = vec![
            sample("_bucket", &[("le", "+Inf"), ("a", "1")]),
            sample("_bucket", &[("a", "1"), ("le", "+Inf")]),
            sample("_sum", &[("a", "1")]),
            sample("_count", &[("a", "1")]),
        ];
        let (kept, dropped) = admit(&[family("x_seconds", MetricKind::Histogram, samples)]);
        assert_eq!((kept["x_seconds"].samples.len(), dropped), (3, 1));
    }

    #[test]
    fn a_name_that_comes_twice_is_one_family() {
        let one = |kind, label: &str| family("x", kind, vec![sample("", &[("a", label)])]);
        let (kept, dropped) =
            admit(&[one(MetricKind::Gauge, "1"), one(MetricKind::Gauge, "2"), one(MetricKind::Counter, "3")]);
        assert_eq!((kept["x"].samples.len(), dropped), (2, 1));
    }

    #[test]
    fn labels_of_the_container_cannot_be_faked() {
        let (kept, _) = admit(&[family("x", MetricKind::Gauge, vec![sample("", &[("pod", "other")])])]);
        assert_eq!(kept["x"].samples[0].labels[0].0.as_ref(), "exported_pod");
    }
}
