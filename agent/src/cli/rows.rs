//! The containers as the verbs that list or choose them see them: rows of the agent's answer, and the table for people.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use crate::http::hidden;

/// Longest image that the narrow table shows, in characters; crictl cuts as well.
const IMAGE: usize = 40;
/// Characters of an id that are shown, as crictl has it.
const SHORT_ID: usize = 13;

/// The answer of `/api/v1/containers`.
#[derive(Deserialize)]
struct List {
    containers: Vec<Row>,
}

/// One container, with what a person may want to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
    pub(super) image: String,
    pub(super) runtime: String,
    pub(super) pod_uid: String,
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
    pub(super) pid_namespace: u64,
    pub(super) net_namespace: u64,
    pub(super) host_namespaces: Vec<String>,
    pub(super) pid_start_ticks: u64,
    pub(super) cgroup: String,
    pub(super) sandbox: bool,
}

/// Reads the agent's answer.
pub(super) fn parse(json: &str) -> anyhow::Result<Vec<Row>> {
    let List { containers } = serde_json::from_str(json).context(
        "the answer is no list of containers; is it a parachute agent of this version that listens there?",
    )?;
    Ok(containers)
}

impl Row {
    /// As exec's CONTAINER: a name, or the id of one that has none.
    pub(super) fn name(&self) -> String {
        if self.sandbox {
            self.id.clone()
        } else if self.pod.is_empty() && self.namespace.is_empty() {
            self.container.clone()
        } else if self.namespace.is_empty() {
            format!("{}/{}", self.pod, self.container)
        } else {
            format!("{}/{}/{}", self.namespace, self.pod, self.container)
        }
    }
}

/// A table for people; `wide` has everything.
pub(super) fn table(mut rows: Vec<Row>, wide: bool) -> String {
    rows.sort_by(|a, b| {
        (&a.namespace, &a.pod, &a.container, &a.id).cmp(&(&b.namespace, &b.pod, &b.container, &b.id))
    });
    let now = since_boot();
    let mut head = vec!["CONTAINER ID", "NAME", "POD", "NAMESPACE", "IMAGE", "RUNTIME", "PID", "AGE"];
    if wide {
        head.extend(["POD UID", "PID NS", "NET NS", "HOST'S", "CGROUP"]);
    }
    let mut lines = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for row in rows {
        let started = Duration::from_millis(row.start_ticks.saturating_mul(1000) / ticks_per_second());
        let name = if row.sandbox { "(sandbox)".to_owned() } else { row.container };
        let id = if wide { row.id } else { row.id.chars().take(SHORT_ID).collect() };
        let image = if wide { row.image } else { shortened(&row.image) };
        let age = age(now.saturating_sub(started));
        let mut line = vec![id, name, row.pod, row.namespace, image, row.runtime, row.pid.to_string(), age];
        if wide {
            let (pid_ns, net_ns) = (row.pid_namespace.to_string(), row.net_namespace.to_string());
            let shared = row.host_namespaces.join(",");
            line.extend([row.pod_uid, pid_ns, net_ns, shared, row.cgroup]);
        }
        lines.push(line.into_iter().map(|cell| shown(&cell)).collect());
    }
    aligned(&lines)
}

/// The cells under each other.
pub(super) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    lines.iter().fold(String::new(), |table, line| {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        table + cells.join("  ").trim_end() + "\n"
    })
}

/// The runtime's texts are others' choice, and this goes to a terminal: nothing in them may move the cursor or turn the line round.
pub(super) fn shown(cell: &str) -> String {
    let cell: String = cell.chars().map(|c| if c.is_control() || hidden(c) { '?' } else { c }).collect();
    if cell.is_empty() { "-".to_owned() } else { cell }
}

/// The end of an image's name tells more than its registry.
fn shortened(image: &str) -> String {
    let length = image.chars().count();
    if length <= IMAGE {
        return image.to_owned();
    }
    std::iter::once('…').chain(image.chars().skip(length + 1 - IMAGE)).collect()
}

/// As kubectl has it: the largest unit alone.
pub(super) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// What the start times of /proc count from (proc_pid_stat(5), `starttime`).
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// `sysconf(_SC_CLK_TCK)`.
fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli) fn row(namespace: &str, pod: &str, container: &str) -> Row {
        Row {
            id: "ab".repeat(32),
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.into(),
            ..Row::default()
        }
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7199, "119m"),
            (7200, "2h"),
            (172_799, "47h"),
            (172_800, "2d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_hostile_text_cannot_move_the_cursor_and_a_long_image_does_not_push_the_rest_away() {
        let mut hostile = row("shop", "cart-0", "\u{1b}[2J\nx");
        hostile.image = format!("registry.example.org/{}/cart:1", "x".repeat(100));
        let narrow = table(vec![hostile.clone()], false);
        assert!(narrow.contains("?[2J?x") && narrow.lines().count() == 2, "{narrow}");
        assert!(narrow.contains("…") && narrow.contains("cart:1"), "{narrow}");
        let wide = table(vec![hostile.clone()], true);
        assert!(wide.contains("registry.example.org") && wide.contains(&hostile.id), "{wide}");
    }
}
