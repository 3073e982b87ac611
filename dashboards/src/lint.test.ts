// The rules of Grafana's dashboard-linter (https://github.com/grafana/dashboard-linter, docs/rules), which is written in Go and
// in no package registry, applied to the committed JSON; and this project's own below them. Each exclusion has its reason.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

import type { SyntaxNode, Tree } from '@lezer/common';
import { parser } from '@prometheus-io/lezer-promql';

interface Target { expr: string; datasource: unknown; refId: string; instant?: boolean; format?: string }
interface Panel {
  id: number; type: string; title: string; description?: string; datasource?: unknown; targets?: Target[];
  gridPos: { x: number; y: number; w: number; h: number };
  fieldConfig: { defaults: { unit?: string; thresholds?: { steps: unknown[] } }; overrides: { properties: { id: string; value: unknown }[] }[] };
  options: { sortBy?: unknown[] };
}
interface Variable {
  name: string; type: string; label: string; query: string | { query: string }; datasource: unknown; refresh: number;
  multi: boolean; includeAll: boolean; allValue?: string;
}
interface Dashboard {
  uid: string; title: string; description: string; editable: boolean; refresh: string; time: { from: string }; panels: Panel[];
  templating: { list: Variable[] };
  annotations: { list: { expr: string; datasource: unknown; useValueForTime: boolean }[] };
  links: unknown[];
}

const FOLDER = new URL('../', import.meta.url);
const NAMES = ['agent', 'container', 'fleet', 'network'];
const dashboards: Dashboard[] = NAMES.map((name) => JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), 'utf8')) as Dashboard);
const UNITS = new Set(['none', 'percentunit', 's', 'bytes', 'Bps', 'ops', 'reqps', 'cps', 'pps', 'dateTimeFromNow']);

/** The rules that are not held as they stand, and why. */
const EXCLUDED = {
  'template-job-rule': 'is held but for allValue ".+": with it All would match the up and process_* of every job that is scraped.',
  'template-instance-rule': "the variable is node: an agent's instance is another one after each start of its pod.",
  'target-instance-rule': 'for the same reason; every query of agents and containers matches node.',
  'target-job-rule': "is held for what agents say of themselves; containers' series come from /metrics and /probe, which are two jobs, and kube-state-metrics' and cAdvisor's jobs are other people's.",
  'target-rate-interval-rule': 'is held for rate; increase over $__range or five minutes is what a stat or a rare event is about.',
};

/** The values that Grafana would put in, so that what is left is PromQL. */
function filled(expr: string): string {
  return expr.replaceAll('$__rate_interval', '4m').replaceAll('$__range', '1h').replace(/\$\{?[a-z]+\}?/g, '.*');
}

function parsed(expr: string): { tree: Tree; text: string } {
  const text = filled(expr);
  const tree = parser.parse(text);
  tree.iterate({ enter: (node) => assert.ok(!node.type.isError, `not PromQL at ${node.from}: ${text}`) });
  return { tree, text };
}

interface Selector { metric: string; matchers: string; ancestors: SyntaxNode[] }

function selectors(expr: string): Selector[] {
  const { tree, text } = parsed(expr);
  const found: Selector[] = [];
  tree.iterate({
    enter: (node) => {
      if (node.name !== 'VectorSelector') return;
      const ancestors: SyntaxNode[] = [];
      for (let at = node.node.parent; at; at = at.parent) ancestors.push(at);
      const name = node.node.getChild('Identifier');
      const matchers = node.node.getChild('LabelMatchers');
      found.push({
        metric: name ? text.slice(name.from, name.to) : '',
        matchers: matchers ? text.slice(matchers.from, matchers.to) : '',
        ancestors,
      });
    },
  });
  return found;
}

/** The function that a range selector is given to, by its name. */
function calls({ ancestors }: Selector, text: string): string | undefined {
  if (ancestors[0]?.name !== 'MatrixSelector') return undefined;
  const call = ancestors.find((node) => node.name === 'FunctionCall');
  const name = call?.getChild('FunctionIdentifier');
  return name ? text.slice(name.from, name.to) : undefined;
}

const panels = dashboards.flatMap((dashboard) =>
  dashboard.panels.filter((panel) => panel.type !== 'row').map((panel) => ({ dashboard, panel, where: `${dashboard.title}: ${panel.title}` })),
);
const targets = panels.flatMap(({ panel, where }) => (panel.targets ?? []).map((target) => ({ target, panel, where: `${where} ${target.refId}` })));
const datasource = { type: 'prometheus', uid: '${datasource}' };

test('these are the dashboards, and there are exclusions with reasons only', () => {
  assert.deepEqual(readdirSync(FOLDER).filter((name) => name.endsWith('.json') && !/package|tsconfig/.test(name)).sort(), NAMES.map((name) => `${name}.json`));
  assert.ok(targets.length > 120, `${targets.length}`);
  for (const reason of Object.values(EXCLUDED)) assert.ok(reason.length > 40);
});

test('template-datasource-rule', () => {
  for (const { title, templating } of dashboards) {
    const [first] = templating.list;
    assert.deepEqual([first?.type, first?.name, first?.label, first?.query], ['datasource', 'datasource', 'Data source', 'prometheus'], title);
  }
});

test('template-job-rule and the variables that are asked for', () => {
  for (const { title, templating } of dashboards) {
    const names = templating.list.map(({ name }) => name);
    assert.deepEqual(names, ['datasource', 'cluster', 'job', 'node', 'namespace', 'pod', 'container', 'scheme'], title);
    for (const variable of templating.list.filter(({ type }) => type === 'query')) {
      assert.deepEqual(variable.datasource, datasource, title);
      const one = title.endsWith('Container') && ['namespace', 'pod', 'container'].includes(variable.name);
      assert.deepEqual([variable.multi, variable.includeAll], [!one, !one], `${title}: ${variable.name}`);
      assert.equal(variable.allValue, one || variable.name === 'job' ? undefined : '.*', `${title}: ${variable.name}`);
      assert.equal(variable.label, variable.name[0]?.toUpperCase() + variable.name.slice(1));
    }
  }
});

test('template-label-promql-rule, each within what was chosen before it', () => {
  for (const { title, templating } of dashboards) {
    const before: string[] = [];
    for (const { name, type, query } of templating.list) {
      if (type !== 'query' || typeof query === 'string') continue;
      const parts = /^label_values\((?<of>.+), (?<label>[a-z]+)\)$/.exec(query.query);
      assert.equal(parts?.groups?.label, name, `${title}: ${query.query}`);
      parsed(parts?.groups?.of ?? '');
      const asked = [...query.query.matchAll(/\$([a-z]+)/g)].map(([, variable]) => variable);
      // The job is the agents': containers' series may come from another one.
      assert.deepEqual(asked, before.filter((variable) => variable !== 'job' || name === 'node'), `${title}: ${name}`);
      before.push(name);
    }
  }
});

test('template-on-time-change-reload-rule', () => {
  for (const { templating } of dashboards) {
    for (const { type, refresh } of templating.list) if (type === 'query') assert.equal(refresh, 2);
  }
});

test('panel-datasource-rule: no data source is known by name', () => {
  for (const { panel, where } of panels) assert.deepEqual(panel.datasource, datasource, where);
  for (const { target, where } of targets) assert.deepEqual(target.datasource, datasource, where);
  for (const { annotations } of dashboards) for (const annotation of annotations.list) assert.deepEqual(annotation.datasource, datasource);
});

test('panel-title-description-rule', () => {
  for (const { panel, where } of panels) {
    assert.ok(panel.title.length > 1 && /^[A-Z].{20,}\.$/s.test(panel.description ?? ''), where);
  }
  for (const { title, panels: all } of dashboards) {
    const titles = all.map((panel) => `${panel.type}${panel.title}`);
    assert.equal(new Set(titles).size, titles.length, `${title} has a title twice`);
  }
});

test('panel-units-rule', () => {
  for (const { panel, where } of panels) {
    assert.ok(UNITS.has(panel.fieldConfig.defaults.unit ?? ''), where);
    for (const { properties } of panel.fieldConfig.overrides) {
      for (const { id, value } of properties) if (id === 'unit') assert.ok(UNITS.has(value as string), where);
    }
  }
});

test('panel-no-targets-rule', () => {
  for (const { panel, where } of panels) assert.ok(panel.targets?.length, where);
});

test('target-promql-rule', () => {
  for (const { target } of targets) parsed(target.expr);
  for (const { annotations } of dashboards) for (const { expr } of annotations.list) parsed(expr);
});

test('target-rate-interval-rule', () => {
  for (const { target, where } of targets) {
    for (const [, range] of target.expr.matchAll(/\b(?:i?rate)\([^[]*\[([^\]]+)\]/g)) assert.equal(range, '$__rate_interval', where);
    for (const [, range] of target.expr.matchAll(/\[([^\]]+)\]/g)) assert.ok(['$__rate_interval', '$__range', '5m'].includes(range ?? ''), where);
  }
});

test('target-counter-agg-rule: counters are looked at by how they rise, and nothing else is', () => {
  for (const { target, where } of targets) {
    const text = filled(target.expr);
    for (const selector of selectors(target.expr)) {
      const counter = /(_total|_bucket|_count|_sum)$/.test(selector.metric);
      const call = calls(selector, text);
      if (selector.metric.includes(':')) assert.equal(call, undefined, `${where}: a recorded rate has no rate`);
      else if (counter) assert.ok(['rate', 'increase'].includes(call ?? ''), `${where}: ${selector.metric} is a counter`);
      else if (call) assert.equal(call, 'changes', `${where}: ${selector.metric} is no counter`);
    }
  }
});

test('target-job-rule, for what agents say of themselves', () => {
  const docs = readFileSync(new URL('../agent/src/metrics/docs.rs', FOLDER), 'utf8');
  const own = new Set([...docs.matchAll(/"((?:parachute|process)_[a-z_]+)"/g)].map(([, name]) => name ?? ''));
  assert.ok(own.size > 50);
  const ofContainers = new Set(['parachute_container_info', 'parachute_probe_last_run_timestamp_seconds', 'parachute_probe_last_success', 'parachute_capture_last_timestamp_seconds']);
  for (const { target, where } of targets) {
    for (const { metric, matchers } of selectors(target.expr)) {
      const name = metric.replace(/_(bucket|sum|count)$/, '');
      const has = (label: string) => new RegExp(`\\b${label}=~`).test(matchers);
      const ofAgents = (own.has(metric) || own.has(name) || metric === 'up') && !ofContainers.has(metric);
      assert.ok(has('cluster'), `${where}: ${metric} knows no cluster`);
      assert.equal(has('job'), ofAgents, `${where}: ${metric}`);
      const othersOrRecorded = /^(kube_|container_)|:/.test(metric);
      assert.equal(has('node'), !othersOrRecorded, `${where}: ${metric}`);
      if (!ofAgents) assert.ok(has('namespace') && (has('container') || metric.includes(':')), `${where}: ${metric}`);
    }
  }
});

test('uneditable-dashboard and the like', () => {
  for (const { uid, title, editable, refresh, time, description, links } of dashboards) {
    assert.match(uid, /^parachute-[a-z]{5,9}$/);
    assert.match(title, /^parachute \/ [A-Z]/);
    assert.deepEqual([editable, refresh, time.from], [false, '1m', 'now-1h'], title);
    assert.ok(description.length > 60 && links.length === 1, title);
  }
});

test('worst first: a table is sorted, and what can be many is cut', () => {
  for (const { panel, where } of panels) {
    if (panel.type !== 'table') continue;
    assert.equal(panel.options.sortBy?.length, 1, where);
    for (const { expr } of panel.targets ?? []) {
      const bounded = /^(topk|bottomk)\(|by \((?:cluster, node, instance|cluster, node, instance, version|probe|state, wchan, command|protocol, address, command)\)/.test(expr);
      const one = where.includes('/ Container');
      assert.ok(bounded || one || expr.startsWith('namespace_workload:'), `${where}: ${expr}`);
    }
  }
});

test('captures are marked in every dashboard', () => {
  for (const { title, annotations } of dashboards) {
    const [captures] = annotations.list;
    assert.ok(captures?.useValueForTime && captures.expr.startsWith('parachute_capture_last_timestamp_seconds{'), title);
    assert.ok(captures.expr.endsWith(' * 1000'), 'the value is taken for milliseconds');
  }
});

test('panels do not lie on each other', () => {
  for (const { title, panels: all } of dashboards) {
    const cells = new Set<string>();
    for (const { gridPos: { x, y, w, h } } of all) {
      assert.ok(x + w <= 24, title);
      for (let row = y; row < y + h; row++) {
        for (let column = x; column < x + w; column++) {
          const cell = `${row}:${column}`;
          assert.ok(!cells.has(cell), `${title} at ${cell}`);
          cells.add(cell);
        }
      }
    }
  }
});
