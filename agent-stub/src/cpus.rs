//! Where a run begins that goes on alone: on its spawner's processor. Spawner, stub and command wait for each other in turn;
//! on one processor that is a switch of processes, and on another one, which sleeps, first its waking up. Before the command
//! executes its program it may run anywhere again, and soon after that so may the stub. With other runs beside it the kernel decides.

#![allow(unsafe_code, reason = "system calls in the stub; DESIGN, law 4")]

/// Processors in words of 64, as many as the kernel can be built for (NR_CPUS of x86-64).
const WORDS: usize = 8192 / 64;

/// Processors that a process may run on (sched_setaffinity(2)); none where that is not known.
#[derive(Debug)]
pub(crate) struct Cpus([u64; WORDS]);

impl Default for Cpus {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Cpus {
    /// What this process comes back to. Where nobody has narrowed it by sched_setaffinity(2), those are all that there will be:
    /// its cpuset, which may change, holds besides. None where that is not known, and then it never leaves them.
    pub(crate) fn own() -> Self {
        let all = Self([u64::MAX; WORDS]);
        let Some(before) = Self::allowed() else { return Self::default() };
        if all.set() && Self::allowed().is_some_and(|after| after.0 == before.0) {
            return all;
        }
        before.set();
        before
    }

    fn allowed() -> Option<Self> {
        let mut cpus = Self::default();
        // SAFETY: a place of the length that is said.
        let got =
            unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of::<Self>(), cpus.0.as_mut_ptr()) };
        (got > 0).then_some(cpus)
    }

    /// Lets this process run on these again, or, where its cpuset has none of them any more, on all of its cpuset.
    pub(crate) fn allow(&self) {
        if self.is_known() && !self.set() {
            Self([u64::MAX; WORDS]).set();
        }
    }

    fn is_known(&self) -> bool {
        self.0.iter().any(|word| *word != 0)
    }

    fn set(&self) -> bool {
        // SAFETY: a place of the length that is said.
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of::<Self>(), self.0.as_ptr()) == 0 }
    }

    /// Keeps this process where it is now, if it can come back from there.
    pub(crate) fn stay(&self) {
        let (mut cpu, none) = (0_u32, core::ptr::null::<u32>());
        // SAFETY: a local that the kernel writes to; it writes nothing for NULL.
        let got = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, none, none) };
        let mut here = Self::default();
        if let (0, Some(word)) = (got, here.0.get_mut(cpu as usize / 64))
            && self.is_known()
        {
            *word = 1 << (cpu % 64);
            here.set();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(cpus: &Cpus) -> u32 {
        cpus.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Of a thread alone, whose processors are its own.
    fn alone(work: impl FnOnce() + Send + 'static) {
        std::thread::spawn(work).join().unwrap();
    }

    #[test]
    fn a_process_stays_and_comes_back() {
        alone(|| {
            let before = Cpus::allowed().unwrap();
            let own = Cpus::own();
            own.stay();
            assert_eq!(count(&Cpus::allowed().unwrap()), 1);
            own.allow();
            assert_eq!(Cpus::allowed().unwrap().0, before.0);
        });
    }

    #[test]
    fn who_was_narrowed_comes_back_to_that() {
        alone(|| {
            let is_one = count(&Cpus::allowed().unwrap()) == 1;
            Cpus::own().stay();
            let narrowed = Cpus::allowed().unwrap();
            let own = Cpus::own();
            assert!(is_one || own.0 == narrowed.0);
            own.stay();
            own.allow();
            assert_eq!(Cpus::allowed().unwrap().0, narrowed.0);
        });
    }

    #[test]
    fn what_is_not_known_is_left_as_it_is() {
        alone(|| {
            let before = Cpus::allowed().unwrap();
            let unknown = Cpus::default();
            unknown.stay();
            unknown.allow();
            assert_eq!(Cpus::allowed().unwrap().0, before.0);
        });
    }
}
