//! What was kept of runs: a list with filters, page by page.

use std::time::SystemTime;

use super::frame::{Place, frame};
use super::html::Html;
use super::{Wrong, words};
use crate::captures::{Filter, Listing, Summary};
use crate::http::query::Query;
use crate::http::{Backend, captures};
use crate::model::ContainerLabels;

/// Captures on one page.
const SHOWN: usize = 50;
/// The form's fields; the last two are moments.
const FIELDS: [(&str, &str); 8] = [
    ("namespace", "Namespace"),
    ("pod", "Pod"),
    ("container", "Container"),
    ("probe", "Probe"),
    ("trigger", "Trigger"),
    ("alert", "Alert"),
    ("since", "Since"),
    ("until", "Until"),
];

pub(super) fn page(query: &Query, backend: &dyn Backend) -> Result<Html, Wrong> {
    let (filter, _, before) = captures::read(query, SystemTime::now()).map_err(Wrong::Query)?;
    let mut html = Html::default();
    html.raw("<h1>Captures <small>output that was kept</small></h1>\n");
    quick(&mut html, query);
    filters(&mut html, query);
    let Listing { captures: rows, next, complete } = backend.captures().list(&filter, SHOWN, before.as_ref());
    if !complete {
        html.raw("<p class=\"status warn\"><b>Not all</b> <span>the folder of captures is still being read, or cannot be</span></p>\n");
    }
    if rows.is_empty() {
        let is_filtered = before.is_some() || filter != Filter::default();
        html.raw("<p class=\"card pad dim\">");
        html.raw(if is_filtered { "No capture fits." } else { "Nothing has been kept yet." }).raw("</p>\n");
    } else {
        table(&mut html, &rows, true);
    }
    if let Some(next) = next {
        let mut pairs: Vec<(&'static str, &str)> = FIELDS
            .iter()
            .map(|(name, _)| *name)
            .chain(["outcome"])
            .filter_map(|name| query.get(name).map(|value| (name, value)))
            .collect();
        pairs.push(("before", next.as_str()));
        html.raw("<p class=\"pages\"><span></span>").link_query("/captures", &pairs, "Older").raw("</p>\n");
    }
    Ok(frame("Captures", Place::Captures, &html))
}

fn quick(html: &mut Html, query: &Query) {
    html.raw("<p class=\"quick\">");
    for (word, name) in [("", "All"), ("failed", "Of failed runs"), ("ok", "Of runs that ended well")] {
        let is_here = query.get("outcome").unwrap_or_default() == word;
        html.raw(if is_here { "<a class=\"here\" href=\"/captures" } else { "<a href=\"/captures" });
        html.raw(if word.is_empty() { "" } else { "?outcome=" }).raw(word).raw("\">").raw(name).raw("</a>");
    }
    html.raw("</p>\n");
}

fn filters(html: &mut Html, query: &Query) {
    let is_used = FIELDS.iter().any(|(name, _)| query.get(name).is_some());
    html.raw(if is_used { "<details open>" } else { "<details>" });
    html.raw("<summary>Filter</summary><form method=\"get\" action=\"/captures\">");
    for (name, title) in FIELDS {
        html.raw("<label>").raw(title).raw("<input name=\"").raw(name).raw("\" value=\"");
        html.text(query.get(name).unwrap_or_default()).raw("\"></label>");
    }
    html.raw("<label>Outcome<select name=\"outcome\"><option value=\"\">any</option>");
    for word in Filter::outcomes() {
        let chosen = query.get("outcome") == Some(word);
        html.raw("<option").raw(if chosen { " selected>" } else { ">" }).raw(word).raw("</option>");
    }
    html.raw("</select></label><button>Filter</button></form></details>\n");
}

/// Rows of captures; with the container's name where they are of several.
pub(super) fn table(html: &mut Html, rows: &[Summary], with_container: bool) {
    html.raw("<div class=\"card\"><table class=\"rows\"><thead><tr><th>When<th>Outcome<th>Probe");
    html.raw(if with_container { "<th>Container" } else { "" });
    html.raw("<th>Asked for by<th class=\"n\">Output<th class=\"n\">Errors<th></tr></thead><tbody>\n");
    for row in rows {
        html.raw("<tr><td class=\"t\"><span>");
        match humantime::parse_rfc3339(&row.started_at) {
            Ok(at) => words::moment(html, at),
            Err(_) => _ = html.text(&row.started_at),
        }
        html.raw("</span><td>");
        words::pill(html, row.outcome);
        html.raw("<td class=\"h\"><span>").text(&row.probe).raw("</span>");
        if with_container {
            let [namespace, pod, container] =
                [&row.namespace, &row.pod, &row.container].map(ToString::to_string);
            html.raw("<td class=\"w\"><span>")
                .text(&words::name(&ContainerLabels { namespace, pod, container }))
                .raw("</span>");
        }
        html.raw("<td data-l=\"by\"><span>");
        match &row.alert {
            Some(alert) => html.raw("alert ").text(alert).raw(" <small>").text(&row.trigger).raw("</small>"),
            None => html.text(&row.trigger),
        };
        html.raw("</span><td class=\"n\" data-l=\"output\"><span>").text(&words::size(row.stdout_bytes));
        html.raw("</span><td class=\"n\" data-l=\"errors\"><span>").text(&words::size(row.stderr_bytes));
        html.raw("</span><td class=\"t\"><span>")
            .link("/captures/", row.id.as_str(), "open")
            .raw("</span></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}
