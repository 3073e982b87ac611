//! The landing page: what runs here and where to look next, in one small HTML document without scripts. Everything
//! that is not written in this file is escaped.

use std::fmt::Write as _;
use std::sync::Arc;

use super::view::{ContainerView, rfc3339};
use crate::metrics::samples::LastRun;
use crate::model::{Container, Way};

/// Rows of containers on the page; the rest is in the JSON list.
const MAX_ROWS: usize = 200;

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8883; --dim: #777; --good: #2a7d3f; --bad: #c0392b; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.5rem; margin: 0; } h1 small { font-weight: normal; font-size: .9rem; color: var(--dim); }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; } p { margin: .4rem 0; } a { margin-right: 1.1rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { color: var(--dim); font-weight: 500; } code { font-size: .85rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .dim { color: var(--dim); }
";

pub(super) fn render(containers: &[Arc<Container>], runs: &[LastRun], not_ready: Option<&str>) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>parachute</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>parachute <small>{}</small></h1>\n\
         <p>Runs host commands inside containers and turns their output into metrics.</p>\n\
         <p><a href=\"/metrics\">Metrics</a><a href=\"/api/v1/containers\">Containers (JSON)</a>\
         <a href=\"/-/healthy\">Health</a><a href=\"/-/ready\">Readiness</a></p>\n",
        env!("CARGO_PKG_VERSION")
    );
    if let Some(reason) = not_ready {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(html, "<p class=\"bad\">Not ready: {}</p>", escape(reason));
    }
    write_runs(&mut html, runs);
    write_containers(&mut html, containers);
    html.push_str("</body></html>\n");
    html
}

fn write_runs(html: &mut String, runs: &[LastRun]) {
    html.push_str("<h2>Last runs</h2>\n");
    if runs.is_empty() {
        html.push_str("<p class=\"dim\">No probe has run yet.</p>\n");
        return;
    }
    html.push_str(
        "<table><tr><th>started<th>probe<th>namespace<th>pod<th>container<th>way<th>took<th>outcome</tr>\n",
    );
    for run in runs {
        let class = if run.outcome.is_ok() { "good" } else { "bad" };
        let _ = writeln!(
            html,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.0} ms<td class=\"{class}\">{}</tr>",
            rfc3339(run.started_at),
            escape(run.probe.as_str()),
            escape(&run.labels.namespace),
            escape(&run.labels.pod),
            escape(&run.labels.container),
            run.way.map_or("", Way::as_str),
            run.duration.as_secs_f64() * 1000.0,
            escape(&run.outcome.to_string()),
        );
    }
    html.push_str("</table>\n");
}

fn write_containers(html: &mut String, containers: &[Arc<Container>]) {
    let _ = writeln!(html, "<h2>Containers ({})</h2>", containers.len());
    if containers.is_empty() {
        html.push_str("<p class=\"dim\">No container runs here.</p>\n");
        return;
    }
    let mut rows: Vec<ContainerView> = containers.iter().map(|one| ContainerView::from(&**one)).collect();
    rows.sort_by(|left, right| left.labels.cmp(&right.labels));
    html.push_str("<table><tr><th>namespace<th>pod<th>container<th>image<th>runtime<th>id</tr>\n");
    for row in rows.iter().take(MAX_ROWS) {
        let container = if row.sandbox {
            "<span class=\"dim\">sandbox</span>".to_owned()
        } else {
            escape(&row.labels.container)
        };
        let _ = writeln!(
            html,
            "<tr><td>{}<td>{}<td>{container}<td>{}<td>{}<td><code>{}</code></tr>",
            escape(&row.labels.namespace),
            escape(&row.labels.pod),
            escape(&row.image),
            row.runtime,
            escape(&row.id.chars().take(12).collect::<String>()),
        );
    }
    html.push_str("</table>\n");
    if rows.len() > MAX_ROWS {
        let _ = writeln!(html, "<p class=\"dim\">and {} more</p>", rows.len() - MAX_ROWS);
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
