import { publisher } from 'leasehold/rabbitmq';
import { redisState } from 'leasehold/redis';
import { RabbitServer } from '../../test/servers/rabbitmq.ts';
import { type Contender, contender, NO_LOCK, OURS } from '../contenders.ts';
import { type Crew, withCrew } from '../crew.ts';
import {
  atLeast,
  atMost,
  type Check,
  type Column,
  type Effort,
  median,
  type Row,
  type Table,
  type Workload,
} from '../measure.ts';
import { type BenchServer, withServer } from '../server.ts';

const PROCESSES = 2;
const PREFETCH = 100;
const PUBLISHED_AT_ONCE = 500;
const MESSAGES = 20_000;
/** The peers take a lock for each message, and would take minutes for all. */
const MESSAGES_OF_PEERS = 1_000;
const QUICK_MESSAGES = 500;
const KEYS = [1, 100, 10_000] as const;
const MIN_OF_LIMIT: Readonly<Record<number, number>> = { 1: 1, 100: 0.7, 10000: 0.7 };
const MIN_OF_PEER = 15;
const MAX_P99_MS = 50;
const COLUMNS: readonly Column[] = [
  { key: 'perSecond', label: 'messages a second', digits: 0 },
  { key: 'ratio', label: 'of the limit', digits: 2 },
  { key: 'p99Ms', label: 'delivery to acknowledge, p99 ms', digits: 0 },
];

export const story: Workload = {
  name: 'story',
  summary: 'contributions from a RabbitMQ quorum queue, added to totals in Redis by two processes',
  run: (effort) =>
    withServer(async (server) => {
      const broker = await RabbitServer.start();
      try {
        return await withCrew(PROCESSES, async (crew) => {
          const tables: Table[] = [];
          for (const keys of effort.isQuick ? [1] : KEYS) {
            tables.push(await measure({ server, broker, crew, keys, effort }));
          }
          return {
            workload: 'story',
            tables,
            checks: tables.flatMap((table, index) => checksOf(table, KEYS[index] ?? 1)),
            notes: [
              'the limit adds with a bare INCRBY, which neither leaves out duplicates nor works for other effects than sums',
              'peers: lock, GET, SET, unlock and acknowledge for each message, with fewer messages',
              'the p99 of leasehold is the upper bound of a bucket of its metrics',
            ],
            plots: [],
          };
        });
      } finally {
        await broker.close();
      }
    }),
};

interface Parts {
  readonly server: BenchServer;
  readonly broker: RabbitServer;
  readonly crew: Crew;
  readonly keys: number;
  readonly effort: Effort;
}

async function measure(parts: Parts): Promise<Table> {
  const contenders = [
    contender(NO_LOCK),
    contender(OURS),
    contender('redis-semaphore', 5),
    contender('@verrou/core', 5),
  ];
  const rounds = contenders.map((): Row['figures'][] => []);
  const invalid = contenders.map((): string | undefined => undefined);
  for (let round = 0; round < (parts.effort.isQuick ? 1 : 3); round += 1) {
    let limit = Number.NaN;
    for (const [index, one] of contenders.entries()) {
      if (invalid[index] !== undefined) continue;
      try {
        const done = await drainQueue(parts, one, `story-${parts.keys}-${index}-${round}`);
        if (index === 0) limit = done['perSecond'] ?? Number.NaN;
        rounds[index]?.push({ ...done, ratio: (done['perSecond'] ?? 0) / limit });
      } catch (error) {
        invalid[index] = error instanceof Error ? error.message : String(error);
      }
    }
  }
  const rows = contenders.map((one, index): Row => {
    const name = one.package === NO_LOCK ? 'limit: INCRBY, no lock' : one.name;
    const reason = invalid[index];
    if (reason !== undefined) return { name, figures: {}, invalid: reason };
    const of = (key: string): number =>
      median((rounds[index] ?? []).map((figures) => figures[key] ?? Number.NaN));
    const figures = { perSecond: of('perSecond'), ratio: of('ratio'), p99Ms: of('p99Ms') };
    return { name, figures };
  });
  const title = `${parts.keys.toLocaleString('en')} accounts, ${PROCESSES} processes, prefetch ${PREFETCH}`;
  return { title, columns: COLUMNS, rows };
}

async function drainQueue(parts: Parts, one: Contender, queue: string): Promise<Row['figures']> {
  const { server, broker, crew, keys, effort } = parts;
  const isPeer = one.package !== NO_LOCK && one.package !== OURS;
  const full = isPeer ? MESSAGES_OF_PEERS : MESSAGES;
  const count = effort.isQuick ? QUICK_MESSAGES : full;
  await server.admin.flushall();
  await publish(broker.url, queue, count, keys);
  const { port } = server;
  const job = { kind: 'consume', port, contender: one, amqpUrl: broker.url, queue } as const;
  const done = await crew.run({ ...job, prefetch: PREFETCH });
  const total = await totalOf(server, keys, one);
  if (total !== count) throw new Error(`wrong sum: ${total} in Redis after ${count} additions`);
  const worked = done.filter((result) => result.count > 0);
  const firstAtMs = Math.min(...worked.map((result) => result.firstAtMs));
  const lastAtMs = Math.max(...worked.map((result) => result.lastAtMs));
  return {
    perSecond: (count / Math.max(1, lastAtMs - firstAtMs)) * 1_000,
    p99Ms: Math.max(...worked.map((result) => result.p99Ms)),
  };
}

export async function publish(
  url: string,
  queue: string,
  count: number,
  keys: number,
): Promise<void> {
  const producer = publisher({ url, queue });
  for (let from = 0; from < count; from += PUBLISHED_AT_ONCE) {
    const numbers = Array.from(
      { length: Math.min(PUBLISHED_AT_ONCE, count - from) },
      (_, index) => from + index,
    );
    await Promise.all(
      numbers.map((number) => {
        // Some accounts are busier than others: the square of a uniform number leans to the first ones.
        const account = `account:${Math.floor(Math.random() ** 2 * keys)}`;
        const content = JSON.stringify({ account, amount: 1 });
        return producer.publish({ id: `${queue}:${number}`, content });
      }),
    );
  }
  await producer.close();
}

async function totalOf(server: BenchServer, keys: number, one: Contender): Promise<number> {
  const accounts = Array.from({ length: keys }, (_, index) => `account:${index}`);
  if (one.package !== OURS) {
    const values = await server.admin.mget(accounts.map((account) => `total:${account}`));
    return values.reduce((sum, value) => sum + Number(value ?? 0), 0);
  }
  const state = redisState(server.admin);
  await state.open();
  let sum = 0;
  for (const account of accounts) sum += Number((await state.peek(account)) ?? 0);
  await state.close();
  return sum;
}

function checksOf({ title, rows }: Table, keys: number): Check[] {
  const [, ours, ...others] = rows;
  const speedOf = (row: Row | undefined): number => row?.figures['perSecond'] ?? 0;
  const best = Math.max(...others.map(speedOf));
  return [
    atLeast(`${title}: of the bare INCRBY`, ours?.figures['ratio'] ?? 0, MIN_OF_LIMIT[keys] ?? 1),
    atLeast(`${title}: of the best peer`, speedOf(ours) / best, MIN_OF_PEER),
    ...(keys === 1
      ? [atMost(`${title}: p99 ms`, ours?.figures['p99Ms'] ?? Infinity, MAX_P99_MS, 0)]
      : []),
  ];
}
