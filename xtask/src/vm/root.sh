# Makes the file $2, an ext4 image of Debian's suite $1 with systemd and the packages that follow. Nothing in it starts by
# itself but the jobs of `cargo xtask vm`.
set -e
suite=$1 image=$2
shift 2
work=$(mktemp -d "$image.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
chmod 755 "$work"
root=$work/root
keys=/usr/share/keyrings/debian-archive-keyring.gpg
{
    echo "deb [signed-by=$keys] http://deb.debian.org/debian $suite main"
    # What is fixed in a release comes from there; sid has it itself.
    [ "$suite" = sid ] || echo "deb [signed-by=$keys] http://deb.debian.org/debian-security $suite-security main"
} >"$work/sources.list"
mmdebstrap --mode=root --variant=apt --format=directory --include="$(IFS=,; echo "$*")" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$root" "$work/sources.list"
units=$root/etc/systemd/system
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-tmpfiles-clean.timer systemd-timesyncd.service systemd-networkd.service systemd-networkd.socket docker.service \
    docker.socket containerd.service podman.service podman.socket podman-auto-update.timer podman-restart.service \
    podman-clean-transient.service lxc.service lxc-net.service lxc-monitord.service prometheus.service getty@tty1.service serial-getty@ttyS0.service; do
    ln -sf /dev/null "$units/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$units/default.target"
cat >"$units/parachute-vm.service" <<END
[Unit]
Description=The jobs of cargo xtask vm
After=basic.target dbus.socket
[Service]
Type=exec
ExecStart=/bin/bash /run/vm/work
LimitNOFILE=65536
Delegate=yes
TimeoutStopSec=5
END
mkdir -p "$units/multi-user.target.wants"
ln -sf ../parachute-vm.service "$units/multi-user.target.wants/"
echo vm >"$root/etc/hostname"
echo '127.0.0.1 localhost vm' >"$root/etc/hosts"
: >"$root/etc/fstab"
: >"$root/etc/machine-id"
: >"$root/etc/resolv.conf"
rm -rf "$root/var/cache/apt/archives" "$root/var/lib/apt/lists"
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1 -m 0 -d "$root" "$work/image" 6G
mv "$work/image" "$image"
