//! What a run that was asked for is answered with.

use super::*;
use crate::model::{Family, MetricKind, Sample};

#[tokio::test]
async fn a_run_is_answered_in_full() {
    let served = served(false, Ok(())).await;
    let labels = vec![("state".into(), "estab".to_owned())];
    let sample = |value| Sample { suffix: "", labels: labels.clone(), value };
    let family = Family {
        name: "tcp".into(),
        kind: MetricKind::Gauge,
        help: "Help.".into(),
        samples: vec![sample(3.0), sample(f64::NAN), Sample { suffix: "_sum", ..sample(f64::NEG_INFINITY) }],
    };
    let mut finished =
        result("sockets", &container("a", named("shop", "cart-0", "cart")), Outcome::Ok, vec![family]);
    finished.output.stderr = b"\xff\n".to_vec();
    let answer = served.run(Ok(finished)).await;
    assert_eq!(answer.status, 200);
    let expected = serde_json::json!({
        "outcome": "ok", "probe": "sockets", "trigger": "by-hand",
        "container": { "id": "a".repeat(64), "namespace": "shop", "pod": "cart-0", "container": "cart" },
        "started_at": "1970-01-01T00:00:01.500Z", "duration_seconds": 0.25, "exit_status": 0, "truncated": false, "way": null,
        "parse_errors": 0, "series_dropped": 0, "capture": null,
        "families": [{ "name": "tcp", "type": "gauge", "help": "Help.", "samples": [
            { "labels": { "state": "estab" }, "value": 3.0 },
            { "labels": { "state": "estab" }, "value": "NaN" },
            { "name": "tcp_sum", "labels": { "state": "estab" }, "value": "-Inf" },
        ] }],
        "stdout": "out", "stderr": "\u{fffd}\n", "stderr_base64": "/wo=",
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn failed_runs_are_answers_and_refusals_are_statuses() {
    let served = served(false, Ok(())).await;
    let entering =
        Outcome::EnterFailed { step: "setns_pid".into(), errno: 1, message: "not permitted".into() };
    let answer = served.run(Ok(result("sockets", &container("a", None), entering, Vec::new()))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        (&answer.json()["outcome"], &answer.json()["step"]),
        (&"enter_failed".into(), &"setns_pid".into())
    );
    let full = RunRefusal::Full { retry_after: Duration::from_secs(7) };
    for (refusal, status, says, retry) in [
        (RunRefusal::UnknownProbe("x".into()), 404, "\"x\" is not configured", None),
        (RunRefusal::NotByRequest("x".into()), 404, "`http: {}`", None),
        (RunRefusal::NoContainer, 404, "no running container", None),
        (RunRefusal::Ambiguous(vec!["a/b/c".into(), "d/e/f".into()]), 409, "one of: a/b/c, d/e/f", None),
        (full, 503, "too many", Some("retry-after: 7\r\n")),
        (RunRefusal::Unavailable("the agent is ending".into()), 503, "ending", Some("retry-after: 5\r\n")),
    ] {
        let answer = served.run(Err(refusal)).await;
        assert_eq!(answer.status, status);
        assert!(answer.error().contains(says), "{}", answer.error());
        assert_eq!(answer.head.contains("retry-after"), retry.is_some());
        assert!(retry.is_none_or(|retry| answer.head.contains(retry)), "{}", answer.head);
    }
}
