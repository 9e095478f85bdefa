/**
 * Rounds of the critical section that all contenders share, in several processes: who does it how often, how long each
 * waits, and whether the sums are right.
 */
import { type Contender, contender, NO_LOCK } from './contenders.ts';
import type { Crew } from './crew.ts';
import { type Buckets, mergeBuckets, quantileMs } from './histogram.ts';
import type { AddResult } from './jobs.ts';
import { type Column, type Effort, jainIndex, median, type Row, warmUpMs } from './measure.ts';
import type { BenchServer } from './server.ts';

export interface Entry {
  readonly name: string;
  readonly contender: Contender;
  readonly processes: number;
  readonly tasks: number;
  /** As a job has it. */
  readonly keys: number;
  readonly masters?: readonly BenchServer[];
  /** Who has not ended so long after the time has come to a stand. */
  readonly maxLateMs?: number;
  /** Of the entries that have the same here, only the fastest of the round that warms up goes on. */
  readonly tuning?: string;
}

/** What all processes of one entry did in one round. */
export interface Round {
  readonly perSecond: number;
  readonly ratio: number;
  readonly gaveUp: number;
  readonly waits: Buckets;
  readonly longestWaitMs: number;
  readonly mostPassed: number;
  readonly longestHoldMs: number;
  readonly jain: number;
  /** The smallest share of a process, as a part of what is its due. */
  readonly leastShare: number;
  /** Sent by the clients, beyond the two of the work itself. */
  readonly commands: number;
  readonly clientUs: number;
  readonly serverUs: number;
}

/** What a lock is compared with. */
export const LIMIT: Entry = {
  name: 'limit: no lock, one process, one task',
  contender: contender(NO_LOCK),
  processes: 1,
  tasks: 1,
  keys: 1,
};

export interface Outcome {
  readonly entry: Entry;
  readonly rounds: readonly Round[];
  readonly invalid?: string;
}

const COMMANDS_OF_WORK = 2;

export const ADD_COLUMNS: readonly Column[] = [
  { key: 'perSecond', label: 'per second', digits: 0 },
  { key: 'ratio', label: 'of the limit', digits: 2 },
  { key: 'p50Ms', label: 'wait p50 ms', digits: 2 },
  { key: 'p99Ms', label: 'p99 ms', digits: 1 },
  { key: 'longestMs', label: 'longest ms', digits: 1 },
  { key: 'longestHoldMs', label: 'longest section ms', digits: 1 },
  { key: 'jain', label: 'Jain index', digits: 3 },
  { key: 'commands', label: 'commands each', digits: 2 },
  { key: 'clientUs', label: 'client µs each', digits: 1 },
  { key: 'serverUs', label: 'server µs each', digits: 1 },
  { key: 'gaveUp', label: 'gave up', digits: 0 },
];

/** The first entry is the limit. An entry that fails once, or whose sum is wrong once, does not count. */
export async function addInTurns(
  server: BenchServer,
  crew: Crew,
  entries: readonly Entry[],
  effort: Effort,
): Promise<Outcome[]> {
  let outcomes = entries.map((entry): Measured => ({ entry, rounds: [], warmUpPerSecond: 0 }));
  for (let round = 0; round <= effort.rounds; round += 1) {
    let limit = Number.NaN;
    for (const outcome of outcomes) {
      if (outcome.invalid !== undefined) continue;
      try {
        const durationMs = round === 0 ? warmUpMs(effort) : effort.roundMs;
        const done = await addOnce(server, crew, outcome.entry, durationMs);
        if (outcome === outcomes[0]) limit = done.perSecond;
        if (round > 0) outcome.rounds.push({ ...done, ratio: done.perSecond / limit });
        else outcome.warmUpPerSecond = done.perSecond;
      } catch (error) {
        outcome.invalid = error instanceof Error ? error.message : String(error);
      }
    }
    if (round === 0) outcomes = outcomes.filter((outcome) => isBestTuned(outcome, outcomes));
  }
  return outcomes;
}

interface Measured extends Outcome {
  readonly rounds: Round[];
  invalid?: string;
  warmUpPerSecond: number;
}

function isBestTuned({ entry, warmUpPerSecond }: Measured, all: readonly Measured[]): boolean {
  if (entry.tuning === undefined) return true;
  const group = all.filter((other) => other.entry.tuning === entry.tuning);
  return warmUpPerSecond === Math.max(...group.map((other) => other.warmUpPerSecond));
}

async function addOnce(
  server: BenchServer,
  crew: Crew,
  entry: Entry,
  durationMs: number,
): Promise<Round> {
  const { contender, processes, tasks, keys, masters, maxLateMs = Infinity } = entry;
  const common = {
    port: server.port,
    contender,
    ...(masters && { masters: masters.map(({ port }) => port) }),
  };
  await server.admin.flushall();
  await crew.run({ kind: 'warm-up', ...common }, processes, maxLateMs);
  const before = await server.look();
  const job = { kind: 'add', ...common, keys, tasks, durationMs } as const;
  const done = await crew.run(job, processes, durationMs + maxLateMs);
  const after = await server.look();
  const operations = sumOf(done, (one) => one.operations);
  const found = await sumOfData(server);
  if (found !== operations) {
    throw new Error(`wrong sum: ${found} in Redis after ${operations} additions`);
  }
  const byProcess = done.map((one) => one.operations);
  return {
    perSecond: (sumOf(done, (one) => one.inTime) / durationMs) * 1_000,
    ratio: Number.NaN,
    gaveUp: sumOf(done, (one) => one.gaveUp),
    waits: mergeBuckets(done.map((one) => one.waits)),
    longestWaitMs: Math.max(...done.map((one) => one.longestWaitMs)),
    mostPassed: Math.max(...done.map((one) => one.mostPassed)),
    longestHoldMs: Math.max(...done.map((one) => one.longestHoldMs)),
    jain: jainIndex(done.flatMap((one) => one.byTask)),
    leastShare: (Math.min(...byProcess) * processes) / operations,
    commands: sumOf(done, (one) => one.commands) / operations - COMMANDS_OF_WORK,
    clientUs: sumOf(done, (one) => one.cpuUs) / operations,
    serverUs: (after.cpuUs - before.cpuUs) / operations,
  };
}

async function sumOfData(server: BenchServer): Promise<number> {
  const keys = await server.admin.keys('data:*');
  if (keys.length === 0) return 0;
  const values = await server.admin.mget(keys);
  return values.reduce((sum, value) => sum + Number(value), 0);
}

function sumOf(results: readonly AddResult[], of: (one: AddResult) => number): number {
  return results.reduce((sum, one) => sum + of(one), 0);
}

/** All rounds together: medians, and the longest wait of all. */
export function rowOf({ entry, rounds, invalid }: Outcome): Row {
  if (invalid !== undefined) return { name: entry.name, figures: {}, invalid };
  const of = (key: keyof Round): number => median(rounds.map((round) => round[key] as number));
  const waits = waitsOf(rounds);
  const figures = {
    perSecond: of('perSecond'),
    ratio: of('ratio'),
    p50Ms: quantileMs(waits, 0.5),
    p99Ms: quantileMs(waits, 0.99),
    longestMs: Math.max(...rounds.map((round) => round.longestWaitMs)),
    longestHoldMs: Math.max(...rounds.map((round) => round.longestHoldMs)),
    mostPassed: Math.max(...rounds.map((round) => round.mostPassed)),
    jain: of('jain'),
    commands: of('commands'),
    clientUs: of('clientUs'),
    serverUs: of('serverUs'),
    gaveUp: rounds.reduce((sum, round) => sum + round.gaveUp, 0),
  };
  return { name: entry.name, figures };
}

export function waitsOf(rounds: readonly Round[]): Buckets {
  return mergeBuckets(rounds.map((round) => round.waits));
}
