//! Which container is meant: the running agent is asked, else a look of one's own. What comes out is held by a pidfd that
//! was checked to be that container's.

mod error;
mod look;

use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail, ensure};
use globset::GlobMatcher;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use self::look::Look;
pub(super) use self::look::Where;
use crate::cli::rows::Row;
use crate::model::Runtime;

/// A container, or a process, that can be joined.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) pidfd: OwnedFd,
    pub(super) row: Row,
}

impl Found {
    /// No container, but a service, or whatever else the host itself runs.
    pub(super) fn is_of_host(&self) -> bool {
        ["systemd", "cgroup", "process"].contains(&self.row.runtime.as_str())
    }
}

/// The one container that `text` means.
pub(super) fn one(text: &str, place: &Where<'_>) -> anyhow::Result<Found> {
    let mut look = Look::at(place, Some(text))?;
    for again in [false, true] {
        if again {
            // It was replaced between the answer and now; the agent knows the new one as soon as it runs.
            look = Look::at(place, Some(text))?;
        }
        match look.meant.as_slice() {
            [row] => {
                if let Some(pidfd) = hold(row) {
                    return Ok(Found { pidfd, row: row.clone() });
                }
            }
            [] => bail!(error::not_found(text, &look.everything()?, &look.sockets)),
            several => bail!(error::ambiguous(text, several)),
        }
    }
    bail!("container {text} has just gone: its process ended before it could be joined")
}

/// Every container that the selector matches, sandboxes left out.
pub(super) fn all(selector: &Selector, place: &Where<'_>) -> anyhow::Result<Vec<Found>> {
    let mut rows = Look::at(place, None)?.everything()?;
    rows.retain(|row| !row.sandbox && selector.matches(row));
    ensure!(!rows.is_empty(), "no container matches; `parachute ps` lists those there are");
    rows.sort_by_key(Row::name);
    // One that has gone in the meantime is not there any more.
    Ok(rows.into_iter().filter_map(|row| hold(&row).map(|pidfd| Found { pidfd, row })).collect())
}

/// Any process.
pub(super) fn by_pid(pid: u32) -> anyhow::Result<Found> {
    let status = read(&format!("/proc/{pid}/status"))
        .map_err(|_| anyhow::anyhow!("--pid {pid}: no process has this number here"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    ensure!(
        field("Tgid:").is_none_or(|group| group == pid.to_string()),
        "--pid {pid}: this is a thread of process {}; name that one",
        field("Tgid:").unwrap_or("?")
    );
    // A thread of the kernel has no memory of its own.
    ensure!(field("VmSize:").is_some(), "--pid {pid}: this is a part of the kernel, or has just ended");
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("--pid: not a process number")?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).with_context(|| format!("--pid {pid}"))?;
    let container = field("Name:").unwrap_or_default().to_owned();
    let runtime = Runtime::Process.as_str().to_owned();
    Ok(Found { pidfd, row: Row { container, runtime, pid, ..Row::default() } })
}

/// The pidfd of the row's init, if the process with that number still is it.
fn hold(row: &Row) -> Option<OwnedFd> {
    let pid = i32::try_from(row.pid).ok().and_then(Pid::from_raw)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Read after the pidfd was opened: what they tell is told of the process that the pidfd holds, as long as it lives.
    let stat = read(&format!("/proc/{}/stat", row.pid)).ok()?;
    let cgroups = read(&format!("/proc/{}/cgroup", row.pid)).ok()?;
    // A pidfd is readable when its process has ended.
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let lives = matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0));
    (is_row(row, &stat, &cgroups) && lives).then_some(pidfd)
}

/// A process's name is in most of these files, and need not be UTF-8.
fn read(path: &str) -> std::io::Result<String> {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether `/proc/PID/stat` and `/proc/PID/cgroup` are those of the row's init.
fn is_row(row: &Row, stat: &str, cgroups: &str) -> bool {
    // proc_pid_stat(5), field 22; counting begins after the name's closing parenthesis.
    let started = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    // hierarchy-ID:controllers:path, cgroups(7).
    let is_in = |path: &str| {
        let below = path.strip_prefix(row.cgroup.as_str());
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    let is_inside = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(is_in);
    // In a cgroup namespace of one's own the paths of others begin elsewhere.
    let named = cgroups.contains(&row.id);
    started == Some(row.pid_start_ticks.to_string().as_str()) && (is_inside || named)
}

/// `--selector`: patterns for namespace, pod and container; what is not named matches all.
#[derive(Debug, Default)]
pub(super) struct Selector(Vec<(Key, GlobMatcher)>);

#[derive(Clone, Copy, Debug)]
enum Key {
    Namespace,
    Pod,
    Container,
}

impl Selector {
    /// Reads `namespace=shop,container=cart-*`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut terms = Vec::new();
        for term in text.split(',') {
            let Some((key, pattern)) = term.split_once('=') else {
                bail!("--selector {text}: {term:?} is no KEY=VALUE");
            };
            let key = match key.trim() {
                "namespace" => Key::Namespace,
                "pod" => Key::Pod,
                "container" => Key::Container,
                other => bail!("--selector {text}: {other:?} is none of namespace, pod, container"),
            };
            let glob = globset::Glob::new(pattern.trim()).map_err(|error| {
                anyhow::anyhow!("--selector {text}: {}; use *, ? and [a-z]", error.kind())
            })?;
            terms.push((key, glob.compile_matcher()));
        }
        Ok(Self(terms))
    }

    fn matches(&self, row: &Row) -> bool {
        self.0.iter().all(|(key, glob)| {
            glob.is_match(match key {
                Key::Namespace => &row.namespace,
                Key::Pod => &row.pod,
                Key::Container => &row.container,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::tests::row;

    #[test]
    fn selectors_match_by_pattern() {
        let cart = row("shop", "cart-0", "cart");
        for (text, matches) in [
            ("namespace=shop", true),
            ("namespace=shop,container=cart", true),
            ("pod=cart-*", true),
            ("pod=cart", false),
            ("container=[cp]a*, namespace=s?op", true),
            ("namespace=other,container=cart", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&cart), matches, "{text}");
        }
        for (text, part) in
            [("shop", "no KEY=VALUE"), ("app=x", "none of"), ("pod=[", "--selector"), ("", "no KEY")]
        {
            let error = Selector::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_reused_pid_is_told_apart() {
        let mut row = row("shop", "cart-0", "cart");
        row.pid_start_ticks = 77;
        row.cgroup = format!("/kubepods/pod1/{}", row.id);
        let stat = "12 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 77 1 1";
        let cgroups = format!("0::/kubepods/pod1/{}\n", row.id);
        assert!(is_row(&row, stat, &cgroups));
        assert!(!is_row(&row, &stat.replace(" 77 ", " 78 "), &cgroups));
        assert!(!is_row(&row, stat, "0::/user.slice\n"));
        // Of a service the path alone tells.
        row.cgroup = "/system.slice/nginx.service".into();
        assert!(is_row(&row, stat, "1:pids:/\n0::/system.slice/nginx.service/worker\n"));
        for other in ["/system.slice/nginx.service2", "/x/system.slice/nginx.service", "/"] {
            assert!(!is_row(&row, stat, &format!("0::{other}\n")), "{other}");
        }
    }

    #[test]
    fn a_process_is_found_by_its_number_and_what_is_none_is_told() {
        assert_eq!(by_pid(std::process::id()).unwrap().row.pid, std::process::id());
        for (pid, part) in [(u32::MAX, "no process"), (2, "part of the kernel"), (0, "no process")] {
            let error = by_pid(pid).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
