//! Output that was made to do harm.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::*;

#[test]
fn long_lines_are_passed_over_and_counted() {
    let long = [b"k 1 ".as_slice(), &vec![b'9'; text::MAX_LINE], b"\nz 1\n"].concat();
    for spec in [
        Parse::Keyvalue(vec![glob("*")]),
        regex(r"(?P<name>\w+) (?P<v>\d)", Scope::Line, RegexTake::Value("v".into())),
        table(0, Some("name v"), None, &[("name", "name")], TableTake::Value("v".into())),
    ] {
        let parsed = parse(&spec, &long, 10).unwrap();
        assert_eq!((shown(&parsed), parsed.errors), (vec![r#"m{name="z"} 1"#.to_owned()], 1));
    }
    let parsed = parse(&passthrough(), &long, 10).unwrap();
    assert_eq!((shown(&parsed), parsed.errors), (vec!["z{} 1".to_owned()], 1));
}

#[test]
fn a_line_of_100_megabytes_is_one_error() {
    let output = vec![b'y'; 100 << 20];
    for spec in
        [Parse::Keyvalue(vec![glob("*")]), passthrough(), table(0, Some("v"), None, &[], TableTake::Count)]
    {
        assert_eq!(parse(&spec, &output, 10).unwrap().errors, 1);
    }
    assert!(matches!(parse(&json(".", ".", &[]), &output, 10), Err(ParseError::NotJson(_))));
}

#[test]
fn searches_that_never_end_are_ended() {
    // Each match reads to the end of the output for the first alternative, and then takes one byte.
    let spec = regex("y.*z|y", Scope::Whole, RegexTake::Count);
    let result = parse(&spec, &vec![b'y'; 4 << 20], 10);
    assert_eq!(result, Err(ParseError::TooMuchWork { metric: "m".into() }));
}

#[test]
fn twenty_thousand_rows_are_cut_and_counted() {
    let lines = (0..20_000).map(|n| format!("k{n} 1")).collect::<Vec<_>>().join("\n");
    let rows: Vec<_> = (0..20_000).map(|n| format!(r#"{{"name":"{n}","v":1}}"#)).collect();
    for (spec, output) in [
        (Parse::Keyvalue(vec![glob("*")]), lines.clone()),
        (regex(r"(?P<name>\w+) (?P<v>\d)", Scope::Whole, RegexTake::Value("v".into())), lines.clone()),
        (table(0, Some("n v"), None, &[("n", "n")], TableTake::Value("v".into())), lines.clone()),
        (table(0, Some("n v"), None, &[("n", "n")], TableTake::Count), lines.clone()),
        (passthrough(), lines),
        (json(".[]", ".v", &[("name", ".name")]), format!("[{}]", rows.join(","))),
    ] {
        let parsed = parse(&spec, output.as_bytes(), 100).unwrap();
        check(&parsed, 100);
        assert_eq!((shown(&parsed).len(), parsed.errors, parsed.dropped), (100, 0, 19_900), "{spec:?}");
    }
}

#[test]
fn label_values_are_cleaned_and_what_changed_is_counted() {
    let spec = table(0, Some("v name"), None, &[("name", "name")], TableTake::Value("v".into()));
    let long = "é".repeat(100);
    for (name, expected, errors) in [
        (b"a\"b\\c".to_vec(), "a\"b\\c".to_owned(), 0),
        (b"a\0b\x1b[31m".to_vec(), "a\u{fffd}b\u{fffd}[31m".to_owned(), 1),
        (b"a\xffb".to_vec(), "a\u{fffd}b".to_owned(), 1),
        (long.clone().into_bytes(), "é".repeat(64), 1),
        (["x", &long].concat().into_bytes(), format!("x{}", "é".repeat(63)), 1),
    ] {
        let parsed = parse(&spec, &[b"1 ".as_slice(), &name].concat(), 10).unwrap();
        check(&parsed, 10);
        assert_eq!(parsed.families[0].samples[0].labels[0].1, expected);
        assert_eq!(parsed.errors, errors, "{expected}");
    }
    // Two names that differ only in what was cut are one label set.
    let parsed = parse(&spec, format!("1 {long}a\n1 {long}b").as_bytes(), 10).unwrap();
    assert_eq!((shown(&parsed).len(), parsed.errors), (1, 3));
}

#[test]
fn a_sum_and_a_scale_stay_finite() {
    let sum = table(0, Some("v"), None, &[], TableTake::Merge(Merge::Sum, "v".into()));
    let parsed = parse(&sum, b"1e308\n1e308\n-inf", 10).unwrap();
    assert_eq!((shown(&parsed), parsed.errors), (vec!["m{} -inf".to_owned()], 1));
    let parsed = parse(&Parse::Keyvalue(vec![key("k", 1e10)]), b"k 1e308", 10).unwrap();
    assert_eq!((shown(&parsed).len(), parsed.errors), (0, 1));
}

#[test]
fn eight_times_the_output_takes_about_eight_times_as_long() {
    let pieces =
        ["a 1\n", "a{b=\"c\"} 1\n", "a,1\n", "\\\"{}[]\n", "\n", "9", "# TYPE a gauge\n", "a=b:c d\0"];
    for spec in all_formats() {
        for piece in pieces {
            let once = |output: &str| {
                let start = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
                let _result_is_checked_elsewhere = parse(&spec, output.as_bytes(), 100);
                Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap() - start).as_secs_f64()
            };
            let time = |bytes: usize| {
                let output = piece.repeat(bytes / piece.len());
                once(&output).min(once(&output))
            };
            let (small, large) = (time(8 << 10), time(64 << 10));
            assert!(large < 40.0 * small.max(0.002), "{piece:?}: {small} s, then {large} s: {spec:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_keep_the_rules(output in proptest::collection::vec(any::<u8>(), 0..600), max in 0usize..6) {
        for spec in all_formats() {
            if let Ok(parsed) = parse(&spec, &output, max) {
                check(&parsed, max);
            }
        }
    }

    #[test]
    fn any_text_near_the_formats_keeps_the_rules(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..80), max in 0usize..12,
    ) {
        let output = pieces.concat();
        for spec in all_formats() {
            if let Ok(parsed) = parse(&spec, output.as_bytes(), max) {
                check(&parsed, max);
            }
        }
    }
}

/// What the formats are made of, so that chance finds their corners.
const PIECES: &[&str] = &[
    "a",
    "b",
    "a_sum",
    "a_count",
    "a_bucket",
    "pod",
    "exported_pod",
    "le",
    "quantile",
    "__x",
    "parachute_y",
    " ",
    " ",
    "\n",
    "\n",
    "\n# TYPE ",
    "\n# HELP ",
    "counter",
    "histogram",
    "summary",
    "gauge",
    "{",
    "}",
    "{",
    "}",
    "=",
    "\"",
    "\"",
    ",",
    "\\",
    "1",
    "-2.5",
    "NaN",
    "+Inf",
    "1e999",
    ":",
    "[",
    "]",
    "\u{0}",
    "é",
    "\r",
    "\t",
    "\na{le=\"1\"} 1",
    "\na_bucket{le=\"1\"} 1",
    "\na{pod=\"x\",exported_pod=\"y\"} 1",
    "{\"name\":\"x\",\"v\":1}",
];
