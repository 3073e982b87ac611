//! From what one node has shown to what many make: arithmetic, and figures of others with their source.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Asked, Node};

/// "around 3kB per series in the head", of Prometheus 2.20 and with samples of a usual interval:
/// <https://www.robustperception.io/why-does-prometheus-use-so-much-ram>.
const HEAD_BYTES: f64 = 3000.0;
/// "an average of only 1-2 bytes per sample", the larger: <https://prometheus.io/docs/prometheus/latest/storage/>.
const SAMPLE_BYTES: f64 = 2.0;
/// Seconds between scrapes.
const INTERVALS: [f64; 3] = [15.0, 30.0, 60.0];
const DAY: f64 = 86_400.0;

/// So many nodes that are all like the simulated one.
#[derive(Clone, Copy, Debug)]
pub struct Fleet<'a> {
    pub node: &'a Node,
    pub asked: Asked,
    pub nodes: usize,
}

impl Fleet<'_> {
    /// Series that one Prometheus would hold for all nodes.
    pub fn series(&self) -> f64 {
        (self.node.series * self.nodes) as f64
    }

    /// New series in an hour, of one node.
    pub fn churned(&self) -> usize {
        self.asked.churn * self.node.series_each
    }

    pub fn bytes_per_capture(&self) -> f64 {
        self.node.capture_bytes as f64 / self.node.captures.max(1) as f64
    }

    /// On one node; an alert names one pod, and each probe runs there once.
    pub fn captures_a_day(&self) -> usize {
        self.asked.alerts * self.asked.probes
    }

    /// The table, as Markdown.
    pub fn table(&self) -> Result<String, std::fmt::Error> {
        let (node, nodes) = (self.node, self.nodes as f64);
        let mut out = String::from("| what | figure | how |\n| --- | --- | --- |\n");
        let mut row = |what: &str, figure: String, how: &str| writeln!(out, "| {what} | {figure} | {how} |");
        row("containers on the node", node.containers.to_string(), "measured")?;
        row("until each has its first series", seconds(node.filled_in), "measured")?;
        for (name, series) in &node.families {
            row(&format!("series of `{name}`"), series.to_string(), "measured")?;
        }
        row("series of one container", node.series_each.to_string(), "measured")?;
        row("series of the node, the agent's own included", node.series.to_string(), "measured")?;
        row("a scrape, plain", size(node.plain_bytes as f64), "measured")?;
        row("a scrape, gzip", size(node.gzip_bytes as f64), "measured")?;
        row("time of a scrape, plain (median)", millis(node.plain_time), "measured")?;
        row("time of a scrape, gzip (median)", millis(node.gzip_time), "measured")?;
        row("the agent's processor time for a scrape with gzip", millis(node.scrape_cpu), "measured")?;
        row("resident memory of the agent", size(node.resident as f64), "measured")?;
        row("one alert that matches all: runs queued", node.alert.queued.to_string(), "measured")?;
        let dropped: Vec<_> =
            node.alert.dropped.iter().map(|(why, times)| format!("{why} {times}")).collect();
        let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
        row("the same: cut or dropped, by reason", dropped, "measured")?;
        row("the same: answered in", millis(node.alert.answered_in), "measured")?;
        row("the same: all run and kept in", seconds(node.alert.drained_in), "measured")?;
        row(
            "an alert for a pod of another node: the agent's processor time",
            millis(node.stranger_cpu),
            "measured",
        )?;
        row("bytes of a capture on disk", size(self.bytes_per_capture()), "measured")?;
        let (captures, alerts) = (self.captures_a_day(), self.asked.alerts);
        let day = captures as f64 * self.bytes_per_capture();
        row(&format!("captures a day at {alerts} alerts"), format!("{captures}, {}", size(day)), "computed")?;
        let replaced = &node.replaced;
        row(
            &format!("{} pods replaced: new series", replaced.pods),
            replaced.new_series.to_string(),
            "measured",
        )?;
        row("the same: most series at once", replaced.most_series.to_string(), "measured")?;
        let churn = format!("{} pods replaced an hour: new series an hour", self.asked.churn);
        row(&churn, self.churned().to_string(), "computed")?;
        let all = format!("{} such nodes", self.nodes);
        row(&format!("{all}: series"), millions(self.series()), "computed")?;
        for interval in INTERVALS {
            let samples = self.series() / interval;
            let scraped = node.gzip_bytes as f64 * nodes / interval;
            let figure = format!(
                "{} samples/s, {}/s of gzip, {} a day on disk",
                millions(samples),
                size(scraped),
                size(samples * DAY * SAMPLE_BYTES)
            );
            row(&format!("{all}: scraped every {interval} s"), figure, "computed, 2 bytes a sample")?;
        }
        row(&format!("{all}: head memory"), size(self.series() * HEAD_BYTES), "computed, 3 kB a series")?;
        row(&format!("{all}: new series an hour"), millions(self.churned() as f64 * nodes), "computed")?;
        let deliveries = self.asked.alerts as f64 * nodes;
        row(
            &format!("{all}, each of which gets every alert: processor time of one for them in a day"),
            seconds(node.stranger_cpu.mul_f64(deliveries)),
            "computed",
        )?;
        row(
            &format!("{all}: captures a day"),
            format!("{}, {}", millions(captures as f64 * nodes), size(day * nodes)),
            "computed",
        )?;
        Ok(out)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn millions(number: f64) -> String {
    if number < 1e6 { format!("{number:.0}") } else { format!("{:.1} million", number / 1e6) }
}

/// In units of powers of ten.
fn size(bytes: f64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let unit = units.into_iter().find(|(_, size)| bytes >= *size);
    unit.map_or(format!("{bytes:.0} B"), |(unit, size)| format!("{:.1} {unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_nodes_are_one_node_times_their_number() {
        let node = Node {
            series: 30_000,
            series_each: 30,
            gzip_bytes: 300_000,
            captures: 10,
            capture_bytes: 20_000,
            ..Node::default()
        };
        let asked = Asked { pods: 1000, probes: 3, churn: 100, alerts: 50, queue: 1 };
        let fleet = Fleet { node: &node, asked, nodes: 10_000 };
        assert_eq!((fleet.churned(), fleet.captures_a_day()), (3000, 150));
        let table = fleet.table().unwrap();
        for line in [
            "| 10000 such nodes: series | 300.0 million | computed |",
            "| 10000 such nodes: scraped every 30 s | 10.0 million samples/s, 100.0 MB/s of gzip, 1.7 TB a day on disk | computed, 2 bytes a sample |",
            "| 10000 such nodes: head memory | 900.0 GB | computed, 3 kB a series |",
            "| captures a day at 50 alerts | 150, 300.0 kB | computed |",
        ] {
            assert!(table.contains(line), "{line} is not in\n{table}");
        }
    }
}
