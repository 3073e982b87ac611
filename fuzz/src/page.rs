//! From bytes that a command may print to the page that Prometheus fetches, by the agent's own parts: the configuration
//! is read, the format's parser run, its samples published into the store, and the page read back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use parachute::config::{self, Probe};
use parachute::metrics::encode::Encoder;
use parachute::metrics::{AgentMetrics, Samples, render};
use parachute::model::{
    Container, ContainerId, End, Family, Metadata, Outcome, Output, ProbeName, Rejects, RunRequest,
    RunResult, Runtime, Shares, TriggerName,
};
use parachute::parse::parse;

use super::{exposition, keep};

/// Probes of every format, as an operator may write them.
const CONFIGURATION: &str = include_str!("../parachute.yml");
/// The longest label value that a parser lets through; written down again here, because it is what is being checked.
const LONGEST_LABEL: usize = 128;
/// What a well-behaved probe of the same container has published before.
const NEIGHBOUR: &str = "# TYPE a gauge\na 1\na{b=\"c\"} 2\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n\
                         # TYPE s summary\ns{quantile=\"0.5\"} 1\nx_sum 1\n# TYPE c counter\nc 1\n";

struct Agent {
    /// By format.
    probes: BTreeMap<String, Vec<Arc<Probe>>>,
    metrics: AgentMetrics,
    samples: Samples,
    container: Arc<Container>,
    /// Samples on the page before the first run.
    before: usize,
}

/// One run of a probe of `format`, whose command prints what follows the first byte; that one chooses the probe.
pub fn printed(format: &str, input: &[u8]) {
    static AGENT: LazyLock<Agent> = LazyLock::new(Agent::new);
    let agent = &*AGENT;
    let probes = &agent.probes[format];
    let Some((choice, printed)) = input.split_first() else { return };
    let probe = &probes[usize::from(*choice) % probes.len()];
    let (outcome, families) = match parse(&probe.parse, printed, probe.max_series) {
        Ok(parsed) => (Outcome::Ok, parsed.families),
        Err(error) => (Outcome::ParseFailed { message: error.to_string() }, Vec::new()),
    };
    let made = series(&families);
    assert!(made <= probe.max_series, "{made} series of at most {}", probe.max_series);
    for (_, value) in families.iter().flat_map(|family| &family.samples).flat_map(|sample| &sample.labels) {
        assert!(!value.contains(char::is_control) && !value.is_empty(), "{value:?}");
    }
    let dropped = agent.metrics.series_dropped.with_label_values(&[probe.name.as_str()]);
    let dropped_before = dropped.get();
    agent.samples.publish(&result(&probe.name, &agent.container, outcome, families));
    let refused = usize::try_from(dropped.get() - dropped_before).expect("a number of series");

    let page = agent.page();
    let shown = samples_of(&page, LONGEST_LABEL);
    // Two more: that the probe ran, and whether it succeeded.
    assert_eq!(shown, agent.before + 2 + made - refused, "{made} made, {refused} refused:\n{page}");
    keep(page.as_bytes());
    // The whole page with the agent's own numbers is ten times as long and asks the kernel: for some inputs only.
    if input.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0 {
        samples_of(&render(&agent.metrics, &agent.samples), LONGEST_LABEL);
    }
    agent.samples.forget_probe(&probe.name);
}

impl Agent {
    fn new() -> Self {
        let config =
            config::from_str(CONFIGURATION, Path::new("parachute.yml")).expect("the configuration is good");
        let mut probes: BTreeMap<String, Vec<Arc<Probe>>> = BTreeMap::new();
        for probe in config.probes.values() {
            let format = probe.name.as_str().split('_').next().unwrap_or_default();
            probes.entry(format.to_owned()).or_default().push(Arc::clone(probe));
        }
        let metrics = AgentMetrics::new().expect("the metrics can be made");
        let agent = Self {
            probes,
            samples: Samples::new(Duration::from_mins(1), metrics.series_dropped.clone()),
            container: container("a", named("shop", "cart-0", "cart")),
            metrics,
            before: 0,
        };
        agent.samples.container_up(&agent.container);
        agent.samples.container_up(&container("b", None));
        let neighbour = &agent.probes["neighbour"][0];
        let parsed =
            parse(&neighbour.parse, NEIGHBOUR.as_bytes(), 100).expect("the neighbour's output is good");
        assert_eq!((parsed.errors, series(&parsed.families)), (0, 8));
        agent.samples.publish(&result(&neighbour.name, &agent.container, Outcome::Ok, parsed.families));
        let before = samples_of(&agent.page(), LONGEST_LABEL);
        Self { before, ..agent }
    }

    fn page(&self) -> String {
        let mut encoder = Encoder::default();
        self.samples.render(&mut encoder, &[]);
        encoder.finish()
    }
}

fn series(families: &[Family]) -> usize {
    families.iter().map(|family| family.samples.len()).sum()
}

/// How many there are; each must have the three labels that say whose they are.
pub(crate) fn samples_of(page: &str, longest_label: usize) -> usize {
    let families = match exposition::read(page.as_bytes(), longest_label) {
        Ok(families) => families,
        Err(wrong) => panic!("{wrong}; the page:\n{page}"),
    };
    let whose = |sample: &exposition::Sample| {
        let count = |name: &str| sample.labels.iter().filter(|(label, _)| label == name).count();
        ["namespace", "pod", "container"].iter().all(|name| count(name) == 1)
    };
    for (name, samples) in &families {
        // The agent's own have none, but for those of a probe.
        let own = name.starts_with("parachute_") || name.starts_with("process_");
        assert!(own || samples.iter().all(whose), "{name} without its container:\n{page}");
    }
    families.values().map(Vec::len).sum()
}

/// A container whose pidfd is just some open file: nothing here looks at it.
pub(crate) fn container(id: &str, metadata: impl Into<Option<Metadata>>) -> Arc<Container> {
    static FILE: LazyLock<std::fs::File> =
        LazyLock::new(|| std::fs::File::open("/dev/null").expect("/dev/null opens"));
    Arc::new(Container {
        id: ContainerId::new(id),
        pidfd: FILE.try_clone().expect("a descriptor is free").into(),
        pid: 4711,
        pid_start_ticks: 1,
        start_ticks: 1,
        cgroup_id: 1,
        cgroup_path: format!("/kubepods/burstable/pod1/{id}"),
        pid_ns: 1,
        net_ns: 2,
        shares: Shares::default(),
        runtime: Runtime::Containerd,
        cgroup_pod_uid: None,
        up_at: SystemTime::UNIX_EPOCH,
        metadata: metadata.into().map(Arc::new).into(),
    })
}

pub(crate) fn named(namespace: &str, pod: &str, container: &str) -> Metadata {
    Metadata {
        namespace: namespace.into(),
        pod: pod.into(),
        container: container.into(),
        ..Metadata::default()
    }
}

pub(crate) fn result(
    probe: &ProbeName,
    container: &Arc<Container>,
    outcome: Outcome,
    families: Vec<Family>,
) -> RunResult {
    RunResult {
        request: RunRequest::new(probe.clone(), TriggerName::new("by-hand"), Arc::clone(container)),
        started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
        outcome,
        output: Output {
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: false,
            end: End::Exited { code: 0 },
            way: None,
            limit: None,
            duration: Duration::from_millis(250),
        },
        families,
        parse_errors: 0,
        series_dropped: 0,
        captured: false,
        rejects: Rejects::default(),
    }
}
