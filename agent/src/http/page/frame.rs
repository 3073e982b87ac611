//! What all pages share: the head with its one style sheet, the way to the other pages, and what stands below.

use super::html::Html;

pub(super) const STYLE: &str = include_str!("style.css");

/// Which of the pages this is, so that the way to it is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Runs,
    Alerts,
    Captures,
    Nowhere,
}

const PAGES: [(Place, &str, &str); 4] = [
    (Place::Overview, "/", "Overview"),
    (Place::Alerts, "/alerts", "Alerts"),
    (Place::Captures, "/captures", "Captures"),
    (Place::Runs, "/runs", "Runs"),
];

pub(super) fn frame(title: &str, place: Place, body: &Html) -> Html {
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>")
        .text(title)
        .raw(" · parachute</title><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>")
        .raw(STYLE)
        .raw("</style></head><body>\n<header><div class=\"bar\"><a class=\"brand\" href=\"/\">parachute</a><nav>");
    for (of, path, name) in PAGES {
        html.raw("<a href=\"").raw(path).raw(if of == place { "\" aria-current=\"page\">" } else { "\">" });
        html.raw(name).raw("</a>");
    }
    html.raw("</nav></div></header>\n<main>\n")
        .part(body)
        .raw("</main>\n<footer><span>parachute ")
        .raw(env!("CARGO_PKG_VERSION"))
        .raw(
            "</span><a href=\"/metrics\">Metrics</a><a href=\"/api/v1/containers\">Containers (JSON)</a>\
             <a href=\"/api/v1/runs\">Runs (JSON)</a><a href=\"/-/healthy\">Health</a><a href=\"/-/ready\">Readiness</a>\
             <span>All times are UTC.</span></footer></body></html>\n",
        );
    html
}
