// Fleet: what runs where, what came of it, what was lost, and how soon a container is seen.
import {
  AGENT, ANY_IS_BAD, ANY_IS_ODD, BY_AGENT, BY_CONTAINER, CONTAINER, NO_FAILURE, ONE_IS_GOOD, TO_AGENT, TO_CONTAINER, TO_PAGE,
  dashboard, lines, stat, table, upTo,
} from './build.js';

const UP = `max by (cluster, node, job, instance) (up{${AGENT}})`;
/** Refusals that are none: the same run waits already, or nobody wants it any more. */
const REFUSED = `parachute_runs_refused_total{${AGENT}, reason!~"already_queued|cancelled"}`;
const FAILED = `parachute_probe_failures_total{${AGENT}, ${NO_FAILURE}}`;
const DETECTION = `parachute_container_detection_seconds_bucket{${AGENT}}`;

export const fleet = dashboard({
  uid: 'fleet',
  title: 'Fleet',
  description: 'All agents and all containers: what is wrong first, then what runs where. Choose a node or a namespace to look closer.',
  rows: [
    {
      title: 'Now',
      height: 4,
      panels: [
        stat({
          title: 'Agents down', width: 3, unit: 'none', steps: ANY_IS_BAD, none: 'no agent is scraped',
          description: 'Agents that Prometheus scrapes and that do not answer. Their nodes are blind: no probe runs there, and alerts find no container.',
          expr: `sum(${UP} == bool 0)`,
        }),
        stat({
          title: 'Agents', width: 3, unit: 'none',
          description: 'Agents that answer. There should be one on each node that runs containers.',
          expr: `sum(${UP})`,
        }),
        stat({
          title: 'Containers', width: 3, unit: 'none',
          description: 'Containers that the agents know now, sandboxes (pause containers) included.',
          expr: `sum(parachute_containers{${AGENT}})`,
        }),
        stat({
          title: 'Failing probes', width: 3, unit: 'none', steps: ANY_IS_BAD, none: 'nothing ran',
          description: 'Probes whose last run in a container failed, each container counted. Their numbers are missing from the other dashboards; the table below names them.',
          expr: `sum(parachute_probe_last_success{${CONTAINER}} == bool 0)`,
        }),
        stat({
          title: 'Failed runs', width: 3, unit: 'percentunit', steps: upTo(0.01, 0.1), decimals: 1, none: 'nothing ran',
          description: 'Part of the runs in this time that failed. Runs whose container ended or which nobody wanted any more are no failures.',
          expr: `sum(increase(${FAILED}[$__range])) / (sum(increase(parachute_probe_runs_total{${AGENT}}[$__range])) > 0)`,
        }),
        stat({
          title: 'Runs refused', width: 3, unit: 'none', steps: ANY_IS_ODD, decimals: 0,
          description: 'Runs in this time that were asked for and not started, because the queue was full or for another reason of the agent. Runs that waited already are not counted.',
          expr: `sum(increase(${REFUSED}[$__range]))`,
        }),
        stat({
          title: 'Starts lost', width: 3, unit: 'none', steps: ANY_IS_ODD, decimals: 0,
          description: 'Records of first execs in this time that the kernel program could not write. The agent then looks through all cgroups, so that a container is found late and not never.',
          expr: `sum(increase(parachute_exec_events_lost_total{${AGENT}}[$__range]))`,
        }),
        stat({
          title: 'Seen within, 99 %', width: 3, unit: 's', steps: upTo(0.25, 1), none: 'nothing started',
          description: "Time from a container's first exec until its agent knew it, for 99 of 100 containers that started in this time.",
          expr: `histogram_quantile(0.99, sum by (le) (increase(${DETECTION}[$__range])))`,
        }),
      ],
    },
    {
      title: 'Worst first',
      height: 9,
      panels: [
        table({
          title: 'Agents', width: 24, unit: 'none',
          description: 'Each agent, with most failed runs first. A node leads to the health of its agent.',
          labels: [{ name: 'cluster' }, { name: 'node', link: TO_AGENT }, { name: 'instance' }],
          values: [
            { name: 'Up', expr: `max ${BY_AGENT} (up{${AGENT}})`, words: ['up', 'DOWN'], steps: ONE_IS_GOOD, width: 70 },
            { name: 'Failed runs', expr: `sum ${BY_AGENT} (round(increase(${FAILED}[$__range])))`, steps: ANY_IS_BAD },
            { name: 'Refused', expr: `sum ${BY_AGENT} (round(increase(${REFUSED}[$__range])))`, steps: ANY_IS_ODD },
            { name: 'Starts lost', expr: `sum ${BY_AGENT} (round(increase(parachute_exec_events_lost_total{${AGENT}}[$__range])))`, steps: ANY_IS_ODD },
            { name: 'Launcher restarts', expr: `sum ${BY_AGENT} (round(increase(parachute_launcher_restarts_total{${AGENT}}[$__range])))`, steps: ANY_IS_ODD },
            { name: 'Captures', expr: `min ${BY_AGENT} (parachute_capture_working{${AGENT}})`, words: ['kept', 'NOT KEPT'], steps: ONE_IS_GOOD },
            { name: 'Runs waiting', expr: `max ${BY_AGENT} (parachute_runs_queued{${AGENT}})`, steps: upTo(100, 1000) },
            { name: 'Containers', expr: `max ${BY_AGENT} (parachute_containers{${AGENT}})` },
          ],
          sort: { by: 'Failed runs', descending: true },
        }),
        table({
          title: 'Failing probes', width: 12, unit: 'none',
          description: 'Probes whose last run in a container failed, the most recent first. Why it failed is on the page of the agent and in the capture of the run.',
          labels: [{ name: 'node', link: TO_AGENT }, { name: 'namespace' }, { name: 'pod' }, { name: 'container', link: TO_CONTAINER }, { name: 'probe' }],
          values: [{
            name: 'Failed ago', unit: 's',
            expr: `topk(100, (time() - parachute_probe_last_run_timestamp_seconds{${CONTAINER}}) and on (cluster, namespace, pod, container, probe) parachute_probe_last_success{${CONTAINER}} == 0)`,
          }],
          sort: { by: 'Failed ago', descending: false },
        }),
        table({
          title: 'Containers with most probes failing', width: 12, unit: 'none',
          description: 'How many of the probes that ran in a container failed in their last run.',
          labels: [{ name: 'cluster' }, { name: 'node', link: TO_AGENT }, { name: 'namespace' }, { name: 'pod' }, { name: 'container', link: TO_CONTAINER }],
          values: [
            { name: 'Failing', steps: ANY_IS_BAD, expr: `topk(100, sum ${BY_CONTAINER} (parachute_probe_last_success{${CONTAINER}} == bool 0) > 0)` },
          ],
          sort: { by: 'Failing', descending: true },
        }),
      ],
    },
    {
      title: 'Outcomes',
      height: 8,
      panels: [
        lines({
          title: 'Runs', width: 8, unit: 'ops', stacked: true,
          description: 'Finished runs a second by probe, failed ones included.',
          queries: [{ expr: `sum by (probe) (rate(parachute_probe_runs_total{${AGENT}}[$__rate_interval]))`, legend: '{{probe}}' }],
        }),
        lines({
          title: 'Failures by what they came to', width: 8, unit: 'ops', stacked: true,
          description: 'Runs a second that did not end well, by outcome. timeout and limit_reached are about the container or the limits, enter_failed about the node, parse_failed about the version of a tool.',
          queries: [{ expr: `sum by (reason) (rate(parachute_probe_failures_total{${AGENT}}[$__rate_interval]))`, legend: '{{reason}}' }],
        }),
        lines({
          title: 'Failed part by probe, worst first', width: 8, unit: 'percentunit', steps: upTo(0.01, 0.1), max: 1,
          description: 'Part of the runs of a probe that failed.',
          queries: [{
            expr: `topk(10, sum by (probe) (rate(${FAILED}[$__rate_interval])) / (sum by (probe) (rate(parachute_probe_runs_total{${AGENT}}[$__rate_interval])) > 0))`,
            legend: '{{probe}}',
          }],
        }),
      ],
    },
    {
      title: 'Detection and loss',
      height: 8,
      panels: [
        lines({
          title: 'How soon containers are seen', width: 8, unit: 's', steps: upTo(0.25, 1),
          description: "Time from a container's first exec until its agent knew it. Nothing is drawn while nothing starts.",
          queries: ['0.5', '0.9', '0.99'].map((part) => ({
            expr: `histogram_quantile(${part}, sum by (le) (rate(${DETECTION}[$__rate_interval])))`,
            legend: `${Number(part) * 100} %`,
          })),
        }),
        lines({
          title: 'Starts seen and lost', width: 8, unit: 'ops',
          description: 'First execs in new cgroups a second, and those of them that the kernel could not tell because its ring buffer was full.',
          queries: [
            { expr: `sum(rate(parachute_exec_events_total{${AGENT}}[$__rate_interval]))`, legend: 'seen' },
            { expr: `sum(rate(parachute_exec_events_lost_total{${AGENT}}[$__rate_interval]))`, legend: 'lost' },
          ],
        }),
        lines({
          title: 'Runs and alerts turned away', width: 8, unit: 'ops', stacked: true,
          description: 'What was asked for and not done, by reason: runs that were not started, alerts that ran nothing or not all, runs for alerts that were not run to their end.',
          queries: [
            { expr: `sum by (reason) (rate(parachute_runs_refused_total{${AGENT}}[$__rate_interval]))`, legend: 'run: {{reason}}' },
            { expr: `sum by (reason) (rate(parachute_alerts_dropped_total{${AGENT}}[$__rate_interval]))`, legend: 'alert: {{reason}}' },
            { expr: `sum by (reason) (rate(parachute_alert_runs_dropped_total{${AGENT}}[$__rate_interval]))`, legend: 'queued: {{reason}}' },
          ],
        }),
      ],
    },
    {
      title: 'What runs where',
      height: 9,
      panels: [
        lines({
          title: 'Containers by node', width: 8, unit: 'none',
          description: 'Containers that each agent knows, sandboxes included; the fullest nodes. One agent looks after at most 4,096.',
          queries: [{ expr: `topk(20, max ${BY_AGENT} (parachute_containers{${AGENT}}))`, legend: '{{node}} {{instance}}' }],
          steps: upTo(3000, 4000),
        }),
        lines({
          title: 'Containers by namespace', width: 8, unit: 'none', stacked: true,
          description: 'Containers that the agents know by namespace, without sandboxes; the largest namespaces.',
          queries: [{ expr: `topk(20, count by (namespace) (parachute_container_info{sandbox="false", ${CONTAINER}}))`, legend: '{{namespace}}' }],
        }),
        table({
          title: 'Workloads', width: 8, unit: 'none',
          description: "Deployments, stateful sets and so on by kube-state-metrics, with the containers that agents know and the probes that fail in them. It needs kube-state-metrics and this project's recording rules.",
          labels: [{ name: 'namespace' }, { name: 'workload' }, { name: 'workload_type' }],
          values: [
            { name: 'Failing probes', steps: ANY_IS_BAD, expr: 'namespace_workload:parachute_probe_failing:sum{cluster=~"$cluster", namespace=~"$namespace"}' },
            { name: 'Containers', expr: 'namespace_workload:parachute_container_info:count{cluster=~"$cluster", namespace=~"$namespace"}' },
          ],
          sort: { by: 'Failing probes', descending: true },
        }),
        table({
          title: 'Containers', width: 24, unit: 'none',
          description: 'At most 500 of the containers that are chosen above, with image and runtime. The id leads to the page of the agent.',
          labels: [
            { name: 'cluster' }, { name: 'node', link: TO_AGENT }, { name: 'namespace' }, { name: 'pod' },
            { name: 'container', link: TO_CONTAINER }, { name: 'image' }, { name: 'runtime' }, { name: 'instance' }, { name: 'id', link: TO_PAGE },
          ],
          values: [{ name: 'Known', hidden: true, expr: `topk(500, parachute_container_info{sandbox="false", ${CONTAINER}})` }],
          sort: { by: 'namespace', descending: false },
        }),
      ],
    },
  ],
});
