//! A hundred thousand captures.

use super::*;

const MANY: u32 = 100_000;

#[tokio::test]
async fn a_hundred_thousand_are_listed_in_order_and_in_little_memory() {
    let disk = disks::Mounted::tmpfs("size=1g,nr_inodes=0,mode=700");
    let path = disk.path();
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let id = |number: u32| {
        RunId::parse(&format!("202611{:02}T{:06}.000Z-{number:08x}", number / 10_000 + 1, number % 10_000))
            .unwrap()
    };
    let mut one = record(&at(1), Outcome::Ok);
    one.complete([record::Observed::default().part(0), record::Observed::default().part(0)]);
    for number in 0..MANY {
        // As in a cluster: many pods, of which each has some captures.
        one.id = id(number);
        one.container.pod = format!("cart-{}-{:05x}", number % 7, number / 20);
        let place = path.join(one.id.as_str());
        fs::create_dir(&place).unwrap();
        fs::write(place.join("record.json"), serde_json::to_vec(&one).unwrap()).unwrap();
    }
    let counters = counters();
    let bounds = config::Captures { max_size: 1 << 40, ..config::Captures::default() };
    let started = Instant::now();
    let captures = Captures::open(&path, &bounds, counters.clone());
    assert!(started.elapsed() < Duration::from_secs(5), "the start does not wait for the folder");
    tokio::time::timeout(Duration::from_mins(5), captures.loaded()).await.expect("it is read");
    assert_eq!(counters.captures.get(), i64::from(MANY));

    let (mut before, mut expected) = (None, MANY);
    loop {
        let listing = captures.list(&Filter::default(), MAX_LIMIT, before.as_ref());
        assert!(listing.complete && listing.captures.len() == MAX_LIMIT);
        for one in &listing.captures {
            expected -= 1;
            assert_eq!(one.id, id(expected));
        }
        before = listing.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(expected, 0);
    let each = captures.shared.state().index.memory() / MANY as usize;
    assert!(each < 250, "{each} bytes for each");
}
