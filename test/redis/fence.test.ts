/**
 * The fence on values of a real server, with a client of each family.
 */
import type { Redis } from 'ioredis';
import { InvalidArgumentError, LockManager } from 'leasehold';
import { type Fence, fenced, redis, StaleTokenError } from 'leasehold/redis';
import { createClient } from 'redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { PATIENT, RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const KEY = 'total';
const tokenOf = (token: bigint) => ({ tokenText: token.toString().padStart(20, '0') });
const [older, newer] = [tokenOf(9n), tokenOf(10n ** 18n)];

lane('fences on Redis', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  beforeAll(async () => {
    server = await RedisServer.start();
    client = server.client();
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });
  beforeEach(() => client.flushall());

  async function nodeRedis() {
    const made = createClient({ url: server.url });
    await made.connect();
    return { from: made, end: () => made.destroy() };
  }
  const families = {
    ioredis: async () => ({ from: client, end: () => {} }),
    'node-redis': nodeRedis,
  };

  describe.each(Object.entries(families))('with %s', (_, make) => {
    let register: Fence;
    let end: () => void;
    beforeEach(async () => {
      const made = await make();
      end = made.end;
      register = fenced(made.from, PATIENT);
    });
    afterEach(() => end());

    test('a value is read and written under one token, and by a higher one', async () => {
      expect(await register.get(KEY, older)).toEqual({ value: null, version: 0 });
      expect(await register.set(KEY, 'one', older)).toBe(1);
      expect(await register.set(KEY, 'two', newer)).toBe(2);
      expect(await register.get(KEY, newer)).toEqual({ value: 'two', version: 2 });
    });

    test('a lower token can neither read nor write, and is told both tokens', async () => {
      await register.get(KEY, newer);
      const stale = [
        register.get(KEY, older),
        register.set(KEY, 'x', older),
        register.compareAndSet(KEY, 0, 'x', older),
        register.run("redis.call('HSET', KEYS[1], 'v', 'x')", [KEY], [], older),
      ];
      for (const refused of stale) {
        await expect(refused).rejects.toBeInstanceOf(StaleTokenError);
        await expect(refused).rejects.toMatchObject({
          code: 'STALE_TOKEN',
          token: older.tokenText,
          fence: newer.tokenText,
        });
      }
      expect(await register.get(KEY, newer)).toEqual({ value: null, version: 0 });
    });

    test('compare and set writes only over the version that was read', async () => {
      await register.set(KEY, 'one', older);
      expect(await register.compareAndSet(KEY, 0, 'x', older)).toBeNull();
      expect(await register.compareAndSet(KEY, 1, 'two', older)).toBe(2);
      expect(await register.get(KEY, older)).toEqual({ value: 'two', version: 2 });
    });

    test('a script of the caller runs behind the fence', async () => {
      const lua = "return redis.call('INCRBY', KEYS[2], ARGV[1])";
      expect(await register.run(lua, [KEY, 'counter'], ['5'], older)).toBe(5);
      expect(await register.run(lua, [KEY, 'counter'], ['5'], newer)).toBe(10);
      await expect(register.run(lua, [KEY, 'counter'], ['5'], older)).rejects.toThrow(
        StaleTokenError,
      );
      expect(await client.get('counter')).toBe('10');
    });

    test('a fence can be reset, and the value stays', async () => {
      await register.set(KEY, 'one', newer);
      await register.reset(KEY);
      expect(await register.get(KEY, older)).toEqual({ value: 'one', version: 1 });
    });
  });

  test('the fence outlives the value, and without a value it ends', async () => {
    const register = fenced(client, { ...PATIENT, memoryMs: 60_000 });
    await register.set(KEY, 'one', newer, { ttlMs: 1 });
    await expect.poll(async () => (await register.get(KEY, newer)).value).toBeNull();
    await expect(register.set(KEY, 'late', older)).rejects.toThrow(StaleTokenError);
    expect(await client.pttl(KEY)).toBeGreaterThan(1_000);
    await register.set(KEY, 'for ever', newer);
    expect(await client.pttl(KEY)).toBe(-1);
    await register.run("redis.call('HSET', KEYS[1], 'v', 'x')", ['scripted'], [], newer);
    expect(await client.pttl('scripted')).toBe(-1);
  });

  test('the fence is remembered from its last use, however long the value lives', async () => {
    const register = fenced(client, { ...PATIENT, memoryMs: 60_000 });
    await register.set(KEY, 'one', newer, { ttlMs: 100_000 });
    expect(await client.pttl(KEY)).toBeGreaterThan(120_000);
    await client.pexpire(KEY, 1_000);
    await client.hset(KEY, 'x', String(Date.now() + 1_000));
    await register.get(KEY, newer);
    expect(await client.pttl(KEY)).toBeGreaterThan(50_000);
    // A script of the caller's may fail, or delete the key: neither leaves a fence for ever, or none.
    const failing = register.run("return redis.call('NONSENSE')", ['failed'], [], newer);
    await expect(failing).rejects.toThrow();
    expect(await client.pttl('failed')).toBeGreaterThan(0);
    await register.run("return redis.call('DEL', KEYS[1])", [KEY], [], newer);
    await expect(register.get(KEY, older)).rejects.toThrow(StaleTokenError);
  });

  test('what could not be written is refused before the fence is raised', async () => {
    const register = fenced(client, PATIENT);
    const wrong = [
      register.set(KEY, 'x', newer, { ttlMs: 1.5 }),
      register.set(KEY, 'x', newer, { ttlMs: 0 }),
      register.set(KEY, 5 as never, newer),
      register.compareAndSet(KEY, -1, 'x', newer),
      register.compareAndSet(KEY, 0, 'x', newer, { ttlMs: Number.NaN }),
    ];
    for (const refused of wrong) await expect(refused).rejects.toThrow(InvalidArgumentError);
    expect(() => fenced(client, { memoryMs: -1 })).toThrow(InvalidArgumentError);
    expect(await client.exists(KEY)).toBe(0);
  });

  test('an equal token of another process is refused', async () => {
    const register = fenced(client, PATIENT);
    await register.set(KEY, 'one', newer);
    await client.hset(KEY, 'o', 'another process');
    await expect(register.set(KEY, 'two', newer)).rejects.toThrow(StaleTokenError);
  });

  /** A reads and stalls; B, its successor, reads; A writes; B writes over it. */
  test('reading raises the fence: a fence that only checks writes would lose an update', async () => {
    const register = fenced(client, PATIENT);
    await register.set(KEY, '100', tokenOf(1n));
    const [a, b] = [tokenOf(2n), tokenOf(3n)];

    const writeOnly = { a: await client.hget(KEY, 'v'), b: await client.hget(KEY, 'v') };
    await register.set(KEY, String(Number(writeOnly.a) + 1), a);
    await register.set(KEY, String(Number(writeOnly.b) + 1), b);
    expect((await register.get(KEY, b)).value).toBe('101');

    await register.reset(KEY);
    await register.set(KEY, '100', tokenOf(1n));
    const raised = { a: await register.get(KEY, a), b: await register.get(KEY, b) };
    const late = register.set(KEY, String(Number(raised.a.value) + 1), a);
    await expect(late).rejects.toThrow(StaleTokenError);
    await register.set(KEY, String(Number(raised.b.value) + 1), b);
    expect((await register.get(KEY, b)).value).toBe('101');
  });

  test('leases of a manager pass the fence in turn', async () => {
    const locks = new LockManager({ store: redis(client, PATIENT) });
    const register = fenced(client, PATIENT);
    for (let round = 0; round < 20; round += 1) {
      await locks.withLock(KEY, async (lease) => {
        const { value } = await register.get(KEY, lease);
        await register.set(KEY, String(Number(value ?? 0) + 1), lease);
      });
    }
    expect(await client.hget(KEY, 'v')).toBe('20');
    await locks.close();
  });
});
