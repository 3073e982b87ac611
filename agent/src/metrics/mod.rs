//! Everything that `/metrics` shows: the agent's own numbers (`agent`, from the one table in `docs`), the last
//! results of every probe in every container (`samples`, guarded by `admit`), and the text they become (`encode`).
//! Who fetches that text is the business of `http`.

pub mod admit;
pub mod agent;
pub mod docs;
pub mod encode;
mod make;
pub mod samples;

#[cfg(test)]
pub(crate) mod promtool;

pub use agent::{AgentMetrics, AlertWords, Words};
pub use make::MetricsError;
pub use samples::Samples;

/// The content type of [`render`]'s text. Prometheus 3 refuses a scrape that names none.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One whole scrape. It takes milliseconds for tens of thousands of series: call it off the async threads.
pub fn render(agent: &AgentMetrics, samples: &Samples) -> String {
    render_within(String::new(), agent, samples)
}

/// The same in the room of a text that is needed no more.
pub fn render_within(room: String, agent: &AgentMetrics, samples: &Samples) -> String {
    let mut encoder = encode::Encoder::within(room);
    let own = agent.gather();
    samples.render(&mut encoder, &own);
    encoder.finish()
}
