//! Expected samples of each format, from recorded outputs and from small ones.

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/output/", $name)).as_slice()
    };
}

fn expect(spec: &Parse, output: &[u8], samples: &[&str], errors: u64) {
    let parsed = parse(spec, output, 1000).unwrap();
    check(&parsed, 1000);
    assert_eq!(shown(&parsed), samples);
    assert_eq!((parsed.errors, parsed.dropped), (errors, 0), "errors, dropped");
}

#[test]
fn regex_reads_ss_and_sockstat_and_net_dev() {
    let tcp = r"TCP:\s+\d+ \(estab (?P<estab>\d+), closed (?P<closed>\d+)";
    let samples = [r#"m{state="estab"} 6"#, r#"m{state="closed"} 0"#];
    for scope in [Scope::Line, Scope::Whole] {
        let spec = regex(tcp, scope, RegexTake::GroupLabel("state".into()));
        expect(&spec, fixture!("ss-s.iproute2-6.1.0.txt"), &samples, 0);
    }
    let inuse = regex(r"^(?P<protocol>\w+): inuse (?P<n>\d+)", Scope::Line, RegexTake::Value("n".into()));
    let samples = ["TCP", "UDP", "UDPLITE", "RAW", "FRAG"]
        .map(|p| format!("m{{protocol={p:?}}} {}", if p == "TCP" { 9 } else { 0 }));
    expect(&inuse, fixture!("proc-net-sockstat.linux-6.18.txt"), &samples.each_ref().map(String::as_str), 0);

    let bytes = regex(r"^\s*(?P<device>\S+):\s*(?P<rx>\d+)", Scope::Line, RegexTake::Value("rx".into()));
    let samples = [
        r#"m{device="lo"} 3709"#,
        r#"m{device="ifb0"} 0"#,
        r#"m{device="ifb1"} 0"#,
        r#"m{device="eth0"} 332582936"#,
    ];
    expect(&bytes, fixture!("proc-net-dev.linux-6.18.txt"), &samples, 0);
}

#[test]
fn regex_counts_matches() {
    let listening = regex("^(?P<state>LISTEN|ESTAB)", Scope::Line, RegexTake::Count);
    expect(
        &listening,
        fixture!("ss-tan.iproute2-6.1.0.txt"),
        &[r#"m{state="LISTEN"} 3"#, r#"m{state="ESTAB"} 6"#],
        0,
    );
    expect(&regex("x", Scope::Whole, RegexTake::Count), b"axbx", &["m{} 2"], 0);
    expect(&regex("x", Scope::Line, RegexTake::Count), b"", &["m{} 0"], 0);
    let value = regex(r"(?P<k>\w)=(?P<v>\S+)", Scope::Line, RegexTake::Value("v".into()));
    expect(&value, b"a=1 a=2 b=x c=1e999 d=inf", &[r#"m{k="a"} 1"#, r#"m{k="d"} inf"#], 3);
}

#[test]
fn json_reads_ip() {
    let output = fixture!("ip-j-s-link.iproute2-6.1.0.json");
    let rx = json(".[]", ".stats64.rx.bytes", &[("device", ".ifname")]);
    let samples = [
        r#"m{device="lo"} 3709"#,
        r#"m{device="ifb0"} 0"#,
        r#"m{device="ifb1"} 0"#,
        r#"m{device="eth0"} 332582936"#,
    ];
    expect(&rx, output, &samples, 0);
    let up = json(
        ".[]",
        r#".operstate == "UP""#,
        &[("flags", r#".flags[:2] | join(",")"#), ("index", ".ifindex")],
    );
    let samples = [
        r#"m{flags="LOOPBACK,UP",index="1"} 0"#,
        r#"m{flags="BROADCAST,NOARP",index="2"} 0"#,
        r#"m{flags="BROADCAST,NOARP",index="3"} 0"#,
        r#"m{flags="BROADCAST,MULTICAST",index="4"} 1"#,
    ];
    expect(&up, output, &samples, 0);
    expect(&json(".", "length", &[]), output, &["m{} 4"], 0);
}

#[test]
fn json_rows_that_do_not_fit_are_errors() {
    let spec = json(".[]", ".v", &[("n", ".n")]);
    let output = br#"[{"v":1,"n":"a"},{"v":2,"n":"a"},{"v":"3.5","n":7},{"v":"x"},{"n":"b"},5,{"v":1,"n":[]},{"v":true}]"#;
    expect(&spec, output, &[r#"m{n="a"} 1"#, r#"m{n="7"} 3.5"#, "m{} 1"], 5);
    expect(&json(".[]", "if . > 1 then . else empty end", &[]), b"[1, 2]", &["m{} 2"], 0);
    expect(&json(".", ".v", &[("n", ".n")]), b"{\"v\":1,\"n\":\"a\xff\"}", &[r#"m{n="a�"} 1"#], 0);
    let deep = "[".repeat(200_000);
    for bad in ["", "{", "1 2", "\0", &deep] {
        assert!(matches!(parse(&spec, bad.as_bytes(), 10), Err(ParseError::NotJson(_))), "{bad:.20}");
    }
}

#[test]
fn keyvalue_reads_nstat_and_meminfo() {
    let keys = Parse::Keyvalue(vec![key("TcpActiveOpens", 1.0)]);
    expect(&keys, fixture!("nstat-az.iproute2-6.1.0.txt"), &["m{} 34"], 0);
    let keys = Parse::Keyvalue(vec![glob("Tcp{Active,Passive}Opens")]);
    let parsed = parse(&keys, fixture!("nstat-az.iproute2-6.1.0.txt"), 10).unwrap();
    assert_eq!((shown(&parsed).len(), parsed.errors), (2, 0));
    let keys = Parse::Keyvalue(vec![key("MemTotal", 1024.0)]);
    expect(&keys, fixture!("proc-meminfo.linux-6.18.txt"), &["m{} 25276502016"], 0);
}

#[test]
fn keyvalue_takes_every_separator() {
    let keys = || Parse::Keyvalue(vec![glob("*")]);
    for line in
        ["k 1", "k: 1", "k=1", " k  =  1 kB", "k :1", "k\t1\t2", "k: used 1", "k 1 other: 2", "k=1 b=2\r"]
    {
        expect(&keys(), line.as_bytes(), &[r#"m{name="k"} 1"#], 0);
    }
    expect(&keys(), b"cpu MHz : 2400.5", &[r#"m{name="cpu MHz"} 2400.5"#], 0);
    expect(&keys(), b"k 1\nk 2\n\nnone\nk=x", &[r#"m{name="k"} 1"#], 3);
    expect(&Parse::Keyvalue(vec![key("k", 0.5)]), b"other\nk 3", &["m{} 1.5"], 0);
}

#[test]
fn table_reads_ss_and_ps() {
    let columns = Some("state recvq sendq local peer process");
    let ss = |take| table(1, columns, None, &[("state", "state")], take);
    let output = fixture!("ss-tan.iproute2-6.1.0.txt");
    expect(&ss(TableTake::Count), output, &[r#"m{state="LISTEN"} 3"#, r#"m{state="ESTAB"} 6"#], 0);
    let sum = ss(TableTake::Merge(Merge::Sum, "recvq".into()));
    expect(&sum, output, &[r#"m{state="LISTEN"} 3"#, r#"m{state="ESTAB"} 0"#], 0);
    let ps = table(0, None, None, &[("comm", "COMMAND")], TableTake::Count);
    let samples = [r#"m{comm="sh"} 1"#, r#"m{comm="sleep"} 2"#, r#"m{comm="ps"} 1"#];
    expect(&ps, fixture!("ps-eo.procps-4.0.2.txt"), &samples, 0);
}

#[test]
fn table_rows_and_columns() {
    let by_name = |take| table(0, None, None, &[("name", "NAME")], take);
    let value = || by_name(TableTake::Value("N".into()));
    expect(&value(), b"N NAME\n1 a b\n2 a b\nx c\n\n3", &[r#"m{name="a b"} 1"#, "m{} 3"], 2);
    assert_eq!(parse(&value(), b"", 10), Err(ParseError::NoHeader));
    assert_eq!(parse(&value(), b"N OTHER\n", 10), Err(ParseError::NoColumn("NAME".into())));
    expect(&table(0, Some("a b"), None, &[], TableTake::Count), b"", &["m{} 0"], 0);
    let csv = table(0, Some("a b c"), Some('→'), &[("a", "a")], TableTake::Value("c".into()));
    expect(&csv, "x y → →3→surplus".as_bytes(), &[r#"m{a="x y"} 3"#], 0);
}
