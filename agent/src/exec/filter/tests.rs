//! What gets through to a terminal and what does not.

use proptest::prelude::*;

use super::*;

fn filtered(bytes: &[u8]) -> Vec<u8> {
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    filter.feed(bytes, &mut out);
    filter.give_up(&mut out);
    out
}

#[test]
fn what_draws_gets_through_unchanged() {
    for text in [
        "plain\r\n\ttext\x08\x07",
        "Grüße 雛 🪂",
        "\x1b[1;31mred\x1b[0m\x1b[38:5:1m\x1b[m",
        "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[3A\x1b[1;24r\x1b[2L\x1b[5P\x1b[3X\x1b[2S\x1b[T",
        "\x1b[?1049h\x1b[?25l\x1b[?1;7h\x1b[?2004h\x1b[?1000;1006h\x1b[4l\x1b[?12l",
        "\x1b7\x1b8\x1b=\x1b>\x1bM\x1b(0lqk\x1b(B\x0e\x0f\x1b[s\x1b[u\x1b[2 q\x1b[!p",
    ] {
        assert_eq!(filtered(text.as_bytes()), text.as_bytes(), "{text:?}");
    }
}

#[test]
fn what_makes_a_terminal_speak_is_shown_and_not_done() {
    for (text, shown) in [
        (&b"\x1b]52;c;ZXZpbA==\x07x"[..], &b"^[]52;c;ZXZpbA==x"[..]),
        (b"\x1b]52;c;ZXZpbA==\x1b\\x", b"^[]52;c;ZXZpbA==x"),
        (b"\x1b[cx", b"^[[cx"),
        (b"\x1b[>cx", b"^[[>cx"),
        (b"\x1b[=cx", b"^[[=cx"),
        (b"\x1b[6nx", b"^[[6nx"),
        (b"\x1b[?6nx", b"^[[?6nx"),
        (b"\x1b[21tx", b"^[[21tx"),
        (b"\x1b[?1$px", b"^[[?1$px"),
        (b"\x1b[>qx", b"^[[>qx"),
        (b"\x1b[?ux", b"^[[?ux"),
        (b"\x1b[?1004hx", b"^[[?1004hx"),
        (b"\x1b[?25;1004hx", b"^[[?25;1004hx"),
        (b"\x1bP$qm\x1b\\x", b"^[P$qmx"),
        (b"\x1b_APC\x1b\\x", b"^[_APCx"),
        (b"\x1b^PM\x1b\\x", b"^[^PMx"),
        (b"\x1bXSOS\x1b\\x", b"^[XSOSx"),
        (b"\x1bcx", b"^[cx"),
        (b"\x1bZx", b"^[Zx"),
        (b"\x05x", b"^Ex"),
        (b"\x9bcx", b"\\x9bcx"),
        (b"\xc2\x9bcx", b"\\xc2\\x9bcx"),
        (b"\xc0\x9bcx", b"\\xc0\\x9bcx"),
        (b"\xe0\x82\x9bcx", b"\\xe0\\x82\\x9bcx"),
        (b"\x1b\x1b[cx", b"^[^[[cx"),
        (b"\x1b[\x1b[cx", b"^[[^[[cx"),
        (b"\x1b[1\x1b[31mx", b"^[[1\x1b[31mx"),
        // A byte is cut off between two reads.
        (b"x\x1b", b"x^["),
        (b"x\x1b[12", b"x^[[12"),
        (b"x\x1b]52;c", b"x^[]52;c"),
    ] {
        assert_eq!(
            String::from_utf8_lossy(&filtered(text)),
            String::from_utf8_lossy(shown),
            "{:?}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn what_programs_send_all_the_time_is_dropped_without_a_word() {
    for text in [
        "\x1b]0;root@node: ~\x07",
        "\x1b]2;title\x1b\\",
        "\x1b]7;file://x\x07",
        "\x1b]8;;http://x\x07",
        "\x1b]133;A\x07",
        "\x1b[22;0;0t",
        "\x1b[23;0;0t",
        "\x1b[>4;2m",
        "\0",
    ] {
        assert_eq!(filtered(format!("a{text}b").as_bytes()), b"ab", "{text:?}");
    }
}

#[test]
fn a_string_without_an_end_does_not_swallow_the_stream() {
    let mut text = b"\x1b]52;".to_vec();
    text.extend(vec![b'a'; 10_000]);
    let got = filtered(&text);
    assert!(got.starts_with(b"^[]52;aaa") && got.len() > 5_000 && got.len() < 7_000, "{}", got.len());
}

#[test]
fn what_a_killed_program_left_on_is_turned_off() {
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    filter.feed(b"\x1b[?1049h\x1b[?25l\x1b[?1h\x1b[?1l\x1b[?7h\x1b[31m\x1b=", &mut out);
    out.clear();
    filter.finish(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), "\x1b[?25h\x1b[?1049l\x1b[m\x1b>");
    out.clear();
    filter.finish(&mut out);
    assert!(out.is_empty(), "said once");
}

/// Bytes of which many are parts of sequences.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => Just(b"\x1b".to_vec()),
        4 => Just(b"[".to_vec()),
        2 => Just(b"]".to_vec()),
        2 => Just(b"?".to_vec()),
        1 => Just(b"\\".to_vec()),
        3 => prop::sample::select(b"cnthmqpuPX_^0;$> \x07\x18\x9b\xc2\xe0".to_vec()).prop_map(|b| vec![b]),
        3 => prop::sample::select(b"0123456789;".to_vec()).prop_map(|b| vec![b]),
        2 => any::<u8>().prop_map(|b| vec![b]),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_where_the_stream_is_cut(bytes in hostile(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(bytes.len() + 1);
        let (mut filter, mut out) = (Filter::default(), Vec::new());
        filter.feed(&bytes[..cut], &mut out);
        filter.feed(&bytes[cut..], &mut out);
        filter.give_up(&mut out);
        prop_assert_eq!(out, filtered(&bytes));
    }

    #[test]
    fn what_got_through_gets_through_again(bytes in hostile()) {
        let once = filtered(&bytes);
        prop_assert_eq!(&filtered(&once), &once);
    }

    #[test]
    fn what_gets_through_never_asks_anything(bytes in hostile()) {
        let got = filtered(&bytes);
        for (at, byte) in got.iter().enumerate() {
            if *byte == 0x1b {
                let next = got.get(at + 1).copied();
                prop_assert!(next.is_some_and(|b| b"[()*+78DEMH=>".contains(&b)), "{:?}", String::from_utf8_lossy(&got));
                if next == Some(b'[') {
                    let last = got[at + 2..].iter().find(|b| (0x40..=0x7e).contains(*b));
                    prop_assert!(last.is_some_and(|b| !b"cnty".contains(b)), "{:?}", String::from_utf8_lossy(&got));
                }
            }
        }
        let is_c1 = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
        let has_c1 = std::str::from_utf8(&got).is_ok_and(|text| text.chars().any(is_c1));
        prop_assert!(!has_c1);
    }
}
