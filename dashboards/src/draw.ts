// Draws the dashboards for the documentation from what their queries returned in the whole-agent test (target/dashboards.json).
// It is no Grafana, and each picture says so: the same panels at the same places with the same numbers, units and colours.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';

interface Series { metric: Record<string, string>; value?: [number, string]; values?: [number, string][] }
interface Answer { refId: string; series: Series[] }
interface Step { color: string; value: number | null }
interface Property { id: string; value: unknown }
interface Panel {
  id: number; type: string; title: string; gridPos: { x: number; y: number; w: number; h: number };
  targets?: { refId: string; legendFormat?: string }[];
  options: { sortBy?: { displayName: string; desc: boolean }[]; colorMode?: string };
  fieldConfig: {
    defaults: { unit: string; decimals?: number; max?: number; thresholds: { steps: Step[] }; mappings: Mapping[]; custom?: { stacking?: { mode: string }; thresholdsStyle?: unknown }; noValue?: string };
    overrides: { matcher: { options: string }; properties: Property[] }[];
  };
  transformations?: { id: string; options: { include?: { names: string[] }; indexByName?: Record<string, number>; renameByName?: Record<string, string> } }[];
}
interface Mapping { options: Record<string, { text: string }> }
interface Field { unit: string; steps: Step[] | undefined; mappings: Mapping[]; decimals: number | undefined }

const COLUMN = 50;
const ROW = 30;
const GAP = 4;
const MARGIN = 12;
const HEAD = 46;
const INK = '#24292e';
const FAINT = '#6e7781';
const LINES = ['#3274d9', '#e0752d', '#56a64b', '#a352cc', '#c4162a', '#37872d', '#b877d9', '#8f3bb8', '#1f60c4', '#fa6400'];
const COLOURS: Record<string, string> = { green: '#56a64b', yellow: '#e0b400', orange: '#fa6400', red: '#d0273e', text: INK, blue: '#3274d9' };

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
const text = (x: number, y: number, what: string, more = '') => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escaped(what)}</text>`;
/** As many letters as there is room for. */
const cut = (what: string, width: number, size: number) => {
  const most = Math.max(1, Math.floor(width / (size * 0.56)));
  return what.length > most ? `${what.slice(0, most - 1)}…` : what;
};

function scaled(value: number, base: number, units: string[]): string {
  let at = 0;
  while (Math.abs(value) >= base && at < units.length - 1) {
    value /= base;
    at += 1;
  }
  return `${short(value)}${units[at] ?? ''}`;
}

function short(value: number): string {
  if (value !== 0 && Math.abs(value) < 0.01) return value.toExponential(0);
  return String(Number(value.toFixed(Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2)));
}

function seconds(value: number): string {
  const size = Math.abs(value);
  if (size >= 86400) return `${short(value / 86400)} d`;
  if (size >= 3600) return `${short(value / 3600)} h`;
  if (size >= 120) return `${short(value / 60)} min`;
  if (size >= 1 || size === 0) return `${short(value)} s`;
  if (size >= 0.001) return `${short(value * 1000)} ms`;
  return `${short(value * 1e6)} µs`;
}

function shown(value: number, { unit, mappings, decimals }: Field, now: number): string {
  for (const { options } of mappings) {
    const word = options[String(value)];
    if (word) return word.text;
  }
  switch (unit) {
    case 'percentunit': return `${decimals === undefined ? short(value * 100) : (value * 100).toFixed(decimals)} %`;
    case 's': return seconds(value);
    case 'bytes': return scaled(value, 1024, [' B', ' KiB', ' MiB', ' GiB', ' TiB']);
    case 'Bps': return scaled(value, 1000, [' B/s', ' kB/s', ' MB/s', ' GB/s']);
    case 'ops': case 'reqps': case 'cps': case 'pps': return `${short(value)}/s`;
    case 'dateTimeFromNow': return `${seconds(now - value / 1000)} ago`;
    default: return short(value);
  }
}

function colour(value: number, steps: Step[]): string {
  let name = steps[0]?.color ?? 'text';
  for (const step of steps) if (step.value !== null && value >= step.value) name = step.color;
  return COLOURS[name] ?? INK;
}

const number = (series: Series) => Number(series.value?.[1] ?? NaN);

function stat(panel: Panel, answers: Answer[], w: number, h: number, now: number): string {
  const { defaults } = panel.fieldConfig;
  const value = number(answers[0]?.series[0] ?? { metric: {} });
  const field = { unit: defaults.unit, steps: defaults.thresholds.steps, mappings: defaults.mappings, decimals: defaults.decimals };
  const what = Number.isFinite(value) ? shown(value, field, now) : (defaults.noValue ?? 'no data');
  const filled = panel.options.colorMode === 'background';
  const fill = filled ? colour(value, defaults.thresholds.steps) : '#ffffff';
  const size = Math.min(30, (w - 16) / (what.length * 0.58));
  return `<rect width="${w}" height="${h}" rx="4" fill="${fill}" stroke="#d0d7de"/>`
    + text(8, 18, panel.title, `font-size="12" font-weight="600" fill="${filled ? '#ffffff' : INK}"`)
    + text(w / 2, h / 2 + 22, what, `font-size="${size.toFixed(0)}" text-anchor="middle" font-weight="600" fill="${filled ? '#ffffff' : INK}"`);
}

function named(format: string, metric: Record<string, string>): string {
  return format.replace(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? '').trim();
}

interface Line { name: string; points: [number, number][]; max: number; last: number }

function lines(panel: Panel, answers: Answer[], w: number, h: number, now: number): string {
  const { defaults } = panel.fieldConfig;
  const field: Field = { unit: defaults.unit, steps: undefined, mappings: [], decimals: undefined };
  const stacked = defaults.custom?.stacking?.mode === 'normal';
  let all: Line[] = answers.flatMap(({ refId, series }) => {
    const format = panel.targets?.find((target) => target.refId === refId)?.legendFormat ?? '';
    return series.flatMap(({ metric, values }) => {
      const points = (values ?? []).map(([at, value]): [number, number] => [at, Number(value)]).filter(([, value]) => Number.isFinite(value));
      if (!points.length) return [];
      return [{ name: named(format, metric), points, max: Math.max(...points.map(([, value]) => value)), last: points.at(-1)?.[1] ?? 0 }];
    });
  });
  all.sort((a, b) => b.max - a.max);
  const legend = Math.min(4, all.length);
  const [left, top, bottom] = [48, 26, h - 22 - legend * 13];
  const from = Math.min(...all.map(({ points }) => points[0]?.[0] ?? now));
  if (stacked) all = piled(all);
  const highest = Math.max(...all.flatMap(({ points }) => points.map(([, value]) => value)), 0) * 1.08 || 1;
  const x = (at: number) => left + ((at - from) / Math.max(1, now - from)) * (w - left - 10);
  const y = (value: number) => bottom - (Math.max(0, value) / highest) * (bottom - top);
  let out = box(panel, w, h);
  for (const part of [0, 0.5, 1]) {
    const at = (highest / 1.08) * part;
    out += `<line x1="${left}" x2="${w - 10}" y1="${y(at).toFixed(1)}" y2="${y(at).toFixed(1)}" stroke="#e5e8eb"/>`;
    out += text(left - 5, y(at) + 3, shown(at, field, now), `font-size="9" text-anchor="end" fill="${FAINT}"`);
  }
  out += text(left, bottom + 11, `${seconds(now - from)} ago`, `font-size="9" fill="${FAINT}"`) + text(w - 10, bottom + 11, 'now', `font-size="9" text-anchor="end" fill="${FAINT}"`);
  const order = stacked ? [...all].reverse() : all;
  for (const line of order) {
    const hue = LINES[all.indexOf(line) % LINES.length];
    const path = line.points.map(([at, value], n) => `${n && at - (line.points[n - 1]?.[0] ?? at) <= 5 ? 'L' : 'M'}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join('');
    if (stacked) {
      const [first, last] = [line.points[0], line.points.at(-1)];
      out += `<path d="${path}L${x(last?.[0] ?? 0).toFixed(1)} ${bottom}L${x(first?.[0] ?? 0).toFixed(1)} ${bottom}Z" fill="${hue}" fill-opacity="0.85" stroke="none"/>`;
    } else {
      out += `<path d="${path}" fill="none" stroke="${hue}" stroke-width="1.4"/>`;
    }
  }
  if (defaults.custom?.thresholdsStyle) {
    for (const { color, value } of defaults.thresholds.steps) {
      if (value === null || value > highest) continue;
      out += `<line x1="${left}" x2="${w - 10}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}" stroke="${COLOURS[color]}" stroke-dasharray="5 3"/>`;
    }
  }
  all.slice(0, legend).forEach((line, n) => {
    const at = bottom + 24 + n * 13;
    const more = n === legend - 1 && all.length > legend ? `  and ${all.length - legend} more` : '';
    out += `<rect x="10" y="${at - 7}" width="9" height="4" fill="${LINES[n % LINES.length]}"/>`;
    out += text(24, at, cut(line.name + more, w - 100, 10), `font-size="10" fill="${INK}"`);
    out += text(w - 10, at, shown(line.last, field, now), `font-size="10" text-anchor="end" fill="${INK}"`);
  });
  return all.length ? out : out + text(w / 2, h / 2, 'no data', `text-anchor="middle" fill="${FAINT}"`);
}

/** Each on the sum of those before it. */
function piled(all: Line[]): Line[] {
  const sums = new Map<number, number>();
  return all.map((line) => ({
    ...line,
    points: line.points.map(([at, value]): [number, number] => {
      const sum = (sums.get(at) ?? 0) + value;
      sums.set(at, sum);
      return [at, sum];
    }),
  }));
}

function table(panel: Panel, answers: Answer[], w: number, h: number, now: number): string {
  const organized = panel.transformations?.find(({ id }) => id === 'organize')?.options ?? {};
  const included = panel.transformations?.find(({ id }) => id === 'filterFieldsByName')?.options.include?.names ?? [];
  const columns = Object.entries(organized.indexByName ?? {}).sort((a, b) => a[1] - b[1]).map(([name]) => name).filter((name) => included.includes(name));
  const rows = merged(answers);
  const title = (column: string) => organized.renameByName?.[column] ?? column;
  const fields = columns.map((column) => {
    const properties = panel.fieldConfig.overrides.find(({ matcher }) => matcher.options === title(column))?.properties ?? [];
    const property = <T>(id: string) => properties.find((one) => one.id === id)?.value as T | undefined;
    return {
      unit: property<string>('unit') ?? 'none', mappings: property<Mapping[]>('mappings') ?? [], decimals: undefined,
      steps: property<{ steps: Step[] }>('thresholds')?.steps, link: property<unknown[]>('links') !== undefined,
    };
  });
  const sort = panel.options.sortBy?.[0];
  const by = columns.find((column) => title(column) === sort?.displayName);
  if (by) {
    const key = (row: Map<string, string | number>) => row.get(by) ?? -Infinity;
    rows.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (sort?.desc ? -1 : 1));
  }
  const cell = (row: Map<string, string | number>, n: number) => {
    const value = row.get(columns[n] ?? '');
    const field = fields[n];
    if (value === undefined || !field) return '-';
    return typeof value === 'number' ? (Number.isFinite(value) ? shown(value, field, now) : '-') : value;
  };
  const fit = Math.floor((h - 48) / 18);
  const lengths = columns.map((column, n) => Math.min(24, Math.max(title(column).length, ...rows.slice(0, fit).map((row) => cell(row, n).length))) + 2);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  let out = box(panel, w, h);
  let x = 8;
  columns.forEach((column, n) => {
    const width = ((w - 16) * (lengths[n] ?? 1)) / total;
    const heading = title(column) === sort?.displayName ? `${title(column)} ${sort.desc ? '↓' : '↑'}` : title(column);
    out += text(x + 3, 40, cut(heading, width, 10), `font-size="10" font-weight="600" fill="${FAINT}"`);
    rows.slice(0, fit).forEach((row, at) => {
      const y = 48 + at * 18;
      const value = row.get(column);
      const steps = fields[n]?.steps;
      const filled = steps && typeof value === 'number' && Number.isFinite(value);
      if (filled) out += `<rect x="${x.toFixed(1)}" y="${y}" width="${(width - 2).toFixed(1)}" height="16" fill="${colour(value, steps)}"/>`;
      const fill = filled ? '#ffffff' : fields[n]?.link ? '#1f60c4' : INK;
      out += text(x + 3, y + 12, cut(cell(row, n), width - 4, 11), `font-size="11" fill="${fill}"`);
    });
    x += width;
  });
  if (rows.length > fit) out += text(w - 8, 18, `${rows.length} rows`, `font-size="10" text-anchor="end" fill="${FAINT}"`);
  return rows.length ? out : out + text(w / 2, h / 2, 'no data', `text-anchor="middle" fill="${FAINT}"`);
}

/** As Grafana's transformation `merge`: what has the same labels, as far as both have them, is one row. */
function merged(answers: Answer[]): Map<string, string | number>[] {
  const rows: Map<string, string | number>[] = [];
  for (const { refId, series } of answers) {
    const field = answers.length > 1 ? `Value #${refId}` : 'Value';
    for (const one of series) {
      const labels = Object.entries(one.metric).filter(([name]) => name !== '__name__');
      const same = (row: Map<string, string | number>) => !row.has(field) && labels.every(([name, value]) => !row.has(name) || row.get(name) === value) && labels.some(([name]) => row.has(name));
      const row = rows.find(same) ?? new Map<string, string | number>();
      if (!rows.includes(row)) rows.push(row);
      for (const [name, value] of labels) row.set(name, value);
      row.set(field, number(one));
    }
  }
  return rows;
}

function box(panel: Panel, w: number, h: number): string {
  return `<rect width="${w}" height="${h}" rx="4" fill="#ffffff" stroke="#d0d7de"/>` + text(8, 18, cut(panel.title, w - 70, 12), `font-size="12" font-weight="600" fill="${INK}"`);
}

function drawn(title: string, panels: Panel[], data: Record<string, Answer[]>): string {
  const height = HEAD + Math.max(...panels.map(({ gridPos: { y, h } }) => y + h)) * ROW + MARGIN;
  const width = 24 * COLUMN + 2 * MARGIN;
  const now = Math.max(...Object.values(data).flat().flatMap(({ series }) => series ?? []).map(({ value }) => value?.[0] ?? 0));
  let out = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" font-family="Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif">\n<rect width="${width}" height="${height}" fill="#f4f5f5"/>\n`;
  out += text(MARGIN, 28, title, `font-size="18" font-weight="600" fill="${INK}"`);
  out += text(width - MARGIN, 28, "drawn from the queries' data in a test, not a Grafana screenshot", `font-size="12" text-anchor="end" fill="${FAINT}"`);
  for (const panel of panels) {
    const { x, y, w, h } = panel.gridPos;
    const [left, top, wide, high] = [MARGIN + x * COLUMN, HEAD + y * ROW, w * COLUMN - GAP, h * ROW - GAP];
    const answers = data[String(panel.id)] ?? [];
    const inside = panel.type === 'row' ? text(2, 20, panel.title, `font-size="13" font-weight="600" fill="${INK}"`)
      : panel.type === 'stat' ? stat(panel, answers, wide, high, now)
      : panel.type === 'table' ? table(panel, answers, wide, high, now)
      : lines(panel, answers, wide, high, now);
    out += `<g transform="translate(${left} ${top})">${inside}</g>\n`;
  }
  return `${out}</svg>\n`;
}

const root = new URL('../../', import.meta.url);
const data = JSON.parse(readFileSync(new URL('target/dashboards.json', root), 'utf8')) as Record<string, Record<string, Answer[]>>;
mkdirSync(new URL('docs/dashboards/', root), { recursive: true });
for (const name of ['agent', 'container', 'fleet', 'network']) {
  const { title, panels } = JSON.parse(readFileSync(new URL(`dashboards/${name}.json`, root), 'utf8')) as { title: string; panels: Panel[] };
  writeFileSync(new URL(`docs/dashboards/${name}.svg`, root), drawn(title, panels, data[name] ?? {}));
}
