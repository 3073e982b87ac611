//! A dashboard as Grafana asks for its data: its variables filled in, each query by itself.

use std::fs;

use serde_json::{Map, Value, json};
use testbed::Prometheus;

use super::ROOT;

/// What was chosen at the top of the dashboard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    /// All, of everything.
    All,
    /// One container.
    One,
}

pub(super) struct Board {
    pub(super) name: &'static str,
    json: Value,
}

/// In the order in which they are replaced; `$__…` first, as `$name` would take its beginning.
fn filled(text: &str, choice: Choice, elapsed: u64) -> String {
    let one = choice == Choice::One;
    // Four scrapes and more: the slowest of these series changes once in 4 s.
    let mut text =
        text.replace("$__rate_interval", "15s").replace("$__range", &format!("{}s", elapsed.max(15)));
    for (name, value) in
        [("cluster", "test"), ("node", "node-1"), ("namespace", "shop"), ("pod", "cart-0"), ("container", "cart")]
    {
        text = text.replace(&format!("${name}"), if one { value } else { ".*" });
    }
    // All is the list of the jobs there are.
    text = text.replace("$job", "monitoring/parachute");
    assert!(!text.contains('$'), "a variable is left in {text}");
    text
}

impl Board {
    pub(super) fn read(name: &'static str) -> Self {
        let text = fs::read_to_string(format!("{ROOT}/dashboards/{name}.json")).unwrap();
        Self { name, json: serde_json::from_str(&text).unwrap() }
    }

    /// One container's dashboard has no All.
    pub(super) fn choices(&self) -> &'static [Choice] {
        if self.name == "container" { &[Choice::One] } else { &[Choice::One, Choice::All] }
    }

    /// What each panel and annotation shows, by its id, and the queries that returned nothing.
    pub(super) async fn ask(
        &self,
        prometheus: &Prometheus,
        choice: &Choice,
        elapsed: u64,
    ) -> (Map<String, Value>, Vec<String>) {
        let (mut found, mut empty) = (Map::new(), Vec::new());
        for panel in self.json["panels"].as_array().unwrap() {
            let mut series = Vec::new();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = filled(target["expr"].as_str().unwrap(), *choice, elapsed);
                let instant = target["instant"] == true;
                let answer = if instant {
                    prometheus.query(&query).await
                } else {
                    prometheus.range(&query, elapsed).await
                };
                let answer = answer.unwrap_or_else(|error| panic!("{}: {query}: {error:#}", self.name));
                if !answer.iter().any(has_number) {
                    empty.push(format!("{} {}: {query}", self.name, panel["title"]));
                }
                series.push(json!({ "refId": target["refId"], "series": answer }));
            }
            if !series.is_empty() {
                found.insert(panel["id"].to_string(), Value::Array(series));
            }
        }
        self.ask_variables(prometheus, *choice, elapsed, &mut empty).await;
        for annotation in self.json["annotations"]["list"].as_array().unwrap() {
            let query = filled(annotation["expr"].as_str().unwrap(), *choice, elapsed);
            let series = prometheus.query(&query).await.unwrap();
            if series.is_empty() {
                empty.push(format!("{} {}: {query}", self.name, annotation["name"]));
            }
            found.insert(annotation["name"].as_str().unwrap().to_owned(), Value::Array(series));
        }
        (found, empty)
    }

    /// `label_values(SERIES, LABEL)` is Grafana's own: the values that the label has on these series.
    async fn ask_variables(
        &self,
        prometheus: &Prometheus,
        choice: Choice,
        elapsed: u64,
        empty: &mut Vec<String>,
    ) {
        let mut asked = 0;
        for variable in self.json["templating"]["list"].as_array().unwrap() {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
            let (series, label) = inner.rsplit_once(", ").unwrap();
            let series = filled(series, choice, elapsed);
            let values = prometheus.query(&format!("count by ({label}) ({series})")).await.unwrap();
            if !values.iter().any(|value| value["metric"][label].is_string()) {
                empty.push(format!("{} ${label}: {query}", self.name));
            }
            asked += 1;
        }
        assert_eq!(asked, 6, "{} asks for cluster, job, node, namespace, pod and container", self.name);
    }
}

/// NaN is what a quotient of nothing gives, and draws nothing.
fn has_number(series: &Value) -> bool {
    let one = [series["value"].clone()];
    let values = series["values"].as_array().map_or(&one[..], Vec::as_slice);
    values.iter().filter_map(|pair| pair[1].as_str()).any(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
}
