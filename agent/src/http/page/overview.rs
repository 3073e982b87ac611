//! The first page: is the agent fine, what fails now, what runs here. The worst stands first.

use std::collections::HashMap;
use std::sync::Arc;

use super::frame::{Place, frame};
use super::html::Html;
use super::{alerts, captures, runs, words};
use crate::captures::Filter;
use crate::config::node_name;
use crate::http::Backend;
use crate::http::view::ContainerView;
use crate::metrics::samples::LastRun;
use crate::model::{ContainerId, ContainerLabels};
use crate::probes::{Quarantined, Record};

/// Rows of each list; the rest is on a page of its own.
const ROWS: usize = 10;
/// Alerts, and captures.
const NEWEST: usize = 5;
/// Rows of containers; the rest is in the JSON list.
const CONTAINERS: usize = 200;

pub(super) fn page(backend: &dyn Backend) -> Html {
    let mut containers: Vec<ContainerView> =
        backend.containers().iter().map(|one| ContainerView::from(&**one)).collect();
    containers.sort_by(|a, b| (&a.labels, &a.id).cmp(&(&b.labels, &b.id)));
    let last = backend.last_runs(usize::MAX);
    let failing: Vec<&LastRun> = last.iter().filter(|run| !run.outcome.is_ok()).collect();
    let quarantined = backend.quarantined();
    let history = backend.history();
    let refused: Vec<&Arc<Record>> = history.iter().filter(|run| run.refused.is_some()).collect();

    let mut html = Html::default();
    status(&mut html, backend.not_ready().as_deref(), failing.len());
    let pods = containers.iter().filter(|one| !one.sandbox).count();
    html.raw("<div class=\"tiles\">");
    tile(&mut html, "#failing", "failing now", failing.len(), "bad");
    tile(&mut html, "#quarantined", "in quarantine", quarantined.len(), "warn");
    tile(&mut html, "/runs?outcome=refused", "refused lately", refused.len(), "warn");
    tile(&mut html, "#containers", "containers", pods, "");
    html.raw("</div>\n");

    recent_alerts(&mut html, backend);
    self::failing(&mut html, &failing);
    self::quarantined(&mut html, &quarantined, &containers);
    recent_captures(&mut html, backend);
    recent(&mut html, &history);
    self::containers(&mut html, &containers, &last);
    frame("Overview", Place::Overview, &html)
}

fn status(html: &mut Html, not_ready: Option<&str>, failing: usize) {
    match (not_ready, failing) {
        (Some(reason), _) => {
            html.raw("<p class=\"status bad\"><b>Not ready</b> <span>").text(reason).raw("</span>");
        }
        (None, 0) => {
            html.raw("<p class=\"status good\"><b>Ready</b> <span>no probe fails</span>");
        }
        (None, _) => {
            html.raw("<p class=\"status warn\"><b>Ready</b> <span>but some probes fail</span>");
        }
    }
    html.raw(" <span class=\"end\">on ").text(&node_name()).raw("</span></p>\n");
}

/// A number that leads somewhere; it has a colour only if it is not 0.
fn tile(html: &mut Html, href: &'static str, name: &'static str, number: usize, class: &'static str) {
    html.raw("<a class=\"tile ")
        .raw(if number > 0 { class } else { "" })
        .raw("\" href=\"")
        .raw(href)
        .raw("\"><b>");
    html.show(number).raw("</b>").raw(name).raw("</a>");
}

/// What came last, and what it brought.
fn recent_alerts(html: &mut Html, backend: &dyn Backend) {
    let last = backend.alerts().log(NEWEST);
    if !last.is_empty() {
        html.raw("<h2>Alerts <small><a href=\"/alerts\">all</a></small></h2>\n");
        alerts::list(html, &last, backend);
    }
}

fn failing(html: &mut Html, failing: &[&LastRun]) {
    if failing.is_empty() {
        return;
    }
    html.raw("<h2 id=\"failing\">Failing now <small>the last run of a probe in a container that did not end well</small></h2>\n");
    html.raw("<div class=\"card\"><table class=\"rows\"><thead><tr><th>Probe<th>Container<th>Outcome<th>When</tr></thead><tbody>\n");
    for run in failing.iter().take(ROWS) {
        html.raw("<tr><td class=\"h\"><span>").text(run.probe.as_str()).raw("</span><td class=\"w\">");
        words::container(html, run.container.as_str(), &run.labels);
        html.raw("<td>");
        words::outcome(html, &run.outcome);
        html.raw("<td class=\"t\"><span>");
        words::moment(html, run.started_at);
        html.raw("</span></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
    if failing.len() > ROWS {
        html.raw("<p class=\"dim\">and ").show(failing.len() - ROWS).raw(" more: ");
        html.raw("<a href=\"/runs?outcome=failed\">all failures</a></p>\n");
    }
}

fn quarantined(html: &mut Html, quarantined: &[Quarantined], containers: &[ContainerView]) {
    if quarantined.is_empty() {
        return;
    }
    html.raw(
        "<h2 id=\"quarantined\">In quarantine <small>limits reached three times in a row</small></h2>\n",
    );
    html.raw("<div class=\"card\"><table class=\"rows\"><thead><tr><th>Probe<th>Container<th>For another</tr></thead><tbody>\n");
    for Quarantined { probe, container, left } in quarantined.iter().take(ROWS) {
        let known = containers.iter().find(|one| one.id == container.as_str());
        let short = || ContainerLabels {
            container: container.as_str().chars().take(12).collect(),
            ..ContainerLabels::default()
        };
        html.raw("<tr><td class=\"h\"><span>").text(probe.as_str()).raw("</span><td class=\"w\">");
        words::container(html, container.as_str(), &known.map_or_else(short, |one| one.labels.clone()));
        html.raw("<td data-l=\"for another\"><span>").text(&words::age(*left)).raw("</span></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
    if quarantined.len() > ROWS {
        html.raw("<p class=\"dim\">and ").show(quarantined.len() - ROWS).raw(" more</p>\n");
    }
}

/// What was kept last.
fn recent_captures(html: &mut Html, backend: &dyn Backend) {
    let last = backend.captures().list(&Filter::default(), NEWEST, None).captures;
    if !last.is_empty() {
        html.raw("<h2>Captures <small><a href=\"/captures\">all</a></small></h2>\n");
        captures::table(html, &last, true);
    }
}

fn recent(html: &mut Html, history: &[Arc<Record>]) {
    html.raw("<h2>Last runs <small><a href=\"/runs\">all</a> · <a href=\"/runs?outcome=failed\">failed</a></small></h2>\n");
    if history.is_empty() {
        html.raw("<p class=\"card pad dim\">No probe has run yet.</p>\n");
    } else {
        runs::table(html, history.iter().take(ROWS).map(|run| &**run), true);
    }
}

fn containers(html: &mut Html, containers: &[ContainerView], last: &[LastRun]) {
    let mut results: HashMap<&str, (usize, usize)> = HashMap::new();
    for run in last {
        let (good, bad) = results.entry(ContainerId::as_str(&run.container)).or_default();
        *(if run.outcome.is_ok() { good } else { bad }) += 1;
    }
    html.raw("<h2 id=\"containers\">Containers <small>")
        .show(containers.len())
        .raw(", sandboxes included</small></h2>\n");
    if containers.is_empty() {
        html.raw("<p class=\"card pad dim\">No container runs here.</p>\n");
        return;
    }
    html.raw("<div class=\"card\"><table class=\"rows\"><thead><tr><th>Container<th>Image<th>Runtime<th>Id<th>Probes</tr></thead><tbody>\n");
    for one in containers.iter().take(CONTAINERS) {
        html.raw("<tr><td class=\"w\">");
        words::container(html, &one.id, &one.labels);
        html.raw("<td class=\"w dim\">");
        if !one.image.is_empty() {
            html.raw("<span>").text(&one.image).raw("</span>");
        }
        html.raw("<td class=\"dim\"><span>")
            .raw(one.runtime)
            .raw("</span><td class=\"dim\"><span class=\"mono\">");
        html.text(&one.id.chars().take(12).collect::<String>()).raw("</span><td class=\"t\">");
        let (good, bad) = results.get(one.id.as_str()).copied().unwrap_or_default();
        if bad > 0 {
            html.raw("<span class=\"bad\">").show(bad).raw(" failing</span> ");
        }
        if good > 0 {
            html.raw("<span class=\"good\">").show(good).raw(" ok</span>");
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
    if containers.len() > CONTAINERS {
        html.raw("<p class=\"dim\">and ").show(containers.len() - CONTAINERS);
        html.raw(" more in the <a href=\"/api/v1/containers\">JSON list</a></p>\n");
    }
}
