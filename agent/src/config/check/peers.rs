//! The section `peers:`.

use std::path::PathBuf;
use std::time::Duration;

use super::Checker;
use crate::config::peers::{Peers, Service};
use crate::config::raw::peers::{RawPeers, RawScheme};
use crate::config::yaml::at::{At, Tried};

impl Checker<'_> {
    pub(super) fn peers(&self, raw: Option<&At<RawPeers>>) -> Option<Peers> {
        let At { place, value: raw } = raw?;
        let service = raw.service.get().and_then(|at| self.found.ok(&at.place, Service::parse(&at.value)));
        let token_file = raw.token_file.get().and_then(|at| self.absolute(at));
        let ca = raw.ca_file.as_ref().and_then(Tried::get);
        let scheme = raw.scheme.as_ref().map(|scheme| scheme.get().map(|at| at.value));
        let plain = scheme == Some(Some(RawScheme::Http));
        match ca {
            Some(ca) if plain => {
                self.found.add(&ca.place, "is for scheme: https; remove one of the two");
            }
            // One that is there and wrong has its own message.
            None if !plain && raw.ca_file.is_none() && scheme != Some(None) => {
                let message = "https needs a ca_file, the authority of the other agents' certificates; name it, or write \
                               scheme: http where nobody else can listen";
                self.found.add(place, message);
            }
            _ => {}
        }
        let ca_file = ca.and_then(|ca| self.absolute(ca));
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        let timeout = self.duration(raw.timeout.as_ref(), Duration::from_secs(3), shortest..=longest);
        let (shortest, longest) = (Duration::from_secs(1), Duration::from_mins(10));
        let give_up_after =
            self.duration(raw.give_up_after.as_ref(), Duration::from_mins(1), shortest..=longest);
        let max_peers = self.count(raw.max_peers.as_ref(), 1000, 1..=4000);
        let queue = self.count(raw.queue.as_ref(), 1000, 1..=100_000);
        Some(Peers {
            service: service?,
            token_file: token_file?,
            ca_file,
            timeout,
            give_up_after,
            max_peers,
            queue,
        })
    }

    fn absolute(&self, raw: &At<String>) -> Option<PathBuf> {
        let path = raw.value.starts_with('/').then(|| PathBuf::from(&raw.value));
        let wrong = || format!("{:?} is not an absolute path; write the file's full path", raw.value);
        self.found.ok(&raw.place, path.ok_or_else(wrong))
    }
}
