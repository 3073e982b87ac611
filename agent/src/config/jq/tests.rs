//! What an expression may do, and what of it must not harm the agent.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::*;

fn json(text: &str) -> Val {
    serde_json::from_str(text).unwrap()
}

fn eval(filter: &str, input: Val) -> Result<Vec<Val>, EvalError> {
    eval_within(200_000, filter, input)
}

fn eval_within(steps: u64, filter: &str, input: Val) -> Result<Vec<Val>, EvalError> {
    let work = Work::new(steps);
    Filter::compile(filter).unwrap_or_else(|e| panic!("{filter}: {e}")).outputs(input, &work).collect()
}

#[test]
fn evaluates_what_probes_need() {
    for (filter, input, expected) in [
        (".", "1", "[1]"),
        (".[] | select(.up) | .name", r#"[{"up":true,"name":"a"},{"up":false,"name":"b"}]"#, r#"["a"]"#),
        (".a // 7", "{}", "[7]"),
        (".a?", "3", "[]"),
        ("[.[] | .n] | add", r#"[{"n":1},{"n":2}]"#, "[3]"),
        (
            ".[] | .n as $n | .l[] | {n: $n, l: .}",
            r#"[{"n":1,"l":[5,6]}]"#,
            r#"[{"n":1,"l":5},{"n":1,"l":6}]"#,
        ),
        ("{a, b: .c}", r#"{"a":1,"c":2}"#, r#"[{"a":1,"b":2}]"#),
        (r#".f | join(",")"#, r#"{"f":["UP","LO"]}"#, r#"["UP,LO"]"#),
        (r#".s | sub("x"; "y") | ascii_upcase"#, r#"{"s":"axb"}"#, r#"["AYB"]"#),
        (r#""\(.a)-\(.b)""#, r#"{"a":1,"b":"z"}"#, r#"["1-z"]"#),
        ("(.a | tonumber) * 8", r#"{"a":"2.5"}"#, "[20.0]"),
        ("group_by(.s) | map({s: .[0].s, n: length})", r#"[{"s":1},{"s":1}]"#, r#"[[{"s":1,"n":2}]]"#),
        ("if .a > 1 then .a else -1 end", r#"{"a":2}"#, "[2]"),
        ("[..] | length", "[[1],2]", "[4]"),
        (".[1:][0], .[-1]", "[1,2,3]", "[2,3]"),
    ] {
        let outputs: Val = eval(filter, json(input)).unwrap().into_iter().collect();
        assert_eq!(outputs, json(expected), "{filter}");
    }
}

#[test]
fn says_what_is_wrong_and_where() {
    for (filter, expected) in [
        ("", "expected term at the end of the expression"),
        (".a |", "expected term at the end of the expression"),
        (".a | )", "column 6: expected"),
        ("\"é\" | frob", "column 7: `frob` is not available here; there are add, "),
        (". + $x", "column 5: `$x` is not a known variable"),
        ("select", "column 1: `select` is not a known filter"),
        ("\"abc", "expected closing quote"),
    ] {
        let message = Filter::compile(filter).unwrap_err();
        assert!(message.contains(expected), "{filter:?}: {message}");
    }
}

#[test]
fn nothing_outside_the_input_can_be_read_or_done() {
    for filter in [
        "env",
        "env.PATH",
        "$ENV",
        "$ENV.PATH",
        "$__loc__",
        "input",
        "inputs",
        "debug",
        "debug(1)",
        "stderr",
        "halt",
        "halt_error",
        "now",
        "localtime",
        "mktime",
        "input_filename",
        "import \"a\" as a; .",
        "include \"a\"; .",
        "get_search_list",
        "ltrimstr(env)",
        "\"\\(env)\"",
        "{a: env}",
        "@base64 \"\\(env)\"",
        "parachute_step",
        "main",
    ] {
        assert!(Filter::compile(filter).is_err(), "{filter} compiles");
    }
}

#[test]
fn nothing_without_an_end_can_be_written() {
    for filter in [
        "def f: f; f",
        "def f: 1+f; f",
        "def f: .; f",
        "repeat(.)",
        "[repeat(.)]",
        "recurse(.)",
        "while(true; .)",
        "until(false; .)",
        "[range(1e12)]",
        "limit(1e12; repeat(.))",
        "reduce .[] as $x (0; [.])",
        "foreach .[] as $x (0; .)",
        "label $f | break $f",
        ".a = 1",
        ".a |= 1",
        ".a += 1",
        ".a //= 1",
        "combinations",
        "splits(\"\")",
        ".[] as [$a] | $a",
    ] {
        assert!(Filter::compile(filter).is_err(), "{filter} compiles");
    }
}

#[test]
fn a_long_or_deep_expression_is_an_error_not_a_crash() {
    for piece in ["[", "(", "{a:", "-", "if ", "try ", ".|", ". as $x|", "\"\\(", ".[", ".+", "1,", "select("]
    {
        for closed in ["", "."] {
            let text = piece.repeat(MAX_TEXT / piece.len() - 1) + closed;
            assert!(Filter::compile(&text).is_err(), "{piece}");
        }
    }
    let nested = "[".repeat(2000) + &"]".repeat(2000);
    assert!(Filter::compile(&nested).unwrap_err().contains("nested"));
    assert!(Filter::compile(&" ".repeat(MAX_TEXT + 1)).unwrap_err().contains("at most"));
}

#[test]
fn loops_within_loops_run_out_of_work() {
    let rows: Val = (0..2_000_isize).map(Val::from).collect();
    for filter in [
        "[.[] + .[]] | length",
        ". as $all | .[] | $all | add",
        "[. as $a | $a[] as $x | $a[] as $y | $a[] | select(. == $x + $y)]",
        "first(.[] as $x | .[] | select(false))",
        "try ([.[] as $x | .[]] | length) catch 1",
        "([.[] as $x | .[]] | length) // 1",
        "(map(tostring) | add) | .+.|.+.|.+.|.+.|.+.|.+.|.+.|.+.|.+.|.+.|.+.|.+.|.+.|length",
    ] {
        let result = eval(filter, rows.clone());
        assert_eq!(result, Err(EvalError::TooMuchWork), "{filter}");
    }
}

#[test]
fn hostile_values_are_errors() {
    let deep = "[".repeat(100_000);
    for (filter, input) in [
        (".a * .b", r#"{"a":"x","b":9000000000000000000}"#.to_owned()),
        (".a * .b", r#"{"a":9000000000000000000,"b":"x"}"#.to_owned()),
        (".a | tonumber", format!(r#"{{"a":"{deep}"}}"#)),
        (".a | fromjson", format!(r#"{{"a":"{deep}"}}"#)),
        (".a.b", r#"{"a":[]}"#.to_owned()),
    ] {
        assert!(matches!(eval(filter, json(&input)), Err(EvalError::Value(_))), "{filter}");
    }
}

#[test]
fn the_deepest_accepted_expression_fits_a_small_stack() {
    let text =
        (1..=200).map(|n| "[".repeat(n) + "." + &"]".repeat(n)).rfind(|text| Filter::compile(text).is_ok());
    let text = text.unwrap();
    assert!(text.len() > 40, "{text}");
    let deep_input = json(&("[".repeat(120) + &"]".repeat(120)));
    let run = move || eval(&text, deep_input).map(|outputs| outputs.len());
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap();
    assert_eq!(thread.join().unwrap(), Ok(1));
}

#[test]
fn strings_are_joined_in_about_linear_time() {
    let steps = |n: usize| {
        let rows: Val = (0..n).map(|_| Val::from("x".to_owned())).collect();
        let start = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        for filter in ["add", "join(\",\")", "map(tostring) | add"] {
            assert_eq!(eval_within(Work::STEPS, filter, rows.clone()).unwrap().len(), 1);
        }
        Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap() - start).as_secs_f64()
    };
    let (small, large) = (steps(5_000), steps(40_000));
    assert!(large < 30.0 * small.max(0.005), "8 times the rows took {large} s after {small} s");
}

#[test]
fn a_filter_is_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + fmt::Debug>(_: &T) {}
    let filter = Filter::compile(".a").unwrap();
    shared(&filter);
    assert_eq!(format!("{filter:?}"), "Filter(\".a\")");
}
