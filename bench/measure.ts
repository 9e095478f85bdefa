/**
 * What every workload needs: rounds that take turns, medians, percentiles, and the form of a report.
 *
 * On a shared machine the speed of everything drifts. So the contenders of one comparison run in turns, round by round,
 * each round has its own ratio to the limit, and the median of the rounds counts.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** One line of a table. Its figures have the columns' names. */
export interface Row {
  readonly name: string;
  readonly figures: Readonly<Record<string, number>>;
  /** Why the figures do not count: a wrong result, or none. */
  readonly invalid?: string;
}

export interface Column {
  readonly key: string;
  readonly label: string;
  /** Decimals. */
  readonly digits: number;
}

export interface Check {
  readonly what: string;
  readonly measured: string;
  readonly target: string;
  readonly met: boolean;
}

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [number, number])[];
}

/** A line plot. Axes that are not logarithmic begin at 0. */
export interface Plot {
  readonly file: string;
  readonly title: string;
  readonly x: { readonly label: string; readonly isLog: boolean };
  readonly y: { readonly label: string; readonly isLog: boolean };
  readonly series: readonly Series[];
}

export interface Table {
  readonly title: string;
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
}

export interface Report {
  readonly workload: string;
  readonly tables: readonly Table[];
  readonly checks: readonly Check[];
  /** Facts that are no target. */
  readonly notes: readonly string[];
  readonly plots: readonly Plot[];
}

export interface Effort {
  readonly rounds: number;
  readonly roundMs: number;
  readonly isQuick: boolean;
}

/** What runs a few hundred times a second has to run for so long until the engine has compiled it. */
export function warmUpMs({ roundMs }: Effort): number {
  return 4 * roundMs;
}

export interface Workload {
  readonly name: string;
  readonly summary: string;
  run(effort: Effort): Promise<Report>;
}

/** One way to do the work, in this process. */
export interface Subject {
  readonly name: string;
  /** One operation, of which many are measured; tasks that run at the same time have numbers. */
  operation(task: number): Promise<void>;
  close(): Promise<void>;
  /** Why it cannot run here. */
  readonly invalid?: string;
}

/** Operations between two looks at the clock, so that the clock costs next to nothing. */
const CHUNK = 16;
/** The most single operations that are timed in a round. */
const MAX_SAMPLES = 20_000;

export const RATE_COLUMNS: readonly Column[] = [
  { key: 'perSecond', label: 'per second', digits: 0 },
  { key: 'p50Us', label: 'p50 µs', digits: 2 },
  { key: 'p99Us', label: 'p99 µs', digits: 2 },
  { key: 'ratio', label: 'of the limit', digits: 3 },
];

/** Measures all subjects in turns, and closes them. The first is the limit, which the others are compared with. */
export async function compare(
  subjects: readonly Subject[],
  effort: Effort,
  tasks = 1,
): Promise<Row[]> {
  const measured = subjects.map(() => ({
    rates: [] as number[],
    p50s: [] as number[],
    p99s: [] as number[],
    ratios: [] as number[],
  }));
  // The first round warms up, and does not count.
  for (let round = 0; round <= effort.rounds; round += 1) {
    let limit = Number.NaN;
    for (const [index, subject] of subjects.entries()) {
      if (subject.invalid !== undefined) continue;
      const rate = await measureRate(subject, effort.roundMs, tasks);
      const timed = await timeEach(subject, effort.roundMs / 4, tasks);
      if (index === 0) limit = rate;
      const into = measured[index];
      if (round === 0 || into === undefined) continue;
      into.rates.push(rate);
      into.ratios.push(rate / limit);
      into.p50s.push(percentile(timed, 0.5));
      into.p99s.push(percentile(timed, 0.99));
    }
  }
  for (const subject of subjects) await subject.close();
  return subjects.map(({ name, invalid }, index) => {
    if (invalid !== undefined) return { name, figures: {}, invalid };
    const { rates = [], p50s = [], p99s = [], ratios = [] } = measured[index] ?? {};
    const figures = {
      perSecond: median(rates),
      p50Us: median(p50s),
      p99Us: median(p99s),
      ratio: median(ratios),
    };
    return { name, figures };
  });
}

async function measureRate(subject: Subject, roundMs: number, tasks: number): Promise<number> {
  const startMs = performance.now();
  const endMs = startMs + roundMs;
  let count = 0;
  const task = async (number: number): Promise<void> => {
    while (performance.now() < endMs) {
      for (let done = 0; done < CHUNK; done += 1) await subject.operation(number);
      count += CHUNK;
    }
  };
  await Promise.all(Array.from({ length: tasks }, (_, number) => task(number)));
  return (count / (performance.now() - startMs)) * 1_000;
}

/** Microseconds of single operations. The clock's own cost is within them. */
async function timeEach(subject: Subject, roundMs: number, tasks: number): Promise<number[]> {
  const timesUs: number[] = [];
  const endMs = performance.now() + roundMs;
  const task = async (number: number): Promise<void> => {
    let beforeMs = performance.now();
    while (beforeMs < endMs && timesUs.length < MAX_SAMPLES) {
      await subject.operation(number);
      const afterMs = performance.now();
      timesUs.push((afterMs - beforeMs) * 1_000);
      beforeMs = afterMs;
    }
  };
  await Promise.all(Array.from({ length: tasks }, (_, number) => task(number)));
  return timesUs;
}

/** By the clock that all processes of a machine share, in milliseconds. */
export function machineMs(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** How evenly something is shared: 1 when all have the same, 1/n when one has everything (Jain, 1984). */
export function jainIndex(shares: readonly number[]): number {
  const sum = shares.reduce((total, share) => total + share, 0);
  const squares = shares.reduce((total, share) => total + share * share, 0);
  return (sum * sum) / (shares.length * squares);
}

/** The power with which y grows with x: the slope of the least squares line through the logarithms. */
export function growthPower(points: readonly (readonly [number, number])[]): number {
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)] as const);
  const mean = (at: 0 | 1): number => logs.reduce((sum, one) => sum + one[at], 0) / logs.length;
  const [x, y] = [mean(0), mean(1)];
  const over = logs.reduce((sum, one) => sum + (one[0] - x) * (one[1] - y), 0);
  return over / logs.reduce((sum, one) => sum + (one[0] - x) ** 2, 0);
}

export function atLeast(what: string, measured: number, target: number, digits = 2): Check {
  return {
    what,
    measured: figure(measured, digits),
    target: `>= ${figure(target, digits)}`,
    met: measured >= target,
  };
}

export function atMost(what: string, measured: number, target: number, digits = 2): Check {
  return {
    what,
    measured: figure(measured, digits),
    target: `<= ${figure(target, digits)}`,
    met: measured <= target,
  };
}

/** Runs with a folder of its own, which is gone afterwards. */
export async function inFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'leasehold-bench-'));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export function whole(value: number): string {
  return figure(value, 0);
}

export function figure(value: number, digits: number): string {
  if (!Number.isFinite(value)) return 'none';
  return value.toLocaleString('en', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}
