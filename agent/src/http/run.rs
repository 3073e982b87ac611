//! `POST /api/v1/run`: what may be asked, how it is read, and which status each refusal is. Nothing in a request
//! can choose a command, only the name of a configured probe.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use warp::http::StatusCode;

use super::deadline::Deadline;
use super::{Asker, Backend, CONNECTION_TIMEOUT, Format, RUN_TIMEOUT};
use crate::model::RunResult;
use crate::triggers::{MIN_ID, Target};

/// What a client is told when too many wait; a slot is free again as soon as one run has ended.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request's body.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunAsk {
    pub probe: String,
    pub target: Target,
    /// Only from `parachute run`.
    #[serde(default)]
    pub by_hand: Option<ByHand>,
}

/// What root's own `parachute run` asks for besides: the probe need not be one that may be run on request, and the result is
/// for the asker alone.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByHand {
    /// SHA-256, in hexadecimal, of the configuration that is meant: the agent may have another one.
    pub config: String,
    pub output: Format,
}

impl RunAsk {
    /// Reads a body; the error says what is wrong and where.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        // Twice: serde takes an array for a struct, by the order of its fields. Such a body would mean something else
        // after a change of the struct. An object read as a map loses its duplicates, so the struct is read from the bytes.
        let wrong = |error: serde_json::Error| format!("body is not a run request: {error}");
        let object: BTreeMap<String, Value> = serde_json::from_slice(body).map_err(wrong)?;
        if object.get("target").is_some_and(|target| !target.is_object()) {
            return Err("body is not a run request: target must be an object".into());
        }
        let ask: Self = serde_json::from_slice(body).map_err(wrong)?;
        if ask.target == Target::default() {
            return Err(
                "body is not a run request: target names neither namespace, pod, container nor id".into()
            );
        }
        if ask.target.id.as_deref().is_some_and(|id| id.len() < MIN_ID) {
            return Err(format!("body is not a run request: target.id needs at least {MIN_ID} characters"));
        }
        Ok(ask)
    }
}

/// For the log, on one line.
impl fmt::Display for RunAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { namespace, pod, container, id } = &self.target;
        write!(f, "probe {:?}{} in", self.probe, if self.by_hand.is_some() { " by hand" } else { "" })?;
        let parts = [("namespace", namespace), ("pod", pod), ("container", container), ("id", id)];
        parts
            .iter()
            .try_for_each(|(name, part)| part.iter().try_for_each(|part| write!(f, " {name} {part:?}")))
    }
}

/// Why a run was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunRefusal {
    #[error("probe {0:?} is not configured")]
    UnknownProbe(String),
    #[error(
        "probe {0:?} may not be run on request: no trigger with `http: {{}}` lists it for that container"
    )]
    NotByRequest(String),
    #[error("no running container fits the target")]
    NoContainer,
    #[error("the agent's configuration is another one")]
    OtherConfig,
    #[error("by_hand is for root alone, over the agent's own socket")]
    NotRoot,
    /// Names of the containers that fit, for people.
    #[error("the target fits {} containers; name one of: {}", .0.len(), .0.join(", "))]
    Ambiguous(Vec<String>),
    #[error("too many runs wait already; try again in {} s", .retry_after.as_secs())]
    Full { retry_after: Duration },
    #[error("{0}")]
    Unavailable(String),
    #[error("the run did not end in time")]
    NoEnd,
}

impl RunRefusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::UnknownProbe(_) | Self::NotByRequest(_) | Self::NoContainer => StatusCode::NOT_FOUND,
            Self::Ambiguous(_) | Self::OtherConfig => StatusCode::CONFLICT,
            Self::NotRoot => StatusCode::FORBIDDEN,
            Self::Full { .. } | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoEnd => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Whole seconds for `Retry-After`, where trying again is worth it.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Full { retry_after } => Some(retry_after.as_secs().max(1)),
            Self::Unavailable(_) => Some(5),
            _ => None,
        }
    }
}

/// Waits for the run: in a slot of its own, and for longer than a connection is otherwise served.
pub(super) async fn wait(
    ask: RunAsk,
    backend: &dyn Backend,
    asker: &Asker,
    slots: &Semaphore,
    deadline: &Deadline,
) -> Result<RunResult, RunRefusal> {
    if ask.by_hand.is_some() && !asker.is_local_root() {
        return Err(RunRefusal::NotRoot);
    }
    let Ok(_slot) = slots.try_acquire() else {
        return Err(RunRefusal::Full { retry_after: RETRY_AFTER });
    };
    deadline.reset(RUN_TIMEOUT + CONNECTION_TIMEOUT);
    let ended = tokio::time::timeout(RUN_TIMEOUT, backend.run(ask)).await;
    deadline.reset(CONNECTION_TIMEOUT);
    ended.unwrap_or(Err(RunRefusal::NoEnd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_strictly() {
        let ask = RunAsk::parse(br#"{"probe":"ss","target":{"pod":"p"}}"#).unwrap();
        assert_eq!((ask.probe.as_str(), ask.target.pod.as_deref()), ("ss", Some("p")));
        for (body, wrong) in [
            ("", "EOF"),
            ("[]", "invalid type: sequence, expected a map"),
            (r#"["ss",{"pod":"p"}]"#, "invalid type: sequence, expected a map"),
            (r#"{"probe":"ss","target":[null,"p",null,null]}"#, "target must be an object"),
            (r#"{"probe":"ss","target":"p"}"#, "target must be an object"),
            (r#"{"probe":"ss"}"#, "missing field `target`"),
            (r#"{"target":{"pod":"p"}}"#, "missing field `probe`"),
            (r#"{"probe":"ss","target":{}}"#, "names neither"),
            (r#"{"probe":"ss","target":{"id":""}}"#, "at least 6"),
            (r#"{"probe":"ss","target":{"pod":"p"},"command":["rm"]}"#, "unknown field `command`"),
            (r#"{"probe":"ss","target":{"pod":"p","uid":"1"}}"#, "unknown field `uid`"),
            (r#"{"probe":"ss","target":{"pod":"p"},"by_hand":{}}"#, "missing field `config`"),
            (r#"{"probe":["ss"],"target":{"pod":"p"}}"#, "invalid type"),
            (r#"{"probe":"ss","probe":"x","target":{"pod":"p"}}"#, "duplicate field"),
            (r#"{"probe":"ss","target":{"pod":"p"}} x"#, "trailing characters"),
        ] {
            let error = RunAsk::parse(body.as_bytes()).unwrap_err();
            assert!(error.contains(wrong), "{body}: {error}");
        }
    }
}
