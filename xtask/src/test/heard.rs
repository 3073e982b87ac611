//! What libtest printed, line by line, and what is to be said of it at the end.

use std::fmt;
use std::time::{Duration, Instant};

/// Of each failure so many lines are kept, from its panic on.
const MOST_TOLD: usize = 12;
/// So many of the longest tests are told.
const MOST_SLOW: usize = 12;

#[derive(Debug, Default)]
pub(super) struct Heard {
    programs: u32,
    passed: u32,
    ignored: u32,
    pub(super) failed: Vec<String>,
    /// Failed first, and passed alone.
    unsteady: Vec<String>,
    /// What the failures said, each line behind the test's name.
    told: Vec<String>,
    /// The test whose output this is, and how many lines of it are still kept.
    telling: Option<(String, usize)>,
    /// When the last test ended, and how long after the one before it each did: for tests that run one at a time, as those on
    /// real containers, that is how long they took.
    last: Option<Instant>,
    took: Vec<(Duration, String)>,
}

impl Heard {
    pub(super) fn add(&mut self, line: &str) {
        self.time(line);
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.telling = None;
            self.programs += 1;
            self.add_result(result);
        } else if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.telling = Some((name.to_owned(), 0));
        } else if line == "failures:" {
            self.telling = None;
        } else if let Some((name, left)) = &mut self.telling {
            if line.starts_with("thread '") && line.contains(" panicked at ") {
                *left = MOST_TOLD;
            }
            if *left > 0 {
                *left -= 1;
                self.told.push(format!("{name}: {line}"));
            }
        }
    }

    fn time(&mut self, line: &str) {
        let ended = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... ok"));
        if ended.is_some() || line.starts_with("running ") {
            let since = self.last.replace(Instant::now());
            if let (Some(name), Some(since)) = (ended, since) {
                self.took.push((since.elapsed(), name.to_owned()));
            }
        }
    }

    /// Adds up libtest's last lines: `ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add_result(&mut self, result: &str) {
        let words: Vec<&str> = result.split([' ', ';']).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u32>() else { continue };
            match pair[1] {
                "passed" => self.passed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// These failed, and this was heard when they were run again.
    pub(super) fn repeated(&mut self, failed: Vec<String>, again: Self) {
        for name in failed {
            let list = if again.failed.contains(&name) { &mut self.failed } else { &mut self.unsteady };
            list.push(name);
        }
        self.passed += again.passed;
        self.told.extend(again.told);
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut took = self.took.clone();
        took.sort_unstable_by(|a, b| b.cmp(a));
        writeln!(f, "the longest, if they ran one at a time:")?;
        for (time, name) in took.iter().take(MOST_SLOW) {
            writeln!(f, "{:>4} s  {name}", time.as_secs())?;
        }
        for line in &self.told {
            writeln!(f, "{line}")?;
        }
        for name in &self.failed {
            writeln!(f, "failed: {name}")?;
        }
        for name in &self.unsteady {
            writeln!(f, "unsteady, passed alone at the second time: {name}")?;
        }
        let Self { programs, passed, ignored, .. } = self;
        let failed = self.failed.len();
        write!(f, "{passed} tests passed, {failed} failed, {ignored} ignored, in {programs} test programs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "\
running 4 tests
test something ... ok
test a::slow ... FAILED
test a::wrong ... FAILED

failures:

---- a::slow stdout ----
agent: a line of no interest
thread 'a::slow' (123) panicked at tests/a.rs:1:2:
waited in vain

---- a::wrong stdout ----
thread 'a::wrong' (124) panicked at tests/a.rs:2:2:
1 is not 2

failures:
    a::slow
    a::wrong

test result: FAILED. 40 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; finished in 3.10s
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";

    fn heard(text: &str) -> Heard {
        let mut heard = Heard::default();
        text.lines().for_each(|line| heard.add(line));
        heard
    }

    #[test]
    fn results_add_up_and_failures_are_told() {
        let text = heard(FIRST).to_string();
        assert!(!text.contains("no interest"), "{text}");
        for line in ["a::slow: waited in vain", "a::wrong: 1 is not 2", "failed: a::slow", "failed: a::wrong"]
        {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        assert!(text.ends_with("43 tests passed, 2 failed, 2 ignored, in 2 test programs"), "{text}");
    }

    #[test]
    fn what_passes_alone_is_unsteady_and_what_fails_again_has_failed() {
        let mut first = heard(FIRST);
        let failed = first.failed.split_off(0);
        let again = "test a::slow ... ok\ntest a::wrong ... FAILED\n\
                     test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        first.repeated(failed, heard(again));
        let text = first.to_string();
        assert!(
            text.contains("\nfailed: a::wrong\nunsteady, passed alone at the second time: a::slow\n"),
            "{text}"
        );
        assert!(text.ends_with("44 tests passed, 1 failed, 2 ignored, in 2 test programs"), "{text}");
    }
}
