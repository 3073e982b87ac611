//! Which part of a file is asked for, and whether the asker has it already (RFC 9110, 13 and 14). Pure.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    All,
    /// Both bytes included.
    Part {
        from: u64,
        to: u64,
    },
    Beyond,
}

/// One range of bytes (RFC 9110, 14.2). What is malformed, or of several ranges, may be ignored, and is.
pub(super) fn range(text: &str, length: u64) -> Range {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let Some((from, to)) = text.trim().strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Range::All;
    };
    let (from, to) = (from.trim(), to.trim());
    match (number(from), number(to)) {
        (None, Some(last)) if from.is_empty() => {
            if last == 0 || length == 0 {
                Range::Beyond
            } else {
                Range::Part { from: length.saturating_sub(last), to: length - 1 }
            }
        }
        (Some(from), None) if to.is_empty() && from < length => Range::Part { from, to: length - 1 },
        (Some(_), None) if to.is_empty() => Range::Beyond,
        (Some(from), Some(to)) if from > to => Range::All,
        (Some(from), Some(to)) if from < length => Range::Part { from, to: to.min(length - 1) },
        (Some(_), Some(_)) => Range::Beyond,
        _ => Range::All,
    }
}

/// Whether a list of tags has this one (RFC 9110, 13.1.2).
pub(super) fn names(given: &str, etag: &str) -> bool {
    given.trim() == "*"
        || given.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |from, to| Range::Part { from, to };
        for (text, length, expected) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=2-4", 10, part(2, 4)),
            ("bytes=2-", 10, part(2, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-30", 10, part(0, 9)),
            ("bytes=9-99999999999999999999999", 10, part(9, 9)),
            ("bytes=10-", 10, Range::Beyond),
            ("bytes=10-12", 10, Range::Beyond),
            ("bytes=99999999999999999999999-", 10, Range::Beyond),
            ("bytes=-0", 10, Range::Beyond),
            ("bytes=0-", 0, Range::Beyond),
            ("bytes=-1", 0, Range::Beyond),
            ("bytes=4-2", 10, Range::All),
            ("bytes=0-1,3-4", 10, Range::All),
            ("bytes=a-b", 10, Range::All),
            ("bytes=-", 10, Range::All),
            ("bytes=+1-2", 10, Range::All),
            ("lines=0-1", 10, Range::All),
            ("", 10, Range::All),
        ] {
            assert_eq!(range(text, length), expected, "{text} of {length}");
        }
    }

    #[test]
    fn tags() {
        for (given, found) in [
            ("\"a\"", true),
            ("\"b\", W/\"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(names(given, "\"a\""), found, "{given}");
        }
    }
}
