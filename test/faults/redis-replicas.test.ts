/**
 * Failovers of a master behind Sentinel, with locks under load; and grants that wait for replicas.
 */
import { type EventEmitter, once } from 'node:events';
import { Redis } from 'ioredis';
import { LockManager, type LockManagerOptions, StoreUnavailableError } from 'leasehold';
import { type RedisOptions, redis } from 'leasehold/redis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { makeClient } from '../conformance/fixtures/redis-client.mjs';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { CALM_MS, RedisServer, SentinelGroup } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { readHistory, startWorkers } from './redis-register.ts';

lane('a Redis master behind Sentinel', TOOLS.redis, () => {
  let group: SentinelGroup;
  const closers: (() => unknown)[] = [];
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);
  beforeAll(async () => {
    group = await SentinelGroup.start({ downAfterMs: CALM_MS });
  });
  afterAll(() => group?.close());
  beforeEach(() => {
    process.on('unhandledRejection', note);
  });
  afterEach(async () => {
    for (const server of group.servers) server.resume();
    for (const close of closers.splice(0).reverse()) await close();
    process.off('unhandledRejection', note);
    expect(unhandled.splice(0)).toEqual([]);
    await settled();
  });

  /** All servers run, and every replica follows the one master. */
  async function settled(): Promise<void> {
    await until('the replicas follow the master', async () => {
      const master = await group.master();
      const info = String(await master.command('INFO', 'replication'));
      return (
        info.includes('role:master') &&
        info.includes(`connected_slaves:${group.servers.length - 1}`)
      );
    });
  }

  function manager(options: Partial<LockManagerOptions> = {}, redisOptions: RedisOptions = {}) {
    const store = redis(group.url, { requestTimeoutMs: 500, ...redisOptions });
    const locks = new LockManager({ ttlMs: 1_500, ...options, store });
    closers.push(() => locks.close());
    return locks;
  }

  function sentinelClient(): Redis {
    const sentinels = [...group.sentinels];
    const client = new Redis({ sentinels, name: group.name, socketTimeout: 500 });
    client.on('error', () => {});
    closers.push(() => client.disconnect());
    return client;
  }

  test('the URL leads to the master', async () => {
    const lease = await manager({ ttlMs: 60_000 }).acquire('by-url');
    const master = await group.master();
    expect(await master.command('EXISTS', 'lock:by-url')).toBe(1);
    await lease.release();
  });

  test.each([
    ['stopped, and goes on as a stale master', 'pause'],
    ['killed, and comes back', 'kill'],
  ] as const)(
    'work goes on when the master is %s; the fence keeps the history whole',
    async (_, fault) => {
      await (await group.master()).command('FLUSHALL');
      const workers = startWorkers([manager(), manager(), manager()], sentinelClient(), 'register');
      await until('there is load', () => workers.done > 100);
      const old = await group.master();
      closers.push(() => group.setDownAfter(CALM_MS));
      await group.setDownAfter(500);
      if (fault === 'pause') old.pause();
      else await old.kill();
      await until('another one is promoted', async () => (await group.master()) !== old);
      const before = workers.done;
      // The stale master takes writes until it learns that it is none: the fence must hold meanwhile.
      if (fault === 'pause') old.resume();
      await until('work goes on', () => workers.done > before + 100);
      if (fault === 'kill') await old.startAgain();
      await workers.stop();
      await settled();
      const client = sentinelClient();
      const history = await readHistory(client);
      expect(history.tokens.length).toBe(history.value);
      expect(history.tokens).toEqual(history.tokens.toSorted());
      expect(new Set(history.tokens).size).toBe(history.tokens.length);
    },
  );

  test('with minReplicas a grant is on the replicas, and so is one that was handed over', async () => {
    const make = () => manager({ ttlMs: 60_000 }, { minReplicas: 2 });
    const [one, other] = [make(), make()];
    const lease = await one.acquire('safe');
    await onAllReplicas('lock:safe', 1);
    const waiting = other.acquire('safe');
    const master = await group.master();
    await until(
      'it waits',
      async () => (await master.command('EXISTS', 'leasehold:m:lock:safe')) === 1,
    );
    await lease.release();
    const next = await waiting;
    expect(next.token).toBeGreaterThan(lease.token);
    await onAllReplicas('lock:safe', 1);
    await next.release();
  });

  async function onAllReplicas(key: string, count: number): Promise<void> {
    const master = await group.master();
    for (const server of group.servers) {
      if (server !== master) expect(await server.command('EXISTS', key)).toBe(count);
    }
  }

  test.each(['ioredis', 'redis'] as const)(
    'with minReplicas and %s, WAIT on another connection than the grant counts for nothing',
    async (family) => {
      const master = await RedisServer.start();
      const replica = await RedisServer.start(['--replicaof', `127.0.0.1 ${master.port}`]);
      closers.push(async () => {
        replica.resume();
        await replica.close();
        await master.close();
      });
      const proxy = await TcpProxy.start(master.port);
      closers.push(() => proxy.close());
      const made = await makeClient({ family, url: `redis://127.0.0.1:${proxy.port}` });
      closers.push(() => made.end());
      // A connection that wrote nothing has nothing to wait for: WAIT there says yes at once.
      const send = family === 'redis' ? 'sendCommand' : 'call';
      const client = made.from as unknown as Record<
        string,
        (...args: unknown[]) => Promise<unknown>
      > &
        EventEmitter;
      const original = (client[send] as (...args: unknown[]) => Promise<unknown>).bind(client);
      const armed = { is: false };
      client[send] = (async (...args: unknown[]) => {
        if (armed.is && [args[0]].flat()[0] === 'WAIT') {
          armed.is = false;
          const back = once(client, 'ready');
          proxy.cut((sent) => !/\r\nsubscribe\r\n/i.test(sent));
          await back;
        }
        return original(...args);
      }) as never;
      const store = redis(made.from, { minReplicas: 1, replicaTimeoutMs: 100 });
      const locks = new LockManager({ store, ttlMs: 60_000 });
      closers.push(() => locks.close());
      await until('the replica follows', async () => {
        const lease = await locks.tryAcquire('warm').catch(() => null);
        await lease?.release();
        return lease !== null;
      });
      replica.pause();
      armed.is = true;
      const refused = locks.acquire('unsafe', { waitMs: 1_000 });
      await expect(refused).rejects.toBeInstanceOf(StoreUnavailableError);
      await until('it has waited elsewhere', () => !armed.is);
    },
  );

  test('with minReplicas a grant that no replica has fails clearly, and is given back', async () => {
    const locks = manager({ ttlMs: 10_000 }, { minReplicas: 2, replicaTimeoutMs: 100 });
    await (await locks.acquire('warm')).release();
    const master = await group.master();
    const replica = group.servers.find((server) => server !== master) as RedisServer;
    replica.pause();
    // Again when a machine that stalls has used up the time before anything was known.
    await vi.waitFor(
      async () => {
        const refused = locks.acquire('unsafe', { waitMs: 400 });
        await expect(refused).rejects.toBeInstanceOf(StoreUnavailableError);
        await expect(refused).rejects.toMatchObject({
          cause: { message: expect.stringMatching(/of 2 replicas/) },
        });
      },
      { timeout: 60_000 },
    );
    await until(
      'it is given back',
      async () => (await master.command('EXISTS', 'lock:unsafe')) === 0,
    );
    replica.resume();
    await until('replicas answer again', async () => {
      const lease = await locks.tryAcquire('unsafe').catch(() => null);
      await lease?.release();
      return lease !== null;
    });
  });
});
