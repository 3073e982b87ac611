//! One line of exposition text.

use super::MAX_LABELS;
use crate::parse::text;

/// Names as they stand, values unescaped.
pub(super) type Labels<'l> = Vec<(&'l str, String)>;

/// Longest metric or label name in bytes.
const MAX_NAME: usize = 200;

/// Keyword, name and the rest of a HELP or TYPE comment; an empty keyword for any other comment.
pub(super) fn comment(rest: &str) -> Option<(&str, &str, &str)> {
    let rest = rest.trim_start();
    let (keyword, rest) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    if !matches!(keyword, "HELP" | "TYPE") {
        return Some(("", "", ""));
    }
    let (name, rest) = take_name(rest.trim_start(), true)?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some((keyword, name, rest.trim()))
}

/// Name, labels and value of a sample; a timestamp is checked and dropped.
pub(super) fn sample(line: &str) -> Result<(&str, Labels<'_>, f64), &'static str> {
    let (name, rest) = take_name(line, true).ok_or("it does not begin with a valid metric name")?;
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(inside) => take_labels(inside).ok_or("invalid labels")?,
        None if rest.starts_with([' ', '\t']) => (Vec::new(), rest),
        None => return Err("no value after the name"),
    };
    let mut words = rest.split_ascii_whitespace();
    let value =
        words.next().and_then(|word| text::number(word.as_bytes())).ok_or("the value is no number")?;
    if let Some(timestamp) = words.next() {
        timestamp.parse::<i64>().map_err(|_| "the timestamp is no whole number")?;
    }
    if words.next().is_some() { Err("more follows the timestamp") } else { Ok((name, labels, value)) }
}

/// `a="b",c="d"}` and what follows it. One comma may stand at the end.
fn take_labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels: Labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = take_name(rest, false)?;
        let quoted = after.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
        let end = closing_quote(quoted)?;
        let taken = labels.iter().any(|(other, _)| *other == name);
        if taken || name.starts_with("__") || labels.len() == MAX_LABELS {
            return None;
        }
        labels.push((name, unescape(&quoted[..end], true)?));
        rest = quoted[end + 1..].trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
        } else if !rest.starts_with('}') {
            return None;
        }
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// A valid metric name (with `:`) or label name at the start of `text`, and the rest.
fn take_name(text: &str, metric: bool) -> Option<(&str, &str)> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (metric && c == ':');
    let end = text.find(|c| !part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let valid = (1..=MAX_NAME).contains(&end) && !name.starts_with(|c: char| c.is_ascii_digit());
    valid.then_some((name, rest))
}

/// Resolves `\\`, `\n` and, in a label value, `\"`; any other escape is invalid there, and literal in a help text.
pub(super) fn unescape(text: &str, label: bool) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match rest.next() {
            Some('\\') => plain.push('\\'),
            Some('n') => plain.push('\n'),
            Some('"') if label => plain.push('"'),
            Some(other) if !label => plain.extend(['\\', other]),
            None if !label => plain.push('\\'),
            _ => return None,
        }
    }
    Some(plain)
}
