//! What of the program is in a process's memory. Agent, launcher and keeper are one program, and each has touched most of it
//! once it has read its arguments and the configuration; afterwards they need a small part.

use std::ffi::c_void;
use std::fs;
use std::ops::Range;

/// So much a fault may bring in, in bytes. Half of what it does where the page cache has single pages (`fault_around_bytes` in
/// mm/memory.c): a process that waits uses some fifty places of the program, and each costs so much. Less would make a
/// thousand mappings.
const PIECE: usize = 32 * 1024;

/// Forgets where the program's pages are, so that only those count that are used from here on. They stay in the page cache,
/// and the next use of one finds it there. Failing costs memory and nothing else.
pub fn give_program_back() {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for range in unchanged(&maps) {
        // Where the page cache has pieces of up to 2 MiB, since Linux 6.18 one byte of a piece brings in all of it, but never
        // beyond its mapping. Neighbours of which one is said to be read at random, which changes nothing for pages that are
        // in memory, are mappings of their own.
        for piece in pieces(&range).skip(1).step_by(2) {
            advise(&piece, libc::MADV_RANDOM);
        }
        advise(&range, libc::MADV_DONTNEED);
    }
}

fn pieces(range: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.clone().step_by(PIECE).map(move |start| start..end.min(start + PIECE))
}

fn advise(range: &Range<usize>, advice: libc::c_int) {
    // SAFETY: a part of a private mapping of a file that may not be written and in which no page differs from the file: what
    // is read after this is what was read before (madvise(2), MADV_DONTNEED).
    #[allow(unsafe_code, reason = "madvise(2) can take memory away; this has a copy on disk")]
    let _ = unsafe { libc::madvise(range.start as *mut c_void, range.end - range.start, advice) };
}

/// The mappings of files in `/proc/PID/smaps` (proc_pid_smaps(5)) that are private, not writable, and as the file is:
/// nothing of them is anonymous memory, in swap either. What the dynamic linker has relocated is not among them.
fn unchanged(maps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current = None;
    let (mut anonymous, mut swapped) = (None, None);
    for line in maps.lines() {
        if let Some((range, of_a_file)) = mapping(line) {
            (current, anonymous, swapped) = (of_a_file.then_some(range), None, None);
        } else if let Some(kilobytes) = line.strip_prefix("Anonymous:") {
            anonymous = Some(kilobytes.trim() == "0 kB");
        } else if let Some(kilobytes) = line.strip_prefix("Swap:") {
            swapped = Some(kilobytes.trim() == "0 kB");
        }
        if anonymous == Some(true) && swapped == Some(true) {
            found.extend(current.take());
        }
    }
    found
}

/// The mapping that the line begins, and whether it is a private one of a file that may not be written.
fn mapping(line: &str) -> Option<(Range<usize>, bool)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let range = number(start)?..number(end)?;
    let mode = words.next()?;
    // Then the place in the file, the device, the inode and the path. What has no file has inode 0.
    let inode = words.nth(2)?;
    Some((range, matches!(mode, "r-xp" | "r--p") && inode != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_still_holds_is_given_back() {
        let maps = "\
55d0a000-55d0b000 r--p 00000000 fe:00 42 /usr/bin/parachute\nRss: 4 kB\nAnonymous:             0 kB\nSwap:                  0 kB
55d0b000-55d0d000 r-xp 00001000 fe:00 42 /usr/bin/parachute\nAnonymous:             0 kB\nSwap:                  0 kB
55d0d000-55d0e000 r--p 00003000 fe:00 42 /usr/bin/parachute\nAnonymous:             4 kB\nSwap:                  0 kB
55d0e000-55d0f000 r--p 00004000 fe:00 42 /usr/bin/parachute\nAnonymous:             0 kB\nSwap:                  8 kB
55d0f000-55d10000 rw-p 00005000 fe:00 42 /usr/bin/parachute\nAnonymous:             0 kB\nSwap:                  0 kB
7f000000-7f001000 r--s 00000000 00:0e 7 anon_inode:bpf-map\nAnonymous:             0 kB\nSwap:                  0 kB
7f001000-7f002000 r--p 00000000 00:00 0 [vvar]\nAnonymous:             0 kB\nSwap:                  0 kB
7f002000-7f003000 r-xp 00000000 00:00 0 [vdso]\nAnonymous:             0 kB\nSwap:                  0 kB
7f003000-7f004000 r-xp 00000000 fe:00 43 /usr/bin/cut\nAnonymous:             0 kB
";
        assert_eq!(unchanged(maps), [0x55d0_a000..0x55d0_b000, 0x55d0_b000..0x55d0_d000]);
        for broken in ["", "-", "1-2", "1-2 r-xp", "g-1 r-xp 0 0 1", "Anonymous: 0 kB\nSwap: 0 kB"] {
            assert!(unchanged(broken).is_empty(), "{broken}");
        }
    }

    #[test]
    fn this_program_goes_on_after_it() {
        let code = || {
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines()
                .filter_map(mapping)
                .filter(|(_, of_a_file)| *of_a_file)
                .map(|(range, _)| range)
                .collect()
        };
        give_program_back();
        let after: Vec<Range<usize>> = code();
        assert!(after.len() > 100, "{after:x?}");
        assert!(after.iter().filter(|range| range.len() > PIECE).count() <= 4, "{after:x?}");
    }
}
