//! The probes that ship, as a whole: what each must say of itself, and that they fit together, on a host that has every
//! tool and on one that has none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{ProgramFile, check, root};
use crate::config::host::Host;
use crate::config::include::{self, SHIPPED, Shipped};
use crate::config::load::from_str_on;
use crate::config::raw::{RawAbout, RawIsolation, RawProbe};
use crate::config::yaml::at::Tried;
use crate::config::{Config, Mistakes, Probe};
use crate::model::{MetricKind, ProbeName};

fn on(text: &str, programs: &dyn Fn(&str) -> ProgramFile) -> Result<Config, Mistakes> {
    let programs = |_, path: &str| programs(path);
    from_str_on(text, std::path::Path::new("own.yml"), &Host { look: &programs, node: "node-1" })
}

fn everything(path: &str) -> ProgramFile {
    if path.starts_with("/usr/bin/") { ProgramFile::Executable } else { ProgramFile::Missing }
}

fn all() -> String {
    let names: Vec<_> = SHIPPED.iter().map(|shipped| shipped.name).collect();
    format!("include: [{}]", names.join(", "))
}

#[test]
fn the_folder_and_the_program_have_the_same_files() {
    let files = std::fs::read_dir(root().join("probes")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let shipped: Vec<_> = SHIPPED.iter().map(|shipped| format!("{}.yml", shipped.name)).collect();
    assert_eq!(files, shipped);
}

/// The program has them without their comments, and nothing else is left out.
#[test]
fn what_the_program_has_is_what_the_folder_has() {
    let probes = |shipped: &Shipped| {
        let found = crate::config::error::Found::default();
        let probes = format!("{:#?}", include::probes(shipped, &found));
        let mistakes = found.into_vec();
        assert!(mistakes.is_empty(), "{}: {mistakes:?}", shipped.name);
        probes
    };
    for shipped in SHIPPED {
        let text = std::fs::read_to_string(root().join(format!("probes/{}.yml", shipped.name))).unwrap();
        let whole = Shipped { name: shipped.name, text: text.leak() };
        assert!(whole.text.len() > 500 && probes(&whole) == probes(shipped), "{}", shipped.name);
    }
}

/// Each is a configuration by itself, too: `parachute check-config probes/network.yml`.
#[test]
fn each_is_right_and_says_what_one_must_know() {
    for shipped in SHIPPED {
        let config = on(shipped.text, &everything);
        let config = config.unwrap_or_else(|mistakes| panic!("{}: {mistakes}", shipped.name));
        assert!(config.triggers.is_empty(), "{}: nothing runs unless somebody has written so", shipped.name);
        for (name, raw) in include::probes(shipped, &crate::config::error::Found::default()) {
            let RawProbe { about, tools, command, .. } = &raw.value;
            let about = about.as_ref().and_then(Tried::get).unwrap_or_else(|| panic!("{name}: no about"));
            for text in [&about.question, &about.isolation, &about.cost, &about.proc] {
                let text = text.as_ref().and_then(Tried::get).unwrap_or_else(|| panic!("{name}: {about:?}"));
                assert!(text.len() > 20 && text.ends_with(['.', '?']), "{name}: {text}");
            }
            let joined = raw.value.isolation.as_ref().and_then(Tried::get).map(|it| it.value);
            let word = if joined == Some(RawIsolation::Joined) { "Joined" } else { "Observer" };
            assert!(text(about, |it| &it.isolation).starts_with(word), "{name}: {about:?}");
            let tools = tools.as_ref().and_then(Tried::get).unwrap_or_else(|| panic!("{name}: no tools"));
            let program = command.as_ref().and_then(Tried::get).and_then(|words| words.value[0].get());
            assert!(program.is_none_or(|program| tools.contains_key(program)), "{name}: {tools:?}");
        }
    }
}

#[test]
fn none_has_what_another_one_has() {
    let config = on(&all(), &everything).unwrap();
    let count: usize = config.included.iter().map(|included| included.probes.len()).sum();
    assert_eq!(count, config.probes.len(), "a name is in two files");
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for probe in config.probes.values() {
        for def in probe.parse.metrics() {
            let owner = owners.entry(&def.name).or_insert(probe.name.as_str());
            assert_eq!(*owner, probe.name.as_str(), "{} is of two probes", def.name);
            assert!(def.name.starts_with("parachute_"), "{}", def.name);
        }
    }
    let example = std::fs::read_to_string(root().join("parachute.example.yml")).unwrap();
    let example = on(&example, &everything).unwrap();
    let shipped: BTreeMap<_, _> = config
        .probes
        .values()
        .flat_map(|probe| probe.parse.metrics())
        .map(|def| (&def.name, &def.help))
        .collect();
    let mut same = 0;
    for def in example.probes.values().flat_map(|probe| probe.parse.metrics()) {
        if let Some(help) = shipped.get(&def.name) {
            assert_eq!(**help, def.help, "{}", def.name);
            same += 1;
        }
    }
    assert!(same > 10, "{same}");
}

#[test]
fn a_host_without_the_tools_is_no_mistake() {
    let config = on(&all(), &|_| ProgramFile::Missing).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    for probe in config.probes.values() {
        let missing = probe.missing.as_deref().unwrap();
        assert!(missing.contains("; on Debian it is in the package "), "{}: {missing}", probe.name);
    }
    let no_dig = |path: &str| if path.ends_with("/dig") { ProgramFile::Missing } else { everything(path) };
    let config = on("include: [dns, network]", &no_dig).unwrap();
    let missing: Vec<_> = config.probes.values().filter(|probe| probe.missing.is_some()).collect();
    assert_eq!(missing.len(), 1);
    let said = missing[0].missing.as_deref().unwrap();
    assert!(said.starts_with("\"dig\" is not in ") && said.ends_with("package bind9-dnsutils"), "{said}");
}

#[test]
fn what_is_ones_own_counts() {
    let own = "include: [network, dns]
probes:
  sockets:
    command: [ss, -s]
    timeout: 9s
    parse: { regex: [{ name: parachute_tcp_connections, type: gauge, help: Other words., pattern: x }] }
triggers:
  t: { http: {}, probes: [sockets, connections, dns] }
";
    let config = on(own, &everything).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config.probes["sockets"].timeout.as_secs(), 9);
    let network = config.included.iter().find(|included| included.name == "network").unwrap();
    assert_eq!(network.replaced.iter().map(ProbeName::as_str).collect::<Vec<_>>(), ["sockets"]);
    let helps: BTreeSet<_> = config
        .probes
        .values()
        .flat_map(|probe| probe.parse.metrics())
        .filter(|def| &*def.name == "parachute_tcp_connections")
        .map(|def| &*def.help)
        .collect();
    assert_eq!(helps, BTreeSet::from(["Other words."]), "one metric has one help text");
    // Nothing that is included runs by itself, and what is not included is not there.
    assert_eq!(config.triggers.len(), 1);
    assert!(!config.probes.contains_key("processes"));
}

#[test]
fn the_digest_covers_what_is_included() {
    let (with, without) = (include::digest(b"include: [dns]\n"), include::digest(b"probes: {}\n"));
    let plain = |text: &[u8]| -> [u8; 32] { <sha2::Sha256 as sha2::Digest>::digest(text).into() };
    assert_ne!(with, plain(b"include: [dns]\n"));
    assert_eq!(without, plain(b"probes: {}\n"));
    let config = check("include: [network]", "node-1").unwrap();
    assert_eq!(config.digest, include::digest(b"include: [network]"));
}

fn text<'a>(about: &'a RawAbout, of: impl Fn(&'a RawAbout) -> &'a Option<Tried<String>>) -> &'a str {
    of(about).as_ref().and_then(Tried::get).map_or("", |text| text.trim())
}

/// `UPDATE_README=1` writes it.
#[test]
fn the_page_says_what_the_files_say() {
    let path = root().join("docs/probes.md");
    let made = page();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let (_, block) = made.split_once("```yaml\n").unwrap();
    on(block.split("```").next().unwrap(), &everything).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(
        there == made,
        "docs/probes.md is old: UPDATE_README=1 cargo test -p parachute --lib the_page_says"
    );
}

fn page() -> String {
    let config = on(&all(), &everything).unwrap();
    let mut page = String::from(PREFACE);
    for shipped in SHIPPED {
        for (name, raw) in include::probes(shipped, &crate::config::error::Found::default()) {
            let about = raw.value.about.as_ref().and_then(Tried::get).unwrap();
            let row = [
                format!("`{}`", shipped.name),
                format!("[`{name}`](#{name})"),
                text(about, |it| &it.question).to_owned(),
            ];
            let _ = writeln!(page, "| {} |", row.join(" | "));
        }
    }
    for shipped in SHIPPED {
        for (name, raw) in include::probes(shipped, &crate::config::error::Found::default()) {
            describe(&config.probes[name.as_str()], shipped.name, &raw.value, &mut page);
        }
    }
    page
}

fn describe(probe: &Probe, file: &str, raw: &RawProbe, page: &mut String) {
    let about = raw.about.as_ref().and_then(Tried::get).unwrap();
    let _ = writeln!(page, "\n## {}\n\n**{}**\n", probe.name, text(about, |it| &it.question));
    let command = raw.command.as_ref().map_or("a shell script", |_| "");
    let words =
        if command.is_empty() { format!("`{}`", probe.command.join(" ")) } else { command.to_owned() };
    let tools = raw.tools.as_ref().and_then(Tried::get).into_iter().flatten();
    let tools: Vec<_> =
        tools.map(|(tool, package)| format!("{tool} ({})", package.get().unwrap().value)).collect();
    let _ = writeln!(
        page,
        "- Runs {words}, from [`probes/{file}.yml`](../probes/{file}.yml); needs {}.",
        tools.join(", ")
    );
    let _ = writeln!(page, "- {}", text(about, |it| &it.isolation));
    let _ = writeln!(page, "- Cost: {}", text(about, |it| &it.cost));
    let _ = writeln!(page, "- /proc: {}", text(about, |it| &it.proc));
    let mut seen = BTreeSet::new();
    let defs: Vec<_> = probe.parse.metrics().into_iter().filter(|def| seen.insert(&def.name)).collect();
    if !defs.is_empty() {
        *page += "\n| metric | type | meaning |\n| --- | --- | --- |\n";
    }
    for def in defs {
        let kind = if def.kind == MetricKind::Counter { "counter" } else { "gauge" };
        let _ = writeln!(page, "| `{}` | {kind} | {} |", def.name, def.help.replace('|', "\\|"));
    }
}

const PREFACE: &str = "# The probes that come with parachute

`include: [network, processes]` in a configuration adds the probes of these files. They are in the program itself; none runs
without a trigger that names it, and one that is not triggered costs nothing but the memory of its patterns, which
for all files together is up to 10 MB. A probe under `probes:` of the same name takes the place of a shipped one. Where a host lacks a tool the probe's runs are refused with the name
of the package, and all else works; `parachute check-config` says so beforehand.

```yaml
include: [network, processes, dns]
triggers:
  steady: { schedule: { every: 30s }, probes: [sockets, listeners, processes] }
  by-hand: { http: {}, probes: [connections, kernel_counters, commands, dns] }
```

Fixtures of what at least two versions of each tool print, with the samples that must come of it, are in
`tests/fixtures/probes/`. To write one of your own: [writing-a-probe.md](writing-a-probe.md). This page is made from the files.

| include | probe | the question that it answers |
| --- | --- | --- |
";
