/**
 * Redlock while a minority of its masters fails, and while a majority does: a register that several processes count up
 * stays right, and every call settles.
 */

import type { Redis } from 'ioredis';
import {
  AcquireTimeoutError,
  LeaseLostError,
  type LockManager,
  StoreUnavailableError,
} from 'leasehold';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { readHistory, startWorkers, type Workers } from './redis-register.ts';
import { Masters, TTL_MS } from './redlock-masters.ts';

/** Counts that show that the work goes on. */
const PROGRESS = 25;
const WORKERS = 3;

interface Fault {
  readonly name: string;
  begin(masters: Masters, nodes: readonly number[]): Promise<void>;
  /** What ends it, before everything that can be healed is. */
  end(masters: Masters, nodes: readonly number[]): Promise<void>;
}

const each = (nodes: readonly number[], act: (node: number) => unknown): Promise<unknown> =>
  Promise.all(nodes.map((node) => act(node)));
const nothing = async (): Promise<void> => {};

const faults: readonly Fault[] = [
  {
    name: 'killed, and restarted empty',
    begin: async ({ servers }, nodes) => void (await each(nodes, (node) => servers[node]?.kill())),
    end: async ({ servers }, nodes) =>
      void (await each(nodes, (node) => servers[node]?.startAgain())),
  },
  {
    name: 'hung',
    begin: async ({ servers }, nodes) => void (await each(nodes, (node) => servers[node]?.pause())),
    end: async ({ servers }, nodes) => void (await each(nodes, (node) => servers[node]?.resume())),
  },
  {
    name: 'cut off both ways',
    begin: async ({ proxies }, nodes) =>
      void (await each(nodes, (node) => proxies[node]?.blackhole())),
    end: nothing,
  },
  {
    name: 'heard by nobody, but hearing all',
    begin: async ({ proxies }, nodes) =>
      void (await each(nodes, (node) => proxies[node]?.blackhole('replies'))),
    // What it has answered is lost for good.
    end: async ({ proxies }, nodes) => void (await each(nodes, (node) => proxies[node]?.cut())),
  },
  {
    name: 'restarted empty in an instant',
    begin: async ({ servers }, nodes) =>
      void (await each(nodes, async (node) => {
        await servers[node]?.kill();
        await servers[node]?.startAgain();
      })),
    end: nothing,
  },
  {
    name: 'slower than a ttl',
    begin: async ({ proxies }, nodes) =>
      void (await each(nodes, (node) => proxies[node]?.delay(1.5 * TTL_MS))),
    end: nothing,
  },
];

function isTyped(error: unknown): boolean {
  return [StoreUnavailableError, AcquireTimeoutError, LeaseLostError].some(
    (kind) => error instanceof kind,
  );
}

lane('Redlock and its nodes', TOOLS.redis, () => {
  describe.each([
    [3, [1]],
    [5, [0, 3]],
  ])('%d masters', (count, failing) => {
    let masters: Masters;
    let registers: RedisServer;
    const clients: Redis[] = [];
    const unhandled: unknown[] = [];
    const note = (reason: unknown) => unhandled.push(reason);

    beforeAll(async () => {
      masters = await Masters.start(count);
      registers = await RedisServer.start(['--appendonly', 'no']);
    });
    beforeEach(() => void process.on('unhandledRejection', note));
    afterEach(async () => {
      await masters.settle();
      for (const client of clients.splice(0)) client.disconnect();
      process.off('unhandledRejection', note);
      expect(unhandled.splice(0)).toEqual([]);
    });
    afterAll(async () => {
      await masters.close();
      await registers.close();
    });

    test.each(faults)('a minority is $name', async (fault) => {
      const client = await newRegister();
      const before = startWorkers(masters.managers(WORKERS), client, 'register');
      await progress(before);
      await fault.begin(masters, failing);
      await progress(before);
      // Every call settles while the fault lasts, and so does every close.
      await before.stop();
      await masters.closeManagers();
      const during = startWorkers(masters.managers(WORKERS), client, 'register');
      await progress(during);
      await heal(fault, failing);
      await progress(during);
      await during.stop();
      await checkRegister(client, [before, during]);
    });

    test('a majority is hung: nothing is granted, nothing hangs, and all goes on afterwards', async () => {
      const majority = masters.servers.slice(0, Math.floor(count / 2) + 1);
      const [one, other] = masters.managers(2) as [LockManager, LockManager];
      const lease = await one.acquire('order:7', { waitMs: 20_000 });
      const before = lease.token;
      const waiting = other.acquire('order:7', { waitMs: 60_000 });
      for (const server of majority) server.pause();
      await until('the lease is lost', () => lease.signal.aborted);
      expect(lease.signal.reason).toBeInstanceOf(LeaseLostError);
      for (const key of ['order:7', 'another']) {
        const failed = one.acquire(key, { waitMs: 700 });
        await expect(failed).rejects.toSatisfy(isTyped);
        await expect(one.tryAcquire(key)).rejects.toBeInstanceOf(StoreUnavailableError);
      }
      for (const server of majority) server.resume();
      const next = await waiting;
      expect(next.token).toBeGreaterThan(before);
      await next.release();
    });

    // Five masters would show no more.
    test.each(count === 3 ? faults : [])('a majority is $name: all is settled', async (fault) => {
      const client = await newRegister();
      const before = startWorkers(masters.managers(WORKERS), client, 'register', TTL_MS);
      await progress(before);
      await fault.begin(masters, [0, 1]);
      const [one] = masters.managers(1) as [LockManager];
      const asked = ['register', 'another'].map((key) =>
        one.withLock(key, { waitMs: 300 }, async () => {}),
      );
      for (const outcome of await Promise.allSettled(asked)) {
        if (outcome.status === 'rejected') expect(outcome.reason).toSatisfy(isTyped);
      }
      await before.stop();
      await heal(fault, [0, 1]);
      const after = startWorkers(masters.managers(WORKERS), client, 'register');
      await progress(after);
      await after.stop();
      await checkRegister(client, [before, after]);
    });

    async function newRegister(): Promise<Redis> {
      const client = registers.client();
      clients.push(client);
      await client.flushall();
      return client;
    }

    async function progress(workers: Workers): Promise<void> {
      const enough = workers.done + PROGRESS;
      await until(`${PROGRESS} more counts`, () => workers.done >= enough);
    }

    async function heal(fault: Fault, nodes: readonly number[]): Promise<void> {
      await fault.end(masters, nodes);
      for (const proxy of masters.proxies) proxy.forward();
    }

    async function checkRegister(client: Redis, all: readonly Workers[]): Promise<void> {
      const { value, tokens } = await readHistory(client);
      const sum = (of: (workers: Workers) => number): number =>
        all.reduce((before, workers) => before + of(workers), 0);
      expect(value).toBeGreaterThanOrEqual(sum(({ done }) => done));
      expect(sum(({ overlaps }) => overlaps)).toBe(0);
      expect(tokens).toHaveLength(value);
      expect(tokens).toEqual([...tokens].sort());
    }
  });
});
