#!/bin/bash
# Inside a freshly booted Debian: the package from its installation to its purge. Its status is the test's; what it says is shown.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
agent=127.0.0.1:10068
pid() { systemctl show --property MainPID --value parachute; }
soon() { for _ in $(seq 150); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.2; done; echo "in vain: $*"; journalctl --no-pager -u parachute | tail -n 20; return 1; }
ready() { curl --silent --fail "http://$agent/-/ready"; }
scraped() { curl --silent 'http://127.0.0.1:9090/api/v1/query?query=up' | grep -q '"value":\[[0-9.]*,"1"\]'; }
has() { curl --silent "http://$agent/metrics" | grep -q "^$1$"; }
# Everything of the package's that is on the machine, but for dpkg's log and this test's files.
traces() { find / -xdev \( -path /root -o -path /var/log -o -path /proc -o -path /sys \) -prune -o -iname '*parachute*' -print; find /sys/fs/cgroup -name 'parachute*'; pgrep -a parachute || true; systemctl list-unit-files --no-legend 'parachute*' || true; }
# Of cgroup v1 a container sees the whole machine's.
before=$(traces)

echo 'install'
apt-get install --yes /root/one.deb
soon ready
systemctl is-enabled parachute
[[ "$(readlink "/proc/$(pid)/exe")" == /usr/bin/parachute ]]
for page in parachute parachute-exec parachute-captures-list parachute-check-config; do zcat "/usr/share/man/man1/$page.1.gz" | grep -q '^.SH NAME'; done
bash -n /usr/share/bash-completion/completions/parachute
grep -q '#compdef' /usr/share/zsh/vendor-completions/_parachute
grep -q 'complete ' /usr/share/fish/vendor_completions.d/parachute.fish
parachute check-config /etc/parachute/parachute.yml
parachute ps -o json
[[ "$(stat --format %a /var/lib/parachute)" == 700 ]]

echo 'scrape'
printf 'scrape_configs: [{job_name: parachute, scrape_interval: 1s, static_configs: [{targets: ["%s"]}]}]\n' "$agent" >/tmp/prometheus.yml
prometheus --config.file=/tmp/prometheus.yml --storage.tsdb.path=/tmp/prometheus --web.listen-address=127.0.0.1:9090 >/tmp/prometheus.log 2>&1 &
soon scraped
curl --silent "http://$agent/metrics" >/root/shared/metrics

echo 'look, as the runbooks do'
systemctl status parachute >/dev/null
journalctl --no-pager -u parachute -n 50 >/tmp/journal
grep -q parachute /tmp/journal

echo 'change the configuration'
sed -i 's/concurrent_runs: 8 /concurrent_runs: 7 /' /etc/parachute/parachute.yml
edited=$(sha256sum /etc/parachute/parachute.yml)
systemctl reload parachute
soon has 'parachute_config_last_reload_successful 1'
echo kept >/var/lib/parachute/a-persons-note

echo 'upgrade'
old=$(pid)
apt-get install --yes /root/two.deb
soon ready
[[ "$(pid)" != "$old" && ! -e "/proc/$old" ]]
[[ "$(dpkg-query --show --showformat '${Version}' parachute)" == *-2 ]]
[[ "$(sha256sum /etc/parachute/parachute.yml)" == "$edited" ]]
[[ "$(cat /var/lib/parachute/a-persons-note)" == kept ]]
soon scraped

echo 'remove'
apt-get remove --yes parachute
[[ ! -e /usr/bin/parachute && -e /etc/parachute/parachute.yml && -e /var/lib/parachute/a-persons-note ]]
[[ -z "$(pgrep parachute)" && ! -e /run/parachute ]]
! systemctl is-active parachute

echo 'purge'
apt-get purge --yes parachute
after=$(traces)
[[ "$after" == "$before" ]] || { diff <(echo "$before") <(echo "$after"); echo "that is left over"; exit 1; }
echo 'nothing is left'
