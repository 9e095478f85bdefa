/**
 * Five hundred waiters on one key, in ten processes: served in the order of arrival, at a constant price, and no burden
 * when they die.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import { LockManager } from 'leasehold';
import { redis } from 'leasehold/redis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const KEY = 'order:7';
const ORDER = `leasehold:o:lock:${KEY}`;
const PROCESSES = 10;
const CHILD = fileURLToPath(new URL('redis-waiters-child.mjs', import.meta.url));
/** Longer than any run: no heartbeat or renewal is in what is counted. */
const TTL_MS = 3_600_000;
/** Nor is a request that a slow machine keeps waiting, made again. */
const PATIENT = { requestTimeoutMs: 60_000 };

lane('many waiters on Redis', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  let locks: LockManager;
  let children: ChildProcess[] = [];
  beforeAll(async () => {
    server = await RedisServer.start(['--appendonly', 'no']);
    client = server.client();
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });
  beforeEach(async () => {
    await client.flushall();
    locks = new LockManager({ store: redis(server.url, PATIENT), ttlMs: TTL_MS });
  });
  afterEach(async () => {
    for (const child of children) child.kill('SIGKILL');
    children = [];
    await locks.close();
  });

  /** Starts them, and resolves with the owners in order of arrival once all of them wait. */
  async function startWaiters(countEach: number): Promise<string[]> {
    children = Array.from({ length: PROCESSES }, () =>
      spawn(process.execPath, [CHILD, server.url, KEY, String(countEach)], { stdio: 'inherit' }),
    );
    const count = PROCESSES * countEach;
    await until(
      'all wait',
      async () => (await client.zcount(ORDER, '-inf', 1e10)) === count,
      120_000,
    );
    const members = await client.zrange(ORDER, '0', String(count - 1));
    return members.map((member) => member.slice(1));
  }

  /** Lets so many waiters have the key one after the other, and counts what the server did meanwhile. */
  async function serve(countEach: number): Promise<Map<string, number>> {
    const lease = await locks.acquire(KEY);
    const arrived = await startWaiters(countEach);
    const ended = children.map((child) => once(child, 'exit'));
    await client.config('RESETSTAT');
    await lease.release();
    await until(
      'all are served',
      async () =>
        (await client.llen('served')) === arrived.length &&
        (await client.exists(`lock:${KEY}`)) === 0,
      120_000,
    );
    const calls = callsOf(await client.info('commandstats'));
    expect(await client.lrange('served', 0, -1)).toEqual(arrived);
    for (const [code] of await Promise.all(ended)) expect(code).toBe(0);
    await client.del('served');
    return calls;
  }

  test('are served in order of arrival, each by a constant number of commands', {
    timeout: 300_000,
  }, async () => {
    const [few, more, many] = [await serve(1), await serve(2), await serve(50)];
    // Every release is one call of one script: the first holder's, and each waiter's.
    for (const [calls, each] of [
      [few, 1],
      [more, 2],
      [many, 50],
    ] as const) {
      expect(calls.get('evalsha')).toBe(PROCESSES * each + 1);
      expect(calls.get('publish')).toBe(PROCESSES * each);
    }
    // What ten more cost with ten in the queue is what they cost with five hundred in it.
    for (const [command, calls] of many) {
      const one = (more.get(command) ?? 0) - (few.get(command) ?? 0);
      expect(calls, command).toBe((few.get(command) ?? 0) + 49 * one);
    }
  });

  test('that die all at once hold nobody up', { timeout: 180_000 }, async () => {
    const lease = await locks.acquire(KEY);
    await startWaiters(20);
    const last = new LockManager({
      store: redis(server.url, PATIENT),
      ttlMs: TTL_MS,
      waitMs: 120_000,
    });
    const next = last.acquire(KEY);
    await until('it waits behind them', async () => {
      return (await client.zcount(ORDER, '-inf', 1e10)) === PROCESSES * 20 + 1;
    });
    for (const child of children) child.kill('SIGKILL');
    await until('nobody hears them any more', async () => {
      return ((await client.pubsub('CHANNELS', 'leasehold:*')) as string[]).length === 2;
    });
    await lease.release();
    // Their claims would stand for an hour.
    await (await next).release();
    await last.close();
  });
});

/** How often each command ran, the test's own and the pings of listeners left out. */
function callsOf(stats: string): Map<string, number> {
  const calls = new Map<string, number>();
  for (const [, command = '', count] of stats.matchAll(/^cmdstat_(\S+):calls=(\d+)/gm)) {
    if (!OWN.test(command)) calls.set(command, Number(count));
  }
  return calls;
}

const OWN = /^(ping|info|config|llen|exists$|hello|client|select|subscribe|unsubscribe|quit)/;
