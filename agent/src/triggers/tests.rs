//! The triggers on paused time.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::config::{Glob, Limits, Match, Runtimes, Trigger};
use crate::model::{Metadata, ProbeName, testing};

fn container(id: u8, described: Option<(&str, &str, &str)>) -> Arc<Container> {
    let container = testing::container(&format!("{id:02x}"), None);
    if let Some(labels) = described {
        describe(&container, labels);
    }
    container
}

fn describe(container: &Container, (namespace, pod, name): (&str, &str, &str)) {
    container.metadata.store(Some(Arc::new(Metadata {
        namespace: namespace.into(),
        pod: pod.into(),
        container: name.into(),
        sandbox: name.is_empty(),
        ..Metadata::default()
    })));
}

#[allow(clippy::unnecessary_wraps, reason = "a rule has optional globs, and most of these have one")]
fn glob(text: &str) -> Option<Glob> {
    let (negated, pattern) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    Some(Glob { negated, matcher: globset::Glob::new(pattern).unwrap().compile_matcher() })
}

fn config(when: When, matches: Match) -> Config {
    let trigger = Trigger {
        name: TriggerName::new("t"),
        when,
        probes: vec![ProbeName::new("a"), ProbeName::new("b")],
        matches,
        allow_unsafe_joined: false,
    };
    Config {
        targets: Arc::default(),
        probe_root: crate::config::ProbeRoot::default(),
        runtimes: Runtimes::Auto,
        limits: Limits { concurrent_runs: 1, queued_runs: 1, results_grace: Duration::ZERO },
        probes: BTreeMap::new(),
        triggers: BTreeMap::from([(trigger.name.clone(), Arc::new(trigger))]),
        captures: crate::config::Captures::default(),
        store: None,
        peers: None,
        included: Vec::new(),
        digest: [0; 32],
    }
}

/// A running room, and what it has submitted as `probe@pod`.
struct Room {
    events: broadcast::Sender<ContainerEvent>,
    reload: watch::Sender<u64>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Room {
    fn start(config: Config, live: Vec<Arc<Container>>) -> Self {
        let (events, receiver) = broadcast::channel(16);
        let (reload, reloaded) = watch::channel(0);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let live = Arc::new(live);
        let into = Arc::clone(&seen);
        tokio::spawn(watch(Wiring {
            config: Arc::new(ArcSwap::from_pointee(config)),
            reloaded,
            live: Box::new(move || Arc::clone(&live)),
            events: receiver,
            submit: Box::new(move |run| {
                into.lock().unwrap().push(format!("{}@{}", run.probe, run.container.labels().pod));
            }),
            node: "node-1".into(),
        }));
        Self { events, reload, seen }
    }

    async fn after(&self, wait: Duration) -> Vec<String> {
        tokio::time::sleep(wait).await;
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_described_start_fires_after_its_delay_and_only_once() {
    let room = Room::start(config(When::ContainerStart { delay: 2 * SECOND }, Match::default()), vec![]);
    room.events.send(ContainerEvent::Up(container(1, Some(("shop", "cart-0", "cart"))))).unwrap();
    assert!(room.after(SECOND).await.is_empty());
    assert_eq!(room.after(2 * SECOND).await, ["a@cart-0", "b@cart-0"]);
    assert!(room.after(60 * SECOND).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_undescribed_start_waits_for_its_description_but_not_for_ever() {
    let room = Room::start(config(When::ContainerStart { delay: 2 * SECOND }, Match::default()), vec![]);
    let late = container(1, None);
    room.events.send(ContainerEvent::Up(Arc::clone(&late))).unwrap();
    room.events.send(ContainerEvent::Up(container(2, None))).unwrap();
    assert!(room.after(5 * SECOND).await.is_empty());
    describe(&late, ("shop", "cart-0", "cart"));
    room.events.send(ContainerEvent::Described(late)).unwrap();
    assert_eq!(room.after(SECOND / 10).await, ["a@cart-0", "b@cart-0"]);
    assert_eq!(
        room.after(10 * SECOND).await,
        ["a@", "b@"],
        "the other is probed without being known by name"
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_that_goes_before_its_delay_is_forgotten() {
    let room = Room::start(config(When::ContainerStart { delay: 2 * SECOND }, Match::default()), vec![]);
    let short = container(1, Some(("shop", "cart-0", "cart")));
    room.events.send(ContainerEvent::Up(Arc::clone(&short))).unwrap();
    room.events.send(ContainerEvent::Down(short)).unwrap();
    assert!(room.after(60 * SECOND).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_schedule_fires_for_what_matches_and_leaves_sandboxes_out() {
    let rule = Match { namespace: glob("shop-*"), container: glob("!istio-proxy"), ..Match::default() };
    let live = vec![
        container(1, Some(("shop-eu", "cart-0", "cart"))),
        container(2, Some(("shop-eu", "cart-0", "istio-proxy"))),
        container(3, Some(("shop-eu", "cart-0", ""))),
        container(4, Some(("bank", "till-0", "till"))),
    ];
    let room = Room::start(config(When::Every(30 * SECOND), rule), live);
    assert_eq!(room.after(300 * SECOND).await.len(), 20, "ten rounds of two probes in one container");
}

#[tokio::test(start_paused = true)]
async fn reloads_more_often_than_its_period_do_not_starve_a_schedule() {
    let live = vec![container(1, Some(("shop", "cart-0", "cart")))];
    let room = Room::start(config(When::Every(30 * SECOND), Match::default()), live);
    let mut runs = 0;
    for _ in 0..30 {
        runs += room.after(10 * SECOND).await.len();
        room.reload.send_modify(|times| *times += 1);
    }
    assert!((18..=20).contains(&runs), "{runs} runs of two probes in 300 s");
}

#[tokio::test(start_paused = true)]
async fn a_container_nobody_has_described_matches_no_glob() {
    for (rule, fires) in [
        (Match { container: glob("!istio-proxy"), ..Match::default() }, false),
        (Match { namespace: glob("*"), ..Match::default() }, false),
        (Match::default(), true),
    ] {
        let room = Room::start(config(When::Every(30 * SECOND), rule), vec![container(1, None)]);
        assert_eq!(!room.after(60 * SECOND).await.is_empty(), fires);
    }
}

#[test]
fn a_target_is_found_by_what_is_said_of_it() {
    let live = [
        container(1, Some(("shop", "cart-0", "cart"))),
        container(2, Some(("shop", "cart-1", "cart"))),
        container(3, Some(("shop", "cart-1", ""))),
        container(4, None),
    ];
    let id = |n: u8| format!("{n:02x}").repeat(32);
    for (text, expected) in [
        ("cart-0/cart", Some(vec![1])),
        ("shop/cart-1/cart", Some(vec![2])),
        ("bank/cart-1/cart", None),
        ("cart", Some(vec![1, 2])),
        ("010101", Some(vec![1])),
        ("01010", None),
        ("040404040404", Some(vec![4])),
        (&id(3), Some(vec![3])),
        ("", None),
    ] {
        let found: Vec<_> = match resolve(&live, &Target::parse(text)) {
            Resolved::One(one) => vec![one],
            Resolved::None => vec![],
            Resolved::Several(several) => several,
        };
        let expected: Vec<_> = expected.unwrap_or_default().into_iter().map(id).collect();
        assert_eq!(found.iter().map(|c| c.id.to_string()).collect::<Vec<_>>(), expected, "{text:?}");
    }
}
