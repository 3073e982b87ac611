//! The loader of eBPF objects, without what none of this program's objects asks for.

use std::thread;

use aya::EbpfLoader;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;

/// A folder that is on every host, and that nothing can be made in.
const NOWHERE: &str = "/proc/self/fdinfo";

/// aya makes a loader with the kernel's description of all of its types, which the programs here refer to none of: that
/// is 5 MB to be read a page at a time and taken apart, 30 ms and some 20 MB of memory in each process. It can be taken
/// out again but not left out, so the loader is made by a thread to which `/sys` is not there. Where that is forbidden it
/// only takes longer.
pub fn ebpf_loader<'a>() -> EbpfLoader<'a> {
    let made = thread::scope(|scope| {
        let elsewhere = || {
            // The thread's own root and no other's: with CLONE_FS taken apart, chroot(2) is of this thread alone.
            let _ = unshare(CloneFlags::CLONE_FS).and_then(|()| chroot(NOWHERE));
            EbpfLoader::new()
        };
        let thread = thread::Builder::new().spawn_scoped(scope, elsewhere).ok()?;
        thread.join().ok()
    });
    let mut loader = made.unwrap_or_default();
    loader.btf(None);
    loader
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn making_it_leaves_this_process_where_it_is() {
        let root = || std::fs::read_link("/proc/thread-self/root").unwrap();
        let before = (root(), std::env::current_dir().unwrap());
        let loader = ebpf_loader();
        assert_eq!((root(), std::env::current_dir().unwrap()), before);
        assert!(format!("{loader:?}").contains("btf: None"), "{loader:?}");
    }
}
