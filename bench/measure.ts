/**
 * What every workload needs: rounds that take turns, medians, percentiles.
 *
 * On a shared machine the speed of everything drifts. So the subjects of one comparison run in turns, round by round,
 * and the median of the rounds counts. Ratios within one run say more than figures of two runs.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Subject {
  readonly name: string;
  /** One operation, of which many are measured. */
  operation(): Promise<void>;
  close(): Promise<void>;
}

export interface Row {
  readonly name: string;
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Operations a second, as a share of the first subject's. */
  readonly ratio: number;
}

export interface Check {
  readonly what: string;
  readonly measured: string;
  readonly target: string;
  readonly met: boolean;
}

export interface Report {
  readonly workload: string;
  readonly rows: readonly Row[];
  readonly checks: readonly Check[];
  /** Facts that are no target. */
  readonly notes: readonly string[];
}

export interface Effort {
  readonly rounds: number;
  readonly roundMs: number;
}

export interface Workload {
  readonly name: string;
  readonly summary: string;
  run(effort: Effort): Promise<Report>;
}

/** Operations between two looks at the clock, so that the clock costs next to nothing. */
const CHUNK = 64;
/** The most single operations that are timed in a round. */
const MAX_SAMPLES = 20_000;

/** Measures all subjects in turns, and closes them. The first is what the others are compared with. */
export async function compare(subjects: readonly Subject[], effort: Effort): Promise<Row[]> {
  const rates = subjects.map((): number[] => []);
  const samples = subjects.map((): number[] => []);
  // The first round warms up, and does not count.
  for (let round = 0; round <= effort.rounds; round += 1) {
    for (const [index, subject] of subjects.entries()) {
      const rate = await measureRate(subject, effort.roundMs);
      const timed = await timeEach(subject, effort.roundMs / 4);
      if (round === 0) continue;
      rates[index]?.push(rate);
      samples[index]?.push(percentile(timed, 0.5), percentile(timed, 0.99));
    }
  }
  for (const subject of subjects) await subject.close();
  const first = median(rates[0] ?? []);
  return subjects.map((subject, index) => {
    const perSecond = median(rates[index] ?? []);
    const own = samples[index] ?? [];
    return {
      name: subject.name,
      perSecond,
      p50Us: median(own.filter((_, at) => at % 2 === 0)),
      p99Us: median(own.filter((_, at) => at % 2 === 1)),
      ratio: perSecond / first,
    };
  });
}

async function measureRate(subject: Subject, roundMs: number): Promise<number> {
  const startMs = performance.now();
  let count = 0;
  let elapsedMs = 0;
  while (elapsedMs < roundMs) {
    for (let done = 0; done < CHUNK; done += 1) await subject.operation();
    count += CHUNK;
    elapsedMs = performance.now() - startMs;
  }
  return (count / elapsedMs) * 1_000;
}

/** Microseconds of single operations. The clock's own cost is within them. */
async function timeEach(subject: Subject, roundMs: number): Promise<number[]> {
  const timesUs: number[] = [];
  const startMs = performance.now();
  let beforeMs = startMs;
  while (beforeMs - startMs < roundMs && timesUs.length < MAX_SAMPLES) {
    await subject.operation();
    const afterMs = performance.now();
    timesUs.push((afterMs - beforeMs) * 1_000);
    beforeMs = afterMs;
  }
  return timesUs;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
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
  return Math.round(value).toLocaleString('en');
}
