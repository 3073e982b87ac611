//! Alerts for containers of other nodes: which are passed on, once, within bounds, and also after a restart.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::super::Rest;
use super::*;
use crate::model::{Delivery, Parcel};

/// The peers, as far as the room knows them: what they were sent, and what comes of it.
#[derive(Default)]
pub(super) struct Mail {
    sent: Mutex<Vec<Parcel>>,
    /// What comes of the next ones; then each alert is one peer's.
    outcomes: Mutex<VecDeque<Delivery>>,
    /// Then nothing ever comes of it.
    pub(super) hangs: AtomicBool,
    /// Then a peer is asked again and again, for ever; how many parcels it is for, and how many were given up.
    lags: AtomicBool,
    lagging: [AtomicUsize; 2],
}

impl Mail {
    pub(super) fn pass_on(
        self: &Arc<Self>,
        parcel: Parcel,
    ) -> BoxFuture<'static, ControlFlow<Delivery, Rest>> {
        let took = vec![1; parcel.alerts];
        self.sent.lock().unwrap().push(parcel);
        if self.hangs.load(Relaxed) {
            return Box::pin(std::future::pending());
        }
        let usual = Delivery { peers: 3, answered: 3, took, ..Delivery::default() };
        if self.lags.load(Relaxed) {
            let mail = Arc::clone(self);
            let rest: Rest = Box::new(move |on| {
                mail.lagging[usize::from(!on)].fetch_add(1, Relaxed);
                if on {
                    Box::pin(std::future::pending())
                } else {
                    Box::pin(async move { Delivery { answered: 2, ..usual } })
                }
            });
            return Box::pin(async { ControlFlow::Continue(rest) });
        }
        let delivery = self.outcomes.lock().unwrap().pop_front().unwrap_or(usual);
        Box::pin(async move { ControlFlow::Break(delivery) })
    }

    /// The fingerprints of all alerts that were sent, in order.
    fn fingerprints(&self) -> Vec<String> {
        let body = |parcel: &Parcel| serde_json::from_str::<Value>(&parcel.body).unwrap();
        let all = self.sent.lock().unwrap().iter().map(body).collect::<Vec<_>>();
        all.iter()
            .flat_map(|body| body["alerts"].as_array().unwrap().clone())
            .map(|alert| alert["fingerprint"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// With peers and room for so many alerts.
fn with_peers(mut config: Config, queue: usize) -> Config {
    let peers = format!(
        "peers: {{ service: 'agents.test:1', token_file: /t, scheme: http, queue: {queue} }}\nprobes: {{ a: {{ command: [/bin/true], parse: none }} }}\n"
    );
    config.peers = config::from_str(&peers, Path::new("test.yml")).unwrap().peers;
    config
}

async fn sent(room: &Room, count: usize) -> Vec<String> {
    eventually(|| room.mail.fingerprints().len() >= count).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    room.mail.fingerprints()
}

async fn settled(room: &Room) {
    eventually(|| room.alerts.0.queue().passes.len() == 0).await;
}

#[tokio::test]
async fn what_may_be_elsewhere_is_passed_on_and_nothing_else() {
    let shop = ("namespace", "shop");
    let slow = ("alertname", "Slow");
    for (labels, result, passed) in [
        // One pod by name, here and there.
        (&[slow, shop, ("pod", "cart-0")][..], "queued", false),
        (&[slow, shop, ("pod", "cart-9")], "passed_on", true),
        (&[slow, shop, ("pod", "cart-0"), ("container", "none")], "passed_on", true),
        // A pod without its namespace may be several, and so may all of a namespace.
        (&[slow, ("pod", "cart-0")], "queued", true),
        (&[slow, shop], "queued", true),
        (&[slow], "queued", true),
        // Nobody here would know what to do with it, and they have the same configuration elsewhere.
        (&[("alertname", "Other"), shop, ("pod", "cart-9")], "no_trigger", false),
    ] {
        let room = Room::open(with_peers(super::slow(""), 10), None, live(), true);
        let answer = room.post(&webhook("g", &[("firing", "f", labels)])).await;
        assert_eq!(answer.body["alerts"][0]["result"], result, "{labels:?}: {}", answer.body);
        assert_eq!(answer.status, if result == "no_trigger" { 200 } else { 202 }, "{labels:?}");
        assert_eq!(answer.body["passed_on"], usize::from(passed), "{labels:?}");
        assert_eq!(sent(&room, usize::from(passed)).await.len(), usize::from(passed), "{labels:?}");
        assert_eq!(room.dropped("no_container"), 0);
        room.close().await;
    }
    // Without peers, as ever.
    let room = Room::open(super::slow(""), None, live(), true);
    assert_eq!(room.results(&firing("f", "cart-9")).await, (200, vec!["no_container".to_owned()]));
    room.close().await;
}

#[tokio::test]
async fn a_resolved_alert_follows_where_it_ends_runs() {
    for (more, passed) in [(", cancel", 1), ("", 0)] {
        let cancel = if more.is_empty() { "" } else { ", cancel_on_resolve: true" };
        let trigger = format!(
            "  t: {{ alert: {{ labels: {{ alertname: Slow }}{cancel} }}, target: {{ namespace: '{{{{namespace}}}}', pod: '{{{{pod}}}}' }}, probes: [a] }}\n"
        );
        let room = Room::open(with_peers(configured("queued_runs: 50", &trigger), 10), None, live(), true);
        let over = |pod| {
            webhook("g", &[("resolved", pod, &[("alertname", "Slow"), ("namespace", "shop"), ("pod", pod)])])
        };
        room.post(&over("cart-9")).await;
        assert_eq!(sent(&room, passed).await.len(), passed, "{more}");
        room.post(&over("cart-0")).await;
        assert_eq!(sent(&room, passed).await.len(), passed, "its pod is here");
        room.close().await;
    }
}

#[tokio::test]
async fn what_a_peer_has_passed_on_goes_no_further() {
    let room = Room::open(with_peers(slow(""), 10), None, live(), true);
    eventually(|| room.alerts.0.queue().open).await;
    let alert = |fingerprint, pod| {
        [("firing", fingerprint, [("alertname", "Slow"), ("namespace", "shop"), ("pod", pod)])]
    };
    for (fingerprint, pod, status, result) in
        [("1", "cart-9", 200, "not_here"), ("2", "cart-0", 202, "queued"), ("2", "cart-0", 200, "duplicate")]
    {
        let [(firing, fingerprint, labels)] = alert(fingerprint, pod);
        let body = webhook("g", &[(firing, fingerprint, &labels)]);
        let answer = room.alerts.receive_forwarded(body.into(), "peer").await;
        assert_eq!((answer.status, answer.body["results"].clone()), (status, json!([result])));
    }
    assert_eq!(sent(&room, 0).await, [""; 0]);
    assert_eq!((room.dropped("not_here"), room.dropped("no_container")), (1, 0));
    // All of shop, of which some is here: it is the sender's to tell the others.
    let body = webhook("g", &[("firing", "3", &[("alertname", "Slow"), ("namespace", "shop")])]);
    assert_eq!(room.alerts.receive_forwarded(body.into(), "peer").await.status, 202);
    assert_eq!(sent(&room, 0).await, [""; 0]);
    room.close().await;
}

#[tokio::test]
async fn the_senders_retries_are_not_passed_on_again_unless_peers_were_missing() {
    let room = Room::open(with_peers(slow(""), 10), None, live(), true);
    let missing = Delivery {
        peers: 3,
        answered: 1,
        took: vec![0],
        failures: vec!["10.0.0.5:1: it did not answer in time".into()],
        ..Delivery::default()
    };
    room.mail.outcomes.lock().unwrap().push_back(missing);
    assert_eq!(room.results(&firing("1", "cart-9")).await, (202, vec!["passed_on".to_owned()]));
    sent(&room, 1).await;
    settled(&room).await;
    let told = room.alerts.log(1).remove(0).passed_on.unwrap();
    assert!(told.contains("1 of 3 peers") && told.contains("10.0.0.5:1"), "{told}");
    assert_eq!(room.counters.passed.with_label_values(&["unknown"]).get(), 1);
    // Delivered again it goes out again: to one that takes it while another is missing, and then to all.
    let some = Delivery { peers: 3, answered: 2, took: vec![1], ..Delivery::default() };
    room.mail.outcomes.lock().unwrap().push_back(some);
    for count in 2..=3 {
        assert_eq!(
            room.results(&firing("1", "cart-9")).await,
            (202, vec!["passed_on".to_owned()]),
            "{count}"
        );
        sent(&room, count).await;
        settled(&room).await;
    }
    for _ in 0..3 {
        assert_eq!(room.results(&firing("1", "cart-9")).await, (200, vec!["duplicate".to_owned()]));
    }
    let labels: Pairs<'_> = &[("alertname", "Slow"), ("namespace", "shop"), ("pod", "cart-8")];
    let twice = webhook("g", &[("firing", "2", labels), ("firing", "2", labels)]);
    assert_eq!(room.results(&twice).await, (202, vec!["passed_on".to_owned(), "duplicate".to_owned()]));
    assert_eq!(sent(&room, 4).await, ["1", "1", "1", "2"]);
    eventually(|| room.counters.passed.with_label_values(&["taken"]).get() == 3).await;
    assert_eq!(room.alerts.log(9)[1].deliveries, 6);
    room.close().await;
}

#[tokio::test]
async fn what_finds_no_room_is_delivered_again_and_what_is_here_runs() {
    let room = Room::open(with_peers(slow(""), 2), None, live(), true);
    room.mail.hangs.store(true, Relaxed);
    let labels = |pod| [("alertname", "Slow"), ("namespace", "shop"), ("pod", pod)];
    let all = ["cart-0", "cart-7", "cart-8", "cart-9"].map(|pod| ("firing", pod, labels(pod)));
    let alerts: Vec<(&str, &str, Pairs<'_>)> =
        all.iter().map(|(status, name, labels)| (*status, *name, &labels[..])).collect();
    let body = webhook("g", &alerts);
    assert_eq!(room.post(&body).await.status, 503);
    assert_eq!(room.begun(1).await, ["a@cart-0"]);
    assert_eq!(room.dropped("peers_full"), 1);
    assert_eq!(sent(&room, 2).await, ["cart-7", "cart-8"]);
    assert_eq!(room.post(&body).await.status, 503, "as long as there is no room");
    assert_eq!((room.begun(1).await.len(), sent(&room, 2).await.len()), (1, 2), "nothing is done twice");
    // There is room again.
    room.alerts.0.queue().passes = super::super::pass::Passes::default();
    let last = webhook("g", &alerts[3..]);
    assert_eq!(room.post(&last).await.status, 202);
    assert_eq!(sent(&room, 3).await, ["cart-7", "cart-8", "cart-9"]);
    room.close().await;
}

#[tokio::test]
async fn what_was_accepted_is_passed_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let room = Room::open(with_peers(slow(""), 10), Some(folder.path()), live(), true);
    room.mail.hangs.store(true, Relaxed);
    assert_eq!(room.post(&firing("1", "cart-9")).await.status, 202);
    assert_eq!(sent(&room, 1).await, ["1"]);
    room.close().await;

    let room = Room::open(with_peers(slow(""), 10), Some(folder.path()), live(), true);
    assert_eq!(sent(&room, 1).await, ["1"], "without anybody having delivered it again");
    settled(&room).await;
    assert_eq!(room.results(&firing("1", "cart-9")).await, (200, vec!["duplicate".to_owned()]));
    room.close().await;

    let room = Room::open(with_peers(slow(""), 10), Some(folder.path()), live(), true);
    assert_eq!(room.results(&webhook("g", &[])).await.0, 200);
    assert_eq!(sent(&room, 0).await, [""; 0], "it is done");
    room.close().await;
}

#[tokio::test]
async fn a_peer_that_lags_behind_keeps_the_others_from_nothing() {
    let room = Room::open(with_peers(slow(""), 20), None, live(), true);
    room.mail.lags.store(true, Relaxed);
    for n in 1..=15 {
        assert_eq!(room.post(&firing(&n.to_string(), "cart-9")).await.status, 202, "{n}");
        assert_eq!(sent(&room, n).await.len(), n, "it does not wait for those before it");
    }
    // Half of the room is for those that are asked for again; for what is beyond it the one that lags is given up.
    eventually(|| room.alerts.0.queue().passes.len() == 10).await;
    assert_eq!(room.mail.lagging.each_ref().map(|count| count.load(Relaxed)), [10, 5]);
    room.close().await;
}

#[tokio::test]
async fn a_resolution_is_had_by_whom_the_container_is_and_holds_for_a_firing_that_comes_late() {
    let trigger = "  t: { alert: { labels: { alertname: Slow }, cancel_on_resolve: true }, target: { pod: '{{pod}}' }, probes: [a] }\n";
    let room = Room::open(with_peers(configured("queued_runs: 50", trigger), 10), None, live(), true);
    eventually(|| room.alerts.0.queue().open).await;
    let forwarded = async |status, fingerprint, pod| {
        let body = webhook("g", &[(status, fingerprint, &[("alertname", "Slow"), ("pod", pod)])]);
        room.alerts.receive_forwarded(body.into(), "peer").await.body["results"][0].clone()
    };
    assert_eq!(forwarded("resolved", "1", "cart-9").await, "not_here");
    assert_eq!(forwarded("resolved", "2", "cart-0").await, "resolved");
    assert_eq!((room.dropped("not_here"), room.dropped("resolved")), (1, 1));
    assert_eq!(forwarded("firing", "2", "cart-0").await, "resolved", "it is over already");
    assert_eq!(forwarded("firing", "3", "cart-0").await, "queued", "another one is not");
    assert_eq!(room.begun(1).await, ["a@cart-0"]);
    room.close().await;
}

#[tokio::test]
async fn what_has_run_here_and_goes_to_peers_once_more_is_no_duplicate() {
    let room = Room::open(with_peers(slow(""), 10), None, live(), true);
    let some = Delivery { peers: 3, answered: 2, took: vec![1], ..Delivery::default() };
    room.mail.outcomes.lock().unwrap().push_back(some);
    let of_the_shop = webhook("g", &[("firing", "1", &[("alertname", "Slow"), ("namespace", "shop")])]);
    assert_eq!(room.post(&of_the_shop).await.status, 202);
    for count in 1..=2 {
        sent(&room, count).await;
        settled(&room).await;
        let answer = room.post(&of_the_shop).await;
        let again = count == 1;
        assert_eq!(answer.status, if again { 202 } else { 200 });
        let reason = answer.body["alerts"][0]["reasons"][0].as_str().unwrap();
        assert_eq!((reason.contains("not all peers"), room.dropped("duplicate")), (again, u64::from(!again)));
    }
    room.close().await;
}
