//! The section `captures:`, and a probe's `keep`.

use std::time::Duration;

use super::Checker;
use crate::config::raw::captures::{RawCaptures, RawKeep};
use crate::config::{Captures, Keep, Store};

/// In bytes. Less would not hold the output of one run.
const SMALLEST: u64 = 1 << 20;
const LARGEST: u64 = 16 << 40;
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

impl Checker<'_> {
    pub(super) fn captures(&self, raw: Option<&RawCaptures>) -> Captures {
        let usual = Captures::default();
        let Some(raw) = raw else { return usual };
        let max_size =
            self.size_within(raw.max_size.as_ref(), usual.max_size, SMALLEST..=LARGEST, "1MiB to 16TiB");
        let shortest = Duration::from_mins(1);
        let max_age = self.duration(raw.max_age.as_ref(), usual.max_age, shortest..=LONGEST);
        let failures_max_age = self.duration(
            raw.failures_max_age.as_ref(),
            usual.failures_max_age.max(max_age),
            max_age..=LONGEST,
        );
        Captures { max_size, max_age, failures_max_age }
    }
}

impl Checker<'_> {
    pub(super) fn store(&self, raw: Option<&RawCaptures>) -> Option<Store> {
        let raw = raw?.store.as_ref()?.get()?;
        let store = Store::parse(&raw.value).and_then(|store| {
            if cfg!(feature = "object-store") {
                return Ok(store);
            }
            Err("this build cannot reach an object store; take one made by \
                 cargo build --release --features object-store, or leave `store` out"
                .into())
        });
        self.found.ok(&raw.place, store)
    }
}

impl From<RawKeep> for Keep {
    fn from(raw: RawKeep) -> Self {
        match raw {
            RawKeep::Always => Self::Always,
            RawKeep::OnFailure => Self::OnFailure,
            RawKeep::Never => Self::Never,
        }
    }
}
