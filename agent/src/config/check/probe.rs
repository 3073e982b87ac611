//! One entry under `probes:`.

use std::path::PathBuf;
use std::time::Duration;

use super::metric::Declared;
use super::{Checker, names};
use crate::config::raw::{RawIsolation, RawProbe};
use crate::config::yaml::at::At;
use crate::config::{Isolation, Probe};
use crate::model::ProbeName;

const LONGEST_TIMEOUT: Duration = Duration::from_mins(10);
/// All arguments together, in bytes; far below the kernel's `MAX_ARG_STRLEN` and what one launcher message carries.
const LONGEST_COMMAND: usize = 32 * 1024;

impl Checker<'_> {
    pub(super) fn probe(&self, name: &str, raw: &At<RawProbe>, declared: &mut Declared) -> Option<Probe> {
        self.found.ok(&raw.place, names::key(name));
        let probe = &raw.value;
        let program = probe.command.0.as_ref().and_then(|command| self.program(command));
        let timeout = self.duration(
            probe.timeout.as_ref(),
            Duration::from_secs(5),
            Duration::from_millis(1)..=LONGEST_TIMEOUT,
        );
        let max_output = self.size(probe.max_output.as_ref(), 1 << 20, 64 << 20);
        let max_series = self.count(probe.max_series.as_ref(), 500, 1..=10_000);
        if let Some(At { place, value: RawIsolation::Observer }) = &probe.isolation {
            self.found.add(place, "observer is not available yet; write joined");
        }
        let parse = probe.parse.0.as_ref().map(|parse| self.parse(parse, declared));
        Some(Probe {
            name: ProbeName::new(name),
            command: probe.command.0.as_ref()?.value.clone(),
            program: program?,
            timeout,
            max_output,
            max_series,
            isolation: Isolation::Joined,
            parse: parse?,
        })
    }

    fn program(&self, command: &At<Vec<String>>) -> Option<PathBuf> {
        let Some(program) = command.value.first().filter(|program| !program.is_empty()) else {
            self.found.add(&command.place, "the command is empty; write a program and its arguments");
            return None;
        };
        if command.value.iter().any(|argument| argument.contains('\0')) {
            self.found
                .add(&command.place, "an argument has a NUL byte, which no program can be given; remove it");
        }
        if command.value.iter().map(String::len).sum::<usize>() > LONGEST_COMMAND {
            self.found.add(
                &command.place,
                format!("the command is longer than {LONGEST_COMMAND} bytes; use a script"),
            );
        }
        self.found.ok(&command.place, self.host.find(program))
    }
}
