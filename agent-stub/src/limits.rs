//! The tamper check of a joined command: a process of its container may lower its resource limits (prlimit(2)), so that
//! it prints less than there is and ends with status 0. System calls only, as in `stub`.

#![allow(unsafe_code, reason = "runs in the stub; DESIGN, law 4")]

use libc::{c_int, pid_t};

/// `RLIM_NLIMITS` (asm-generic/resource.h).
const COUNT: usize = 16;

/// Soft and hard limit of each resource.
pub(crate) type Limits = [(u64, u64); COUNT];

/// Soft and hard limits of a process, of this one for 0. What cannot be read counts as unlimited.
pub(crate) fn limits(pid: pid_t) -> Limits {
    let mut all = [(u64::MAX, u64::MAX); COUNT];
    for (number, place) in (0..).zip(&mut all) {
        let mut limit = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
        // SAFETY: numbers, no new limit, and a struct on this stack of the size that the call writes.
        unsafe {
            libc::syscall(
                libc::SYS_prlimit64,
                pid,
                number,
                core::ptr::null::<libc::rlimit64>(),
                &raw mut limit,
            )
        };
        *place = (limit.rlim_cur, limit.rlim_max);
    }
    all
}

/// Whether anything was taken away.
pub(crate) fn lowered(before: &Limits, after: &Limits) -> bool {
    before.iter().zip(after).any(|(before, after)| after.0 < before.0 || after.1 < before.1)
}

/// Whether this child has ended. It is left to be waited for, and its limits can be read until then.
pub(crate) fn has_ended(pid: pid_t) -> bool {
    // SAFETY: zeroes are a valid `siginfo_t`, which outlives the call.
    unsafe {
        let mut info: libc::siginfo_t = core::mem::zeroed();
        let flags: c_int = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, pid.unsigned_abs(), &raw mut info, flags) == 0 && info.si_pid() == pid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_taken_away_counts() {
        let before = [(10, 20); COUNT];
        for (place, limit, expected) in [
            (7, (10, 20), false),
            (7, (20, 20), false),
            (7, (9, 20), true),
            (0, (10, 19), true),
            (libc::RLIMIT_CORE as usize, (0, 20), true),
        ] {
            let mut after = before;
            after[place] = limit;
            assert_eq!(lowered(&before, &after), expected, "{place} {limit:?}");
        }
    }

    #[test]
    fn a_childs_limits_can_be_read_after_it_has_ended() {
        let child = std::process::Command::new("sh").args(["-c", "ulimit -n 17"]).spawn().unwrap();
        let pid = pid_t::try_from(child.id()).unwrap();
        while !has_ended(pid) {}
        assert_eq!(limits(pid)[libc::RLIMIT_NOFILE as usize], (17, 17));
        assert!(lowered(&limits(0), &limits(pid)));
        { child }.wait().unwrap();
    }
}
