// What all four dashboards are made of: their variables, their three kinds of panels and the way these are laid out.
// Everything has Grafana's own types, so that `tsc` refuses a field that Grafana does not know.
import {
  AxisPlacement, BigValueColorMode, BigValueGraphMode, BigValueJustifyMode, BigValueTextMode, DashboardCursorSync,
  FieldColorModeId, GraphDrawStyle, LegendDisplayMode, LineInterpolation, MappingType, PercentChangeColorMode, SortOrder,
  StackingMode, TableCellDisplayMode, TableCellHeight, ThresholdsMode, TooltipDisplayMode, VariableHide, VariableRefresh,
  VariableSort, VisibilityMode, VizOrientation,
} from '@grafana/schema';
import type {
  AnnotationQuery, Dashboard, DashboardLink, DataSourceRef, FieldConfigSource, Panel, RowPanel, Threshold, ValueMapping,
  VariableModel,
} from '@grafana/schema';
import type { Options as StatOptions } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { Options as TableOptions } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type {
  FieldConfig as TimeSeriesField, Options as TimeSeriesOptions,
} from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** Whatever the person has chosen at the top: no dashboard knows a data source by itself. */
export const DATASOURCE: DataSourceRef = { type: 'prometheus', uid: '${datasource}' };

/** What an agent says of itself. */
export const AGENT = 'cluster=~"$cluster", job=~"$job", node=~"$node"';
/** What is said of containers. No job: their series come from /metrics and from /probe, which are two. */
export const CONTAINER = 'cluster=~"$cluster", node=~"$node", namespace=~"$namespace", pod=~"$pod", container=~"$container"';
/** What kube-state-metrics and cAdvisor say of containers. No node: kube-state-metrics knows it of pods alone. */
export const KUBERNETES = 'cluster=~"$cluster", namespace=~"$namespace", pod=~"$pod", container=~"$container"';
/** One agent. Where nobody has set `node`, the address tells them apart. */
export const BY_AGENT = 'by (cluster, node, instance)';
/** One container. */
export const BY_CONTAINER = 'by (cluster, node, namespace, pod, container)';
/** These are no failures: the container ended first, or whoever asked had gone. */
export const NO_FAILURE = 'reason!~"target_gone|cancelled"';

export type Steps = [color: 'green' | 'yellow' | 'orange' | 'red' | 'blue' | 'text', from: number | null][];
export const PLAIN: Steps = [['text', null]];
export const ANY_IS_BAD: Steps = [['green', null], ['red', 1]];
export const ANY_IS_ODD: Steps = [['green', null], ['yellow', 1]];
export const ONE_IS_GOOD: Steps = [['red', null], ['green', 1]];
export const upTo = (yellow: number, red: number): Steps => [['green', null], ['yellow', yellow], ['red', red]];

interface Common {
  title: string;
  /** What it says, and what to do when it is not as it should be. */
  description: string;
  unit: string;
  /** Of 24 columns. */
  width: number;
  steps?: Steps;
  decimals?: number;
}

export interface Query {
  expr: string;
  legend?: string;
}

export interface Column {
  /** As the head of the table shows it. */
  name: string;
  unit?: string;
  steps?: Steps;
  link?: { title: string; url: string };
  /** 1 is the first word, 0 the second. */
  words?: [yes: string, no: string];
  width?: number;
}

const thresholds = (steps: Steps) => ({
  mode: ThresholdsMode.Absolute,
  steps: steps.map(([color, value]): Threshold => ({ color, value })),
});

const words = ([yes, no]: [string, string]): ValueMapping => ({
  type: MappingType.ValueToText,
  options: { '1': { text: yes, index: 0 }, '0': { text: no, index: 1 } },
});

const target = (expr: string, at: number, more: Record<string, unknown>) => ({
  datasource: DATASOURCE,
  editorMode: 'code',
  expr,
  refId: String.fromCharCode('A'.charCodeAt(0) + at),
  ...more,
});

/** One number, as it is now. */
export function stat(of: Common & { expr: string; words?: [string, string]; none?: string }): Panel {
  const options: StatOptions = {
    colorMode: of.steps && of.steps !== PLAIN ? BigValueColorMode.Background : BigValueColorMode.Value,
    graphMode: BigValueGraphMode.None,
    justifyMode: BigValueJustifyMode.Center,
    orientation: VizOrientation.Auto,
    percentChangeColorMode: PercentChangeColorMode.Standard,
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    showPercentChange: false,
    textMode: BigValueTextMode.Value,
    wideLayout: true,
  };
  const defaults = {
    color: { mode: FieldColorModeId.Thresholds },
    mappings: of.words ? [words(of.words)] : [],
    thresholds: thresholds(of.steps ?? PLAIN),
    unit: of.unit,
    ...(of.decimals === undefined ? {} : { decimals: of.decimals }),
    ...(of.none === undefined ? {} : { noValue: of.none }),
  };
  return panel('stat', of, [target(of.expr, 0, { instant: true, range: false })], { ...options }, { defaults, overrides: [] });
}

/** Lines over time; the legend has the worst first. */
export function lines(of: Common & { queries: Query[]; stacked?: boolean; max?: number }): Panel {
  const custom: TimeSeriesField = {
    axisPlacement: AxisPlacement.Auto,
    drawStyle: GraphDrawStyle.Line,
    fillOpacity: of.stacked ? 40 : 8,
    lineInterpolation: LineInterpolation.Linear,
    lineWidth: 1,
    showPoints: VisibilityMode.Auto,
    spanNulls: false,
    stacking: { group: 'A', mode: of.stacked ? StackingMode.Normal : StackingMode.None },
    ...(of.steps ? { thresholdsStyle: { mode: 'line' as NonNullable<TimeSeriesField['thresholdsStyle']>['mode'] } } : {}),
  };
  const options: TimeSeriesOptions = {
    legend: {
      calcs: ['lastNotNull', 'max'],
      displayMode: LegendDisplayMode.Table,
      placement: 'bottom',
      showLegend: true,
      sortBy: 'Max',
      sortDesc: true,
    },
    tooltip: { mode: TooltipDisplayMode.Multi, sort: SortOrder.Descending },
  };
  const defaults = {
    color: { mode: FieldColorModeId.PaletteClassic },
    custom: { ...custom },
    mappings: [],
    min: 0,
    thresholds: thresholds(of.steps ?? PLAIN),
    unit: of.unit,
    ...(of.max === undefined ? {} : { max: of.max }),
    ...(of.decimals === undefined ? {} : { decimals: of.decimals }),
  };
  const targets = of.queries.map(({ expr, legend }, at) => target(expr, at, { legendFormat: legend ?? '__auto', range: true }));
  return panel('timeseries', of, targets, { ...options }, { defaults, overrides: [] });
}

/** Rows of what is now, one query for each column of numbers; `labels` are the columns before these. */
export function table(of: Common & {
  labels: Column[];
  values: (Column & { expr: string; hidden?: boolean })[];
  sort: { by: string; descending: boolean };
}): Panel {
  const options: TableOptions = {
    cellHeight: TableCellHeight.Sm,
    frameIndex: 0,
    showHeader: true,
    sortBy: [{ desc: of.sort.descending, displayName: of.sort.by }],
  };
  const shown = of.values.filter((column) => !column.hidden);
  const overrides = [...of.labels, ...shown].flatMap((column) => {
    const properties: { id: string; value?: unknown }[] = [];
    if (column.unit) properties.push({ id: 'unit', value: column.unit });
    if (column.words) properties.push({ id: 'mappings', value: [words(column.words)] });
    if (column.width) properties.push({ id: 'custom.width', value: column.width });
    if (column.link) properties.push({ id: 'links', value: [{ ...column.link, targetBlank: column.link.url.startsWith('$') }] });
    if (column.steps) {
      properties.push({ id: 'thresholds', value: thresholds(column.steps) });
      properties.push({ id: 'custom.cellOptions', value: { type: TableCellDisplayMode.ColorBackground, mode: 'basic' } });
    }
    return properties.length ? [{ matcher: { id: 'byName', options: column.name }, properties }] : [];
  });
  const several = of.values.length > 1;
  const field = (at: number) => (several ? `Value #${String.fromCharCode('A'.charCodeAt(0) + at)}` : 'Value');
  const hidden = of.values.flatMap((column, at) => (column.hidden ? [field(at)] : []));
  const order = [...of.labels.map(({ name }) => name), ...of.values.map((_, at) => field(at))];
  const keep = new Set(order);
  const renames = Object.fromEntries(of.values.map(({ name }, at) => [field(at), name]));
  return {
    ...panel(
      'table',
      of,
      of.values.map(({ expr }, at) => target(expr, at, { format: 'table', instant: true, range: false })),
      { ...options },
      {
        defaults: {
          color: { mode: FieldColorModeId.Thresholds },
          custom: { align: 'auto', cellOptions: { type: TableCellDisplayMode.Auto }, filterable: true },
          mappings: [],
          noValue: '-',
          thresholds: thresholds(of.steps ?? PLAIN),
          unit: of.unit,
        },
        overrides,
      },
    ),
    transformations: [
      { id: 'merge', options: {} },
      { id: 'filterFieldsByName', options: { include: { names: [...keep].filter((name) => !hidden.includes(name)) } } },
      { id: 'organize', options: { indexByName: Object.fromEntries(order.map((name, at) => [name, at])), renameByName: renames } },
    ],
  };
}

function panel(type: string, of: Common, targets: Record<string, unknown>[], options: Record<string, unknown>, fieldConfig: FieldConfigSource): Panel {
  const { title, description, width } = of;
  return { type, title, description, datasource: DATASOURCE, gridPos: { h: 0, w: width, x: 0, y: 0 }, targets, options, fieldConfig };
}

export interface Row {
  title: string;
  height: number;
  panels: Panel[];
}

/** Places each row's panels from left to right and numbers them. */
function laidOut(rows: Row[]): (Panel | RowPanel)[] {
  const all: (Panel | RowPanel)[] = [];
  let y = 0;
  for (const row of rows) {
    all.push({ type: 'row', title: row.title, collapsed: false, id: all.length + 1, panels: [], gridPos: { h: 1, w: 24, x: 0, y } });
    y += 1;
    let x = 0;
    for (const made of row.panels) {
      const w = made.gridPos?.w ?? 24;
      if (x + w > 24) {
        x = 0;
        y += row.height;
      }
      all.push({ ...made, id: all.length + 1, gridPos: { h: row.height, w, x, y } });
      x += w;
    }
    y += row.height;
  }
  return all;
}

/**
 * A variable of the values that a label has. `many`: All is there and chosen, and matches what has no such label, too, as many
 * have no cluster. `listed`: All is the list of the values instead.
 */
function labelValues(kind: 'many' | 'listed' | 'one', name: string, label: string, of: string): VariableModel {
  const query = `label_values(${of}, ${name})`;
  return {
    type: 'query',
    name,
    label,
    datasource: DATASOURCE,
    query: { qryType: 1, query, refId: 'PrometheusVariableQueryEditor-VariableQuery' },
    refresh: VariableRefresh.onTimeRangeChanged,
    sort: VariableSort.naturalAsc,
    hide: VariableHide.dontHide,
    multi: kind !== 'one',
    includeAll: kind !== 'one',
    ...(kind === 'many' ? { allValue: '.*' } : {}),
    ...(kind === 'one' ? {} : { current: { selected: true, text: ['All'], value: ['$__all'] } }),
    options: [],
    regex: '',
  };
}

/** Each is asked for within what was chosen before it. `one` is for a dashboard of a single container. */
function variables(one: boolean): VariableModel[] {
  const INFO = 'parachute_container_info';
  const within = (...names: string[]) => names.map((name) => `${name}=~"$${name}"`).join(', ');
  const kind = one ? 'one' : 'many';
  const fixed = { hide: VariableHide.dontHide, multi: false, includeAll: false };
  return [
    {
      type: 'datasource', name: 'datasource', label: 'Data source', query: 'prometheus', ...fixed,
      refresh: VariableRefresh.onDashboardLoad, options: [], regex: '',
    },
    labelValues('many', 'cluster', 'Cluster', 'parachute_build_info'),
    // Listed, so that `up` and `process_*` are those of the agents' own jobs alone.
    labelValues('listed', 'job', 'Job', `parachute_build_info{${within('cluster')}}`),
    labelValues('many', 'node', 'Node', `parachute_build_info{${within('cluster', 'job')}}`),
    labelValues(kind, 'namespace', 'Namespace', `${INFO}{${within('cluster', 'node')}}`),
    labelValues(kind, 'pod', 'Pod', `${INFO}{${within('cluster', 'node', 'namespace')}}`),
    labelValues(kind, 'container', 'Container', `${INFO}{sandbox="false", ${within('cluster', 'node', 'namespace', 'pod')}}`),
    {
      type: 'custom', name: 'scheme', label: 'Agent page', query: 'http,https', ...fixed,
      description: 'How the pages of the agents are reached: links lead to this scheme and the address that Prometheus scrapes.',
      current: { selected: true, text: 'http', value: 'http' },
      options: [{ selected: true, text: 'http', value: 'http' }, { selected: false, text: 'https', value: 'https' }],
    },
  ];
}

/** Marks the moments of the newest captures; the value is the time in milliseconds. */
const captures: AnnotationQuery & Record<string, unknown> = {
  name: 'Captures',
  datasource: DATASOURCE,
  enable: true,
  hide: false,
  iconColor: 'orange',
  expr: `parachute_capture_last_timestamp_seconds{${CONTAINER}} * 1000`,
  useValueForTime: true,
  titleFormat: '{{alert}} {{probe}}: {{outcome}}',
  textFormat: '{{namespace}}/{{pod}}/{{container}}, capture {{capture}}',
  tagKeys: 'probe,outcome',
};

const OTHERS: DashboardLink = {
  type: 'dashboards', title: 'parachute', tags: ['parachute'], asDropdown: true, icon: 'external link', includeVars: true,
  keepTime: true, targetBlank: false, tooltip: 'The other dashboards, with the same choice', url: '',
};

const CHOICE = '${datasource:queryparam}&var-cluster=${__data.fields.cluster}';

/** From a row that names a container to all that is known of it. */
export const TO_CONTAINER = {
  title: 'Everything of this container',
  url: `/d/parachute-container?${CHOICE}&var-namespace=\${__data.fields.namespace}&var-pod=\${__data.fields.pod}&var-container=\${__data.fields.container}&\${__url_time_range}`,
};
/** From a row that names a node to its agent. */
export const TO_AGENT = {
  title: 'Health of this agent',
  url: `/d/parachute-agent?${CHOICE}&var-node=\${__data.fields.node}&\${__url_time_range}`,
};
/** From a row that has the container's id to the agent's own page. */
export const TO_PAGE = {
  title: "The agent's page of this container",
  url: '${scheme}://${__data.fields.instance}/containers/${__data.fields.id}',
};
/** From a capture to what was captured. */
export const TO_CAPTURE = {
  title: 'What was captured',
  url: '${scheme}://${__data.fields.instance}/captures/${__data.fields.capture}',
};

export function dashboard(of: { uid: string; title: string; description: string; one?: boolean; rows: Row[] }): Dashboard {
  return {
    uid: `parachute-${of.uid}`,
    title: `parachute / ${of.title}`,
    description: of.description,
    tags: ['parachute'],
    id: null,
    schemaVersion: 39,
    version: 1,
    editable: false,
    graphTooltip: DashboardCursorSync.Crosshair,
    refresh: '1m',
    time: { from: 'now-1h', to: 'now' },
    timepicker: {},
    timezone: 'browser',
    links: [OTHERS],
    annotations: { list: [captures] },
    templating: { list: variables(of.one ?? false) },
    panels: laidOut(of.rows),
  };
}
