//! A moment as a person or a program writes it, to choose captures by. Pure.

use std::time::{Duration, SystemTime};

/// RFC 3339, seconds since 1970, or a time before `now` such as 90m; the error says so.
pub fn moment(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let time = if let Some(seconds) = seconds {
        let since = Duration::try_from_secs_f64(seconds).ok();
        since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
    } else if let Ok(ago) = humantime::parse_duration(text) {
        now.checked_sub(ago)
    } else {
        text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
    };
    time.ok_or_else(|| {
        format!(
            "{text:?} is no time; write one such as 2026-11-26T03:04:12Z, 1795662252, or 90m for so long ago"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        for (text, expected) in [
            ("1970-01-01T00:01:00Z", at(60)),
            ("1970-01-01T02:01:00+02:00", at(60)),
            ("60", at(60)),
            ("0", at(0)),
            ("1h", at(6_400)),
            ("1m 40s", at(9_900)),
            ("", None),
            ("yesterday", None),
            ("-1", None),
            ("inf", None),
            ("NaN", None),
            ("1e300", None),
            ("1970-01-01", None),
            ("1970-13-01T00:00:00Z", None),
            ("1970-01-01T02:01:00 02:00", None),
        ] {
            assert_eq!(moment(text, now).ok(), expected, "{text}");
        }
    }
}
