//! What a command prints may be anything: the page that Prometheus fetches stays one that it can read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use testbed::Kind;

use self::fuzz::chance::Chance;
use self::fuzz::{exposition, kernel, page, request, store, terminal};
use super::Held;
use crate::common::{self, Rig};

/// What libFuzzer runs; without it the inputs are chance's. Its reader of pages is not the agent's encoder turned round.
#[allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "it is a crate of its own as well"
)]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

const FORMATS: [&str; 5] = ["regex", "json", "keyvalue", "table", "prometheus"];

/// 19: Bytes made to break a parser or the page: parts of the formats, any bytes, invalid UTF-8, long lines, numbers beyond
/// all bounds, series twice. No parser panics; no page has a line that the format does not allow, a series twice, a label
/// that is longer than the limit or more series than the probe may have. `cargo xtask fuzz` runs the same for hours.
#[test]
fn a19_any_output_makes_a_page_that_can_be_read() {
    for seed in 0..3_000 {
        let mut chance = Chance::new(seed);
        for format in FORMATS {
            let choice = u8::try_from(chance.below(256)).unwrap();
            page::printed(format, &[&[choice], chance.output().as_slice()].concat());
        }
        let input = chance.output();
        terminal::stream(&input);
        kernel::cgroup_path(&input);
        kernel::mount_table(&input);
        request::body(&input);
        store::published(&input);
    }
}

/// 19: The same through a whole agent: a tool of the host's prints the bytes beside a container, in every format, and the
/// real promtool reads the page after each.
#[tokio::test(flavor = "multi_thread")]
async fn a19_any_output_of_a_real_run_makes_a_page_that_promtool_reads() {
    let rig = Rig::new().await;
    // An observer is shown the folder below /opt that its program is in.
    let folder = tempfile::Builder::new().prefix("pt-").tempdir_in("/opt").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (program, output) = (folder.path().join("bin/print"), folder.path().join("output"));
    fs::create_dir(folder.path().join("bin")).unwrap();
    fs::copy("/bin/cat", &program).unwrap();
    let command = format!("command: [{}, {}]", program.display(), output.display());
    let configuration = include_str!("../../fuzz/parachute.yml").replace("command: [cat]", &command);
    let (head, _) = configuration.split_once("triggers:").unwrap();
    let names: Vec<&str> = head
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(": {"))
        .map(|(name, _)| name)
        .collect();
    // Not the metrics, which stand further in.
    let names: Vec<&str> = names.into_iter().filter(|name| !name.starts_with(' ')).collect();
    assert!(FORMATS.iter().all(|format| names.iter().any(|name| name.starts_with(format))), "{names:?}");
    let triggers = format!("triggers:\n  by-hand: {{ http: {{}}, probes: [{}] }}\n", names.join(", "));
    let agent = rig.agent(&format!("{head}{triggers}")).await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let mut outcomes = std::collections::BTreeMap::new();
    for seed in 0..60 {
        let mut chance = Chance::new(seed);
        fs::write(&output, chance.output()).unwrap();
        for probe in &names {
            let answer = held.run(&agent, probe).await;
            *outcomes.entry(answer["outcome"].to_string()).or_insert(0) += 1;
        }
        let metrics = agent.get("/metrics").await.unwrap().body;
        exposition::read(metrics.as_bytes(), 128).unwrap_or_else(|wrong| panic!("{wrong}:\n{metrics}"));
        promtool_reads(&metrics);
    }
    println!("{outcomes:?}");
    assert!(
        outcomes.keys().all(|outcome| ["\"ok\"", "\"parse_failed\""].contains(&outcome.as_str())),
        "{outcomes:?}"
    );
    assert!(outcomes["\"ok\""] > 300, "{outcomes:?}");
    drop((held, folder));
    rig.finish(agent);
}

/// It may advise on names and help texts, which are the container's own; it must be able to read the page.
fn promtool_reads(metrics: &str) {
    let verdict = common::ask_promtool(metrics);
    let said = String::from_utf8_lossy(&verdict.stderr);
    assert!([Some(0), Some(3)].contains(&verdict.status.code()), "{said}\n{metrics}");
}
