//! An order as the stub reads it: pointers and borrowed descriptors, made in place and without an allocation.

#![allow(unsafe_code, reason = "execve(2) takes pointers; DESIGN, law 4")]

use core::ffi::{CStr, c_char};
use core::slice;
use rustix_core::fd::{AsFd, OwnedFd, RawFd};

use libc::c_uint;

use crate::cpus::Cpus;
use crate::layout::{
    CHECK_LIMITS, CHECK_NEIGHBOURS, HAS_OBSERVER, HAS_USER, HEAD, JOIN_MNT, JOIN_PID, JOIN_USER, LIMITING,
    OPTIONAL, STAY, UNIFIED, WITHOUT_STUB,
};
use crate::limits::Limits;
use crate::way::{Credentials, Fds, Observer, Way};

/// A place in the order becomes a pointer in the same cell.
const _: () = assert!(size_of::<u64>() == size_of::<*const c_char>());
/// A statement of the filter is one cell.
const _: () = assert!(size_of::<libc::sock_filter>() == size_of::<u64>());

/// What the stub works with; all of it lives in the spawner at the moment of the fork.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// Each of the three ends with NULL.
    pub(crate) programs: &'a [*const c_char],
    pub(crate) argv: &'a [*const c_char],
    pub(crate) envp: &'a [*const c_char],
    pub(crate) workdir: &'a CStr,
    pub(crate) way: Way<'a>,
    pub(crate) join_pid: bool,
    pub(crate) fds: Fds<'a>,
    /// To the launcher: gives signals, and ends with it.
    pub(crate) socket: RawFd,
    pub(crate) own: &'a Own,
    pub(crate) unified: bool,
    pub(crate) stay: bool,
}

/// What a spawner has and knows of itself from its start on.
#[derive(Debug)]
pub(crate) struct Own {
    /// Its namespaces of pids and mounts, which it comes back to and nobody else needs.
    pub(crate) pid_ns: OwnedFd,
    pub(crate) mnt_ns: OwnedFd,
    /// From this number on there are the descriptors of an order alone.
    pub(crate) first_free: c_uint,
    /// Resource limits as every command begins with them: the spawner's own, which only a
    /// container in the host's pid namespace has in sight.
    pub(crate) limits: Limits,
    /// Inode of its user namespace, which is its stubs', too; or why it is not known.
    pub(crate) user_ns: Result<u64, i32>,
    /// Where its commands may run.
    pub(crate) cpus: Cpus,
}

impl<'a> Frame<'a> {
    /// Reads what [`Order::write`](crate::Order::write) has written, and turns places into pointers where they stand.
    /// `None` for anything else.
    pub(crate) fn read(
        memory: &'a mut [u64],
        fds: &'a [Option<OwnedFd>],
        socket: RawFd,
        own: &'a Own,
    ) -> Option<Self> {
        let (start, length) = (memory.as_ptr() as u64, 8 * memory.len() as u64);
        // So every word has an end within the memory.
        if memory.last()?.to_ne_bytes().last() != Some(&0) {
            return None;
        }
        let (head, rest) = memory.split_first_chunk_mut::<HEAD>()?;
        let [flags, join, bounding, uid, gid, kept, pid_ns, groups, filter, programs, arguments, environment] =
            *head;
        let count = |cell: u64| usize::try_from(cell).ok();
        let lists = [count(programs)?, count(arguments)?, count(environment)?];
        let places = lists.iter().try_fold(2_usize, |sum, list| sum.checked_add(*list)?.checked_add(1))?;
        let (places, rest) = rest.split_at_mut_checked(places)?;
        for place in places.iter_mut().filter(|place| **place != 0) {
            if *place >= length {
                return None;
            }
            *place = start.wrapping_add(*place);
        }
        let (places, rest): (&[u64], &[u64]) = (places, rest);
        let [programs, argv, envp] = lists;
        let (programs, places) = list(places, programs)?;
        let (argv, places) = list(places, argv)?;
        let (envp, places) = list(places, envp)?;
        let &[workdir, pid_ns_path] = places else { return None };
        let (cells, rest) = rest.split_at_checked(count(groups)?.div_ceil(2))?;
        let groups = numbers(cells, count(groups)?);
        let filter = statements(rest.get(..count(filter)?)?);

        let has = |flag: u64| flags & flag != 0;
        let mut fds = fds.iter().map_while(|fd| fd.as_ref().map(AsFd::as_fd));
        let mut next = || fds.next();
        let (target, template) = (next()?, next()?);
        let stdio = [next()?, next()?, next()?];
        let (cgroup, cgroup_procs) = (next()?, next()?);
        let mut bits = (OPTIONAL..).map(|bit| has(1 << bit));
        // What was sent and has not come, for want of numbers, is not taken for what was not sent.
        let mut missing = false;
        let mut optional = || {
            let fd = if bits.next() == Some(true) { Some(next()) } else { None };
            missing |= fd.is_some_and(|fd| fd.is_none());
            fd.flatten()
        };
        let (cgroup_kill, sys, devpts) = (optional(), optional(), optional());
        let (proc, resolv_conf, program) = (optional(), optional(), optional());
        let mut limiting = [None; LIMITING];
        limiting.fill_with(&mut optional);
        if missing {
            return None;
        }

        let narrow = |cell: u64| u32::try_from(cell).ok();
        Some(Self {
            programs,
            argv,
            envp,
            workdir: text(workdir)?,
            way: Way {
                join: i32::try_from(join).ok()?,
                join_user: has(JOIN_USER),
                join_mnt: has(JOIN_MNT),
                sys,
                devpts,
                user: if has(HAS_USER) {
                    Some(Credentials { uid: narrow(uid)?, gid: narrow(gid)?, groups, kept })
                } else {
                    None
                },
                bounding,
                check_neighbours: has(CHECK_NEIGHBOURS),
                check_limits: has(CHECK_LIMITS),
                observer: if has(HAS_OBSERVER) {
                    let own_pid_ns = (text(pid_ns_path)?, pid_ns);
                    let without_stub = has(WITHOUT_STUB) && proc.is_some();
                    Some(Observer { proc, own_pid_ns, resolv_conf, program, without_stub, filter })
                } else {
                    None
                },
            },
            join_pid: has(JOIN_PID),
            fds: Fds { target, template, stdio, cgroup, cgroup_procs, cgroup_kill, limiting },
            socket,
            own,
            unified: has(UNIFIED),
            stay: has(STAY),
        })
    }
}

impl Frame<'_> {
    /// Whether the spawner makes the run's copy of the template, so that its end, which takes the kernel longer than all else of
    /// a run, is waited for by nobody. Otherwise the stub goes elsewhere before it comes there.
    pub(crate) fn has_own_mounts(&self) -> bool {
        let observer = self.way.observer.as_ref();
        !self.way.join_mnt && observer.is_none_or(|observer| observer.proc.is_some())
    }

    pub(crate) fn has_stub(&self) -> bool {
        self.way.observer.as_ref().is_none_or(|observer| !observer.without_stub)
    }
}

/// A list of this many pointers and the NULL after it, and what follows.
fn list(places: &[u64], count: usize) -> Option<(&[*const c_char], &[u64])> {
    let (list, rest) = places.split_at_checked(count.checked_add(1)?)?;
    if list.last() != Some(&0) {
        return None;
    }
    // SAFETY: a cell is as large and as aligned as a pointer, and any number is a pointer's value. Each leads into the same
    // memory, which the slice's lifetime keeps.
    Some((unsafe { slice::from_raw_parts(list.as_ptr().cast(), list.len()) }, rest))
}

fn text<'a>(place: u64) -> Option<&'a CStr> {
    // SAFETY: `read` has checked that the place is within the memory and that a NUL follows there; nothing writes to it as
    // long as the frame lives, and the callers give the result the frame's lifetime.
    (place != 0).then(|| unsafe { CStr::from_ptr(place as *const c_char) })
}

/// The first `count` 32-bit numbers in these cells.
fn numbers(cells: &[u64], count: usize) -> &[libc::gid_t] {
    // SAFETY: two numbers fit into a cell, every value is one, and `count` is at most twice the number of cells.
    unsafe { slice::from_raw_parts(cells.as_ptr().cast(), count.min(2 * cells.len())) }
}

fn statements(cells: &[u64]) -> &[libc::sock_filter] {
    // SAFETY: a statement is as large as a cell and less aligned, and is made of plain numbers.
    unsafe { slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs::File;
    use std::os::fd::{AsRawFd, BorrowedFd};

    use super::*;
    use crate::Order;

    fn cells(bytes: &[u8]) -> Vec<u64> {
        let (cells, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty());
        cells.iter().copied().map(u64::from_ne_bytes).collect()
    }

    fn words(texts: &[&str]) -> Vec<CString> {
        texts.iter().map(|text| CString::new(*text).unwrap()).collect()
    }

    fn read_back(list: &[*const c_char]) -> Vec<&str> {
        assert!(list.last().unwrap().is_null());
        let texts = list.iter().take_while(|text| !text.is_null());
        // SAFETY: what was written ends in NUL.
        texts.map(|text| unsafe { CStr::from_ptr(*text) }.to_str().unwrap()).collect()
    }

    fn own() -> Own {
        let null = || File::open("/dev/null").unwrap().into();
        Own {
            pid_ns: null(),
            mnt_ns: null(),
            first_free: 6,
            limits: [(0, 0); 16],
            user_ns: Ok(1),
            cpus: Cpus::default(),
        }
    }

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let files: Vec<_> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
        let fd = |n: usize| files[n].as_fd();
        let (programs, arguments) = (words(&["/usr/bin/a", "/bin/a"]), words(&["a", "", "-x y"]));
        let filter = [libc::sock_filter { code: 6, jt: 1, jf: 2, k: 0x7fff_0000 }];
        for observes in [true, false] {
            let observer = Observer {
                proc: None,
                own_pid_ns: (c"1/ns/pid", 77),
                resolv_conf: Some(fd(12)),
                program: None,
                without_stub: false,
                filter: &filter,
            };
            let user = Credentials { uid: 65534, gid: 3, groups: &[5, 6, 7], kept: 1 << 19 };
            let way = Way {
                join_mnt: true,
                sys: Some(fd(11)),
                user: Some(user),
                observer: observes.then_some(observer),
                ..Way::joined(true)
            };
            let fds = Fds {
                target: fd(0),
                template: fd(1),
                stdio: [fd(2), fd(3), fd(4)],
                cgroup: fd(5),
                cgroup_procs: fd(6),
                cgroup_kill: None,
                limiting: [None, Some(fd(13)), Some(fd(14))],
            };
            let order = Order {
                programs: &programs,
                arguments: &arguments,
                environment: &[],
                workdir: c"/work",
                way,
                join_pid: true,
                fds,
                unified: false,
                stay: true,
            };
            let (bytes, sent) = order.write();
            let mut memory = cells(&bytes);
            let sent: Vec<_> = sent.iter().map(|fd| Some(fd.try_clone_to_owned().unwrap())).collect();
            let own = own();
            let frame = Frame::read(&mut memory, &sent, 3, &own).unwrap();
            assert_eq!(read_back(frame.programs), ["/usr/bin/a", "/bin/a"]);
            assert_eq!(read_back(frame.argv), ["a", "", "-x y"]);
            assert_eq!(read_back(frame.envp), [""; 0]);
            assert_eq!(frame.workdir, c"/work");
            let user = frame.way.user.unwrap();
            assert_eq!((user.uid, user.gid, user.groups, user.kept), (65534, 3, &[5, 6, 7][..], 1 << 19));
            assert!(
                frame.way.join_mnt
                    && frame.way.check_neighbours
                    && frame.join_pid
                    && !frame.unified
                    && frame.stay
            );
            assert_eq!((frame.way.join, frame.way.bounding), (libc::CLONE_NEWNET, u64::MAX));
            let number = |fd: Option<BorrowedFd<'_>>| fd.map(|fd| fd.as_raw_fd());
            let given = |n: usize| sent[n].as_ref().map(AsRawFd::as_raw_fd);
            assert_eq!(number(frame.way.sys), given(7));
            assert_eq!((number(frame.way.devpts), number(frame.fds.cgroup_kill)), (None, None));
            let after = if observes { 9 } else { 8 };
            assert_eq!(frame.fds.limiting.map(number), [None, given(after), given(after + 1)]);
            match frame.way.observer {
                Some(observer) => {
                    assert_eq!(observer.own_pid_ns, (c"1/ns/pid", 77));
                    assert_eq!((number(observer.resolv_conf), number(observer.program)), (given(8), None));
                    assert_eq!((observer.filter.len(), observer.filter[0].k), (1, 0x7fff_0000));
                }
                None => assert!(!observes),
            }
        }
    }

    #[test]
    fn what_is_no_order_is_refused() {
        let order = [0_u64; HEAD + 5];
        assert!(Frame::read(&mut [], &[], 3, &own()).is_none());
        assert!(Frame::read(&mut { order }, &[], 3, &own()).is_none(), "no descriptors");
        let mut far = order;
        far[9] = u64::MAX;
        assert!(Frame::read(&mut far, &[], 3, &own()).is_none(), "more programs than there is memory");
        let mut outside = order;
        (outside[HEAD], outside[HEAD + 1]) = (1 << 40, 0);
        assert!(Frame::read(&mut outside, &[], 3, &own()).is_none(), "a word beyond the memory");
        let mut endless = order;
        endless[HEAD + 4] = u64::MAX;
        assert!(Frame::read(&mut endless, &[], 3, &own()).is_none(), "a last word without an end");
    }
}
