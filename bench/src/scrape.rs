//! What a scrape costs on a node of 1,000 containers with 30 series each, over real HTTP, beside a server that does nothing but
//! send the same bytes from memory.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};

use crate::Bench;
use crate::crowded::{Crowded, SERIES};
use crate::row::{Figure, Row, Target, Times, shown};

/// What grows with their square would make a series of the last step 2.8 times as dear as one of the first; at least that is off by
/// more than twice.
const SIZES: [usize; 3] = [100, 400, MANY];
const MANY: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let rounds = bench.rounds(300);
    let mut node = Crowded::start(bench).await?;
    let mut all = Vec::new();
    for size in SIZES {
        node.grow_to(size).await?;
        all.push(of_each(&node, rounds)?);
    }
    let [few, some, many] = <[Both; 3]>::try_from(all).map_err(|_| anyhow!("three sizes"))?;
    let containers = format!("{MANY} containers × {SERIES} series: `/metrics`");
    let row = |what: String, measured: &Measured| Row {
        what,
        measured: format!("{}, {:.2} MB", measured.agent.shown(), measured.bytes as f64 / 1e6),
        beside: format!("the same bytes from memory: {}", measured.bare.shown()),
        value: measured.agent.median().as_secs_f64() * 1000.0,
        figure: Figure::Time("ms"),
        target: Target::AtMost(15.0),
    };
    let times = [&few, &some, &many].map(|both| both.plain.agent.median());
    let added = |from: usize, to: usize| {
        let series = (SIZES[to] - SIZES[from]) * SERIES;
        (times[to].as_secs_f64() - times[from].as_secs_f64()) * 1e9 / series as f64
    };
    let (first, next) = (added(0, 1), added(1, 2));
    ensure!(first > 0.0, "a scrape of {} containers took no longer than one of {}", SIZES[1], SIZES[0]);
    let [few, some, many_series] = SIZES.map(|containers| containers * SERIES);
    Ok(vec![
        row(containers.clone(), &many.plain),
        row(format!("{containers}, gzip"), &many.zipped),
        Row {
            what: "cost of one more series in a scrape of many, against one more in a scrape of few"
                .to_owned(),
            measured: format!("{next:.0} ns each from {some} to {many_series}, {} in all", shown(times[2])),
            beside: format!(
                "{first:.0} ns each from {few} to {some}, {} and {} in all",
                shown(times[0]),
                shown(times[1])
            ),
            value: next / first,
            figure: Figure::Ratio,
            target: Target::AtMost(1.2),
        },
    ])
}

struct Both {
    plain: Measured,
    zipped: Measured,
}

#[derive(Default)]
struct Measured {
    agent: Times,
    bare: Times,
    bytes: usize,
}

fn of_each(node: &Crowded, rounds: usize) -> anyhow::Result<Both> {
    let address = node.agent.address();
    let mut both = Both { plain: Measured::default(), zipped: Measured::default() };
    let mut buffer = Vec::new();
    let mut bare = Vec::new();
    for zip in [false, true] {
        scrape(address, zip, &mut buffer)?;
        bare.push(serve(buffer.clone())?);
    }
    for _ in 0..rounds {
        for (zip, measured, bare) in [(false, &mut both.plain, bare[0]), (true, &mut both.zipped, bare[1])] {
            measured.agent.0.push(scrape(address, zip, &mut buffer)?);
            measured.bytes = buffer.len();
            measured.bare.0.push(scrape(bare, zip, &mut buffer)?);
        }
    }
    Ok(both)
}

/// From before the connection to the last byte.
fn scrape(address: SocketAddr, zip: bool, into: &mut Vec<u8>) -> anyhow::Result<Duration> {
    into.clear();
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let coding = if zip { "Accept-Encoding: gzip\r\n" } else { "" };
    // In one piece, as the server that does nothing reads only once.
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n{coding}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    stream.read_to_end(into)?;
    let took = begun.elapsed();
    ensure!(
        into.starts_with(b"HTTP/1.1 200"),
        "not a scrape: {}",
        String::from_utf8_lossy(&into[..into.len().min(200)])
    );
    Ok(took)
}

/// Answers every connection with the same bytes, as long as this program runs.
fn serve(answer: Vec<u8>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            // A client that has gone is the next one's matter.
            let _ = stream.read(&mut request).and_then(|_| stream.write_all(&answer));
        }
    });
    Ok(address)
}
