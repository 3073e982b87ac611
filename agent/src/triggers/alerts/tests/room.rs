//! What alerts come to: matching, cooldown, duplicates, bounds, and the words for all that.

use super::*;
use crate::model::Metadata;

#[tokio::test]
async fn an_alert_runs_its_probes_where_its_labels_lead_and_only_once() {
    let room = Room::open(slow(""), None, live(), true);
    let answer = room.post(&firing("1", "cart-1")).await;
    assert_eq!((answer.status, &answer.body["queued"]), (202, &json!(1)));
    let run = &answer.body["alerts"][0]["runs"][0];
    assert_eq!((&run["probe"], &run["trigger"], &run["pod"]), (&json!("a"), &json!("t"), &json!("cart-1")));
    assert_eq!(room.begun(1).await, ["a@cart-1"]);
    {
        let begun = room.pool.begun.lock().unwrap();
        assert_eq!(json!(begun[0].id), run["id"], "the run has the id that was told");
        assert_eq!(begun[0].alert.as_ref().map(|alert| alert.name()), Some("Slow"));
    }
    assert_eq!(room.results(&firing("1", "cart-1")).await, (200, vec!["duplicate".to_owned()]));
    eventually(|| room.alerts.queued() == 0 && room.alerts.log(1)[0].runs[0].state == "ok").await;
    let log = room.alerts.log(10);
    assert_eq!((log.len(), log[0].deliveries, log[0].who.as_str()), (1, 2, "test"));
    assert_eq!(room.counters.runs.with_label_values(&["t"]).get(), 1);
    assert_eq!(
        (room.dropped("duplicate"), room.counters.received.with_label_values(&["firing"]).get()),
        (1, 2)
    );
    assert_eq!(room.counters.webhooks.with_label_values(&["202"]).get(), 1);
}

#[tokio::test]
async fn real_bodies_run_too() {
    let config = || {
        configured(
            "queued_runs: 50",
            "  t: { alert: { labels: { alertname: 'TcpRetransmits*', severity: 'critical|warning' } }, \
             target: { namespace: '{{namespace}}', pod: '{{ $labels.pod }}' }, probes: [a, b] }\n",
        )
    };
    for name in ["0.25.json", "0.33.json", "grafana.json"] {
        let room = Room::open(config(), None, live(), true);
        assert_eq!(room.post(&String::from_utf8(fixture(name)).unwrap()).await.status, 202, "{name}");
        assert_eq!(room.begun(2).await, ["a@cart-0", "b@cart-0"], "{name}");
    }
}

#[tokio::test]
async fn why_nothing_ran_is_said() {
    let room = Room::open(slow(", match: { namespace: 'shop*' }"), None, live(), true);
    for (labels, result, says) in [
        (
            &[("alertname", "Fast")] as Pairs<'_>,
            "no_trigger",
            "trigger t: label alertname is \"Fast\" and not \"Slow\"",
        ),
        (&[("pod", "cart-0")], "no_trigger", "trigger t: label alertname is absent and not \"Slow\""),
        (
            &[("alertname", "Slow"), ("namespace", "shop"), ("pod", "cart-9")],
            "no_container",
            "no container matches namespace=shop pod=cart-9 within the trigger's `match`; the alert has no label container",
        ),
        (
            &[("alertname", "Slow"), ("namespace", "bank")],
            "no_container",
            "no container matches namespace=bank",
        ),
        // Never a glob, and never a template.
        (&[("alertname", "Slow"), ("pod", "*")], "no_container", "pod=*"),
        (&[("alertname", "Slow"), ("pod", "cart-?")], "no_container", "pod=cart-?"),
        (&[("alertname", "Slow"), ("pod", "{{namespace}}")], "no_container", "pod={{namespace}}"),
        (&[("alertname", "Slow"), ("pod", "cart")], "no_container", "pod=cart"),
        (&[("alertname", "Slow*")], "no_trigger", "is \"Slow*\" and not"),
    ] {
        let answer = room.post(&webhook("g", &[("firing", "", labels)])).await;
        assert_eq!(answer.status, 200, "{labels:?}");
        let alert = &answer.body["alerts"][0];
        assert_eq!(alert["result"], result, "{labels:?}");
        let reasons = alert["reasons"].to_string().replace("\\\"", "\"");
        assert!(reasons.contains(says), "{labels:?}: {reasons}");
        assert!(answer.body["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    }
    assert_eq!(room.post(&webhook("g", &[])).await.body["reason"], "there is no alert in it");
    let resolved = webhook("g", &[("resolved", "1", &[("alertname", "Slow"), ("pod", "cart-0")])]);
    assert_eq!(room.results(&resolved).await, (200, vec!["resolved".to_owned()]));
    assert_eq!(
        (room.dropped("no_container"), room.dropped("no_trigger"), room.dropped("resolved")),
        (6, 3, 1)
    );
    assert!(room.begun(0).await.is_empty());
    assert_eq!(room.alerts.log(100).len(), 10);
    let none =
        Room::open(configured("queued_runs: 1", "  h: { http: {}, probes: [a] }\n"), None, live(), true);
    let reasons = none.post(&firing("1", "cart-0")).await.body["alerts"][0]["reasons"].clone();
    assert_eq!(reasons, json!(["the configuration has no trigger with `alert`"]));
}

#[tokio::test]
async fn a_label_that_is_missing_matches_all_up_to_max_targets_in_order() {
    let room = Room::open(slow(", max_targets: 2"), None, live().into_iter().rev().collect(), true);
    let answer = room
        .post(&webhook("g", &[("firing", "1", &[("alertname", "Slow"), ("namespace", "shop"), ("pod", "")])]))
        .await;
    assert_eq!(answer.status, 202);
    assert!(
        answer.body["alerts"][0]["reasons"]
            .to_string()
            .contains("1 more containers match than its max_targets of 2")
    );
    assert_eq!(room.begun(2).await, ["a@cart-0", "a@cart-1"]);
    assert_eq!(room.dropped("too_many_targets"), 1);
}

#[tokio::test]
async fn what_was_never_run_leaves_no_cooldown() {
    let room = Room::open(slow(""), None, live(), false);
    room.pool.refuses.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(room.results(&firing("1", "cart-0")).await.0, 202);
    eventually(|| room.alerts.queued() == 0).await;
    room.pool.refuses.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(room.results(&firing("2", "cart-0")).await, (202, vec!["queued".to_owned()]));
    assert_eq!(room.begun(1).await, ["a@cart-0"]);
    assert_eq!(room.results(&firing("3", "cart-0")).await.1, ["cooldown"], "the one before it does run");
}

#[tokio::test]
async fn without_a_journal_it_is_run_and_the_sender_is_not_told_that_it_is_safe() {
    let room = Room::with(slow(""), None, live(), true, HashSet::new());
    for _ in 0..2 {
        let answer = room.post(&firing("1", "cart-1")).await;
        assert!(answer.status == 503 && answer.body["error"].as_str().unwrap().contains("run all the same"));
    }
    assert_eq!(room.begun(1).await, ["a@cart-1"]);
    assert_eq!((room.dropped("not_written"), room.dropped("duplicate")), (2, 1));
}

#[tokio::test]
async fn three_alerts_for_one_crash_are_one_run_and_no_cooldown_is_three() {
    for (more, runs) in [("", 1), (", cooldown: 0s", 3)] {
        let room = Room::open(slow(more), None, live(), true);
        for fingerprint in ["1", "2"] {
            room.post(&firing(fingerprint, "cart-0")).await;
        }
        let both = webhook(
            "h",
            &[
                ("firing", "2", &[("alertname", "Slow"), ("pod", "cart-0")]),
                ("firing", "9", &[("alertname", "Other")]),
            ],
        );
        let (status, results) = room.results(&both).await;
        assert_eq!(status, if runs == 1 { 200 } else { 202 });
        assert_eq!(results[1], "no_trigger");
        assert_eq!(room.begun(runs).await.len(), runs, "{more}");
        assert_eq!(room.dropped("cooldown"), 3 - runs as u64);
        // A crash loop's next container has the same names, and its own id.
        let until = room.alerts.log(10).iter().any(|decision| {
            decision.reasons.iter().any(|why| why.contains("cooldown of a in shop/cart-0/cart"))
        });
        assert_eq!(until, runs == 1);
        assert_eq!(room.post(&firing("7", "cart-1")).await.status, 202, "another container is not resting");
    }
}

#[tokio::test]
async fn resolved_alerts_run_if_they_are_to_and_end_what_still_runs() {
    let config = configured(
        "queued_runs: 50",
        "  t: { alert: { labels: { alertname: Slow }, when: both, cancel_on_resolve: true }, target: { pod: '{{pod}}' }, \
         cooldown: 0s, probes: [a, b] }\n",
    );
    let room = Room::open(config, None, live(), false);
    let alert = |status, fingerprint, pod| {
        webhook("g", &[(status, fingerprint, &[("alertname", "Slow"), ("pod", pod)])])
    };
    room.post(&alert("firing", "1", "cart-0")).await;
    room.post(&alert("firing", "2", "cart-1")).await;
    // One at a time in each container: the other two wait.
    assert_eq!(room.begun(2).await.len(), 2);
    assert_eq!(room.alerts.queued(), 4);
    let answer = room.post(&alert("resolved", "1", "cart-0")).await;
    assert_eq!(answer.status, 202);
    assert!(
        answer.body["alerts"][0]["reasons"].to_string().contains("2 runs of the alert were ended"),
        "{}",
        answer.body
    );
    assert_eq!(room.begun(3).await.len(), 3, "the resolution's first run has its turn");
    let firing = room
        .alerts
        .log(10)
        .into_iter()
        .find(|d| d.fingerprint == "1" && d.status == super::super::Status::Firing);
    assert!(firing.unwrap().runs.iter().all(|run| run.state == "ended: the alert is over"));
    assert_eq!(room.counters.runs_dropped.with_label_values(&["cancelled"]).get(), 2);
    room.pool.go.send_replace(true);
    eventually(|| room.alerts.queued() == 0).await;
    assert_eq!(
        room.begun(5).await.len(),
        5,
        "two of the other alert, one that was ended, two of the resolution"
    );
}

#[tokio::test]
async fn a_webhook_is_taken_whole_or_not_at_all_unless_it_never_fits() {
    let config = || {
        configured(
            "queued_runs: 3",
            "  t: { alert: { labels: { alertname: Slow } }, match: { namespace: shop }, target: { pod: '{{pod}}' }, cooldown: 0s, probes: [a] }\n",
        )
    };
    let of = |fingerprint, pods: &[&str]| {
        let labels: Vec<_> = pods.iter().map(|pod| [("alertname", "Slow"), ("pod", *pod)]).collect();
        let names: Vec<_> = pods.iter().enumerate().map(|(n, _)| format!("{fingerprint}{n}")).collect();
        let alerts: Vec<_> =
            labels.iter().zip(&names).map(|(labels, name)| ("firing", name.as_str(), &labels[..])).collect();
        webhook("g", &alerts)
    };
    let room = Room::open(config(), None, live(), false);
    assert_eq!(room.post(&of("x", &["cart-0", "cart-1"])).await.status, 202);
    let refused = room.post(&of("y", &["cart-2", "cart-2"])).await;
    assert_eq!(refused.status, 503);
    assert!(refused.body["error"].as_str().unwrap().contains("limits.queued_runs"), "{}", refused.body);
    assert_eq!((room.alerts.queued(), room.dropped("queue_full")), (2, 2));
    room.pool.go.send_replace(true);
    eventually(|| room.alerts.queued() == 0).await;
    assert_eq!(
        room.post(&of("y", &["cart-2", "cart-2"])).await.status,
        202,
        "delivered again, it is no duplicate"
    );

    let room = Room::open(config(), None, live(), false);
    let answer = room.post(&of("z", &["cart-0", "cart-1", "cart-2", "cart-0", "cart-1"])).await;
    assert_eq!((answer.status, &answer.body["queued"]), (202, &json!(3)));
    assert_eq!((room.alerts.queued(), room.dropped("queue_full")), (3, 2));
    room.pool.go.send_replace(true);
    eventually(|| room.alerts.queued() == 0).await;
    assert_eq!(
        room.results(&of("z", &["cart-0", "cart-1", "cart-2", "cart-0", "cart-1"])).await.1[3..],
        ["queued", "queued"]
    );
}

#[tokio::test]
async fn containers_that_nobody_has_described_are_named_as_the_reason() {
    let mut live = live();
    live.push(container("9", None));
    live.push(container("8", Metadata { sandbox: true, ..named("shop", "cart-0", "") }));
    let room = Room::open(slow(""), None, live, true);
    let answer = room.post(&firing("1", "cart-9")).await;
    assert!(
        answer.body["alerts"][0]["reasons"]
            .to_string()
            .contains("of 1 running containers the runtime has not said the names")
    );
    room.post(&firing("2", "cart-0")).await;
    assert_eq!(room.begun(1).await, ["a@cart-0"], "not in the pod's sandbox");
}

#[tokio::test]
async fn many_hung_runs_in_one_container_leave_room_for_others() {
    let config = configured(
        "queued_runs: 500",
        "  t: { alert: { labels: { alertname: Slow } }, target: { pod: '{{pod}}' }, cooldown: 0s, probes: [a] }\n",
    );
    let room = Room::open(config, None, live(), false);
    for n in 0..200 {
        room.post(&firing(&n.to_string(), "cart-0")).await;
    }
    room.post(&firing("x", "cart-1")).await;
    assert_eq!(room.begun(2).await, ["a@cart-0", "a@cart-1"]);
}

/// The next run in a container, and in others beyond the bound, waits for a result and not for its capture.
#[tokio::test]
async fn what_is_published_makes_room_before_it_is_kept() {
    const PODS: usize = 80;
    let live = (0..PODS).map(|n| container(&format!("{n:02x}"), named("shop", &format!("pod-{n}"), "c")));
    let config = configured(
        "queued_runs: 500",
        "  t: { alert: { labels: { alertname: Slow } }, target: { namespace: shop }, max_targets: 100, probes: [a, b] }\n",
    );
    let room = Room::open(config, None, live.collect(), false);
    room.post(&firing("1", "pod-0")).await;
    assert_eq!(room.begun(1).await.len(), 8 + 64, "so many run and wait in the pool before others");
    room.pool.published.send_replace(true);
    assert_eq!(room.begun(2 * PODS).await.len(), 2 * PODS);
    assert_eq!(room.alerts.queued(), 2 * PODS, "none of them is final");
    room.pool.go.send_replace(true);
    eventually(|| room.alerts.queued() == 0).await;
}
