//! The object store itself: made from the configuration's address and the environment's settings, what captures are called in
//! it, and what its errors come to.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpError;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use crate::config::{Store, StoreKind};
use crate::model::RunId;

/// Of one request, the part that it sends included; `AWS_TIMEOUT` and the like do not set it.
const REQUEST: &str = "60s";
const CONNECT: &str = "5s";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the object store of `captures` cannot be used as the environment sets it ({hint}): {source}")]
    Settings { hint: &'static str, source: object_store::Error },
    #[error("`captures.store` is no prefix of an object's name: {0}")]
    Prefix(#[from] object_store::path::Error),
}

/// Where captures go; cheap to clone.
#[derive(Clone)]
pub struct Destination {
    store: Arc<dyn ObjectStore>,
    /// The store's prefix and the node.
    prefix: Path,
    /// For people.
    name: Arc<str>,
}

impl fmt::Debug for Destination {
    /// Not the store itself: it holds credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({})", self.name)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Destination {
    /// Makes the client; asks nothing of the store. `environment` has the settings by the names that the clouds' own tools use,
    /// such as `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`
    /// (<https://docs.rs/object_store/0.14/object_store/>: `AmazonS3ConfigKey`, `GoogleConfigKey`, `AzureConfigKey`).
    pub fn open(
        store: &Store,
        node: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, StoreError> {
        // ring is the only one in this build; an error says that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let texts = environment.into_iter().filter_map(|(key, value)| {
            Some((key.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?))
        });
        let url = store.bucket.as_str();
        let (made, hint) = match store.kind {
            StoreKind::S3 => {
                let base = AmazonS3Builder::new().with_url(url).with_retry(retry());
                let set = settings("aws_", texts).fold(base, |b, (key, value)| b.with_config(key, value));
                (set.build().map(shared), "AWS_…; an endpoint without TLS needs AWS_ALLOW_HTTP=true")
            }
            StoreKind::Gcs => {
                let base = GoogleCloudStorageBuilder::new().with_url(url).with_retry(retry());
                let set = settings("google_", texts).fold(base, |b, (key, value)| b.with_config(key, value));
                (set.build().map(shared), "GOOGLE_…")
            }
            StoreKind::Azure => {
                let base = MicrosoftAzureBuilder::new().with_url(url).with_retry(retry());
                let set = settings("azure_", texts).fold(base, |b, (key, value)| b.with_config(key, value));
                (set.build().map(shared), "AZURE_…")
            }
        };
        let store_made = made.map_err(|source| StoreError::Settings { hint, source })?;
        let name = if store.prefix.is_empty() { url.into() } else { format!("{url}/{}", store.prefix) };
        let node = if node.is_empty() { "unknown" } else { node };
        Ok(Self { store: store_made, prefix: Path::parse(&store.prefix)?.join(node), name: name.into() })
    }

    pub(super) fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    /// `PREFIX/NODE/RUN/FILE`: two nodes never write to one place.
    pub(super) fn object(&self, id: &RunId, file: &str) -> Path {
        self.prefix.clone().join(id.as_str()).join(file)
    }
}

fn shared(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

/// Settings of one cloud, and the deadlines of requests.
fn settings<K: FromStr>(
    prefix: &'static str,
    texts: impl Iterator<Item = (String, String)>,
) -> impl Iterator<Item = (K, String)> {
    let own =
        [("timeout", REQUEST), ("connect_timeout", CONNECT)].map(|(key, value)| (key.into(), value.into()));
    let named = texts.filter(move |(key, _): &(String, String)| key.starts_with(prefix));
    named.chain(own).filter_map(|(key, value)| Some((key.parse().ok()?, value)))
}

/// Of one request, such as that for one part: what is down for longer is for [`super`]'s own pauses.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 2, retry_timeout: Duration::from_mins(2) }
}

/// What an error comes to, one of [`super::REASONS`].
pub(super) fn reason(error: &object_store::Error) -> &'static str {
    use object_store::Error;
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => return "refused",
        Error::NotFound { .. } => return "no_bucket",
        _ => {}
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<HttpError>() {
            return "unreachable";
        }
        cause = error.source();
    }
    "answered_error"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(kind: StoreKind, bucket: &str) -> Store {
        Store { kind, bucket: bucket.into(), prefix: "some/where".into() }
    }

    fn open(store: &Store, node: &str, environment: &[(&str, &str)]) -> Result<Destination, StoreError> {
        Destination::open(store, node, environment.iter().map(|(key, value)| (key.into(), value.into())))
    }

    #[test]
    fn each_cloud_is_opened_by_its_own_settings() {
        let s3 = store(StoreKind::S3, "s3://bucket");
        open(&s3, "node-1", &[]).unwrap();
        // A key of the form that the emulator has, which is public.
        let key = [("AZURE_STORAGE_ACCOUNT_NAME", "account"), ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")];
        open(&store(StoreKind::Azure, "az://container"), "node-1", &key).unwrap();
        assert!(open(&store(StoreKind::Azure, "az://container"), "node-1", &[]).is_err());
        open(&store(StoreKind::Gcs, "gs://bucket"), "node-1", &[("GOOGLE_SKIP_SIGNATURE", "true")]).unwrap();
        let missing = [("GOOGLE_SERVICE_ACCOUNT", "/nowhere/key.json")];
        let said = open(&store(StoreKind::Gcs, "gs://bucket"), "node-1", &missing).unwrap_err().to_string();
        assert!(said.contains("GOOGLE_"), "{said}");
    }

    #[test]
    fn a_node_cannot_name_its_way_to_anothers_captures() {
        let id = RunId::parse("20261126T030412.123Z-4f1c9a02").unwrap();
        for (node, expected) in
            [("node-1", "node-1"), ("a/../b", "a%2F..%2Fb"), ("..", "%2E%2E"), ("", "unknown")]
        {
            let to = open(&store(StoreKind::S3, "s3://bucket"), node, &[]).unwrap();
            let object = to.object(&id, "record.json");
            assert_eq!(object.as_ref(), format!("some/where/{expected}/{id}/record.json"));
        }
    }

    #[test]
    fn a_bucket_that_is_not_there_is_told_from_a_store_that_answers_otherwise() {
        let missing =
            object_store::Error::NotFound { path: "some/where".into(), source: "NoSuchBucket".into() };
        assert_eq!(reason(&missing), "no_bucket");
        let full = object_store::Error::Generic { store: "S3", source: "507".into() };
        assert_eq!(reason(&full), "answered_error");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let to = open(
            &store(StoreKind::S3, "s3://bucket"),
            "n",
            &[("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "hushhush")],
        )
        .unwrap();
        assert!(!format!("{to:?} {to}").contains("hushhush"));
    }
}
