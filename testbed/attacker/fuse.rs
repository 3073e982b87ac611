//! A file system of the container's own that takes a request and never answers it: whoever reads the file hangs in the
//! kernel, where no signal reaches. As little of the protocol as that takes (linux/fuse.h).

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;

use crate::sys;

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const INIT: u32 = 26;
/// Of `struct fuse_attr`.
const ATTRIBUTES: usize = 88;
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_444;

pub(crate) fn hang() -> io::Result<()> {
    let mut device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    std::fs::create_dir_all("/hang")?;
    let options = format!("fd={},rootmode=40755,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    sys::mount_with("hang", "/hang", "fuse", 0, &options).map_err(io::Error::from_raw_os_error)?;
    let mut request = vec![0; 1 << 17];
    loop {
        let length = device.read(&mut request)?;
        let word =
            |at: usize| request.get(at..at + 4).map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
        let unique = request.get(8..16).unwrap_or_default().to_vec();
        let (asked, node) = (word(4), word(16));
        let body = match asked {
            // Version 7.31, flags of no importance, and sizes.
            INIT => [7_u32, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0].map(u32::to_ne_bytes).concat(),
            // Node 2, generation, times of validity, and its attributes.
            LOOKUP => [[2_u64, 0, 0, 0, 0].map(u64::to_ne_bytes).concat(), attributes(2)].concat(),
            GETATTR => [[0_u64, 0].map(u64::to_ne_bytes).concat(), attributes(node)].concat(),
            OPEN => [1_u64, 0].map(u64::to_ne_bytes).concat(),
            // Taken, and never answered.
            READ => {
                println!("hung");
                continue;
            }
            _ => {
                if length >= 40 {
                    answer(&mut device, &unique, -38, &[])?;
                }
                continue;
            }
        };
        answer(&mut device, &unique, 0, &body)?;
    }
}

fn attributes(node: u32) -> Vec<u8> {
    let mut bytes = vec![0; ATTRIBUTES];
    let (mode, size) = if node == 1 { (FOLDER, 0_u64) } else { (FILE, 4096) };
    bytes[..8].copy_from_slice(&u64::from(node).to_ne_bytes());
    bytes[8..16].copy_from_slice(&size.to_ne_bytes());
    bytes[60..64].copy_from_slice(&mode.to_ne_bytes());
    bytes[64..68].copy_from_slice(&1_u32.to_ne_bytes());
    bytes
}

fn answer(device: &mut impl io::Write, unique: &[u8], error: i32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(16 + body.len()).unwrap_or(16);
    let all = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), unique, body].concat();
    // An interrupted request is none any more.
    match device.write_all(&all) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}
