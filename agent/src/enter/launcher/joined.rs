//! A probe's command as a process of the container: who is refused, and how it is started.

use std::os::fd::BorrowedFd;

use agent_stub::{TAKEOVER, Way};

use super::observed::Task;
use super::program;
use super::run::{self, Context, Launch, Run};
use crate::model::{self, End};

/// Forks the stub of a joined run, unless the container could take its command over.
pub(super) fn start_run(task: &Task, root: BorrowedFd<'_>, context: &mut Context<'_>) -> Result<Run, End> {
    let about = &task.about;
    if let (Some(name), true, false) = (takeover(about.cap_bounding), about.in_host_user_ns, task.allowed) {
        return Err(End::Refused {
            reason: format!(
                "the container has {name} and could take over a joined process; \
                 set allow_unsafe_joined on the trigger if that is accepted"
            ),
        });
    }
    // Executed by its path all the same: before Linux 6.14 a program that is executed by a descriptor is called by that
    // descriptor's number in the container's list of processes.
    program::checked(root, &task.probe.program)?;
    let way = Way::joined(!task.allowed && !about.in_host_pid_ns);
    let launch = Launch {
        image: &task.image,
        way,
        join_pid: true,
        stdio: task.stdio(context.null),
        timeout: Some(task.probe.timeout),
        limits: Some(task.probe.limits),
        called: Some(model::Way::Joined),
    };
    run::start(task.id, &task.target, &launch, context)
}

/// The first capability by which a container with this bounding set can take over a process beside it.
pub(in crate::enter) fn takeover(cap_bounding: u64) -> Option<&'static str> {
    TAKEOVER.iter().find(|(bit, _)| cap_bounding & (1 << bit) != 0).map(|(_, name)| *name)
}
