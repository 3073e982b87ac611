//! Captures on their way to the object store, where the configuration names one.

use std::path::PathBuf;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{App, upload_counters};
use crate::config::node_name;
use crate::upload::{self, Destination, Start, StoreError};

/// Begins to copy what is in `folder` and what is kept from now on. Settings in the environment that cannot be right end the
/// agent's start; a store that is not there does not.
pub(super) fn start(
    app: &App,
    folder: Option<PathBuf>,
    stop: CancellationToken,
) -> Result<Option<JoinHandle<()>>, StoreError> {
    let (Some(folder), Some(store)) = (folder, &app.config.load().store) else { return Ok(None) };
    let destination = Destination::open(store, &node_name(), std::env::vars_os())?;
    let counters = upload_counters(&app.metrics);
    let (uploads, task) = upload::start(Start { folder, destination, counters, stop });
    app.captures.on_kept(move |id| uploads.kept(id));
    Ok(Some(task))
}
