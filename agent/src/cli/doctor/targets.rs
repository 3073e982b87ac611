//! Which of the configuration's targets are there now. Patterns and numbers alone: no name of anything that runs.

use super::{Check, Verdict};
use crate::config::{Targets, read_pid_file};
use crate::detect::cgroup::Name;
use crate::detect::{self, Hierarchies};

/// `None` where there are no targets.
pub(super) fn check(targets: &Targets) -> Option<Check> {
    if targets.written().is_empty() {
        return None;
    }
    let hierarchies = match Hierarchies::find() {
        Ok(hierarchies) => hierarchies,
        Err(error) => return Some(Check::new("targets", Verdict::Fail, error.to_string())),
    };
    let scan = detect::walk(&hierarchies, targets);
    let name = |cgroup: &detect::Cgroup| match &cgroup.named.name {
        Name::Own(name) => Some((cgroup.named.runtime, name.clone())),
        Name::Id(_) => None,
    };
    let found: Vec<_> = scan.cgroups.iter().filter_map(name).collect();
    let found: Vec<_> = found.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    let mut verdict = Verdict::Ok;
    let mut lines = Vec::new();
    for (key, pattern, count) in targets.matched(&found) {
        lines.push(match count {
            0 => format!("{key} {pattern}: matches nothing that runs now"),
            count => format!("{key} {pattern}: {count}"),
        });
        if count == 0 {
            verdict = Verdict::Warn;
        }
    }
    for path in &targets.pid_files {
        let runs = |pid: u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
        let state = match read_pid_file(path) {
            Ok(pid) if runs(pid) => "1".to_owned(),
            Ok(pid) => format!("process {pid} does not run"),
            Err(error) => error.to_string(),
        };
        if state != "1" {
            verdict = Verdict::Warn;
        }
        lines.push(format!("pid_files {}: {state}", path.display()));
    }
    Some(Check::new("targets", verdict, lines.join("\n")))
}
