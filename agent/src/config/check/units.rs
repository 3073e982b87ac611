//! Durations, sizes, counts and scales: text with a unit becomes a number within bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

use super::Checker;
use crate::config::yaml::at::{At, Tried};

impl Checker<'_> {
    pub(super) fn duration(
        &self,
        raw: Option<&Tried<At<String>>>,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(raw) = raw.and_then(Tried::get) else { return default };
        let in_bounds = parse_duration(&raw.value).and_then(|duration| {
            if allowed.contains(&duration) {
                return Ok(duration);
            }
            let (least, most) = (show_duration(*allowed.start()), show_duration(*allowed.end()));
            Err(format!("{} is out of range; write a duration from {least} to {most}", raw.value))
        });
        self.found.ok(&raw.place, in_bounds).unwrap_or(default)
    }

    pub(super) fn size(&self, raw: Option<&Tried<At<String>>>, default: u64, most: u64) -> u64 {
        self.size_within(raw, default, 1..=most, &format!("1B to {}MiB", most >> 20))
    }

    pub(super) fn size_within(
        &self,
        raw: Option<&Tried<At<String>>>,
        default: u64,
        allowed: RangeInclusive<u64>,
        shown: &str,
    ) -> u64 {
        let Some(raw) = raw.and_then(Tried::get) else { return default };
        let size = raw.value.parse::<ByteSize>().map_err(|_| ());
        let in_bounds = match size {
            Ok(size) if allowed.contains(&size.as_u64()) => Ok(size.as_u64()),
            Ok(_) => Err(format!("{} is out of range; write a size from {shown}", raw.value)),
            Err(()) => Err(format!("{:?} is not a size; write one such as 64KiB, 1MiB or 65536", raw.value)),
        };
        self.found.ok(&raw.place, in_bounds).unwrap_or(default)
    }

    pub(super) fn count(
        &self,
        raw: Option<&Tried<At<u64>>>,
        default: usize,
        allowed: RangeInclusive<usize>,
    ) -> usize {
        let Some(raw) = raw.and_then(Tried::get) else { return default };
        let in_bounds =
            usize::try_from(raw.value).ok().filter(|count| allowed.contains(count)).ok_or_else(|| {
                format!(
                    "{} is out of range; write a number from {} to {}",
                    raw.value,
                    allowed.start(),
                    allowed.end()
                )
            });
        self.found.ok(&raw.place, in_bounds).unwrap_or(default)
    }

    pub(super) fn scale(&self, raw: Option<&Tried<At<f64>>>) -> f64 {
        let Some(raw) = raw.and_then(Tried::get) else { return 1.0 };
        if !raw.value.is_finite() || raw.value <= 0.0 {
            self.found.add(&raw.place, format!("{} is not a scale; write a number above 0", raw.value));
        }
        raw.value
    }
}

/// Units of Prometheus' durations in this order, each at most once, in milliseconds.
/// <https://prometheus.io/docs/prometheus/latest/configuration/configuration/>, `<duration>`.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let wrong = || format!("{text:?} is not a duration; write one such as 500ms, 30s, 5m or 1h30m");
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..unit_end];
        rest = &rest[unit_end..];
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = number.checked_mul(*millis).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}

fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let whole = UNITS.iter().skip(2).find(|(_, unit)| millis > 0 && millis.is_multiple_of(u128::from(*unit)));
    whole.map_or("0s".into(), |(name, unit)| format!("{}{name}", millis / u128::from(*unit)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("1d", Some(86_400_000)),
            ("1w2d", Some(9 * 86_400_000)),
            ("1y", Some(365 * 86_400_000)),
            ("1m1ms", Some(60_001)),
            ("", None),
            ("5", None),
            ("m", None),
            ("30m1h", None),
            ("1s1s", None),
            ("1.5h", None),
            ("-1s", None),
            ("1 s", None),
            ("1sec", None),
            ("99999999999999999999s", None),
            ("9999999999999999y", None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_or_a_message(text in "[0-9ywdhms .-]{0,12}|.{0,12}") {
            if let Err(message) = parse_duration(&text) {
                prop_assert!(message.contains("is not a duration"));
            }
        }

        #[test]
        fn shown_durations_read_back(seconds in 0u64..10_000_000) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }
}
