//! Archives that the kernel unpacks as its first root: the "newc" format of
//! `Documentation/driver-api/early-userspace/buffer-format.rst`. Several may stand one after the other.

/// An archive in the making.
#[derive(Debug, Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    pub(super) fn folder(&mut self, name: &str) {
        self.add(name, 0o040_755, (0, 0), &[]);
    }

    pub(super) fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.add(name, 0o100_000 | mode, (0, 0), content);
    }

    /// A character device.
    pub(super) fn device(&mut self, name: &str, numbers: (u32, u32)) {
        self.add(name, 0o020_600, numbers, &[]);
    }

    /// The whole archive, as long as archives after it want it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.align();
        self.bytes
    }

    fn add(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // ino, mode, uid, gid, nlink, mtime, filesize, major and minor of the file system and of the device, namesize, check.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0]
            .map(|n| format!("{n:08x}"));
        self.bytes.extend(b"070701");
        self.bytes.extend(fields.concat().as_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn busybox_unpacks_it() {
        let mut archive = Cpio::default();
        archive.folder("one");
        archive.file("one/odd", 0o755, b"12345");
        archive.device("one/null", (1, 3));
        let folder = tempfile::tempdir().unwrap();
        let mut busybox = Command::new("busybox")
            .args(["cpio", "-i"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        busybox.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
        assert!(busybox.wait().unwrap().success());
        let odd = folder.path().join("one/odd");
        assert_eq!(std::fs::read(&odd).unwrap(), b"12345");
        let mode = std::os::unix::fs::PermissionsExt::mode(&odd.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o755);
    }
}
