//! What came of the alerts: which ran what, and why the others ran nothing.

use super::frame::{Place, frame};
use super::html::Html;
use super::{Wrong, words};
use crate::captures::Captures;
use crate::http::Backend;
use crate::http::query::Query;
use crate::triggers::alerts::{DecidedRun, Decision, Status};

/// Alerts on one page; more is a filter away.
const SHOWN: usize = 100;
/// More than are remembered.
const ALL: usize = 10_000;
/// Runs of one alert that are shown before the rest is folded away.
const RUNS: usize = 10;

pub(super) fn page(query: &Query, backend: &dyn Backend) -> Result<Html, Wrong> {
    query.only(&["alertname", "result", "limit"]).map_err(Wrong::Query)?;
    let limit = query.number("limit", SHOWN, ALL).map_err(Wrong::Query)?;
    let (name, result) = (query.get("alertname"), query.get("result"));
    let fits = |alert: &Decision| {
        name.is_none_or(|name| name == alert.alertname)
            && match result {
                Some("ran") => alert.run_count > 0,
                Some("nothing") => alert.run_count == 0,
                Some(word) => word == alert.result,
                None => true,
            }
    };
    let mut alerts = backend.alerts().log(ALL);
    alerts.retain(fits);
    let more = alerts.len().saturating_sub(limit);
    alerts.truncate(limit);

    let mut html = Html::default();
    html.raw(
        "<h1>Alerts <small>what came, what it ran, and why it ran nothing</small></h1>\n<p class=\"quick\">",
    );
    for (word, title) in [("", "All"), ("ran", "Ran something"), ("nothing", "Ran nothing")] {
        let is_here = result.unwrap_or_default() == word;
        html.raw(if is_here { "<a class=\"here\" href=\"/alerts" } else { "<a href=\"/alerts" });
        html.raw(if word.is_empty() { "" } else { "?result=" }).raw(word).raw("\">").raw(title).raw("</a>");
    }
    html.raw("</p>\n");
    dropped(&mut html, &backend.alerts().dropped());
    if alerts.is_empty() {
        html.raw("<p class=\"card pad dim\">").raw(if result.is_some() || name.is_some() {
            "No alert fits."
        } else {
            "No alert has come since the agent started."
        });
        html.raw("</p>\n");
    } else {
        list(&mut html, &alerts, backend);
    }
    if more > 0 {
        html.raw("<p class=\"dim\">and ")
            .show(more)
            .raw(" older ones: <a href=\"/alerts?limit=10000\">all</a></p>\n");
    }
    Ok(frame("Alerts", Place::Alerts, &html))
}

/// How many ran nothing, or not all, by reason, since the agent's start.
fn dropped(html: &mut Html, dropped: &[(&'static str, u64)]) {
    let mut dropped: Vec<_> = dropped.iter().filter(|(_, times)| *times > 0).collect();
    if dropped.is_empty() {
        return;
    }
    dropped.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    html.raw(
        "<p class=\"labels\"><small class=\"dim\">Ran nothing, or not all, since the agent started:</small> ",
    );
    for (reason, times) in dropped {
        html.raw("<span>").raw(reason).raw(" ").show(times).raw("</span>");
    }
    html.raw("</p>\n");
}

pub(super) fn list(html: &mut Html, alerts: &[Decision], backend: &dyn Backend) {
    let captures = backend.captures();
    html.raw("<div class=\"card\">\n");
    for alert in alerts {
        one(html, alert, &captures);
    }
    html.raw("</div>\n");
}

fn one(html: &mut Html, alert: &Decision, captures: &Captures) {
    html.raw("<div class=\"hit\"><div>");
    html.raw(match alert.status {
        Status::Firing => "<span class=\"pill bad\">firing</span>",
        Status::Resolved => "<span class=\"pill good\">resolved</span>",
    });
    let name = if alert.alertname.is_empty() { "(no alertname)" } else { alert.alertname.as_str() };
    html.raw(" <b>").text(name).raw("</b> <span>");
    words::moment(html, alert.last_at);
    html.raw("</span>");
    if alert.deliveries > 1 {
        html.raw("<small class=\"dim\">delivered ").show(alert.deliveries).raw(" times, first ");
        html.text(&words::minute(alert.at)).raw("</small>");
    }
    html.raw("</div><div>");
    if alert.run_count > 0 {
        if alert.result != "queued" {
            html.raw("<span class=\"pill dim\">").raw(alert.result).raw("</span>");
        }
        html.raw("<span>").show(alert.run_count);
        html.raw(if alert.run_count == 1 { " run</span>" } else { " runs</span>" });
    } else {
        // Of what is passed on the containers may well be elsewhere.
        let (pill, nothing) = match alert.result {
            "passed_on" => ("<span class=\"pill dim\">", "</span><span>ran nothing here</span>"),
            _ => ("<span class=\"pill warn\">", "</span><span>ran nothing</span>"),
        };
        html.raw(pill).raw(alert.result).raw(nothing);
    }
    html.raw("</div>");
    if let Some(passed_on) = &alert.passed_on {
        html.raw("<ul><li>").text(passed_on).raw("</ul>");
    }
    if !alert.reasons.is_empty() {
        html.raw("<ul>");
        for reason in &alert.reasons {
            html.raw("<li>").text(reason);
        }
        html.raw("</ul>");
    }
    runs(html, alert, captures);
    html.raw("<details><summary>Labels</summary><div class=\"labels\">");
    for (name, value) in &alert.labels {
        html.raw("<span>").text(name).raw("=").text(value).raw("</span>");
    }
    html.raw("</div><small class=\"dim\">fingerprint ")
        .text(&alert.fingerprint)
        .raw(", began ")
        .text(&alert.starts_at);
    html.raw(", delivered by ")
        .text(&alert.who)
        .raw(" as ")
        .text(&alert.receiver)
        .raw("</small></details></div>\n");
}

fn runs(html: &mut Html, alert: &Decision, captures: &Captures) {
    let (first, rest) = alert.runs.split_at(alert.runs.len().min(RUNS));
    if first.is_empty() {
        return;
    }
    lines(html, first, captures);
    if !rest.is_empty() {
        html.raw("<details><summary>").show(alert.run_count - first.len()).raw(" more runs</summary>");
        lines(html, rest, captures);
        html.raw("</details>");
    }
}

fn lines(html: &mut Html, runs: &[DecidedRun], captures: &Captures) {
    html.raw("<ul>");
    for run in runs {
        html.raw("<li><b>").text(&run.probe).raw("</b> in ").text(&words::name(&run.container)).raw(" ");
        let (word, more) = run.state.split_once(": ").unwrap_or((&run.state, ""));
        words::pill(html, word);
        html.raw(" <small class=\"dim\">").text(more).raw("</small>");
        if captures.contains(&run.id) {
            html.raw(" ").link("/captures/", run.id.as_str(), "capture");
        }
    }
    html.raw("</ul>");
}
