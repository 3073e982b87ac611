//! What is told of the pieces of an output that came to nothing.

use super::*;
use crate::model::{Rejected, Rejects};

/// `LINE: TEXT: WHY` of each piece; `-` where there is no line.
fn told(pieces: &[Rejected]) -> Vec<String> {
    let place = |line: Option<usize>| line.map_or("-".to_owned(), |line| line.to_string());
    pieces.iter().map(|piece| format!("{}: {}: {}", place(piece.line), piece.text, piece.why)).collect()
}

fn rejects(spec: &Parse, output: &[u8]) -> (Vec<String>, Vec<String>, u64) {
    let parsed = parse(spec, output, 1000).unwrap();
    assert_eq!(parsed.rejects.bad.len() as u64, parsed.errors.min(Rejects::MOST as u64));
    let Rejects { bad, unmatched, unmatched_lines } = parsed.rejects;
    (told(&bad), told(&unmatched), unmatched_lines)
}

#[test]
fn each_format_says_which_lines_it_could_not_use_and_why() {
    let count = regex(r"^(?P<k>\w+)=(?P<v>\S+)$", Scope::Line, RegexTake::Value("v".into()));
    let sum = table(0, None, None, &[("a", "a")], TableTake::Value("b".into()));
    for (spec, output, bad, unmatched) in [
        (
            &count,
            "a=1\n\n# no match\nb=x\na=2\n",
            vec!["4: b=x: m: no number", "5: a=2: m: a series with these labels is there already"],
            vec!["3: # no match: no pattern matches"],
        ),
        (
            &regex("(?s)b.c", Scope::Whole, RegexTake::Count),
            "a\nb\nc\nd\n",
            vec![],
            vec!["1: a: no pattern matches", "4: d: no pattern matches"],
        ),
        (
            &regex("(?s)x(?P<n>.)", Scope::Whole, RegexTake::Value("n".into())),
            "ax-\nb\n",
            vec!["-: x-: m: no number"],
            vec!["2: b: no pattern matches"],
        ),
        (
            &Parse::Keyvalue(vec![key("a", 1.0)]),
            "a 1\nb 2\na x\n",
            vec!["3: a x: m: no number"],
            vec!["2: b 2: no metric asks for the key \"b\""],
        ),
        (
            &sum,
            "a b\nx 1\ny -\nx 3\n",
            vec!["3: y -: m: no number", "4: x 3: m: a series with these labels is there already"],
            vec![],
        ),
        (
            &json(".[]", ".v", &[("l", ".l")]),
            r#"[{"v":1,"l":"a"},{"v":"x"},{"v":2,"l":[]}]"#,
            vec![
                r#"-: {"v":"x"}: m: no number"#,
                r#"-: {"v":2,"l":[]}: m: label l is no text, number or bool"#,
            ],
            vec![],
        ),
        (
            &json(".[]", ".v | numbers", &[]),
            r#"[{"v":"x"},{"v":1}]"#,
            vec![],
            vec![r#"-: {"v":"x"}: m: `value` gives nothing for this row"#],
        ),
        (
            &Parse::Prometheus(Passthrough { prefix: "app_".into() }),
            "app_a 1\nother 2\n9x 1\napp_b{ 1\napp_c\napp_d x\napp_e 1 2 3\nparachute_x 1\n# TYPE app_f odd\n",
            vec![
                "3: 9x 1: it does not begin with a valid metric name",
                "4: app_b{ 1: invalid labels",
                "5: app_c: no value after the name",
                "6: app_d x: the value is no number",
                "7: app_e 1 2 3: more follows the timestamp",
                "8: parachute_x 1: the name is the agent's own or reserved",
                "9: # TYPE app_f odd: unknown type",
            ],
            vec!["2: other 2: its name does not begin with \"app_\""],
        ),
    ] {
        let (is_bad, is_unmatched, number) = rejects(spec, output.as_bytes());
        assert_eq!(
            (is_bad, is_unmatched),
            (
                bad.into_iter().map(str::to_owned).collect(),
                unmatched.iter().map(|it| (*it).to_owned()).collect()
            ),
            "{output}"
        );
        assert_eq!(number, unmatched.len() as u64, "{output}");
    }
}

#[test]
fn a_changed_label_and_a_long_line_are_told() {
    let spec = table(0, Some("a b"), None, &[("a", "a")], TableTake::Value("b".into()));
    let mut output = b"x\x1by 1\n".to_vec();
    output.extend(vec![b'z'; text::MAX_LINE + 1]);
    let (bad, ..) = rejects(&spec, &output);
    assert!(bad[0].starts_with("1: x\u{1b}y 1: label a: longer than 128 bytes"), "{bad:?}");
    assert_eq!(bad[1], format!("2: {}: the line is longer than 65536 bytes", "z".repeat(Rejects::MAX_TEXT)));
}

#[test]
fn a_regex_that_matches_all_of_the_output_leaves_no_line_unmatched() {
    for output in ["", "a", "a\n", "\n\na\n\nb\r\n", "a\nb\nc"] {
        let whole = regex("(?s).+", Scope::Whole, RegexTake::Count);
        assert_eq!(rejects(&whole, output.as_bytes()).1, Vec::<String>::new(), "{output:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// However much comes to nothing, what is told of it stays small, and is text.
    #[test]
    fn what_is_told_is_bounded(output in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'='), any::<u8>()], 0..600)) {
        for spec in all_formats() {
            let Ok(parsed) = parse(&spec, &output, 20) else { continue };
            let Rejects { bad, unmatched, unmatched_lines } = parsed.rejects;
            prop_assert!(bad.len() as u64 == parsed.errors.min(Rejects::MOST as u64), "{} of {}", bad.len(), parsed.errors);
            prop_assert!(unmatched.len() <= Rejects::MOST && unmatched.len() as u64 <= unmatched_lines);
            for Rejected { line, text, why } in bad.iter().chain(&unmatched) {
                prop_assert!(text.len() <= Rejects::MAX_TEXT + 2 && why.len() <= Rejects::MAX_WHY && !why.is_empty());
                prop_assert!(line.is_none_or(|line| line >= 1 && line <= output.len() + 1));
            }
        }
    }
}
