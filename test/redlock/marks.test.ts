/**
 * What the lock itself says on each master: that somebody waits, and that it is kept for whoever was told.
 */
import type { Redis } from 'ioredis';
import type { Claim, LeaseStore, StoreEvent } from 'leasehold';
import { redlock } from 'leasehold/redlock';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const KEY = 'order:7';
const LOCK = `lock:${KEY}`;
const RESERVED = 'leasehold:reserved';
const TTL_MS = 60_000;

lane('what a lock of Redlock says', TOOLS.redis, () => {
  let servers: RedisServer[];
  let clients: Redis[];
  const opened: LeaseStore[] = [];

  beforeAll(async () => {
    servers = await Promise.all([1, 2, 3].map(() => RedisServer.start()));
    clients = servers.map((server) => server.client());
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((store) => store.close()));
    await Promise.all(clients.map((client) => client.flushall()));
  });
  afterAll(async () => {
    for (const client of clients) client.disconnect();
    await Promise.all(servers.map((server) => server.close()));
  });

  async function open(on: (event: StoreEvent) => void = () => {}): Promise<LeaseStore> {
    const urls = servers.map(({ url }) => url);
    const store = redlock(urls, { durable: true, maxTtlMs: TTL_MS, requestTimeoutMs: 10_000 });
    await store.open(on);
    opened.push(store);
    return store;
  }

  let owners = 0;
  function newClaim(wait = true): Claim {
    owners += 1;
    const owner = `host:1:${owners}`;
    return { key: KEY, owner, units: 1, capacity: 1, ttlMs: TTL_MS, wait };
  }

  const values = (): Promise<(string | null)[]> =>
    Promise.all(clients.map((client) => client.get(LOCK)));
  const isMarked = async (): Promise<boolean[]> =>
    (await values()).map((value) => value?.endsWith(' wanted') === true);
  /** Nodes that are not waited for may be later than the answer. */
  const untilAll = (what: string, is: (value: string | null) => boolean): Promise<void> =>
    until(what, async () => (await values()).every(is));
  /** Keeps the lock for whoever was told, for a long time; false when the second that it was kept for had gone by. */
  async function keepOn(): Promise<boolean> {
    let isOver = false;
    await until('it is kept, or was', async () => {
      const kept = await values();
      isOver = kept.includes(null);
      return isOver || kept.every((value) => value === RESERVED);
    });
    if (isOver) return false;
    const made = await Promise.all(clients.map((client) => client.pexpire(LOCK, TTL_MS)));
    return !made.includes(0);
  }

  /** Drops a lease that others wait for, until the lock is seen to be kept for them. */
  async function dropAndKeep(
    [holder, held]: readonly [LeaseStore, Claim],
    [waiter, waiting]: readonly [LeaseStore, Claim],
  ): Promise<void> {
    expect(await holder.drop(held)).toEqual({ held: true, next: null });
    while (!(await keepOn())) {
      await until('it is held again', async () => (await holder.claim(held)).is === 'granted');
      expect(await waiter.claim(waiting)).toMatchObject({ is: 'waiting' });
      await holder.drop(held);
    }
  }
  const waitersOf = (): Promise<number[]> =>
    Promise.all(clients.map((client) => client.zcard(`leasehold:o:${LOCK}`)));

  test('a waiter marks it, its release wakes the waiter, and newcomers leave it to that one', async () => {
    const events: StoreEvent[] = [];
    const [one, other, third] = [
      await open(),
      await open((event) => events.push(event)),
      await open(),
    ];
    const [held, waiting] = [newClaim(), newClaim()];
    expect(await one.claim(held)).toMatchObject({ is: 'granted', wanted: false });
    await untilAll('all have it', (value) => value !== null);
    expect(await isMarked()).toEqual([false, false, false]);
    expect(await one.renew([held])).toEqual([{ is: 'held', wanted: false }]);

    expect(await other.claim(waiting)).toMatchObject({ is: 'waiting' });
    await untilAll('all know that it waits', (value) => value?.endsWith(' wanted') === true);
    // A mark takes no lease its end.
    for (const client of clients) expect(await client.pttl(LOCK)).toBeGreaterThan(0);
    expect(await one.renew([held])).toEqual([{ is: 'held', wanted: true }]);

    await dropAndKeep([one, held], [other, waiting]);
    await until('it is told', () => events.some(({ is }) => is === 'available'));
    expect(await third.claim(newClaim(false))).toMatchObject({ is: 'taken' });
    expect(await third.claim(newClaim())).toMatchObject({ is: 'waiting' });
    expect(await other.claim(waiting)).toMatchObject({ is: 'granted', wanted: true });
    await untilAll('the third is known to wait', (value) => value?.endsWith(' wanted') === true);
  });

  test('it is kept for nobody once the one that was told has left', async () => {
    const [one, other] = [await open(), await open()];
    const [held, waiting] = [newClaim(), newClaim()];
    await one.claim(held);
    await other.claim(waiting);
    await untilAll('all know that it waits', (value) => value?.endsWith(' wanted') === true);
    await dropAndKeep([one, held], [other, waiting]);
    await other.drop(waiting);
    expect(await values()).toEqual([null, null, null]);
    expect(await one.claim(newClaim(false))).toMatchObject({ is: 'granted' });
  });

  test('a waiter that finds it free waits no more', async () => {
    const [one, other] = [await open(), await open()];
    const waiting = newClaim();
    await one.claim(newClaim());
    await other.claim(waiting);
    await until('it waits everywhere', async () =>
      (await waitersOf()).every((count) => count === 2),
    );
    // As if the lease had ended by itself.
    await Promise.all(clients.map((client) => client.del(LOCK)));
    expect(await other.claim(waiting)).toMatchObject({ is: 'granted', wanted: false });
    await untilAll('all have it', (value) => value?.startsWith(waiting.owner) === true);
    expect(await waitersOf()).toEqual([0, 0, 0]);
    expect(await isMarked()).toEqual([false, false, false]);
    expect(await other.drop(waiting)).toEqual({ held: true, next: null });
    await untilAll('it is free', (value) => value === null);
  });

  test('what a client of another kind keeps there stays as it is', async () => {
    await Promise.all(clients.map((client) => client.set(LOCK, 'foreign', 'PX', TTL_MS)));
    const store = await open();
    expect(await store.claim(newClaim())).toMatchObject({ is: 'waiting', holder: 'foreign' });
    await until('it waits everywhere', async () =>
      (await waitersOf()).every((count) => count === 2),
    );
    expect(await values()).toEqual(['foreign', 'foreign', 'foreign']);
  });

  test('many at once: those that wait, and those that do not', async () => {
    const [one, other] = [await open(), await open()];
    const keys = Array.from({ length: 40 }, (_, index) => `many:${index}`);
    const claims = keys.map((key) => ({ ...newClaim(), key }));
    const outcomes = await Promise.all(claims.map((claim) => one.claim(claim)));
    expect(new Set(outcomes.map(({ is }) => is))).toEqual(new Set(['granted']));
    const rivals = claims.slice(0, 20).map(({ key }) => ({ ...newClaim(), key }));
    const answers = await Promise.all(rivals.map((claim) => other.claim(claim)));
    expect(new Set(answers.map(({ is }) => is))).toEqual(new Set(['waiting']));
    const renewed = await one.renew(claims);
    expect(renewed.map((outcome) => 'wanted' in outcome && outcome.wanted)).toEqual(
      keys.map((_, index) => index < 20),
    );
    const dropped = await Promise.all(claims.map((claim) => one.drop(claim)));
    expect(dropped.every(({ held }) => held)).toBe(true);
    const granted = await Promise.all(rivals.map((claim) => other.claim(claim)));
    expect(new Set(granted.map(({ is }) => is))).toEqual(new Set(['granted']));
  });
});
