import type { Redis } from 'ioredis';
import { type Claim, LockManager, type StoreEvent } from 'leasehold';
import { redis } from 'leasehold/redis';
import { addInTurns, type Entry, rowOf } from '../adding.ts';
import { type Contender, contender, NO_LOCK, OURS } from '../contenders.ts';
import { withCrew } from '../crew.ts';
import {
  type Column,
  type Effort,
  growthPower,
  median,
  type Plot,
  type Row,
  type Table,
  type Workload,
} from '../measure.ts';
import { type BenchServer, withServer } from '../server.ts';

type Points = [number, number][];

const TASKS = 8;
const REPEATS = 30;
const KEY_OPERATIONS = 3_000;
/** Locks that are written at once when the server is filled. */
const FILL = 10_000;
const HOUR_MS = 3_600_000;
const UNITS = 1_000_000;
/** The best of the peers on one hot key, in its best form there. */
const PEER: Contender = contender('redis-semaphore', 5);

export const growth: Workload = {
  name: 'growth',
  summary: 'how cost grows: 1 to 16 processes, 1 to 1,000 waiters, 1 to 1,000,000 keys',
  run: (effort) =>
    withServer(async (server) => {
      const processes = await byProcesses(server, effort);
      const waiters = await byWaiters(server, effort.isQuick ? [1, 100] : [1, 10, 100, 1_000]);
      const sizes = effort.isQuick ? [1, 10_000] : [1, 100, 10_000, 100_000, 1_000_000];
      const keys = await byKeys(server, sizes);
      return {
        workload: 'growth',
        tables: [processes.table, tableOf('waiters', waiters), tableOf('keys', keys)],
        checks: [],
        notes: [
          lawOf('processes', 'operations a second of one key', processes.ours),
          lawOf('waiters', 'the time of a release that hands over', waiters),
          lawOf('keys', 'the time of an acquire and release', keys),
        ],
        plots: plotsOf(processes.series, waiters, keys),
      };
    }),
};

/** One hot key: the more processes, the more hand-overs there are between the same operations. */
async function byProcesses(
  server: BenchServer,
  effort: Effort,
): Promise<{ table: Table; ours: Points; series: Plot['series'] }> {
  const counts = effort.isQuick ? [1, 2] : [1, 2, 4, 8, 16];
  const rows: Row[] = [];
  const ours: Points = [];
  const theirs: Points = [];
  await withCrew(Math.max(...counts), async (crew) => {
    for (const processes of counts) {
      const size = { processes, tasks: TASKS, keys: 1 };
      const entries: Entry[] = [
        { name: 'limit', contender: contender(NO_LOCK), processes: 1, tasks: 1, keys: 1 },
        { name: `${OURS}, ${processes} x ${TASKS}`, contender: contender(OURS), ...size },
        { name: `${PEER.name}, ${processes} x ${TASKS}`, contender: PEER, ...size },
      ];
      const outcomes = await addInTurns(server, crew, entries, { ...effort, rounds: 2 });
      const [, own, other] = outcomes.map(rowOf) as [Row, Row, Row];
      rows.push(own, other);
      ours.push([processes, own.figures['perSecond'] ?? Number.NaN]);
      theirs.push([processes, other.figures['perSecond'] ?? Number.NaN]);
    }
  });
  const columns: Column[] = [
    { key: 'perSecond', label: 'per second', digits: 0 },
    { key: 'ratio', label: 'of one task without a lock', digits: 2 },
    { key: 'p99Ms', label: 'wait p99 ms', digits: 1 },
    { key: 'longestMs', label: 'longest ms', digits: 1 },
  ];
  return {
    table: { title: `one key, processes of ${TASKS} tasks`, columns, rows },
    ours,
    series: [
      { name: OURS, points: ours },
      { name: PEER.name, points: theirs.filter(([, value]) => Number.isFinite(value)) },
    ],
  };
}

/**
 * Microseconds from a drop to the message that grants the key to the first of so many waiters in the store. Whoever
 * dropped it queues again in the same step, so that the number of waiters stays.
 */
async function byWaiters(server: BenchServer, counts: readonly number[]): Promise<Points> {
  const points: Points = [];
  for (const count of counts) {
    await server.admin.flushall();
    const client = server.client();
    const store = redis(client);
    let onGrant: (owner: string) => void = () => {};
    await store.open((event: StoreEvent) => event.is === 'granted' && onGrant(event.owner));
    for (let waiter = 0; waiter <= count; waiter += 1) await store.claim(claimOf(waiter));
    const timesUs: number[] = [];
    let [holder, next] = ['waiter:0', count + 1];
    for (let repeat = 0; repeat < REPEATS; repeat += 1) {
      const granted = new Promise<string>((resolve) => {
        onGrant = resolve;
      });
      const startMs = performance.now();
      const dropped = store.drop({ key: 'many', owner: holder }, claimOf(next));
      holder = await granted;
      timesUs.push((performance.now() - startMs) * 1_000);
      await dropped;
      next += 1;
    }
    points.push([count, median(timesUs)]);
    await store.close();
    client.disconnect();
  }
  return points;
}

function claimOf(waiter: number): Claim {
  const owner = `waiter:${waiter}`;
  return { key: 'many', owner, units: UNITS, capacity: UNITS, ttlMs: HOUR_MS, wait: true };
}

/** Microseconds of an acquire and release on a server that has so many other locks. */
async function byKeys(server: BenchServer, counts: readonly number[]): Promise<Points> {
  const points: Points = [];
  const client = server.client();
  const locks = new LockManager({ store: redis(client) });
  await server.admin.flushall();
  let filled = 0;
  for (const count of counts) {
    await fill(client, filled, count);
    filled = count;
    const timesUs: number[] = [];
    for (let operation = 0; operation < KEY_OPERATIONS; operation += 1) {
      const startMs = performance.now();
      const lease = await locks.acquire(`new:${operation}`);
      await lease.release();
      timesUs.push((performance.now() - startMs) * 1_000);
    }
    points.push([count, median(timesUs)]);
  }
  await locks.close();
  client.disconnect();
  return points;
}

/** Locks as the store writes them, without its round trips. */
async function fill(client: Redis, from: number, to: number): Promise<void> {
  for (let start = from; start < to; start += FILL) {
    const pipeline = client.pipeline();
    for (let number = start; number < Math.min(to, start + FILL); number += 1) {
      const value = `other:1:${number} ${number + 1} ${UNITS} ${HOUR_MS} leasehold:p:other`;
      pipeline.set(`lock:other:${number}`, value, 'PX', HOUR_MS);
    }
    await pipeline.exec();
  }
}

function tableOf(what: string, points: Points): Table {
  return {
    title: `by ${what}`,
    columns: [{ key: 'us', label: 'p50 µs', digits: 0 }],
    rows: points.map(([count, us]) => ({ name: count.toLocaleString('en'), figures: { us } })),
  };
}

function lawOf(what: string, cost: string, points: Points): string {
  return `${cost} goes with the number of ${what} to the power of ${growthPower(points).toFixed(2)}`;
}

function plotsOf(processes: Plot['series'], waiters: Points, keys: Points): Plot[] {
  const log = (label: string): Plot['x'] => ({ label, isLog: true });
  return [
    {
      file: 'growth-processes',
      title: 'Operations a second of one key',
      x: { label: `processes of ${TASKS} tasks`, isLog: false },
      y: { label: 'operations a second', isLog: false },
      series: processes,
    },
    {
      file: 'growth-waiters',
      title: 'A hand-over, by the number of waiters in the store',
      x: log('waiters'),
      y: log('µs'),
      series: [{ name: OURS, points: waiters }],
    },
    {
      file: 'growth-keys',
      title: 'An acquire and release, by the number of other locks',
      x: log('locks on the server'),
      y: log('µs'),
      series: [{ name: OURS, points: keys }],
    },
  ];
}
