/**
 * What a real Redis server does to locks: it hangs, restarts, forgets scripts, runs out of memory, becomes a replica,
 * cuts connections, refuses rights, and is shared with clients of other kinds.
 */
import { setTimeout } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import {
  AcquireTimeoutError,
  ClaimRefusedError,
  type Lease,
  LeaseLostError,
  LockManager,
  type LockManagerOptions,
  StoreUnavailableError,
} from 'leasehold';
import { type RedisOptions, redis } from 'leasehold/redis';
import { Mutex } from 'redis-semaphore';
import Redlock from 'redlock';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { until } from '../servers/processes.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const KEY = 'order:7';
const LOCK = `lock:${KEY}`;
/** A machine that stalls may use up the time of a claim before anything is known: it is made again. */
const WAIT = { timeout: 60_000 };

lane('one Redis server', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  const closers: (() => unknown)[] = [];
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);

  beforeEach(async () => {
    process.on('unhandledRejection', note);
    server = await RedisServer.start(['--busy-reply-threshold', '50', '--repl-timeout', '60']);
    client = server.client();
  });
  afterEach(async () => {
    server.resume();
    for (const close of closers.splice(0).reverse()) await close();
    client.disconnect();
    await server.close();
    process.off('unhandledRejection', note);
    expect(unhandled.splice(0)).toEqual([]);
  });

  function manager(
    options: Partial<LockManagerOptions> = {},
    redisOptions: RedisOptions = {},
    from: string = server.url,
  ): LockManager {
    const store = redis(from, { requestTimeoutMs: 10_000, ...redisOptions });
    const locks = new LockManager({ ttlMs: 60_000, ...options, store });
    closers.push(() => locks.close());
    return locks;
  }

  describe('clients of other kinds', () => {
    test('the published single-node algorithm excludes and is excluded', async () => {
      const locks = manager();
      const lease = await locks.acquire(KEY);
      expect(await client.set(LOCK, 'theirs', 'PX', 1_000, 'NX')).toBeNull();
      await lease.release();
      expect(await client.set(LOCK, 'theirs', 'PX', 60_000, 'NX')).toBe('OK');
      expect(await locks.tryAcquire(KEY)).toBeNull();
      const waiting = locks.acquire(KEY);
      await until('it waits', async () => (await client.exists(`leasehold:m:${LOCK}`)) === 1);
      await client.del(LOCK);
      await (await waiting).release();
    });

    test('shared leases and permits exclude them too', async () => {
      const locks = manager();
      for (const options of [{ mode: 'shared' }, { limit: 3 }] as const) {
        const lease = await locks.acquire(KEY, options);
        expect(await client.set(LOCK, 'theirs', 'PX', 1_000, 'NX')).toBeNull();
        await lease.release();
        expect(await client.exists(LOCK)).toBe(0);
      }
    });

    test('redlock', async () => {
      const theirs = new Redlock([client as never], { retryCount: 0 });
      const locks = manager();
      const lease = await locks.acquire(KEY);
      await expect(theirs.acquire([LOCK], 1_000)).rejects.toThrow();
      await lease.release();
      const lock = await theirs.acquire([LOCK], 60_000);
      expect(await locks.tryAcquire(KEY)).toBeNull();
      await lock.release();
      await (await locks.acquire(KEY)).release();
    });

    test('redis-semaphore', async () => {
      const theirs = new Mutex(client as never, KEY, {
        lockTimeout: 60_000,
        acquireAttemptsLimit: 1,
      });
      const locks = manager({}, { prefix: 'mutex:' });
      const lease = await locks.acquire(KEY);
      expect(await theirs.tryAcquire()).toBe(false);
      await lease.release();
      expect(await theirs.tryAcquire()).toBe(true);
      expect(await locks.tryAcquire(KEY)).toBeNull();
      await theirs.release();
      await (await locks.acquire(KEY)).release();
    });

    test('data under the name of a lock is refused, and left as it is', async () => {
      const locks = manager();
      await client.set(LOCK, 'a total');
      await client.hset(`${LOCK}-hash`, 'field', 'value');
      for (const key of [KEY, `${KEY}-hash`]) {
        await expect(locks.acquire(key)).rejects.toThrow(/which is data and not a lock/);
        await expect(locks.acquire(key)).rejects.toBeInstanceOf(ClaimRefusedError);
      }
      expect(await client.get(LOCK)).toBe('a total');
    });

    test('a lock that is deleted by hand is lost at the next renewal, shared ones too', async () => {
      const locks = manager({ ttlMs: 300 });
      const lease = await locks.acquire(KEY);
      const shared = await locks.acquire('shared', { mode: 'shared' });
      await client.del(LOCK, 'lock:shared');
      await until('both are lost', () => lease.state === 'lost' && shared.state === 'lost');
      await (await locks.acquire('shared')).release();
    });
  });

  test('a flushed script cache is no error', async () => {
    const locks = manager();
    await (await locks.acquire(KEY)).release();
    await client.script('FLUSH');
    await (await locks.acquire(KEY)).release();
  });

  test('every key that is made has an expiry', async () => {
    const [one, other] = [manager(), manager()];
    const leases = await Promise.all([
      one.acquire('a'),
      one.acquire('b', { mode: 'shared' }),
      one.acquire('c', { limit: 2 }),
    ]);
    const waiting = ['a', 'b'].map((key) => other.acquire(key));
    await until('they wait', async () => (await client.exists('leasehold:m:lock:a')) === 1);
    for (const key of await client.keys('*'))
      expect(await client.pttl(key), key).toBeGreaterThan(0);
    for (const lease of leases) await lease.release();
    for (const lease of await Promise.all(waiting)) await lease.release();
  });

  test('waiters are woken again after the connection that listens was cut', async () => {
    const [one, other] = [manager({ ttlMs: 30_000 }), manager({ ttlMs: 30_000 })];
    const lease = await one.acquire(KEY);
    const waiting = other.acquire(KEY);
    await until('it waits', async () => (await client.exists(`leasehold:m:${LOCK}`)) === 1);
    await client.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await until('both listen again', async () => {
      return ((await client.pubsub('CHANNELS', 'leasehold:*')) as string[]).length === 2;
    });
    await lease.release();
    // Long before the waiter would have claimed again by itself, after 10,000 ms.
    const handed = await Promise.race([waiting, setTimeout(8_000, null, { ref: false })]);
    expect(handed).not.toBeNull();
    await handed?.release();
  });

  test('a hand-over that nobody could hear is found as soon as the listener is back', async () => {
    const [one, other] = [manager(), manager()];
    const lease = await one.acquire(KEY);
    const waiting = other.acquire(KEY);
    await until('it waits', async () => (await client.exists(`leasehold:m:${LOCK}`)) === 1);
    await client.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await lease.release();
    // Long before the waiter would have claimed again by itself, after 20,000 ms.
    const handed = await Promise.race([waiting, setTimeout(15_000, null, { ref: false })]);
    expect(handed).not.toBeNull();
    await handed?.release();
  });

  test('work goes on while connections are cut again and again', async () => {
    const managers = [manager(), manager(), manager()];
    let inside = 0;
    let done = 0;
    const work = managers.map(async (locks) => {
      for (let round = 0; round < 10; round += 1) {
        await locks.withLock(KEY, async (lease) => {
          lease.assertHeld();
          inside += 1;
          expect(inside).toBe(1);
          await setTimeout(1);
          inside -= 1;
          done += 1;
        });
      }
    });
    const all = Promise.all(work);
    const state = { over: false };
    void all.finally(() => Object.assign(state, { over: true })).catch(() => {});
    while (!state.over) {
      const before = done;
      await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      await client.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
      await setTimeout(40);
      // A slow machine might need longer than that to connect, each time.
      await until('some get through in between', () => state.over || done > before);
    }
    await all;
    expect(done).toBe(30);
  });

  test('a server that hangs costs the lease by its deadline, and serves who waits when it goes on', async () => {
    // Long enough to find them waiting on a machine that stalls.
    const make = () => manager({ ttlMs: 5_000 }, { requestTimeoutMs: 500 });
    const [one, other] = [make(), make()];
    const lease = await one.acquire(KEY);
    const waiting = other.acquire(KEY);
    await until('it waits', async () => (await client.exists(`leasehold:m:${LOCK}`)) === 1);
    server.pause();
    await until('the lease is lost', () => lease.signal.aborted);
    expect(lease.signal.reason).toBeInstanceOf(LeaseLostError);
    await expect(one.acquire('another', { waitMs: 800 })).rejects.toBeInstanceOf(
      StoreUnavailableError,
    );
    server.resume();
    await (await waiting).release();
    await (await one.acquire(KEY)).release();
  });

  test('a killed server that comes back with its data keeps the lease, and serves who waits', async () => {
    const [one, other] = [manager({ ttlMs: 20_000 }), manager({ ttlMs: 20_000 })];
    const lease = await one.acquire(KEY);
    const waiting = other.acquire(KEY);
    await until('it waits', async () => (await client.exists(`leasehold:m:${LOCK}`)) === 1);
    await server.kill();
    await server.startAgain();
    expect(lease.state).not.toBe('lost');
    await until('both listen again', async () => {
      return ((await client.pubsub('CHANNELS', 'leasehold:*')) as string[]).length === 2;
    });
    await lease.release();
    const next = await waiting;
    expect(next.token).toBeGreaterThan(lease.token);
    await next.release();
  });

  test('a server that is not there at first is waited for, and named when it never comes', async () => {
    await server.kill();
    const locks = manager();
    const failed = locks.acquire(KEY, { waitMs: 200 });
    await expect(failed).rejects.toBeInstanceOf(StoreUnavailableError);
    const waiting = locks.acquire(KEY);
    await server.startAgain();
    await (await waiting).release();
  });

  test('a replica refuses; the claim is served once it is a master again', async () => {
    const locks = manager();
    await (await locks.acquire(KEY)).release();
    await client.replicaof('127.0.0.1', 1);
    await vi.waitFor(async () => {
      await expect(locks.acquire(KEY, { waitMs: 300 })).rejects.toMatchObject({
        cause: { message: expect.stringMatching(/READONLY/) },
      });
    }, WAIT);
    const waiting = locks.acquire(KEY);
    await client.replicaof('NO', 'ONE');
    await (await waiting).release();
  });

  test('a server out of memory still hands over and releases', async () => {
    const [one, other] = [manager(), manager()];
    const lease = await one.acquire(KEY);
    const waiting = other.acquire(KEY);
    await until('it waits', async () => (await client.exists(`leasehold:m:${LOCK}`)) === 1);
    const used = /used_memory:(\d+)/.exec(await client.info('memory'))?.[1] ?? '0';
    await client.set('ballast', 'x'.repeat(1_000_000));
    await client.config('SET', 'maxmemory', used);
    await vi.waitFor(async () => {
      await expect(one.acquire('another', { waitMs: 300 })).rejects.toMatchObject({
        cause: { message: expect.stringMatching(/OOM/) },
      });
    }, WAIT);
    await lease.release();
    const next = await waiting;
    await next.release();
    expect(await client.exists(LOCK)).toBe(0);
    await client.config('SET', 'maxmemory', '0');
    await (await one.acquire('another')).release();
  });

  test('a server out of memory still extends what is held, and keeps the places of who waits', async () => {
    const [one, other, third] = [
      manager({ ttlMs: 6_000, identity: 'holder' }),
      manager(),
      manager({ ttlMs: 6_000, identity: 'waiter' }),
    ];
    const leases = [
      await one.acquire(KEY, { mode: 'shared' }),
      await other.acquire(KEY, { mode: 'shared' }),
    ];
    const waiting = third.acquire(KEY);
    await until('it waits', async () => (await client.zcard(`leasehold:o:${LOCK}`)) === 4);
    await client.set('ballast', 'x'.repeat(1_000_000));
    await client.config('SET', 'maxmemory', '1mb');
    // When those that must be heard from meanwhile would count as dead.
    const ends = () => client.zmscore(`leasehold:o:${LOCK}`, 'dholder:1', 'dwaiter:1');
    const before = await ends();
    await until('both are heard from', async () => {
      return (await ends()).every((end, at) => Number(end) > Number(before[at]));
    });
    expect(leases.map(({ state }) => state)).toEqual(['held', 'held']);
    expect(await client.zrank(`leasehold:o:${LOCK}`, 'qwaiter:1')).toBe(0);
    for (const lease of leases) await lease.release();
    await (await waiting).release();
    await client.config('SET', 'maxmemory', '0');
  });

  test('an owner value that another begins with frees nothing of the other', async () => {
    const store = redis(server.url);
    await store.open(() => {});
    closers.push(() => store.close());
    const claim = { key: KEY, owner: 'a b', units: 6, capacity: 6, ttlMs: 60_000, wait: false };
    expect(await store.claim(claim)).toMatchObject({ is: 'granted' });
    expect(await store.drop({ key: KEY, owner: 'a' })).toMatchObject({ held: false });
    expect(await store.renew([claim])).toEqual([{ is: 'held', wanted: false }]);
  });

  test('what others publish on the channel of a store does no harm', async () => {
    const locks = manager();
    const lease = await locks.acquire(KEY);
    const [channel] = (await client.pubsub('CHANNELS', 'leasehold:*')) as [string];
    for (const text of [
      '',
      'null',
      '{}',
      '[]',
      '["granted"]',
      '["granted",1,2,"x",4]',
      '["lost"]',
    ]) {
      expect(await client.publish(channel, text)).toBe(1);
    }
    await client.publish(channel, JSON.stringify(['lost', LOCK, 'somebody else']));
    await locks.withLock('another', async () => {});
    expect(lease.state).toBe('held');
    await lease.release();
  });

  test('a server that is busy with a script is waited for', async () => {
    const locks = manager();
    await (await locks.acquire(KEY)).release();
    const other = server.client();
    const hog = other.eval('while true do end', 0).catch(() => {});
    await until('it is busy', async () => {
      const answer = await client.get('x').catch((error: Error) => error.message);
      return String(answer).startsWith('BUSY');
    });
    await vi.waitFor(async () => {
      await expect(locks.acquire(KEY, { waitMs: 300 })).rejects.toMatchObject({
        cause: { message: expect.stringMatching(/BUSY/) },
      });
    }, WAIT);
    const waiting = locks.acquire(KEY);
    await client.script('KILL');
    await hog;
    other.disconnect();
    await (await waiting).release();
  });

  describe('rights', () => {
    const all = ['on', '>secret', '~*', '&*', '+@all'];
    test.each([
      ['scripts', ['-evalsha', '-eval'], /EVALSHA and EVAL/],
      ['publishing', ['-publish'], /PUBLISH \(\+publish\)/],
      ['asking who listens', ['-pubsub'], /PUBSUB \(\+pubsub\)/],
      ['subscribing', ['-subscribe'], /SUBSCRIBE/],
      ['the keys', ['resetkeys', '~other:*'], /~leasehold:\*/],
      ['the channels', ['resetchannels'], /&leasehold:\*/],
    ])(
      'a user without the right to %s is told which right is missing',
      async (_, change, message) => {
        await client.call('ACL', 'SETUSER', 'web', ...all, ...change);
        const from = `redis://web:secret@127.0.0.1:${server.port}`;
        const refused = manager({}, {}, from).acquire(KEY);
        await expect(refused).rejects.toBeInstanceOf(ClaimRefusedError);
        await expect(refused).rejects.toThrow(message);
      },
    );

    test('the documented rights are enough, and a right that is granted later is found', async () => {
      await client.call(
        'ACL',
        'SETUSER',
        'web',
        'on',
        '>secret',
        '~lock:*',
        '~leasehold:*',
        '-@all',
      );
      const from = `redis://web:secret@127.0.0.1:${server.port}`;
      const locks = manager({}, {}, from);
      await expect(locks.acquire(KEY, { waitMs: 300 })).rejects.toThrow();
      const rights = [
        '&leasehold:*',
        '+@scripting',
        '+@read',
        '+@write',
        '+@pubsub',
        '+@connection',
      ];
      await client.call(
        'ACL',
        'SETUSER',
        'web',
        ...rights,
        '+time',
        '+info',
        '-@dangerous',
        '+info',
      );
      await (await locks.acquire(KEY)).release();
    });
  });

  test('a database number and a password work in the URL', async () => {
    await client.config('SET', 'requirepass', 'secret');
    const locks = manager({}, {}, `redis://:secret@127.0.0.1:${server.port}/3`);
    const lease = await locks.acquire(KEY);
    expect(await client.exists(LOCK)).toBe(0);
    await client.select(3);
    expect(await client.exists(LOCK)).toBe(1);
    await lease.release();
  });

  test('a client that is handed in is left as it was', async () => {
    const mine = server.client();
    await mine.ping();
    const events = mine.eventNames().map((event) => [event, mine.listenerCount(event)]);
    const locks = new LockManager({ store: redis(mine) });
    await (await locks.acquire(KEY)).release();
    await locks.close();
    expect(mine.eventNames().map((event) => [event, mine.listenerCount(event)])).toEqual(events);
    expect(await mine.ping()).toBe('PONG');
    await until('the listener is gone', async () => {
      return ((await client.pubsub('CHANNELS')) as string[]).length === 0;
    });
    mine.disconnect();
  });

  test('a policy that evicts locks is warned of', async () => {
    await client.config('SET', 'maxmemory', '100mb', 'maxmemory-policy', 'allkeys-lru');
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => warnings.push(warning);
    process.on('warning', onWarning);
    await (await manager().acquire(KEY)).release();
    await until('there is a warning', () => warnings.length > 0);
    process.off('warning', onWarning);
    expect(warnings[0]).toMatchObject({ code: 'LEASEHOLD_EVICTION' });
  });

  test('a time-out names the holder and how many are before', async () => {
    const [one, other] = [manager({ identity: 'web-3:4121:n' }), manager()];
    const lease = await one.acquire(KEY);
    await vi.waitFor(async () => {
      const busy = other.acquire(KEY, { waitMs: 200 });
      await expect(busy).rejects.toBeInstanceOf(AcquireTimeoutError);
      await expect(busy).rejects.toThrow(/held by web-3:4121, 0 ahead/);
    }, WAIT);
    await lease.release();
  });

  test('one release wakes one of many waiters, in order, and sends a constant number of commands', async () => {
    // No call is made again, and none is a heartbeat.
    const managers = Array.from({ length: 10 }, () => manager({}, { requestTimeoutMs: 60_000 }));
    const first = await (managers[0] as LockManager).acquire(KEY);
    const order: number[] = [];
    const served: Promise<void>[] = [];
    for (const [index, locks] of managers.slice(1).entries()) {
      served.push(
        locks.acquire(KEY).then(async (lease: Lease) => {
          order.push(index);
          await lease.release();
        }),
      );
      await until('it waits', async () => {
        return (await client.zcard(`leasehold:o:${LOCK}`)) === 2 * (index + 1);
      });
    }
    await client.config('RESETSTAT');
    await first.release();
    await Promise.all(served);
    expect(order).toEqual(managers.slice(1).map((_, index) => index));
    const stats = await client.info('commandstats');
    expect(Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1])).toBe(managers.length);
  });
});
