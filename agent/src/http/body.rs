//! Reading a request's body within bounds.

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt as _};
use warp::http::StatusCode;

/// A run request is some hundred bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// Of a body that is too large, so much more is read and thrown away: closing on unread bytes resets the connection,
/// and the client would not see why. Clients announce larger ones (curl: `Expect`) and wait for the refusal.
pub(super) const MAX_DRAIN: usize = 1024 * 1024;

/// The whole body of at most `most` bytes, or the status and the reason to refuse it with.
pub(super) async fn read(
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    most: usize,
) -> Result<Bytes, (StatusCode, String)> {
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        let mut chunk =
            chunk.map_err(|error| (StatusCode::BAD_REQUEST, format!("body cannot be read: {error}")))?;
        length += chunk.remaining();
        if length > most + MAX_DRAIN {
            break;
        }
        if length <= most {
            bytes.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
        }
    }
    if length > most {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, too_large(most)));
    }
    Ok(bytes.into())
}

pub(super) fn too_large(most: usize) -> String {
    format!("body is larger than {most} bytes")
}
