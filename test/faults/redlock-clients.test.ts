/**
 * Redlock among clients of other kinds, under configurations that cannot be right, and between processes that contend.
 */
import { setTimeout } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import {
  ClaimRefusedError,
  InvalidArgumentError,
  type LeaseStore,
  LockManager,
  StoreUnavailableError,
} from 'leasehold';
import { redlock } from 'leasehold/redlock';
import { RedlockMutex } from 'redis-semaphore';
import Redlock from 'redlock';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { RedisCluster, RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const KEY = 'order:7';
const LOCK = `lock:${KEY}`;

lane('Redlock and others', TOOLS.redis, () => {
  let servers: RedisServer[];
  let clients: Redis[];
  const closers: (() => unknown)[] = [];

  beforeAll(async () => {
    servers = await Promise.all([1, 2, 3, 4].map(() => RedisServer.start()));
    clients = servers.map((server) => server.client());
  });
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
    await Promise.all(clients.map((client) => client.del(LOCK)));
  });
  afterAll(async () => {
    for (const client of clients) client.disconnect();
    await Promise.all(servers.map((server) => server.close()));
  });

  const urls = (count = 3): string[] => servers.slice(0, count).map(({ url }) => url);

  function manager(store: LeaseStore = redlock(urls(), { durable: true })): LockManager {
    const locks = new LockManager({ store });
    closers.push(() => locks.close());
    return locks;
  }

  describe('clients of other kinds', () => {
    test('redlock excludes and is excluded', async () => {
      const theirs = new Redlock(clients.slice(0, 3) as never[], { retryCount: 0 });
      const locks = manager();
      const lease = await locks.acquire(KEY);
      await expect(theirs.acquire([LOCK], 1_000)).rejects.toThrow();
      await lease.release();
      const lock = await theirs.acquire([LOCK], 10_000);
      expect(await locks.tryAcquire(KEY)).toBeNull();
      const waiting = locks.acquire(KEY);
      await lock.release();
      await (await waiting).release();
    });

    test('the mutex of redis-semaphore excludes and is excluded', async () => {
      const theirs = new RedlockMutex(clients.slice(0, 3) as never[], KEY, {
        lockTimeout: 10_000,
        acquireAttemptsLimit: 1,
      });
      const locks = manager(redlock(urls(), { durable: true, prefix: 'mutex:' }));
      const lease = await locks.acquire(KEY);
      expect(await theirs.tryAcquire()).toBe(false);
      await lease.release();
      expect(await theirs.tryAcquire()).toBe(true);
      expect(await locks.tryAcquire(KEY)).toBeNull();
      await theirs.release();
      await (await locks.acquire(KEY)).release();
    });

    test('data under the name of a lock on a majority is refused, and left as it is', async () => {
      const locks = manager();
      await clients[0]?.set(LOCK, 'a total');
      await (await locks.acquire(KEY)).release();
      await clients[1]?.set(LOCK, 'a total');
      await expect(locks.acquire(KEY)).rejects.toThrow(/which is data and not a lock/);
      expect(await clients[0]?.get(LOCK)).toBe('a total');
    });

    test('what anybody publishes on its channel is passed over', async () => {
      const locks = manager();
      const client = clients[0] as Redis;
      await (await locks.acquire(KEY)).release();
      const [channel] = (await client.pubsub('CHANNELS', 'leasehold:p:*')) as [string];
      for (const text of ['', 'null', '{}', '[]', '["available"]', '["granted","x","y",1]']) {
        expect(await client.publish(channel, text)).toBe(1);
      }
      await (await locks.acquire(KEY)).release();
    });
  });

  describe('what cannot be right', () => {
    test('fewer than three masters, one that is given twice, or something else', () => {
      const [a, b] = urls(2) as [string, string];
      for (const nodes of [[], [a, b], [a, b, a], 'redis://127.0.0.1', null]) {
        expect(() => redlock(nodes as never)).toThrow(InvalidArgumentError);
      }
      expect(() => redlock(urls(), { maxTtlMs: 0 })).toThrow(/maxTtlMs is a whole number/);
    });

    test('the same server behind two addresses', async () => {
      const proxy = await TcpProxy.start(servers[0]?.port ?? 0);
      closers.push(() => proxy.close());
      const locks = manager(redlock([...urls(2), `redis://127.0.0.1:${proxy.port}`]));
      const refused = locks.acquire(KEY);
      await expect(refused).rejects.toBeInstanceOf(ClaimRefusedError);
      await expect(refused).rejects.toThrow(/node 1 and node 3 are the same server/);
    });

    test('a cluster, or a node of one', async () => {
      const { Cluster } = await import('ioredis');
      const cluster = await RedisCluster.start(3, 0);
      closers.push(() => cluster.close());
      const client = new Cluster(cluster.nodes, { lazyConnect: true });
      expect(() => redlock([...urls(2), client as never])).toThrow(/not independent/);
      client.disconnect();
      const locks = manager(redlock([...urls(2), cluster.masters[0]?.url ?? '']));
      await expect(locks.acquire(KEY)).rejects.toThrow(/node 3 is part of a Redis Cluster/);
    });

    test('readers, permits, and a ttl that is longer than maxTtlMs', async () => {
      const locks = manager();
      await expect(locks.acquire(KEY, { mode: 'shared' })).rejects.toThrow(/exclusive locks only/);
      await expect(locks.acquire(KEY, { limit: 3 })).rejects.toThrow(/exclusive locks only/);
      await expect(locks.acquire(KEY, { ttlMs: 10_001 })).rejects.toThrow(/raise maxTtlMs/);
    });

    test('a lease whose successor is refused is dropped all the same', async () => {
      const store = redlock(urls(), { durable: true, requestTimeoutMs: 2_000 });
      await store.open(() => {});
      closers.push(() => store.close());
      const claim = { key: KEY, owner: 'a', units: 1, capacity: 1, ttlMs: 10_000, wait: false };
      expect(await store.claim(claim)).toMatchObject({ is: 'granted' });
      const rejected: unknown[] = [];
      const note = (reason: unknown): number => rejected.push(reason);
      process.on('unhandledRejection', note);
      const again = { ...claim, owner: 'b', ttlMs: 10_001 };
      const { held, next } = await store.drop(claim, again);
      expect(held).toBe(true);
      expect(next).toMatchObject({ is: 'refused' });
      await until('the node has no lock', async () => (await clients[0]?.get(LOCK)) === null);
      // Twice as long as anything of it could have been watched.
      await setTimeout(4_000);
      process.off('unhandledRejection', note);
      expect(rejected).toEqual([]);
    });

    test('nodes that are not there: named, and used once they are', async () => {
      const [, second, third] = servers as [RedisServer, RedisServer, RedisServer];
      await Promise.all([second.kill(), third.kill()]);
      const locks = manager();
      await expect(locks.acquire(KEY, { waitMs: 300 })).rejects.toBeInstanceOf(
        StoreUnavailableError,
      );
      const waiting = locks.acquire(KEY);
      await Promise.all([second.startAgain(), third.startAgain()]);
      await (await waiting).release();
    });
  });

  describe('processes that contend', () => {
    const ROUNDS = 40;

    /** Counts claims that are sent, those of a swap included. */
    function counting(store: LeaseStore, counts: { claims: number }): LeaseStore {
      return {
        name: store.name,
        guarantees: store.guarantees,
        open: (on) => store.open(on),
        claim(claim) {
          counts.claims += 1;
          return store.claim(claim);
        },
        renew: (claims) => store.renew(claims),
        drop(claim, again) {
          if (again) counts.claims += 1;
          return store.drop(claim, again);
        },
        close: () => store.close(),
      };
    }

    /** Each takes the lock so often, and wants it again at once. The winners in their order. */
    async function contend(managers: readonly LockManager[], rounds: number): Promise<number[]> {
      const winners: number[] = [];
      const work = managers.map(async (locks, index) => {
        for (let round = 0; round < rounds; round += 1) {
          await locks.withLock(KEY, async (lease) => {
            lease.assertHeld();
            winners.push(index);
            await setTimeout(0);
          });
        }
      });
      await Promise.all(work);
      return winners;
    }

    test('none starves, and few claims are in vain', async () => {
      const processes = 6;
      const counts = { claims: 0 };
      const managers = Array.from({ length: processes }, () => {
        const store = counting(redlock(urls(), { durable: true }), counts);
        const locks = new LockManager({ store, fairness: { maxPasses: 0 } });
        closers.push(() => locks.close());
        return locks;
      });
      const winners = await contend(managers, ROUNDS);
      expect(winners).toHaveLength(processes * ROUNDS);
      let longest = 0;
      for (let one = 0; one < processes; one += 1) {
        const turns = winners.flatMap((winner, at) => (winner === one ? [at] : []));
        for (const [index, at] of turns.slice(1).entries()) {
          longest = Math.max(longest, at - (turns[index] as number) - 1);
        }
      }
      const claimsEach = counts.claims / winners.length;
      process.stderr.write(
        `Redlock, ${processes} processes: at most ${longest} others between two turns of one, ` +
          `${claimsEach.toFixed(2)} claims a grant\n`,
      );
      // A fair line has five others between. Without one, somebody waits until the others are done.
      expect(longest).toBeLessThan(5 * processes);
      expect(claimsEach).toBeLessThan(8);
    });

    test('an even number of nodes that is split evenly: somebody wins', async () => {
      const counts = { claims: 0 };
      const managers: LockManager[] = [];
      for (const near of [
        [0, 1],
        [2, 3],
      ]) {
        // Two nodes are near to each of the two, and the others far: both get two votes of four, which is no majority.
        const proxies = await Promise.all(servers.map(({ port }) => TcpProxy.start(port)));
        for (const [index, proxy] of proxies.entries()) {
          if (!near.includes(index)) proxy.delay(15);
        }
        closers.push(() => Promise.all(proxies.map((proxy) => proxy.close())));
        const addresses = proxies.map(({ port }) => `redis://127.0.0.1:${port}`);
        const store = counting(redlock(addresses, { durable: true }), counts);
        const locks = new LockManager({ store });
        closers.push(() => locks.close());
        managers.push(locks);
      }
      await until('both are open', async () => {
        // One after the other: together, they would split this key as well.
        for (const locks of managers) {
          const lease = await locks.tryAcquire('warm-up');
          if (lease === null) return false;
          await lease.release();
        }
        return true;
      });
      counts.claims = 0;
      for (let round = 0; round < 10; round += 1) {
        let inside = 0;
        const both = managers.map((locks) =>
          locks.withLock(KEY, async () => {
            inside += 1;
            expect(inside).toBe(1);
            await setTimeout(1);
            inside -= 1;
          }),
        );
        await Promise.all(both);
      }
      process.stderr.write(`Redlock, split evenly: ${counts.claims / 20} claims a grant\n`);
      expect(counts.claims / 20).toBeLessThan(20);
    });
  });
});
