//! The shipped probes against what real tools have printed. A probe has a folder in `tests/fixtures/probes/`, in it for each
//! output `TOOL-VERSION[-WHAT].out`, and beside it `.prom` with the samples that must come of it. Those whose name begins
//! with `hostile-` are made to do harm; all others are as the tool printed them.
//! `UPDATE_FIXTURES=1 cargo test -p parachute --test probes` writes the samples: read the difference before it is committed.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use parachute::config::{self, Config, Probe};
use parachute::parse::{Parsed, parse};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/probes");

/// Every shipped file; which of the tools this host has makes no difference to a parser.
fn shipped() -> Config {
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../probes")).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    let text = format!("include: [{}]", names.join(", "));
    config::from_str(&text, Path::new("all.yml")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// As a scrape has them, without help and the container's labels.
fn samples(parsed: &Parsed) -> String {
    let mut text = String::new();
    for family in &parsed.families {
        for sample in &family.samples {
            let labels: Vec<_> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{}{}{labels} {}", family.name, sample.suffix, sample.value);
        }
    }
    let _ = writeln!(text, "# {} errors, {} cut", parsed.errors, parsed.dropped);
    text
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

/// `ss-6.1.0` of `ss-6.1.0-many.out`.
fn version(path: &Path) -> String {
    name(path).splitn(3, '-').take(2).collect::<Vec<_>>().join("-")
}

/// What is wrong with one probe's folder.
fn look(probe: &Probe, wrong: &mut String) {
    let folder = Path::new(FIXTURES).join(probe.name.as_str());
    let (outputs, others): (Vec<_>, Vec<_>) =
        files(&folder).into_iter().partition(|path| path.extension().is_some_and(|it| it == "out"));
    for other in others {
        if other.extension().is_none_or(|it| it != "prom") || !other.with_extension("out").is_file() {
            let _ = writeln!(wrong, "{}: it belongs to no output", other.display());
        }
    }
    let real: Vec<_> = outputs.iter().filter(|path| !name(path).starts_with("hostile-")).collect();
    let versions: BTreeSet<_> = real.iter().map(|path| version(path)).collect();
    if versions.len() < 2 {
        let _ = writeln!(wrong, "{}: outputs of {versions:?}, and there must be two versions", probe.name);
    }
    let mut seen = BTreeSet::new();
    for path in &outputs {
        let parsed = match parse(&probe.parse, &fs::read(path).unwrap(), probe.max_series) {
            Ok(parsed) => parsed,
            Err(error) => {
                let _ = writeln!(wrong, "{}: {error}", path.display());
                continue;
            }
        };
        if real.contains(&path) {
            seen.extend(parsed.families.iter().map(|family| family.name.to_string()));
            if parsed.errors > 0 || parsed.dropped > 0 {
                let _ = writeln!(wrong, "{}: {:?}", path.display(), parsed.rejects.bad);
            }
        }
        let (expected, got) = (path.with_extension("prom"), samples(&parsed));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(&expected, &got).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if expected != got {
            let _ = writeln!(wrong, "{}\n  expected\n{expected}  but got\n{got}", path.display());
        }
    }
    let unseen: Vec<_> = declared(probe).into_iter().filter(|metric| !seen.contains(metric)).collect();
    if !unseen.is_empty() {
        let _ = writeln!(wrong, "{}: no real output gives {unseen:?}", probe.name);
    }
}

fn declared(probe: &Probe) -> BTreeSet<String> {
    probe.parse.metrics().into_iter().map(|metric| metric.name.to_string()).collect()
}

#[test]
fn every_output_gives_its_samples() {
    let config = shipped();
    let mut wrong = String::new();
    for probe in config.probes.values() {
        look(probe, &mut wrong);
    }
    let known: BTreeMap<_, _> = config.probes.iter().collect();
    for folder in files(Path::new(FIXTURES)) {
        if !known.keys().any(|probe| probe.as_str() == folder.file_name().unwrap()) {
            let _ = writeln!(wrong, "{}: no shipped probe is called so", folder.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Whatever a container makes a tool print, a shipped probe's result stays within its bounds.
#[test]
fn every_probe_bounds_what_is_made_to_harm() {
    let long = "x".repeat(1 << 17);
    let many: String = (0..5_000).fold(String::new(), |mut all, n| {
        let _ =
            writeln!(all, "ESTAB 0 0 10.0.0.1:80 10.{}.{}.{}:9 rtt:1/1", n >> 16, (n >> 8) & 255, n & 255);
        let _ = writeln!(all, "S 1 1 c{n}\nresident\t1\tc{n}\n1\t2\t3\tc{n}\ntcp LISTEN 0 0 [::]:{n} *:*");
        all
    });
    let control = b"D\tw\x1b[2J\xff\xfe\0 name\n\xf0\x9f\nASKED \xff . , status: X, \n".repeat(100);
    for probe in shipped().probes.values() {
        for output in [long.as_bytes(), many.as_bytes(), &control, b"[[[[[[", b"", b"\0\0\0\n\n\r\n"] {
            let Ok(parsed) = parse(&probe.parse, output, probe.max_series) else { continue };
            let all = || parsed.families.iter().flat_map(|family| &family.samples);
            assert!(all().count() <= probe.max_series, "{}", probe.name);
            for (_, value) in all().flat_map(|sample| &sample.labels) {
                assert!(value.len() <= 128 && !value.contains(char::is_control), "{}: {value:?}", probe.name);
            }
        }
    }
}
