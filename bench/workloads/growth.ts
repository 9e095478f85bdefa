import type { Redis } from 'ioredis';
import { type Claim, LockManager, type StoreEvent } from 'leasehold';
import { redis } from 'leasehold/redis';
import { addInTurns, type Entry, LIMIT, rowOf } from '../adding.ts';
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
const PROCESS_COLUMNS: readonly Column[] = [
  { key: 'perSecond', label: 'per second', digits: 0 },
  { key: 'ratio', label: 'of the limit', digits: 2 },
  { key: 'p99Ms', label: 'wait p99 ms', digits: 1 },
  { key: 'longestMs', label: 'longest ms', digits: 1 },
];
/** The best of the peers on one hot key, in its best form there. */
const PEER: Contender = contender('redis-semaphore', 5);

export const growth: Workload = {
  name: 'growth',
  summary: 'how cost grows: 1 to 16 processes, 1 to 1,000 waiters, 1 to 1,000,000 keys',
  run: (effort) =>
    withServer(async (server) => {
      const processes = await byProcesses(server, effort);
      const wanted = await byWantedKeys(server, effort);
      const waiters = await byWaiters(server, effort.isQuick ? [1, 100] : [1, 10, 100, 1_000]);
      const sizes = effort.isQuick ? [1, 10_000] : [1, 100, 10_000, 100_000, 1_000_000];
      const keys = await byKeys(server, sizes);
      return {
        workload: 'growth',
        tables: [processes.table, wanted.table, tableOf('waiters', waiters), tableOf('keys', keys)],
        checks: [],
        notes: [
          lawOf('processes', 'operations a second of one key', processes.ours),
          lawOf('waiters', 'the time of a release that hands over', waiters),
          lawOf('keys', 'the time of an acquire and release', keys),
        ],
        plots: plotsOf(processes.series, wanted.series, waiters, keys),
      };
    }),
};

/** The same tasks over more and more keys: from one that all want to more keys than tasks. */
async function byWantedKeys(
  server: BenchServer,
  effort: Effort,
): Promise<{ table: Table; series: Plot['series'] }> {
  const counts = effort.isQuick ? [1, 16] : [1, 2, 4, 16, 64, 256];
  const size = { processes: 2, tasks: TASKS };
  const subjects = [contender(NO_LOCK), contender(OURS), PEER];
  const rows: Row[] = [];
  const points = subjects.map((): Points => []);
  await withCrew(size.processes, async (crew) => {
    for (const keys of counts) {
      const entries = subjects.map((one, index): Entry => {
        const name = `${index === 0 ? 'limit: no lock, keys of their own' : one.name}, ${keys} keys`;
        return { name, contender: one, ...size, keys: index === 0 ? 0 : keys };
      });
      const outcomes = await addInTurns(server, crew, entries, { ...effort, rounds: 2 });
      for (const [index, row] of outcomes.map(rowOf).entries()) {
        rows.push(row);
        const { perSecond } = row.figures;
        if (perSecond !== undefined) points[index]?.push([keys, perSecond]);
      }
    }
  });
  return {
    table: {
      title: `${size.processes} processes of ${TASKS} tasks, over more and more keys`,
      columns: PROCESS_COLUMNS,
      rows,
    },
    series: subjects.map(({ name }, index) => ({ name, points: points[index] ?? [] })),
  };
}

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
        LIMIT,
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
  return {
    table: { title: `one key, processes of ${TASKS} tasks`, columns: PROCESS_COLUMNS, rows },
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

function plotsOf(
  processes: Plot['series'],
  wanted: Plot['series'],
  waiters: Points,
  keys: Points,
): Plot[] {
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
      file: 'growth-wanted-keys',
      title: `Operations a second over more and more keys, 2 processes of ${TASKS} tasks`,
      x: log('keys that the tasks take'),
      y: { label: 'operations a second', isLog: false },
      series: wanted,
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
