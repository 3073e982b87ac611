//! The text format, read back by a reader of its own.

use proptest::prelude::*;

use super::*;

/// Name, labels and value.
type Line = (String, Vec<(String, String)>, f64);

/// Reads one sample line the way the format's specification says; None for anything that is not one.
pub(crate) fn parse_line(line: &str) -> Option<Line> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let mut text = String::new();
            let mut chars = after.char_indices();
            let close = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => text.push(match chars.next()?.1 {
                        'n' => '\n',
                        other @ ('\\' | '"') => other,
                        _ => return None,
                    }),
                    (_, other) => text.push(other),
                }
            };
            labels.push((label.to_owned(), text));
            rest = &after[close + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break rest = rest.strip_prefix('}')?,
            }
        }
    }
    let value = match rest.strip_prefix(' ')? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number if number.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
            number.parse().ok()?
        }
        _ => return None,
    };
    Some((name.to_owned(), labels, value))
}

#[test]
fn a_family_is_spelled_as_the_format_says() {
    let mut encoder = Encoder::default();
    encoder.family("x_total", MetricKind::Counter, "Back\\slash, \"quote\"\nand line.");
    encoder.sample("x_total", "", "", [], 3.0);
    encoder.sample("x_total", "", "a=\"1\"", [("b", "q\"b\\n\n{}")], 0.5);
    assert_eq!(
        encoder.finish(),
        "# HELP x_total Back\\\\slash, \"quote\"\\nand line.\n# TYPE x_total counter\nx_total 3\n\
         x_total{a=\"1\",b=\"q\\\"b\\\\n\\n{}\"} 0.5\n"
    );
}

#[test]
fn numbers_are_spelled_as_go_reads_them() {
    for (value, text) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (1_795_000_000.25, "1795000000.25"),
        (1e300, "1e300"),
        (1e-9, "1e-9"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
    ] {
        let mut out = String::new();
        write_value(&mut out, value);
        assert_eq!(out, text);
    }
}

proptest! {
    #[test]
    fn any_label_text_parses_back(first in any::<String>(), second in "[\\\\\"\n,{}= a]{0,20}", value in any::<f64>()) {
        let mut encoder = Encoder::default();
        encoder.sample("x", "_sum", &label_text(&[("a", &first)]), [("b", second.as_str())], value);
        let text = encoder.finish();
        let line = text.strip_suffix('\n').expect("ends in a newline");
        prop_assert!(!line.contains('\n'));
        let (name, labels, parsed) = parse_line(line).expect("parses");
        prop_assert_eq!(name, "x_sum");
        prop_assert_eq!(labels, vec![("a".to_owned(), first), ("b".to_owned(), second)]);
        prop_assert!(parsed.to_bits() == value.to_bits() || (parsed.is_nan() && value.is_nan()));
    }
}
