//! The body of `POST /api/v1/run`: what may come in names a probe and a container, and nothing else.

use parachute::http::RunAsk;
use parachute::triggers::{MIN_ID, Target};

pub fn body(input: &[u8]) {
    let Ok(ask) = RunAsk::parse(input) else { return };
    let text = std::str::from_utf8(input).expect("JSON is UTF-8");
    assert!(text.trim_start().starts_with('{') && text.contains("target"), "{text}");
    assert_ne!(ask.target, Target::default());
    assert!(ask.target.id.is_none_or(|id| id.len() >= MIN_ID));
    // What a person writes for a target is never refused, and never names an id by itself.
    assert!(Target::parse(&ask.probe).id.is_none());
}
