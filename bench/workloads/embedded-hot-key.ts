/**
 * Three processes of eight tasks each want one key all the time. Under the lock they read a counter, add one, and write
 * it back: one small unsynced write. So every operation is a local pass or a hand-over, and a lost update shows.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { open } from 'lmdb';
import { type Check, inFolder, type Report, type Workload, whole } from '../measure.ts';
import type { Order, Tally } from './embedded-hot-key-worker.ts';

const NAME = 'embedded-hot-key';
const PROCESSES = 3;
const TASKS = 8;
const MIN_PER_SECOND = 10_000;
/** The defaults, written down since the bound is made of them. */
const FAIRNESS = { maxPasses: 32, maxPassMs: 100 };

export const embeddedHotKey: Workload = {
  name: NAME,
  summary: `one key, ${PROCESSES} processes of ${TASKS} tasks, read-modify-write under the lock`,
  run: (effort) =>
    inFolder(async (folder) => {
      const durationMs = effort.rounds * effort.roundMs;
      const order: Order = { folder, tasks: TASKS, durationMs, fairness: FAIRNESS };
      const tallies = await runWorkers(order);
      const database = open<{ count: number }>({ path: join(folder, 'data'), noSync: true });
      const count = database.get('counter')?.count ?? 0;
      await database.close();
      return report(tallies, count, durationMs);
    }),
};

async function runWorkers(order: Order): Promise<Tally[]> {
  const program = join(import.meta.dirname, 'embedded-hot-key-worker.js');
  const workers = Array.from({ length: PROCESSES }, () => fork(program));
  try {
    await Promise.all(workers.map((worker) => answerTo(worker, order)));
    return await Promise.all(workers.map((worker) => answerTo<Tally>(worker, 'go')));
  } finally {
    for (const worker of workers) worker.kill();
  }
}

async function answerTo<Answer>(worker: ChildProcess, message: Order | 'go'): Promise<Answer> {
  const stop = new AbortController();
  const { signal } = stop;
  const died = once(worker, 'exit', { signal }).then(([code]) => {
    throw new Error(`a worker ended with ${code}`);
  });
  const answer = once(worker, 'message', { signal }).then(([value]) => value as Answer);
  worker.send(message);
  try {
    return await Promise.race([answer, died]);
  } finally {
    died.catch(() => {});
    answer.catch(() => {});
    stop.abort();
  }
}

function report(tallies: readonly Tally[], count: number, durationMs: number): Report {
  const sum = (of: (tally: Tally) => number): number =>
    tallies.reduce((total, tally) => total + of(tally), 0);
  const most = (of: (tally: Tally) => number): number => Math.max(...tallies.map(of));
  const operations = sum((tally) => tally.operations);
  const handOvers = sum((tally) => tally.handOvers);
  const perSecond = (operations / durationMs) * 1_000;
  const maxWaitMs = most((tally) => tally.maxWaitMs);
  const maxHoldMs = most((tally) => tally.maxHoldMs);
  const maxHandOverMs = most((tally) => tally.maxHandOverMs);
  const boundMs = waitBoundMs(maxHoldMs, maxHandOverMs);
  const checks: Check[] = [
    {
      what: 'the counter',
      measured: whole(count),
      target: `exactly ${whole(operations)}`,
      met: count === operations,
    },
    {
      what: 'tokens that did not increase',
      measured: whole(sum((tally) => tally.staleTokens)),
      target: 'none',
      met: sum((tally) => tally.staleTokens) === 0,
    },
    {
      what: 'hand-overs and local passes a second',
      measured: whole(perSecond),
      target: `>= ${whole(MIN_PER_SECOND)}`,
      met: perSecond >= MIN_PER_SECOND,
    },
    {
      what: 'longest wait',
      measured: `${maxWaitMs.toFixed(1)} ms`,
      target: `within the fairness bound, here ${boundMs.toFixed(1)} ms`,
      met: maxWaitMs <= boundMs,
    },
  ];
  const p50 = tallies.map((tally) => tally.p50WaitMs.toFixed(2)).join(' / ');
  const p99 = tallies.map((tally) => tally.p99WaitMs.toFixed(2)).join(' / ');
  const handOver = tallies
    .map((tally) => (tally.p50HandOverMs ?? Number.NaN).toFixed(2))
    .join(' / ');
  const share = tallies.map((tally) => whole(tally.operations)).join(' / ');
  const perHandOver = (operations / Math.max(1, handOvers)).toFixed(1);
  return {
    workload: NAME,
    tables: [],
    checks,
    plots: [],
    notes: [
      `operations of each process: ${share}; ${whole(handOvers)} grants by the store, one in ${perHandOver}`,
      `wait p50 ${p50} ms, p99 ${p99} ms; longest hold ${maxHoldMs.toFixed(1)} ms`,
      `hand-over p50 ${handOver} ms, longest ${maxHandOverMs.toFixed(1)} ms`,
    ],
  };
}

/**
 * The published bound (docs/ARCHITECTURE.md, "Fairness") with the longest hold and the longest hand-over that were seen:
 * a tenancy of each other process, and one of this process, since its eight tasks fit into one.
 */
function waitBoundMs(holdMs: number, handOverMs: number): number {
  const tenancyMs = Math.min(FAIRNESS.maxPasses * holdMs, FAIRNESS.maxPassMs) + holdMs;
  return PROCESSES * (tenancyMs + handOverMs);
}
