//! Test help: the judgement of the real `promtool` on an exposition, and containers to make expositions of.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;

use crate::model::{
    Container, ContainerId, End, Family, Metadata, Outcome, Output, ProbeName, RunRequest, RunResult,
    Runtime, TriggerName,
};

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

/// A container whose pidfd is just some open file: nothing here looks at it.
pub(crate) fn container(id: &str, metadata: Option<Metadata>) -> Arc<Container> {
    Arc::new(Container {
        id: ContainerId::new(&id.repeat(64)[..64]),
        pidfd: std::fs::File::open("/dev/null").expect("/dev/null opens").into(),
        pid: 4711,
        start_ticks: 1,
        cgroup_id: 1,
        cgroup_path: format!("/kubepods/burstable/pod1/{id}"),
        pid_ns: 1,
        net_ns: 2,
        runtime: Runtime::Containerd,
        cgroup_pod_uid: None,
        up_at: SystemTime::UNIX_EPOCH,
        metadata: ArcSwapOption::from_pointee(metadata),
    })
}

pub(crate) fn named(namespace: &str, pod: &str, container: &str) -> Option<Metadata> {
    Some(Metadata {
        namespace: namespace.into(),
        pod: pod.into(),
        container: container.into(),
        ..Metadata::default()
    })
}

pub(crate) fn result(
    probe: &str,
    container: &Arc<Container>,
    outcome: Outcome,
    families: Vec<Family>,
) -> RunResult {
    RunResult {
        request: RunRequest {
            probe: ProbeName::new(probe),
            trigger: TriggerName::new("by-hand"),
            container: Arc::clone(container),
        },
        started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
        outcome,
        output: Output {
            stdout: b"out".to_vec(),
            stderr: Vec::new(),
            truncated: false,
            end: End::Exited { code: 0 },
            duration: Duration::from_millis(250),
        },
        families,
        parse_errors: 0,
        series_dropped: 0,
    }
}
