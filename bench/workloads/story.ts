import { partitioned, publisher } from 'leasehold/rabbitmq';
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
/** Each process reads half of them. */
const PARTITIONS = 4;
const PUBLISHED_AT_ONCE = 1_000;
const MESSAGES = 100_000;
/** The peers take a lock for each message, and would take minutes for all. */
const MESSAGES_OF_PEERS = 2_000;
const QUICK_MESSAGES = 2_000;
const QUICK_MESSAGES_OF_PEERS = 300;
const ROUNDS = 3;
const KEYS = [1, 100, 10_000] as const;
const MIN_OF_LIMIT: Readonly<Record<number, number>> = { 1: 1, 100: 0.7, 10000: 0.7 };
const MIN_OF_LIMIT_IN_MEMORY = 1;
const MIN_OF_PEER = 15;
const MAX_P99_MS = 50;
const COLUMNS: readonly Column[] = [
  { key: 'perSecond', label: 'messages a second', digits: 0 },
  { key: 'ratio', label: 'of the limit', digits: 2 },
  { key: 'ofPeer', label: 'of the best peer', digits: 1 },
  { key: 'p99Ms', label: 'delivery to acknowledge, p99 ms', digits: 0 },
];

/** One row: who consumes, and how. */
interface Entry {
  readonly name: string;
  readonly contender: Contender;
  readonly partitions: number;
  readonly isPeer: boolean;
}

const LIMIT: Entry = entry('limit: INCRBY, no lock', contender(NO_LOCK));
const LEASEHOLD: Entry = entry('leasehold', contender(OURS));
const ACTOR: Entry = {
  ...entry(`leasehold, ${PARTITIONS} partitions, states in memory`, contender(OURS)),
  partitions: PARTITIONS,
};
const PEERS: readonly Entry[] = ['redis-semaphore', '@verrou/core'].map((name) => {
  const peer = contender(name, 5);
  return { ...entry(peer.name, peer), isPeer: true };
});

function entry(name: string, of: Contender): Entry {
  return { name, contender: of, partitions: 0, isPeer: false };
}

/** With one key there is nothing to spread. */
function entriesFor(keys: number): readonly Entry[] {
  return keys === 1 ? [LIMIT, LEASEHOLD, ...PEERS] : [LIMIT, LEASEHOLD, ACTOR, ...PEERS];
}

export const story: Workload = {
  name: 'story',
  summary: 'contributions from a RabbitMQ quorum queue, added to totals in Redis by two processes',
  run: (effort) =>
    withServer(async (server) => {
      const broker = await RabbitServer.start();
      try {
        return await withCrew(PROCESSES, async (crew) => {
          const tables: Table[] = [];
          const checks: Check[] = [];
          for (const keys of effort.isQuick ? KEYS.slice(0, 2) : KEYS) {
            const table = await measure({ server, broker, crew, keys, effort });
            tables.push(table);
            checks.push(...checksOf(table, keys));
          }
          return {
            workload: 'story',
            tables,
            checks,
            notes: [
              'every total is compared with what was published; a row with a wrong one is void',
              'the limit adds with a bare INCRBY, which neither leaves out duplicates nor works for other effects than sums',
              'peers: lock, GET, SET, unlock and acknowledge for each message, with fewer messages',
              'leasehold takes no lock that is free, as its states are on the server of its locks (elideLock)',
              'with partitions, the time in which the second process gets its half of them counts',
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
  const { keys, effort } = parts;
  const entries = entriesFor(keys);
  const rounds = entries.map((): Row['figures'][] => []);
  const invalid = entries.map((): string | undefined => undefined);
  for (let round = 0; round < (effort.isQuick ? 1 : ROUNDS); round += 1) {
    let limit = Number.NaN;
    for (const [index, one] of entries.entries()) {
      if (invalid[index] !== undefined) continue;
      try {
        const done = await drainQueue(parts, one, `story-${keys}-${index}-${round}`);
        if (one === LIMIT) limit = done['perSecond'] ?? Number.NaN;
        rounds[index]?.push({ ...done, ratio: (done['perSecond'] ?? 0) / limit });
      } catch (error) {
        invalid[index] = error instanceof Error ? error.message : String(error);
      }
    }
  }
  const of = (index: number, key: string): number =>
    median((rounds[index] ?? []).map((figures) => figures[key] ?? Number.NaN));
  const isValidPeer = (one: Entry, index: number): boolean =>
    one.isPeer && invalid[index] === undefined;
  const bestPeer = Math.max(
    ...entries.map((one, index) => (isValidPeer(one, index) ? of(index, 'perSecond') : 0)),
  );
  const rows = entries.map(({ name }, index): Row => {
    const reason = invalid[index];
    if (reason !== undefined) return { name, figures: {}, invalid: reason };
    const perSecond = of(index, 'perSecond');
    const ofPeer = perSecond / bestPeer;
    return {
      name,
      figures: { perSecond, ratio: of(index, 'ratio'), ofPeer, p99Ms: of(index, 'p99Ms') },
    };
  });
  const title = `${keys.toLocaleString('en')} ${keys === 1 ? 'account' : 'accounts'}, ${PROCESSES} processes, prefetch ${PREFETCH}`;
  return { title, columns: COLUMNS, rows };
}

async function drainQueue(parts: Parts, one: Entry, queue: string): Promise<Row['figures']> {
  const { server, broker, crew, effort } = parts;
  const [full, quick] = one.isPeer
    ? [MESSAGES_OF_PEERS, QUICK_MESSAGES_OF_PEERS]
    : [MESSAGES, QUICK_MESSAGES];
  const count = effort.isQuick ? quick : full;
  await server.admin.flushall();
  const published = await publish(parts, one, queue, count);
  const done = await crew.run({
    kind: 'consume',
    port: server.port,
    contender: one.contender,
    amqpUrl: broker.url,
    queue,
    prefetch: PREFETCH,
    partitions: one.partitions,
  });
  await compareTotals(server, one, published);
  const worked = done.filter((result) => result.count > 0);
  const firstAtMs = Math.min(...worked.map((result) => result.firstAtMs));
  const lastAtMs = Math.max(...worked.map((result) => result.lastAtMs));
  return {
    perSecond: (count / Math.max(1, lastAtMs - firstAtMs)) * 1_000,
    p99Ms: Math.max(...worked.map((result) => result.p99Ms)),
  };
}

/** What was published, by account. */
export async function publish(
  { broker, keys }: Pick<Parts, 'broker' | 'keys'>,
  { partitions }: Pick<Entry, 'partitions'>,
  queue: string,
  count: number,
): Promise<ReadonlyMap<string, number>> {
  const published = new Map<string, number>();
  const place = partitions === 0 ? queue : partitioned(queue, partitions);
  const producer = publisher({ url: broker.url, queue: place });
  const publishOne = (number: number): Promise<string> => {
    // Some accounts are busier than others: the square of a uniform number leans to the first ones.
    const account = `account:${Math.floor(Math.random() ** 2 * keys)}`;
    const amount = 1 + (number % 5);
    published.set(account, (published.get(account) ?? 0) + amount);
    const content = JSON.stringify({ account, amount });
    return producer.publish({ id: `${queue}:${number}`, content, key: account });
  };
  for (let from = 0; from < count; from += PUBLISHED_AT_ONCE) {
    const size = Math.min(PUBLISHED_AT_ONCE, count - from);
    await Promise.all(Array.from({ length: size }, (_, index) => publishOne(from + index)));
  }
  await producer.close();
  return published;
}

/** Throws when a total is not what was published. */
async function compareTotals(
  server: BenchServer,
  { contender: { package: who } }: Entry,
  published: ReadonlyMap<string, number>,
): Promise<void> {
  const accounts = [...published.keys()];
  const totals =
    who === OURS
      ? await readStates(server, accounts)
      : await server.admin.mget(accounts.map((account) => `total:${account}`));
  for (const [index, account] of accounts.entries()) {
    const total = Number(totals[index] ?? 0);
    const right = published.get(account);
    if (total !== right) throw new Error(`wrong sum: ${total} for ${account}, not ${right}`);
  }
}

async function readStates(
  server: BenchServer,
  accounts: readonly string[],
): Promise<readonly (string | null)[]> {
  const state = redisState(server.admin);
  await state.open();
  try {
    return await Promise.all(accounts.map((account) => state.peek(account)));
  } finally {
    await state.close();
  }
}

function checksOf({ title, rows }: Table, keys: number): Check[] {
  const figureOf = ({ name }: Entry, key: string, none: number): number =>
    rows.find((row) => row.name === name)?.figures[key] ?? none;
  const checks = [
    atLeast(
      `${title}: of the bare INCRBY`,
      figureOf(LEASEHOLD, 'ratio', 0),
      MIN_OF_LIMIT[keys] ?? 1,
    ),
  ];
  if (keys > 1) {
    const inMemory = figureOf(ACTOR, 'ratio', 0);
    return [
      ...checks,
      atLeast(`${title}, states in memory: of it`, inMemory, MIN_OF_LIMIT_IN_MEMORY),
    ];
  }
  // Peers suffer from one key; over many keys nothing can be so much faster, as it would be above the limit.
  return [
    ...checks,
    atLeast(`${title}: of the best peer`, figureOf(LEASEHOLD, 'ofPeer', 0), MIN_OF_PEER),
    atMost(`${title}: p99 ms`, figureOf(LEASEHOLD, 'p99Ms', Infinity), MAX_P99_MS, 0),
  ];
}
