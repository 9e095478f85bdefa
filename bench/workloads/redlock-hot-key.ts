/**
 * One key on three independent masters that sixteen tasks of two processes want all the time: this package, and the
 * Redlock of its peers. The work under the lock reads a number from a fourth server, adds one and writes it back.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LockManager } from 'leasehold';
import { redlock } from 'leasehold/redlock';
import { type Contender, contender, OURS, peers } from '../contenders.ts';
import {
  atLeast,
  atMost,
  type Check,
  type Column,
  type Effort,
  median,
  type Report,
  type Row,
  type Workload,
  warmUpMs,
} from '../measure.ts';
import { BenchServer } from '../server.ts';

const NAME = 'redlock-hot-key';
const NODES = 3;
const PROCESSES = 2;
const TASKS = 8;
const MIN_OF_PEERS = 3;
/** The defaults of a `LockManager`: what the fairness bound is made of, see docs/ARCHITECTURE.md. */
const MAX_PASSES = 32;
const MAX_PASS_MS = 100;
/** A contender that goes on for so long after its time has come to a stand. */
const MAX_LATE_MS = 10_000;
/** Of these, the fastest is taken for each peer. */
const POLLS_MS = [5, 20] as const;
const WORKER = join(import.meta.dirname, 'redlock-hot-key-worker.js');

const run = promisify(execFile);

interface Tally {
  readonly total: number;
  readonly measured: number;
  readonly longestWaitMs: number;
  readonly longestHoldMs: number;
}

interface Figures {
  readonly perSecond: number;
  readonly longestMs: number;
  /** How long this package may let the other process wait, by its longest hold, messages left out. */
  readonly boundMs: number;
}

interface Outcome {
  readonly contender: Contender;
  readonly rounds: Figures[];
  invalid?: string;
}

const COLUMNS: readonly Column[] = [
  { key: 'perSecond', label: 'per second', digits: 0 },
  { key: 'longestMs', label: 'longest wait ms', digits: 1 },
  { key: 'boundMs', label: 'fairness bound ms', digits: 1 },
  { key: 'ours', label: 'ours is so many times', digits: 1 },
];

export const redlockHotKey: Workload = {
  name: NAME,
  summary: `one key on ${NODES} independent masters, ${PROCESSES} processes of ${TASKS} tasks`,
  async run(effort) {
    const servers = await Promise.all(Array.from({ length: NODES + 1 }, () => BenchServer.start()));
    try {
      await untilAllVote(servers.slice(0, NODES));
      return report(await inTurns(servers, effort));
    } finally {
      await Promise.all(servers.map((server) => server.close()));
    }
  },
};

/** New masters abstain at first: nobody could know that they have not forgotten anything. */
async function untilAllVote(masters: readonly BenchServer[]): Promise<void> {
  const clients = masters.map((master) => master.client());
  const locks = new LockManager({ store: redlock(clients) });
  await locks.withLock('first', async () => {});
  await locks.close();
  for (const client of clients) client.disconnect();
}

async function inTurns(servers: readonly BenchServer[], effort: Effort): Promise<Outcome[]> {
  const polls = effort.isQuick ? POLLS_MS.slice(0, 1) : [null, ...POLLS_MS];
  const able = peers(polls).filter(({ package: name }) => name !== '@verrou/core');
  let outcomes = [contender(OURS), ...able].map((one): Outcome => ({ contender: one, rounds: [] }));
  for (let round = 0; round <= effort.rounds; round += 1) {
    for (const outcome of outcomes) {
      if (outcome.invalid !== undefined) continue;
      try {
        outcome.rounds.push(await oneRound(outcome.contender, servers, effort));
      } catch (error) {
        outcome.invalid = String(error);
      }
    }
    if (round > 0) continue;
    outcomes = outcomes.filter((outcome) => isBestTuned(outcome, outcomes));
    // It was to choose by, and does not count.
    for (const outcome of outcomes) outcome.rounds.length = 0;
  }
  return outcomes;
}

/** Of the ways to poll, and of all that fail, one for each peer. */
function isBestTuned(outcome: Outcome, all: readonly Outcome[]): boolean {
  const speed = ({ rounds }: Outcome): number => rounds[0]?.perSecond ?? -1;
  const group = all.filter((one) => one.contender.package === outcome.contender.package);
  return group.reduce((best, one) => (speed(one) > speed(best) ? one : best)) === outcome;
}

async function oneRound(
  { package: name, pollMs }: Contender,
  servers: readonly BenchServer[],
  effort: Effort,
): Promise<Figures> {
  await Promise.all(servers.map((server) => server.admin.del('data', `hot:${name}`)));
  const data = servers[NODES] as BenchServer;
  const ports = servers.slice(0, NODES).map(({ port }) => port);
  const durationMs = effort.roundMs * 3;
  const warmMs = Math.max(effort.roundMs, warmUpMs(effort));
  const args = [ports.join(','), data.port, name, pollMs, TASKS, warmMs, durationMs].map(String);
  const timeout = warmMs + durationMs + MAX_LATE_MS;
  const processes = Array.from({ length: PROCESSES }, () =>
    run(process.execPath, [WORKER, ...args], { timeout, killSignal: 'SIGKILL' }),
  );
  // Both have ended before the next contender begins.
  const ended = await Promise.allSettled(processes);
  if (ended.some(({ status }) => status === 'rejected')) {
    throw new Error(`it failed, or had not ended ${MAX_LATE_MS} ms after its time`);
  }
  const tallies = (await Promise.all(processes)).map(({ stdout }) => JSON.parse(stdout) as Tally);
  const sum = (of: (tally: Tally) => number): number =>
    tallies.reduce((before, tally) => before + of(tally), 0);
  const [count, total] = [Number(await data.admin.get('data')), sum((tally) => tally.total)];
  if (count !== total) throw new Error(`wrong sum: ${count} in Redis after ${total} additions`);
  const perSecond = (sum((tally) => tally.measured) / durationMs) * 1_000;
  if (perSecond === 0) throw new Error('it did nothing in this time');
  const longestMs = Math.max(...tallies.map((tally) => tally.longestWaitMs));
  const holdMs = Math.max(...tallies.map((tally) => tally.longestHoldMs));
  const boundMs = Math.min(MAX_PASSES * holdMs, MAX_PASS_MS) + holdMs;
  return { perSecond, longestMs, boundMs };
}

function report(outcomes: readonly Outcome[]): Report {
  const [ours] = outcomes as [Outcome];
  const rows = outcomes.map((outcome) => rowOf(outcome, ours));
  const valid = rows.slice(1).filter(({ invalid }) => invalid === undefined);
  const best = Math.min(...valid.map(({ figures }) => figures['ours'] ?? 0));
  const waited = median(ours.rounds.map(({ longestMs, boundMs }) => longestMs / boundMs));
  const checks: Check[] = [
    atLeast('of the best peer', best, MIN_OF_PEERS),
    atMost('longest wait, of the fairness bound', waited, 1),
  ];
  return {
    workload: NAME,
    tables: [{ title: `${PROCESSES} processes of ${TASKS} tasks`, columns: COLUMNS, rows }],
    checks,
    notes: [
      'each peer with its defaults or polling every 5 or 20 ms, whichever was fastest in a first round',
      'the fairness bound: 32 passes or 100 ms, and one hold, by the longest hold of a round; messages are left out',
      'every sum of every round was right; @verrou/core has no Redlock',
    ],
    plots: [],
  };
}

function rowOf(outcome: Outcome, ours: Outcome): Row {
  const { rounds, invalid } = outcome;
  const { name } = outcome.contender;
  if (invalid !== undefined) return { name, figures: {}, invalid };
  const of = (value: (one: Figures, round: number) => number): number => median(rounds.map(value));
  const figures = {
    perSecond: of(({ perSecond }) => perSecond),
    longestMs: of(({ longestMs }) => longestMs),
    ...(outcome === ours && { boundMs: of(({ boundMs }) => boundMs) }),
    // Round by round, since the speed of the machine drifts.
    ours: of(({ perSecond }, round) => (ours.rounds[round]?.perSecond ?? Number.NaN) / perSecond),
  };
  return { name, figures };
}
