//! With SYS_PTRACE: whose program a foreign process runs, from its first moment on, how large it is, and whether words that
//! belong to the agent are in its memory.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use crate::hunt::listed;
use crate::sys::{self, ESRCH};

/// Larger parts of a process's memory than this are read in steps.
const STEP: usize = 1 << 20;

/// Writes each thing once: `exe PATH`, `size KIB NAME`, and `HIT NEEDLE`.
pub(crate) fn scan(path: &str, needles: &[String]) -> io::Result<()> {
    let mut said = OpenOptions::new().create(true).append(true).open(path)?;
    let own: HashSet<i64> = listed().into_iter().collect();
    let mut lines = HashSet::new();
    loop {
        let newest = listed().into_iter().max().unwrap_or(1);
        // A pid can be signalled before it is listed.
        let ahead = (newest + 1..newest + 8).filter(|pid| !matches!(sys::kill(*pid, 0), Err(ESRCH)));
        for pid in listed().into_iter().chain(ahead).filter(|pid| !own.contains(pid)) {
            for line in look(pid, needles) {
                if lines.len() < 1000 && lines.insert(line.clone()) {
                    said.write_all(format!("{line}\n").as_bytes())?;
                }
            }
        }
    }
}

fn look(pid: i64, needles: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    found.extend(program.iter().map(|program| format!("exe {}", program.display())));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    if field("Name:").starts_with("parachute") {
        found.push(format!("size {} {}", field("VmSize:").trim_end_matches(" kB"), field("Name:")));
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { return found };
    let mut bytes = vec![0; STEP];
    for (mut from, to) in maps.lines().filter_map(readable) {
        while from < to {
            let length = usize::try_from(to - from).map_or(STEP, |left| left.min(STEP));
            let got = memory.read_at(&mut bytes[..length], from).unwrap_or(0);
            let text = &bytes[..got];
            let hits = needles
                .iter()
                .filter(|needle| text.windows(needle.len()).any(|part| part == needle.as_bytes()));
            found.extend(hits.map(|needle| format!("HIT {needle}")));
            from += length as u64;
        }
    }
    found
}

fn readable(line: &str) -> Option<(u64, u64)> {
    let (range, rights) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    rights.starts_with('r').then_some((number(from)?, number(to)?))
}
