#!/bin/bash
# What parachute-vm.service of a root runs: lays the project where the host has it, writable and forgotten at the end, and
# does the jobs, of which the host hears over a virtio port.
port=$(grep -lx work /sys/class/virtio-ports/*/name)
port=${port%/name}
exec >"/dev/${port##*/}" 2>&1 </dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8

job() {
    local name=$1 seconds=$2 begun=$SECONDS status
    shift 2
    echo "vm: begin $name"
    rm -f /run/cells
    PARACHUTE_CELLS=/run/cells timeout --kill-after=10 "$seconds" env "$@"
    status=$?
    # One that was stopped has left half a line.
    echo
    [ -e /run/cells ] && sed 's/^/vm: cell /' /run/cells
    # The next one starts on a machine on which nothing of this one works any more.
    echo "vm: end $status $((SECONDS - begun)) $name"
}

prepare() {
    set -e
    mkdir -p /run/project /run/over "$1"
    mount -t ext4 -o ro /dev/vdb /run/project
    mount -t tmpfs over /run/over
    mkdir /run/over/upper /run/over/work
    mount -t overlay -o lowerdir=/run/project,upperdir=/run/over/upper,workdir=/run/over/work overlay "$1"
    cd "$1"
    # Units that were started by the boot and end by themselves would look like something a test left behind.
    systemctl is-system-running --wait >/dev/null || true
    set +e
}

echo "vm: up $(uname -r) after $(cut -d' ' -f1 /proc/uptime) s"
. /run/vm/jobs
echo "vm: over"
sync
# The host reads the port to its end.
sleep 0.2
exec systemctl poweroff --force --force
