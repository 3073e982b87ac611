// Container: everything that is known of one container, by its agent, by kube-state-metrics and by cAdvisor.
import {
  ANY_IS_BAD, ANY_IS_ODD, CONTAINER, KUBERNETES, ONE_IS_GOOD, TO_CAPTURE, TO_PAGE, dashboard, lines, stat, table, upTo,
} from './build.js';

const rate = (metric: string, by: string) => `sum by (${by}) (rate(${metric}{${CONTAINER}}[$__rate_interval]))`;
const LIMIT = (resource: string) => `max(kube_pod_container_resource_limits{resource="${resource}", ${KUBERNETES}})`;
const command = (metric: string) => `topk(30, sum by (command) (${metric}{${CONTAINER}}))`;

export const container = dashboard({
  uid: 'container',
  title: 'Container',
  description: 'Everything that is known of one container. Orange marks are captures: what a probe printed at that moment, a click away on the page of the agent.',
  one: true,
  rows: [
    {
      title: 'Now',
      height: 4,
      panels: [
        stat({
          title: 'Failing probes', width: 3, unit: 'none', steps: ANY_IS_BAD, none: 'nothing ran',
          description: 'Probes whose last run in this container failed. Their numbers are missing below; the table of probes names them.',
          expr: `sum(parachute_probe_last_success{${CONTAINER}} == bool 0)`,
        }),
        stat({
          title: 'Open files', width: 3, unit: 'percentunit', steps: upTo(0.7, 0.9), decimals: 1, none: 'not probed',
          description: 'Part of its limit of open files that the fullest process uses. At 100 % it fails with "too many open files".',
          expr: `max(parachute_open_files_used_ratio{${CONTAINER}})`,
        }),
        stat({
          title: 'Cannot be killed', width: 3, unit: 'none', steps: ANY_IS_ODD, none: 'not probed',
          description: 'Threads that wait in the kernel in state D: for a disk, NFS or a lock. One for a moment is nothing; the table below says where they wait.',
          expr: `sum(parachute_uninterruptible_threads{${CONTAINER}})`,
        }),
        stat({
          title: 'Zombies', width: 3, unit: 'none', steps: upTo(1, 50), none: 'not probed',
          description: 'Processes that have ended and that their parent has not collected. They hold a pid each until pids run out.',
          expr: `sum(parachute_zombie_processes{${CONTAINER}})`,
        }),
        stat({
          title: 'Sent again', width: 3, unit: 'percentunit', steps: upTo(0.01, 0.05), decimals: 2, none: 'nothing sent',
          description: "Part of the TCP segments of the pod that were sent again. Above a few percent the network, or the other side, loses packets.",
          expr: `sum(rate(parachute_tcp_retransmitted_segments_total{${CONTAINER}}[$__rate_interval])) / (sum(rate(parachute_tcp_sent_segments_total{${CONTAINER}}[$__rate_interval])) > 0)`,
        }),
        stat({
          title: 'Accept queue', width: 3, unit: 'percentunit', steps: upTo(0.5, 0.8), decimals: 0, none: 'not listening',
          description: 'How full the fullest queue of new connections is. A full one drops connections: the program accepts too slowly.',
          expr: `max(parachute_tcp_accept_queue_connections{${CONTAINER}} / (parachute_tcp_accept_queue_limit_connections{${CONTAINER}} > 0))`,
        }),
        stat({
          title: 'Memory of its limit', width: 3, unit: 'percentunit', steps: upTo(0.8, 0.95), decimals: 0, none: 'no limit known',
          description: 'Working set by cAdvisor of the memory limit by kube-state-metrics. At 100 % the kernel kills the container.',
          expr: `max(container_memory_working_set_bytes{${KUBERNETES}, image!=""}) / ${LIMIT('memory')}`,
        }),
        stat({
          title: 'Restarts', width: 3, unit: 'none', steps: ANY_IS_ODD, decimals: 0, none: 'not known',
          description: 'Restarts of the container in this time, by kube-state-metrics.',
          expr: `sum(increase(kube_pod_container_status_restarts_total{${KUBERNETES}}[$__range]))`,
        }),
      ],
    },
    {
      title: 'What it is, what ran in it',
      height: 8,
      panels: [
        table({
          title: 'Identity', width: 8, unit: 'none',
          description: 'Image, runtime, id and the pid of its first process on the node, by the agent. The id leads to the page of the agent, which has all of its runs.',
          labels: [{ name: 'id', link: TO_PAGE, width: 140 }, { name: 'image' }, { name: 'node' }, { name: 'runtime' }, { name: 'pid' }, { name: 'uid' }, { name: 'instance' }],
          values: [{ name: 'Known', hidden: true, expr: `parachute_container_info{${CONTAINER}}` }],
          sort: { by: 'node', descending: false },
        }),
        table({
          title: 'Probes, failed ones first', width: 7, unit: 'none',
          description: 'The last run of each probe in this container: whether it went well, and how old its numbers are.',
          labels: [{ name: 'probe' }],
          values: [
            { name: 'Last run', expr: `min by (probe) (parachute_probe_last_success{${CONTAINER}})`, words: ['ok', 'FAILED'], steps: ONE_IS_GOOD },
            { name: 'Ago', unit: 's', expr: `min by (probe) (time() - parachute_probe_last_run_timestamp_seconds{${CONTAINER}})` },
          ],
          sort: { by: 'Last run', descending: false },
        }),
        table({
          title: 'Captures, newest first', width: 9, unit: 'none',
          description: 'The newest capture of each probe in this container: what it printed, why it ran and what came of it. The id leads to the page of the agent.',
          labels: [{ name: 'alert' }, { name: 'trigger' }, { name: 'probe' }, { name: 'outcome' }, { name: 'capture', link: TO_CAPTURE }, { name: 'instance' }],
          values: [{ name: 'When', unit: 'dateTimeFromNow', expr: `parachute_capture_last_timestamp_seconds{${CONTAINER}} * 1000` }],
          sort: { by: 'When', descending: true },
        }),
      ],
    },
    {
      title: 'Processor and memory',
      height: 8,
      panels: [
        lines({
          title: 'Processor', width: 8, unit: 'none', decimals: 2,
          description: 'Processors in use by cAdvisor, the limit by kube-state-metrics, and the part of its periods in which it was made to wait.',
          queries: [
            { expr: `sum(rate(container_cpu_usage_seconds_total{${KUBERNETES}, image!=""}[$__rate_interval]))`, legend: 'in use' },
            { expr: LIMIT('cpu'), legend: 'limit' },
            { expr: `sum(rate(container_cpu_cfs_throttled_periods_total{${KUBERNETES}}[$__rate_interval])) / sum(rate(container_cpu_cfs_periods_total{${KUBERNETES}}[$__rate_interval]))`, legend: 'part of periods throttled' },
          ],
        }),
        lines({
          title: 'Memory', width: 8, unit: 'bytes',
          description: "The working set by cAdvisor against the limit, beside what the processes hold by smaps (shared pages shared out) and by ps. What the working set has above these is files in memory, tmpfs and the kernel's.",
          queries: [
            { expr: LIMIT('memory'), legend: 'limit' },
            { expr: `max(container_memory_working_set_bytes{${KUBERNETES}, image!=""})`, legend: 'working set' },
            { expr: `sum(parachute_memory_bytes{kind="proportional", ${CONTAINER}})`, legend: 'processes, shared pages shared out' },
            { expr: `sum(parachute_resident_memory_bytes{${CONTAINER}})`, legend: 'processes, by ps' },
          ],
        }),
        lines({
          title: 'Memory of processes by kind', width: 8, unit: 'bytes',
          description: 'By smaps_rollup. private_dirty and anonymous are what only ending the process frees; swapped is what it will wait for.',
          queries: [{ expr: `sum by (kind) (parachute_memory_bytes{${CONTAINER}})`, legend: '{{kind}}' }],
        }),
      ],
    },
    {
      title: 'Processes',
      height: 8,
      panels: [
        lines({
          title: 'Processes by state', width: 6, unit: 'none', stacked: true,
          description: 'R running, S sleeping, D waiting in the kernel, Z ended and not collected, T stopped.',
          queries: [{ expr: `sum by (state) (parachute_processes{${CONTAINER}})`, legend: '{{state}}' }],
        }),
        lines({
          title: 'Threads and open files', width: 6, unit: 'none',
          description: 'Of all processes. What only rises is a leak.',
          queries: [
            { expr: `sum(parachute_threads{${CONTAINER}})`, legend: 'threads' },
            { expr: `sum(parachute_open_files{${CONTAINER}})`, legend: 'open files' },
          ],
        }),
        table({
          title: 'Commands, largest first', width: 12, unit: 'none',
          description: 'Processes by the name of their command: how many, their threads, memory, open files, and the processor time that they have used so far.',
          labels: [{ name: 'command' }],
          values: [
            { name: 'Resident', unit: 'bytes', expr: command('parachute_command_resident_memory_bytes') },
            { name: 'Processes', expr: command('parachute_command_processes') },
            { name: 'Threads', expr: command('parachute_command_threads') },
            { name: 'Open files', expr: command('parachute_command_open_files') },
            { name: 'Of their limit', unit: 'percentunit', steps: upTo(0.7, 0.9), expr: `topk(30, max by (command) (parachute_command_open_files_used_ratio{${CONTAINER}}))` },
            { name: 'Processor time', unit: 's', expr: command('parachute_command_processor_seconds') },
          ],
          sort: { by: 'Resident', descending: true },
        }),
        table({
          title: 'Stuck threads', width: 12, unit: 'none',
          description: 'Threads in state D or Z with the kernel function in which they wait, most first. Empty when there are none. nfs, rpc and jbd2 in a name say which disk to look at.',
          labels: [{ name: 'state' }, { name: 'wchan' }, { name: 'command' }],
          values: [{ name: 'Threads', steps: ANY_IS_ODD, expr: `sum by (state, wchan, command) (parachute_stuck_threads{${CONTAINER}})` }],
          sort: { by: 'Threads', descending: true },
        }),
        table({
          title: 'Who listens', width: 12, unit: 'none',
          description: 'Listening sockets with the command that holds them; without one, another container of the pod holds them.',
          labels: [{ name: 'protocol' }, { name: 'address' }, { name: 'command' }],
          values: [{ name: 'Sockets', expr: `sum by (protocol, address, command) (parachute_listening_sockets{${CONTAINER}})` }],
          sort: { by: 'address', descending: false },
        }),
      ],
    },
    {
      title: 'Network of its pod',
      height: 8,
      panels: [
        lines({
          title: 'TCP sockets by state', width: 6, unit: 'none', stacked: true,
          description: 'Of the whole pod. CLOSE-WAIT that rises is a program that does not close; SYN-SENT a peer that does not answer.',
          queries: [{ expr: `sum by (state) (parachute_tcp_connections{${CONTAINER}})`, legend: '{{state}}' }],
        }),
        lines({
          title: 'Accept queues', width: 6, unit: 'none',
          description: 'Connections that wait to be accepted, by listening address.',
          queries: [{ expr: `topk(10, max by (address) (parachute_tcp_accept_queue_connections{${CONTAINER}}))`, legend: '{{address}}' }],
        }),
        lines({
          title: 'Round trip by peer, slowest first', width: 6, unit: 's',
          description: 'Smoothed round trip time of the slowest TCP connection to each peer.',
          queries: [{ expr: `topk(10, max by (peer) (parachute_tcp_peer_round_trip_seconds{${CONTAINER}}))`, legend: '{{peer}}' }],
        }),
        lines({
          title: 'Traffic', width: 6, unit: 'Bps',
          description: 'Bytes a second by interface of the pod.',
          queries: [
            { expr: rate('parachute_network_receive_bytes_total', 'device'), legend: '{{device}} in' },
            { expr: rate('parachute_network_transmit_bytes_total', 'device'), legend: '{{device}} out' },
          ],
        }),
        lines({
          title: 'Queues of sockets', width: 6, unit: 'bytes',
          description: 'Bytes of established connections that wait for the acknowledgement of the other side (send), or for the program to read them (receive).',
          queries: [
            { expr: `sum(parachute_tcp_send_queue_bytes{state="ESTAB", ${CONTAINER}})`, legend: 'send' },
            { expr: `sum(parachute_tcp_receive_queue_bytes{state="ESTAB", ${CONTAINER}})`, legend: 'receive' },
          ],
        }),
        lines({
          title: 'Name servers', width: 6, unit: 'none',
          description: 'Of the last run: queries to the name servers of its resolv.conf, those without an answer, and answers by status.',
          queries: [
            { expr: `sum(parachute_dns_queries{${CONTAINER}})`, legend: 'asked' },
            { expr: `sum(parachute_dns_timeouts{${CONTAINER}})`, legend: 'no answer' },
            { expr: `sum by (server, status) (parachute_dns_answers{${CONTAINER}})`, legend: '{{server}} {{status}}' },
          ],
        }),
        table({
          title: 'Interfaces', width: 6, unit: 'none',
          description: 'The interfaces of its pod: whether they can carry packets, the largest packet that they send, and what they dropped in this time.',
          labels: [{ name: 'device' }],
          values: [
            { name: 'State', words: ['up', 'DOWN'], steps: ONE_IS_GOOD, expr: `min by (device) (parachute_network_up{${CONTAINER}})` },
            { name: 'MTU', unit: 'bytes', expr: `min by (device) (parachute_network_mtu_bytes{${CONTAINER}})` },
            { name: 'Dropped', steps: ANY_IS_ODD, expr: `sum by (device) (round(increase(parachute_network_dropped_packets_total{${CONTAINER}}[$__range])))` },
          ],
          sort: { by: 'Dropped', descending: true },
        }),
        table({
          title: 'Certificates, soonest first', width: 6, unit: 'none',
          description: 'When the certificate that a listening port shows expires.',
          labels: [{ name: 'address' }],
          values: [{ name: 'Ends in', unit: 's', steps: [['red', null], ['yellow', 604800], ['green', 2592000]], expr: `min by (address) (parachute_tls_certificate_expiry_timestamp_seconds{${CONTAINER}} - time())` }],
          sort: { by: 'Ends in', descending: false },
        }),
      ],
    },
  ],
});
