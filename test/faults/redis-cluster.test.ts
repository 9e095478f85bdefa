/**
 * A real cluster of 3 + 3 under load: slots move, masters stop and die, several keys at once live on several nodes.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Cluster } from 'ioredis';
import {
  CHANNELS,
  ClaimRefusedError,
  InvalidArgumentError,
  LockManager,
  type LockManagerOptions,
} from 'leasehold';
import { consume } from 'leasehold/consumer';
import { MemoryQueue, memorySource } from 'leasehold/memory';
import { type RedisOptions, redis, redisState } from 'leasehold/redis';
import { createCluster } from 'redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { slotOf, tagOf } from '../../dist/src/redis/slots.js';
import { until } from '../servers/processes.ts';
import { CALM_MS, RedisCluster, type RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { readHistory, startWorkers } from './redis-register.ts';

const HOST = '127.0.0.1';
/** For locks whose loss is tried again. */
const SHORT = { ttlMs: 1_500 };

lane('a Redis cluster', TOOLS.redis, () => {
  let servers: RedisCluster;
  const closers: (() => unknown)[] = [];
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);
  beforeAll(async () => {
    servers = await RedisCluster.start(3, 1, CALM_MS);
  });
  afterAll(() => servers?.close());
  beforeEach(() => {
    process.on('unhandledRejection', note);
  });
  afterEach(async () => {
    for (const server of [...servers.masters, ...servers.replicas]) server.resume();
    for (const close of closers.splice(0).reverse()) await close();
    process.off('unhandledRejection', note);
    expect(unhandled.splice(0)).toEqual([]);
  });

  /** Whoever is silent is given up soon, until the test is over. */
  async function failOverSoon(): Promise<void> {
    closers.push(() => servers.setNodeTimeout(CALM_MS));
    await servers.setNodeTimeout(1_000);
  }

  const clients = {
    async ioredis({
      socketTimeout = 500,
      ...options
    }: {
      socketTimeout?: number;
      retryDelayOnClusterDown?: number;
    } = {}): Promise<Cluster> {
      const client = new Cluster([...servers.nodes], {
        slotsRefreshInterval: 500,
        redisOptions: { socketTimeout },
        ...options,
      });
      client.on('error', () => {});
      closers.push(() => client.disconnect());
      await new Promise<void>((resolve) => client.once('ready', () => resolve()));
      return client;
    },
    async redis({ socketTimeout = 1_000 } = {}) {
      const rootNodes = servers.nodes.map(({ port }) => ({ url: `redis://${HOST}:${port}` }));
      // Its own strategy gives a connection up for good once it has timed out.
      const socket = { socketTimeout, reconnectStrategy: () => 50 };
      const client = createCluster({
        rootNodes,
        defaults: { pingInterval: 200, socket },
        topologyRefreshOnReconnectionAttemptStrategy: 200,
      });
      client.on('error', () => {});
      closers.push(() => client.destroy());
      await client.connect();
      return client;
    },
  };

  function manager(
    client: Parameters<typeof redis>[0],
    options: Partial<LockManagerOptions> = {},
    redisOptions: RedisOptions = {},
  ) {
    const store = redis(client, { requestTimeoutMs: 500, ...redisOptions });
    const locks = new LockManager({ ttlMs: 60_000, ...options, store });
    closers.push(() => locks.close());
    return locks;
  }

  async function masterOf(slot: number): Promise<RedisServer> {
    for (const server of [...servers.masters, ...servers.replicas]) {
      const ranges = await server.command('CLUSTER', 'SLOTS').catch(() => null);
      if (ranges === null) continue;
      for (const [first, last, [, port]] of ranges as [number, number, [string, number]][]) {
        if (slot < first || slot > last) continue;
        const all = [...servers.masters, ...servers.replicas];
        return all.find((one) => one.port === port) as RedisServer;
      }
    }
    throw new Error(`nobody serves slot ${slot}`);
  }

  test('hash slots are those of the server, and each has a tag', async () => {
    const [master] = servers.masters as [RedisServer];
    for (const key of ['', 'a', 'lock:{tag}x', '{}x', 'a{b', 'a}b{c}', 'ключ{ключ}', '{{x}}']) {
      expect(await master.command('CLUSTER', 'KEYSLOT', key), key).toBe(slotOf(key));
    }
    for (let slot = 0; slot < 16_384; slot += 1) expect(slotOf(`{${tagOf(slot)}}`)).toBe(slot);
  });

  test('a client for one server is told that this is a cluster', async () => {
    const refused = manager(servers.masters[0]?.url as string).acquire('a');
    await expect(refused).rejects.toBeInstanceOf(ClaimRefusedError);
    await expect(refused).rejects.toThrow(/part of a Redis Cluster/);
  });

  describe.each(['ioredis', 'redis'] as const)('with %s', (family) => {
    test('minReplicas is refused', async () => {
      const client = await clients[family]();
      expect(() => redis(client, { minReplicas: 1 })).toThrow(InvalidArgumentError);
    });

    test('names with tags of their own, and several keys on several nodes', async () => {
      const make = async () => manager(await clients[family](), {}, { requestTimeoutMs: 10_000 });
      const [one, other] = [await make(), await make()];
      const keys = ['a', 'b', 'c', 'd{user:1}', 'e{user:1}', 'a}b', 'a{b', '{}'];
      expect(new Set(keys.map((key) => slotOf(`lock:${key}`) % 3)).size).toBe(3);
      const set = await one.acquire(keys);
      for (const key of keys) expect(await other.tryAcquire(key), key).toBeNull();
      const waiting = other.acquire(keys);
      await set.release();
      await (await waiting).release();
    });

    test('states of many slots, asked for in one turn, travel in runs of their slots', async () => {
      // Each is made once, however slow the machine is.
      const client = await clients[family]({ socketTimeout: 60_000 });
      const state = redisState(client, { requestTimeoutMs: 60_000 });
      closers.push(() => state.close());
      await state.open();
      const lease = { tokenText: '9'.padStart(20, '0') };
      const keys = Array.from({ length: 50 }, (_, index) => `slots:${index}`);
      const outcomes = await Promise.all(
        keys.map((key) =>
          state.commit({ key, lease, id: key, expectedVersion: 0, value: key, messages: [] }),
        ),
      );
      expect(outcomes).toEqual(keys.map(() => ({ is: 'committed', version: 1 })));
      expect(await Promise.all(keys.map((key) => state.peek(key)))).toEqual(keys);
    });

    test('a slot that moves under load costs nothing but time', { timeout: 120_000 }, async () => {
      const managers = [];
      for (let index = 0; index < 3; index += 1)
        managers.push(manager(await clients[family](), SHORT));
      const workers = startWorkers(managers, await clients[family](), 'moving');
      const slot = slotOf('lock:moving');
      await until('there is load', () => workers.done > 50);
      for (let move = 0; move < 3; move += 1) {
        const from = await masterOf(slot);
        const to = (await mastersNow()).find((one) => one !== from) as RedisServer;
        await moveSlot(slot, from, to);
        const before = workers.done;
        await until('work goes on', () => workers.done > before + 50);
      }
      await workers.stop();
      await expectWhole(slotOf('{register}:value'));
    });

    test('a state whose slot moves, key by key, applies each message once', {
      timeout: 120_000,
    }, async () => {
      const prefix = `${family}:`;
      const queue = new MemoryQueue();
      const consumers = await Promise.all(
        [1, 2].map(async () => {
          const client = await clients[family]();
          return consume<number, number>({
            source: memorySource(queue, { prefetch: 20 }),
            locks: manager(client, SHORT),
            state: redisState(client, { prefix, requestTimeoutMs: 500 }),
            keyOf: () => 'moving',
            maxBatch: 5,
            reduce: (sum, messages) => messages.reduce((all, { body }) => all + body, sum ?? 0),
          });
        }),
      );
      closers.push(() => Promise.all(consumers.map((consumer) => consumer.stop({ graceMs: 0 }))));
      const metrics = () => consumers.map((consumer) => consumer.metrics());
      const settled = () => metrics().reduce((all, one) => all + one.applied + one.duplicates, 0);
      const sent = { messages: 0, copies: 0, sum: 0 };
      const isIn = (copies: number) => () => settled() >= copies;
      // Every third message comes twice. More are sent while there are few, so that there is always load.
      const timer = setInterval(() => {
        for (; sent.copies < settled() + 100; sent.messages += 1) {
          const message = { id: `m-${sent.messages}`, content: String(sent.messages) };
          sent.sum += sent.messages;
          for (let copy = 0; copy < (sent.messages % 3 === 0 ? 2 : 1); copy += 1) {
            sent.copies += 1;
            void queue.publish(message);
          }
        }
      }, 1);
      closers.push(() => clearInterval(timer));
      const slot = slotOf(`${prefix}moving`);
      await until('there is load', isIn(500));
      for (let move = 0; move < 3; move += 1) {
        const from = await masterOf(slot);
        const keys = (await from.command('CLUSTER', 'GETKEYSINSLOT', slot, 100)) as string[];
        // The state, and a hash of ids that are not young any more.
        expect(keys.length).toBeGreaterThan(1);
        const to = (await mastersNow()).find((one) => one !== from) as RedisServer;
        await moveSlot(slot, from, to, 1);
        await until('work goes on', isIn(settled() + 500));
      }
      clearInterval(timer);
      const state = redisState(await clients[family](), { prefix, requestTimeoutMs: 10_000 });
      closers.push(() => state.close());
      await state.open();
      await until('all is settled', isIn(sent.copies));
      await Promise.all(consumers.map((consumer) => consumer.stop()));
      expect(await state.peek('moving')).toBe(String(sent.sum));
    });

    test('a slot that moves away unnoticed leaves the others of its node heard', async () => {
      const locks = manager(await clients[family](), { ttlMs: 60_000 });
      const [left, right] = namesOfOneNode(family, servers.masters.length);
      for (const name of [left, right]) await (await locks.acquire(name)).release();
      const [moving, staying] = [slotOf(`lock:${left}`), slotOf(`lock:${right}`)];
      const from = await masterOf(moving);
      const to = (await mastersNow()).find((one) => one !== from) as RedisServer;
      // Nobody asks for a key of that slot, so the client does not learn by itself where it is now.
      await moveSlot(moving, from, to);
      await until('both are heard', async () => {
        const there = (await to.command('PUBSUB', 'SHARDCHANNELS', '*')) as string[];
        const here = (await from.command('PUBSUB', 'SHARDCHANNELS', '*')) as string[];
        return (
          there.some((one) => one.endsWith(`{${tagOf(moving)}}`)) &&
          here.some((one) => one.endsWith(`{${tagOf(staying)}}`))
        );
      });
    });

    // A cluster client of node-redis stays with a master that hangs until its connection is cut: its own limit.
    const faults = family === 'ioredis' ? (['pause', 'kill'] as const) : (['kill'] as const);
    test.each(faults)(
      'work goes on when a master fails (%s); the fence keeps the history whole',
      { timeout: 120_000 },
      async (fault) => {
        const managers = [];
        for (let index = 0; index < 3; index += 1)
          managers.push(manager(await clients[family](), SHORT));
        const workers = startWorkers(managers, await clients[family](), 'failing');
        const slot = slotOf('lock:failing');
        await until('there is load', () => workers.done > 50);
        const old = await masterOf(slot);
        await failOverSoon();
        if (fault === 'pause') old.pause();
        else await old.kill();
        const others = [...servers.masters, ...servers.replicas].filter((one) => one !== old);
        await until('a replica is promoted', async () => {
          const ranges = (await others[0]?.command('CLUSTER', 'SLOTS')) as [
            number,
            number,
            [string, number],
          ][];
          return ranges.every(([, , [, port]]) => port !== old.port);
        });
        const before = workers.done;
        await until('work goes on', () => workers.done > before + 50);
        if (fault === 'pause') old.resume();
        else await old.startAgain();
        await workers.stop();
        await until('it is a replica now', async () => {
          return String(await old.command('INFO', 'replication')).includes('master_link_status:up');
        });
        await expectWhole(slotOf('{register}:value'));
      },
    );
  });

  test('a cluster that is down is named, and waited for', { timeout: 120_000 }, async () => {
    const locks = manager(await clients.redis(), { ttlMs: 60_000 });
    const ioredisLocks = manager(await clients.ioredis(), { ttlMs: 60_000 });
    const [alive, ...others] = (await mastersNow()) as [RedisServer, ...RedisServer[]];
    const key = await nameOn(alive);
    for (const one of [locks, ioredisLocks]) await (await one.acquire(key)).release();
    const causes: string[] = [];
    const note = (message: unknown) => causes.push((message as { cause: Error }).cause.message);
    subscribe(CHANNELS.storeError, note);
    closers.push(() => unsubscribe(CHANNELS.storeError, note));
    // One of three is no majority: it refuses everything, and nobody may take the others' places.
    await failOverSoon();
    for (const server of others) server.pause();
    await until('it is down', () => isDown(alive));
    const waiting = [locks.acquire(key), ioredisLocks.acquire(key)];
    await until('that is named', () => causes.some((cause) => cause.includes('CLUSTERDOWN')));
    for (const server of others) server.resume();
    await Promise.all(waiting.map(async (lease) => (await lease).release()));
  });

  test('a claim that the client holds back until after its drop takes nothing', async () => {
    // ioredis tries again by itself, later than the store gives up, and what was called since may come before it.
    const client = await clients.ioredis({ retryDelayOnClusterDown: 2_000 });
    const replies: Promise<unknown>[] = [];
    const evalsha = client.evalsha.bind(client);
    client.evalsha = ((...args: Parameters<typeof evalsha>) => {
      const reply = evalsha(...args);
      replies.push(reply.catch(() => {}));
      return reply;
    }) as Cluster['evalsha'];
    const locks = manager(client, { ttlMs: 600_000 });
    const [alive, ...others] = (await mastersNow()) as [RedisServer, ...RedisServer[]];
    const key = await nameOn(alive);
    await (await locks.acquire(key)).release();
    await failOverSoon();
    for (const server of others) server.pause();
    await until('it is down', () => isDown(alive));
    const claimed = replies.length;
    const lease = locks.acquire(key);
    await until('it is claimed', () => replies.length > claimed);
    for (const server of others) server.resume();
    await (await lease).release();
    await until('all is answered', async () => {
      const { length } = replies;
      await Promise.all(replies);
      return replies.length === length;
    });
    await (await manager(await clients.redis()).acquire(key)).release();
  });

  async function isDown(server: RedisServer): Promise<boolean> {
    return String(await server.command('CLUSTER', 'INFO')).includes('cluster_state:fail');
  }

  /** Failovers of other tests have changed who is one. */
  async function mastersNow(): Promise<RedisServer[]> {
    const masters: RedisServer[] = [];
    for (const server of [...servers.masters, ...servers.replicas]) {
      if (String(await server.command('ROLE')).startsWith('master')) masters.push(server);
    }
    return masters;
  }

  /** A lock whose slot that master serves. */
  async function nameOn(master: RedisServer): Promise<string> {
    for (let index = 0; ; index += 1) {
      if ((await masterOf(slotOf(`lock:${index}`))) === master) return String(index);
    }
  }

  async function expectWhole(slot: number): Promise<void> {
    const client = (await masterOf(slot)).client();
    closers.push(() => client.disconnect());
    const history = await readHistory(client);
    expect(history.value).toBeGreaterThan(0);
    expect(history.tokens.length).toBe(history.value);
    await client.del('{register}:value', '{register}:log');
  }
});

/** Two names of different slots that the first node has. */
function namesOfOneNode(prefix: string, nodes: number): [string, string] {
  const names: string[] = [];
  for (let index = 0; names.length < 2; index += 1) {
    if (slotOf(`lock:${prefix}:${index}`) < Math.floor(16_384 / nodes))
      names.push(`${prefix}:${index}`);
  }
  return names as [string, string];
}

async function moveSlot(
  slot: number,
  from: RedisServer,
  to: RedisServer,
  keysAtOnce = 100,
): Promise<void> {
  const [fromId, toId] = [
    await from.command('CLUSTER', 'MYID'),
    await to.command('CLUSTER', 'MYID'),
  ];
  await to.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', String(fromId));
  await from.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', String(toId));
  let keys: string[];
  do {
    keys = (await from.command('CLUSTER', 'GETKEYSINSLOT', slot, keysAtOnce)) as string[];
    if (keys.length > 0) {
      await from.command('MIGRATE', HOST, to.port, '', 0, 5_000, 'KEYS', ...keys);
    }
  } while (keys.length > 0);
  await to.command('CLUSTER', 'SETSLOT', slot, 'NODE', String(toId));
  await from.command('CLUSTER', 'SETSLOT', slot, 'NODE', String(toId));
}
