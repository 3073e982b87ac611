//! What ran, and what did not: the history with filters.

use super::frame::{Place, frame};
use super::html::Html;
use super::{Wrong, words};
use crate::http::Backend;
use crate::http::query::Query;
use crate::http::runs::Wanted;
use crate::probes::Record;

/// The names of the form's fields; outcome and limit have their own kind of field.
const FIELDS: [(&str, &str); 6] = [
    ("namespace", "Namespace"),
    ("pod", "Pod"),
    ("container", "Container"),
    ("probe", "Probe"),
    ("trigger", "Trigger"),
    ("alert", "Alert"),
];

pub(super) fn page(query: &Query, backend: &dyn Backend) -> Result<Html, Wrong> {
    let wanted = Wanted::read(query).map_err(Wrong::Query)?;
    let (runs, more) = wanted.of(backend.history());
    let mut html = Html::default();
    html.raw("<h1>Runs <small>what ran, and what was asked for and did not; failures are kept longer</small></h1>\n");
    quick(&mut html, query);
    filters(&mut html, query);
    if runs.is_empty() {
        html.raw("<p class=\"card pad dim\">No run fits.</p>");
    } else {
        table(&mut html, runs.iter().map(|run| &**run), true);
    }
    if more > 0 {
        html.raw("<p class=\"dim\">").show(more).raw(" older ones fit, too; name more above, or ask ");
        html.raw("<a href=\"/api/v1/runs?limit=10000\">for all as JSON</a>.</p>");
    }
    Ok(frame("Runs", Place::Runs, &html))
}

/// The filters that are asked for most, a touch away.
fn quick(html: &mut Html, query: &Query) {
    html.raw("<p class=\"quick\">");
    for (word, name) in
        [("", "All"), ("failed", "Failed"), ("refused", "Refused"), ("timeout", "Timed out"), ("ok", "OK")]
    {
        let is_here = query.get("outcome").unwrap_or_default() == word;
        html.raw(if is_here { "<a class=\"here\" href=\"/runs" } else { "<a href=\"/runs" });
        html.raw(if word.is_empty() { "" } else { "?outcome=" }).raw(word).raw("\">").raw(name).raw("</a>");
    }
    html.raw("</p>\n");
}

fn filters(html: &mut Html, query: &Query) {
    let is_used = FIELDS.iter().any(|(name, _)| query.get(name).is_some());
    html.raw(if is_used { "<details open>" } else { "<details>" });
    html.raw("<summary>Filter</summary><form method=\"get\" action=\"/runs\">");
    for (name, title) in FIELDS {
        html.raw("<label>").raw(title).raw("<input name=\"").raw(name).raw("\" value=\"");
        html.text(query.get(name).unwrap_or_default()).raw("\"></label>");
    }
    html.raw("<label>Outcome<select name=\"outcome\"><option value=\"\">any</option>");
    for word in Wanted::outcomes() {
        let chosen = query.get("outcome") == Some(word);
        html.raw("<option").raw(if chosen { " selected>" } else { ">" }).raw(word).raw("</option>");
    }
    html.raw("</select></label><button>Filter</button></form></details>\n");
}

/// Rows of runs; with the container's name where they are of several.
pub(super) fn table<'r>(html: &mut Html, runs: impl Iterator<Item = &'r Record>, with_container: bool) {
    html.raw("<div class=\"card\"><table class=\"rows\"><thead><tr><th>When<th>Outcome<th>Probe");
    html.raw(if with_container { "<th>Container" } else { "" });
    html.raw("<th>Asked for by<th class=\"n\">Took<th>Output</tr></thead><tbody>\n");
    for run in runs {
        html.raw("<tr><td class=\"t\"><span>");
        words::moment(html, run.at);
        html.raw("</span><td><span>");
        words::outcome(html, &run.outcome);
        if run.times > 1 {
            html.raw("<br><small>").show(run.times).raw(" times in a row since ");
            html.text(&words::minute(run.since)).raw("</small>");
        }
        html.raw("</span><td class=\"h\"><span>").text(run.probe.as_str()).raw("</span>");
        if with_container {
            html.raw("<td class=\"w\">");
            words::container(html, run.container.as_str(), &run.labels);
        }
        html.raw("<td data-l=\"by\"><span>");
        match &run.alert {
            Some(alert) => {
                html.raw("alert ").text(alert).raw(" <small>").text(run.trigger.as_str()).raw("</small>")
            }
            None => html.text(run.trigger.as_str()),
        };
        html.raw("</span><td class=\"n\" data-l=\"took\">");
        if run.refused.is_none() {
            html.raw("<span>").text(&words::took(run.duration));
            if let Some(way) = run.way {
                html.raw(" <small>").raw(way.as_str()).raw("</small>");
            }
            html.raw("</span>");
        }
        html.raw("<td class=\"t\">");
        if run.captured {
            html.raw("<span>").link("/captures/", run.id.as_str(), "capture").raw("</span>");
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}
