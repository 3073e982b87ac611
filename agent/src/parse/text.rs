//! Hostile bytes → lines, words and numbers.

/// Longest line in bytes that is looked at.
pub(super) const MAX_LINE: usize = 64 << 10;

/// The lines of `output` without their ends, empty ones left out; `Err` for one that is too long.
pub(super) fn lines(output: &[u8]) -> impl Iterator<Item = Result<&[u8], ()>> {
    output
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
        .map(|line| if line.len() > MAX_LINE { Err(()) } else { Ok(line) })
}

/// The words between runs of white space.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The first word of `field` as a number. Infinity and NaN only where they are spelt out: 1e999 is an error.
pub(super) fn number(field: &[u8]) -> Option<f64> {
    let word = words(field).next()?;
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    (number.is_finite() || !word.iter().any(u8::is_ascii_digit)).then_some(number)
}
