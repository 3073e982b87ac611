//! The agent's log for somebody who watches: starts, ends and runs as short lines, troubles as they are, the rest
//! not at all.

/// One line of the agent's logfmt (at `--log.level debug`) as the demo shows it; `None` for what it leaves out.
pub(super) fn tell(line: &str, colours: bool) -> Option<String> {
    let fields = fields(line);
    let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value);
    let container = match (field("namespace"), field("pod"), field("container")) {
        ("", "", container) => container.to_owned(),
        (namespace, pod, "") => format!("{namespace}/{pod}"),
        (namespace, pod, container) => format!("{namespace}/{pod}/{container}"),
    };
    let id: String = field("id").chars().take(12).collect();
    let paint = |text: String, code: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text };
    Some(match field("message") {
        "container up" if field("sandbox") == "true" => {
            paint(format!("  up    {container:18}  {id}  pid {}, the pod's sandbox", field("pid")), DIM)
        }
        "container up" => {
            format!("{}{container:18}  {id}  pid {}", paint("  up    ".into(), GREEN), field("pid"))
        }
        "container down" => format!("{}{container:18}  {id}", paint("  down  ".into(), DIM)),
        "run ok" => {
            let took = rounded(field("duration"));
            let (probe, series) = (field("probe"), field("series"));
            format!(
                "{}{container:18}  {probe:15}  {series:>3} series  {took}",
                paint("  run   ".into(), CYAN)
            )
        }
        // What is not logfmt is not the agent's log, but a panic or the dynamic linker: it is shown too.
        _ if matches!(field("level"), "warn" | "error" | "") => format!("  {line}"),
        _ => return None,
    })
}

/// Codes of ECMA-48's SGR.
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// The pairs of a logfmt line: `key=value` or `key="value"` with backslashes before quotes, separated by blanks.
fn fields(line: &str) -> Vec<(&str, String)> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => after.split_once(' ').map_or((after.to_owned(), ""), |(v, left)| (v.to_owned(), left)),
        };
        fields.push((key, value));
        rest = left.trim_start();
    }
    fields
}

/// The text up to the closing quote, and what comes after it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if !escaped => return (value, &text[at + 1..]),
            '\\' if !escaped => escaped = true,
            letter => {
                escaped = false;
                value.push(letter);
            }
        }
    }
    (value, "")
}

/// `3.141592ms` as `3.1 ms`.
fn rounded(duration: &str) -> String {
    let unit = duration.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(duration.len());
    let (number, unit) = duration.split_at(unit);
    number.parse::<f64>().map_or_else(|_| duration.to_owned(), |number| format!("{number:.1} {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_becomes_a_story() {
        let cases = [
            (
                r#"ts=2026-11-23T21:00:00Z level=info target=parachute::containers message="container up" namespace=shop pod=cart-0 container=cart sandbox=false id=6b6320f62059aaaa pid=9344"#,
                Some("  up    shop/cart-0/cart    6b6320f62059  pid 9344"),
            ),
            (
                r#"level=info message="container up" namespace=shop pod=cart-0 container="" sandbox=true id=6b6320f62059aaaa pid=9"#,
                Some("  up    shop/cart-0         6b6320f62059  pid 9, the pod's sandbox"),
            ),
            (
                r#"level=debug message="run ok" probe=sockets trigger=at-start namespace=shop pod=cart-0 container=cart duration=3.141592ms series=4"#,
                Some("  run   shop/cart-0/cart    sockets            4 series  3.1 ms"),
            ),
            (
                r#"level=info message="container down" namespace="" pod="" container=6b6320f62059 id=6b6320f62059aaaa"#,
                Some("  down  6b6320f62059        6b6320f62059"),
            ),
            (
                r#"level=warn message="run \"x\" failed" outcome=timeout"#,
                Some(r#"  level=warn message="run \"x\" failed" outcome=timeout"#),
            ),
            ("thread 'main' panicked", Some("  thread 'main' panicked")),
            (r#"level=debug message=listed containers=2"#, None),
            (r#"level=info message="parachute agent started""#, None),
        ];
        for (line, told) in cases {
            assert_eq!(tell(line, false).as_deref(), told, "{line}");
        }
        assert_eq!(fields(r#"a="x \"y\" \\" b=1"#), [("a", r#"x "y" \"#.to_owned()), ("b", "1".to_owned())]);
    }
}
