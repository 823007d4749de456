// Set up Grafana's registries, and make of a panel's frames what its visualization gets: transformed, configured.
import {
  applyFieldOverrides, createTheme, DataFrame, dataLinksOverrideProcessor, displayNameOverrideProcessor, FieldType,
  formattedValueToString, getFieldDisplayName, identityOverrideProcessor, locationUtil, numberOverrideProcessor,
  standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry, thresholdsOverrideProcessor,
  transformDataFrame, unitOverrideProcessor, valueMappingsOverrideProcessor,
} from '@grafana/data';
import { merge } from 'lodash';
import { lastValueFrom } from 'rxjs';
import type { Range } from './queries';
import { interpolate, Variables } from './variables';

export const theme = createTheme({
  colors: { mode: new URLSearchParams(location.search).get('theme') === 'light' ? 'light' : 'dark' },
});

const STANDARD: Record<string, any> = {
  unit: unitOverrideProcessor, decimals: numberOverrideProcessor, min: numberOverrideProcessor,
  max: numberOverrideProcessor, displayName: displayNameOverrideProcessor, noValue: identityOverrideProcessor,
  thresholds: thresholdsOverrideProcessor, color: identityOverrideProcessor, links: dataLinksOverrideProcessor,
  mappings: valueMappingsOverrideProcessor, filterable: identityOverrideProcessor,
  description: identityOverrideProcessor, fieldMinMax: identityOverrideProcessor,
};
const CUSTOM = [
  'align', 'inspect', 'width', 'minWidth', 'cellOptions', 'filterable', 'hidden', 'wrapText', 'wrapHeaderText',
  'drawStyle', 'lineInterpolation', 'lineWidth', 'fillOpacity', 'gradientMode', 'spanNulls', 'showPoints',
  'pointSize', 'stacking', 'axisPlacement', 'axisLabel', 'axisSoftMin', 'axisSoftMax', 'scaleDistribution',
  'hideFrom', 'thresholdsStyle', 'barAlignment', 'barWidthFactor', 'lineStyle', 'axisBorderShow',
  'axisCenteredZero', 'axisColorMode', 'axisGridShow', 'insertNulls', 'transform', 'fillBelowTo',
];
const THRESHOLDS = { mode: 'absolute', steps: [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }] };
const LINE = {
  drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none',
  spanNulls: false, insertNulls: false, showPoints: 'auto', pointSize: 5, stacking: { mode: 'none', group: 'A' },
  axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text', axisBorderShow: false, axisCenteredZero: false,
  scaleDistribution: { type: 'linear' }, hideFrom: { tooltip: false, viz: false, legend: false },
  thresholdsStyle: { mode: 'off' }, barAlignment: 0, barWidthFactor: 0.6,
};
/** What Grafana assumes where a panel says nothing. */
const DEFAULTS: Record<string, any> = {
  timeseries: { color: { mode: 'palette-classic' }, custom: LINE, thresholds: THRESHOLDS },
  stat: { color: { mode: 'thresholds' }, thresholds: THRESHOLDS },
  table: {
    color: { mode: 'thresholds' }, thresholds: THRESHOLDS,
    custom: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false },
  },
  piechart: { color: { mode: 'palette-classic' }, custom: { hideFrom: { tooltip: false, viz: false, legend: false } } },
  'state-timeline': { color: { mode: 'thresholds' }, thresholds: THRESHOLDS, custom: { fillOpacity: 70 } },
  heatmap: { custom: { scaleDistribution: { type: 'linear' } } },
};

export function setUpRegistries() {
  const transformers = new Map(Object.values(standardTransformers).map((one: any) => [one.id, one]));
  standardTransformersRegistry.setInit(() =>
    [...transformers.values()].map((one: any) => ({ id: one.id, name: one.name, transformation: one })) as any,
  );
  locationUtil.initialize({
    config: { appSubUrl: '' } as any,
    getVariablesUrlParams: () => ({}),
    getTimeRangeForUrl: () => ({ from: 'now-1h', to: 'now' }) as any,
  });
  const property = (id: string, path: string, isCustom: boolean, process: any) => ({
    id, path, isCustom, process, name: id, editor: null, override: null,
    settings: { expandTemplateVars: true }, shouldApply: () => true, getItemsCount: () => 0,
  });
  standardFieldConfigEditorRegistry.setInit(() => [
    ...Object.entries(STANDARD).map(([id, process]) => property(id, id, false, process)),
    ...CUSTOM.map((id) => property(`custom.${id}`, id, true, identityOverrideProcessor)),
  ] as any);
}

/** The macros of titles and links; those of a value need its place. */
function linkMacros(scopedVars: any, range: Range) {
  const found: any = {
    __url_time_range: { verbatim: `from=${range.from}&to=${range.to}` },
    __from: String(range.from),
    __to: String(range.to),
  };
  const context = scopedVars?.__dataContext?.value;
  if (!context) return found;
  const { field, frame, data } = context;
  const row = context.rowIndex ?? context.valueRowIndex;
  found.__field = (path: string) => {
    if (path === 'name') return getFieldDisplayName(field, frame, data);
    const label = /^labels[.[]"?(.*?)"?\]?$/.exec(path ?? '');
    return label ? (field.labels?.[label[1]] ?? '') : undefined;
  };
  found.__value = (path: string) => {
    const value = row == null ? context.calculatedValue?.numeric : field.values[row];
    if (path === 'raw') return value;
    const shown = field.display(value);
    return path === 'numeric' ? shown.numeric : formattedValueToString(shown);
  };
  found.__data = (path: string) => {
    const name = /^fields(?:\.(\w+)|\["?(.*?)"?\])/.exec(path);
    const wanted = name?.[1] ?? name?.[2];
    const other = frame.fields.find((one: any) => one.name === wanted || getFieldDisplayName(one, frame) === wanted);
    return other?.values[row];
  };
  return found;
}

export type Replace = (text: string, scopedVars: any, form?: any) => string;

export const replacer = (variables: Variables, range: Range, missing: Set<string>): Replace =>
  (text, scopedVars, form) =>
    interpolate(text, variables, linkMacros(scopedVars, range), typeof form === 'string' ? form : 'glob', missing);

export function fieldConfigOf(panel: any) {
  const defaults = merge({}, DEFAULTS[panel.type], panel.fieldConfig.defaults);
  const thresholds = panel.fieldConfig.defaults.thresholds ?? DEFAULTS[panel.type]?.thresholds;
  if (thresholds) {
    const steps = thresholds.steps.map((step: any) => ({ ...step, value: step.value ?? -Infinity }));
    defaults.thresholds = { ...thresholds, steps };
  }
  return { defaults, overrides: panel.fieldConfig.overrides ?? [] };
}

export async function configured(panel: any, frames: DataFrame[], fieldConfig: any, replace: Replace) {
  const steps = panel.transformations ?? [];
  const context: any = { interpolate: (text: string) => replace(text, {}) };
  const transformed = steps.length ? await lastValueFrom(transformDataFrame(steps, frames, context)) : frames;
  return applyFieldOverrides({
    data: transformed, fieldConfig, replaceVariables: replace as any, theme, timeZone: 'utc',
    fieldConfigRegistry: standardFieldConfigEditorRegistry,
  });
}

/** The link of the first value that has one, by field. */
export function firstLinks(frames: DataFrame[]) {
  const fields = frames.slice(0, 12).flatMap((frame) => frame.fields);
  return fields.flatMap((field) => {
    if (!field.getLinks || !field.config.links?.length) return [];
    const row = Math.max(0, field.values.findIndex((value: any) => value != null && value !== ''));
    const isThere = field.values[row] != null && field.values[row] !== '';
    const links = isThere ? field.getLinks({ valueRowIndex: row }) : [];
    return links.map((one: any) => ({ field: field.name, title: one.title, href: one.href }));
  });
}

export const isNumber = (field: any) => field.type === FieldType.number;
