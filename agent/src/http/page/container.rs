//! One container: what it is, what ran in it, what was kept of that.

use super::frame::{Place, frame};
use super::html::Html;
use super::{Wrong, captures, runs, words};
use crate::captures::{Filter, Listing};
use crate::http::Backend;
use crate::http::view::ContainerView;
use crate::metrics::samples::LastRun;
use crate::model::{ContainerId, ContainerLabels};
use crate::probes::{Quarantined, Record};

/// Runs of the container on its page; the rest is a filter away.
const RUNS: usize = 50;
const CAPTURES: usize = 10;
/// Of an id, as it is shown; 48 bits, which no two containers of a node share.
const SHORT_ID: usize = 12;

pub(super) fn page(id: &str, backend: &dyn Backend) -> Result<Html, Wrong> {
    let live = backend.containers();
    // Other answers show an id's beginning.
    let is_meant = |known: &ContainerId| {
        known.as_str() == id || (id.len() >= SHORT_ID && known.as_str().starts_with(id))
    };
    let live = live.into_iter().find(|container| is_meant(&container.id));
    let id = live.as_ref().map_or_else(|| ContainerId::new(id), |container| container.id.clone());
    let history = backend.history();
    let ran: Vec<&Record> = history.iter().map(|run| &**run).filter(|run| run.container == id).collect();
    let labels = match (&live, ran.first()) {
        (Some(container), _) => container.labels(),
        (None, Some(run)) => run.labels.clone(),
        (None, None) => {
            return Err(Wrong::Nothing("No container with this id runs here, and nothing is known of one."));
        }
    };
    let mut html = Html::default();
    html.raw("<h1>").text(&words::name(&labels)).raw("</h1>\n");
    if live.is_none() {
        html.raw("<p class=\"status warn\"><b>Gone</b> <span>").text(id.as_str()).raw("</span></p>\n");
    }
    let quarantined: Vec<Quarantined> =
        backend.quarantined().into_iter().filter(|one| one.container == id).collect();
    for Quarantined { probe, left, .. } in quarantined {
        html.raw("<p class=\"status warn\"><b>").text(probe.as_str()).raw("</b> <span>is in quarantine for ");
        html.text(&words::age(left)).raw(": it has reached its limits again and again</span></p>\n");
    }
    let last: Vec<LastRun> =
        backend.last_runs(usize::MAX).into_iter().filter(|run| run.container == id).collect();
    latest(&mut html, &last);
    kept(&mut html, &labels, backend);
    html.raw("<h2>Runs <small>").show(ran.len()).raw(" remembered</small></h2>\n");
    if ran.is_empty() {
        html.raw("<p class=\"card pad dim\">None yet.</p>\n");
    } else {
        runs::table(&mut html, ran.iter().take(RUNS).copied(), false);
    }
    if ran.len() > RUNS {
        let filter = [
            ("namespace", labels.namespace.as_str()),
            ("pod", &labels.pod),
            ("container", &labels.container),
            ("limit", "1000"),
        ];
        html.raw("<p>").link_query("/runs", &filter, "All runs of it").raw("</p>\n");
    }
    if let Some(container) = &live {
        about(&mut html, &ContainerView::from(&**container));
    }
    Ok(frame(&words::name(&labels), Place::Nowhere, &html))
}

/// What was kept of runs in a container of this name; an earlier one of the same is worth a look, too.
fn kept(html: &mut Html, labels: &ContainerLabels, backend: &dyn Backend) {
    let ContainerLabels { namespace, pod, container } = labels;
    let filter = Filter {
        namespace: Some(namespace.clone()),
        pod: Some(pod.clone()),
        container: Some(container.clone()),
        ..Filter::default()
    };
    let Listing { captures: rows, next, .. } = backend.captures().list(&filter, CAPTURES, None);
    if rows.is_empty() {
        return;
    }
    html.raw("<h2>Captures</h2>\n");
    captures::table(html, &rows, false);
    if next.is_some() {
        let filter = [("namespace", namespace.as_str()), ("pod", pod), ("container", container)];
        html.raw("<p>").link_query("/captures", &filter, "All captures of it").raw("</p>\n");
    }
}

fn about(html: &mut Html, view: &ContainerView) {
    let (pid, pid_namespace, net_namespace) =
        (view.pid.to_string(), view.pid_namespace.to_string(), view.net_namespace.to_string());
    let shared = view.host_namespaces.join(", ");
    html.raw("<h2>About</h2>\n<div class=\"card\"><dl>");
    for (name, value) in [
        ("Image", view.image.as_str()),
        ("Id", &view.id),
        ("Runtime", view.runtime),
        ("Pod UID", &view.pod_uid),
        ("Up since", &view.up_at),
        ("PID on the host", &pid),
        ("PID namespace", &pid_namespace),
        ("Network namespace", &net_namespace),
        ("The host's own namespaces", &shared),
        ("Cgroup", &view.cgroup),
    ] {
        if !value.is_empty() {
            html.raw("<dt>").raw(name).raw("<dd>").text(value);
        }
    }
    if !view.described {
        html.raw("<dt>Metadata<dd class=\"warn\">its runtime has not described it");
    }
    if !view.pod_labels.is_empty() {
        html.raw("<dt>Labels<dd class=\"labels\">");
        for (name, value) in &view.pod_labels {
            html.raw("<span>").text(name).raw("=").text(value).raw("</span>");
        }
    }
    html.raw("</dl></div>\n");
}

/// The last result of each probe, the failed ones first.
fn latest(html: &mut Html, runs: &[LastRun]) {
    if runs.is_empty() {
        return;
    }
    let mut runs: Vec<&LastRun> = runs.iter().collect();
    runs.sort_by_key(|run| (run.outcome.is_ok(), run.probe.clone()));
    html.raw("<h2>Probes <small>the last result of each</small></h2>\n");
    html.raw("<div class=\"card\"><table class=\"rows\"><thead><tr><th>Probe<th>Outcome<th>When<th class=\"n\">Took");
    html.raw("<th>Way</tr></thead><tbody>\n");
    for run in runs {
        html.raw("<tr><td class=\"h\"><span>").text(run.probe.as_str()).raw("</span><td>");
        words::outcome(html, &run.outcome);
        html.raw("<td class=\"t\"><span>");
        words::moment(html, run.started_at);
        html.raw("</span><td class=\"n\" data-l=\"took\"><span>")
            .text(&words::took(run.duration))
            .raw("</span>");
        html.raw("<td data-l=\"as\">");
        if let Some(way) = run.way {
            html.raw("<span>").raw(way.as_str()).raw("</span>");
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}
