/** Passwords are in URLs, and in nothing that comes out: no error, no cause, no event, no warning. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { inspect } from 'node:util';
import { CHANNELS, LockManager } from 'leasehold';
import { CONSUMER_CHANNELS, consume } from 'leasehold/consumer';
import { memory } from 'leasehold/memory';
import { deadLetters, partitioned, publisher, rabbitmq } from 'leasehold/rabbitmq';
import { redis } from 'leasehold/redis';
import { redlock } from 'leasehold/redlock';
import { zookeeper } from 'leasehold/zookeeper';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nothingEscapes, typedErrorOf } from './settled.ts';

nothingEscapes();

const SECRET = 'hunter2:pa%ss';
const WRITTEN = encodeURIComponent(SECRET);
const USER = 'someone';

/** Servers that refuse, break off, and answer nonsense. */
const BEHAVIOURS: Readonly<Record<string, (socket: Socket) => void>> = {
  'breaks off': (socket) => socket.destroy(),
  'refuses the password': (socket) =>
    socket.on('data', () =>
      socket.write('-WRONGPASS invalid username-password pair\r\n'.repeat(9)),
    ),
  'answers nonsense': (socket) => socket.on('data', () => socket.write('?!\r\n')),
};
const servers = new Map<string, Server>();
const ALL_CHANNELS = [...Object.values(CHANNELS), ...Object.values(CONSUMER_CHANNELS)];
const seen: unknown[] = [];
const note = (message: unknown): number => seen.push(message);

beforeAll(async () => {
  for (const channel of ALL_CHANNELS) subscribe(channel, note);
  process.on('warning', note);
  for (const [name, behave] of Object.entries(BEHAVIOURS)) {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      behave(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    servers.set(name, server);
  }
});

afterAll(() => {
  for (const channel of ALL_CHANNELS) unsubscribe(channel, note);
  process.off('warning', note);
  for (const server of servers.values()) server.close();
});

/** Everything that can be seen of a value: its properties, hidden ones too, and its causes. */
function shown(value: unknown): string {
  return inspect(value, { depth: 12, showHidden: true, getters: true, maxStringLength: null });
}

function expectNoSecret(value: unknown): void {
  const text = shown(value);
  for (const form of [SECRET, WRITTEN, 'hunter2', `:${WRITTEN}@`]) expect(text).not.toContain(form);
}

test.each(Object.keys(BEHAVIOURS))('a server that %s', async (name) => {
  const { port } = (servers.get(name) as Server).address() as AddressInfo;
  const login = `${USER}:${WRITTEN}@127.0.0.1:${port}`;
  const stores = [
    redis(`redis://${login}`, { requestTimeoutMs: 100 }),
    redis(`redis+sentinel://${login}/main`, { requestTimeoutMs: 100 }),
    redlock(
      [0, 1, 2].map((database) => `redis://${login}/${database}`),
      { requestTimeoutMs: 100 },
    ),
  ];
  const use = async (store: (typeof stores)[number]): Promise<void> => {
    const locks = new LockManager({ store, waitMs: 200, ttlMs: 300 });
    const error = await locks.acquire('k').catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(Error);
    expectNoSecret(error);
    await locks.close();
  };
  await Promise.all(stores.map(use));
  expectNoSecret(seen.splice(0));
});

test.each(Object.keys(BEHAVIOURS))('a broker, and a ZooKeeper, that %s', async (name) => {
  const { port } = (servers.get(name) as Server).address() as AddressInfo;
  const login = `${USER}:${WRITTEN}@127.0.0.1:${port}`;
  const url = `amqp://${login}/host?heartbeat=1`;
  const timeouts = { connectTimeoutMs: 300, confirmTimeoutMs: 300 };
  const one = publisher({ url, queue: 'q', ...timeouts });
  const several = publisher({ url: [url, url], queue: partitioned('q', 2), ...timeouts });
  const dead = deadLetters({ url, queue: 'q', ...timeouts });
  const locks = new LockManager({ store: memory() });
  const source = rabbitmq({ url, queue: 'q', openTimeoutMs: 300, ...timeouts });
  const consumer = consume({ source, locks, keyOf: () => 'k', handle: () => {} });
  const auth = { scheme: 'digest', credentials: `${USER}:${SECRET}` };
  const keeper = { connect: `127.0.0.1:${port}`, requestTimeoutMs: 200 };
  const stores = [zookeeper({ ...keeper, auth }), zookeeper(`zookeeper://${login}/root`)];
  const managers = stores.map((store) => new LockManager({ store, waitMs: 300, ttlMs: 300 }));
  const calls = [
    one.publish({ content: '{}' }),
    several.publish({ content: '{}', key: 'k' }),
    dead.list(1),
    consumer.ready,
    ...managers.map((manager) => manager.acquire('k')),
  ];
  for (const { status, ...rest } of await Promise.allSettled(calls)) {
    expect(status).toBe('rejected');
    const { reason: error } = rest as PromiseRejectedResult;
    expect(error).toBeInstanceOf(Error);
    expectNoSecret(error);
  }
  expectNoSecret(await consumer.failed);
  for (const end of [one, several, dead, locks, ...managers]) await end.close();
  await consumer.stop();
  expectNoSecret(seen.splice(0));
});

test.each([
  `amqp://${USER}:hunter2%@h`,
  `amqp://${USER}:hunter2@h:99999`,
  `http://${USER}:hunter2@h`,
  `zookeeper://${USER}:hunter2%@h`,
  `zookeeper://${USER}:hunter2@h:99999`,
  `zookeeper://${USER}:hunter2@/root`,
])('an address that is wrong: %s', async (url) => {
  const make = () =>
    url.startsWith('zookeeper') ? zookeeper(url) : publisher({ url, queue: 'q' });
  const error = await typedErrorOf(make);
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
  expectNoSecret(error);
});

test.each([
  `redis://${USER}:hunter2%@h`,
  `redis://${USER}:hunter2@h:99999`,
  `redis://${USER}:hunter2@h h`,
  `redis+sentinel://${USER}:hunter2%zz@h/m`,
  `redis+sentinel://${USER}:hunter2@h`,
  `http://${USER}:hunter2@h`,
])('a URL that is wrong', (url) => {
  let error: unknown;
  try {
    redis(url);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
  expectNoSecret(error);
});
