//! Names that a container chooses: as rows and labels that are none, and very many of them.

use std::fs;

use testbed::{Agent, Kind, WORKLOAD_IMAGE};

use super::{Held, memory, tried};
use crate::common::{self, Rig, SOON};

/// One of each parser, over tools and files that show a container's names.
const NAMES: &str = r#"
limits: { results_grace: 1s }
probes:
  sockets: { command: [ss, -tan], parse: { table: { skip: 1, columns: [state, a, b, local, peer], metrics: [{ name: forged_connections, type: gauge, help: Sockets by state., aggregate: count, labels: { state: state } }] } } }
  processes: { command: [ps, -eo, 's=,nlwp=,comm='], parse: { table: { columns: [state, threads, name], metrics: [{ name: forged_processes, type: gauge, help: Processes by name., aggregate: count, labels: { name: name } }] } } }
  listening: { command: [ss, -Htln], parse: { regex: [{ name: forged_listening, type: gauge, help: Listening sockets., pattern: '^LISTEN ' }] } }
  words: { command: [ps, -eo, 'args='], parse: { regex: [{ name: forged_words, type: gauge, help: Processes by words., pattern: '^(?P<args>.+)$' }] } }
  files: { command: [ls, -b, "/proc/1/root/names"], parse: { regex: [{ name: forged_files, type: gauge, help: Files., pattern: '.+' }] } }
  status: { command: [cat, "/proc/1/status"], parse: { keyvalue: [{ name: forged_threads, type: gauge, help: Threads., key: Threads }] } }
  unix: { command: [cat, "/proc/net/protocols"], parse: { table: { columns: [protocol, size, sockets], metrics: [{ name: forged_unix, type: gauge, help: Sockets by protocol., value: sockets, labels: { protocol: protocol } }] } } }
  links: { command: [ip, -j, link], parse: { json: [{ name: forged_links, type: gauge, help: Network devices., value: length }] } }
  raw: { command: [cat, "/proc/1/comm"], parse: { table: { columns: [number, rest], metrics: [{ name: forged_raw, type: gauge, help: Numbers., value: number, labels: { rest: rest } }] } } }
triggers: { by-hand: { http: {}, probes: [sockets, processes, listening, words, files, status, unix, links, raw] } }
"#;

/// 18: Names with newlines, quotes, escapes and bytes that are no text, in processes, words, sockets and files, make no row and no
/// label that is not there: what each parser counts is what the kernel's own tables have, and what could not be read is
/// counted as well. The kernel escapes a name in `status` (`proc_task_name` in fs/proc/array.c), ps and `ls -b` do in what they
/// print, and `ss -t` prints none.
#[tokio::test(flavor = "multi_thread")]
async fn a18_names_forge_no_series() {
    let rig = Rig::new().await;
    let agent = rig.agent(NAMES).await;
    let kinds = [Kind::Default, Kind::Nothing, Kind::User, Kind::Privileged];
    for kind in kinds {
        let held = Held::start(&rig, kind, &format!("{kind}-0"), &["/attacker", "names"]).await;
        let truth = Truth::of(&held).await;
        assert_eq!((truth.listening, truth.processes, truth.files), (3, 5, 4), "the names are in use");
        for probe in ["sockets", "processes", "listening", "words", "files", "status", "unix", "links", "raw"]
        {
            let answer = held.run(&agent, probe).await;
            println!("{kind} {probe}: {answer}");
            assert_eq!(answer["outcome"], "ok", "{answer}");
        }
        compare(&agent, &truth).await;
        held.remove().await;
        common::eventually("its series go with it", SOON, async || {
            let left = agent.scrape().await.unwrap().iter().filter(|s| s.name.starts_with("forged_")).count();
            if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
        })
        .await;
    }
    for name in ["a process's name", "words", "an abstract socket", "a file"] {
        tried(&format!("a18 a name of {name}"), &kinds);
    }
    rig.finish(agent);
}

/// What the kernel's own tables of the container say.
struct Truth {
    listening: usize,
    unix: f64,
    processes: usize,
    files: usize,
    links: usize,
}

impl Truth {
    async fn of(held: &Held) -> Self {
        let of = |path: &str| fs::read(format!("/proc/{}/{path}", held.container.pid)).unwrap_or_default();
        common::eventually("the names are in use", SOON, async || {
            let beside = common::processes_beside(held.container.pid);
            // All have given themselves a name.
            let named = beside.iter().filter(|name| *name != "attacker").count();
            if named == 5 { Ok(()) } else { Err(format!("{beside:?}")) }
        })
        .await;
        let tcp = String::from_utf8(of("net/tcp")).unwrap();
        let protocols = String::from_utf8(of("net/protocols")).unwrap();
        // One protocol or two (`UNIX-STREAM`, since Linux 5.15).
        let unix = protocols.lines().filter(|line| line.starts_with("UNIX"));
        let unix = unix.filter_map(|line| line.split_whitespace().nth(2)?.parse::<f64>().ok()).sum();
        Self {
            // TCP_LISTEN is 0A (net/tcp_states.h).
            listening: tcp.lines().filter(|line| line.split_whitespace().nth(3) == Some("0A")).count(),
            unix,
            processes: common::processes_beside(held.container.pid).len(),
            files: fs::read_dir(format!("/proc/{}/root/names", held.container.pid)).unwrap().count(),
            // After two lines of headings.
            links: String::from_utf8(of("net/dev")).unwrap().lines().skip(2).count(),
        }
    }
}

async fn compare(agent: &Agent, truth: &Truth) {
    let metrics = agent.get("/metrics").await.unwrap().body;
    common::promtool(&metrics);
    let samples = testbed::samples(&metrics).unwrap();
    let sum = |name: &str| common::sum(&samples, name, &[]);
    let (listening, processes) = (truth.listening as f64, truth.processes as f64);
    for (name, wanted) in [
        ("forged_connections", listening),
        ("forged_listening", listening),
        ("forged_processes", processes),
        ("forged_words", processes),
        ("forged_links", truth.links as f64),
        ("forged_files", truth.files as f64),
        ("forged_threads", 1.0),
        ("forged_raw", 0.0),
    ] {
        assert_eq!(sum(name), wanted, "{name}");
    }
    let unix = ["UNIX", "UNIX-STREAM"]
        .map(|protocol| common::sum(&samples, "forged_unix", &[("protocol", protocol)]));
    assert!(truth.unix >= 4.0, "{}", truth.unix);
    assert_eq!(unix.iter().sum::<f64>(), truth.unix, "a run has no socket of its own there");
    assert_eq!(common::select(&samples, "parachute_forged", &[]).count(), 0);
    let labels = samples.iter().filter(|s| s.name.starts_with("forged_"));
    for sample in labels {
        assert!(!format!("{sample:?}").contains(['\n', '\u{1b}']), "{sample:?}");
    }
    // A name that is a row's rest and no number: the one line that could not be read.
    let errors = common::sum(&samples, "parachute_parse_errors_total", &[("probe", "raw")]);
    assert!(errors >= 1.0, "{errors} lines could not be read");
}

/// 20: Twenty thousand listening sockets make as many series as the probe allows, the rest is counted, and neither what is
/// served nor the agent's memory grows with them.
#[tokio::test(flavor = "multi_thread")]
async fn a20_many_names_are_bounded() {
    const SOCKETS: u64 = 20_000;
    const SERIES: u64 = 500;
    let rig = Rig::new().await;
    let configuration = r"
probes:
  listeners: { command: [ss, -Htln], max_output: 8MiB, parse: { table: { columns: [state, receive, send, local, peer], metrics: [{ name: many_listeners, type: gauge, help: By address., value: receive, labels: { address: local } }] } } }
triggers: { by-hand: { http: {}, probes: [listeners] } }
";
    let agent = rig.agent(configuration).await;
    let pod = rig.bed.pod("attack", "many-0");
    // Two, since a process may have no more than that many files open on some machines.
    let pod = pod.container("main", WORKLOAD_IMAGE, &["/attacker", "listen", "10000", "10000"]);
    let pod = pod.container("other", WORKLOAD_IMAGE, &["/attacker", "listen", "20000", "10000"]);
    let pod = pod.start().await.unwrap();
    let held =
        Held { kind: Kind::Default, container: pod.containers[0].clone(), pod: Some(pod), _user: None };
    let before = memory(&agent, "VmRSS:");
    common::eventually("all listen", SOON, async || {
        let answer = held.run(&agent, "listeners").await;
        let dropped = &answer["series_dropped"];
        if *dropped == SOCKETS - SERIES { Ok(()) } else { Err(dropped.to_string()) }
    })
    .await;
    let first = memory(&agent, "VmRSS:");
    for _ in 0..20 {
        let answer = held.run(&agent, "listeners").await;
        assert_eq!(answer["outcome"], "ok", "{answer}");
        assert_eq!(answer["series_dropped"], SOCKETS - SERIES);
    }
    let body = agent.get("/metrics").await.unwrap().body;
    let samples = testbed::samples(&body).unwrap();
    assert_eq!(common::select(&samples, "many_listeners", &[]).count() as u64, SERIES);
    let counted = common::sum(&samples, "parachute_series_dropped_total", &[("probe", "listeners")]);
    assert!(counted >= 20.0 * (SOCKETS - SERIES) as f64, "{counted}");
    let now = memory(&agent, "VmRSS:");
    println!(
        "{} KiB before, {first} KiB after a run, {now} KiB after 21; the scrape has {} bytes",
        before,
        body.len()
    );
    assert!(body.len() < 256 << 10, "{} bytes", body.len());
    assert!(now.saturating_sub(before) < 10 << 10, "{} KiB more", now - before);
    tried("a20 twenty thousand names", &[Kind::Default]);
    drop(held);
    rig.finish(agent);
}
