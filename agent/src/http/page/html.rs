//! The one place where text becomes part of a page. Markup can only be a `&'static str`, which is written in this program;
//! whatever comes from elsewhere is text, and is escaped whether it stands between tags or in a quoted attribute.

use std::fmt::{self, Write as _};

use crate::http::visible::mark;

/// A page, or a part of one, as it grows.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text on one line, between tags or in an attribute in double quotes; what does not show is made visible.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        let mut written = String::new();
        for character in text.chars() {
            if mark(&mut written, character) {
                self.0.push_str(&written);
                written.clear();
            } else {
                self.escaped(character);
            }
        }
        self
    }

    /// As [`Self::text`], of anything that can be shown.
    pub(super) fn show(&mut self, value: impl fmt::Display) -> &mut Self {
        let text = value.to_string();
        self.text(&text)
    }

    /// Output of a command, for inside of a `pre`: lines stay lines, and what does not show is set off from what does.
    pub(super) fn output(&mut self, bytes: &[u8]) -> &mut Self {
        let mut written = String::new();
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                if matches!(character, '\n' | '\t') {
                    self.0.push(character);
                } else if mark(&mut written, character) {
                    self.marked(&written);
                    written.clear();
                } else {
                    self.escaped(character);
                }
            }
            for byte in chunk.invalid() {
                // Writing to a String cannot fail, here and below.
                let _ = write!(written, "\u{27e8}0x{byte:02X}\u{27e9}");
                self.marked(&written);
                written.clear();
            }
        }
        self
    }

    /// As [`Self::output`], on one line.
    pub(super) fn output_cell(&mut self, bytes: &[u8]) -> &mut Self {
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\t')) {
            match part.split_last() {
                Some((last @ (b'\n' | b'\t'), before)) => {
                    self.output(before).marked(if *last == b'\t' {
                        "\u{27e8}HT\u{27e9}"
                    } else {
                        "\u{27e8}LF\u{27e9}"
                    });
                }
                _ => _ = self.output(part),
            }
        }
        self
    }

    fn marked(&mut self, mark: &str) {
        self.0.push_str("<i>");
        self.0.push_str(mark);
        self.0.push_str("</i>");
    }

    fn escaped(&mut self, character: char) {
        match character {
            '&' => self.0.push_str("&amp;"),
            '<' => self.0.push_str("&lt;"),
            '>' => self.0.push_str("&gt;"),
            '"' => self.0.push_str("&quot;"),
            '\'' => self.0.push_str("&#39;"),
            other => self.0.push(other),
        }
    }

    /// A link to a page of the agent's own: `path` with `part` after it, as one segment.
    pub(super) fn link(&mut self, path: &'static str, part: &str, text: &str) -> &mut Self {
        self.raw("<a href=\"").raw(path).encoded(part).raw("\">").text(text).raw("</a>")
    }

    /// A link to a page of the agent's own with a query.
    pub(super) fn link_query(
        &mut self,
        path: &'static str,
        query: &[(&'static str, &str)],
        text: &str,
    ) -> &mut Self {
        self.raw("<a href=\"").raw(path);
        for (at, (name, value)) in query.iter().enumerate() {
            self.raw(if at == 0 { "?" } else { "&amp;" }).raw(name).raw("=").encoded(value);
        }
        self.raw("\">").text(text).raw("</a>")
    }

    /// As a part of an address: everything but letters, digits and `-._~` in percent form (RFC 3986, section 2.3).
    pub(super) fn encoded(&mut self, text: &str) -> &mut Self {
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                self.0.push(char::from(byte));
            } else {
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
        self
    }

    /// Another part, which has been through here already.
    pub(super) fn part(&mut self, part: &Self) -> &mut Self {
        self.0.push_str(&part.0);
        self
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(write: impl FnOnce(&mut Html) -> &mut Html) -> String {
        let mut html = Html::default();
        write(&mut html);
        html.into_string()
    }

    #[test]
    fn hostile_texts_are_shown_and_not_obeyed() {
        for (text, shown) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onmouseover=\"x", "&quot; onmouseover=&quot;x"),
            ("' autofocus onfocus='x", "&#39; autofocus onfocus=&#39;x"),
            ("--><img src=x>", "--&gt;&lt;img src=x&gt;"),
            ("</pre></title></style>&lt;", "&lt;/pre&gt;&lt;/title&gt;&lt;/style&gt;&amp;lt;"),
            ("\u{202e}gnp.exe\u{200b}\0\u{1b}[2J", "⟨U+202E⟩gnp.exe⟨U+200B⟩⟨NUL⟩⟨ESC⟩[2J"),
            ("a\nb", "a⟨LF⟩b"),
        ] {
            assert_eq!(made(|html| html.text(text)), shown);
        }
        assert_eq!(
            made(|html| html.output(b"a\tb\n\x1b[31m<b>\xff\r\n")),
            "a\tb\n<i>⟨ESC⟩</i>[31m&lt;b&gt;<i>⟨0xFF⟩</i><i>⟨CR⟩</i>\n"
        );
        let link = made(|html| html.link("/containers/", "../\"><x", "a&b"));
        assert_eq!(link, "<a href=\"/containers/..%2F%22%3E%3Cx\">a&amp;b</a>");
        let query = made(|html| html.link_query("/runs", &[("pod", "a&b=c"), ("probe", "é")], "x"));
        assert_eq!(query, "<a href=\"/runs?pod=a%26b%3Dc&amp;probe=%C3%A9\">x</a>");
    }

    proptest! {
        /// What a browser would take for markup, or for the end of an attribute, is nowhere in what text becomes.
        #[test]
        fn no_text_is_ever_markup(text in any::<String>(), bytes: Vec<u8>) {
            let shown = made(|html| html.text(&text));
            let output = made(|html| html.output(&bytes)).replace("<i>", "").replace("</i>", "");
            let encoded = made(|html| html.encoded(&text));
            for made in [shown, output, encoded] {
                prop_assert!(!made.contains(['<', '>', '"', '\'', '\0', '\r', '\u{1b}']), "{made:?}");
                let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
                let rest = entities.iter().fold(made, |rest, entity| rest.replace(entity, ""));
                prop_assert!(!rest.contains('&'), "{rest:?}");
            }
        }
    }
}
