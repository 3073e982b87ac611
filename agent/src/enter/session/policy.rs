//! Which targets and namespaces are safe to join, and what a command keeps so that it stays safe.

use rustix::thread::capabilities;

use super::{EnterError, Namespace, SessionPlan, User};
use crate::enter::Inspection;
use crate::enter::launcher::takeover;

/// Capabilities that mean little by themselves, from the most harmless on: the one that a command of another user keeps
/// against its container. BLOCK_SUSPEND, WAKE_ALARM, LEASE, SYS_PACCT, SYS_TTY_CONFIG, SYSLOG (linux/capability.h).
const SHIELDS: [u32; 6] = [36, 35, 28, 20, 26, 34];

/// CAP_SYS_PTRACE (linux/capability.h).
const SYS_PTRACE: u32 = 19;

pub(super) fn check(plan: &SessionPlan, target: &Inspection) -> Result<(), EnterError> {
    let own = own_capabilities()?;
    decide(&plan.namespaces, plan.allow_unsafe_target, plan.of_host, target, own).map_err(EnterError::Refused)
}

fn own_capabilities() -> Result<u64, EnterError> {
    let own = capabilities(None).map_err(|e| EnterError::System { call: "capget", source: e.into() })?;
    Ok(own.permitted.bits())
}

fn decide(
    namespaces: &[Namespace],
    allowed: bool,
    of_host: bool,
    target: &Inspection,
    own: u64,
) -> Result<(), String> {
    let has = |namespace| namespaces.contains(&namespace);
    if has(Namespace::User) && target.in_host_user_ns {
        return Err("namespace user: the target has none of its own, it shares the host's".to_owned());
    }
    if has(Namespace::Mnt) && !has(Namespace::Pid) {
        return Err(
            "namespace mnt: the command would be one of the container's own programs among the host's \
                    processes; join pid as well (--namespaces pid,net,mnt)"
                .to_owned(),
        );
    }
    if has(Namespace::Mnt) && !target.in_host_user_ns && !has(Namespace::User) {
        return Err(
            "namespace mnt: the target has a user namespace of its own, and its programs would get the \
                    host's root; join user as well (--namespaces pid,net,user,mnt)"
                .to_owned(),
        );
    }
    // A process of the host is no container, and could do everything before. One that has mounts of its own could, too, if
    // it may take over others (`launcher::of_host`).
    let may_trace = target.cap_bounding & (1 << SYS_PTRACE) != 0;
    let of_host = of_host && target.in_host_user_ns && may_trace && !has(Namespace::Mnt);
    if allowed || (target.in_host_pid_ns && (target.in_host_mnt_ns || of_host)) {
        return Ok(());
    }
    if has(Namespace::Mnt) {
        return Err(
            "namespace mnt: the command would be one of the container's own programs, outside of its \
                    limits on devices and system calls; if the image is trusted, say --allow-unsafe-target \
                    (its files are also at /proc/PID/root without mnt)"
                .to_owned(),
        );
    }
    // In a user namespace of its own a container's capabilities count in there alone.
    let counts = has(Namespace::Pid) && (target.in_host_user_ns || has(Namespace::User));
    match takeover(target.cap_bounding) {
        Some(name) if counts => {
            let all = target.cap_bounding & own == own;
            let what = if all { "is privileged".to_owned() } else { format!("has {name}") };
            Err(format!(
                "the container {what} and could take over a process that joins it, with all rights of the \
                 host's root; if that is accepted, say --allow-unsafe-target"
            ))
        }
        _ => Ok(()),
    }
}

/// Whom the command becomes, and the capability that it keeps: for a user other than root one that the target lacks.
pub(super) fn user(
    user: Option<User>,
    join_user: bool,
    target: &Inspection,
) -> Result<Option<(User, Option<u32>)>, EnterError> {
    // In the container's user namespace nobody is anybody before it says so.
    let user = user.or(join_user.then_some(User { uid: 0, gid: 0, groups: Vec::new() }));
    let Some(user) = user else { return Ok(None) };
    if user.uid == 0 {
        return Ok(Some((user, None)));
    }
    let own = own_capabilities()?;
    let shield =
        SHIELDS.into_iter().find(|bit| own & (1 << bit) != 0 && target.cap_bounding & (1 << bit) == 0);
    Ok(Some((user, shield)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What containerd gives a container by default.
    const DEFAULT: u64 = 0xa804_25fb;
    const ALL: u64 = (1 << 41) - 1;

    fn target(cap_bounding: u64, in_host_user_ns: bool) -> Inspection {
        Inspection {
            pid: 1,
            start_ticks: 1,
            pid_ns: 2,
            net_ns: 3,
            mnt_ns: 4,
            user_ns: 5,
            in_host_mnt_ns: false,
            in_host_net_ns: false,
            in_host_pid_ns: false,
            in_host_user_ns,
            inner_pid: 1,
            comm: "x".into(),
            is_executor: false,
            parent: 0,
            parent_cwd: None,
            cap_bounding,
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        use Namespace::{Mnt, Net, Pid, User};
        let (usual, ptrace, all) = (DEFAULT, DEFAULT | 1 << 19, ALL);
        for (namespaces, caps, host_user_ns, allowed, says) in [
            (&[Pid, Net][..], usual, true, false, None),
            (&[Pid, Net], ptrace, true, false, Some("has SYS_PTRACE and could take over")),
            (&[Pid, Net], DEFAULT | 1 << 21, true, false, Some("has SYS_ADMIN")),
            (&[Pid, Net], DEFAULT | 1 << 38, true, false, Some("has PERFMON")),
            (&[Pid, Net], all, true, false, Some("is privileged and could take over")),
            (&[Pid, Net], all, true, true, None),
            (&[Net], all, true, false, None),
            (&[Pid, Net], all, false, false, None),
            (&[Pid, Net, User], all, false, false, Some("is privileged")),
            (&[Pid, Net, User], usual, false, false, None),
            (&[Pid, Net, User], usual, true, true, Some("namespace user")),
            (&[Net, Mnt], usual, true, true, Some("join pid as well")),
            (&[Pid, Mnt], usual, false, true, Some("join user as well")),
            (&[Pid, Mnt], usual, true, false, Some("--allow-unsafe-target")),
            (&[Pid, Mnt], usual, true, true, None),
        ] {
            let said = decide(namespaces, allowed, false, &target(caps, host_user_ns), ALL).err();
            match says {
                None => assert_eq!(said, None, "{namespaces:?} {caps:x}"),
                Some(part) => assert!(said.as_ref().is_some_and(|s| s.contains(part)), "{said:?} {part}"),
            }
        }
    }

    #[test]
    fn a_service_with_mounts_of_its_own_is_no_container() {
        use Namespace::{Mnt, Net, Pid};
        let with = |in_host_pid_ns, caps, of_host, namespaces: &[Namespace]| {
            let target = Inspection { in_host_pid_ns, ..target(caps, true) };
            decide(namespaces, false, of_host, &target, ALL).is_ok()
        };
        assert!(with(true, ALL, true, &[Pid, Net]));
        assert!(!with(true, ALL, false, &[Pid, Net]), "a container that shares the host's processes");
        assert!(!with(false, ALL, true, &[Pid, Net]), "a service with processes of its own");
        assert!(
            !with(true, DEFAULT | 1 << 21, true, &[Pid, Net]),
            "it could not take over the host's before"
        );
        assert!(!with(true, ALL, true, &[Pid, Net, Mnt]), "its own programs");
    }

    #[test]
    fn another_user_keeps_a_capability_that_the_target_lacks() {
        let nobody = || Some(User { uid: 65534, gid: 65534, groups: Vec::new() });
        for caps in [0, DEFAULT, DEFAULT | 1 << 36] {
            let (_, shield) = user(nobody(), false, &target(caps, true)).unwrap().unwrap();
            assert_eq!(caps & (1 << shield.unwrap()), 0);
        }
        assert_eq!(user(nobody(), false, &target(ALL, true)).unwrap().unwrap().1, None);
        assert_eq!(user(None, false, &target(DEFAULT, true)).unwrap(), None);
    }
}
