//! Bodies: real ones, and broken ones, each with what is said of it.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::payload::{MAX_ALERTS, MAX_LABEL_BYTES, MAX_LABELS, Status, Told, Webhook, read};
use super::{fixture, webhook};

#[test]
fn alertmanagers_and_grafanas_bodies_are_read() {
    for (name, alerts, truncated, fingerprint) in [
        ("0.25.json", vec![Status::Firing], 0, "b1946ac92492d234"),
        ("0.33.json", vec![Status::Firing, Status::Resolved], 3, "b1946ac92492d234"),
        ("grafana.json", vec![Status::Firing], 0, "c6eadffa33fcdf37"),
    ] {
        let Webhook { receiver, alerts: told, left_out, truncated: is } = read(&fixture(name)).unwrap();
        assert_eq!((receiver.as_str(), left_out, is), ("parachute", 0, truncated), "{name}");
        assert_eq!(told.iter().map(|told| told.status).collect::<Vec<_>>(), alerts, "{name}");
        let alert = &told[0].alert;
        assert_eq!((alert.name(), alert.fingerprint.as_str()), ("TcpRetransmitsHigh", fingerprint), "{name}");
        assert_eq!((alert.labels["pod"].as_str(), told[0].too_large), ("cart-0", false), "{name}");
        assert!(
            alert.group_key.contains("alertname") && alert.starts_at.starts_with("2026-11-26T0"),
            "{name}"
        );
    }
}

/// A good body with one thing replaced.
fn with(what: &str, by: &str) -> String {
    let good = webhook("g", &[("firing", "1", &[("alertname", "A"), ("pod", "p")])]);
    assert!(good.contains(what), "{what} is not in {good}");
    good.replacen(what, by, 1)
}

#[test]
fn what_is_no_alert_is_refused_with_the_place() {
    let deep = format!(r#""x":{}{},"alerts""#, "[".repeat(70), "]".repeat(70));
    for (body, says) in [
        (String::new(), "EOF"),
        ("null".into(), "expected an object"),
        ("[]".into(), "expected an object"),
        ("\"4\"".into(), "expected an object"),
        ("{}".into(), "missing field `version`"),
        (r#"["4","g","r","firing",0,[]]"#.into(), "expected an object"),
        (with("\"4\"", "\"3\""), "version: \"3\" is not known"),
        (with("\"4\"", "4"), "version: invalid type: integer `4`"),
        (with("\"alerts\"", "\"alarms\""), "missing field `alerts`"),
        (
            with("\"alerts\":[", "\"alerts\":{},\"x\":["),
            "alerts: invalid type: map, expected a list of alerts",
        ),
        (with("\"alerts\":[", "\"alerts\":null,\"x\":["), "alerts: invalid type: null"),
        (
            with("\"alerts\":[{", "\"alerts\":[7,{"),
            "alerts[0]: invalid type: integer `7`, expected an object",
        ),
        (
            with("\"alerts\":[{", "\"alerts\":[[\"firing\"],{"),
            "alerts[0]: invalid type: sequence, expected an object",
        ),
        (
            with("\"pod\":\"p\"", "\"pod\":5"),
            "alerts[0].labels.pod: invalid type: integer `5`, expected a string",
        ),
        (with("\"pod\":\"p\"", "\"pod\":null"), "alerts[0].labels.pod: invalid type: null"),
        (
            with("\"status\":\"firing\",\"l", "\"status\":\"burning\",\"l"),
            "alerts[0].status: unknown variant `burning`",
        ),
        (with("\"status\":\"firing\",\"l", "\"l"), "alerts[0]: missing field `status`"),
        (with("\"startsAt\":\"2026", "\"startsAt\":\"noon 2026"), "alerts[0].startsAt: \"noon 2026"),
        // A time with notes, of which a peer would be told a digest.
        (
            with("03:04:05Z\"", &format!("03:04:05Z[UTC][x-note={}]\"", "a-".repeat(600) + "a")),
            "alerts[0].startsAt: \"2026-11-26T03:04:05Z[UTC][x-note=",
        ),
        (with("\"startsAt\"", "\"beganAt\""), "alerts[0]: missing field `startsAt`"),
        (with("\"groupKey\":\"g\"", "\"groupKey\":{}"), "groupKey: invalid type: map"),
        (with("\"version\"", "\"version\":\"4\",\"version\""), "duplicate field `version`"),
        (with("\"alerts\"", &deep), "nested deeper than 64 levels at byte"),
        (format!("{} x", webhook("g", &[])), "trailing characters"),
        (with("\"p\"", "\"p\\ud800\""), "alerts[0].labels.pod"),
    ] {
        let error = read(body.as_bytes()).unwrap_err();
        assert!(error.contains(says), "{body}\n  {error}");
        assert!(error.starts_with("body is "), "{error}");
    }
    let mut bytes = with("\"p\"", "\"p~\"").into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'~').unwrap();
    bytes[at] = 0xff;
    assert_eq!(read(&bytes).unwrap_err(), format!("body is not UTF-8 at byte {at}"));
    let long = with("\"firing\",\"l", &format!("\"{}\",\"l", "x".repeat(100_000)));
    assert!(read(long.as_bytes()).unwrap_err().len() < 2000, "a reason does not quote without bounds");
}

#[test]
fn what_is_not_known_is_passed_over_and_what_may_be_absent_is() {
    for body in [
        with("\"version\"", "\"new\":[{\"a\":[1,null,true]}],\"version\""),
        with("\"version\"", "\"receiver\":null,\"truncatedAlerts\":null,\"version\""),
        with("\"groupKey\":\"g\",", ""),
        with("\"startsAt\"", "\"values\":null,\"startsAt\""),
        format!("  {}\n", webhook("g", &[("firing", "1", &[])])),
    ] {
        assert_eq!(read(body.as_bytes()).unwrap().alerts.len(), 1, "{body}");
    }
    assert!(read(webhook("g", &[]).as_bytes()).unwrap().alerts.is_empty());
}

#[test]
fn an_alert_without_a_fingerprint_is_known_by_its_labels() {
    let of = |pod: &str| {
        let body = webhook("g", &[("firing", "", &[("alertname", "A"), ("pod", pod)])]);
        read(body.as_bytes()).unwrap().alerts.remove(0)
    };
    assert_eq!(of("p").alert.fingerprint.len(), 32);
    assert_eq!(of("p").key(), of("p").key());
    assert_ne!(of("p").key(), of("q").key());
}

#[test]
fn everything_has_a_bound() {
    let one = ("firing", "1", &[("alertname", "A")] as &[_]);
    let many = read(webhook("g", &vec![one; MAX_ALERTS + 7]).as_bytes()).unwrap();
    assert_eq!((many.alerts.len(), many.left_out), (MAX_ALERTS, 7));

    let names: Vec<String> = (0..=MAX_LABELS).map(|n| format!("l{n}")).collect();
    let labels: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let long = "x".repeat(MAX_LABEL_BYTES);
    for (labels, too_large) in
        [(&labels[..MAX_LABELS], false), (&labels[..], true), (&[("pod", long.as_str())], true)]
    {
        let told = read(webhook("g", &[("firing", "1", labels)]).as_bytes()).unwrap().alerts.remove(0);
        assert_eq!((told.too_large, told.alert.labels.len() <= MAX_LABELS), (too_large, true));
    }
    // A name of any length is known again, and is not kept.
    let told = |group: &str| read(webhook(group, &[one]).as_bytes()).unwrap().alerts.remove(0);
    let (group, other) = ("g".repeat(50_000), "g".repeat(50_001));
    assert!(told(&group).alert.group_key.len() < 100);
    assert!(told(&group).key() == told(&group).key() && told(&group).key() != told(&other).key());
}

#[test]
fn keys_tell_apart_what_differs_in_anything() {
    let told = |group: &str, status: &str, fingerprint: &str| {
        read(webhook(group, &[(status, fingerprint, &[])]).as_bytes()).unwrap().alerts.remove(0)
    };
    let all = [
        told("g", "firing", "1"),
        told("h", "firing", "1"),
        told("g", "resolved", "1"),
        told("g", "firing", "2"),
        told("g1", "firing", ""),
    ];
    for (place, one) in all.iter().enumerate() {
        assert!(all[place + 1..].iter().all(|other| one.key() != other.key()), "{one:?}");
    }
    let occasion = |told: &Told| Told::occasion(&told.alert);
    assert_eq!(occasion(&all[0]), occasion(&all[2]), "a resolution is of the same occasion");
    assert_eq!(occasion(&all[0]), occasion(&all[1]), "in any group");
    assert_ne!(occasion(&all[0]), occasion(&all[3]));
}

proptest! {
    #[test]
    fn no_bytes_panic_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_json_panics_it(text in r#"(\{|\}|\[|\]|,|:|"version"|"4"|"alerts"|"labels"|"status"|"firing"|"startsAt"|"2026-11-26T03:04:05Z"|1|null|"\\u00"| ){0,40}"#) {
        if let Err(reason) = read(text.as_bytes()) {
            prop_assert!(reason.starts_with("body is "));
        }
    }

    #[test]
    fn a_body_that_is_cut_or_changed_is_read_or_refused(cut in 0usize..2000, byte in any::<u8>()) {
        let mut bytes = fixture("0.33.json");
        let at = cut % bytes.len();
        let _ = read(&bytes[..at]);
        bytes[at] = byte;
        let _ = read(&bytes);
    }

    #[test]
    fn labels_arrive_as_they_were_sent(name in "[a-z_]{1,20}", value in ".{0,60}") {
        let mut body = String::new();
        let labels = serde_json::json!({ name.clone(): value.clone() });
        write!(body, r#"{{"version":"4","alerts":[{{"status":"firing","startsAt":"2026-11-26T03:04:05Z","labels":{labels}}}]}}"#).unwrap();
        prop_assert_eq!(&read(body.as_bytes()).unwrap().alerts[0].alert.labels[&name], &value);
    }
}
