// The page: lay a dashboard out in Grafana's grid, draw its panels, and report what each of them shows.
// Fed by the server of pictures.py, by ?uid= and ?theme=; shoot.mjs reads window.__report.
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import {
  DataFrame, EventBusSrv, formattedValueToString, getDisplayProcessor, getFieldColorModeForField, getFieldDisplayName,
  ThemeContext,
} from '@grafana/data';
import { GlobalStyles, PanelChrome, PanelContextProvider } from '@grafana/ui';
import { Component, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { configured, fieldConfigOf, firstLinks, isNumber, replacer, setUpRegistries, theme } from './fields';
import { Answer, askInfinity, askPrometheus, labelValues, Range, SHARED } from './queries';
import { interpolate, isAll, Variables } from './variables';
import { displayValues, Message, Visual } from './visuals';

const WIDTH = 1568, GAP = 8, ROW = 30, MARGIN = 16;
const COLUMN = (WIDTH - 23 * GAP) / 24;
const SETTLE_MS = 1500; // tables measure their columns after they were drawn
const params = new URLSearchParams(location.search);
const report: any = ((window as any).__report = { panels: [], variables: {}, annotations: [], drawn: false });

class Guard extends Component<any, { error?: unknown }> {
  state: { error?: unknown } = {};
  static getDerivedStateFromError = (error: unknown) => ({ error });
  componentDidCatch(error: any) {
    this.props.entry.errors.push(String(error?.stack ?? error).slice(0, 600));
  }
  render() {
    return this.state.error ? <Message text={String(this.state.error)} isError /> : this.props.children;
  }
}

type Board = { dashboard: any; variables: Variables; range: Range; answers: Map<number, Promise<Answer>> };

/** The answer of a panel's queries; a panel that shares another's gets the same one. */
function answerOf(panel: any, board: Board, width: number, missing: Set<string>): Promise<Answer> {
  const { dashboard, variables, range, answers } = board;
  const [target] = panel.targets;
  if (target.datasource?.uid === SHARED) {
    const source = dashboard.panels.find((one: any) => one.id === target.panelId);
    return answerOf(source, board, width, missing);
  }
  if (!answers.has(panel.id)) {
    const ask = target.datasource?.type?.includes('infinity') ? askInfinity : askPrometheus;
    const failed = (error: unknown) => ({ frames: [], errors: [String(error)] });
    answers.set(panel.id, ask(panel.targets, range, panel.maxDataPoints ?? width, variables, missing).catch(failed));
  }
  return answers.get(panel.id)!;
}

async function load(panel: any, board: Board, width: number) {
  const missing = new Set<string>();
  const replace = replacer(board.variables, board.range, missing);
  const fieldConfig = fieldConfigOf(panel);
  const answer = await answerOf(panel, board, width, missing);
  const errors = [...answer.errors];
  const frames = await configured(panel, answer.frames, fieldConfig, replace).catch((error) => {
    errors.push(`transformation: ${error}`);
    return [] as DataFrame[];
  });
  const entry = { ...describe(panel, frames, fieldConfig, replace), errors, missing: [...missing] };
  report.panels.push(entry);
  return { frames, fieldConfig, replace, errors, entry };
}

function describe(panel: any, frames: DataFrame[], fieldConfig: any, replace: any) {
  const numbers = frames.flatMap((frame) => frame.fields.filter(isNumber).map((field) => ({ frame, field })));
  const isValue = panel.type === 'stat' || panel.type === 'piechart';
  const values = isValue ? displayValues({ panel, frames, fieldConfig, replace }) : [];
  return {
    id: panel.id,
    type: panel.type,
    title: replace(panel.title, {}),
    rows: frames.reduce((total, frame) => total + frame.length, 0),
    noValue: fieldConfig.defaults.noValue ?? null,
    legend: panel.options.legend ?? null,
    values: values.map(({ display }: any) => ({ name: display.title, text: formattedValueToString(display), color: display.color })),
    series: panel.type === 'timeseries' ? numbers.map(({ frame, field }) => ({
      name: getFieldDisplayName(field, frame, frames), color: getFieldColorModeForField(field).getCalculator(field, theme)(0, 0),
    })) : [],
    gauges: numbers.filter(({ field }) => field.config.custom?.cellOptions?.type === 'gauge')
      .map(({ field }) => ({ name: field.name, min: field.config.min, max: field.config.max })),
    links: firstLinks(frames),
    fields: panel.type === 'table' && frames[0]?.length ? frames[0].fields.map((one) => getFieldDisplayName(one, frames[0])) : [],
  };
}

function Panel({ panel, board, width, height }: { panel: any; board: Board; width: number; height: number }) {
  const [state, setState] = useState<any>();
  useEffect(() => {
    load(panel, board, width - 20).then(setState);
  }, []);
  return (
    <PanelChrome
      width={width} height={height} title={interpolate(panel.title, board.variables)} description={panel.description}
      padding={panel.type === 'stat' ? 'none' : 'md'}
    >
      {(innerWidth: number, innerHeight: number) =>
        state ? (
          <Guard entry={state.entry}>
            <Visual {...state} panel={panel} range={board.range} width={innerWidth} height={innerHeight} />
          </Guard>
        ) : <span />
      }
    </PanelChrome>
  );
}

async function chosen(variable: any, variables: Variables, range: Range) {
  const found: any = {
    value: variable.current?.value ?? variable.query ?? '', allValue: variable.allValue,
    multi: variable.multi, includeAll: variable.includeAll,
  };
  if (variable.type === 'datasource') found.texts = { [found.value]: variable.current.text };
  if (variable.type === 'constant' || variable.type === 'textbox') found.value = variable.query;
  if (variable.type === 'custom') {
    const pairs = variable.query.split(',').map((one: string) => one.split(' : ').map((part) => part.trim()));
    found.options = pairs.map((one: string[]) => one.at(-1));
    found.texts = Object.fromEntries(pairs.map((one: string[]) => [one.at(-1), one[0]]));
  }
  if (variable.type === 'query') found.options = await optionsOf(variable, variables, range);
  const given = params.getAll(`var-${variable.name}`);
  if (given.length) found.value = variable.multi ? given : given[0];
  if (variable.type === 'query' && !variable.includeAll && !given.length) found.value = found.options[0] ?? '';
  return found;
}

async function optionsOf(variable: any, variables: Variables, range: Range): Promise<string[]> {
  const { infinityQuery, query, meta } = variable.query;
  if (!infinityQuery) return labelValues(query, range, variables);
  const target = { ...infinityQuery, refId: 'variable' };
  const { frames, errors } = await askInfinity([target], range, 1000, variables, new Set());
  if (errors.length) throw new Error(errors.join());
  const fields = frames[0]?.fields ?? [];
  const values = (fields.find((one) => one.name === meta?.valueField) ?? fields[0])?.values ?? [];
  const pattern = variable.regex ? new RegExp(variable.regex.slice(1, -1)) : /./;
  return [...new Set<string>(values)].filter((one) => one && pattern.test(one));
}

async function open(): Promise<Board> {
  const dashboard = await (await fetch(`/dashboards/${params.get('uid')}.json`)).json();
  const to = Number(params.get('to') ?? Date.now());
  const range = { from: to - Number(params.get('span_s') ?? 900) * 1000, to };
  const variables: Variables = {};
  for (const one of dashboard.templating.list) variables[one.name] = await chosen(one, variables, range);
  report.variables = variables;
  for (const one of dashboard.annotations.list) {
    if (!one.target?.type) continue;
    const { frames, errors } = await askInfinity([one.target], range, 1000, variables, new Set());
    report.annotations.push({ name: one.name, errors, events: frames[0]?.length ?? 0 });
  }
  return { dashboard, variables, range, answers: new Map() };
}

const overflows = (cell: HTMLElement) => cell.scrollWidth > cell.clientWidth + 1;

/** Whether the text would fit on several lines; a name longer than any column is seen by pointing at it. */
function isCut(cell: HTMLElement) {
  if (!overflows(cell)) return false;
  const { whiteSpace } = cell.style;
  cell.style.whiteSpace = 'normal';
  const fits = !overflows(cell);
  cell.style.whiteSpace = whiteSpace;
  return fits;
}

/** Whether the beginning of a number, which is aligned right, is cut off: another number is seen. */
function losesDigits(cell: HTMLElement) {
  if (!cell.textContent) return false; // the rectangle of nothing is at 0
  const text = document.createRange();
  text.selectNodeContents(cell);
  return text.getBoundingClientRect().left < cell.getBoundingClientRect().left - 1;
}

/** What can be seen only once it is drawn: empty panels, columns beyond the edge of tables, cells that are cut. */
(window as any).__measure = () => {
  for (const entry of report.panels) {
    const element = document.querySelector(`[data-panel="${entry.id}"]`)!;
    const right = element.getBoundingClientRect().right;
    entry.isEmpty = element.querySelector('.panel-empty') !== null || entry.values.some((one: any) => one.text === entry.noValue);
    // Columns far beyond the edge are not even in the document.
    const headers = [...element.querySelectorAll('[role=columnheader]')];
    entry.columns = entry.fields.map((name: string) => {
      const header = headers.find((one) => one.textContent === name);
      return { name, visible: header !== undefined && header.getBoundingClientRect().right <= right + 1 };
    });
    const all = [...element.querySelectorAll<HTMLElement>('[role=gridcell]')];
    const cells = all.filter((one) => isCut(one) || losesDigits(one));
    const places = new Set(cells.map((one) => Number(one.getAttribute('aria-colindex')) - 1));
    entry.cut = entry.fields.filter((_: string, place: number) => places.has(place));
  }
  return document.querySelector('#root > div')!.scrollHeight;
};

function Chosen({ variable, value, texts }: { variable: any; value: any; texts: any }) {
  const text = isAll(value) ? 'All' : [value].flat().map((one) => texts?.[one] ?? one).join(' + ') || '\u00a0';
  return (
    <span style={{ border: `1px solid ${theme.colors.border.medium}`, fontSize: 12 }}>
      <b style={{ padding: '4px 8px', background: theme.colors.background.secondary, display: 'inline-block' }}>
        {variable.label ?? variable.name}
      </b>
      <span style={{ padding: '4px 12px' }}>{text}</span>
    </span>
  );
}

function Page() {
  const [board, setBoard] = useState<Board>();
  useEffect(() => {
    open().then(setBoard);
  }, []);
  useEffect(() => {
    if (!board) return;
    const expected = board.dashboard.panels.filter((one: any) => one.type !== 'row').length;
    const timer = setInterval(() => {
      if (report.panels.length < expected) return;
      clearInterval(timer);
      setTimeout(() => (report.drawn = true), SETTLE_MS);
    }, 50);
  }, [board]);
  if (!board) return <div />;
  const { dashboard, variables } = board;
  const wide = (columns: number) => columns * COLUMN + (columns - 1) * GAP;
  const tall = (rows: number) => rows * ROW + (rows - 1) * GAP;
  const rows = Math.max(...dashboard.panels.map((one: any) => one.gridPos.y + one.gridPos.h));
  return (
    <div style={{ padding: MARGIN, width: WIDTH + 2 * MARGIN, boxSizing: 'border-box', background: theme.colors.background.canvas }}>
      <h3>{dashboard.title}</h3>
      <div style={{ display: 'flex', flexWrap: 'wrap', gap: GAP, marginBottom: GAP }}>
        {dashboard.templating.list.filter((one: any) => one.hide !== 2).map((one: any) => (
          <Chosen key={one.name} variable={one} value={variables[one.name].value} texts={variables[one.name].texts} />
        ))}
      </div>
      <div style={{ position: 'relative', width: WIDTH, height: rows * (ROW + GAP) }}>
        {dashboard.panels.map((panel: any) => {
          const { x, y, w, h } = panel.gridPos;
          const style: any = {
            position: 'absolute', left: x * (COLUMN + GAP), top: y * (ROW + GAP), width: wide(w), height: tall(h),
          };
          if (panel.type === 'row') return <div key={panel.id} style={{ ...style, fontWeight: 500 }}>⌄ {panel.title}</div>;
          return (
            <div key={panel.id} style={style} data-panel={panel.id}>
              <Panel panel={panel} board={board} width={wide(w)} height={tall(h)} />
            </div>
          );
        })}
      </div>
    </div>
  );
}

setUpRegistries();
const context: any = { eventsScope: 'dashboard', eventBus: new EventBusSrv() };
createRoot(document.getElementById('root')!).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <PanelContextProvider value={context}>
      <Page />
    </PanelContextProvider>
  </ThemeContext.Provider>,
);
