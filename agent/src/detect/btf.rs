//! Where this kernel keeps a task's cgroup in a cgroup v1 hierarchy. No helper of the kernel tells that, so the
//! program follows pointers, and their places come from the kernel's own description of its types (BTF,
//! `Documentation/bpf/btf.rst`). Only for machines without the unified hierarchy.

use std::collections::HashMap;

use super::DetectError;

pub(super) const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Offsets in bytes, each from where the pointer before it leads: task → `css_set` → the controller's
/// `cgroup_subsys_state` → `cgroup` → `kernfs_node` → its id.
pub(super) type Walk = [u64; 5];

/// The way to the id of the current task's cgroup in the hierarchy that `controller` (`pids`, `memory` …) is in.
pub(super) fn walk(controller: &str) -> Result<Walk, DetectError> {
    let bytes = std::fs::read(PATH).map_err(|source| DetectError::Btf { path: PATH, source })?;
    find(&bytes, controller).ok_or(DetectError::NoWalk { path: PATH })
}

fn find(bytes: &[u8], controller: &str) -> Option<Walk> {
    let wanted =
        ["task_struct", "css_set", "cgroup_subsys_state", "cgroup", "kernfs_node", "cgroup_subsys_id"];
    let types = read(bytes, &wanted)?;
    let member = |of: &str, name: &str| types.get(of)?.get(name).copied();
    let index = member("cgroup_subsys_id", &format!("{controller}_cgrp_id"))?;
    Some([
        member("task_struct", "cgroups")?,
        // An array of pointers.
        member("css_set", "subsys")? + 8 * index,
        member("cgroup_subsys_state", "cgroup")?,
        member("cgroup", "kn")?,
        member("kernfs_node", "id")?,
    ])
}

/// Members of the structs (name → offset in bytes) and enums (name → value) that are wanted.
fn read(bytes: &[u8], wanted: &[&str]) -> Option<HashMap<String, HashMap<String, u64>>> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let size = |at: usize| usize::try_from(word(at)?).ok();
    if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != 0xeb9f {
        return None;
    }
    // struct btf_header: magic, version, flags, hdr_len, then offset and length of types and of strings.
    let header = size(4)?;
    let (types, types_end) = (header + size(8)?, header + size(8)? + size(12)?);
    let strings = header + size(16)?;
    let name = |at: usize| {
        let text = bytes.get(strings + size(at)?..)?;
        str::from_utf8(&text[..text.iter().position(|byte| *byte == 0)?]).ok()
    };
    let mut found = HashMap::new();
    let mut at = types;
    while at < types_end {
        // struct btf_type: name, info (members in bits 0-15, kind in 24-28, bit 31), size or type.
        let info = word(at + 4)?;
        let (members, kind) = (usize::from(u16::try_from(info & 0xffff).ok()?), info >> 24 & 0x1f);
        let own = name(at)?;
        let body = at + 12;
        let member_size = match kind {
            // BTF_KIND_STRUCT, UNION, DATASEC and ENUM64; then ENUM and FUNC_PROTO.
            4 | 5 | 15 | 19 => 12,
            6 | 13 => 8,
            _ => 0,
        };
        if matches!(kind, 4 | 6) && wanted.contains(&own) {
            let mut of = HashMap::new();
            for member in (0..members).map(|index| body + index * member_size) {
                let value = match kind {
                    // In bits; where bit 31 of info is set the upper eight are the width of a bit field.
                    4 if info >> 31 == 1 => (word(member + 8)? & 0x00ff_ffff) / 8,
                    4 => word(member + 8)? / 8,
                    _ => word(member + 4)?,
                };
                of.insert(name(member)?.to_owned(), u64::from(value));
            }
            found.insert(own.to_owned(), of);
        }
        at = body
            + match kind {
                // INT, VAR and DECL_TAG have one word more, ARRAY three.
                1 | 14 | 17 => 4,
                3 => 12,
                _ => members * member_size,
            };
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two types: `struct s { a; b }` with b at byte 8, and `enum e { x = 3 }`.
    fn small() -> Vec<u8> {
        let strings = b"\0s\0a\0b\0e\0x\0";
        let types: [u32; 14] = [
            1,
            4 << 24 | 2,
            16, // struct s, two members, 16 bytes
            3,
            0,
            0, // a
            5,
            0,
            64, // b
            7,
            6 << 24 | 1,
            4, // enum e, one value
            9,
            3, // x
        ];
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let lengths = [types.len(), strings.len()].map(|length| u32::try_from(length).unwrap());
        let header = [24, 0, lengths[0], lengths[0], lengths[1]];
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend(header.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_and_values_are_read() {
        let types = read(&small(), &["s", "e"]).unwrap();
        assert_eq!((types["s"]["a"], types["s"]["b"], types["e"]["x"]), (0, 8, 3));
        assert!(!read(&small(), &["e"]).unwrap().contains_key("s"));
        assert_eq!(find(&small(), "pids"), None);
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_refused() {
        let whole = small();
        for end in 0..whole.len() {
            assert!(read(&whole[..end], &["s", "e"]).is_none(), "{end} bytes");
        }
        assert!(read(&[0; 64], &["s"]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_it(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, &["s"]);
            if bytes.len() > 8 {
                bytes[..8].copy_from_slice(&small()[..8]);
                let _ = read(&bytes, &["s"]);
            }
        }
    }
}
