//! `POST /api/v1/run`: what may be asked, how it is read, and which status each refusal is. Nothing in a request
//! can choose a command, only the name of a configured probe.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use warp::http::StatusCode;

use crate::model::Container;

/// A request's body.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunAsk {
    pub probe: String,
    pub target: Target,
}

/// Which container; the fields given must all fit, and at least one must be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    pub namespace: Option<String>,
    pub pod: Option<String>,
    pub container: Option<String>,
    /// The beginning of the runtime's container id.
    pub id: Option<String>,
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
    /// Names of the containers that fit, for people.
    #[error("the target fits {} containers; name one of: {}", .0.len(), .0.join(", "))]
    Ambiguous(Vec<String>),
    #[error("too many runs wait already; try again in {} s", .retry_after.as_secs())]
    Full { retry_after: Duration },
    #[error("{0}")]
    Unavailable(String),
}

impl RunRefusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::UnknownProbe(_) | Self::NotByRequest(_) | Self::NoContainer => StatusCode::NOT_FOUND,
            Self::Ambiguous(_) => StatusCode::CONFLICT,
            Self::Full { .. } | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
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

impl Target {
    /// The one container that fits. Sandboxes are left out unless asked for by id: they share their pod's name, and
    /// nobody who names a pod means them.
    pub fn find(&self, containers: &[Arc<Container>]) -> Result<Arc<Container>, RunRefusal> {
        let fits =
            |wanted: &Option<String>, have: &str| wanted.as_deref().is_none_or(|wanted| wanted == have);
        let mut found: Vec<&Arc<Container>> = containers
            .iter()
            .filter(|container| {
                let labels = container.labels();
                fits(&self.namespace, &labels.namespace)
                    && fits(&self.pod, &labels.pod)
                    && fits(&self.container, &labels.container)
                    && self.id.as_deref().is_none_or(|id| container.id.as_str().starts_with(id))
                    && (self.id.is_some() || !container.is_sandbox())
            })
            .collect();
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(Arc::clone(one)),
            (None, _) => Err(RunRefusal::NoContainer),
            (Some(last), false) => {
                found.push(last);
                Err(RunRefusal::Ambiguous(found.into_iter().map(|one| name(one)).collect()))
            }
        }
    }
}

/// `NAMESPACE/POD/CONTAINER (short id)`.
fn name(container: &Container) -> String {
    let labels = container.labels();
    let id: String = container.id.as_str().chars().take(12).collect();
    format!("{}/{}/{} ({id})", labels.namespace, labels.pod, labels.container)
}

/// Reads a body; the error says what is wrong and where.
pub(super) fn parse(body: &[u8]) -> Result<RunAsk, String> {
    let ask: RunAsk =
        serde_json::from_slice(body).map_err(|error| format!("body is not a run request: {error}"))?;
    if ask.target == Target::default() {
        return Err("body is not a run request: target names neither namespace, pod, container nor id".into());
    }
    if ask.target.id.as_deref().is_some_and(|id| id.len() < 4) {
        return Err("body is not a run request: target.id needs at least 4 characters".into());
    }
    Ok(ask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::promtool::{container, named};
    use crate::model::Metadata;

    #[test]
    fn bodies_are_read_strictly() {
        let ask = parse(br#"{"probe":"ss","target":{"pod":"p"}}"#).unwrap();
        assert_eq!((ask.probe.as_str(), ask.target.pod.as_deref()), ("ss", Some("p")));
        for (body, wrong) in [
            ("", "EOF"),
            ("[]", "invalid length"),
            (r#"{"probe":"ss"}"#, "missing field `target`"),
            (r#"{"target":{"pod":"p"}}"#, "missing field `probe`"),
            (r#"{"probe":"ss","target":{}}"#, "names neither"),
            (r#"{"probe":"ss","target":{"id":""}}"#, "at least 4"),
            (r#"{"probe":"ss","target":{"pod":"p"},"command":["rm"]}"#, "unknown field `command`"),
            (r#"{"probe":"ss","target":{"pod":"p","uid":"1"}}"#, "unknown field `uid`"),
            (r#"{"probe":["ss"],"target":{"pod":"p"}}"#, "invalid type"),
            (r#"{"probe":"ss","probe":"x","target":{"pod":"p"}}"#, "duplicate field"),
            (r#"{"probe":"ss","target":{"pod":"p"}} x"#, "trailing characters"),
        ] {
            let error = parse(body.as_bytes()).unwrap_err();
            assert!(error.contains(wrong), "{body}: {error}");
        }
    }

    #[test]
    fn a_target_finds_one_container_or_says_why_not() {
        let sandbox = Metadata { sandbox: true, ..named("shop", "cart-0", "").unwrap() };
        let all = [
            container("a", named("shop", "cart-0", "cart")),
            container("b", named("shop", "cart-0", "proxy")),
            container("c", named("shop", "cart-1", "cart")),
            container("d", Some(sandbox)),
        ];
        let find = |namespace: &str, pod: &str, container: &str, id: &str| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let target = Target {
                namespace: given(namespace),
                pod: given(pod),
                container: given(container),
                id: given(id),
            };
            target.find(&all).map(|found| found.id.as_str()[..1].to_owned())
        };
        assert_eq!(find("shop", "cart-0", "proxy", ""), Ok("b".into()));
        assert_eq!(find("", "cart-1", "", ""), Ok("c".into()));
        assert_eq!(find("", "", "", "dddd"), Ok("d".into()));
        assert_eq!(find("other", "", "", ""), Err(RunRefusal::NoContainer));
        let Err(RunRefusal::Ambiguous(names)) = find("", "cart-0", "", "") else {
            panic!("must be ambiguous")
        };
        assert_eq!(names, ["shop/cart-0/cart (aaaaaaaaaaaa)", "shop/cart-0/proxy (bbbbbbbbbbbb)"]);
    }
}
