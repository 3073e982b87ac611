//! `peers:`: the other agents that alerts are passed on to.

use std::path::PathBuf;
use std::time::Duration;

/// Where the other agents are, and what they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    pub service: Service,
    /// First line: the token that their web configuration gives the role `trigger`.
    pub token_file: PathBuf,
    /// The authority of their certificates, whose name is the service's host; None for plain HTTP.
    pub ca_file: Option<PathBuf>,
    /// For one request to one peer.
    pub timeout: Duration,
    /// From an alert's first attempt on; what was not delivered by then is given up.
    pub give_up_after: Duration,
    /// Addresses behind the service that are asked; those beyond are counted.
    pub max_peers: usize,
    /// Alerts that wait to be passed on, or are on their way.
    pub queue: usize,
}

/// A name behind which are the addresses of all agents, or the one address of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// A DNS name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
}

/// What a DNS name may have, with its dots.
const LONGEST: usize = 253;

impl Service {
    /// Reads `HOST:PORT`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not HOST:PORT; write one such as parachute.monitoring.svc.cluster.local:10068"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            return Ok(Self { host: inside.to_owned(), port });
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        if name.len() > LONGEST || !name.split('.').all(label) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services() {
        for (text, host, port) in [
            ("parachute.monitoring.svc.cluster.local:10068", "parachute.monitoring.svc.cluster.local", 10068),
            ("agents.:1", "agents.", 1),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("[fd00::1]:80", "fd00::1", 80),
        ] {
            assert_eq!(Service::parse(text), Ok(Service { host: host.into(), port }), "{text}");
        }
        let long = format!("{}:1", "a.".repeat(128));
        for text in [
            "",
            "agents",
            "agents:",
            ":1",
            "agents:0",
            "agents:65536",
            "agents:x",
            "https://agents:1",
            "agents/x:1",
            "a..b:1",
            "user@agents:1",
            "fd00::1:1",
            "[agents]:1",
            "[fd00::1:1",
            "a b:1",
            &long,
        ] {
            let said = Service::parse(text).unwrap_err();
            assert!(said.contains("is not HOST:PORT"), "{text}: {said}");
        }
    }
}
