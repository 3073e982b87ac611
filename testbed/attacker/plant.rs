//! Traps at paths: what a container can leave where a host's program may read.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::thread;

use crate::sys;

/// Types and rights of mknod(2).
const PIPE: i64 = 0o010_666;
const CHARACTERS: i64 = 0o020_666;
const BLOCKS: i64 = 0o060_666;

/// `device` is a block device with something secret on it. What could be planted is said in /planted.
pub(crate) fn plant(device: &str) -> io::Result<()> {
    symlink("/root/hostsecret", "/absolute")?;
    symlink("../../../../../../etc/shadow", "/upwards")?;
    symlink("/circle", "/circle")?;
    sys::make_node("/pipe", PIPE, (0, 0)).map_err(io::Error::from_raw_os_error)?;
    fs::File::create("/sparse")?.set_len(1 << 40)?;
    let numbers = |text: &str| {
        let (major, minor) = text.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let devices = [
        ("block", BLOCKS, numbers(device)),
        ("disk", BLOCKS, first_disk()),
        // Documentation/admin-guide/devices.txt: memory, ports, the kernel's log, the maker of loop devices.
        ("mem", CHARACTERS, Some((1, 1))),
        ("port", CHARACTERS, Some((1, 4))),
        ("kmsg", CHARACTERS, Some((1, 11))),
        ("loops", CHARACTERS, Some((10, 237))),
    ];
    let mut planted = String::new();
    for (name, mode, numbers) in devices {
        if numbers.is_some_and(|numbers| sys::make_node(&format!("/{name}"), mode, numbers).is_ok()) {
            planted.extend([name, "\n"]);
        }
    }
    fs::write("/planted.new", planted + "done\n")?;
    fs::rename("/planted.new", "/planted")?;
    // One that changes its mind while somebody looks.
    thread::spawn(|| {
        loop {
            for target in ["/absolute", "/attacker"] {
                let _ = fs::remove_file("/swapped.new");
                let _ = symlink(target, "/swapped.new");
                let _ = fs::rename("/swapped.new", "/swapped");
            }
        }
    });
    crate::sleep()
}

/// The numbers of the first of the host's disks: every container is told them.
fn first_disk() -> Option<(i64, i64)> {
    let table = fs::read_to_string("/proc/partitions").ok()?;
    let mut words = table.lines().nth(2)?.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}
