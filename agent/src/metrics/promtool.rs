//! Test help: the judgement of the real `promtool` on an exposition.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Fails unless `promtool check metrics` has nothing to say. A machine without promtool fails too: a check that is
/// skipped in silence is no check.
pub(crate) fn assert_clean(exposition: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: apt-get install prometheus");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(exposition.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "promtool says:\n{said}\nof:\n{exposition}");
}
