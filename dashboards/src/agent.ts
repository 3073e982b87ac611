// Agent health: what an agent needs to do its work, and where it fell short.
import {
  AGENT, ANY_IS_BAD, ANY_IS_ODD, BY_AGENT, CONTAINER, NO_FAILURE, ONE_IS_GOOD, TO_CONTAINER, dashboard, lines, stat, table, upTo,
} from './build.js';

/** `process_*` of agents alone: everything that is scraped has metrics of these names. */
const own = (metric: string) => `${metric}{${AGENT}} and on (job, instance) parachute_build_info{${AGENT}}`;
const RUNS = `parachute_probe_runs_total{${AGENT}}`;
const rate = (metric: string, by: string, more = '') => `sum by (${by}) (rate(${metric}{${AGENT}${more}}[$__rate_interval]))`;

export const agent = dashboard({
  uid: 'agent',
  title: 'Agent health',
  description: 'The agents themselves: are they up, do their runs go well, is anything dropped, do captures come to the disk?',
  rows: [
    {
      title: 'Now',
      height: 4,
      panels: [
        stat({
          title: 'Down', width: 3, unit: 'none', steps: ANY_IS_BAD, none: 'no agent is scraped',
          description: 'Agents that do not answer Prometheus.',
          expr: `sum(max by (cluster, node, job, instance) (up{${AGENT}}) == bool 0)`,
        }),
        stat({
          title: 'Restarts', width: 3, unit: 'none', steps: ANY_IS_ODD,
          description: 'Times that an agent started anew in this time. An agent that is killed runs what alerts have asked for at its next start.',
          expr: `sum(changes(process_start_time_seconds{${AGENT}}[$__range]) and on (job, instance) parachute_build_info{${AGENT}})`,
        }),
        stat({
          title: 'Launcher restarts', width: 3, unit: 'none', steps: ANY_IS_ODD, decimals: 0,
          description: 'Launcher processes that had died or hung and were replaced in this time. Runs that were under way then failed with enter_failed: launcher.',
          expr: `sum(increase(parachute_launcher_restarts_total{${AGENT}}[$__range]))`,
        }),
        stat({
          title: 'Failed runs', width: 3, unit: 'percentunit', steps: upTo(0.01, 0.1), decimals: 1, none: 'nothing ran',
          description: 'Part of the runs in this time that failed.',
          expr: `sum(increase(parachute_probe_failures_total{${AGENT}, ${NO_FAILURE}}[$__range])) / (sum(increase(${RUNS}[$__range])) > 0)`,
        }),
        stat({
          title: 'Runs waiting', width: 3, unit: 'none', steps: upTo(100, 1000),
          description: 'Runs that wait for a free slot (limits.concurrent_runs), of all agents chosen.',
          expr: `sum(parachute_runs_queued{${AGENT}})`,
        }),
        stat({
          title: 'Captures', width: 3, unit: 'none', steps: ONE_IS_GOOD, words: ['all kept', 'NOT KEPT'],
          description: 'Whether all agents could keep what runs print the last time that they tried. If not, the disk is full, read-only or hangs.',
          expr: `min(parachute_capture_working{${AGENT}})`,
        }),
        stat({
          title: 'Configuration', width: 3, unit: 'none', steps: ONE_IS_GOOD, words: ['in use', 'REFUSED'],
          description: 'Whether the last version of the configuration was taken everywhere. If not, an agent goes on with the one before, and its log says what is wrong.',
          expr: `min(parachute_config_last_reload_successful{${AGENT}})`,
        }),
        stat({
          title: 'Stuck commands', width: 3, unit: 'none', steps: ANY_IS_BAD,
          description: 'Commands that were killed and have not gone, because the kernel does not let go of them (D state). With 16 of them an agent refuses new runs.',
          expr: `sum(parachute_probe_stuck{${AGENT}})`,
        }),
      ],
    },
    {
      title: 'Worst first',
      height: 8,
      panels: [
        table({
          title: 'Agents', width: 14, unit: 'none',
          description: 'Each agent with its version and what it takes, with most failed runs first.',
          labels: [{ name: 'cluster' }, { name: 'node' }, { name: 'instance' }, { name: 'version' }],
          values: [
            { name: 'Build', hidden: true, expr: `max by (cluster, node, instance, version) (parachute_build_info{${AGENT}})` },
            { name: 'Failed runs', steps: ANY_IS_BAD, expr: `sum ${BY_AGENT} (round(increase(parachute_probe_failures_total{${AGENT}, ${NO_FAILURE}}[$__range])))` },
            { name: 'Processor', unit: 'percentunit', steps: upTo(0.25, 1), expr: `sum ${BY_AGENT} (rate(process_cpu_seconds_total{${AGENT}}[$__rate_interval]) and on (job, instance) parachute_build_info{${AGENT}})` },
            { name: 'Memory', unit: 'bytes', steps: upTo(268435456, 536870912), expr: `max ${BY_AGENT} (${own('process_resident_memory_bytes')})` },
            { name: 'Started', unit: 'dateTimeFromNow', expr: `max ${BY_AGENT} (${own('process_start_time_seconds')}) * 1000` },
          ],
          sort: { by: 'Failed runs', descending: true },
        }),
        table({
          title: 'Runs that are longest ago', width: 10, unit: 'none',
          description: 'When each probe last ran in a container, the longest ago first. A probe on a schedule that is far behind its period waits, is refused or is in quarantine.',
          labels: [{ name: 'namespace' }, { name: 'pod' }, { name: 'container', link: TO_CONTAINER }, { name: 'probe' }],
          values: [
            { name: 'Ran ago', unit: 's', expr: `topk(100, max by (cluster, namespace, pod, container, probe) (time() - parachute_probe_last_run_timestamp_seconds{${CONTAINER}}))` },
          ],
          sort: { by: 'Ran ago', descending: true },
        }),
      ],
    },
    {
      title: 'Runs',
      height: 8,
      panels: [
        lines({
          title: 'Under way and waiting', width: 8, unit: 'none',
          description: 'Runs in progress, and those that wait for a slot. A queue that only grows means more probes than slots: raise limits.concurrent_runs or the periods.',
          queries: [
            { expr: `sum(parachute_runs_running{${AGENT}})`, legend: 'under way' },
            { expr: `sum(parachute_runs_queued{${AGENT}})`, legend: 'waiting' },
          ],
        }),
        lines({
          title: 'Runs by trigger', width: 8, unit: 'ops', stacked: true,
          description: 'Finished runs a second by what asked for them.',
          queries: [{ expr: rate('parachute_probe_runs_total', 'trigger'), legend: '{{trigger}}' }],
        }),
        lines({
          title: 'Duration, 99 %, longest first', width: 8, unit: 's',
          description: "Time from a run's start until its command ended or was killed, for 99 of 100 runs of a probe.",
          queries: [{
            expr: `topk(10, histogram_quantile(0.99, sum by (le, probe) (rate(parachute_probe_duration_seconds_bucket{${AGENT}}[$__rate_interval]))))`,
            legend: '{{probe}}',
          }],
        }),
        lines({
          title: 'Failures', width: 8, unit: 'ops', stacked: true,
          description: 'Runs a second that did not end well, by probe and outcome, the most frequent.',
          queries: [{ expr: `topk(20, ${rate('parachute_probe_failures_total', 'probe, reason')} > 0)`, legend: '{{probe}}: {{reason}}' }],
        }),
        lines({
          title: 'Refused', width: 8, unit: 'ops', stacked: true,
          description: 'Runs a second that were asked for and not started. queue_full: limits.queued_runs; quarantined: the probe has reached its limits there; stuck: too many commands hang in the kernel.',
          queries: [{ expr: rate('parachute_runs_refused_total', 'reason'), legend: '{{reason}}' }],
        }),
        lines({
          title: 'Entering failed', width: 8, unit: 'ops', stacked: true,
          description: 'Attempts a second to enter a container that failed, by the step: the launcher died, a namespace could not be joined, the procfs was not to be trusted.',
          queries: [{ expr: `topk(10, ${rate('parachute_enter_errors_total', 'step')})`, legend: '{{step}}' }],
        }),
        lines({
          title: 'Ways in', width: 8, unit: 'ops', stacked: true,
          description: 'Runs a second by how the command was led to its container. observer_pidns is the best one and needs Linux 6.18.',
          queries: [{ expr: rate('parachute_runs_by_way_total', 'way'), legend: '{{way}}' }],
        }),
        lines({
          title: 'Output that could not be used', width: 8, unit: 'ops',
          description: 'Lines or values a second that a parser could not use, and series that were not published because of a cap or a conflict. After an upgrade of a tool this shows that its output has changed.',
          queries: [
            { expr: `topk(10, ${rate('parachute_parse_errors_total', 'probe')})`, legend: '{{probe}}: not parsed' },
            { expr: `topk(10, ${rate('parachute_series_dropped_total', 'probe')})`, legend: '{{probe}}: series dropped' },
          ],
        }),
        lines({
          title: 'Quarantine and stuck commands', width: 8, unit: 'none', steps: ANY_IS_BAD,
          description: 'Containers in which a probe rests because it has reached its limits three times in a row, and killed commands that have not gone.',
          queries: [
            { expr: `topk(10, sum by (probe) (parachute_probe_quarantined{${AGENT}}))`, legend: '{{probe}}: quarantined' },
            { expr: `sum(parachute_probe_stuck{${AGENT}})`, legend: 'stuck' },
          ],
        }),
      ],
    },
    {
      title: 'Detection and runtimes',
      height: 8,
      panels: [
        lines({
          title: 'First execs', width: 8, unit: 'ops',
          description: 'First execs in new cgroups a second, those that were lost, and scans of all cgroups by reason: one at the start, one after each loss.',
          queries: [
            { expr: `sum(rate(parachute_exec_events_total{${AGENT}}[$__rate_interval]))`, legend: 'seen' },
            { expr: `sum(rate(parachute_exec_events_lost_total{${AGENT}}[$__rate_interval]))`, legend: 'lost' },
            { expr: rate('parachute_resyncs_total', 'reason'), legend: 'scan: {{reason}}' },
          ],
        }),
        lines({
          title: 'How soon containers are seen, 99 %', width: 8, unit: 's', steps: upTo(0.25, 1),
          description: "Time from a container's first exec until the agent knew it; the slowest agents. Nothing is drawn while nothing starts.",
          queries: [{
            expr: `topk(10, histogram_quantile(0.99, sum by (le, cluster, node, instance) (rate(parachute_container_detection_seconds_bucket{${AGENT}}[$__rate_interval]))))`,
            legend: '{{node}} {{instance}}',
          }],
        }),
        lines({
          title: 'Requests to container runtimes', width: 8, unit: 'reqps',
          description: 'What the agents ask runtimes for names, and what of it failed or took too long. Without answers containers stay nameless, and triggers with globs leave them out.',
          queries: [
            { expr: rate('parachute_runtime_requests_total', 'runtime, call'), legend: '{{runtime}} {{call}}' },
            { expr: rate('parachute_runtime_request_failures_total', 'runtime, call'), legend: 'failed: {{runtime}} {{call}}' },
          ],
        }),
      ],
    },
    {
      title: 'Alerts',
      height: 8,
      panels: [
        lines({
          title: 'Webhooks by answer', width: 6, unit: 'reqps', stacked: true,
          description: 'Deliveries of alerts a second by status code. 202 has queued something, 200 had nothing to run, 503 is delivered again; any other code is lost to Alertmanager.',
          queries: [{ expr: rate('parachute_alert_webhooks_total', 'code'), legend: '{{code}}' }],
        }),
        lines({
          title: 'Alerts and the runs for them', width: 6, unit: 'ops',
          description: 'Alerts a second that were received, and runs that were queued for them.',
          queries: [
            { expr: rate('parachute_alerts_received_total', 'status'), legend: 'received: {{status}}' },
            { expr: rate('parachute_alert_runs_total', 'trigger'), legend: 'queued: {{trigger}}' },
          ],
        }),
        lines({
          title: 'Dropped', width: 6, unit: 'ops', stacked: true,
          description: 'Alerts that ran nothing or not all that they asked for, and queued runs that did not come to their end. no_container, no_trigger, duplicate, cooldown and resolved are in order; queue_full, not_ready, not_written and too_large are not.',
          queries: [
            { expr: rate('parachute_alerts_dropped_total', 'reason'), legend: 'alert: {{reason}}' },
            { expr: rate('parachute_alert_runs_dropped_total', 'reason'), legend: 'run: {{reason}}' },
          ],
        }),
        lines({
          title: 'Alert queue and its journal', width: 6, unit: 'none',
          description: 'Runs for alerts that wait or are under way, and times in five minutes that the disk did not take them or that a broken journal was set aside.',
          queries: [
            { expr: `sum(parachute_alert_runs_queued{${AGENT}})`, legend: 'waiting or under way' },
            { expr: `sum(increase(parachute_alert_journal_failures_total{${AGENT}}[5m]))`, legend: 'not written' },
            { expr: `sum(increase(parachute_alert_journals_set_aside_total{${AGENT}}[5m]))`, legend: 'journals set aside' },
          ],
        }),
      ],
    },
    {
      title: 'Captures',
      height: 8,
      panels: [
        lines({
          title: 'Room for captures', width: 6, unit: 'percentunit', steps: upTo(0.9, 1), max: 1,
          description: 'Part of captures.max_size that is in use, the fullest agents. At 1 the oldest captures go first, which is in order as long as they were kept for long enough.',
          queries: [{ expr: `topk(10, max ${BY_AGENT} (parachute_capture_bytes{${AGENT}}) / max ${BY_AGENT} (parachute_capture_budget_bytes{${AGENT}} > 0))`, legend: '{{node}} {{instance}}' }],
        }),
        lines({
          title: 'Kept', width: 6, unit: 'none',
          description: 'Captures on the disks of the agents.',
          queries: [{ expr: `topk(10, max ${BY_AGENT} (parachute_captures{${AGENT}}))`, legend: '{{node}} {{instance}}' }],
        }),
        lines({
          title: 'Written, removed, failed', width: 6, unit: 'ops',
          description: 'Captures a second that came to the disk, that were removed and why, that could not be kept and why, and files that were set aside because they could not be read.',
          queries: [
            { expr: `sum(rate(parachute_capture_written_total{${AGENT}}[$__rate_interval]))`, legend: 'written' },
            { expr: rate('parachute_capture_evicted_total', 'reason'), legend: 'removed: {{reason}}' },
            { expr: rate('parachute_capture_failures_total', 'reason'), legend: 'FAILED: {{reason}}' },
            { expr: rate('parachute_capture_set_aside_total', 'reason'), legend: 'set aside: {{reason}}' },
          ],
        }),
        lines({
          title: 'Copies to the object store', width: 6, unit: 'none',
          description: 'Captures that wait to be copied, and those that were copied or were removed before they could be, in five minutes. All zero where captures.store is not set.',
          queries: [
            { expr: `sum(parachute_capture_uploads_pending{${AGENT}})`, legend: 'waiting' },
            { expr: `sum(increase(parachute_capture_uploads_total{${AGENT}}[5m]))`, legend: 'copied' },
            { expr: `sum(increase(parachute_capture_uploads_missed_total{${AGENT}}[5m]))`, legend: 'MISSED' },
          ],
        }),
      ],
    },
    {
      title: 'Processes and HTTP',
      height: 8,
      panels: [
        lines({
          title: 'Processor', width: 5, unit: 'percentunit',
          description: 'Processor time of the agent process; 1 is one processor. Commands and the launcher are not in it.',
          queries: [{ expr: `topk(10, sum ${BY_AGENT} (rate(process_cpu_seconds_total{${AGENT}}[$__rate_interval]) and on (job, instance) parachute_build_info{${AGENT}}))`, legend: '{{node}} {{instance}}' }],
        }),
        lines({
          title: 'Memory', width: 5, unit: 'bytes',
          description: 'Resident memory of the agent process. It grows with containers and series; docs/scaling.md says how far.',
          queries: [{ expr: `topk(10, max ${BY_AGENT} (${own('process_resident_memory_bytes')}))`, legend: '{{node}} {{instance}}' }],
        }),
        lines({
          title: 'Open files', width: 5, unit: 'percentunit', steps: upTo(0.7, 0.9), max: 1,
          description: 'Part of the open files that the agent may have. It holds one for each container.',
          queries: [{ expr: `topk(10, max ${BY_AGENT} (process_open_fds{${AGENT}} / process_max_fds{${AGENT}} and on (job, instance) parachute_build_info{${AGENT}}))`, legend: '{{node}} {{instance}}' }],
        }),
        lines({
          title: 'HTTP', width: 5, unit: 'reqps',
          description: 'Requests answered a second by status code, and connections that ended before their answer was read.',
          queries: [
            { expr: rate('parachute_http_requests_total', 'code'), legend: '{{code}}' },
            { expr: rate('parachute_http_connections_closed_total', 'reason'), legend: 'cut off: {{reason}}' },
          ],
        }),
        lines({
          title: 'Connections', width: 4, unit: 'none',
          description: 'HTTP connections that are open, of the busiest agents, and scrapes of /probe in five minutes that asked for a module that is not configured.',
          queries: [
            { expr: `topk(10, max ${BY_AGENT} (parachute_http_connections{${AGENT}}))`, legend: '{{node}} {{instance}}' },
            { expr: `sum(increase(parachute_probe_module_unknown_total{${AGENT}}[5m]))`, legend: 'unknown modules' },
          ],
        }),
      ],
    },
  ],
});
