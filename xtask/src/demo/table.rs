//! A few metrics of each container side by side: what a scrape holds, for a person's eyes.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use testbed::Sample;

/// How many rows a metric, and the table, may take.
const ROWS_PER_METRIC: usize = 4;
const ROWS: usize = 16;

/// One container.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub namespace: String,
    pub pod: String,
    pub container: String,
}

impl Column {
    pub(super) fn holds(&self, sample: &Sample) -> bool {
        sample.label("namespace") == self.namespace
            && sample.label("pod") == self.pod
            && sample.label("container") == self.container
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pod, self.container)
    }
}

/// One line per series that the probes have made, one column per container. Series that are 0 everywhere tell nothing.
pub(super) fn render(samples: &[Sample], columns: &[Column]) -> String {
    let mut rows: BTreeMap<(&str, String), Vec<Option<f64>>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| is_result(sample)) {
        let Some(column) = columns.iter().position(|column| column.holds(sample)) else { continue };
        let row = rows.entry((&sample.name, own_labels(sample))).or_insert_with(|| vec![None; columns.len()]);
        row[column] = Some(sample.value);
    }
    rows.retain(|_, values| values.iter().flatten().any(|&value| value != 0.0));
    let mut lines = vec![header(columns)];
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for ((name, labels), values) in &rows {
        let count = seen.entry(name).or_default();
        *count += 1;
        if *count <= ROWS_PER_METRIC && lines.len() <= ROWS {
            let values = values.iter().map(|value| value.map_or("-".into(), |value| value.to_string()));
            lines.push(std::iter::once(format!("{name}{labels}")).chain(values).collect());
        }
    }
    align(&lines)
}

/// A probe's own result, not what the agent tells of itself.
fn is_result(sample: &Sample) -> bool {
    const AGENT: [&str; 2] = ["parachute_probe_", "parachute_container_"];
    !AGENT.iter().any(|prefix| sample.name.starts_with(prefix))
}

fn own_labels(sample: &Sample) -> String {
    let own =
        sample.labels.iter().filter(|(name, _)| !["namespace", "pod", "container"].contains(&name.as_str()));
    let text = own.map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>().join(",");
    if text.is_empty() { text } else { format!("{{{text}}}") }
}

fn header(columns: &[Column]) -> Vec<String> {
    std::iter::once("METRIC".to_owned()).chain(columns.iter().map(ToString::to_string)).collect()
}

fn align(lines: &[Vec<String>]) -> String {
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for line in lines {
        for (at, cell) in line.iter().enumerate() {
            let width = width(at);
            // The names to the left, the numbers below each other's last digit. Writing to a String cannot fail.
            let _ = if at == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_stand_in_rows_and_containers_in_columns() {
        let text = r#"parachute_tcp_sockets{namespace="shop",pod="a-0",container="a",state="estab"} 4
parachute_tcp_sockets{namespace="shop",pod="b-0",container="b",state="estab"} 10
parachute_tcp_sockets{namespace="shop",pod="b-0",container="b",state="closed"} 0
parachute_processes{namespace="shop",pod="a-0",container="a"} 7
parachute_processes{namespace="other",pod="a-0",container="a"} 9
parachute_probe_last_success{namespace="shop",pod="a-0",container="a",probe="sockets"} 1
"#;
        let column = |name: &str| Column {
            namespace: "shop".into(),
            pod: format!("{name}-0"),
            container: name.into(),
        };
        let table = render(&testbed::samples(text).unwrap(), &[column("a"), column("b")]);
        assert_eq!(
            table,
            "METRIC                                a-0/a  b-0/b\n\
             parachute_processes                       7      -\n\
             parachute_tcp_sockets{state=\"estab\"}      4     10\n"
        );
    }
}
