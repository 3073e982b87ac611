//! Pure: a webhook's body becomes alerts. Alertmanager's payload of version 4 and Grafana's, which is made like it.
//! Unknown fields are passed over, for new ones keep coming; everything that is kept has a bound. Alertmanager: its
//! `docs/configuration.md`, `<webhook_config>`. Grafana: "Configure webhook notifications".

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::Alert;

/// Bytes of a body. With `max_alerts: 0`, Alertmanager's default, a group is sent whole: some thousand alerts are 4 MiB.
pub const MAX_BODY: usize = 4 << 20;
/// Alerts of one webhook that are handled.
pub(super) const MAX_ALERTS: usize = 1000;
/// Labels of one alert, and bytes of their names and values together. An alert with more is not handled: without the label
/// that was cut, it could lead to more containers.
pub(super) const MAX_LABELS: usize = 100;
pub(super) const MAX_LABEL_BYTES: usize = 16 << 10;
/// Objects and lists in one another; Alertmanager's payload has 4.
const MAX_DEPTH: usize = 64;
/// Of the reason of a refusal, which quotes the body.
const MAX_REASON: usize = 400;
/// Of texts that name something; what is longer is replaced by its digest.
const MAX_NAME: usize = 1024;
/// Of a time. RFC 9557 lets notes of any length follow one, and their digest would be no time for a peer.
const MAX_TIME: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Firing,
    Resolved,
}

impl Status {
    pub const ALL: [Self; 2] = [Self::Firing, Self::Resolved];

    /// The word used in labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// What a body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Webhook {
    /// Name of the receiver in the sender's configuration.
    pub(super) receiver: String,
    pub(super) alerts: Vec<Told>,
    /// Alerts beyond [`MAX_ALERTS`].
    pub(super) left_out: usize,
    /// Alerts that the sender itself has left out, by its `max_alerts`.
    pub(super) truncated: u64,
}

/// One alert of a webhook's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: Status,
    pub(super) alert: Arc<Alert>,
    /// Its labels go beyond the bounds, and are not all there.
    pub(super) too_large: bool,
}

/// Names an alert or a run's place in the sets that must not grow.
pub(super) type Key = [u8; 16];

/// A digest that no two different lists of texts share.
pub(super) fn key<'a>(texts: impl IntoIterator<Item = &'a str>) -> Key {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    let mut key = Key::default();
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

impl Told {
    /// The same for every delivery of one firing or resolution: from the pair's other half, and from another try.
    pub(super) fn key(&self) -> Key {
        let Alert { group_key, fingerprint, starts_at, .. } = &*self.alert;
        key([group_key.as_str(), fingerprint, starts_at, self.status.as_str()])
    }

    /// The same for an alert's firing and its resolution, in whatever group.
    pub(super) fn occasion(alert: &Alert) -> Key {
        key([alert.fingerprint.as_str(), &alert.starts_at])
    }
}

/// Reads a body; the error says what is wrong and where.
pub(super) fn read(body: &[u8]) -> Result<Webhook, String> {
    let text = std::str::from_utf8(body)
        .map_err(|error| format!("body is not UTF-8 at byte {}", error.valid_up_to()))?;
    if let Some(at) = too_deep(text) {
        return Err(format!("body is not an alert: nested deeper than {MAX_DEPTH} levels at byte {at}"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let raw: Result<Object<RawWebhook>, _> = serde_path_to_error::deserialize(&mut json);
    let wrong = |reason: String| format!("body is not an alert: {}", shortened(&reason, MAX_REASON));
    let raw = raw.map_err(|error| match error.path().iter().next() {
        Some(_) => wrong(format!("{}: {}", error.path(), error.inner())),
        None => wrong(error.inner().to_string()),
    })?;
    json.end().map_err(|error| wrong(error.to_string()))?;
    let RawWebhook { version: Version, group_key, receiver, status, truncated_alerts, alerts } = raw.0;
    let group_key = named(group_key.unwrap_or_default());
    let mut told = Vec::with_capacity(alerts.read.len());
    for (place, Object(raw)) in alerts.read.into_iter().enumerate() {
        let status =
            raw.status.or(status).ok_or_else(|| wrong(format!("alerts[{place}]: missing field `status`")))?;
        if raw.starts_at.len() > MAX_TIME || raw.starts_at.parse::<jiff::Timestamp>().is_err() {
            return Err(wrong(format!(
                "alerts[{place}].startsAt: {:?} is not a time such as 2026-01-02T03:04:05Z",
                shortened(&raw.starts_at, 60)
            )));
        }
        let Labels { map, too_large } = raw.labels;
        // A sender that gives no fingerprint is still known again by the labels, which is what a fingerprint is of.
        let fingerprint = match raw.fingerprint.filter(|given| !given.is_empty()) {
            Some(given) => named(given),
            None => hex(&key(map.iter().flat_map(|(name, value)| [name.as_str(), value]))),
        };
        let group_key = raw.group_key.map_or_else(|| group_key.clone(), named);
        let alert = Alert { labels: map, fingerprint, group_key, starts_at: raw.starts_at };
        told.push(Told { status, alert: Arc::new(alert), too_large });
    }
    Ok(Webhook {
        receiver: named(receiver.unwrap_or_default()),
        alerts: told,
        left_out: alerts.left_out,
        truncated: truncated_alerts.unwrap_or_default(),
    })
}

/// At most `most` characters of it.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn named(text: String) -> String {
    if text.len() <= MAX_NAME { text } else { format!("sha256:{}", hex(&key([text.as_str()]))) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where it is nested too deeply, if it is. What is passed over is read without a bound on its depth otherwise.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(at);
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawWebhook {
    version: Version,
    #[serde(default)]
    group_key: Option<String>,
    #[serde(default)]
    receiver: Option<String>,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    truncated_alerts: Option<u64>,
    alerts: Alerts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAlert {
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    labels: Labels,
    starts_at: String,
    #[serde(default)]
    fingerprint: Option<String>,
    /// Of its own where an agent passes on alerts of several groups together.
    #[serde(default)]
    group_key: Option<String>,
}

/// "4" is Alertmanager's, "1" is Grafana's.
struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "4" | "1" => Ok(Self),
            other => Err(D::Error::custom(format!(
                "{:?} is not known; Alertmanager's webhooks have \"4\" and Grafana's \"1\"",
                shortened(other, 60)
            ))),
        }
    }
}

/// An object and nothing else: serde takes a list for a struct, by the order of its fields.
struct Object<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for Only<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Only(PhantomData))
    }
}

/// The first of the alerts, and how many there are besides.
struct Alerts {
    read: Vec<Object<RawAlert>>,
    left_out: usize,
}

impl<'de> Deserialize<'de> for Alerts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;

        impl<'de> Visitor<'de> for First {
            type Value = Alerts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of alerts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Alerts, A::Error> {
                let mut alerts = Alerts { read: Vec::new(), left_out: 0 };
                while alerts.read.len() < MAX_ALERTS {
                    let Some(alert) = seq.next_element()? else { return Ok(alerts) };
                    alerts.read.push(alert);
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    alerts.left_out += 1;
                }
                Ok(alerts)
            }
        }

        deserializer.deserialize_seq(First)
    }
}

/// An alert's labels within the bounds.
#[derive(Default)]
struct Labels {
    map: BTreeMap<String, String>,
    too_large: bool,
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;

        impl<'de> Visitor<'de> for Bounded {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let (mut labels, mut bytes) = (Labels::default(), 0);
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    bytes += name.len() + value.len();
                    labels.too_large |= labels.map.len() >= MAX_LABELS || bytes > MAX_LABEL_BYTES;
                    if !labels.too_large {
                        labels.map.insert(name, value);
                    }
                }
                Ok(labels)
            }
        }

        deserializer.deserialize_map(Bounded)
    }
}
