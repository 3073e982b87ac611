// Network inside the pod: which pods lose, refuse or wait, and at which place.
import {
  ANY_IS_BAD, ANY_IS_ODD, BY_CONTAINER, CONTAINER, ONE_IS_GOOD, TO_CONTAINER, dashboard, lines, stat, table, upTo,
} from './build.js';

const rate = (metric: string, by: string, more = '') => `sum by (${by}) (rate(${metric}{${CONTAINER}${more}}[$__rate_interval]))`;
/** Worst first, and no more than can be told apart. */
const worst = (expr: string) => `topk(10, ${expr})`;
const POD = 'namespace, pod, container';
const NAMED = '{{namespace}}/{{pod}}/{{container}}';

const RESENT = `sum ${BY_CONTAINER} (rate(parachute_tcp_retransmitted_segments_total{${CONTAINER}}[$__rate_interval])) / (sum ${BY_CONTAINER} (rate(parachute_tcp_sent_segments_total{${CONTAINER}}[$__rate_interval])) > 0)`;
const QUEUE = `max ${BY_CONTAINER} (parachute_tcp_accept_queue_connections{${CONTAINER}} / (parachute_tcp_accept_queue_limit_connections{${CONTAINER}} > 0))`;
/** ListenDrops counts the overflows as well. */
const NOT_TAKEN = 'reason="TcpExtListenDrops"';
const LOST_BY_CONNTRACK = 'event=~"drop|early_drop|insert_failed"';
const EXPIRY = `parachute_tls_certificate_expiry_timestamp_seconds{${CONTAINER}}`;

export const network = dashboard({
  uid: 'network',
  title: 'Network inside the pod',
  description: "What ss, nstat, ip, dig and conntrack say inside each pod's network namespace. Several containers of a pod see the same network.",
  rows: [
    {
      title: 'Worst pod',
      height: 4,
      panels: [
        stat({
          title: 'Segments sent again', width: 3, unit: 'percentunit', steps: upTo(0.01, 0.05), decimals: 2, none: 'nothing sent',
          description: 'Part of its TCP segments that the worst pod sent again.',
          expr: `max(${RESENT})`,
        }),
        stat({
          title: 'Connections not taken', width: 3, unit: 'none', steps: ANY_IS_BAD, decimals: 0, none: 'not probed',
          description: 'Connections in this time that listening sockets dropped, of all pods: mostly because the queue was full.',
          expr: `sum(increase(parachute_tcp_listen_total{${NOT_TAKEN}, ${CONTAINER}}[$__range]))`,
        }),
        stat({
          title: 'Accept queue', width: 3, unit: 'percentunit', steps: upTo(0.5, 0.8), decimals: 0, none: 'not listening',
          description: 'How full the fullest queue of new connections is.',
          expr: `max(${QUEUE})`,
        }),
        stat({
          title: 'Round trip', width: 3, unit: 's', steps: upTo(0.1, 0.5), none: 'not connected',
          description: 'Smoothed round trip time of the slowest TCP connection.',
          expr: `max(parachute_tcp_round_trip_max_seconds{${CONTAINER}})`,
        }),
        stat({
          title: 'Name servers silent', width: 3, unit: 'none', steps: ANY_IS_BAD, none: 'not probed',
          description: 'Queries of the last runs to which no answer came within two seconds, of all pods.',
          expr: `sum(parachute_dns_timeouts{${CONTAINER}})`,
        }),
        stat({
          title: 'Packets dropped', width: 3, unit: 'none', steps: ANY_IS_ODD, decimals: 0, none: 'not probed',
          description: 'Packets in this time that interfaces of pods dropped, in both directions.',
          expr: `sum(increase(parachute_network_dropped_packets_total{${CONTAINER}}[$__range]))`,
        }),
        stat({
          title: 'Lost by conntrack', width: 3, unit: 'none', steps: ANY_IS_BAD, decimals: 0, none: 'not probed',
          description: 'Packets in this time that connection tracking dropped because its table was full or two entries collided.',
          expr: `sum(increase(parachute_conntrack_events_total{${LOST_BY_CONNTRACK}, ${CONTAINER}}[$__range]))`,
        }),
        stat({
          title: 'Next certificate ends', width: 3, unit: 's', steps: [['red', null], ['yellow', 604800], ['green', 2592000]], none: 'no TLS',
          description: 'Time until the first certificate of a listening port expires; below zero it has.',
          expr: `min(${EXPIRY} - time())`,
        }),
      ],
    },
    {
      title: 'Worst first',
      height: 9,
      panels: [
        table({
          title: 'Pods', width: 24, unit: 'none',
          description: 'Each container with what goes wrong in its network, those that send most again first. A container leads to all that is known of it.',
          labels: [{ name: 'cluster' }, { name: 'node' }, { name: 'namespace' }, { name: 'pod' }, { name: 'container', link: TO_CONTAINER }],
          values: [
            { name: 'Sent again', unit: 'percentunit', steps: upTo(0.01, 0.05), expr: `topk(100, ${RESENT})` },
            { name: 'Not taken', steps: ANY_IS_BAD, expr: `topk(100, sum ${BY_CONTAINER} (round(increase(parachute_tcp_listen_total{${NOT_TAKEN}, ${CONTAINER}}[$__range]))))` },
            { name: 'Accept queue', unit: 'percentunit', steps: upTo(0.5, 0.8), expr: `topk(100, ${QUEUE})` },
            { name: 'Round trip', unit: 's', steps: upTo(0.1, 0.5), expr: `topk(100, max ${BY_CONTAINER} (parachute_tcp_round_trip_max_seconds{${CONTAINER}}))` },
            { name: 'DNS timeouts', steps: ANY_IS_BAD, expr: `topk(100, sum ${BY_CONTAINER} (parachute_dns_timeouts{${CONTAINER}}))` },
            { name: 'Dropped', steps: ANY_IS_ODD, expr: `topk(100, sum ${BY_CONTAINER} (round(increase(parachute_network_dropped_packets_total{${CONTAINER}}[$__range]))))` },
            { name: 'Resets a second', expr: `topk(100, sum ${BY_CONTAINER} (rate(parachute_tcp_resets_total{${CONTAINER}}[$__rate_interval])))` },
            { name: 'Sockets', expr: `topk(100, sum ${BY_CONTAINER} (parachute_tcp_sockets{${CONTAINER}}))` },
          ],
          sort: { by: 'Sent again', descending: true },
        }),
      ],
    },
    {
      title: 'TCP',
      height: 8,
      panels: [
        lines({
          title: 'Segments sent again, worst first', width: 8, unit: 'percentunit', steps: upTo(0.01, 0.05),
          description: 'Part of the TCP segments that were sent again. Nothing is drawn for pods that send nothing.',
          queries: [{ expr: worst(RESENT), legend: NAMED }],
        }),
        lines({
          title: 'Connections not taken, by reason', width: 8, unit: 'ops',
          description: "Connections a second that listening sockets did not take, by the kernel's name. ListenOverflows: the accept queue was full; ListenDrops: these and all others.",
          queries: [{ expr: worst(rate('parachute_tcp_listen_total', `${POD}, reason`)), legend: `${NAMED} {{reason}}` }],
        }),
        lines({
          title: 'Accept queues, fullest first', width: 8, unit: 'percentunit', steps: upTo(0.5, 0.8),
          description: 'Connections that wait to be accepted, of how many may wait.',
          queries: [{ expr: worst(QUEUE), legend: NAMED }],
        }),
        lines({
          title: 'Sockets by state', width: 8, unit: 'none', stacked: true,
          description: 'TCP sockets of all chosen pods. CLOSE-WAIT that rises is a program that does not close; SYN-SENT a peer that does not answer.',
          queries: [{ expr: `sum by (state) (parachute_tcp_connections{${CONTAINER}})`, legend: '{{state}}' }],
        }),
        lines({
          title: 'Opened, failed, reset', width: 8, unit: 'cps',
          description: 'Connections a second that were opened by the pods (active) and to them (passive), that could not be opened, and that were reset.',
          queries: [
            { expr: rate('parachute_tcp_opened_total', 'side'), legend: 'opened: {{side}}' },
            { expr: `sum(rate(parachute_tcp_failed_total{${CONTAINER}}[$__rate_interval]))`, legend: 'failed' },
            { expr: rate('parachute_tcp_resets_total', 'direction'), legend: 'reset: {{direction}}' },
          ],
        }),
        lines({
          title: 'Timers and memory pressure', width: 8, unit: 'ops',
          description: 'Times a second that a retransmission timer ran out, worst pods first, and that TCP came under memory pressure. Timers cost a user 200 ms and more each.',
          queries: [
            { expr: worst(rate('parachute_tcp_timeouts_total', POD)), legend: `${NAMED} timer` },
            { expr: `sum(rate(parachute_tcp_memory_pressure_total{${CONTAINER}}[$__rate_interval]))`, legend: 'memory pressure' },
          ],
        }),
      ],
    },
    {
      title: 'Peers',
      height: 8,
      panels: [
        lines({
          title: 'Round trip, slowest first', width: 8, unit: 's', steps: upTo(0.1, 0.5),
          description: 'Smoothed round trip time of the slowest connection, by pod and peer.',
          queries: [{ expr: worst(`max by (${POD}, peer) (parachute_tcp_peer_round_trip_seconds{${CONTAINER}})`), legend: `${NAMED} to {{peer}}` }],
        }),
        lines({
          title: 'Connections, most first', width: 8, unit: 'none',
          description: 'TCP connections by pod and peer.',
          queries: [{ expr: worst(`max by (${POD}, peer) (parachute_tcp_peer_connections{${CONTAINER}})`), legend: `${NAMED} to {{peer}}` }],
        }),
        lines({
          title: 'Bytes not acknowledged, most first', width: 8, unit: 'bytes',
          description: 'Bytes that wait for the acknowledgement of the peer. What stays high is a peer that does not read, or a path that loses.',
          queries: [{ expr: worst(`max by (${POD}, peer) (parachute_tcp_peer_send_queue_bytes{${CONTAINER}})`), legend: `${NAMED} to {{peer}}` }],
        }),
      ],
    },
    {
      title: 'Names and certificates',
      height: 8,
      panels: [
        lines({
          title: 'Name servers, slowest first', width: 8, unit: 's', steps: upTo(0.1, 1),
          description: 'Time until the answer of each name server, asked from inside the pod.',
          queries: [{ expr: worst(`max by (${POD}, server) (parachute_dns_answer_seconds{${CONTAINER}})`), legend: `${NAMED} {{server}}` }],
        }),
        lines({
          title: 'Queries and what came of them', width: 8, unit: 'none',
          description: 'Of the last run of each pod: queries, those without an answer, and answers by status. SERVFAIL and REFUSED are failures; NXDOMAIN for kubernetes.default is right outside of Kubernetes.',
          queries: [
            { expr: `sum(parachute_dns_queries{${CONTAINER}})`, legend: 'asked' },
            { expr: `sum(parachute_dns_timeouts{${CONTAINER}})`, legend: 'no answer' },
            { expr: `sum by (status) (parachute_dns_answers{${CONTAINER}})`, legend: 'answered: {{status}}' },
          ],
        }),
        table({
          title: 'Certificates, soonest first', width: 8, unit: 'none',
          description: 'When the certificate that a listening port shows expires.',
          labels: [{ name: 'namespace' }, { name: 'pod' }, { name: 'container', link: TO_CONTAINER }, { name: 'address' }],
          values: [{ name: 'Ends in', unit: 's', steps: [['red', null], ['yellow', 604800], ['green', 2592000]], expr: `bottomk(100, ${EXPIRY} - time())` }],
          sort: { by: 'Ends in', descending: false },
        }),
      ],
    },
    {
      title: 'Interfaces and paths',
      height: 8,
      panels: [
        lines({
          title: 'Traffic in, most first', width: 6, unit: 'Bps',
          description: 'Bytes a second that interfaces of pods received.',
          queries: [{ expr: worst(rate('parachute_network_receive_bytes_total', `${POD}, device`)), legend: `${NAMED} {{device}}` }],
        }),
        lines({
          title: 'Traffic out, most first', width: 6, unit: 'Bps',
          description: 'Bytes a second that interfaces of pods sent.',
          queries: [{ expr: worst(rate('parachute_network_transmit_bytes_total', `${POD}, device`)), legend: `${NAMED} {{device}}` }],
        }),
        lines({
          title: 'Dropped and errors, worst first', width: 6, unit: 'pps',
          description: 'Packets a second that interfaces of pods dropped, and errors.',
          queries: [
            { expr: worst(rate('parachute_network_dropped_packets_total', `${POD}, device, direction`)), legend: `${NAMED} {{device}} {{direction}} dropped` },
            { expr: worst(rate('parachute_network_errors_total', `${POD}, device, direction`)), legend: `${NAMED} {{device}} {{direction}} errors` },
          ],
        }),
        table({
          title: 'Full packets, broken paths first', width: 6, unit: 'none',
          description: 'Whether echo requests were answered, by size. A peer that answers the small one and not the full one is behind a path with a smaller MTU.',
          labels: [{ name: 'pod' }, { name: 'container', link: TO_CONTAINER }, { name: 'peer' }, { name: 'bytes' }],
          values: [{ name: 'Answered', words: ['yes', 'NO'], steps: ONE_IS_GOOD, expr: `bottomk(100, parachute_path_replies{${CONTAINER}})` }],
          sort: { by: 'Answered', descending: false },
        }),
        lines({
          title: 'Connection tracking, lost', width: 8, unit: 'pps',
          description: "Packets a second that connection tracking dropped, by pod and the kernel's name for it. On most clusters NAT happens in the node's own namespace, and this stays at zero.",
          queries: [{ expr: worst(rate('parachute_conntrack_events_total', `${POD}, event`, `, ${LOST_BY_CONNTRACK}`)), legend: `${NAMED} {{event}}` }],
        }),
        lines({
          title: 'Connection tracking, entries', width: 8, unit: 'none',
          description: 'Entries of the table of each pod, most first.',
          queries: [{ expr: worst(`max by (${POD}) (parachute_conntrack_entries{${CONTAINER}})`), legend: NAMED }],
        }),
        lines({
          title: 'UDP and fragments', width: 8, unit: 'pps',
          description: "Datagrams a second that were lost or refused and packets that could not be put together, by the kernel's name. RcvbufErrors: the program reads too slowly; NoPorts: nobody listens.",
          queries: [
            { expr: worst(rate('parachute_udp_errors_total', 'reason')), legend: '{{reason}}' },
            { expr: worst(rate('parachute_ip_fragment_failures_total', 'reason')), legend: '{{reason}}' },
          ],
        }),
      ],
    },
  ],
});
