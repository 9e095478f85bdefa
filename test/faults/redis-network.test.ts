/**
 * What lies between a client and a Redis server: lost replies and messages, connections that are cut or dead, addresses
 * that follow a failover, and storms of reconnects. With every family of clients.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setTimeout } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { CHANNELS, LockManager, type LockManagerOptions, StoreUnavailableError } from 'leasehold';
import { type RedisOptions, redis } from 'leasehold/redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { makeClient } from '../conformance/fixtures/redis-client.mjs';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const KEY = 'order:7';
const FAMILIES = ['url', 'ioredis', 'ioredis5', 'redis', 'redis5'] as const;
/** So long that whoever is served was not served by a time-out. */
const LONG_MS = 600_000;

const isSubscriber = (sent: string): boolean => /\r\ns?subscribe\r\n/i.test(sent);
const isStep = (bytes: Buffer): boolean => /\r\nevalsha\r\n/i.test(String(bytes));

lane('the network before a Redis server', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  let proxy: TcpProxy;
  const closers: (() => unknown)[] = [];
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);
  beforeAll(async () => {
    server = await RedisServer.start();
    client = server.client();
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });
  beforeEach(async () => {
    process.on('unhandledRejection', note);
    await client.flushall();
    proxy = await TcpProxy.start(server.port);
  });
  afterEach(async () => {
    proxy.forward();
    for (const close of closers.splice(0).reverse()) await close();
    await proxy.close();
    process.off('unhandledRejection', note);
    expect(unhandled.splice(0)).toEqual([]);
  });

  async function manager(
    family: (typeof FAMILIES)[number] = 'url',
    options: Partial<LockManagerOptions> = {},
    redisOptions: RedisOptions = {},
  ): Promise<LockManager> {
    const made = await makeClient({ family, url: `redis://127.0.0.1:${proxy.port}` });
    const store = redis(made.from, { requestTimeoutMs: 500, ...redisOptions });
    const locks = new LockManager({ ttlMs: LONG_MS, waitMs: 50_000, ...options, store });
    closers.push(async () => {
      await locks.close();
      await made.end();
    });
    await (await locks.acquire('warm-up')).release();
    return locks;
  }

  async function waiting(key: string): Promise<void> {
    await until('it waits', async () => (await client.exists(`leasehold:m:lock:${key}`)) === 1);
  }

  /** Nothing but the memory of the last epoch. */
  async function nothingIsLeft(): Promise<void> {
    await until('no key is left', async () => (await client.dbsize()) === 1);
    expect(await client.keys('*')).toEqual(['leasehold:epoch']);
  }

  describe.each(FAMILIES)('with %s', (family) => {
    test('a claim and a release whose replies are lost are made again, and converge', async () => {
      const [one, other] = [await manager(family), await manager(family)];
      const claimed = proxy.loseReply((bytes) => bytes.includes(`lock:${KEY}`));
      const lease = await one.acquire(KEY);
      await claimed;
      // It is the grant of the first attempt, of which nobody heard.
      const value = (await client.get(`lock:${KEY}`)) ?? '';
      expect(value.split(' ')[1]).toBe(String(lease.token / 4096n));

      const next = other.acquire(KEY);
      await waiting(KEY);
      const dropped = proxy.loseReply((bytes) => bytes.includes(`lock:${KEY}`));
      await lease.release();
      await dropped;
      const successor = await next;
      expect(successor.token).toBeGreaterThan(lease.token);
      await successor.release();
      await nothingIsLeft();
    });

    test('a grant whose message is lost is found when the listener is back', async () => {
      const [one, other] = [await manager(family), await manager(family)];
      const lease = await one.acquire(KEY);
      const next = other.acquire(KEY);
      await waiting(KEY);
      const lost = proxy.loseMessage((bytes) => bytes.includes('granted'));
      await lease.release();
      await lost;
      await (await next).release();
      await nothingIsLeft();
    });

    test('a listener whose connection died in silence listens anew', async () => {
      const [one, other] = [await manager(family), await manager(family)];
      const lease = await one.acquire(KEY);
      const next = other.acquire(KEY);
      await waiting(KEY);
      proxy.blackholeSome(isSubscriber);
      await lease.release();
      await (await next).release();
      await nothingIsLeft();
    });

    test.each([
      ['nothing passes', []],
      ['no reply passes', ['replies']],
    ] as const)(
      'while %s a lease ends by its deadline, and what arrives late does no harm',
      async (_, ways) => {
        // Long enough to find them waiting on a machine that stalls.
        const options = { ttlMs: 2_500 };
        const [one, other] = [await manager(family, options), await manager(family, options)];
        const lease = await one.acquire(KEY);
        const next = other.acquire(KEY);
        await waiting(KEY);
        proxy.blackhole(...ways);
        await until('the lease is lost', () => lease.signal.aborted);
        await expect(one.acquire('another', { waitMs: 600 })).rejects.toBeInstanceOf(
          StoreUnavailableError,
        );
        proxy.forward();
        const successor = await next;
        expect(successor.token).toBeGreaterThan(lease.token);
        await successor.release();
        await (await one.acquire('another')).release();
        await nothingIsLeft();
      },
    );

    // A client of node-redis 5 whose connection closes during its handshake hangs for ever: its own limit.
    test.skipIf(family === 'redis5')(
      'a client without a connection is not given more and more to send',
      async () => {
        const causes: string[] = [];
        const locks = await manager(family, { ttlMs: 900 });
        const end = onStoreError((cause) => causes.push(cause.message));
        closers.push(end);
        proxy.refuse();
        const waits = locks.acquire(KEY);
        await until('it has tried often', () => {
          return (
            causes.filter((one) => /no connection|not writ|writeable|closed/i.test(one)).length > 5
          );
        });
        end();
        proxy.forward();
        await (await waits).release();
        await nothingIsLeft();
      },
    );
  });

  test('an answer from before a listener was there does not end it', async () => {
    const locks = await manager('url', {}, { requestTimeoutMs: 60_000 });
    await client.set(`lock:${KEY}`, 'a client of another kind', 'PX', 600_000);
    const listens = async () =>
      ((await client.pubsub('CHANNELS', 'leasehold:*')) as string[]).length;
    // Nothing new gets through, and what is claimed now is answered later.
    proxy.retarget(1);
    proxy.cut(isSubscriber);
    await until('it does not listen', async () => (await listens()) === 0);
    proxy.blackholeSome(() => true, 'replies');
    const waits = locks.acquire(KEY);
    await waiting(KEY);
    proxy.retarget(server.port);
    await until('it listens again', async () => (await listens()) === 1);
    const { connections } = proxy;
    proxy.forward();
    await client.del(`lock:${KEY}`);
    await (await waits).release();
    await (await locks.acquire(KEY)).release();
    expect(proxy.connections).toBe(connections);
  });

  test('no update is lost while reply after reply is', { timeout: 120_000 }, async () => {
    const managers = [await manager(), await manager('redis'), await manager('ioredis5')];
    const rounds = 10;
    let counter = 0;
    const work = managers.map(async (locks) => {
      for (let round = 0; round < rounds; round += 1) {
        await locks.withLock(KEY, async () => {
          const read = counter;
          await setTimeout(1);
          counter = read + 1;
        });
      }
    });
    const state = { over: false };
    const all = Promise.all(work).finally(() => Object.assign(state, { over: true }));
    all.catch(() => {});
    let losses = 0;
    while (!state.over && losses < 10) {
      const before = counter;
      await Promise.race([proxy.loseReply(isStep), all]);
      losses += 1;
      await until('some get through in between', () => state.over || counter > before);
    }
    proxy.forward();
    await all;
    expect(counter).toBe(managers.length * rounds);
    expect(losses).toBe(10);
    await nothingIsLeft();
  });

  test('work is right over a slow network', async () => {
    const managers = [await manager(), await manager('redis')];
    proxy.delay(10);
    let inside = 0;
    const work = managers.map(async (locks) => {
      for (let round = 0; round < 10; round += 1) {
        await locks.withLock(KEY, async (lease) => {
          inside += 1;
          expect(inside).toBe(1);
          await setTimeout(1);
          lease.assertHeld();
          inside -= 1;
        });
      }
    });
    await Promise.all(work);
    proxy.forward();
    await nothingIsLeft();
  });

  test('a storm of cuts leaves as many connections as before, and leases', async () => {
    const managers: LockManager[] = [];
    // A request that a slow machine keeps waiting is no reason to connect once more.
    const patient = { requestTimeoutMs: 60_000 };
    for (let index = 0; index < 15; index += 1) managers.push(await manager('url', {}, patient));
    const leases = await Promise.all(managers.map((locks, index) => locks.acquire(`own:${index}`)));
    const connections = 2 * managers.length;
    await until('all are there', () => proxy.open === connections);
    const cuts = 8;
    for (let cut = 0; cut < cuts; cut += 1) {
      proxy.cut();
      await until('all are back', () => proxy.open === connections);
      // Each came back by one connection for each that it had lost.
      expect(proxy.connections).toBeLessThanOrEqual(connections * (cut + 2));
    }
    for (const lease of leases) {
      expect(lease.state).toBe('held');
      await lease.release();
    }
    await Promise.all(managers.map((locks) => locks.withLock(KEY, async () => {})));
    await nothingIsLeft();
  });

  describe('an address that follows a failover', () => {
    test.each([
      ['READONLY', ['--replica-serve-stale-data', 'yes']],
      ['MASTERDOWN', ['--replica-serve-stale-data', 'no']],
    ])('%s: the store goes where it leads now', async (answer, settings) => {
      const old = await RedisServer.start(settings);
      closers.push(() => old.close());
      proxy.retarget(old.port);
      const options = { ttlMs: 1_500 };
      const [one, other] = [await manager('url', options), await manager('url', options)];
      await one.acquire(KEY);
      const next = other.acquire(KEY);
      // It becomes a replica of a master that cannot be reached, and keeps its connections.
      await old.command('REPLICAOF', '127.0.0.1', 1);
      // Again when a machine that stalls has used up the time before anything was known.
      await vi.waitFor(
        async () => {
          await expect(one.acquire('another', { waitMs: 400 })).rejects.toMatchObject({
            cause: { message: expect.stringContaining(answer) },
          });
        },
        { timeout: 60_000 },
      );
      proxy.retarget(server.port);
      // The new master knows nothing of either.
      const successor = await next;
      await successor.release();
      await (await one.acquire('another')).release();
    });
  });
});

/** Why calls to a store were not answered. */
function onStoreError(note: (cause: Error) => void): () => void {
  const listen = (message: unknown): void => note((message as { cause: Error }).cause);
  subscribe(CHANNELS.storeError, listen);
  return () => unsubscribe(CHANNELS.storeError, listen);
}
