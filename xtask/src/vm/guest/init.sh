#!/bin/busybox sh
# First process of a machine of `cargo xtask vm`: loads the modules that its kernel has for the tests, and hands over to
# the systemd of the root, which is on the first disk.
B=/bin/busybox
fail() {
    echo "vm: init: $*"
    $B poweroff -f
}
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1
for module in /modules/*.ko; do
    # One that does not fit this kernel is seen by the tests that need it.
    $B insmod "$module" || echo "vm: init: $module was not loaded"
done
tries=0
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "no disks"
    $B usleep 50000
done
$B mkdir -p /new
$B mount -t ext4 -o noatime /dev/vda /new || fail "the root cannot be mounted"
$B mount -t tmpfs -o mode=755 run /new/run || fail "no /run"
$B cp -a /vm /new/run/vm
$B umount /proc
$B umount /sys
$B mount --move /dev /new/dev
exec $B switch_root /new /sbin/init
