//! Exposition text as commands print it, good and bad.

use crate::config::parse::{Parse, Passthrough};
use crate::parse::{Parsed, parse};

fn run(text: &str) -> Parsed {
    parse(&Parse::Prometheus(Passthrough { prefix: String::new() }), text.as_bytes(), 100).unwrap()
}

fn shown(parsed: &Parsed) -> Vec<String> {
    let samples = parsed.families.iter().flat_map(|family| family.samples.iter().map(move |s| (family, s)));
    samples
        .map(|(family, sample)| {
            let labels: Vec<_> = sample.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!(
                "{} {}{} {} {}",
                family.kind.as_str(),
                family.name,
                sample.suffix,
                labels.join(","),
                sample.value
            )
        })
        .collect()
}

#[test]
fn reads_what_the_format_allows() {
    let parsed = run(concat!(
        "# just a comment\n#not TYPE\n",
        "# HELP http_total Requests \\\\ by\\ncode \\x.\n# TYPE http_total counter\n",
        "http_total{code=\"200\",path=\"a\\\\b\\\"c\"} 1027 1395066363000\n",
        "http_total { code = \"400\" , } 3\n",
        "bare 1.5e3\n  minus -Inf\nno_labels{} NaN\n",
        "# TYPE lat histogram\nlat_bucket{le=\"0.1\"} 1\nlat_bucket{le=\"+Inf\"} 2\nlat_sum 3\nlat_count 2\n",
        "# TYPE rpc summary\nrpc{quantile=\"0.5\"} 4\nrpc_sum 5\nrpc_count 6\n",
    ));
    let expected = [
        "counter http_total code=200,path=a\\b\"c 1027",
        "counter http_total code=400 3",
        "untyped bare  1500",
        "untyped minus  -inf",
        "untyped no_labels  NaN",
        "histogram lat_bucket le=0.1 1",
        "histogram lat_bucket le=+Inf 2",
        "histogram lat_sum  3",
        "histogram lat_count  2",
        "summary rpc quantile=0.5 4",
        "summary rpc_sum  5",
        "summary rpc_count  6",
    ];
    assert_eq!(shown(&parsed), expected);
    assert_eq!(&*parsed.families[0].help, "Requests \\ by\u{fffd}code \\x.");
    assert_eq!(parsed.errors, 0);
}

#[test]
fn a_bad_line_costs_only_itself() {
    for bad in [
        "1bad 1",
        "bad-name 1",
        "novalue",
        "novalue ",
        "x y",
        "x 1 2 3",
        "x 1 1.5",
        "x{a=\"b\" 1",
        "x{a=b} 1",
        "x{a=\"b} 1",
        "x{a=\"\\q\"} 1",
        "x{1a=\"b\"} 1",
        "x{a:b=\"c\"} 1",
        "x{a=\"1\",a=\"2\"} 1",
        "x{__a=\"1\"} 1",
        "x{a=\"1\" b=\"2\"} 1",
        "x{,} 1",
        "{\"quoted\"} 1",
        "__name__ 1",
        "parachute_containers 99",
        "process_cpu_seconds_total 1",
        "x 1e999",
        "x 0x1p3",
        "# TYPE ok counter",
        "# HELP ok late",
        "# TYPE y enum",
        "# TYPE 1x gauge",
        "# TYPE y",
        "# HELP parachute_containers no",
        "# TYPE h counter",
        "h 1",
        "h_bucket 1",
        "h_bucket{le=\"x\"} 1",
        "h_bucket{le=\"-NaN\"} 1",
        "h_bucket{le=\"1 \"} 1",
        "h_count{le=\"x\"} 1",
        "s 1",
        "s_sum{quantile=\"x\"} 1",
        "# TYPE h_sum gauge",
        "# TYPE o histogram",
        "ok 2",
        "é 1",
        "x\0 1",
    ] {
        let text = format!("# TYPE h histogram\n# TYPE s summary\no_count 1\nok 1\n{bad}\nlast 1\n");
        let parsed = run(&text);
        assert_eq!(shown(&parsed), ["untyped o_count  1", "untyped ok  1", "untyped last  1"], "{bad}");
        assert_eq!(parsed.errors, 1, "{bad}");
    }
}

#[test]
fn labels_that_others_set_are_renamed() {
    for (line, labels) in [
        ("x{pod=\"a\",namespace=\"b\"} 1", "exported_namespace=b,exported_pod=a"),
        (
            "x{container=\"a\",job=\"j\",instance=\"i\"} 1",
            "exported_container=a,exported_instance=i,exported_job=j",
        ),
        ("x{pod=\"a\",exported_pod=\"b\"} 1", "exported_exported_pod=a,exported_pod=b"),
        ("x{exported_pod=\"b\",pod=\"a\"} 1", "exported_exported_pod=a,exported_pod=b"),
        ("x{empty=\"\"} 1", ""),
    ] {
        assert_eq!(shown(&run(line)), [format!("untyped x {labels} 1")]);
    }
}

#[test]
fn interleaved_families_are_gathered_and_duplicates_dropped() {
    let parsed =
        run("# TYPE a gauge\na{x=\"1\"} 1\nb 2\na{x=\"2\"} 3\na{x=\"1\"} 4\nb{y=\"\"} 5\n# HELP unused x\n");
    assert_eq!(shown(&parsed), ["gauge a x=1 1", "gauge a x=2 3", "untyped b  2"]);
    assert_eq!(parsed.errors, 2);
}

#[test]
fn a_prefix_chooses_and_the_rest_is_no_error() {
    let spec = Parse::Prometheus(Passthrough { prefix: "app_".into() });
    let parsed = parse(&spec, b"# TYPE go_x gauge\ngo_x 1\napp_y 2\n", 100).unwrap();
    assert_eq!((shown(&parsed), parsed.errors), (vec!["untyped app_y  2".to_owned()], 0));
}

#[test]
fn too_many_labels_are_a_bad_line() {
    let labels = |n: usize| (0..n).map(|n| format!("l{n}=\"v\"")).collect::<Vec<_>>().join(",");
    assert_eq!(run(&format!("x{{{}}} 1", labels(super::MAX_LABELS))).errors, 0);
    assert_eq!(run(&format!("x{{{}}} 1", labels(super::MAX_LABELS + 1))).errors, 1);
}
