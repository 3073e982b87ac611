//! What is executed, with which environment and as whom: the host's programs, a part of the person's environment, the
//! host's users. What does not need the container.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::enter::session::User;

/// Where programs are looked for when the person's environment has no PATH; also inside a container's own files.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a command gets of the person's environment; the rest may hold secrets, and comes by `--env` only. As sudo(8)'s
/// `env_reset`. Locale variables (`LC_*`) come as well.
const PASSED_ON: [&str; 9] = ["PATH", "TERM", "COLORTERM", "LANG", "TZ", "HOME", "USER", "LOGNAME", "SHELL"];

/// Why a command cannot be executed, with the exit status that env(1) has for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotExecutable {
    pub(super) status: u8,
    pub(super) message: String,
}

/// The file that `name` means on the host.
pub(super) fn program(name: &OsStr, path: Option<&OsStr>, cwd: &Path) -> Result<PathBuf, NotExecutable> {
    let shown = name.to_string_lossy();
    let failed = |status, message| Err(NotExecutable { status, message });
    if name.as_bytes().contains(&b'/') {
        let file = cwd.join(name);
        return match std::fs::metadata(&file) {
            Ok(found) if is_executable(&found) => Ok(file),
            Ok(_) => failed(126, format!("{shown} is there, but is no executable file")),
            Err(error) => {
                failed(127, format!("{shown}: {error}; commands come from this host, not from the container"))
            }
        };
    }
    let path = path.unwrap_or(OsStr::new(USUAL_PATH));
    let mut unusable = None;
    for folder in std::env::split_paths(path) {
        // An empty entry is the working directory (environ(7)).
        let file = cwd.join(folder).join(name);
        match std::fs::metadata(&file) {
            Ok(found) if is_executable(&found) => return Ok(file),
            Ok(found) if found.is_file() => unusable = Some(file),
            _ => {}
        }
    }
    match unusable {
        Some(file) => failed(126, format!("{} is not executable", file.display())),
        None => failed(
            127,
            format!(
                "no command {shown} on this host (commands come from here, not from the container); looked in {}",
                path.to_string_lossy()
            ),
        ),
    }
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
}

/// Every file that `name` may mean in a container, whose files this process does not look at.
pub(super) fn candidates(name: &OsStr) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(name)];
    }
    std::env::split_paths(USUAL_PATH).map(|folder| folder.join(name)).collect()
}

/// `KEY=VALUE` of everything that the command gets. `added` are `--env`'s: `KEY=VALUE`, or `KEY` for the person's own.
pub(super) fn environment(
    has: impl Iterator<Item = (OsString, OsString)>,
    added: &[OsString],
    home: Option<&Home>,
) -> anyhow::Result<Vec<CString>> {
    let has: Vec<_> = has.collect();
    let passed =
        |key: &OsStr| PASSED_ON.iter().any(|name| key == *name) || key.as_bytes().starts_with(b"LC_");
    let mut kept: Vec<(OsString, OsString)> = has.iter().filter(|(key, _)| passed(key)).cloned().collect();
    let mut set = |key: OsString, value: OsString| {
        kept.retain(|(other, _)| *other != key);
        kept.push((key, value));
    };
    if let Some(home) = home {
        set("HOME".into(), home.folder.clone().into());
        set("USER".into(), home.name.clone().into());
        set("LOGNAME".into(), home.name.clone().into());
        set("SHELL".into(), home.shell.clone().into());
    }
    for one in added {
        let bytes = one.as_bytes();
        match bytes.iter().position(|byte| *byte == b'=') {
            Some(0) => bail!("--env {}: there is no name before the =", one.to_string_lossy()),
            Some(at) => {
                let (key, value) =
                    (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..).unwrap_or_default());
                set(OsString::from_vec(key.to_vec()), OsString::from_vec(value.to_vec()));
            }
            None => {
                // As docker has it: a name alone means the person's own, and nothing if there is none.
                if let Some((key, value)) = has.iter().find(|(key, _)| key == one) {
                    set(key.clone(), value.clone());
                }
            }
        }
    }
    kept.into_iter()
        .map(|(mut key, value)| {
            key.push("=");
            key.push(value);
            CString::new(key.into_vec()).context("--env: a NUL byte cannot be passed")
        })
        .collect()
}

/// What the environment says of a user.
#[derive(Debug)]
pub(super) struct Home {
    name: String,
    folder: PathBuf,
    shell: PathBuf,
}

/// `USER[:GROUP]`, names as this host knows them, or numbers.
pub(super) fn user(text: &str) -> anyhow::Result<(User, Option<Home>)> {
    let (name, group) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
    let known = match name.parse::<u32>() {
        Ok(uid) => nix::unistd::User::from_uid(uid.into()),
        Err(_) => nix::unistd::User::from_name(name),
    }
    .with_context(|| format!("--user {text}: asking for the user {name}"))?;
    let gid = match group {
        None => None,
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => Some(gid),
            Err(_) => match nix::unistd::Group::from_name(group) {
                Ok(Some(group)) => Some(group.gid.as_raw()),
                _ => bail!("--user {text}: this host has no group {group}"),
            },
        },
    };
    match (known, name.parse::<u32>()) {
        (Some(known), _) => {
            let groups = CString::new(known.name.as_str())
                .ok()
                .and_then(|name| nix::unistd::getgrouplist(&name, known.gid).ok())
                .unwrap_or_default();
            let user = User {
                uid: known.uid.as_raw(),
                gid: gid.unwrap_or(known.gid.as_raw()),
                // A group that is named is meant alone, as docker has it.
                groups: if gid.is_some() { Vec::new() } else { groups.iter().map(|g| g.as_raw()).collect() },
            };
            Ok((user, Some(Home { name: known.name, folder: known.dir, shell: known.shell })))
        }
        (None, Ok(uid)) => Ok((User { uid, gid: gid.unwrap_or(uid), groups: Vec::new() }, None)),
        (None, Err(_)) => bail!("--user {text}: this host has no user {name}; a number does as well"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        for at in [&a, &b] {
            std::fs::create_dir(at).unwrap();
        }
        let write = |file: PathBuf, mode| {
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(a.join("plain"), 0o644);
        write(b.join("both"), 0o755);
        write(a.join("both"), 0o644);
        write(b.join("tool"), 0o755);
        std::fs::create_dir(a.join("tool")).unwrap();
        let path = std::env::join_paths([&a, &b]).unwrap();
        let look = |name: &str| program(OsStr::new(name), Some(&path), folder.path());
        assert_eq!(look("tool"), Ok(b.join("tool")));
        assert_eq!(look("both"), Ok(b.join("both")));
        assert_eq!(look("b/tool"), Ok(b.join("tool")));
        assert_eq!(look("plain").unwrap_err().status, 126);
        assert_eq!(look("./a/plain").unwrap_err().status, 126);
        assert_eq!(look("./nothing").unwrap_err().status, 127);
        let missing = look("nothing").unwrap_err();
        assert_eq!(missing.status, 127);
        assert!(missing.message.contains(a.to_str().unwrap()), "{missing:?}");
    }

    #[test]
    fn the_environment_is_reset_but_for_what_a_terminal_and_a_language_need() {
        let has = [("PATH", "/x"), ("AWS_SECRET", "s"), ("LC_TIME", "C"), ("TERM", "xterm"), ("FOO", "bar")]
            .map(|(key, value)| (OsString::from(key), OsString::from(value)));
        let got = |added: &[&str]| {
            let added: Vec<_> = added.iter().map(OsString::from).collect();
            environment(has.clone().into_iter(), &added, None)
                .map(|all| all.into_iter().map(|one| one.into_string().unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(got(&[]).unwrap(), ["PATH=/x", "LC_TIME=C", "TERM=xterm"]);
        let added = got(&["FOO", "A=b=c", "NONE", "TERM=dumb", "E="]).unwrap();
        assert_eq!(added, ["PATH=/x", "LC_TIME=C", "FOO=bar", "A=b=c", "TERM=dumb", "E="]);
        assert!(got(&["=x"]).is_err());
    }

    #[test]
    fn users_are_the_hosts() {
        assert_eq!(user("root").unwrap().0.uid, 0);
        assert_eq!(user("12345").unwrap().0, User { uid: 12345, gid: 12345, groups: Vec::new() });
        assert_eq!(user("12345:7").unwrap().0.gid, 7);
        assert_eq!(user("root:daemon").unwrap().0.groups, Vec::<u32>::new());
        for wrong in ["no-such-user", "root:no-such-group", ""] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
    }
}
