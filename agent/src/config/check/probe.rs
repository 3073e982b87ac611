//! One entry under `probes:`.

use std::path::PathBuf;
use std::time::Duration;

use super::metric::Declared;
use super::{Checker, names};
use crate::config::Probe;
use crate::config::error::Place;
use crate::config::raw::RawProbe;
use crate::config::yaml::at::{At, Tried};
use crate::model::ProbeName;

const LONGEST_TIMEOUT: Duration = Duration::from_mins(10);
/// All arguments together, in bytes; far below the kernel's `MAX_ARG_STRLEN` and what one launcher message carries.
const LONGEST_COMMAND: usize = 32 * 1024;

impl Checker<'_> {
    pub(in crate::config) fn probe(
        &self,
        name: &str,
        raw: &At<RawProbe>,
        declared: &mut Declared,
    ) -> Option<Probe> {
        self.found.ok(&raw.place, names::key(name));
        let probe = &raw.value;
        let command = self.command_or_shell(&raw.place, probe);
        let timeout = self.duration(
            probe.timeout.as_ref(),
            Duration::from_secs(5),
            Duration::from_millis(1)..=LONGEST_TIMEOUT,
        );
        let max_output = self.size(probe.max_output.as_ref(), 1 << 20, 64 << 20);
        let max_series = self.count(probe.max_series.as_ref(), 500, 1..=10_000);
        let isolation = self.isolation(&raw.place, probe, command.as_ref());
        let limits = self.run_limits(probe.limits.as_ref().and_then(Tried::get));
        let keep = probe.keep.as_ref().and_then(Tried::get).map(|keep| keep.value.into());
        // Where several parsers are written each is checked, although that is a mistake already.
        let several = probe.parse.get().map(|parse| parse.0.as_slice()).unwrap_or_default();
        let parsers: Vec<_> = several.iter().map(|parse| self.parse(parse, declared)).collect();
        let missing = self.tools(probe);
        let (program, command) = command?;
        Some(Probe {
            name: ProbeName::new(name),
            command,
            program,
            missing,
            timeout,
            max_output,
            max_series,
            isolation,
            limits,
            keep,
            parse: parsers.into_iter().next()?,
        })
    }

    fn command_or_shell(&self, place: &Place, probe: &RawProbe) -> Option<(PathBuf, Vec<String>)> {
        match (&probe.command, &probe.shell) {
            (Some(command), None) => command.get().and_then(|command| self.command(command)),
            (None, Some(shell)) => shell.get().and_then(|shell| self.shell(shell)),
            (None, None) => {
                self.found.add(place, "nothing says what to run; write exactly one of command, shell");
                None
            }
            (Some(_), Some(_)) => {
                self.found.add(place, "write exactly one of command, shell");
                None
            }
        }
    }

    fn shell(&self, text: &At<String>) -> Option<(PathBuf, Vec<String>)> {
        let words = ["sh", "-c", text.value.as_str()].map(|word| Tried(Some(word.to_owned())));
        if text.value.trim().is_empty() {
            self.found.add(&text.place, "the text is empty; write commands as for sh -c");
            return None;
        }
        self.command(&At { place: text.place.clone(), value: words.into() })
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
        let program = program.get()?;
        let found = match self.host.find(self.root, program) {
            // It is among its tools, which say so.
            Err(_) if self.included => PathBuf::from(program),
            found => self.found.ok(place, found)?,
        };
        Some((found, command))
    }

    /// The first of `tools:` that is not there; a mistake in a configuration of the operator's own.
    fn tools(&self, probe: &RawProbe) -> Option<String> {
        let tools = probe.tools.as_ref().and_then(Tried::get)?;
        let mut missing = tools.iter().filter_map(|(tool, package)| {
            let why = self.host.find(self.root, tool).err()?;
            let At { place, value: package } = package.get()?;
            Some((place, format!("{why}; on Debian it is in the package {package}")))
        });
        if self.included {
            return missing.next().map(|(_, why)| why);
        }
        missing.for_each(|(place, why)| self.found.add(place, why));
        None
    }
}
