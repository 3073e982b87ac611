# Unpacks the newest kernel of the package $2 in Debian's suite $3 into the folder $1: fetched with an apt of its own, whose
# signatures are checked as always, and not installed.
set -e
into=$1 package=$2 suite=$3 archive=$4
mkdir -p "$into"
work=$(mktemp -d "$into/XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
mkdir -p "$work/etc/apt.conf.d" "$work/state/lists/partial" "$work/cache/archives/partial"
: >"$work/state/status"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $archive $suite main" >"$work/etc/sources.list"
cat >"$work/apt.conf" <<END
Dir::Etc "$work/etc";
Dir::State "$work/state";
Dir::State::status "$work/state/status";
Dir::Cache "$work/cache";
Acquire::Languages "none";
// A suite that is no longer changed is past its date and no worse for it: what it holds is signed.
Acquire::Check-Valid-Until "false";
// apt's own user cannot write here.
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
END
export APT_CONFIG="$work/apt.conf"
apt-get update
cd "$work"
# The package names the newest, which newer suites have in parts.
image=$(apt-cache depends "$package" | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1)
release=${image#linux-image-}
# shellcheck disable=SC2046
apt-get download "$image" $(apt-cache pkgnames linux- | grep -Fx -e "linux-binary-$release" -e "linux-modules-$release" -e "linux-base-$release")
for deb in *.deb; do
    dpkg-deb --extract "$deb" "$into"
done
[ -d "$into/lib/modules" ] || ln -s usr/lib "$into/lib"
depmod -b "$into" "$release"
find "$into" -name 'vmlinuz*' -type f -exec cp {} "$into/vmlinuz" \; -quit
echo "$release" >"$into/release"
