//! A program of Debian's newest suite for an older Debian: fetched with an apt of its own, whose signatures are checked as
//! always, and unpacked. The machine's packages and sources stay as they are.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::progress;

/// Fetches the package `$2` of sid and unpacks it as `$1`, whole or not at all.
const UNPACK: &str = r#"set -e
work=$(mktemp -d "$1.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
mkdir -p "$work/etc/apt.conf.d" "$work/state/lists/partial" "$work/cache/archives/partial" "$work/root"
: >"$work/state/status"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] http://deb.debian.org/debian sid main" >"$work/etc/sources.list"
cat >"$work/apt.conf" <<END
Dir::Etc "$work/etc";
Dir::State "$work/state";
Dir::State::status "$work/state/status";
Dir::Cache "$work/cache";
Acquire::Languages "none";
// A mirror that stands still is past its date and no worse for it: what it holds is signed.
Acquire::Check-Valid-Until "false";
// apt's own user cannot write here.
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
END
export APT_CONFIG="$work/apt.conf"
apt-get update
cd "$work"
apt-get download "$2/sid"
dpkg-deb --extract "$2"_*.deb root
rm -rf "$1"
mv root "$1"
"#;

pub(crate) fn unpack(package: &str, into: &Path) -> anyhow::Result<()> {
    if let Some(parent) = into.parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    let what = format!("unpacking Debian's newest {package} into {}", into.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", UNPACK, "sh"]).arg(into).arg(package);
    progress::quietly(&what, &mut shell).with_context(|| {
        format!("the newest {package} comes from Debian's sid at deb.debian.org: can this machine reach it?")
    })
}
