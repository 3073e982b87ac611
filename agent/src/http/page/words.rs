//! Small parts that several pages have: moments, durations, sizes, outcomes, containers' names.

use std::time::{Duration, SystemTime};

use super::html::Html;
use crate::http::view::rfc3339;
use crate::model::{ContainerLabels, Outcome};

/// How long ago, and the moment itself.
pub(super) fn moment(html: &mut Html, at: SystemTime) {
    let text = rfc3339(at);
    let ago = SystemTime::now().duration_since(at).unwrap_or_default();
    html.raw("<time datetime=\"").text(&text).raw("\" title=\"").text(&text).raw("\">").show(age(ago));
    // 2026-11-26T03:04:12.123Z: the date only where it is another day's.
    let shown = if ago < Duration::from_hours(20) { text.get(11..19) } else { text.get(5..16) };
    html.raw(" ago</time> <small>").text(&shown.unwrap_or_default().replace('T', " ")).raw("</small>");
}

/// Month, day and minute.
pub(super) fn minute(at: SystemTime) -> String {
    rfc3339(at).get(5..16).unwrap_or_default().replace('T', " ")
}

/// The largest unit alone, as kubectl has it.
pub(super) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A number of bytes, as a person says it.
pub(super) fn size(bytes: u64) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { bytesize::ByteSize(bytes).display().iec().to_string() }
}

/// How long something took.
pub(super) fn took(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else if duration < Duration::from_mins(2) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        age(duration)
    }
}

/// The outcome's word in its colour, and what is known besides.
pub(super) fn outcome(html: &mut Html, outcome: &Outcome) {
    let (word, whole) = (outcome.as_str(), outcome.to_string());
    html.raw("<span>");
    pill(html, word);
    if let Some(more) = whole.strip_prefix(word).and_then(|rest| rest.strip_prefix(": ")) {
        html.raw(" <small class=\"dim\">").text(more).raw("</small>");
    }
    html.raw("</span>");
}

/// A word of an outcome.
pub(super) fn pill(html: &mut Html, word: &str) {
    let class = match word {
        "ok" => "<span class=\"pill good\">",
        "refused" | "cancelled" | "target_gone" => "<span class=\"pill warn\">",
        "queued" | "running" => "<span class=\"pill dim\">",
        _ => "<span class=\"pill bad\">",
    };
    html.raw(class).text(word).raw("</span>");
}

/// A container's name with the way to its page.
pub(super) fn container(html: &mut Html, id: &str, labels: &ContainerLabels) {
    html.raw("<span>").link("/containers/", id, &name(labels)).raw("</span>");
}

/// `NAMESPACE/POD/CONTAINER`, or the name alone where there is no pod.
pub(super) fn name(labels: &ContainerLabels) -> String {
    let ContainerLabels { namespace, pod, container } = labels;
    let container = if container.is_empty() { "(sandbox)" } else { container.as_str() };
    if namespace.is_empty() && pod.is_empty() {
        container.to_owned()
    } else {
        format!("{namespace}/{pod}/{container}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (millis, text) in
            [(0, "0 ms"), (999, "999 ms"), (1_500, "1.5 s"), (119_000, "119.0 s"), (120_000, "2 min")]
        {
            assert_eq!(took(Duration::from_millis(millis)), text);
        }
        assert_eq!([0, 1023, 1536].map(size), ["0 B", "1023 B", "1.5 KiB"]);
        assert_eq!(
            (age(Duration::from_hours(3)), age(Duration::from_hours(72))),
            ("3 h".into(), "3 d".into())
        );
    }
}
