//! The exact text for each format, for what is hostile, and for what is too much.

use std::path::Path;

use super::*;
use crate::config;

/// The probe `p` with this `parse:` section.
fn explained(parse: &str, output: &[u8]) -> String {
    let text = format!(
        "probes: {{ p: {{ command: [/proc/self/exe], isolation: joined, max_series: 3, parse: {parse} }} }}"
    );
    let config = config::from_str(&text, Path::new("p.yml")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    explain(&config.probes["p"], output)
}

const METRIC: &str = "type: gauge, help: Help.";

#[test]
fn patterns() {
    let parse = format!(
        r"{{ regex: [{{ name: ready, {METRIC}, pattern: '^ready' }},
                     {{ name: queue, {METRIC}, pattern: '^(?P<name>\w+) queue=(?P<n>\S+)', value: n, aggregate: max }},
                     {{ name: pair, {METRIC}, pattern: 'a\nb', scope: whole }}] }}"
    );
    let output = b"in queue=3\nin queue=7\nout queue=many\n\nsomething \x1b[2J else\na\nb\nnew queue=1\n";
    let expected = r#"p, parse: regex
  regex[0] ready
  regex[1] queue
  regex[2] pair
      = regex[0] ready 0
      = regex[2] pair 0, cut: there are max_series of them
    1 | in queue=3
      = regex[1] queue{name="in"} 3
    2 | in queue=7
      = regex[1] queue{name="in"} 7, together 7
    3 | out queue=many
      ! regex[1] error: queue: no number
    4 |
    5 | something ^[[2J else
      - nothing: no pattern matches
    6 | a
      = regex[2] pair 1, cut: there are max_series of them
    7 | b
      - nothing
    8 | new queue=1
      = regex[1] queue{name="new"} 1
lines: 4 gave samples, 1 have an error, 0 passed over, 2 gave nothing
series: 3 of 2 metrics, 1 errors, 2 cut by max_series 3
"#;
    assert_eq!(explained(&parse, output), expected);
}

#[test]
fn tables() {
    let parse = format!(
        "{{ table: {{ skip: 1, metrics: [{{ name: rows, {METRIC}, aggregate: count, labels: {{ state: S }} }},
                                       {{ name: threads, {METRIC}, aggregate: sum, value: N }}] }} }}"
    );
    let expected = r#"p, parse: table
  table[0] rows
  table[1] threads
      = table[1] threads 0
    1 | top
      - passed over: skip
    2 | S N
      - passed over: the names of the columns
    3 | R 2
      = table[0] rows{state="R"} 1
      = table[1] threads 2, together 2
    4 | R 3
      = table[0] rows{state="R"} 1, together 2
      = table[1] threads 3, together 5
    5 | T
      = table[0] rows{state="T"} 1
      ! table[1] error: threads: no number
lines: 2 gave samples, 1 have an error, 2 passed over, 0 gave nothing
series: 3 of 2 metrics, 1 errors, 0 cut by max_series 3
"#;
    assert_eq!(explained(&parse, b"top\nS N\nR 2\nR 3\nT\n"), expected);
    let expected = "p, parse: table\n  table[0] rows\n  table[1] threads\n    1 | top\n      - passed over: skip\n\
                    lines: 0 gave samples, 0 have an error, 1 passed over, 0 gave nothing\n\
                    nothing is published: the output has no header line\n";
    assert_eq!(explained(&parse, b"top"), expected);
}

#[test]
fn rows_of_json_have_all_of_their_metrics() {
    let parse = format!(
        "{{ json: [{{ name: in_bytes, {METRIC}, select: '.[]', value: .in, labels: {{ device: .name }} }},
                   {{ name: out_bytes, {METRIC}, select: '.[]', value: '.out // empty', labels: {{ device: .name }} }}] }}"
    );
    let expected = r#"p, parse: json
  json[0] in_bytes
  json[1] out_bytes
  row | {"name":"lo","in":1,"out":2}
      = json[0] in_bytes{device="lo"} 1
      = json[1] out_bytes{device="lo"} 2
  row | {"name":"e\"th","in":"x"}
      ! json[0] error: in_bytes: no number
      - nothing: out_bytes: `value` gives nothing for this row
rows: 1 gave samples, 1 have an error, 0 passed over, 0 gave nothing
series: 2 of 2 metrics, 1 errors, 0 cut by max_series 3
"#;
    let output = br#"[{"name": "lo", "in": 1, "out": 2}, {"name": "e\"th", "in": "x"}]"#;
    assert_eq!(explained(&parse, output), expected);
    let broken = explained(&parse, b"[{");
    assert!(
        broken.ends_with(
            "nothing is published: the output is not JSON: EOF while parsing an object at line 1 column 2\n"
        ),
        "{broken}"
    );
}

#[test]
fn keys_and_passed_through_metrics() {
    let parse = format!(
        "{{ keyvalue: [{{ name: hits, {METRIC}, key: hits }}, {{ name: any, {METRIC}, keys: 'h*', key_label: key }}] }}"
    );
    let expected = r#"p, parse: keyvalue
  keyvalue[0] hits
  keyvalue[1] any
    1 | hits 4
      = keyvalue[0] hits 4
      = keyvalue[1] any{key="hits"} 4
    2 | misses 1
      - nothing: no metric asks for the key "misses"
    3 | hits 5
      ! keyvalue[0] error: hits: a series with these labels is there already
      ! keyvalue[1] error: any: a series with these labels is there already
    4 | hot: 1
      = keyvalue[1] any{key="hot"} 1
    5 | hat: 1
      = keyvalue[1] any{key="hat"} 1, cut: there are max_series of them
lines: 3 gave samples, 1 have an error, 0 passed over, 1 gave nothing
series: 3 of 2 metrics, 2 errors, 1 cut by max_series 3
"#;
    assert_eq!(explained(&parse, b"hits 4\nmisses 1\nhits 5\nhot: 1\nhat: 1\n"), expected);
    let expected = r#"p, parse: prometheus
    1 | # TYPE app_x gauge
      - passed over: type or help
    2 | # by hand
      - passed over: a comment
    3 | app_x{a="1"} 2
      = app_x{a="1"} 2
    4 | other 3
      - nothing: its name does not begin with "app_"
    5 | process_x 1
      ! error: the name is the agent's own or reserved
lines: 1 gave samples, 1 have an error, 2 passed over, 1 gave nothing
series: 1 of 1 metrics, 1 errors, 0 cut by max_series 3
"#;
    let output = b"# TYPE app_x gauge\n# by hand\napp_x{a=\"1\"} 2\nother 3\nprocess_x 1\n";
    assert_eq!(explained("{ prometheus: { prefix: app_ } }", output), expected);
    assert_eq!(
        explained("none", b"x"),
        "p, parse: none\nnothing is looked for: its output is for people\n\
         series: 0 of 0 metrics, 0 errors, 0 cut by max_series 3\n"
    );
}

#[test]
fn what_is_too_much_is_counted_and_not_shown() {
    let parse =
        format!("{{ table: {{ columns: [n], metrics: [{{ name: rows, {METRIC}, aggregate: count }}] }} }}");
    let text = explained(&parse, &b"x\n".repeat(30_000));
    assert!(text.lines().count() < 20_000, "{}", text.lines().count());
    let tail: Vec<_> = text.lines().rev().take(3).collect();
    assert_eq!(
        tail,
        [
            "series: 1 of 1 metrics, 0 errors, 0 cut by max_series 3",
            "lines: 19999 gave samples, 0 have an error, 0 passed over, 0 gave nothing",
            "25000 more lines and 10001 more steps are not shown",
        ]
    );
    let wide = explained("{ keyvalue: [{ name: x, type: gauge, help: H., key: x }] }", &[b'a'; 1000]);
    assert!(wide.contains(&format!("{}…\n", "a".repeat(160))), "{wide}");
}
