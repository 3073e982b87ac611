//! Asking Docker or Podman over its HTTP API: one call, with a deadline and a bound on the answer, counted. What an answer
//! means is in `names`; who waits for it is none of this file's business.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use http_body::Body as _;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::Counters;
use super::cri::Described;
use super::names::{self, Told};
use crate::model::Runtime;

/// An engine that does not answer within this is asked again later.
const DEADLINE: Duration = Duration::from_secs(2);
/// A list of a thousand containers with many labels is about two megabytes.
const MAX_ANSWER: usize = 16 << 20;
const MAX_HEAD: usize = 16 << 10;

/// Where they listen for root unless told otherwise.
pub(super) const USUAL: [(Runtime, &str); 2] =
    [(Runtime::Docker, "/run/docker.sock"), (Runtime::Podman, "/run/podman/podman.sock")];

/// The call, as the label `call` has it: both APIs' own name for it.
pub(super) const CALL: &str = "ContainerList";

/// Why an engine gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error("{socket}: no answer within {} s; is it overloaded?", DEADLINE.as_secs())]
    Slow { socket: PathBuf },
    #[error("{socket}: {message}; is it the API socket of {runtime}, and does that run?")]
    Failed { socket: PathBuf, runtime: &'static str, message: String },
}

/// The socket of an engine, connected to for each call: there is one per container.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: PathBuf,
    /// Docker or Podman.
    pub(super) runtime: Runtime,
}

/// What both APIs have of a container in a list, and what Podman's own adds to it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    /// Podman's: the pod's id and name, and whether this is its infra container.
    pod: Option<String>,
    pod_name: Option<String>,
    is_infra: Option<bool>,
}

impl Client {
    pub(super) fn new(runtime: Runtime, socket: &Path) -> Self {
        Self { socket: socket.to_owned(), runtime }
    }

    /// All that run, or the one with this id, whose start may still be under way. Sandboxes come first.
    pub(super) async fn containers(
        &self,
        id: Option<&str>,
        counters: &Counters,
    ) -> Result<Vec<Described>, EngineError> {
        let labels = [self.runtime.as_str(), CALL];
        counters.requests.with_label_values(&labels).inc();
        let answer = match tokio::time::timeout(DEADLINE, self.get(&self.path(id))).await {
            Ok(answer) => answer.and_then(|body| described(&body)).map_err(|message| EngineError::Failed {
                socket: self.socket.clone(),
                runtime: self.runtime.as_str(),
                message,
            }),
            Err(_late) => Err(EngineError::Slow { socket: self.socket.clone() }),
        };
        if answer.is_err() {
            counters.failures.with_label_values(&labels).inc();
        }
        answer
    }

    /// Docker takes a path without a version for its newest; Podman's own paths need one, and all from 4.0 on take this.
    fn path(&self, id: Option<&str>) -> String {
        let start = if self.runtime == Runtime::Podman { "/v4.0.0/libpod" } else { "" };
        // Ids are hex, so that only JSON's own signs need the escapes of a URL.
        let filter =
            id.map_or_else(String::new, |id| format!("?all=true&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D"));
        format!("{start}/containers/json{filter}")
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| error.to_string())?;
        let broken = |error: hyper::Error| error.to_string();
        let mut client = http1::Builder::new();
        client.max_buf_size(MAX_HEAD);
        let (mut sender, connection) =
            client.handshake::<_, String>(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::get(path).header(HOST, "localhost").body(String::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = async {
            let mut answer = sender.send_request(request).await.map_err(broken)?;
            if answer.status() != StatusCode::OK {
                return Err(format!("it answers {}", answer.status()));
            }
            let mut body = Vec::new();
            while let Some(frame) = poll_fn(|context| pin!(answer.body_mut()).poll_frame(context)).await {
                if let Ok(data) = frame.map_err(broken)?.into_data() {
                    body.extend_from_slice(&data);
                }
                if body.len() > MAX_ANSWER {
                    return Err(format!("its answer is longer than {} MiB", MAX_ANSWER >> 20));
                }
            }
            Ok(body)
        };
        // Its end may come before the whole answer has been taken out of it.
        let driven = async {
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            answer = answer => answer,
            never = driven => never,
        }
    }
}

fn described(body: &[u8]) -> Result<Vec<Described>, String> {
    let entries: Vec<Entry> =
        serde_json::from_slice(body).map_err(|error| format!("its answer cannot be understood: {error}"))?;
    // A pod is known by its infra container, as everywhere else by its sandbox.
    let infra: BTreeMap<String, String> = entries
        .iter()
        .filter(|entry| entry.is_infra == Some(true))
        .filter_map(|entry| Some((entry.pod.clone()?, entry.id.clone())))
        .collect();
    let mut all: Vec<Described> = entries
        .into_iter()
        .map(|entry| {
            let pod = entry.pod.as_ref().and_then(|pod| infra.get(pod)).cloned();
            let told = Told {
                name: own_name(&entry.names.unwrap_or_default()),
                image: entry.image.unwrap_or_default(),
                labels: entry.labels.unwrap_or_default(),
                pod: entry.pod_name.unwrap_or_default(),
                is_infra: entry.is_infra.unwrap_or_default(),
            };
            let (metadata, sandbox) = names::describe(told);
            Described { sandbox_id: sandbox.or(pod).unwrap_or_default(), id: entry.id, metadata }
        })
        .collect();
    all.sort_by_key(|described| !described.metadata.sandbox);
    Ok(all)
}

/// Docker lists the names that others have for it by `--link` as well, as `/other/alias`, and not behind its own.
fn own_name(names: &[String]) -> String {
    let mut bare = names.iter().map(|name| name.trim_start_matches('/'));
    bare.find(|name| !name.contains('/')).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Namespace, pod, container and the number of labels of each, as recorded; sandboxes have those that the version gives.
    fn named(text: &str) -> Vec<(String, String, String, usize)> {
        let all = described(text.as_bytes()).unwrap();
        all.into_iter()
            .map(|one| one.metadata)
            .map(|m| {
                assert_eq!(m.sandbox, m.container.is_empty());
                (m.namespace, m.pod, m.container, if m.sandbox { 0 } else { m.labels.len() })
            })
            .collect()
    }

    fn row(names: [&str; 3], labels: usize) -> (String, String, String, usize) {
        let [namespace, pod, container] = names.map(str::to_owned);
        (namespace, pod, container, labels)
    }

    /// As recorded in <https://github.com/philhawthorne/ha-dockermon/issues/33>.
    #[test]
    fn the_name_that_others_have_for_it_is_not_its_own() {
        let named = |names: &[&str]| own_name(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(named(&["/hydra2/sabnzbd", "/radarr/sabnzbd", "/sabnzbd", "/sonarr/sabnzbd"]), "sabnzbd");
        assert_eq!(
            (named(&["/web"]), named(&["web"]), named(&[])),
            ("web".into(), "web".into(), String::new())
        );
    }

    #[test]
    fn what_docker_has_answered() {
        let expected = [
            row(["shop", "cart-0", "cart"], 1),
            row(["shop", "shop-cart-1", "cart"], 3),
            row(["", "", "web"], 1),
        ];
        for text in [
            include_str!("../../../../tests/fixtures/engines/docker-20.10.json"),
            include_str!("../../../../tests/fixtures/engines/docker-26.1.json"),
            include_str!("../../../../tests/fixtures/engines/docker-28.5.json"),
        ] {
            assert_eq!(named(text), expected);
        }
    }

    #[test]
    fn what_podman_has_answered() {
        let mut expected = [
            row(["", "cart-0", ""], 0),
            row(["", "mypod", ""], 0),
            row(["", "", "volat"], 0),
            row(["", "cart-0", "cart"], 1),
            row(["", "mypod", "inpod"], 0),
            row(["shop", "plain", "cart"], 3),
        ];
        expected.sort();
        for text in [
            include_str!("../../../../tests/fixtures/engines/podman-4.3.json"),
            include_str!("../../../../tests/fixtures/engines/podman-5.4.json"),
            include_str!("../../../../tests/fixtures/engines/podman-5.8.json"),
        ] {
            let mut got = named(text);
            got.sort();
            assert_eq!(got, expected);
            let all = described(text.as_bytes()).unwrap();
            let find = |pod: &str, sandbox| {
                all.iter().find(|one| one.metadata.pod == pod && one.metadata.sandbox == sandbox).unwrap()
            };
            let (infra, member) = (find("mypod", true), find("mypod", false));
            assert_eq!(member.sandbox_id, infra.id, "a pod's containers lead to its infra container");
            assert!(all[0].metadata.sandbox && all[1].metadata.sandbox, "sandboxes come first");
        }
    }

    #[test]
    fn what_is_no_list_of_containers_is_said_to_be_none() {
        for text in ["", "{}", "[{}]", "[[[", "null", &"[".repeat(100_000)] {
            assert!(described(text.as_bytes()).is_err(), "{text:.20}");
        }
        assert_eq!(described(br#"[{"Id":"a","Names":null,"Labels":null}]"#).unwrap().len(), 1);
    }

    #[test]
    fn one_container_is_asked_for_by_its_whole_id() {
        let path = |runtime| Client::new(runtime, Path::new("/s")).path(Some("ab"));
        let filter = "?all=true&filters=%7B%22id%22%3A%5B%22ab%22%5D%7D";
        assert_eq!(path(Runtime::Docker), format!("/containers/json{filter}"));
        assert_eq!(path(Runtime::Podman), format!("/v4.0.0/libpod/containers/json{filter}"));
    }
}
