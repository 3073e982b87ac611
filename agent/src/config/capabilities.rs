//! Sets of Linux capabilities as an operator writes them. Which of them a probe may declare is decided here, too.

use std::fmt;

/// What an observer may be given, with its number (linux/capability.h) and no more: with any other one a command could
/// change the host, which is what `isolation: joined` is for.
const ALLOWED: [(&str, u32); 9] = [
    ("DAC_READ_SEARCH", 2),
    ("NET_BIND_SERVICE", 10),
    ("NET_ADMIN", 12),
    ("NET_RAW", 13),
    ("IPC_OWNER", 15),
    ("SYS_PTRACE", 19),
    ("SYS_NICE", 23),
    ("SYSLOG", 34),
    ("AUDIT_READ", 37),
];

/// What containerd, CRI-O before 1.18 and Docker give every container (containerd's `defaultUnixCaps` in oci/spec.go).
const USUAL_CONTAINER: u64 = 0xa804_25fb;

/// A set of capabilities; bit N is capability N of linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Default for Capabilities {
    /// SYS_PTRACE and DAC_READ_SEARCH: what it takes to read all of another process's `/proc/PID`.
    fn default() -> Self {
        Self(1 << 19 | 1 << 2)
    }
}

impl Capabilities {
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether a process with this set can be taken over by one with `other`, as far as capabilities decide it: the
    /// kernel asks whether the permitted set is a subset of the caller's (`cap_ptrace_access_check` in
    /// security/commoncap.c).
    pub fn is_within(self, other: u64) -> bool {
        self.0 & !other == 0
    }

    /// Reads names such as `NET_RAW` or `CAP_NET_RAW`; hands each one that is wrong to `wrong` with the reason.
    pub(super) fn read<'a, T>(
        names: impl Iterator<Item = (&'a T, &'a str)>,
        mut wrong: impl FnMut(&'a T, String),
    ) -> Self
    where
        T: 'a,
    {
        let mut bits = 0;
        for (place, name) in names {
            let upper = name.to_ascii_uppercase();
            let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if let Some((_, bit)) = ALLOWED.iter().find(|(allowed, _)| *allowed == short) {
                bits |= 1 << bit;
            } else {
                let allowed = ALLOWED.map(|(name, _)| name).join(", ");
                let message = "an observer cannot be given";
                wrong(place, format!("{message} {name:?}; write some of {allowed}, or isolation: joined"));
            }
        }
        Self(bits)
    }

    /// Whether every usual container has all of these.
    pub(super) fn is_usual(self) -> bool {
        self.is_within(USUAL_CONTAINER)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |(_, bit): &&(&str, u32)| self.0 & (1 << bit) != 0;
        for (n, (name, _)) in ALLOWED.iter().filter(has).enumerate() {
            write!(f, "{}{name}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(names: &[&str]) -> Result<Capabilities, String> {
        let mut found = None;
        let set =
            Capabilities::read(names.iter().map(|name| (name, *name)), |_, message| found = Some(message));
        found.map_or(Ok(set), Err)
    }

    #[test]
    fn names_are_read_with_and_without_their_prefix() {
        assert_eq!(read(&["SYS_PTRACE", "cap_dac_read_search"]), Ok(Capabilities::default()));
        assert_eq!(Capabilities::default().to_string(), "DAC_READ_SEARCH, SYS_PTRACE");
        for name in ["SYS_ADMIN", "SYS_MODULE", "DAC_OVERRIDE", "BPF", "", "ALL"] {
            assert!(read(&[name]).unwrap_err().contains("cannot be given"), "{name}");
        }
    }

    #[test]
    fn what_every_container_has_shields_nobody() {
        for (names, usual) in [
            (&[][..], true),
            (&["NET_RAW"], true),
            (&["NET_RAW", "NET_BIND_SERVICE"], true),
            (&["NET_RAW", "NET_ADMIN"], false),
            (&["DAC_READ_SEARCH"], false),
        ] {
            assert_eq!(read(names).unwrap().is_usual(), usual, "{names:?}");
        }
    }

    proptest! {
        /// The kernel's rule, said the other way: something is permitted that the other one lacks.
        #[test]
        fn within_means_that_nothing_is_lacking(own: u64, other: u64) {
            let lacking = (0..64).any(|bit| own & (1 << bit) != 0 && other & (1 << bit) == 0);
            prop_assert_eq!(Capabilities(own).is_within(other), !lacking);
        }
    }
}
