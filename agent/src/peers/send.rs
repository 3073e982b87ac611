//! One request to one peer, on a connection of its own. Nothing is followed and nothing is believed: a redirection is a
//! refusal, so that the token goes nowhere but to the addresses behind the service, and over TLS to none that cannot show
//! the service's name.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use http_body::Body as _;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::counts::Failure;
use super::secrets::Secrets;
use crate::config::Service;
use crate::model::{FORWARDED_BY, INSTANCE, Instance, Parcel};

/// Of an answer's body: a word for each alert of the parcel is some kilobytes.
const MAX_ANSWER: usize = 64 << 10;
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// What an alert came to where no container of the node is meant by it.
const NOT_THERE: [&str; 6] =
    ["not_here", "no_container", "no_trigger", "nothing", "too_large", "too_many_alerts"];

/// What a peer has said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It was this agent itself.
    Itself,
    /// Which of the alerts mean a container of it.
    Took(Vec<bool>),
}

/// What every request of a round has in common.
pub(super) struct Round<'a> {
    pub(super) service: &'a Service,
    pub(super) secrets: &'a Secrets,
    pub(super) own: &'a Instance,
    pub(super) parcel: &'a Parcel,
}

impl Round<'_> {
    /// Without a deadline of its own.
    pub(super) async fn ask(&self, peer: SocketAddr) -> Result<Said, Failure> {
        let stream =
            TcpStream::connect(peer).await.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let Some(tls) = &self.secrets.tls else { return self.exchange(stream).await };
        let name = ServerName::try_from(self.service.host.trim_end_matches('.').to_owned())
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        self.exchange(stream.map_err(|error| Failure::Unreachable(format!("TLS: {error}")))?).await
    }

    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<Said, Failure> {
        let broken = |error: hyper::Error| Failure::Unreachable(error.to_string());
        let mut client = http1::Builder::new();
        client.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
        let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::post("/api/v1/alerts")
            .header(HOST, self.host())
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, &self.secrets.authorization)
            .header(FORWARDED_BY, self.own.as_str())
            .body(self.parcel.body.to_string())
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        let answer = async {
            let mut answer = sender.send_request(request).await.map_err(broken)?;
            let (status, from) = (answer.status(), instance(answer.headers()));
            let mut body = Vec::new();
            while let Some(frame) = poll_fn(|context| pin!(answer.body_mut()).poll_frame(context)).await {
                if let Ok(data) = frame.map_err(broken)?.into_data() {
                    body.extend_from_slice(&data);
                }
                if body.len() > MAX_ANSWER {
                    return Err(Failure::Refused("its answer is too long".to_owned()));
                }
            }
            self.read(status, from.as_deref(), &body)
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

    fn host(&self) -> String {
        let Service { host, port } = self.service;
        let host = host.trim_end_matches('.');
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn read(&self, status: StatusCode, from: Option<&str>, body: &[u8]) -> Result<Said, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            results: Vec<String>,
        }

        match status {
            StatusCode::OK | StatusCode::ACCEPTED => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Failure::Unauthorized(format!("it answers {status}")));
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failure::Unavailable(format!("it answers {status}")));
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(Failure::Spoiled(format!("it answers {status}")));
            }
            _ if status.is_server_error() => {
                return Err(Failure::Unavailable(format!("it answers {status}")));
            }
            _ => return Err(Failure::Refused(format!("it answers {status}"))),
        }
        let Some(from) = from else {
            return Err(Failure::Refused("it is no agent that takes alerts from others".to_owned()));
        };
        if from == self.own.as_str() {
            return Ok(Said::Itself);
        }
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|_| Failure::Refused("its answer cannot be understood".to_owned()))?;
        let took = |result: &String| !NOT_THERE.contains(&result.as_str());
        Ok(Said::Took(answer.results.iter().take(self.parcel.alerts).map(took).collect()))
    }
}

fn instance(headers: &HeaderMap) -> Option<String> {
    headers.get(INSTANCE)?.to_str().ok().map(str::to_owned)
}
