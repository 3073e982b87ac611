//! The probes that come with the program, by the name of their file in `probes/`: what `include:` names. They are in the
//! program itself and not in a folder beside it, because the static program is installed by copying it, and because agent
//! and launcher, which are one program, then cannot mean different ones.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::check::Checker;
use super::check::metric::Declared;
use super::error::{Found, Place};
use super::raw::{RawConfig, RawProbe};
use super::yaml::at::{At, Tried};
use super::{Config, yaml};
use crate::model::ProbeName;

/// One file of `probes/`, which is a configuration without triggers.
pub(super) struct Shipped {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

macro_rules! shipped {
    ($($name:literal)*) => {
        [$(Shipped { name: $name, text: include_str!(concat!(env!("OUT_DIR"), "/probes/", $name, ".yml")) }),*]
    };
}

/// In the order of the alphabet; a test holds it to the folder.
#[rustfmt::skip]
pub(super) const SHIPPED: &[Shipped] = &shipped![
    "conntrack" "dns" "dumps" "flame" "interfaces" "limits" "memory" "mtu" "network" "packets" "peers" "processes"
    "socket_owners" "stuck" "tls"
];

/// What of one shipped file is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// As `include:` names it.
    pub name: &'static str,
    pub probes: Vec<ProbeName>,
    /// Those in whose place the configuration has one of its own.
    pub replaced: Vec<ProbeName>,
}

/// A shipped file that is named, with the place where it is.
pub(super) struct Named {
    place: Place,
    shipped: &'static Shipped,
    probes: Vec<(String, At<RawProbe>)>,
}

/// SHA-256 of all that a configuration of this text is made of. Where the word is not in it nothing can be included;
/// where it is, all that ships counts, so that nobody has to read the YAML to know whether two mean the same.
pub(super) fn digest(text: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new_with_prefix(text);
    if text.windows(7).any(|word| word == b"include") {
        for shipped in SHIPPED {
            digest.update(shipped.text);
        }
    }
    digest.finalize().into()
}

/// The shipped files that are named, read; a name that no file has is a mistake.
pub(super) fn named(raw: &RawConfig, found: &Found) -> Vec<Named> {
    let listed =
        raw.include.as_ref().and_then(Tried::get).map(|list| list.value.as_slice()).unwrap_or_default();
    if let Some(At { place, .. }) =
        raw.include.as_ref().and_then(Tried::get).filter(|list| list.value.is_empty())
    {
        found.add(place, "the list is empty; name some, as in include: [network], or remove it");
    }
    let mut named: Vec<Named> = Vec::new();
    for At { place, value: name } in listed.iter().filter_map(Tried::get) {
        let Some(shipped) = SHIPPED.iter().find(|shipped| shipped.name == name) else {
            found.add(place, unknown(name));
            continue;
        };
        if named.iter().any(|other| other.shipped.name == name) {
            found.add(place, format!("{name} is included twice; remove one of the two"));
            continue;
        }
        let theirs = Found::default();
        let probes = probes(shipped, &theirs);
        report(shipped, place, theirs, found);
        named.push(Named { place: place.clone(), shipped, probes });
    }
    named
}

fn unknown(name: &str) -> String {
    let all: Vec<_> = SHIPPED.iter().map(|shipped| shipped.name).collect();
    let closest = all.iter().map(|one| (strsim::damerau_levenshtein(name, one), one)).min();
    let hint = match closest {
        Some((far, one)) if far <= 1 + name.len() / 4 => format!(" did you mean {one}?"),
        _ => String::new(),
    };
    format!("parachute comes with no probes {name:?};{hint} there are {}", all.join(", "))
}

pub(super) fn probes(shipped: &Shipped, found: &Found) -> Vec<(String, At<RawProbe>)> {
    let root = yaml::parse(shipped.text).map_err(|(place, message)| found.add(&place, message)).ok();
    let raw: Option<RawConfig> = root.and_then(|root| yaml::read::read(&root, shipped.text, found));
    let probes = raw.and_then(|raw| raw.probes).and_then(|probes| probes.0).map(|probes| probes.value);
    probes.into_iter().flatten().filter_map(|(name, probe)| Some((name, probe.0?))).collect()
}

/// What is wrong with a shipped file is told where it is included.
fn report(shipped: &Shipped, place: &Place, theirs: Found, found: &Found) {
    for mistake in theirs.into_vec() {
        found.add(place, format!("probes/{}.yml:{mistake}", shipped.name));
    }
}

/// Whether one of these files has the probe.
pub(super) fn has(all: &[Named], probe: &str) -> bool {
    all.iter().any(|named| named.probes.iter().any(|(name, _)| name == probe))
}

/// Which shipped file has the probe, whether it is included or not.
pub(super) fn file_of(probe: &str) -> Option<&'static str> {
    let line = format!("  {probe}:");
    SHIPPED.iter().find(|shipped| shipped.text.lines().any(|it| it == line)).map(|shipped| shipped.name)
}

/// Adds them to those of the configuration itself, which have been checked before: an own probe of the same name stays in
/// place of the shipped one, or a later version that ships more would break what works.
pub(super) fn add(
    all: &[Named],
    own: &Checker<'_>,
    declared: &mut Declared,
    config: &mut Config,
    is_own: impl Fn(&str) -> bool,
) {
    for Named { place, shipped, probes } in all {
        let theirs = Found::default();
        let checker = Checker { host: own.host, found: &theirs, root: own.root, included: true };
        let mut included = Included { name: shipped.name, probes: Vec::new(), replaced: Vec::new() };
        for (name, raw) in probes {
            if is_own(name) {
                included.replaced.push(ProbeName::new(name));
            } else if let Some(probe) = checker.probe(name, raw, declared) {
                included.probes.push(probe.name.clone());
                config.probes.insert(probe.name.clone(), Arc::new(probe));
            }
        }
        config.included.push(included);
        report(shipped, place, theirs, own.found);
    }
}
