//! The rules, one file each: `tests/fixtures/bad-config/NAME.yml` must give exactly the messages in `NAME.txt`.

mod library;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host::{Host, ProgramFile};
use super::load::{from_str_on, made_schema};
use super::parse::{KeyMatch, Merge, Parse, RegexTake, Scope, TableTake};
use super::root::ProbeRoot;
use super::{
    AlertWhen, Config, ConfigError, Limits, Mistakes, RuntimeEndpoint, Runtimes, When, json_schema, load,
    node_name,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A machine with every tool in /usr/bin that the tests and the example speak of.
fn look(_: ProbeRoot, path: &str) -> ProgramFile {
    match path.strip_prefix("/usr/bin/") {
        Some("ss" | "ip" | "nstat" | "ps" | "cat" | "sh" | "strace" | "tcpdump" | "pgrep") => {
            ProgramFile::Executable
        }
        _ if path == "/srv/shared/tool" => ProgramFile::Unsafe,
        _ if path == "/tmp/tool" => ProgramFile::Executable,
        _ if path == "/etc/passwd" => ProgramFile::NotExecutable,
        _ => ProgramFile::Missing,
    }
}

fn check(text: &str, node: &str) -> Result<Config, Mistakes> {
    from_str_on(text, Path::new("bad.yml"), &Host { look: &look, node })
}

#[test]
fn each_rule_has_its_exact_message() {
    let folder = root().join("tests/fixtures/bad-config");
    let mut checked = 0;
    let mut wrong = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "yml") {
            continue;
        }
        let said = match check(&std::fs::read_to_string(&path).unwrap(), "node-1") {
            Ok(_) => "no mistake was found\n".to_owned(),
            Err(mistakes) => format!("{mistakes}\n"),
        };
        let mut expected = std::fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        // The one mistake that depends on how the agent was built.
        if cfg!(feature = "object-store") && path.ends_with("captures-store-not-built.yml") {
            expected = "no mistake was found\n".into();
        }
        if said != expected {
            writeln!(wrong, "{}\n  expected {expected}  but got  {said}", path.display()).unwrap();
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(checked > 100, "only {checked} fixtures were found");
}

#[test]
fn the_example_has_no_mistake() {
    let text = std::fs::read_to_string(root().join("parachute.example.yml")).unwrap();
    // As this node, since a crontab's H is another minute on each.
    let config = check(&text, &node_name()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config.probes.len(), 8);
    assert_eq!(config.triggers.len(), 5);
    let built_in = crate::config::Source::BuiltIn.load().unwrap();
    assert_eq!(format!("{:?}", built_in.triggers), format!("{:?}", config.triggers));
    assert_eq!(built_in.probes.keys().collect::<Vec<_>>(), config.probes.keys().collect::<Vec<_>>());
}

#[test]
fn the_committed_schema_is_up_to_date() {
    let made = made_schema();
    if json_schema() != made {
        let fresh = root().join("target/parachute.schema.json");
        std::fs::write(&fresh, made).unwrap();
        panic!("parachute.schema.json is old; review and copy {} over it", fresh.display());
    }
}

#[test]
fn the_grammar_of_the_issue_means_what_it_says() {
    let text = std::fs::read_to_string(root().join("tests/fixtures/config/full.yml")).unwrap();
    let config = check(&text, "node-1").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let Runtimes::Listed(listed) = &config.runtimes else { panic!("{:?}", config.runtimes) };
    assert_eq!(listed, &[RuntimeEndpoint::Cri("/run/containerd/containerd.sock".into())]);
    let Limits { concurrent_runs, queued_runs, results_grace } = config.limits;
    assert_eq!((concurrent_runs, queued_runs, results_grace), (4, 20, Duration::from_secs(90)));

    let sockets = &config.probes["sockets"];
    assert_eq!(sockets.program, Path::new("/usr/bin/ss"));
    assert_eq!(sockets.command, ["ss", "-s", "5", "0x10", "1.0"], "a scalar is an argument as it is written");
    assert_eq!((sockets.timeout, sockets.max_output), (Duration::from_millis(1500), 64 << 10));
    let Parse::Regex(metrics) = &sockets.parse else { panic!("{:?}", sockets.parse) };
    assert!(matches!(&metrics[0].take, RegexTake::GroupLabel(label) if &**label == "state"));
    assert!(matches!(&metrics[1].take, RegexTake::Value(group) if group == "used"));
    assert!(matches!(metrics[2].take, RegexTake::Count));
    assert_eq!((metrics[0].scope, metrics[1].scope), (Scope::Whole, Scope::Line));
    assert!((metrics[1].def.scale - 0.001).abs() < 1e-12);
    assert_eq!(metrics[1].def.const_labels, [("proto".into(), "tcp".to_owned())]);

    let defaults = &config.probes["defaults"];
    assert_eq!((defaults.timeout, defaults.max_output), (Duration::from_secs(5), 1 << 20));
    assert_eq!(defaults.max_series, 500);
    let Parse::Keyvalue(metrics) = &defaults.parse else { panic!("{:?}", defaults.parse) };
    assert!(matches!(&metrics[0].keys, KeyMatch::One(key) if key == "TcpRetransSegs"));
    assert!(matches!(&metrics[1].keys, KeyMatch::Glob { label, .. } if &**label == "name"));
    let Parse::Table(table) = &config.probes["table"].parse else { panic!("not a table") };
    assert_eq!((table.skip, table.separator, table.columns.as_deref()), (1, Some('|'), None));
    assert!(matches!(&table.metrics[0].take, TableTake::Merge(Merge::Sum, column) if column == "Recv-Q"));
    assert!(matches!(&config.probes["passed"].parse, Parse::Prometheus(passed) if passed.prefix == "app_"));

    let steady = &config.triggers["steady"];
    assert!(matches!(steady.when, When::Every(period) if period == Duration::from_secs(30)));
    let namespace = steady.matches.namespace.as_ref().unwrap();
    assert!(namespace.matches("shop-a") && !namespace.matches("shop"));
    let container = steady.matches.container.as_ref().unwrap();
    assert!(container.matches("cart") && !container.matches("istio-proxy"));
    assert!(steady.matches.sandboxes && steady.allow_unsafe_joined);
    let start = &config.triggers["at-start"];
    assert!(matches!(start.when, When::ContainerStart { delay } if delay == Duration::from_secs(2)));
    assert!(!start.matches.sandboxes && !start.allow_unsafe_joined);
    assert!(matches!(config.triggers["by-hand"].when, When::Http));
    alert_triggers(&config);
}

fn alert_triggers(config: &Config) {
    let rule = |name: &str| match &config.triggers[name].when {
        When::Alert(rule) => rule.clone(),
        other => panic!("{other:?}"),
    };
    let (slow, fast) = (rule("slow"), rule("fast"));
    assert_eq!((slow.when, slow.cancel_on_resolve, slow.max_targets), (AlertWhen::Both, true, 7));
    assert_eq!((fast.when, fast.cancel_on_resolve, fast.max_targets), (AlertWhen::Firing, false, 20));
    assert_eq!((slow.cooldown, fast.cooldown), (Duration::ZERO, Duration::from_mins(10)));
    assert!(slow.target.container.is_none() && fast.target.pod.is_none());
    let labels =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let pod = slow.target.pod.as_ref().unwrap();
    assert_eq!(pod.render(&labels(&[("pod", "cart")])), Ok("cart-0".to_owned()));
    for (alert, stops) in [
        (&[("alertname", "TcpRetransmits"), ("severity", "critical")] as &[_], None),
        (&[("alertname", "TcpRetransmits/x"), ("severity", "warning"), ("team", "web")], None),
        (&[("alertname", "tcpRetransmits"), ("severity", "critical")], Some("alertname")),
        (&[("alertname", "TcpRetransmits")], Some("severity")),
        (&[("alertname", "TcpRetransmits"), ("severity", "critical|warning")], Some("severity")),
        (&[("alertname", "TcpRetransmits"), ("severity", "critical"), ("team", "dev")], Some("team")),
        (&[("alertname", "TcpRetransmits"), ("severity", "critical"), ("note", "x")], Some("note")),
    ] {
        assert_eq!(slow.mismatch(&labels(alert)).map(|(name, _)| name), stops, "{alert:?}");
    }
}

/// A minimal configuration with one schedule.
fn scheduled(schedule: &str, node: &str) -> When {
    let text = format!(
        "probes: {{ sockets: {{ command: [ss], parse: none }} }}\n\
         triggers: {{ steady: {{ schedule: {{ {schedule} }}, probes: [sockets] }} }}\n"
    );
    check(&text, node).unwrap_or_else(|mistakes| panic!("{mistakes}")).triggers["steady"].when.clone()
}

/// The next time of `expression` on `node`, in seconds.
fn next_time(expression: &str, node: &str) -> i64 {
    let When::Cron(crontab) = scheduled(&format!("cron: '{expression}'"), node) else {
        panic!("{expression} is no cron");
    };
    crontab.find_next("2026-07-01T00:00:00Z").unwrap().timestamp().as_second()
}

#[test]
fn every_alias_is_spread_over_the_fleet() {
    // 100 nodes thrown at random on 60 minutes hit about 49 of them, and on 1440 about 97.
    for (alias, least) in [
        ("@hourly", 40),
        ("@daily", 90),
        ("@midnight", 90),
        ("@weekly", 90),
        ("@monthly", 90),
        ("@yearly", 90),
    ] {
        let times = (0..100).map(|node| next_time(alias, &format!("node-{node}")));
        let distinct = times.collect::<std::collections::BTreeSet<i64>>().len();
        assert!(distinct >= least, "{alias}: 100 nodes share {distinct} times");
        assert_eq!(next_time(alias, "node-1"), next_time(alias, "node-1"), "the same node, the same time");
    }
}

#[test]
fn who_writes_three_o_clock_gets_it_in_their_time_zone() {
    for (expression, expected) in
        [("0 3 * * *", "2026-07-01T03:00:00Z"), ("0 3 * * THU Europe/Berlin", "2026-07-02T01:00:00Z")]
    {
        let expected: jiff::Timestamp = expected.parse().unwrap();
        assert_eq!(next_time(expression, "node-1"), expected.as_second(), "{expression}");
    }
}

#[test]
fn the_digest_is_of_the_bytes() {
    let text = "probes: { sockets: { command: [ss], parse: none } }\n";
    let digest = check(text, "a").unwrap().digest;
    assert_eq!(digest, check(text, "b").unwrap().digest);
    assert_ne!(digest, check(&format!("{text}\n"), "a").unwrap().digest);
}

#[test]
fn what_is_not_a_trustworthy_text_file_is_not_loaded() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parachute.yml");
    let write = |bytes: &[u8], mode| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        load(&path).map(|_| ())
    };
    let good = b"probes: { sockets: { command: [cat], parse: none } }\n";
    write(good, 0o644).unwrap();
    assert!(matches!(
        write(&vec![b' '; (1 << 20) + 1], 0o644),
        Err(ConfigError::NotText { what: "too large", .. })
    ));
    assert!(matches!(write(b"probes: \xff", 0o644), Err(ConfigError::NotText { what: "not UTF-8", .. })));
    assert!(matches!(write(b"probes: {}", 0o644), Err(ConfigError::Mistakes(_))));
    assert!(matches!(load(folder.path()), Err(ConfigError::NotText { what: "not a regular file", .. })));
    assert!(matches!(load(&folder.path().join("absent")), Err(ConfigError::Read { .. })));
    let untrusted = write(good, 0o664);
    if rustix::process::geteuid().is_root() {
        assert!(matches!(untrusted, Err(ConfigError::Untrusted { .. })), "{untrusted:?}");
        write(good, 0o644).unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(matches!(load(&path), Err(ConfigError::Untrusted { .. })));
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics_it(text in "(probes|triggers|limits|a|: |\\[|\\]|\\{|\\}|\n| |  |- |\"|'|&a|\\*a|<<|!!|\\|){0,40}") {
        let _ = check(&text, "node-1");
    }
}
