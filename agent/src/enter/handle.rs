//! Opens a cgroup's directory by its id alone, so that the path is found also when the process that was seen in it
//! has gone. One system call that neither nix nor rustix offers.
#![allow(unsafe_code, reason = "open_by_handle_at has no safe wrapper in nix or rustix")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `FILEID_KERNFS` of `include/linux/exportfs.h` (Linux 5.5): the handle is the 64-bit id of a kernfs node, which
/// for a cgroup is its id.
const FILEID_KERNFS: i32 = 0xfe;

/// `struct file_handle` of `include/linux/fs.h`, with the eight bytes that this type of handle has.
#[repr(C)]
struct FileHandle {
    handle_bytes: u32,
    handle_type: i32,
    f_handle: [u8; 8],
}

/// An `O_PATH` descriptor of the cgroup `id` in the hierarchy that `root` (a descriptor of its mount point, not
/// `O_PATH`) belongs to. `ESTALE` when the cgroup has gone; `EPERM` without `CAP_DAC_READ_SEARCH`.
pub fn open_cgroup(root: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    let mut handle = FileHandle { handle_bytes: 8, handle_type: FILEID_KERNFS, f_handle: id.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `handle` is a valid file_handle whose length field is true, and it outlives the call, which keeps no
    // pointer to it.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, root.as_raw_fd(), &raw mut handle, flags) };
    match i32::try_from(fd) {
        // SAFETY: the call succeeded, so this is a new descriptor that nothing else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
