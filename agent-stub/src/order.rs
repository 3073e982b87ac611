//! An order as the launcher writes it, in the memory that `layout` describes. The program that obeys has no need of it.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use crate::layout::{
    CHECK_LIMITS, CHECK_NEIGHBOURS, HAS_OBSERVER, HAS_USER, HEAD, JOIN_MNT, JOIN_PID, JOIN_USER, OPTIONAL,
    STAY, UNIFIED, WITHOUT_STUB,
};
use crate::way::{Fds, Way};

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Tried in this order; the first that is there is executed.
    pub programs: &'a [CString],
    pub arguments: &'a [CString],
    pub environment: &'a [CString],
    pub workdir: &'a CStr,
    pub way: Way<'a>,
    /// Whether the container's pid namespace is joined, too.
    pub join_pid: bool,
    pub fds: Fds<'a>,
    /// `clone3(CLONE_INTO_CGROUP)` works with the cgroup.
    pub unified: bool,
    /// Whether the run begins on the spawner's processor.
    pub stay: bool,
}

impl<'a> Order<'a> {
    /// The memory, which the stub is to have a copy of, and the descriptors in their order.
    pub fn write(&self) -> (Vec<u8>, Vec<BorrowedFd<'a>>) {
        let way = &self.way;
        let observer = way.observer.as_ref();
        let (pid_ns_path, pid_ns) = observer.map_or((c"", 0), |observer| observer.own_pid_ns);
        let (uid, gid, groups, kept) =
            way.user.map_or((0, 0, &[][..], 0), |user| (user.uid, user.gid, user.groups, user.kept));
        let filter = observer.map_or(&[][..], |observer| observer.filter);
        let optional = [
            self.fds.cgroup_kill,
            way.sys,
            way.devpts,
            observer.and_then(|observer| observer.proc),
            observer.and_then(|observer| observer.resolv_conf),
            observer.and_then(|observer| observer.program),
        ];
        let optional = || optional.iter().chain(&self.fds.limiting);

        let mut flags = 0;
        for (flag, set) in [
            (JOIN_PID, self.join_pid),
            (JOIN_USER, way.join_user),
            (JOIN_MNT, way.join_mnt),
            (CHECK_NEIGHBOURS, way.check_neighbours),
            (CHECK_LIMITS, way.check_limits),
            (UNIFIED, self.unified),
            (STAY, self.stay),
            (HAS_USER, way.user.is_some()),
            (HAS_OBSERVER, observer.is_some()),
            (WITHOUT_STUB, observer.is_some_and(|observer| observer.without_stub)),
        ] {
            flags |= if set { flag } else { 0 };
        }
        for (bit, fd) in (OPTIONAL..).zip(optional()) {
            flags |= u64::from(fd.is_some()) << bit;
        }
        let lists = [self.programs, self.arguments, self.environment];
        let mut cells: Vec<u64> = vec![
            flags,
            u64::from(way.join.unsigned_abs()),
            way.bounding,
            u64::from(uid),
            u64::from(gid),
            kept,
            pid_ns,
            groups.len() as u64,
            filter.len() as u64,
        ];
        cells.extend(lists.iter().map(|list| list.len() as u64));
        debug_assert_eq!(cells.len(), HEAD);

        let places = lists.iter().map(|list| list.len() + 1).sum::<usize>() + 2;
        let mut place = 8 * (HEAD + places + groups.len().div_ceil(2) + filter.len());
        let mut words: Vec<u8> = Vec::new();
        let mut take = |text: &CStr| {
            let at = place as u64;
            words.extend(text.to_bytes_with_nul());
            place += text.to_bytes_with_nul().len();
            at
        };
        for list in lists {
            cells.extend(list.iter().map(|text| take(text)));
            cells.push(0);
        }
        cells.extend([take(self.workdir), take(pid_ns_path)]);
        let mut bytes: Vec<u8> = cells.into_iter().flat_map(u64::to_ne_bytes).collect();
        bytes.extend(groups.iter().flat_map(|group| group.to_ne_bytes()));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        for libc::sock_filter { code, jt, jf, k } in filter {
            bytes.extend(code.to_ne_bytes());
            bytes.extend([*jt, *jf]);
            bytes.extend(k.to_ne_bytes());
        }
        bytes.extend(words);
        // The last byte is a NUL whatever came before, so that every word has an end.
        bytes.resize((bytes.len() + 1).next_multiple_of(8), 0);

        let Fds { target, template, stdio: [stdin, stdout, stderr], cgroup, cgroup_procs, .. } = self.fds;
        let needed = [target, template, stdin, stdout, stderr, cgroup, cgroup_procs];
        (bytes, needed.into_iter().chain(optional().copied().flatten()).collect())
    }
}
