//! What Podman leaves on disk of a container: its name and its image, in the list that its storage keeps. It has no daemon
//! that could be asked, and its API socket need not be there; pods and labels are in a database of its own, which is not read.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use serde::Deserialize;

use crate::model::Metadata;

/// A list is about a kilobyte for each container. Root's may be long; a user must not have the agent read what they like.
const MAX_SIZE: u64 = 16 << 20;
const MAX_SIZE_OF_USER: u64 = 1 << 20;

/// Root's storage unless told otherwise.
pub(super) const USUAL: &str = "/var/lib/containers/storage";
/// A user's, below their home.
const OF_USER: &str = ".local/share/containers/storage";

/// The storage's drivers, each with a folder of its own, and the lists in it: of containers that are to stay, and of others.
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];

/// A folder of containers and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) folder: PathBuf,
    pub(super) owner: u32,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    names: Option<Vec<String>>,
    metadata: Option<String>,
}

/// Podman's own part of an entry, a text of JSON within the JSON.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Own {
    image_name: String,
    name: String,
}

impl Storage {
    pub(super) fn of_root(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), owner: 0 }
    }

    pub(super) fn of_user(owner: u32) -> Option<Self> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        Some(Self { folder: home_of(owner, &passwd)?.join(OF_USER), owner })
    }

    /// What it says of this container.
    pub(super) fn find(&self, id: &str) -> Option<Metadata> {
        let lists = DRIVERS
            .iter()
            .flat_map(|driver| LISTS.map(|list| self.folder.join(format!("{driver}-containers")).join(list)));
        let found = lists.filter_map(|list| read(&list, self.owner)).find_map(|text| entry(&text, id))?;
        // A user may call it what the host's services and root's containers are called.
        let namespace = if self.owner == 0 { String::new() } else { format!("user-{}", self.owner) };
        Some(Metadata { namespace, ..found })
    }
}

/// Only a plain file of the owner's is read: a link or a pipe there could lead anywhere.
fn read(path: &Path, owner: u32) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(CWD, path, flags, Mode::empty()).ok()?;
    let stat = fstat(&file).ok()?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() || stat.st_uid != owner {
        return None;
    }
    let mut text = Vec::new();
    let most = if owner == 0 { MAX_SIZE } else { MAX_SIZE_OF_USER };
    File::from(file).take(most).read_to_end(&mut text).ok()?;
    Some(text)
}

fn entry(text: &[u8], id: &str) -> Option<Metadata> {
    let entries: Vec<Entry> = serde_json::from_slice(text).ok()?;
    let entry = entries.into_iter().find(|entry| entry.id == id)?;
    let own: Own = entry.metadata.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let container = entry.names.and_then(|names| names.into_iter().next()).unwrap_or(own.name);
    // The infra container of a pod: twelve digits of the pod's id, and a word.
    let sandbox = container.strip_suffix("-infra").is_some_and(|pod| {
        pod.len() == 12 && pod.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    Some(Metadata { container, image: own.image_name, sandbox, ..Metadata::default() })
}

/// The user in whose part of the cgroup tree this path is: `user-1000.slice`, in which systemd has all that they run. The
/// part above a container is not the container's to name.
pub(super) fn user_of(cgroup_path: &str) -> Option<u32> {
    cgroup_path.split('/').find_map(|part| part.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok())
}

/// The sixth field of the user's line (passwd(5)).
fn home_of(user: u32, passwd: &str) -> Option<PathBuf> {
    let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut homes = lines.filter(|fields| fields.get(2).and_then(|uid| uid.parse().ok()) == Some(user));
    homes.find_map(|fields| fields.get(5).map(PathBuf::from)).filter(|home| home.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../../../tests/fixtures/engines/podman-4.3-storage.json");

    #[test]
    fn a_containers_name_and_image_are_in_the_list() {
        let found = |id: &str| entry(RECORDED.as_bytes(), id);
        let plain = found("8ed73d9d6c3efb6c3d1f2d64e70104688d279c95cae89891737855120099b15c").unwrap();
        assert_eq!((plain.container.as_str(), plain.sandbox), ("plain", false));
        assert_eq!(plain.image, "parachute.test/workload:1");
        let infra = found("bf132c070ffee29d3c8a7324aaa001b87eccf1084df60524cc0363aeb894f5a6").unwrap();
        assert!(infra.sandbox && infra.container == "6f1b8459d8ac-infra");
        assert_eq!(found("8ed73d9d6c3e"), None, "a part of an id is none");
        for (text, name) in [
            (include_str!("../../../../tests/fixtures/engines/podman-5.4-storage.json"), "plain"),
            (include_str!("../../../../tests/fixtures/engines/podman-5.4-volatile.json"), "volat"),
            (include_str!("../../../../tests/fixtures/engines/podman-5.8-storage.json"), "plain"),
            (include_str!("../../../../tests/fixtures/engines/podman-5.8-volatile.json"), "volat"),
        ] {
            let all: serde_json::Value = serde_json::from_str(text).unwrap();
            let entry_of = |one: &serde_json::Value| entry(text.as_bytes(), one["id"].as_str().unwrap());
            let all: Vec<Metadata> = all.as_array().unwrap().iter().filter_map(entry_of).collect();
            let found = all.iter().find(|one| one.container == name).unwrap();
            assert_eq!((found.image.as_str(), found.sandbox), ("parachute.test/workload:1", false));
        }
        for text in ["", "{}", "[1]", &"[".repeat(100_000)] {
            assert_eq!(entry(text.as_bytes(), "a"), None);
        }
    }

    #[test]
    fn only_the_owners_plain_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let lists = folder.path().join("vfs-containers");
        fs::create_dir(&lists).unwrap();
        let path = lists.join("volatile-containers.json");
        fs::write(&path, RECORDED).unwrap();
        let id = "a61c7672894dd21aab0fe3e235ed115747b7cdba36ccf5b8e2e2db4777662319";
        let owner = rustix::process::getuid().as_raw();
        let storage = Storage { folder: folder.path().to_owned(), owner };
        assert_eq!(storage.find(id).unwrap().container, "volat");
        std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
        let users = Storage { owner: 1000, ..storage.clone() };
        assert_eq!(users.find(id).unwrap().namespace, "user-1000");
        std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
        assert_eq!(Storage { owner: owner + 1, ..storage.clone() }.find(id), None);
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert_eq!(storage.find(id), None, "a link");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(storage.find(id), None, "a pipe, and nobody waits for its other end");
    }

    #[test]
    fn a_users_storage_is_below_their_home() {
        let scope = "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ab.scope";
        assert_eq!(user_of(scope), Some(1000));
        assert_eq!(user_of("/machine.slice/libpod-ab.scope"), None);
        let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\nbroken:x:1001\n";
        assert_eq!(home_of(1000, passwd), Some("/home/anna".into()));
        assert_eq!((home_of(1001, passwd), home_of(7, passwd)), (None, None));
    }
}
