// Ask Prometheus and the Infinity stand-in what a panel asks, and make Grafana's data frames of the answers.
import { DataFrame, dataFrameFromJSON, FieldType, rangeUtil, toDataFrame } from '@grafana/data';
import { interpolate, Variables } from './variables';

export type Range = { from: number; to: number };
export type Answer = { frames: DataFrame[]; errors: string[] };
export const SHARED = '-- Dashboard --';

const SCRAPE_MS = 15_000;

async function prometheus(path: string, params: Record<string, any>) {
  const response = await fetch(`/prometheus/api/v1/${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(params),
  });
  const answer = await response.json();
  if (answer.status !== 'success') throw new Error(answer.error);
  return answer.data.result;
}

const SPECIAL: Record<string, number> = { NaN: NaN, '+Inf': Infinity, '-Inf': -Infinity };
const toNumber = (text: string) => SPECIAL[text] ?? parseFloat(text);

function legendOf(format: string | undefined, labels: Record<string, string>) {
  if (format && format !== '__auto') return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, key) => labels[key] ?? '');
  const { __name__: name, ...others } = labels;
  const keys = Object.keys(others);
  if (!keys.length) return name ?? 'Value';
  return `${name ?? ''}{${keys.map((key) => `${key}="${others[key]}"`).join(', ')}}`;
}

export function macros(range: Range, width: number, minimumMs: number) {
  const step = Math.max(minimumMs, rangeUtil.roundInterval((range.to - range.from) / Math.max(1, width)));
  const range_s = Math.round((range.to - range.from) / 1000);
  const rate_s = Math.max(step + minimumMs, 4 * minimumMs) / 1000;
  const __interval = step >= 1000 ? `${step / 1000}s` : `${step}ms`;
  return {
    __interval,
    __interval_ms: step,
    __rate_interval: `${rate_s}s`,
    __range: `${range_s}s`,
    __range_s: range_s,
    __range_ms: range_s * 1000,
    __from: range.from,
    __to: range.to,
  };
}

export async function askPrometheus(
  targets: any[], range: Range, width: number, variables: Variables, missing: Set<string>,
): Promise<Answer> {
  const scoped = macros(range, width, SCRAPE_MS);
  const step = scoped.__interval_ms;
  const answers = await Promise.all(
    targets.map(async (target) => {
      const query = interpolate(target.expr, variables, scoped, 'prom', missing);
      const aligned = (time: number) => (Math.floor(time / step) * step) / 1000;
      const series = target.instant
        ? await prometheus('query', { query, time: range.to / 1000 })
        : await prometheus('query_range', {
            query, start: aligned(range.from), end: aligned(range.to), step: step / 1000,
          });
      const isTable = target.instant && target.format === 'table';
      return isTable ? tableOf(target, series, targets.length > 1) : series.map((one: any) => lineOf(target, one, step));
    }),
  );
  return { frames: answers.flat(), errors: [] };
}

/** `interval` is how Grafana knows a gap, across which it draws no line. */
function lineOf(target: any, series: any, interval: number): DataFrame {
  const name = legendOf(target.legendFormat, series.metric);
  const values = series.values ?? [series.value];
  return toDataFrame({
    refId: target.refId,
    name,
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map((one: any) => one[0] * 1000), config: { interval } },
      {
        name: 'Value',
        type: FieldType.number,
        labels: series.metric,
        values: values.map((one: any) => toNumber(one[1])),
        config: { displayNameFromDS: name },
      },
    ],
  });
}

function tableOf(target: any, series: any[], isOneOfSeveral: boolean): DataFrame[] {
  if (!series.length) return []; // Grafana drops empty frames
  const keys = [...new Set<string>(series.flatMap((one) => Object.keys(one.metric)))].sort();
  const labels = keys.map((key) => ({
    name: key, type: FieldType.string, values: series.map((one) => one.metric[key] ?? ''),
  }));
  const value = {
    name: isOneOfSeveral ? `Value #${target.refId}` : 'Value',
    type: FieldType.number,
    values: series.map((one) => toNumber(one.value[1])),
  };
  const time = { name: 'Time', type: FieldType.time, values: series.map((one) => one.value[0] * 1000) };
  return [toDataFrame({ refId: target.refId, fields: [time, ...labels, value] })];
}

function filled(value: any, variables: Variables, scoped: any, missing: Set<string>): any {
  if (typeof value === 'string') return interpolate(value, variables, scoped, 'glob', missing);
  if (Array.isArray(value)) return value.map((one) => filled(one, variables, scoped, missing));
  if (!value || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [key, key === 'columns' ? one : filled(one, variables, scoped, missing)]),
  );
}

export async function askInfinity(
  targets: any[], range: Range, width: number, variables: Variables, missing: Set<string>,
): Promise<Answer> {
  const scoped = macros(range, width, 1);
  const queries = targets.map((target) => filled(target, variables, scoped, missing));
  const body = JSON.stringify({ from: String(range.from), to: String(range.to), queries });
  const { results } = await (await fetch('/api/ds/query', { method: 'POST', body })).json();
  const found = targets.map((target) => results[target.refId]);
  return {
    frames: found.flatMap((one, index) =>
      (one.frames ?? []).map((frame: any) => ({ ...dataFrameFromJSON(frame), refId: targets[index].refId })),
    ),
    errors: found.flatMap((one) => (one.error ? [one.error] : [])),
  };
}

export async function labelValues(query: string, range: Range, variables: Variables): Promise<string[]> {
  const [, selector, label] = /^label_values\((?:(.*),\s*)?(\w+)\)$/.exec(query)!;
  const params = new URLSearchParams({
    'match[]': interpolate(selector, variables, {}, 'prom'),
    start: String(range.from / 1000),
    end: String(range.to / 1000),
  });
  return (await (await fetch(`/prometheus/api/v1/label/${label}/values?${params}`)).json()).data;
}
