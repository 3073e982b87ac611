//! A thousand webhooks of ten alerts each, half of them duplicates.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_is_answered_counted_and_leaves_nothing_behind() {
    const WEBHOOKS: usize = 1000;
    const PODS: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let live: Vec<_> =
        (0..PODS).map(|n| container(&format!("{n:02x}"), named("shop", &format!("pod-{n}"), "c"))).collect();
    let config = configured(
        "queued_runs: 200",
        "  t: { alert: { labels: { alertname: Slow } }, target: { namespace: '{{namespace}}', pod: '{{pod}}' }, probes: [a] }\n",
    );
    let room = Arc::new(Room::open(config, Some(folder.path()), live, true));
    // The room is open.
    while room.alerts.receive(webhook("g", &[]).into(), "test").await.status == 503 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let bodies = (0..WEBHOOKS).map(|n| {
        // Every other one repeats the one before it.
        let of = n - n % 2;
        let alerts: Vec<_> = (0..10)
            .map(|alert| (format!("{of}-{alert}"), format!("pod-{}", (of * 5 + alert) % PODS)))
            .collect();
        let labels: Vec<_> = alerts
            .iter()
            .map(|(_, pod)| [("alertname", "Slow"), ("namespace", "shop"), ("pod", pod.as_str())])
            .collect();
        let all: Vec<_> = alerts
            .iter()
            .zip(&labels)
            .map(|((name, _), labels)| ("firing", name.as_str(), &labels[..]))
            .collect();
        webhook("storm", &all)
    });
    let began = Instant::now();
    let tasks: Vec<_> = bodies
        .map(|body| {
            let room = Arc::clone(&room);
            tokio::spawn(async move {
                let began = Instant::now();
                let status = room.post(&body).await.status;
                (status, began.elapsed())
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for task in tasks {
        let (status, took) = task.await.unwrap();
        assert!([200, 202, 503].contains(&status), "{status}");
        slowest = slowest.max(took);
    }
    println!("{WEBHOOKS} webhooks at once took {:?}, the slowest {slowest:?}", began.elapsed());
    eventually(|| room.alerts.queued() == 0).await;
    assert_eq!(room.begun(PODS).await.len(), PODS, "each pod rests after its one run");
    // Each alert of each webhook has run or is counted under one reason.
    let received = room.counters.received.with_label_values(&["firing"]).get();
    assert_eq!(received, 10 * WEBHOOKS as u64);
    let dropped: u64 = ["duplicate", "cooldown", "queue_full", "no_container"]
        .iter()
        .map(|reason| room.dropped(reason))
        .sum();
    assert_eq!(dropped + PODS as u64, received);
    assert!(room.alerts.log(usize::MAX).len() <= 750);
    Arc::into_inner(room).unwrap().close().await;
}
