#!/bin/busybox sh
# What runs on the Arm kernel: the tests that need one, the doctor, and an agent that detects and looks into a process.
export PATH=/usr/bin:/bin HOME=/ PROPTEST_CASES=16
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ifconfig lo 127.0.0.1 up
status() { echo "STATUS $1 $2"; }

echo "== Linux $(uname -r) $(uname -m)"
echo '== unit tests of the stub'
/tests-stub
status tests-stub $?
echo '== the doctor'
parachute doctor --config.file /parachute.yml
status doctor $?

echo '== the agent'
parachute agent --config.file /parachute.yml >/tmp/agent.log 2>&1 &
ready() { wget -q -O /dev/null http://127.0.0.1:10068/-/ready 2>/dev/null; }
tries=0
until ready || [ "$tries" -ge 120 ]; do
    tries=$((tries + 1))
    sleep 1
done
ready
status ready $?
id=$(printf 'a%.0s' $(seq 1 64))
cgroup=/sys/fs/cgroup/kubepods/burstable/pod0c9a6e2e-7a43-4d1c-9f0b-3f6f6c1b8a55/$id
mkdir -p "$cgroup"
# With a user namespace of its own, or it would have all rights of the host and be refused; and it joins the cgroup by itself,
# so that nothing of the host's is in there.
export cgroup
unshare -U -r -m -u -i -n -p -f \
    sh -c 'echo 0 >"$cgroup/cgroup.procs" && mount -t proc proc /proc && exec sleep 1000' &
sleep 10
parachute ps --run-directory /run/parachute
for probe in seen rows beside; do
    parachute run "$probe" --config.file /parachute.yml --container "$id" -o json
    status "$probe" $?
done
parachute exec "$id" ps | tee /tmp/seen
[ "$(grep -c sleep /tmp/seen)" = 1 ] && [ "$(grep -c kthreadd /tmp/seen)" = 0 ]
status exec $?
wget -q -O - http://127.0.0.1:10068/metrics |
    grep -E '^parachute_(kernel_capability|runs_by_way_total|containers )'
cat /tmp/agent.log

echo '== unit tests that an emulator of programs cannot run'
cd /tmp || exit
/tests-agent --exact $(cat /left-out)
status tests-agent $?
echo '== done'
poweroff -f
