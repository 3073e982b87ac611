//! Parcels, and what is known of what was passed on.

use super::*;

fn told(fingerprint: &str, size: usize) -> Told {
    let alert = Alert {
        labels: [("alertname".to_owned(), "x".repeat(size))].into(),
        fingerprint: fingerprint.to_owned(),
        group_key: format!("g{fingerprint}"),
        starts_at: "2026-11-26T03:04:05Z".to_owned(),
    };
    Told { status: Status::Firing, alert: Arc::new(alert), too_large: false }
}

fn put(passes: &mut Passes, told: &Told, receiver: &str) {
    assert!(matches!(passes.put(told.key(), Pass::of(told, receiver, 5)), Some(Op::Pass(..))));
    passes.release([told.key()]);
}

#[test]
fn a_parcel_is_bounded_and_says_the_same_as_the_webhooks_did() {
    let mut passes = Passes::default();
    let small: Vec<Told> = (0..150).map(|n| told(&n.to_string(), 1)).collect();
    for told in &small {
        put(&mut passes, told, "hook");
    }
    put(&mut passes, &told("other", 1), "other");
    let large: Vec<Told> = (0..20).map(|n| told(&format!("l{n}"), 16_000)).collect();
    for told in &large {
        put(&mut passes, told, "other");
    }
    let mut sizes = Vec::new();
    while let Some((keys, parcel)) = passes.next() {
        assert!(parcel.body.len() < TOGETHER_BYTES + 1000 && keys.len() == parcel.alerts);
        let read = crate::triggers::alerts::payload::read(parcel.body.as_bytes()).unwrap();
        assert_eq!(
            read.alerts.iter().map(Told::key).collect::<Vec<_>>(),
            keys,
            "a peer knows them by the same key"
        );
        assert_eq!(read.receiver, if sizes.len() < 2 { "hook" } else { "other" });
        sizes.push(keys.len());
    }
    assert_eq!(sizes, [100, 50, 13, 8]);
    assert_eq!(passes.len(), 171, "until they are done");
}

#[test]
fn a_parcel_that_is_spoiled_is_halved_until_one_is_alone() {
    let mut passes = Passes::default();
    let all: Vec<Told> = (0..10).map(|n| told(&n.to_string(), 1)).collect();
    for told in &all {
        put(&mut passes, told, "hook");
    }
    let bad = all[6].key();
    let (mut sizes, mut done) = (Vec::new(), Vec::new());
    while let Some((keys, parcel)) = passes.next() {
        sizes.push(parcel.alerts);
        if keys.len() > 1 && keys.contains(&bad) {
            passes.take_apart(&keys);
        } else {
            done.extend(keys);
        }
    }
    assert_eq!(sizes, [10, 5, 5, 3, 2, 1, 1, 2, 1]);
    assert_eq!(done, all.iter().map(Told::key).collect::<Vec<_>>(), "each once, and in order");
}

#[test]
fn what_was_passed_on_is_known_for_a_while_and_what_failed_is_not() {
    let mut passes = Passes::default();
    let (one, two, three) = (told("1", 1), told("2", 1), told("3", 1));
    put(&mut passes, &one, "hook");
    put(&mut passes, &two, "hook");
    put(&mut passes, &three, "hook");
    let long = u64::try_from(PASSED_AGE.as_millis()).unwrap() + 6;
    assert!(passes.knows(&one.key(), long), "while it waits");
    passes.done(&one.key(), Known::Long, 6).unwrap();
    passes.done(&two.key(), Known::Not, 6).unwrap();
    assert!(passes.done(&two.key(), Known::Not, 6).is_none());
    passes.done(&three.key(), Known::Briefly, 60_000).unwrap();
    assert!(passes.knows(&one.key(), 6) && !passes.knows(&one.key(), long));
    assert!(!passes.knows(&two.key(), 6));
    assert!(passes.knows(&three.key(), 89_999) && !passes.knows(&three.key(), 90_001));
}

#[test]
fn only_what_all_have_got_is_known() {
    let three = |answered, took| Delivery { peers: 3, answered, took: vec![took], ..Delivery::default() };
    for (delivery, known) in [
        (three(3, 1), Known::Long),
        // Several nodes may be meant, and this one is not told of those that were not reached.
        (three(2, 1), Known::Not),
        (three(2, 0), Known::Not),
        (three(3, 0), Known::Briefly),
        (Delivery::failed("no name server"), Known::Not),
        (Delivery { error: Some("no name server".to_owned()), ..three(3, 1) }, Known::Not),
        (Delivery { took: vec![0], ..Delivery::default() }, Known::Not),
    ] {
        assert_eq!(Known::after(&delivery, 0), known, "{delivery:?}");
    }
}

#[test]
fn what_is_found_in_a_journal_waits_again() {
    let mut before = Passes::default();
    put(&mut before, &told("1", 1), "hook");
    let mut found = before.contents();
    found.push(([9; 16], b"{}".to_vec()));
    let mut after = Passes::default();
    assert_eq!(after.restore(found), 1, "one is broken");
    let (keys, parcel) = after.next().unwrap();
    assert_eq!((keys[0], parcel.body), (told("1", 1).key(), before.next().unwrap().1.body));
}
