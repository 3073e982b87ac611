#!/bin/bash
# On a Debian whose first process is systemd: real services of every kind, and what the agent makes of them. Its status is
# the test's; what it says is shown. The argument is the program; without one it is the installed one.
set -Eeuo pipefail
program=${1:-/usr/bin/parachute}
agent=127.0.0.1:10079
units=/run/systemd/system
work=$(mktemp -d /run/pt-plain.XXXXXX)
export PARACHUTE_RUN_DIRECTORY=$work/run
own() { systemctl list-units --all --plain --no-legend 'pt-*.service' | awk '{ print $1 }'; }
clean() {
    status=$?
    [[ $status == 0 ]] || { echo "status $status"; tail -n 30 "$work/agent.log"; systemctl list-units --no-pager --all "pt-*"; journalctl --no-pager -n 15 -u "pt-*"; }
    own | while read -r unit; do systemctl stop -- "$unit"; systemctl reset-failed -- "$unit" 2>/dev/null || true; done
    [[ -z ${pid:-} ]] || { kill "$pid"; wait "$pid" || true; }
    rm -rf "$units"/pt-* "$work"
    systemctl daemon-reload
    # That of templates stays for a while.
    systemctl stop 'system-pt\x2d.slice'
    exit "$status"
}
trap clean EXIT
trap 'echo "line $LINENO: $BASH_COMMAND"' ERR
soon() { for _ in $(seq 100); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.1; done; echo "in vain: $*"; "$@"; return 1; }
ask() { curl --silent --fail --show-error "http://$agent$1" "${@:2}"; }
# The containers, one a line, and of those with a name the value of a key.
rows() { ask /api/v1/containers | sed 's/},{"cgroup"/}\n{"cgroup"/g'; }
named() { rows | grep -F "\"container\":\"${1//\\/\\\\}\"" || true; }
value() { named "$1" | head -n 1 | sed -n "s/.*\"$2\":\(\"[^\"]*\"\|\[[^]]*\]\|[0-9]*\).*/\1/p"; }
listed() { [[ $(named "$1" | wc -l) == "$2" ]]; }
main() { systemctl show --property MainPID --value -- "$1"; }
stands() { [[ $(value "$1" pid) == "$(main "$1")" ]] || { echo "$1: $(named "$1") and not $(main "$1")"; return 1; }; }
# Which of the three it shares with the host by now, as the agent writes them.
shared() {
    local kind all=()
    for kind in mnt net pid; do
        if [[ $(readlink "/proc/$(main "$1")/ns/$kind") == "$(readlink "/proc/1/ns/$kind")" ]]; then all+=("\"$kind\""); fi
    done
    (IFS=,; echo "[${all[*]}]")
}
says() { "$program" exec "$1" "${@:2}"; }
captures() { ask "/api/v1/captures?trigger=at-start&container=$1" | grep -o '"trigger":"at-start"' | wc -l; }
has() { [[ $(captures "$1") == "$2" ]]; }
unit() { printf '[Service]\n%s\n' "${@:2}" >"$units/$1"; }

cat >"$work/parachute.yml" <<'CONFIGURATION'
targets: { services: ["pt-*.service"], cgroups: [/pt-machines/*] }
limits: { results_grace: 1s }
probes:
  links: { command: [ip, -o, link], parse: { regex: [{ name: pt_links, type: gauge, help: Links., pattern: '^\d+: (?P<device>[^:@]+)' }] } }
  target: { shell: 'echo "pid $PARACHUTE_TARGET_PID"', keep: always,
            parse: { keyvalue: [{ name: pt_target_pid, type: gauge, help: Its number., key: pid }] } }
  joined: { shell: 'ps -o comm= -p $PARACHUTE_TARGET_PID', isolation: joined, parse: none }
  processes:
    shell: |
      own=$(cat "/proc/$PARACHUTE_TARGET_PID/cgroup")
      for process in /proc/[0-9]*; do
        [ "$(cat "$process/cgroup" 2>/dev/null)" = "$own" ] &&
          sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "$process/status" 2>/dev/null
      done | sort | uniq -c
    parse:
      table:
        columns: [count, state]
        metrics:
          - { name: service_processes, type: gauge, help: Processes by state., value: count, labels: { state: state } }
triggers:
  at-start: { container_start: {}, probes: [target] }
  steady: { schedule: { every: 1s }, probes: [links] }
  by-hand: { http: {}, probes: [links, target, joined] }
  surge: { alert: { labels: { alertname: Surge } }, target: { container: "{{container}}" }, probes: [joined], cooldown: 0s }
CONFIGURATION
"$program" check-config "$work/parachute.yml"
unit pt-before.service 'ExecStart=/bin/sleep infinity'
unit pt-plain.service 'ExecStart=/bin/sleep infinity'
unit pt-private.service 'ExecStart=/bin/sleep infinity' PrivateNetwork=yes ProtectSystem=strict PrivateTmp=yes
unit pt-locked.service 'ExecStart=/bin/sleep infinity' User=nobody PrivateNetwork=yes ProtectSystem=strict \
    CapabilityBoundingSet= NoNewPrivileges=yes ProtectProc=invisible RestrictNamespaces=yes 'SystemCallFilter=@system-service'
unit pt-helped.service 'ExecStartPre=/bin/sleep 0.7' 'ExecStartPre=/bin/sleep 0.7' 'ExecStart=/bin/sleep infinity' PrivateNetwork=yes
unit pt-early.service 'ExecStartPre=/bin/true' 'ExecStartPre=/bin/true' 'ExecStart=/bin/sleep infinity'
unit pt-forking.service Type=forking "PIDFile=$work/forking.pid" \
    "ExecStart=/bin/sh -c 'sleep infinity & echo \$! >$work/forking.pid'"
unit pt-again.service "ExecStart=/bin/bash -c 'sleep 0.5; exec -a pt-again sleep infinity'"
unit pt-renewed.service 'ExecStart=/bin/sleep infinity' Restart=always RestartSec=100ms
unit pt-oneshot.service Type=oneshot RemainAfterExit=yes 'ExecStart=/bin/true'
unit pt-several.service "ExecStart=/bin/sh -c 'sleep infinity & sleep infinity & exec sleep infinity'"
unit pt-@.service 'ExecStart=/bin/sleep infinity'
cat >"$work/lie" <<'SCRIPT'
#!/bin/bash
own=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)$(sed -n 's/^0:://p' /proc/self/cgroup)/pt-false.service
mkdir "$own" && echo $$ >"$own/cgroup.procs" && exec sleep infinity
SCRIPT
unit pt-lying.service Delegate=yes "ExecStart=/bin/bash $work/lie"
systemctl daemon-reload
systemctl start pt-before
"$program" agent --config.file "$work/parachute.yml" --web.listen-address "$agent" --web.allow-unauthenticated \
    --run-directory "$PARACHUTE_RUN_DIRECTORY" --storage.path "$work/storage" >"$work/agent.log" 2>&1 &
pid=$!
soon ask /-/ready

echo 'one that ran before, and one that starts now'
soon listed pt-before.service 1
systemctl start pt-plain
soon listed pt-plain.service 1
stands pt-plain.service
stands pt-before.service
[[ $(value pt-plain.service runtime) == '"systemd"' && $(value pt-plain.service host_namespaces) == '["mnt","net","pid"]' ]]
[[ $(says pt-plain.service printenv PARACHUTE_TARGET_PID) == "$(main pt-plain.service)" ]]
soon has pt-plain.service 1

echo 'an alert, a run, a capture, metrics'
alert='{"version":"4","groupKey":"g","truncatedAlerts":0,"status":"firing","receiver":"r","groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://a","alerts":[{"status":"firing","labels":{"alertname":"Surge","container":"pt-plain.service"},"annotations":{},"startsAt":"2026-11-26T09:02:58Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"","fingerprint":"01"}]}'
ask /api/v1/alerts --json "$alert" >/dev/null
caught() { ask '/api/v1/captures?alert=Surge' | grep -q '"outcome":"ok"'; }
soon caught
[[ $("$program" captures show last --alert Surge --storage.path "$work/storage" -o raw 2>/dev/null || ask "$(ask '/api/v1/captures?alert=Surge' | sed -n 's/.*"id":"\(2[^"]*\)".*/\/api\/v1\/captures\/\1\/stdout/p')") == *sleep* ]]
scraped() { ask /metrics | grep -q '^pt_links{namespace="",pod="",container="pt-plain.service",device="lo"} 1$'; }
soon scraped

echo 'its own network, and mounts of its own'
systemctl start pt-private pt-locked
for name in pt-private.service pt-locked.service; do
    soon stands "$name"
    [[ $(value "$name" host_namespaces) == '["pid"]' && $(shared "$name") == '["pid"]' ]]
    [[ $(says "$name" ip -o link | wc -l) == 1 ]]
    "$program" run links --container "$name" --config.file "$work/parachute.yml" | grep -c '^pt_links' | grep -qx 1
    ask /api/v1/run --json "{\"probe\":\"joined\",\"target\":{\"container\":\"$name\"}}" | grep -q '"outcome":"ok"'
done

echo 'helpers, daemons, and what executes itself again: one life each'
systemctl start pt-helped pt-forking pt-again pt-several
for name in pt-helped pt-forking pt-again pt-several; do
    soon stands "$name.service"
    [[ $(captures "$name.service") == 1 ]] || { echo "$name.service: $(captures "$name.service") lives"; exit 1; }
    listed "$name.service" 1
done
"$program" run processes --container pt-several.service --config.file "$work/parachute.yml" |
    grep -qx 'service_processes{namespace="",pod="",container="pt-several.service",state="S"} 3'
# From systemd 254 on its own network brings mounts of its own with it.
[[ $(shared pt-helped.service) != *net* && $(value pt-helped.service host_namespaces) == "$(shared pt-helped.service)" ]] ||
    { named pt-helped.service; shared pt-helped.service; exit 1; }
sleep 0.6
stands pt-again.service

echo 'helpers that have gone before anybody has looked'
for _ in $(seq 10); do
    systemctl start pt-early
    soon stands pt-early.service
    listed pt-early.service 1
    systemctl stop pt-early
    soon listed pt-early.service 0
done

echo 'another life: restarted by hand, by systemd, and stopped'
before=$(value pt-plain.service id)
systemctl restart pt-plain
other() { [[ $(value "$1" id) != "$2" && -n $(value "$1" id) ]] && stands "$1" && listed "$1" 1; }
soon other pt-plain.service "$before"
systemctl start pt-renewed
soon stands pt-renewed.service
before=$(value pt-renewed.service id)
kill -KILL "$(main pt-renewed.service)"
soon other pt-renewed.service "$before"
soon has pt-renewed.service 2
systemctl stop pt-plain
soon listed pt-plain.service 0
gone() { ! ask /metrics | grep -q 'container="pt-plain.service"'; }
soon gone
systemctl start pt-oneshot
soon listed pt-oneshot.service 0

echo 'names'
long=pt-$(printf 'l%.0s' $(seq 244)).service
hostile="pt-@$(systemd-escape -- "\$(touch $work/marker)").service"
[[ ${#long} == 255 ]]
cp "$units/pt-before.service" "$units/$long"
systemctl daemon-reload
for name in "$long" "$hostile" 'pt-@a:b\x2dc.service'; do
    systemctl start -- "$name"
    soon listed "$name" 1
    [[ $(says "$name" printenv PARACHUTE_TARGET_PID) == "$(main "$name")" ]]
done
"$program" ps >"$work/ps"
grep -qF 'pt-@a:b\x2dc.service' "$work/ps"
[[ ! -e $work/marker ]]

echo 'what a service calls its own cgroups is nothing'
systemctl start pt-lying
lies() { grep -q '^0::.*/pt-lying.service/pt-false.service$' "/proc/$(main pt-lying.service)/cgroup"; }
soon lies
soon stands pt-lying.service
listed pt-false.service 0
"$program" doctor --config.file "$work/parachute.yml" >"$work/doctor" || true
grep -q 'cgroups /pt-machines/\*: matches nothing that runs now' "$work/doctor"
grep -q 'services pt-\*.service: [1-9]' "$work/doctor"
echo 'all is as it should be'
