/**
 * Line plots as SVG text: two axes, each linear or logarithmic, and a legend.
 */
import type { Plot, Series } from './measure.ts';

const WIDTH = 760;
const HEIGHT = 440;
const LEFT = 76;
const TOP = 40;
const PLOT_WIDTH = 430;
const PLOT_HEIGHT = 340;
const LINEAR_TICKS = 5;
const COLORS = ['#0b6e4f', '#c8553d', '#3066be', '#b8860b', '#7b2d8b', '#5c6b73', '#008b8b'];
const DASHES = ['', '6 3', '2 3'];

type Axis = (value: number) => number;
interface Scale {
  readonly place: Axis;
  readonly ticks: readonly number[];
}

export function drawPlot(plot: Plot): string {
  const points = plot.series.flatMap((series) => series.points);
  const x = scaleOf(
    points.map(([value]) => value),
    plot.x.isLog,
    { from: LEFT, to: LEFT + PLOT_WIDTH },
  );
  const y = scaleOf(
    points.map(([, value]) => value),
    plot.y.isLog,
    { from: TOP + PLOT_HEIGHT, to: TOP },
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(plot.title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(LEFT, 22, plot.title, 'font-size="15" font-weight="bold"'),
    ...x.ticks.map((tick) => verticalLine(x.place(tick), label(tick))),
    ...y.ticks.map((tick) => horizontalLine(y.place(tick), label(tick))),
    text(LEFT + PLOT_WIDTH / 2, HEIGHT - 12, plot.x.label, 'text-anchor="middle"'),
    `<g transform="translate(16 ${TOP + PLOT_HEIGHT / 2}) rotate(-90)">${text(0, 0, plot.y.label, 'text-anchor="middle"')}</g>`,
    ...plot.series.flatMap((series, index) => drawSeries(series, index, x.place, y.place)),
    '</svg>',
    '',
  ].join('\n');
}

function drawSeries(series: Series, index: number, x: Axis, y: Axis): string[] {
  const color = COLORS[index % COLORS.length];
  const dash = DASHES[Math.floor(index / COLORS.length) % DASHES.length];
  const stroke = `fill="none" stroke="${color}" stroke-width="2" stroke-dasharray="${dash}"`;
  const places = series.points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`);
  const legendY = TOP + 10 + index * 20;
  const legendX = LEFT + PLOT_WIDTH + 18;
  return [
    `<polyline ${stroke} points="${places.join(' ')}"/>`,
    `<line ${stroke} x1="${legendX}" x2="${legendX + 24}" y1="${legendY}" y2="${legendY}"/>`,
    text(legendX + 30, legendY + 4, series.name),
  ];
}

function scaleOf(
  values: readonly number[],
  isLog: boolean,
  range: { readonly from: number; readonly to: number },
): Scale {
  // A logarithmic axis goes from one whole power to another, and a value below it stands at its beginning.
  const usable = isLog ? values.filter((value) => value > 0) : values;
  const most = usable.reduce((a, b) => Math.max(a, b), 1e-9);
  const least = usable.reduce((a, b) => Math.min(a, b), most);
  const low = isLog ? Math.floor(Math.log10(least) + 1e-9) : 0;
  const high = isLog ? Math.max(low + 1, Math.ceil(Math.log10(most) - 1e-9)) : most * 1.05;
  const place = (value: number): number => {
    const at = isLog ? Math.log10(Math.max(value, 10 ** low)) : value;
    return range.from + ((at - low) / (high - low)) * (range.to - range.from);
  };
  const ticks: number[] = [];
  const step = isLog ? 1 : niceStep(high / LINEAR_TICKS);
  for (let tick = low; tick <= high; tick += step) ticks.push(isLog ? 10 ** tick : tick);
  return { place, ticks };
}

function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((one) => one * power >= rough) ?? 10;
  return factor * power;
}

function verticalLine(at: number, name: string): string {
  const line = `<line x1="${at}" x2="${at}" y1="${TOP}" y2="${TOP + PLOT_HEIGHT}" stroke="#e4e4e4"/>`;
  return line + text(at, TOP + PLOT_HEIGHT + 18, name, 'text-anchor="middle"');
}

function horizontalLine(at: number, name: string): string {
  const line = `<line x1="${LEFT}" x2="${LEFT + PLOT_WIDTH}" y1="${at}" y2="${at}" stroke="#e4e4e4"/>`;
  return line + text(LEFT - 8, at + 4, name, 'text-anchor="end"');
}

function label(value: number): string {
  if (value !== 0 && (value >= 1e6 || value < 0.001)) return value.toExponential(0);
  return String(Number(value.toPrecision(3)));
}

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${x}" y="${y}" ${more}>${escaped(content)}</text>`;
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
