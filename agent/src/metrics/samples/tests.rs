//! The store through lives of containers, reloads and conflicts, as a scrape shows it.

use std::collections::BTreeSet;

use super::*;
use crate::metrics::promtool;
use crate::metrics::{AgentMetrics, encode, render, render_within};
use crate::model::Metadata;
use crate::model::testing::{container, named, result};

const MINUTE: Duration = Duration::from_mins(1);

fn store(max_series: usize) -> (AgentMetrics, Samples) {
    let agent = AgentMetrics::new().unwrap();
    let samples = Samples::bounded(MINUTE, agent.series_dropped.clone(), max_series);
    (agent, samples)
}

fn gauge(name: &str, series: &[(&str, f64)]) -> Family {
    let samples = series.iter().map(|(state, value)| Sample {
        suffix: "",
        labels: vec![("state".into(), (*state).to_owned())],
        value: *value,
    });
    Family { name: name.into(), kind: MetricKind::Gauge, help: "Help.".into(), samples: samples.collect() }
}

fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' '])).collect()
}

/// Every series once, every HELP and TYPE once, every line readable, every probe series with the three labels.
fn assert_well_formed(text: &str) {
    promtool::assert_clean(text);
    assert!(text.ends_with('\n'));
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('#') {
            let head: Vec<_> = line.split(' ').take(3).collect();
            assert!(seen.insert(head.join(" ")), "twice: {line}");
            continue;
        }
        let (name, mut labels, _) =
            encode::tests::parse_line(line).unwrap_or_else(|| panic!("unreadable: {line}"));
        labels.sort();
        assert!(seen.insert(format!("{name}{labels:?}")), "twice: {line}");
        if !name.starts_with("parachute_") && !name.starts_with("process_") {
            for label in ["namespace", "pod", "container"] {
                assert_eq!(labels.iter().filter(|(have, _)| have == label).count(), 1, "{line}");
            }
        }
    }
}

#[test]
fn a_good_run_is_shown_and_the_next_one_replaces_it() {
    let (agent, samples) = store(100);
    let shop = container("a", named("shop", "cart-0", "cart"));
    samples.container_up(&shop);
    samples.publish(&result(
        "sockets",
        &shop,
        Outcome::Ok,
        vec![gauge("tcp", &[("estab", 1.0), ("closed", 2.0)])],
    ));
    samples.publish(&result("sockets", &shop, Outcome::Ok, vec![gauge("tcp", &[("estab", 3.0)])]));
    let text = render(&agent, &samples);
    let labels = "namespace=\"shop\",pod=\"cart-0\",container=\"cart\"";
    assert_eq!(lines(&text, "tcp"), [format!("tcp{{{labels},state=\"estab\"}} 3")]);
    assert_eq!(
        lines(&text, docs::LAST_RUN),
        [format!("{}{{{labels},probe=\"sockets\"}} 1.5", docs::LAST_RUN)]
    );
    assert_eq!(
        lines(&text, docs::LAST_SUCCESS),
        [format!("{}{{{labels},probe=\"sockets\"}} 1", docs::LAST_SUCCESS)]
    );
    assert!(
        lines(&text, docs::CONTAINER_INFO)[0]
            .contains("runtime=\"containerd\",pid=\"4711\",sandbox=\"false\"")
    );
    assert_well_formed(&text);
    assert_eq!(samples.last_runs(10).len(), 1);
}

#[test]
fn failed_runs_remove_and_runs_that_say_nothing_leave() {
    let refused = Outcome::Refused { reason: "queue_full".into() };
    let failed = Outcome::ParseFailed { message: "no".into() };
    for (outcome, stays) in
        [(Outcome::Timeout, false), (failed, false), (Outcome::TargetGone, true), (refused, false)]
    {
        let (agent, samples) = store(100);
        let shop = container("a", named("shop", "cart-0", "cart"));
        samples.container_up(&shop);
        samples.publish(&result("sockets", &shop, Outcome::Ok, vec![gauge("tcp", &[("estab", 1.0)])]));
        samples.publish(&result("sockets", &shop, outcome.clone(), vec![gauge("tcp", &[("estab", 9.0)])]));
        let text = render(&agent, &samples);
        assert_eq!(lines(&text, "tcp").len(), usize::from(stays), "{outcome:?}");
        let success = if stays { " 1" } else { " 0" };
        assert!(lines(&text, docs::LAST_SUCCESS)[0].ends_with(success), "{outcome:?}");
    }
}

#[test]
fn a_gone_container_is_shown_for_its_grace_and_its_pidfd_is_not_held() {
    let (agent, samples) = store(100);
    let shop = container("a", named("shop", "cart-0", "cart"));
    samples.container_up(&shop);
    samples.publish(&result("sockets", &shop, Outcome::Ok, vec![gauge("tcp", &[("estab", 1.0)])]));
    samples.container_gone(&shop);
    assert_eq!(Arc::strong_count(&shop), 1);
    assert_eq!(lines(&render(&agent, &samples), "tcp").len(), 1);
    samples.expire(Instant::now() + 2 * MINUTE);
    // A late result must not bring it back.
    samples.publish(&result("sockets", &shop, Outcome::Ok, vec![gauge("tcp", &[("estab", 1.0)])]));
    let text = render(&agent, &samples);
    assert!(!text.contains("cart"), "{text}");
    let inner = samples.lock();
    assert_eq!((inner.series, inner.entries.len(), inner.numbers.len(), inner.slots.len()), (0, 0, 0, 0));
}

#[test]
fn equal_labels_show_the_newer_container_once_it_has_results() {
    let (agent, samples) = store(100);
    let (old, new) = (container("a", named("s", "p", "c")), container("b", named("s", "p", "c")));
    samples.container_up(&old);
    samples.publish(&result(
        "sockets",
        &old,
        Outcome::Ok,
        vec![gauge("tcp", &[("estab", 1.0), ("old", 1.0)])],
    ));
    samples.container_gone(&old);
    samples.container_up(&new);
    assert_eq!(lines(&render(&agent, &samples), "tcp").len(), 2, "the last numbers of the old one stay");
    samples.publish(&result("sockets", &new, Outcome::Ok, vec![gauge("tcp", &[("estab", 5.0)])]));
    let text = render(&agent, &samples);
    assert!(lines(&text, "tcp").len() == 1 && lines(&text, "tcp")[0].ends_with(" 5"), "{text}");
    assert_eq!(lines(&text, docs::CONTAINER_INFO).len(), 1);
    assert_well_formed(&text);
}

#[test]
fn two_live_containers_with_equal_labels_give_no_series_twice() {
    let (agent, samples) = store(100);
    for id in ["a", "b"] {
        let twin = container(id, named("", "", "web"));
        samples.container_up(&twin);
        samples.publish(&result("sockets", &twin, Outcome::Ok, vec![gauge("tcp", &[("estab", 1.0)])]));
    }
    let text = render(&agent, &samples);
    assert_eq!((lines(&text, "tcp").len(), lines(&text, docs::CONTAINER_INFO).len()), (1, 2));
    assert_well_formed(&text);
}

#[test]
fn families_of_several_probes_stand_under_one_head_and_conflicts_are_counted() {
    let (agent, samples) = store(100);
    let shop = container("a", named("shop", "cart-0", "cart"));
    samples.container_up(&shop);
    let counter = Family { kind: MetricKind::Counter, ..gauge("tcp", &[("z", 1.0)]) };
    let histogram = Family { kind: MetricKind::Histogram, ..gauge("lag_seconds", &[]) };
    let sum = Sample { suffix: "_sum", labels: Vec::new(), value: 2.0 };
    let histogram = Family { samples: vec![sum], ..histogram };
    samples.publish(&result("one", &shop, Outcome::Ok, vec![gauge("tcp", &[("estab", 1.0)]), histogram]));
    let own = gauge("parachute_containers", &[("faked", 1.0)]);
    let process = gauge("process_open_fds", &[("app", 9.0)]);
    let part = gauge("lag_seconds_sum", &[("a", 1.0)]);
    samples.publish(&result(
        "two",
        &shop,
        Outcome::Ok,
        vec![gauge("tcp", &[("estab", 2.0), ("new", 2.0)]), own, process, part],
    ));
    samples.publish(&result("three", &shop, Outcome::Ok, vec![counter]));
    let text = render(&agent, &samples);
    assert_eq!(lines(&text, "tcp").len(), 2);
    assert!(!text.contains("faked"));
    assert_eq!(lines(&text, "process_open_fds").len(), 2, "an application's own stands beside the agent's");
    for (probe, dropped) in [("two", 3), ("three", 1)] {
        assert_eq!(agent.series_dropped.with_label_values(&[probe]).get(), dropped, "{probe}");
    }
    assert_well_formed(&text);
    samples.forget_probe(&ProbeName::new("one"));
    let text = render(&agent, &samples);
    assert!(lines(&text, "tcp").len() == 1 && !text.contains("lag_seconds"), "{text}");
}

#[test]
fn the_store_is_bounded_and_counts_what_it_refuses() {
    let (agent, samples) = store(3);
    let shop = container("a", named("shop", "cart-0", "cart"));
    samples.container_up(&shop);
    for _ in 0..3 {
        let families =
            vec![gauge("fits", &[("a", 1.0)]), gauge("too_many", &[("a", 1.0), ("b", 1.0), ("c", 1.0)])];
        samples.publish(&result("sockets", &shop, Outcome::Ok, families));
    }
    assert_eq!(agent.series_dropped.with_label_values(&["sockets"]).get(), 9);
    assert_eq!(samples.lock().series, 3, "one series and the two notes of the run");
}

#[test]
fn hostile_text_everywhere_still_makes_a_valid_exposition() {
    let (agent, samples) = store(100);
    let hostile = "a\"} 1\n# TYPE evil gauge\nevil{x=\"\\\u{0}\u{7f}\r\u{2028}é🪂";
    let metadata =
        Metadata { image: hostile.into(), pod_uid: hostile.into(), ..named(hostile, hostile, hostile) };
    let shop = container("a", Some(metadata));
    samples.container_up(&shop);
    samples.container_up(&container("b", None));
    let mut family = gauge(
        "tcp",
        &[(hostile, f64::INFINITY), ("nan", f64::NAN), ("less", f64::NEG_INFINITY), ("big", 1e300)],
    );
    family.help = hostile.into();
    samples.publish(&result("sockets", &shop, Outcome::Ok, vec![family]));
    let text = render(&agent, &samples);
    assert_eq!(lines(&text, "tcp").len(), 4);
    assert_well_formed(&text);
}

#[test]
fn a_restart_under_the_same_id_is_another_life() {
    let (agent, samples) = store(100);
    let first = container("a", named("s", "p", "c"));
    samples.container_up(&first);
    samples.publish(&result("sockets", &first, Outcome::Ok, vec![gauge("tcp", &[("estab", 1.0)])]));
    samples.container_gone(&first);
    let mut again = Arc::into_inner(container("a", named("s", "p", "c"))).unwrap();
    again.start_ticks = 2;
    samples.container_up(&Arc::new(again));
    samples.expire(Instant::now() + 2 * MINUTE);
    let text = render(&agent, &samples);
    assert_eq!((lines(&text, "tcp").len(), lines(&text, docs::CONTAINER_INFO).len()), (0, 1), "{text}");
}

/// The promise is 15 ms in a release build; this bound only catches a walk that has become quadratic.
#[test]
fn a_thousand_containers_are_rendered_in_one_pass() {
    let (agent, samples) = store(MAX_SERIES);
    let states: Vec<String> = (0..30).map(|state| format!("state{state}")).collect();
    let series: Vec<(&str, f64)> = states.iter().map(|state| (state.as_str(), 1.0)).collect();
    for number in 0..1_000 {
        let mut one = Arc::into_inner(container("a", named("shop", &format!("pod-{number}"), "c"))).unwrap();
        one.start_ticks = number;
        let one = Arc::new(one);
        samples.container_up(&one);
        samples.publish(&result("sockets", &one, Outcome::Ok, vec![gauge("tcp", &series)]));
    }
    let started = Instant::now();
    let text = render(&agent, &samples);
    let took = started.elapsed();
    println!("{} bytes in {took:?}", text.len());
    assert_eq!(lines(&text, "tcp").len(), 30_000);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_captures_mark_stays_until_a_newer_one_or_the_containers_end() {
    let (agent, samples) = store(100);
    let shop = container("a", named("shop", "cart-0", "cart"));
    samples.container_up(&shop);
    let kept = result("sockets", &shop, Outcome::Timeout, Vec::new());
    samples.publish(&kept);
    samples.mark_capture(&kept);
    samples.publish(&result("sockets", &shop, Outcome::Ok, Vec::new()));
    let mark = |capture: &str| {
        format!(
            "{}{{namespace=\"shop\",pod=\"cart-0\",container=\"cart\",probe=\"sockets\",trigger=\"by-hand\",alert=\"\",\
             outcome=\"timeout\",capture=\"{capture}\"}} 1.5",
            docs::LAST_CAPTURE
        )
    };
    assert_eq!(lines(&render(&agent, &samples), docs::LAST_CAPTURE), [mark(kept.request.id.as_str())]);

    let newer = result("sockets", &shop, Outcome::Timeout, Vec::new());
    samples.mark_capture(&newer);
    assert_eq!(lines(&render(&agent, &samples), docs::LAST_CAPTURE), [mark(newer.request.id.as_str())]);
    samples.forget_probe(&newer.request.probe);
    assert_eq!(lines(&render(&agent, &samples), docs::LAST_CAPTURE), [""; 0]);

    samples.mark_capture(&newer);
    samples.container_gone(&shop);
    samples.expire(Instant::now() + Duration::from_hours(1));
    assert_eq!(lines(&render(&agent, &samples), docs::LAST_CAPTURE), [""; 0]);

    // The container has crashed in the middle of the one run that was ever made in it.
    let crashed = container("b", named("shop", "cart-0", "cart"));
    samples.container_up(&crashed);
    samples.container_gone(&crashed);
    let last = result("sockets", &crashed, Outcome::Timeout, Vec::new());
    samples.mark_capture(&last);
    assert_eq!(lines(&render(&agent, &samples), docs::LAST_CAPTURE), [mark(last.request.id.as_str())]);
    samples.expire(Instant::now() + Duration::from_hours(1));
    assert_eq!(lines(&render(&agent, &samples), docs::LAST_CAPTURE), [""; 0]);
}

/// Allocations of one scrape into the room of the last one, with so many containers of 30 series each.
fn allocations(containers: usize) -> u64 {
    let (agent, samples) = store(100_000);
    let states: Vec<String> = (0..30).map(|number| format!("state-{number}")).collect();
    let series: Vec<(&str, f64)> = states.iter().map(|state| (state.as_str(), 1.5)).collect();
    for number in 0..containers {
        let shop = container(&format!("{number:04}"), named("shop", &format!("cart-{number}"), "cart"));
        samples.container_up(&shop);
        samples.publish(&result("sockets", &shop, Outcome::Ok, vec![gauge("tcp", &series)]));
    }
    let text = render(&agent, &samples);
    assert_eq!(lines(&text, "tcp").len(), containers * 30);
    let mut room = Some(text);
    let counted =
        allocation_counter::measure(|| room = room.take().map(|room| render_within(room, &agent, &samples)));
    assert_eq!(lines(&room.unwrap(), "tcp").len(), containers * 30);
    counted.count_total
}

#[test]
fn a_scrape_allocates_no_more_for_a_thousand_containers_than_for_one() {
    let (one, thousand) = (allocations(1), allocations(1000));
    assert!(thousand <= one + 8, "{thousand} allocations for 30,000 series, {one} for 30");
}
