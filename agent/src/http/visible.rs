//! Characters that do not show, or that change how others show, made visible. Texts from inside a container are full of what
//! somebody may have chosen to deceive whoever reads them: every such text for people goes through here.

use std::fmt::Write as _;

const CONTROLS: [&str; 32] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI",
    "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS",
    "US",
];

/// How a character is written instead of itself; false for one that shows as what it is.
///
/// Control characters become their names (ISO 6429), the others their number: what has no width or no ink, what turns the
/// direction of writing (Unicode's Bidi_Control, Default_Ignorable_Code_Point and Cf), what has no meaning but a private one,
/// and line ends that are none here. Not Unicode's symbols for control characters: many fonts lack them.
pub(super) fn mark(out: &mut String, character: char) -> bool {
    let code = u32::from(character);
    if let Some(name) = CONTROLS.get(code as usize).or((code == 0x7f).then_some(&"DEL")) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(out, "\u{27e8}{name}\u{27e9}");
        return true;
    }
    let hidden = hidden(character);
    if hidden {
        let _ = write!(out, "\u{27e8}U+{code:04X}\u{27e9}");
    }
    hidden
}

/// Whether this is a character that does not show or changes how others show, other than the control characters of ASCII.
pub fn hidden(character: char) -> bool {
    matches!(u32::from(character),
        0x80..=0x9f | 0xad | 0x34f | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x8e2 | 0x115f..=0x1160 | 0x17b4..=0x17b5
        | 0x180b..=0x180f | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x2800 | 0x3164 | 0xfe00..=0xfe0f
        | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x110bd | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3
        | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff | 0xe000..=0xf8ff | 0xf_0000..=0x10_ffff)
}

/// The text with every such character marked.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if !mark(&mut out, character) {
            out.push(character);
        }
    }
    out
}

/// As [`visible`], of bytes that need not be UTF-8.
pub(super) fn visible_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&visible(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\u{27e8}0x{byte:02X}\u{27e9}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_shown() {
        for (text, shown) in [
            ("plain ü 日本 😀", "plain ü 日本 😀"),
            ("\0\t\n\r\u{1b}[31m\u{7f}", "⟨NUL⟩⟨HT⟩⟨LF⟩⟨CR⟩⟨ESC⟩[31m⟨DEL⟩"),
            ("\u{9b}2J", "⟨U+009B⟩2J"),
            ("a\u{202e}b\u{2066}c\u{200f}", "a⟨U+202E⟩b⟨U+2066⟩c⟨U+200F⟩"),
            ("z\u{200b}w\u{feff}\u{ad}\u{2060}", "z⟨U+200B⟩w⟨U+FEFF⟩⟨U+00AD⟩⟨U+2060⟩"),
            ("l\u{2028}p\u{2029}", "l⟨U+2028⟩p⟨U+2029⟩"),
            ("\u{e0041}\u{3164}\u{fe0f}", "⟨U+E0041⟩⟨U+3164⟩⟨U+FE0F⟩"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
            assert_eq!(visible_bytes(text.as_bytes()), shown, "{text:?}");
        }
        assert_eq!(visible_bytes(b"a\xffb\xf0\x9f"), "a⟨0xFF⟩b⟨0xF0⟩⟨0x9F⟩");
    }

    proptest::proptest! {
        #[test]
        fn no_control_character_is_left(bytes: Vec<u8>, text in "\\PC*|.*") {
            for shown in [visible_bytes(&bytes), visible(&text)] {
                proptest::prop_assert!(!shown.contains(char::is_control), "{shown:?}");
            }
        }
    }
}
