//! The exit status of `parachute exec`, and the sentence for what is not the command's own doing. Pure.

use crate::model::End;

/// parachute itself failed, as docker-run(1) and env(1) have it.
pub const FAILED: u8 = 125;
/// As timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// As a shell has it: 128 + SIGKILL.
const KILLED: u8 = 128 + 9;

/// As env(1): the command's own, 126 and 127 for one that could not be executed.
pub fn exit_status(end: &End) -> u8 {
    match end {
        // wait(2) gives eight bits.
        End::Exited { code } => u8::try_from(*code).unwrap_or(FAILED),
        End::Signaled { signal } => u8::try_from(128 + signal).unwrap_or(KILLED),
        End::TimedOut { .. } => TIMED_OUT,
        End::Cancelled { .. } | End::TargetGone | End::Tampered => KILLED,
        End::EnterFailed { step, errno } if step == "exec" => {
            if *errno == libc::ENOENT {
                127
            } else {
                126
            }
        }
        End::EnterFailed { .. } | End::Refused { .. } => FAILED,
    }
}

/// What is said on standard error; None when the command's own words are all there is.
pub fn told(end: &End, command: &str) -> Option<String> {
    let stuck = "; a process of it hangs in the kernel and goes when that lets it";
    Some(match end {
        End::Exited { .. } | End::Signaled { .. } | End::Cancelled { stuck: false } => return None,
        End::TimedOut { stuck: false } => format!("{command} was ended at its timeout"),
        End::TimedOut { stuck: true } => format!("{command} was ended at its timeout{stuck}"),
        End::Cancelled { stuck: true } => format!("{command} was ended{stuck}"),
        End::Tampered => "the container has lowered the command's limits".to_owned(),
        End::TargetGone => "the container has ended, and the command with it".to_owned(),
        End::EnterFailed { step, errno } => {
            let why = std::io::Error::from_raw_os_error(*errno);
            match step.as_str() {
                "exec" => format!("{command} cannot be executed: {why}"),
                "workdir" => {
                    format!("the working directory cannot be entered: {why}; choose one by --workdir")
                }
                "join_namespaces" | "join_net_ns" | "join_user_ns" | "join_pid_ns" => {
                    format!("a namespace cannot be joined ({step}): {why}; leave it out by --namespaces")
                }
                _ => format!("entering the container failed ({step}): {why}"),
            }
        }
        End::Refused { reason } => format!("{reason}; if that is accepted, say --allow-unsafe-target"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_env_and_docker() {
        let failed = |step: &str, errno| End::EnterFailed { step: step.into(), errno };
        for (end, status) in [
            (End::Exited { code: 0 }, 0),
            (End::Exited { code: 255 }, 255),
            (End::Signaled { signal: 15 }, 143),
            (End::TimedOut { stuck: false }, 124),
            (End::TargetGone, 137),
            (End::Cancelled { stuck: false }, 137),
            (failed("exec", libc::ENOENT), 127),
            (failed("exec", libc::EACCES), 126),
            (failed("exec", libc::ENOEXEC), 126),
            (failed("mount_proc", libc::ENOENT), 125),
            (End::Refused { reason: "x".into() }, 125),
        ] {
            assert_eq!(exit_status(&end), status, "{end:?}");
            let silent = matches!(end, End::Exited { .. } | End::Signaled { .. } | End::Cancelled { .. });
            assert_eq!(told(&end, "ss").is_none(), silent, "{end:?}");
        }
    }
}
