//! What the filter of `parachute exec` lets through to a person's terminal, read back by a small terminal that knows only
//! what draws.

use parachute::exec::filter::Filter;

/// A stream from a container: the same whatever pieces it comes in, harmless, and the same if it is filtered again.
pub fn stream(input: &[u8]) {
    let Some((cut, stream)) = input.split_first() else { return };
    let shown = filtered(&[stream]);
    let (first, second) = stream.split_at(usize::from(*cut).min(stream.len()));
    assert_eq!(filtered(&[first, second]), shown, "cut at {cut}");
    let mut rest = shown.as_slice();
    while !rest.is_empty() {
        rest = drawn(rest).unwrap_or_else(|| panic!("{:?} at the end of {:?}", text(rest), text(&shown)));
    }
    // What is turned off at the end would be turned off once more.
    assert!(filtered(&[&shown]).starts_with(&shown), "filtered twice: {:?}", text(&shown));
}

fn filtered(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    for piece in pieces {
        filter.feed(piece, &mut out);
    }
    filter.finish(&mut out);
    out
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Takes one character or one sequence from the front; `None` if it is nothing that only draws.
fn drawn(bytes: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = bytes.split_first()?;
    match first {
        0x07..=0x0f | 0x20..=0x7e => Some(rest),
        0x1b => sequence(rest),
        0x80.. => {
            let length = match first {
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => return None,
            };
            // A character that was cut off, or broken, leaves its beginning: no terminal takes that for a control.
            let whole = (1..=length)
                .rev()
                .filter(|&length| length <= bytes.len())
                .find(|&length| bytes[1..length].iter().all(|byte| (0x80..=0xbf).contains(byte)))?;
            let c1 = std::str::from_utf8(&bytes[..whole]).is_ok_and(|text| text.contains(char::is_control));
            (whole > 1 && !c1).then_some(&bytes[whole..])
        }
        _ => None,
    }
}

fn sequence(after_escape: &[u8]) -> Option<&[u8]> {
    let (&kind, rest) = after_escape.split_first()?;
    match kind {
        b'7' | b'8' | b'D' | b'E' | b'M' | b'H' | b'=' | b'>' => Some(rest),
        b'(' | b')' | b'*' | b'+' => {
            rest.split_first().filter(|(set, _)| (0x30..=0x7e).contains(*set)).map(|(_, rest)| rest)
        }
        b'[' => {
            let end = rest.iter().position(|byte| !(0x20..=0x3f).contains(byte))?;
            let (parameters, last) = (&rest[..end], rest[end]);
            // Reports: of attributes, of status and place, of the window, of modes, of the version and of the keyboard's state.
            let asks = match last {
                b'c' | b'n' | b't' | b'y' | b'x' | b'R' => true,
                b'p' => !parameters.ends_with(b"!"),
                b'q' => !parameters.ends_with(b" "),
                b'u' => parameters.contains(&b'?'),
                // Focus, paste and such are told without being asked again: the filter's list has those that are not.
                b'h' => parameters.split(|byte| b"?;:".contains(byte)).any(|mode| mode == b"1004"),
                other => !other.is_ascii_alphabetic() && other != b'@' && other != b'`',
            };
            (!asks).then_some(&rest[end + 1..])
        }
        _ => None,
    }
}
