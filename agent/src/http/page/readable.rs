//! Kept output as a person can read it: text with what does not show made visible, rows and columns where the probe's parser
//! has them, and for what is no text its bytes. Only a beginning is shown, of a bounded size; all of it is a download away.

use std::fmt::Write as _;

use super::html::Html;
use crate::config::parse::{Table, cells};

/// Rows of a table, and cells of a row.
const ROWS: usize = 1000;
const CELLS: usize = 64;
/// Bytes of what is no text that are shown.
const DUMPED: usize = 1024;
/// Longest line that is shown whole, in bytes: a browser is slow with one of a megabyte.
const LINE: usize = 4096;

/// `head` is the beginning of the output, all of it where `whole`.
pub(super) fn text(html: &mut Html, head: &[u8], whole: bool) {
    html.raw("<pre tabindex=\"0\">");
    // A character that the cut goes through is no fault of the output's.
    let head = if whole { head } else { without_cut_character(head) };
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let end = line.len().min(LINE);
        html.output(without_cut_character(&line[..end]));
        if end < line.len() {
            html.raw("<i>(").show(line.len() - end).raw(" bytes more in this line)</i>\n");
        }
    }
    html.raw("</pre>");
}

fn without_cut_character(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

/// Rows and columns as the probe's parser takes them; false if there are none in it.
pub(super) fn table(html: &mut Html, spec: &Table, head: &[u8], whole: bool) -> bool {
    // The last line may be half of one.
    let end =
        if whole { head.len() } else { head.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1) };
    let is_blank = |line: &&[u8]| line.iter().all(u8::is_ascii_whitespace);
    let mut lines = head[..end]
        .split(|&byte| byte == b'\n')
        .filter(|line| !is_blank(line))
        .skip(spec.skip)
        .map(|line| &line[..line.len().min(LINE)]);
    let columns: Vec<Vec<u8>> = match &spec.columns {
        Some(columns) => columns.iter().map(|name| name.clone().into_bytes()).collect(),
        None => match lines.next() {
            Some(line) => cells(line, spec.separator, usize::MAX).take(CELLS).map(<[u8]>::to_vec).collect(),
            None => return false,
        },
    };
    if columns.is_empty() {
        return false;
    }
    html.raw("<div class=\"scroll\" tabindex=\"0\"><table class=\"data mono\"><thead><tr>");
    for name in &columns {
        html.raw("<th>").output_cell(name);
    }
    html.raw("</tr></thead><tbody>\n");
    let mut left = 0;
    for (place, line) in lines.enumerate() {
        if place >= ROWS {
            left += 1;
            continue;
        }
        html.raw("<tr>");
        for cell in cells(line, spec.separator, columns.len()).take(CELLS) {
            html.raw("<td>").output_cell(cell);
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>");
    if left > 0 {
        html.raw("<p class=\"pad dim\">and ").show(left).raw(" more rows</p>");
    }
    true
}

/// The first bytes, as `hexdump -C` prints them.
pub(super) fn dump(html: &mut Html, head: &[u8]) {
    html.raw("<pre tabindex=\"0\">");
    for (row, bytes) in head[..head.len().min(DUMPED)].chunks(16).enumerate() {
        let mut line = format!("{:08x} ", row * 16);
        for place in 0..16 {
            let gap = if place == 8 { "  " } else { " " };
            // Writing to a String cannot fail.
            let _ = match bytes.get(place) {
                Some(byte) => write!(line, "{gap}{byte:02x}"),
                None => write!(line, "{gap}  "),
            };
        }
        let shown = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' };
        let _ = writeln!(line, "  |{}|", bytes.iter().map(shown).collect::<String>());
        html.output(line.as_bytes());
    }
    html.raw("</pre>");
}

/// What the head of a capture file of packets says (pcap-savefile(5)), and how many packets the beginning has.
pub(super) fn packets(head: &[u8]) -> Option<String> {
    let word = |at: usize| head.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
    let little = match word(0)? {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => true,
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => false,
        _ => return None,
    };
    let number =
        |at| word(at).map(|four| if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) });
    let (snaplen, link) = (number(16)?, number(20)? & 0x0fff_ffff);
    // https://www.tcpdump.org/linktypes.html
    let link = match link {
        1 => "Ethernet".to_owned(),
        101 => "raw IP".to_owned(),
        113 => "Linux cooked".to_owned(),
        276 => "Linux cooked v2".to_owned(),
        other => format!("link type {other}"),
    };
    let (mut at, mut packets, mut bytes) = (24_usize, 0_u64, 0_u64);
    while let (Some(kept), Some(length)) = (number(at + 8), number(at + 12)) {
        let Some(next) = at.checked_add(16).and_then(|at| at.checked_add(kept as usize)) else { break };
        if next > head.len() {
            break;
        }
        (at, packets, bytes) = (next, packets + 1, bytes + u64::from(length));
    }
    Some(format!(
        "{link}, at most {snaplen} bytes of each packet; this beginning has {packets} packets of {bytes} bytes"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(write: impl FnOnce(&mut Html)) -> String {
        let mut html = Html::default();
        write(&mut html);
        html.into_string()
    }

    fn spec(skip: usize, columns: Option<&str>, separator: Option<char>) -> Table {
        let columns = columns.map(|columns| columns.split(' ').map(str::to_owned).collect());
        Table { skip, columns, separator, metrics: Vec::new() }
    }

    #[test]
    fn rows_and_columns_are_those_of_the_parser() {
        let output = b"PID COMMAND\n1 sh -c <b>\n\n2 x\x1b[2J\nhalf";
        let shown = |spec: &Table, whole| {
            let made = made(|html| assert!(table(html, spec, output, whole)));
            made.replace("<div class=\"scroll\" tabindex=\"0\"><table class=\"data mono\"><thead><tr>", "")
                .replace("</tr></thead><tbody>\n", "|")
                .replace("</tr>\n", "|")
                .replace("</tbody></table></div>", "")
        };
        let rows = "<th>PID<th>COMMAND|<tr><td>1<td>sh -c &lt;b&gt;|<tr><td>2<td>x<i>⟨ESC⟩</i>[2J|";
        assert_eq!(shown(&spec(0, None, None), false), rows);
        assert_eq!(shown(&spec(0, None, None), true), format!("{rows}<tr><td>half|"));
        let named = "<th>a|<tr><td>2 x<i>⟨ESC⟩</i>[2J|";
        assert_eq!(shown(&spec(2, Some("a"), Some(',')), false), named);
        assert!(!table(&mut Html::default(), &spec(0, None, None), b"", true));
        assert!(!table(&mut Html::default(), &spec(0, None, None), b"cut", false));
    }

    #[test]
    fn text_and_bytes_are_shown_as_what_they_are() {
        let shown = made(|html| text(html, b"a<script>\r\n\xff\xc3", false));
        let start = "<pre tabindex=\"0\">";
        assert_eq!(shown, format!("{start}a&lt;script&gt;<i>⟨CR⟩</i>\n<i>⟨0xFF⟩</i><i>⟨0xC3⟩</i></pre>"));
        assert_eq!(made(|html| text(html, "é".as_bytes().split_at(1).0, false)), format!("{start}</pre>"));
        let long = made(|html| text(html, &vec![b'x'; 100_000], true));
        assert!(long.len() < 5000 && long.contains("(95904 bytes more in this line)"), "{}", long.len());
        let dumped = made(|html| dump(html, b"\0<a>\xff0123456789abcdef"));
        assert!(
            dumped.contains(
                "00000000  00 3c 61 3e ff 30 31 32  33 34 35 36 37 38 39 61  |.&lt;a&gt;.0123456789a|\n"
            ),
            "{dumped}"
        );
        assert!(dumped.contains("00000010  62 63 64 65 66"), "{dumped}");
    }

    #[test]
    fn a_file_of_packets_is_recognised() {
        let mut file =
            vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
        assert_eq!(
            packets(&file).unwrap(),
            "Ethernet, at most 262144 bytes of each packet; this beginning has 0 packets of 0 bytes"
        );
        for _ in 0..2 {
            file.extend([0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 60, 0, 0, 0, 1, 2, 3]);
        }
        file.extend([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 60, 0, 0, 0, 1]);
        assert!(packets(&file).unwrap().ends_with("has 2 packets of 120 bytes"));
        assert_eq!((packets(b""), packets(b"text")), (None, None));
    }

    proptest! {
        /// Whatever was kept, what is shown of it is bounded, and no markup but this file's own.
        #[test]
        fn no_output_is_markup(bytes: Vec<u8>, whole: bool, separator: Option<char>) {
            let _ = packets(&bytes);
            let all = made(|html| {
                text(html, &bytes, whole);
                dump(html, &bytes);
                table(html, &spec(0, None, separator), &bytes, whole);
            });
            let own = ["pre tabindex=\"0\"", "/pre", "i", "/i", "div class=\"scroll\" tabindex=\"0\"", "table class=\"data mono\"",
                "thead", "tr", "th", "/tr", "/thead", "tbody", "td", "/tbody", "/table", "/div"];
            for tag in all.split('<').skip(1) {
                let (tag, _) = tag.split_once('>').unwrap();
                prop_assert!(own.contains(&tag), "{tag:?}");
            }
        }
    }
}
