//! Compressing a scrape for clients that ask for it, as Prometheus does.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use warp::http::header::{ACCEPT_ENCODING, HeaderMap};

/// The fastest level: a scrape crosses the network once, and its text is repetitive enough for any level.
pub(super) fn compress(text: &str) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

/// True if some `Accept-Encoding` names gzip and does not weigh it with zero.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        named && weight.is_ok_and(|weight| weight > 0.0)
    })
}
