//! What the fuzz targets share. A target is one file in `targets/`; what it holds a room of the agent to stands here.

pub mod chance;
pub mod exposition;
pub mod kernel;
pub mod page;
pub mod request;
pub mod store;
pub mod terminal;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::OnceLock;

/// Writes the page of this input into the folder that `PARACHUTE_FUZZ_PAGES` names, for promtool; else does nothing.
pub(crate) fn keep(page: &[u8]) {
    static FOLDER: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    let Some(folder) = FOLDER.get_or_init(|| std::env::var_os("PARACHUTE_FUZZ_PAGES")) else { return };
    let mut hasher = DefaultHasher::new();
    page.hash(&mut hasher);
    std::fs::write(Path::new(folder).join(format!("{:016x}", hasher.finish())), page)
        .expect("the folder can be written");
}
