//! One capture: what came of the run first, then its output as a person can read it, and all of it to take away.

use std::io::Read as _;

use super::frame::{Place, frame};
use super::html::Html;
use super::{Wrong, readable, words};
use crate::captures::{Captures, Fault, Kind, Record};
use crate::config::parse::Table;
use crate::http::Backend;
use crate::model::{ContainerLabels, RunId, Stream};

/// So much of each stream is shown.
const SHOWN: u64 = 128 << 10;

/// The beginning of a stream, or why there is none.
type Head = Result<Vec<u8>, String>;

/// Reads the disk.
pub(super) fn page(id: &str, backend: &dyn Backend) -> Result<Html, Wrong> {
    let captures = backend.captures();
    let wrong = |fault| match fault {
        Fault::Missing => Wrong::Nothing(
            "There is no such capture. It may have been too old, or have made room for newer ones.",
        ),
        fault => Wrong::Broken(format!("The capture cannot be shown: {fault}")),
    };
    let id = RunId::parse(id).ok_or_else(|| wrong(Fault::Missing))?;
    let record = captures.record(&id).map_err(wrong)?;
    let heads = Stream::BOTH.map(|stream| head(&captures, &id, stream).map_err(|fault| fault.to_string()));
    Ok(shown(&record, heads, backend.table(&record.probe).as_ref()))
}

fn head(captures: &Captures, id: &RunId, stream: Stream) -> Result<Vec<u8>, Fault> {
    let (_, mut reader) = captures.read(id, stream, 0, Some(SHOWN))?;
    let mut head = Vec::new();
    reader.read_to_end(&mut head)?;
    Ok(head)
}

/// `table` is how the probe's parser takes rows and columns, if it is of that kind and still configured.
fn shown(record: &Record, heads: [Head; 2], table: Option<&Table>) -> Html {
    let place = &record.container;
    let labels = ContainerLabels {
        namespace: place.namespace.clone(),
        pod: place.pod.clone(),
        container: place.container.clone(),
    };
    let title = format!("{} in {}", record.probe, words::name(&labels));
    let mut html = Html::default();
    html.raw("<h1>").text(&record.probe).raw(" <small>in ");
    html.link("/containers/", &place.id, &words::name(&labels)).raw("</small></h1>\n");
    summary(&mut html, record);
    for (stream, head) in Stream::BOTH.into_iter().zip(heads) {
        self::stream(&mut html, record, stream, head, table);
    }
    about(&mut html, record);
    frame(&title, Place::Captures, &html)
}

fn summary(html: &mut Html, record: &Record) {
    html.raw("<div class=\"card\"><div class=\"hit\"><div>");
    words::outcome(html, &record.outcome);
    html.raw("<span>");
    match humantime::parse_rfc3339(&record.started_at) {
        Ok(at) => words::moment(html, at),
        Err(_) => _ = html.text(&record.started_at),
    }
    html.raw("</span><span class=\"dim\">took ");
    let took = std::time::Duration::try_from_secs_f64(record.duration_seconds).unwrap_or_default();
    html.text(&words::took(took)).raw("</span></div><div>");
    match &record.alert {
        Some(alert) => {
            html.raw("<span>because of alert <b>")
                .text(alert.name())
                .raw("</b></span><small class=\"dim\">trigger ");
            html.text(&record.trigger).raw(", fingerprint ").text(&alert.fingerprint).raw("</small></div>");
            html.raw("<details><summary>Labels of the alert</summary><div class=\"labels\">");
            for (name, value) in &alert.labels {
                html.raw("<span>").text(name).raw("=").text(value).raw("</span>");
            }
            html.raw("</div></details>");
        }
        None => _ = html.raw("<span>asked for by trigger ").text(&record.trigger).raw("</span></div>"),
    }
    html.raw("</div></div>\n");
}

fn stream(html: &mut Html, record: &Record, stream: Stream, head: Head, table: Option<&Table>) {
    let part = record.part(stream);
    let name = match stream {
        Stream::Stdout => "Output",
        Stream::Stderr => "Errors",
    };
    html.raw("<h2>").raw(name).raw(" <small>").raw(stream.as_str()).raw(", ").text(&words::size(part.bytes));
    html.raw(if part.truncated {
        ", cut at the probe's max_output</small></h2>\n"
    } else {
        "</small></h2>\n"
    });
    if part.bytes == 0 {
        html.raw("<p class=\"card pad dim\">Nothing.</p>\n");
        return;
    }
    let head = match head {
        Ok(head) => head,
        Err(reason) => {
            html.raw("<p class=\"status bad\"><b>Not readable</b> <span>").text(&reason).raw("</span></p>\n");
            return;
        }
    };
    let whole = head.len() as u64 == part.bytes;
    html.raw("<div class=\"card\">");
    match part.kind {
        Kind::Text => {
            let mut rows = Html::default();
            let spec = table.filter(|_| stream == Stream::Stdout);
            if spec.is_some_and(|spec| readable::table(&mut rows, spec, &head, whole)) {
                html.part(&rows).raw("<details class=\"pad\"><summary>As text</summary>");
                readable::text(html, &head, whole);
                html.raw("</details>");
            } else {
                readable::text(html, &head, whole);
            }
        }
        Kind::Pcap | Kind::Pcapng | Kind::Binary => {
            let told = match part.kind {
                Kind::Binary => "Bytes that are no text".to_owned(),
                _ => readable::packets(&head)
                    .map_or("Packets (pcapng)".to_owned(), |told| format!("Packets (pcap): {told}")),
            };
            html.raw("<p class=\"pad\">").text(&told).raw(". Its first bytes:</p>");
            readable::dump(html, &head);
            html.raw("<details class=\"pad\"><summary>As text</summary>");
            readable::text(html, &head[..head.len().min(16 << 10)], false);
            html.raw("</details>");
        }
    }
    html.raw("</div>\n");
    if !whole && part.kind == Kind::Text {
        html.raw("<p class=\"dim\">These are the first ").text(&words::size(head.len() as u64)).raw(" of ");
        html.text(&words::size(part.bytes)).raw(".</p>\n");
    }
    html.raw("<p class=\"actions\"><a class=\"button\" href=\"/api/v1/captures/")
        .encoded(record.id.as_str())
        .raw("/");
    html.raw(stream.as_str()).raw("\" download=\"").text(&record.file_name(stream)).raw("\">Download ");
    html.raw(stream.as_str()).raw(", ").text(&words::size(part.bytes)).raw("</a></p>\n");
}

fn about(html: &mut Html, record: &Record) {
    let place = &record.container;
    let argv = serde_json::to_string(&record.command).unwrap_or_default();
    let exit = record.exit_status.map(|status| status.to_string()).unwrap_or_default();
    let way = record.way.map_or("", crate::model::Way::as_str);
    let disk = words::size(record.stdout.compressed_bytes + record.stderr.compressed_bytes);
    html.raw("<h2>About</h2>\n<div class=\"card\"><dl>");
    for (name, value) in [
        ("Capture", record.id.as_str()),
        ("Started", &record.started_at),
        ("Command", &argv),
        ("Exit status", &exit),
        ("Isolation", &record.isolation),
        ("Way", way),
        ("Node", &record.node),
        ("Container", &place.id),
        ("Image", &place.image),
        ("Pod UID", &place.pod_uid),
        ("Runtime", &place.runtime),
        ("SHA-256 of stdout", &record.stdout.sha256),
        ("SHA-256 of stderr", &record.stderr.sha256),
        ("Compressed", &disk),
    ] {
        if !value.is_empty() {
            html.raw("<dt>").raw(name).raw("<dd>").text(value);
        }
    }
    if !place.labels.is_empty() {
        html.raw("<dt>Labels<dd class=\"labels\">");
        for (name, value) in &place.labels {
            html.raw("<span>").text(name).raw("=").text(value).raw("</span>");
        }
    }
    html.raw("</dl></div>\n<p><a href=\"/api/v1/captures/")
        .encoded(record.id.as_str())
        .raw("\">The record as JSON</a></p>\n");
}
