//! stand-in
use super::{Args, What};
pub(super) fn run(_: &Args, _: &What) -> anyhow::Result<u8> {
    anyhow::bail!("not yet")
}
