//! Output of a container on a person's terminal. It may be made to deceive: control characters, and those that do not show or
//! that turn the line round, are shown in place of what they do.

use crate::exec::filter::show;
use crate::http::hidden;

/// A stream as it passes, cut anywhere. Every line of it is indented, so that none of it can be taken for something that
/// stands around it.
#[derive(Debug, Default)]
pub(super) struct Visible {
    /// The beginning of a character that goes on in the next piece.
    begun: Vec<u8>,
    in_line: bool,
}

impl Visible {
    /// Appends to `out` what of `bytes` may be seen.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut joined = std::mem::take(&mut self.begun);
        joined.extend_from_slice(bytes);
        // At most three bytes begin a character that is not whole.
        let whole = (joined.len().saturating_sub(3)..joined.len()).find(|at| is_begun(joined.get(*at..)));
        self.begun = joined.split_off(whole.unwrap_or(joined.len()));
        self.put(&joined, out);
    }

    /// At the end: what was cut off, and the last line's end.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) {
        let begun = std::mem::take(&mut self.begun);
        self.put(&begun, out);
        if self.in_line {
            out.push(b'\n');
        }
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.in_line {
                out.extend(b"  ");
            }
            let text = line.strip_suffix(b"\n");
            put(text.unwrap_or(line), out);
            self.in_line = text.is_none();
            if text.is_some() {
                out.push(b'\n');
            }
        }
    }
}

/// One line, of whatever text.
pub(in crate::cli) fn visible(text: &str) -> String {
    let mut out = Vec::new();
    for (number, part) in text.split(['\n', '\t']).enumerate() {
        out.extend(if number == 0 { "" } else { " " }.bytes());
        put(part.as_bytes(), &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_begun(bytes: Option<&[u8]>) -> bool {
    let error = bytes.and_then(|bytes| std::str::from_utf8(bytes).err());
    error.is_some_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

fn put(line: &[u8], out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    for chunk in line.utf8_chunks() {
        for character in chunk.valid().chars() {
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            match character {
                '\t' => out.extend(bytes),
                _ if character.is_ascii_control() => show(out, bytes),
                _ if hidden(character) => out.extend(format!("<U+{:04X}>", u32::from(character)).bytes()),
                _ => out.extend(bytes),
            }
        }
        show(out, chunk.invalid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> String {
        let (mut visible, mut out) = (Visible::default(), Vec::new());
        for piece in pieces {
            visible.feed(piece, &mut out);
        }
        visible.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_deceives_is_shown() {
        for (text, seen) in [
            ("", ""),
            ("plain ü 日本\n", "  plain ü 日本\n"),
            ("a\tb\n\nc", "  a\tb\n  \n  c\n"),
            ("\u{1b}[2J\u{1b}]52;c;eA==\u{7}\0\u{7f}\r\n", "  ^[[2J^[]52;c;eA==^G^@^?^M\n"),
            ("\u{9b}2J a\u{202e}b\u{2066}c\u{200b}", "  <U+009B>2J a<U+202E>b<U+2066>c<U+200B>\n"),
        ] {
            assert_eq!(all(&[text.as_bytes()]), seen, "{text:?}");
        }
        assert_eq!(all(&[b"a\xff\xf0\x9f"]), "  a\\xff\\xf0\\x9f\n");
        assert_eq!(visible("a\nb\u{1b}c\u{202e}"), "a b^[c<U+202E>");
    }

    proptest::proptest! {
        #[test]
        fn it_is_the_same_wherever_it_is_cut(bytes: Vec<u8>, text in ".*", at in 0_usize..40) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let (one, other) = bytes.split_at(at.min(bytes.len()));
                let whole = all(&[bytes]);
                proptest::prop_assert_eq!(&all(&[one, other]), &whole);
                let bad = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || hidden(c);
                proptest::prop_assert!(!whole.contains(bad), "{:?}", whole);
            }
        }
    }
}
