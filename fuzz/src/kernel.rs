//! Texts of the kernel's in which a container can have chosen words: a cgroup's path, the table of mounts.

use parachute::detect::cgroup::{self, Name};
use parachute::enter::mountinfo::mounts;

/// Whoever the path is said to belong to stands in it, and what is below never changes that.
pub fn cgroup_path(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Some(named) = cgroup::container(&text) else { return };
    let Name::Id(id) = &named.name else { panic!("{named:?} without a configuration") };
    let id = id.as_str();
    assert!(id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id:?}");
    assert!(text.starts_with(&named.path) && named.path.contains(id), "{named:?}");
    assert!(matches!(text.as_bytes().get(named.path.len()), None | Some(b'/')), "{named:?}");
    if let Some(uid) = &named.pod_uid {
        assert!(uid.len() == 32 || uid.len() == 36, "{uid:?}");
        assert!(uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{uid:?}");
    }
    let other = "f".repeat(64);
    for below in [
        String::new(),
        "/".into(),
        format!("/{other}"),
        format!("/docker/{other}/x"),
        format!("/kubepods/crio-{other}.scope"),
    ] {
        assert_eq!(cgroup::container(&format!("{}{below}", named.path)).as_ref(), Some(&named), "{below}");
    }
}

/// A mount for a line at most, and no field that reaches into the next.
pub fn mount_table(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = 0;
    for mount in mounts(&text) {
        lines += 1;
        for field in [mount.device, mount.root, mount.kind, mount.options] {
            assert!(!field.contains([' ', '\n']), "{mount:?}");
        }
        assert!(text.contains(mount.root) && mount.point.as_os_str().len() <= text.len(), "{mount:?}");
    }
    assert!(lines <= text.lines().count());
}
