//! What the agent holds in memory with 1,000 containers and 30,000 series, after scrapes of both kinds.

use crate::Bench;
use crate::crowded::Crowded;
use crate::row::{Figure, Row, Target};

const CONTAINERS: usize = 1000;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut node = Crowded::start(bench).await?;
    let [empty, _] = node.resident()?;
    node.grow_to(CONTAINERS).await?;
    for _ in 0..bench.rounds(100) {
        node.agent.scrape().await?;
        let zip = [("Accept-Encoding", "gzip")];
        testbed::exchange(node.agent.address(), "GET", "/metrics", &zip, "").await?;
    }
    let [full, all] = node.resident()?;
    Ok(vec![Row {
        what: format!("resident memory with {CONTAINERS} containers and 30,000 series, all processes"),
        measured: format!(
            "{:.1} MB; the agent's {:.1}, which was {:.1} at most so far",
            all.now, full.now, full.most
        ),
        beside: format!("the agent with nobody: {:.1} MB", empty.now),
        value: all.now,
        figure: Figure::Size("MB"),
        target: Target::AtMost(60.0),
    }])
}
