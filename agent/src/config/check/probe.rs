//! One entry under `probes:`.

use std::path::PathBuf;
use std::time::Duration;

use super::metric::Declared;
use super::{Checker, names};
use crate::config::raw::{RawIsolation, RawProbe};
use crate::config::yaml::at::{At, Tried};
use crate::config::{Isolation, Probe};
use crate::model::ProbeName;

const LONGEST_TIMEOUT: Duration = Duration::from_mins(10);
/// All arguments together, in bytes; far below the kernel's `MAX_ARG_STRLEN` and what one launcher message carries.
const LONGEST_COMMAND: usize = 32 * 1024;

impl Checker<'_> {
    pub(super) fn probe(&self, name: &str, raw: &At<RawProbe>, declared: &mut Declared) -> Option<Probe> {
        self.found.ok(&raw.place, names::key(name));
        let probe = &raw.value;
        let command = probe.command.get().and_then(|command| self.command(command));
        let timeout = self.duration(
            probe.timeout.as_ref(),
            Duration::from_secs(5),
            Duration::from_millis(1)..=LONGEST_TIMEOUT,
        );
        let max_output = self.size(probe.max_output.as_ref(), 1 << 20, 64 << 20);
        let max_series = self.count(probe.max_series.as_ref(), 500, 1..=10_000);
        if let Some(At { place, value: RawIsolation::Observer }) =
            probe.isolation.as_ref().and_then(Tried::get)
        {
            self.found.add(place, "observer is not available yet; write joined");
        }
        // Where several parsers are written each is checked, although that is a mistake already.
        let several = probe.parse.get().map(|parse| parse.0.as_slice()).unwrap_or_default();
        let parsers: Vec<_> = several.iter().map(|parse| self.parse(parse, declared)).collect();
        let (program, command) = command?;
        Some(Probe {
            name: ProbeName::new(name),
            command,
            program,
            timeout,
            max_output,
            max_series,
            isolation: Isolation::Joined,
            parse: parsers.into_iter().next()?,
        })
    }

    /// The program's path, and the whole command.
    fn command(&self, raw: &At<Vec<Tried<String>>>) -> Option<(PathBuf, Vec<String>)> {
        let At { place, value: raw } = raw;
        let Some(program) = raw.first().filter(|first| first.get().is_none_or(|first| !first.is_empty()))
        else {
            self.found.add(place, "the command is empty; write a program and its arguments");
            return None;
        };
        let command: Vec<String> = raw.iter().filter_map(Tried::get).cloned().collect();
        if command.iter().any(|argument| argument.contains('\0')) {
            self.found.add(place, "an argument has a NUL byte, which no program can be given; remove it");
        }
        if command.iter().map(String::len).sum::<usize>() > LONGEST_COMMAND {
            let message = format!("the command is longer than {LONGEST_COMMAND} bytes; use a script");
            self.found.add(place, message);
        }
        let program = self.found.ok(place, self.host.find(program.get()?))?;
        Some((program, command))
    }
}
