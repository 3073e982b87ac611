//! What cannot be on some kernel or with some runtime, and why: such a cell is no failure of the test. Each one is told in
//! the README's table.

use super::cells::Cell;

/// Runtime, beginning of the kernel's release, cell, a part of what the cell's test says; why.
type Known = (&'static str, &'static str, &'static str, &'static str, &'static str);

const KNOWN: &[Known] = &[(
    "podman rootless",
    "5.10",
    "observer",
    "procfs_closed",
    "a user's containers have a FUSE file system as their root there, which lets nobody from outside in: \
     `fallback: joined`, or Linux 6.18",
)];

/// Why this cell is not ok, if that is known.
pub(crate) fn reason(runtime: &str, kernel: &str, name: &str, cell: &Cell) -> Option<&'static str> {
    let said = cell.as_ref().err()?;
    let known = KNOWN.iter().find(|(of, on, what, part, _)| {
        runtime == *of && kernel.starts_with(&format!("{on}.")) && name == *what && said.contains(part)
    });
    known.map(|known| known.4)
}
