// Draw one panel: Grafana's components where its library has them, own drawings of pies, heatmaps and states.
import {
  DataFrame, dateTime, FieldType, formattedValueToString, getDisplayValueAlignmentFactors, getFieldDisplayName,
  getFieldDisplayValues, VizOrientation,
} from '@grafana/data';
import { BigValue, TimeSeries, VizLegend, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { theme } from './fields';
import type { Range } from './queries';

export type VisualProps = {
  panel: any; frames: DataFrame[]; fieldConfig: any; replace: any; range: Range; width: number; height: number;
};
const ZONE = 'utc';

export function Message({ text, isError = false }: { text: string; isError?: boolean }) {
  const color = isError ? theme.colors.error.text : theme.colors.text.secondary;
  return (
    <div
      className={isError ? 'panel-error' : 'panel-empty'}
      style={{ display: 'flex', height: '100%', alignItems: 'center', justifyContent: 'center', color, padding: 16 }}
    >
      {text}
    </div>
  );
}

export const timeRangeOf = (range: Range): any => ({
  from: dateTime(range.from), to: dateTime(range.to), raw: { from: 'now-15m', to: 'now' },
});

/** The values of a stat or a pie. */
export const displayValues = ({ panel, frames, fieldConfig, replace }: any, sparkline = false) =>
  getFieldDisplayValues({
    fieldConfig, reduceOptions: panel.options.reduceOptions, data: frames, theme, replaceVariables: replace,
    timeZone: ZONE, sparkline,
  } as any);

function Stat(props: VisualProps) {
  const { options } = props.panel;
  const values = displayValues(props, options.graphMode !== 'none');
  const auto = values.length > 1 ? 'auto' : 'value';
  const textMode = !options.textMode || options.textMode === 'auto' ? auto : options.textMode;
  const draw = ({ value, count, alignmentFactors, orientation, width, height }: any) => {
    if (value.sparkline) value.sparkline.timeRange = timeRangeOf(props.range);
    return (
      <BigValue
        value={value.display} count={count} sparkline={value.sparkline} colorMode={options.colorMode}
        graphMode={options.graphMode} justifyMode={options.justifyMode} textMode={textMode}
        alignmentFactors={alignmentFactors} parentOrientation={orientation} width={width} height={height}
        theme={theme} wideLayout={options.wideLayout ?? true}
      />
    );
  };
  return (
    <VizRepeater
      source={{}} getValues={() => values} renderValue={draw} renderCounter={0} itemSpacing={3} autoGrid
      getAlignmentFactors={(all: any) => getDisplayValueAlignmentFactors(all) as any} width={props.width}
      height={props.height} orientation={options.orientation ?? VizOrientation.Auto} minVizHeight={0} minVizWidth={0}
    />
  );
}

function Lines({ panel, frames, range, width, height, replace }: VisualProps) {
  const drawable = frames.filter(
    (frame) => frame.fields.some((one) => one.type === FieldType.time) && frame.fields.some((one) => one.type === FieldType.number),
  );
  if (!drawable.length) return <Message text="Data is missing a time or a number field" isError />;
  return (
    <TimeSeries
      frames={drawable} structureRev={1} timeRange={timeRangeOf(range)} timeZone={ZONE} width={width} height={height}
      legend={panel.options.legend} options={panel.options} replaceVariables={replace}
    >
      {() => null}
    </TimeSeries>
  );
}

function Rows({ panel, frames, fieldConfig, range, width, height, replace }: VisualProps) {
  const { showHeader = true, cellHeight = 'sm' } = panel.options;
  const others: any = { enablePagination: false, initialSortBy: [] };
  return (
    <TableNG
      data={frames[0]} width={width} height={height} noHeader={!showHeader} showTypeIcons={false} resizable
      cellHeight={cellHeight} fieldConfig={fieldConfig} timeRange={timeRangeOf(range)} structureRev={1}
      getActions={() => []} replaceVariables={replace} {...others}
    />
  );
}

function Pie(props: VisualProps) {
  const { width, height } = props;
  const values = displayValues(props).filter((one: any) => !isNaN(one.display.numeric));
  const sum = values.reduce((total: number, one: any) => total + one.display.numeric, 0);
  if (!sum) return <Message text={props.fieldConfig.defaults.noValue} />;
  const [radius, x, y] = [Math.min(width * 0.4, height) / 2 - 4, width * 0.22, height / 2];
  const at = (angle: number) => `${x + radius * Math.sin(angle)},${y - radius * Math.cos(angle)}`;
  let begin = 0;
  const slices = values.map((one: any, index: number) => {
    // A whole circle would have no beginning and no end.
    const end = begin + Math.min((2 * Math.PI * one.display.numeric) / sum, 2 * Math.PI - 1e-3);
    const isLarge = end - begin > Math.PI ? 1 : 0;
    const path = `M${x},${y}L${at(begin)}A${radius},${radius} 0 ${isLarge} 1 ${at(end)}Z`;
    begin = end;
    return <path key={index} d={path} fill={one.display.color} stroke={theme.colors.background.primary} />;
  });
  const items: any = values.map((one: any) => ({
    label: one.display.title ?? '', color: one.display.color, yAxis: 0,
    getDisplayValues: () => [
      { text: formattedValueToString(one.display), numeric: one.display.numeric, title: 'Value' },
      { text: `${((100 * one.display.numeric) / sum).toFixed(0)}%`, numeric: one.display.numeric / sum, title: 'Percent' },
    ],
  }));
  return (
    <div style={{ display: 'flex', width, height }}>
      <svg width={width * 0.45} height={height}>{slices}</svg>
      <div style={{ width: width * 0.55, height, overflow: 'auto' }}>
        <VizLegend placement="right" displayMode={'table' as any} items={items} />
      </div>
    </div>
  );
}

const AXIS = { fill: theme.colors.text.primary, fontSize: 12, fontFamily: 'Inter' };
const LEFT = 150, BOTTOM = 24, TICKS = 7;

function TimeAxis({ range, width, height, left }: any) {
  const ticks = Array.from({ length: TICKS }, (_, index) => (index + 0.5) / TICKS);
  return ticks.map((share) => (
    <text key={share} {...AXIS} x={left + share * (width - left)} y={height - 6} textAnchor="middle">
      {dateTime(range.from + share * (range.to - range.from)).utc().format('HH:mm')}
    </text>
  ));
}

const xOf = (time: number, range: Range, left: number, width: number) =>
  Math.max(left, left + ((time - range.from) / (range.to - range.from)) * (width - left));

function States({ frames, range, width, height }: VisualProps) {
  const lines = frames.flatMap((frame) =>
    frame.fields.filter((one) => one.type !== FieldType.time).map((field) => ({ frame, field })),
  );
  const tall = (height - BOTTOM) / lines.length;
  return (
    <svg width={width} height={height}>
      {lines.map(({ frame, field }, line) => {
        const times = frame.fields.find((one) => one.type === FieldType.time)!.values;
        return (
          <g key={line}>
            <text {...AXIS} x={0} y={line * tall + tall / 2 + 4}>{getFieldDisplayName(field, frame, frames)}</text>
            {times.map((time: number, index: number) => {
              const from = xOf(time, range, LEFT, width);
              const to = xOf(times[index + 1] ?? range.to, range, LEFT, width);
              const { color } = field.display!(field.values[index]);
              return (
                <rect key={index} x={from} width={Math.max(0.5, to - from)} y={line * tall + 3} height={tall - 6} fill={color} opacity={0.8} />
              );
            })}
          </g>
        );
      })}
      <TimeAxis {...{ range, width, height }} left={LEFT} />
    </svg>
  );
}

/** Buckets of a histogram, one a field, in their order; a cell is as dark as it has calls. */
function Heatmap({ frames, range, width, height, panel }: VisualProps) {
  const rows = frames.flatMap((frame) => frame.fields.slice(1).map((field) => ({
    bound: getFieldDisplayName(field, frame), times: frame.fields[0].values, values: field.values,
  })));
  const left = 60;
  const tall = (height - BOTTOM) / rows.length;
  const most = Math.max(...rows.flatMap((row) => row.values.filter((value: number) => isFinite(value))));
  const exponent = panel.options.color?.exponent ?? 0.5;
  const step = rows[0].times.length > 1 ? rows[0].times[1] - rows[0].times[0] : 15_000;
  return (
    <svg width={width} height={height}>
      {rows.map(({ bound, times, values }, line) => {
        const y = height - BOTTOM - (line + 1) * tall;
        return (
          <g key={bound}>
            {line % Math.ceil(18 / tall) === 0 && <text {...AXIS} x={left - 6} y={y + tall / 2 + 4} textAnchor="end">{bound}</text>}
            {times.map((time: number, index: number) => values[index] > 0 && (
              <rect
                key={index} x={xOf(time, range, left, width)} y={y} height={tall - 1} fill={theme.visualization.getColorByName('orange')}
                width={Math.max(1, ((width - left) * step) / (range.to - range.from) - 0.5)} opacity={0.1 + 0.9 * (values[index] / most) ** exponent}
              />
            ))}
          </g>
        );
      })}
      <TimeAxis {...{ range, width, height, left }} />
    </svg>
  );
}

const VISUALS: Record<string, (props: VisualProps) => any> = {
  timeseries: Lines, table: Rows, piechart: Pie, 'state-timeline': States, heatmap: Heatmap,
};

export function Visual(props: VisualProps & { errors: string[] }) {
  const { panel, frames, fieldConfig, errors } = props;
  if (errors.length) return <Message text={errors.join('; ')} isError />;
  if (panel.type === 'stat') return <Stat {...props} />;
  if (!frames.length || frames.every((frame) => !frame.length)) return <Message text={fieldConfig.defaults.noValue ?? 'No data'} />;
  const Drawing = VISUALS[panel.type];
  return Drawing ? <Drawing {...props} /> : <Message text={`Unknown panel type ${panel.type}`} isError />;
}
