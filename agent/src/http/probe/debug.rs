//! `debug=true`: every step of one scrape's run, for a person. What comes from inside the container is shown with its control
//! characters made visible, so that a terminal can print the page as it is.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{ProbeAnswer, ProbeAsk, exposed};
use crate::config::parse::Parse;
use crate::config::{Isolation, Probe};
use crate::http::visible::{visible, visible_bytes};
use crate::model::{Container, End, Outcome, Rejected, Rejects, RunResult, Way};
use crate::triggers::Target;

/// So much of what the command said is shown.
const MAX_STDERR: usize = 4 << 10;

/// A text of lines `name: value` under headings.
struct Page(String);

impl Page {
    fn heading(&mut self, heading: &str) {
        let _ = writeln!(self.0, "\n== {heading}");
    }

    /// Writing to a String cannot fail, here and below. A text within `value` is quoted or was made visible.
    fn say(&mut self, name: &str, value: impl fmt::Display) {
        let _ = writeln!(self.0, "{name:<19} {value}");
    }
}

pub(super) fn page(
    ask: &ProbeAsk,
    scrape: Option<Duration>,
    offset: Duration,
    found: &ProbeAnswer,
) -> String {
    let ProbeAnswer { probe, container, trigger, timeout, took, run } = found;
    let mut page = Page("parachute: a probe for one scrape, step by step\n".to_owned());
    resolution(&mut page, ask, container);
    described(&mut page, container);

    page.heading("probe");
    page.say("trigger", format_args!("{trigger} lists it for this container (http: {{}})"));
    configuration(&mut page, probe);

    page.heading("deadline");
    page.say("probe", format_args!("{:?}", probe.timeout));
    match scrape {
        Some(scrape) => page.say("scrape", format_args!("{scrape:?}, less an offset of {offset:?}")),
        None => page.say("scrape", format_args!("no header says; at most {:?}", ask.within)),
    }
    page.say("in use", format_args!("{timeout:?}"));

    match run {
        Ok(run) => ran(&mut page, probe, run),
        Err(reason) => {
            page.heading("run");
            page.say("nothing was run", visible(reason));
        }
    }
    page.heading("metrics");
    let told = exposed(found);
    page.say("took", format_args!("{took:?}"));
    page.say("series", format_args!("{} shown, {} not valid or in conflict", told.series, told.dropped));
    page.0.push('\n');
    // Label values have no control characters; but they may have what turns the direction of writing.
    told.text.lines().for_each(|line| _ = writeln!(page.0, "{}", visible(line)));
    page.0
}

fn resolution(page: &mut Page, ask: &ProbeAsk, container: &Container) {
    let Target { namespace, pod, container: name, .. } = Target::parse(&ask.target);
    let part = |part: &Option<String>| part.as_ref().map_or("any".to_owned(), |text| format!("{text:?}"));
    page.heading("resolution");
    page.say("module", format_args!("{:?}", ask.module));
    page.say("target", format_args!("{:?}", ask.target));
    page.say(
        "which means",
        format_args!("namespace {}, pod {}, container or id {}", part(&namespace), part(&pod), part(&name)),
    );
    page.say("which fits", format_args!("1 container: {}", visible(&container.to_string())));
}

fn described(page: &mut Page, container: &Container) {
    let metadata = container.metadata.load_full();
    page.heading("container");
    page.say("id", &container.id);
    page.say("pid of its init", container.pid);
    page.say("pid namespace", container.pid_ns);
    page.say("network namespace", container.net_ns);
    page.say("cgroup", visible(&container.cgroup_path));
    page.say("runtime", container.runtime.as_str());
    page.say("host's own", container.shares.names().collect::<Vec<_>>().join(", "));
    match metadata {
        Some(metadata) => {
            page.say("image", visible(&metadata.image));
            page.say("pod uid", visible(&metadata.pod_uid));
        }
        None => page.say("metadata", "its runtime has not described it"),
    }
}

fn configuration(page: &mut Page, probe: &Probe) {
    page.say("command", format_args!("{:?}", probe.command));
    page.say("program", probe.program.display());
    page.say("isolation", probe.isolation.as_str());
    if let Isolation::Observer(observer) = &probe.isolation {
        page.say("capabilities", observer.capabilities);
        page.say("fallback", if observer.fallback_joined { "joined" } else { "refuse" });
    }
    let limits = &probe.limits;
    page.say(
        "limits",
        format_args!("memory {} bytes, pids {}, cpu {}/1000", limits.memory, limits.pids, limits.cpu_millis),
    );
    page.say("max_output", format_args!("{} bytes", probe.max_output));
    page.say("max_series", probe.max_series);
    let (parser, metrics) = (probe.parse.format(), probe.parse.metrics().len());
    match metrics {
        0 => page.say("parser", parser),
        _ => page.say("parser", format_args!("{parser}, metrics: {metrics}")),
    }
}

fn ran(page: &mut Page, probe: &Probe, run: &RunResult) {
    let output = &run.output;
    page.heading("enter");
    match (&run.outcome, output.way) {
        (Outcome::EnterFailed { step, errno, message }, _) => {
            page.say("failed at", format_args!("{}, errno {errno}: {}", visible(step), visible(message)));
        }
        (_, way) => page.say("way", way.map_or("it did not come so far", Way::as_str)),
    }

    page.heading("exec");
    page.say("run", &run.request.id);
    page.say("started", humantime::format_rfc3339_millis(run.started_at));
    page.say("outcome", visible(&run.outcome.to_string()));
    page.say("end", end(&output.end));
    page.say("duration", format_args!("{:?}", output.duration));
    page.say("stdout", format_args!("{} bytes", output.stdout.len()));
    page.say("stderr", format_args!("{} bytes", output.stderr.len()));
    page.say("truncated", if output.truncated { "yes, at max_output" } else { "no" });
    match output.limit {
        Some(limit) => page.say("limit reached", limit),
        None => page.say("limit reached", "none"),
    }
    if !output.stderr.is_empty() {
        let shown = &output.stderr[..output.stderr.len().min(MAX_STDERR)];
        page.0.push_str("\nstderr:\n");
        for line in shown.strip_suffix(b"\n").unwrap_or(shown).split(|&byte| byte == b'\n') {
            let _ = writeln!(page.0, "  {}", visible_bytes(line));
        }
        if shown.len() < output.stderr.len() {
            let _ = writeln!(page.0, "  ({} bytes more)", output.stderr.len() - shown.len());
        }
    }

    page.heading("parse");
    if matches!(probe.parse, Parse::None) {
        page.say("parser", "none: the output is not looked at");
    } else if !run.outcome.is_ok() && !matches!(run.outcome, Outcome::ParseFailed { .. }) {
        page.say("not parsed", "only the whole output of a command that ended well is");
    }
    page.say("series made", run.families.iter().map(|family| family.samples.len()).sum::<usize>());
    page.say("series cut", format_args!("{} over max_series", run.series_dropped));
    let Rejects { bad, unmatched, unmatched_lines } = &run.rejects;
    page.say("not usable", format_args!("{} lines or values", run.parse_errors));
    pieces(page, bad, run.parse_errors);
    page.say("not matched", format_args!("{unmatched_lines} lines or rows"));
    pieces(page, unmatched, *unmatched_lines);
}

fn pieces(page: &mut Page, pieces: &[Rejected], all: u64) {
    for Rejected { line, text, why } in pieces {
        let place = line.map_or("-".to_owned(), |line| format!("line {line}"));
        let _ = writeln!(page.0, "  {place}: {}\n      {}", visible(why), visible(text));
    }
    let more = all.saturating_sub(pieces.len() as u64);
    if more > 0 {
        let _ = writeln!(page.0, "  ({more} more)");
    }
}

fn end(end: &End) -> String {
    match end {
        End::Exited { code } => format!("exit status {code}"),
        End::Signaled { signal } => format!("killed by signal {signal}"),
        End::TimedOut { stuck } => format!("killed at its deadline{}", hangs(*stuck)),
        End::Cancelled { stuck } => format!("ended by the agent{}", hangs(*stuck)),
        End::TargetGone => "the container has gone".to_owned(),
        End::Tampered => "the container has lowered the command's limits".to_owned(),
        End::EnterFailed { step, errno } => {
            format!("not started: {} failed with errno {errno}", visible(step))
        }
        End::Refused { reason } => format!("not started: {}", visible(reason)),
    }
}

fn hangs(stuck: bool) -> &'static str {
    if stuck { "; something of it hangs in the kernel" } else { "" }
}
