//! Test help: containers and results to try the rooms with.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;

use super::{
    Container, ContainerId, End, Family, Metadata, Outcome, Output, ProbeName, Rejects, RunRequest,
    RunResult, Runtime, Shares, TriggerName,
};

/// A container whose pidfd is just some open file: nothing here looks at it.
pub(crate) fn container(id: &str, metadata: impl Into<Option<Metadata>>) -> Arc<Container> {
    Arc::new(Container {
        id: ContainerId::new(&id.repeat(64)[..64]),
        pidfd: std::fs::File::open("/dev/null").expect("/dev/null opens").into(),
        pid: 4711,
        pid_start_ticks: 1,
        start_ticks: 1,
        cgroup_id: 1,
        cgroup_path: format!("/kubepods/burstable/pod1/{id}"),
        pid_ns: 1,
        net_ns: 2,
        shares: Shares::default(),
        runtime: Runtime::Containerd,
        cgroup_pod_uid: None,
        up_at: SystemTime::UNIX_EPOCH,
        metadata: ArcSwapOption::from_pointee(metadata.into()),
    })
}

pub(crate) fn named(namespace: &str, pod: &str, container: &str) -> Metadata {
    Metadata {
        namespace: namespace.into(),
        pod: pod.into(),
        container: container.into(),
        ..Metadata::default()
    }
}

pub(crate) fn result(
    probe: &str,
    container: &Arc<Container>,
    outcome: Outcome,
    families: Vec<Family>,
) -> RunResult {
    RunResult {
        request: RunRequest::new(ProbeName::new(probe), TriggerName::new("by-hand"), Arc::clone(container)),
        started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
        outcome,
        output: Output {
            stdout: b"out".to_vec(),
            stderr: Vec::new(),
            truncated: false,
            end: End::Exited { code: 0 },
            way: None,
            limit: None,
            duration: Duration::from_millis(250),
        },
        families,
        parse_errors: 0,
        series_dropped: 0,
        captured: false,
        rejects: Rejects::default(),
    }
}
