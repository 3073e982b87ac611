//! Hostile bytes → lines, words and numbers.

/// Longest line in bytes that is looked at.
pub(super) const MAX_LINE: usize = 64 << 10;

/// A line of the output without its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'o> {
    /// Counted from 1, empty ones too.
    pub(super) number: usize,
    pub(super) bytes: &'o [u8],
}

impl Line<'_> {
    pub(super) fn is_too_long(&self) -> bool {
        self.bytes.len() > MAX_LINE
    }
}

/// The lines of `output`, empty ones left out.
pub(super) fn lines(output: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let numbered = output.split(|&byte| byte == b'\n').zip(1..);
    numbered
        .map(|(line, number)| Line { number, bytes: line.strip_suffix(b"\r").unwrap_or(line) })
        .filter(|line| !line.bytes.iter().all(u8::is_ascii_whitespace))
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
