//! An agent on a node of many containers, each with the series of one probe. Of the sections `scrape` and `resident_full`.

use std::time::{Duration, Instant};

use anyhow::ensure;
use testbed::{Agent, Crowd, Sample};

use crate::Bench;
use crate::processes::{Resident, family};

/// What the wished-for figures are about.
pub(crate) const SERIES: usize = 30;
/// How long a thousand starts and as many runs may take on a busy machine.
const SETTLED: Duration = Duration::from_mins(2);

/// `max_series` cuts what nstat prints to the same number on every kernel. The agent adds three to a container's.
const CONFIG: &str = r#"
limits: { queued_runs: 10000 }
probes:
  counters:
    command: [nstat, -asz]
    max_series: 30
    keep: never
    parse:
      keyvalue:
        - { name: node_kernel_counters_total, type: counter, help: Counters of the kernel., keys: "*", key_label: counter }
triggers:
  at-start: { container_start: { delay: 0s }, match: { namespace: crowd }, probes: [counters] }
"#;

#[derive(Debug)]
pub(crate) struct Crowded {
    pub agent: Agent,
    crowd: Crowd,
}

impl Crowded {
    /// An agent that knows nobody yet.
    pub(crate) async fn start(bench: &Bench) -> anyhow::Result<Self> {
        let config = bench.path("crowded.yml");
        std::fs::write(&config, CONFIG)?;
        let crowd = Crowd::new(None)?;
        let mut agent = Agent::start(&bench.parachute, &config, |_| {})?;
        agent.ready(SETTLED).await?;
        Ok(Self { agent, crowd })
    }

    /// Starts containers until there are so many, and waits until each has its series.
    pub(crate) async fn grow_to(&mut self, containers: usize) -> anyhow::Result<()> {
        self.crowd.grow(containers.saturating_sub(self.crowd.len()))?;
        let wanted = containers * SERIES;
        let deadline = Instant::now() + SETTLED;
        loop {
            let samples = self.agent.scrape().await?;
            let found = series(&samples);
            if found == wanted {
                return Ok(());
            }
            let said = |name: &str| -> f64 {
                samples.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
            };
            ensure!(
                Instant::now() < deadline,
                "{found} series instead of {wanted}; {} containers, {} runs, {} failed, {} refused",
                said("parachute_containers"),
                said("parachute_probe_runs_total"),
                said("parachute_probe_failures_total"),
                said("parachute_runs_refused_total"),
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Of the agent itself, the keeper, the launcher and its spawners: the first, and all together.
    pub(crate) fn resident(&self) -> anyhow::Result<[Resident; 2]> {
        let agent = self.agent.pid();
        let mut all = Resident { now: 0.0, most: 0.0 };
        for pid in family(agent) {
            let one = Resident::of(pid)?;
            all = Resident { now: all.now + one.now, most: all.most + one.most };
        }
        Ok([Resident::of(agent)?, all])
    }
}

fn series(samples: &[Sample]) -> usize {
    samples.iter().filter(|sample| sample.name == "node_kernel_counters_total").count()
}
