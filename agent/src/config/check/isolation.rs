//! How a probe's command looks at a container, and what one run of it may use.

use std::path::PathBuf;

use super::Checker;
use crate::config::error::Place;
use crate::config::raw::{RawFallback, RawIsolation, RawNames, RawProbe, RawRunLimits};
use crate::config::yaml::at::{At, Tried};
use crate::config::{Capabilities, Isolation, Observer, RunLimits};

/// Programs that take a process by its number in a system call (ptrace(2), kill(2), perf_event_open(2), setns(2)), and not
/// from the text of /proc: for an observer such a number means another process, or none.
const BY_NUMBER: [&str; 24] = [
    "bpftrace",
    "chrt",
    "criu",
    "gcore",
    "gdb",
    "gdbserver",
    "ionice",
    "jcmd",
    "jmap",
    "jstack",
    "kill",
    "killall",
    "ltrace",
    "nsenter",
    "perf",
    "pkill",
    "prlimit",
    "pstack",
    "py-spy",
    "rbspy",
    "renice",
    "reptyr",
    "strace",
    "taskset",
];
/// Programs that leave out the process whose number is their own (pgrep(1), "never report itself"; `my_pid` in psmisc's fuser.c):
/// an observer's number is 1, and so is that of the container's first process.
const LEAVES_ITSELF_OUT: [&str; 2] = ["fuser", "pgrep"];
/// What an observer has as a private folder, so that a program there would be covered.
const OWN: [&str; 6] = ["/tmp", "/run", "/var/tmp", "/var/run", "/proc", "/sys"];
/// Of these, what a script does to its own children as well.
const BY_OWN_NUMBER: [&str; 3] = ["kill", "chrt", "taskset"];

impl Checker<'_> {
    pub(super) fn isolation(
        &self,
        place: &Place,
        raw: &RawProbe,
        command: Option<&(PathBuf, Vec<String>)>,
    ) -> Isolation {
        let value = |isolation: &At<RawIsolation>| isolation.value;
        let isolation = raw.isolation.as_ref().and_then(Tried::get).map_or(RawIsolation::Observer, value);
        let capabilities = raw.capabilities.as_ref().and_then(Tried::get);
        let resolv_conf = raw.resolv_conf.as_ref().and_then(Tried::get);
        let fallback = raw.fallback.as_ref().and_then(Tried::get);
        if isolation == RawIsolation::Joined {
            let only = "is for isolation: observer; remove it, a joined command has all of root's rights";
            let places =
                [capabilities.map(|c| &c.place), resolv_conf.map(|r| &r.place), fallback.map(|f| &f.place)];
            for place in places.into_iter().flatten() {
                self.found.add(place, only);
            }
            return Isolation::Joined;
        }
        let place = raw.command.as_ref().and_then(Tried::get).map_or(place, |command| &command.place);
        if let Some((program, _)) =
            command.filter(|(program, _)| OWN.iter().any(|own| program.starts_with(own)))
        {
            let message =
                format!("an observer has a folder of its own there; put {} elsewhere", program.display());
            self.found.add(place, message);
        }
        if let Some(tool) = command.and_then(|(_, command)| listed(command, &LEAVES_ITSELF_OUT)) {
            let message = format!(
                "{tool} leaves out the process that has its own number, and an observer has that of the container's first \
                 process, which would be missing; write isolation: joined"
            );
            self.found.add(place, message);
        }
        if let Some(tool) = command.and_then(|(_, command)| listed(command, &BY_NUMBER)) {
            let message = format!(
                "{tool} takes a process by its number in a system call, and an observer has other numbers than the \
                 container: what it says would be wrong; write isolation: joined"
            );
            self.found.add(place, message);
        }
        Isolation::Observer(Observer {
            capabilities: capabilities.map_or_else(Capabilities::default, |names| self.capabilities(names)),
            fallback_joined: fallback.is_some_and(|fallback| fallback.value == RawFallback::Joined),
            resolv_conf: resolv_conf.and_then(|path| self.resolv_conf(path)),
        })
    }

    fn capabilities(&self, names: &At<RawNames>) -> Capabilities {
        let written = || names.value.iter().filter_map(Tried::get);
        let mut wrong = false;
        let set =
            Capabilities::read(written().map(|name| (&name.place, name.value.as_str())), |place, message| {
                wrong = true;
                self.found.add(place, message);
            });
        if !wrong && set.is_usual() {
            let message = "nothing here that not every container has: one that sees the host's processes could take the command over; \
                           add DAC_READ_SEARCH or another one that containers lack";
            self.found.add(&names.place, message);
        }
        set
    }

    fn resolv_conf(&self, path: &At<String>) -> Option<PathBuf> {
        if !path.value.starts_with('/') {
            self.found.add(
                &path.place,
                format!("{:?} is not an absolute path; write the file's full path", path.value),
            );
            return None;
        }
        Some(PathBuf::from(&path.value))
    }

    pub(super) fn run_limits(&self, raw: Option<&RawRunLimits>) -> RunLimits {
        let raw = raw.unwrap_or(&RawRunLimits { memory: None, pids: None, cpu: None });
        let memory = self.size(raw.memory.as_ref(), 128 << 20, 64 << 30);
        if let Some(place) =
            raw.memory.as_ref().and_then(Tried::get).map(|raw| &raw.place).filter(|_| memory < 4 << 20)
        {
            self.found.add(place, "no program starts in so little; write a size from 4MiB to 64GiB");
        }
        let cpu = raw.cpu.as_ref().and_then(Tried::get);
        if let Some(At { place, value }) = cpu.filter(|cpu| !(0.01..=64.0).contains(&cpu.value)) {
            self.found.add(place, format!("{value} is out of range; write a number from 0.01 to 64"));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds above")]
        let cpu_millis = cpu.map_or(1000, |cpu| (cpu.value * 1000.0).round() as u64);
        RunLimits { memory, pids: self.count(raw.pids.as_ref(), 64, 1..=10_000) as u64, cpu_millis }
    }
}

/// The first of these programs that this command starts.
fn listed<'a>(command: &[String], tools: &[&'a str]) -> Option<&'a str> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let listed = |word: &str| tools.iter().copied().find(|tool| *tool == name(word));
    let program = command.first()?;
    if !["sh", "bash", "dash", "zsh", "ash", "ksh"].contains(&name(program).as_str()) {
        return listed(program);
    }
    // In a script it counts where a command begins.
    let scripts = command.iter().skip(1).flat_map(|text| text.split(['|', ';', '&', '(', '`', '\n', '{']));
    scripts
        .filter_map(|script| script.split_whitespace().next().and_then(listed))
        .find(|tool| !BY_OWN_NUMBER.contains(tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_that_take_numbers_are_found() {
        for (command, found) in [
            (&["strace", "-p", "1"][..], Some("strace")),
            (&["/usr/bin/gdb"], Some("gdb")),
            (&["ps", "-e"], None),
            (&["grep", "perf"], None),
            (&["sh", "-c", "ps | wc -l"], None),
            (&["/bin/bash", "-c", "ps; x=$(/usr/bin/perf stat -p 1)"], Some("perf")),
            (&["bash", "-c", "sleep 9 & kill $!"], None),
            (&["bash", "-c", "grep strace /proc/1/cmdline"], None),
            (&[], None),
        ] {
            let command: Vec<_> = command.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(listed(&command, &BY_NUMBER), found, "{command:?}");
        }
        let counts = ["sh", "-c", "ls; pgrep -c nginx"].map(str::to_owned);
        assert_eq!(listed(&counts, &LEAVES_ITSELF_OUT), Some("pgrep"));
        assert_eq!(listed(&counts, &BY_NUMBER), None);
    }
}
