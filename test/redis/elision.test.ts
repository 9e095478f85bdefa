/**
 * Commits without the lock on Redis, beyond what every engine has to do: what stands at the keys of a lock, and states that
 * somebody removes.
 */
import type { Redis } from 'ioredis';
import { LockManager } from 'leasehold';
import { consume, type Elision, type Sight, type StateStore } from 'leasehold/consumer';
import { MemoryQueue, memorySource } from 'leasehold/memory';
import { fenced, redis, redisState } from 'leasehold/redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { PATIENT, RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const LOCKED = { is: 'locked' };
let commits = 0;

lane('states on Redis without their locks', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  let state: StateStore;
  let elision: Elision;

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
    state = redisState(client, PATIENT);
    await state.open();
    elision = state.elision?.(redis(client, PATIENT)) as Elision;
  });
  afterEach(() => state.close());

  async function see(key: string): Promise<Sight> {
    const seen = await elision.look(key, key, []);
    if (seen.is !== 'seen') throw new Error(`it is ${seen.is}`);
    return seen;
  }

  function commit(key: string, { version, fence }: Sight, value: string) {
    commits += 1;
    const id = `commit-${commits}`;
    const expected = { expectedVersion: version, expectedFence: fence };
    return elision.commit({ key, lockName: key, id, value, messages: [], ...expected });
  }

  test('a lock of another client keeps out, whatever it looks like', async () => {
    const seen = await see('k');
    await client.set('lock:k', 'of another library', 'PX', 60_000, 'NX');
    expect(await commit('k', seen, 'v')).toEqual(LOCKED);
    await client.del('lock:k');
    expect(await commit('k', seen, 'v')).toMatchObject({ is: 'committed', version: 1 });
  });

  test('whoever waits keeps out, also when nobody has the lock at the moment', async () => {
    const seen = await see('k');
    const [holder, waiter] = [1, 2].map(() => new LockManager({ store: redis(client, PATIENT) }));
    try {
      await holder?.acquire('k');
      const waiting = waiter?.acquire('k', { waitMs: 60_000 });
      waiting?.catch(() => {});
      await until('it waits', async () => (await client.exists('leasehold:m:lock:k')) === 1);
      // As when the lease of a holder that was killed is over.
      await client.del('lock:k');
      expect(await elision.look('k', 'k', [])).toEqual(LOCKED);
      expect(await commit('k', seen, 'v')).toEqual(LOCKED);
      expect(await client.exists('state:k')).toBe(0);
    } finally {
      await Promise.all([holder?.close(), waiter?.close()]);
    }
  });

  test('a state that was removed and made anew is not the one that was seen', async () => {
    await commit('k', await see('k'), 'old');
    const seen = await see('k');
    await client.del('state:k');
    await commit('k', await see('k'), 'new');
    expect((await see('k')).version).toBe(seen.version);
    const outcome = await commit('k', seen, 'older still');
    expect(outcome).toMatchObject({ is: 'moved', value: 'new' });
    expect(await state.peek('k')).toBe('new');
  });

  test('a value that somebody has put there by hand is not taken for none', async () => {
    await client.hset('state:k', 'v', '100');
    const none = { version: 0, fence: '', value: null, marks: new Map() };
    expect(await commit('k', none as unknown as Sight, '1')).toMatchObject({
      is: 'moved',
      value: '100',
    });
  });

  test('a fence that somebody has put there by hand is refused, and no other state of its turn', async () => {
    await client.hset('state:k', 't', '5', 'n', '3', 'v', '100');
    const [refused, seen] = await Promise.allSettled(['k', 'l'].map(see));
    expect(refused).toMatchObject({ reason: { name: 'UnreadableAnswerError' } });
    expect(seen).toMatchObject({ value: { version: 0 } });
  });

  test('a late write under a token that is still the highest is noticed', async () => {
    const values = fenced(client, { ...PATIENT, prefix: 'state:' });
    const last = { tokenText: '7'.padStart(20, '0') };
    await values.set('k', 'of its time', last);
    const seen = await see('k');
    // Its lease is over, and nobody has come after it.
    await values.set('k', 'late', last);
    expect((await see('k')).fence).toBe(seen.fence);
    expect(await commit('k', seen, 'v')).toMatchObject({ is: 'moved', value: 'late' });
  });

  test('commits of one turn share a token, and the next ones have a higher one', async () => {
    const keys = Array.from({ length: 20 }, (_, index) => `k-${index}`);
    const seen = await Promise.all(keys.map((key) => see(key)));
    const commitAll = (sights: readonly Sight[]) =>
      Promise.all(keys.map((key, at) => commit(key, sights[at] as Sight, 'v')));
    const first = await commitAll(seen);
    expect(new Set(first.map((one) => one.is === 'committed' && one.fence)).size).toBe(1);
    const again = await Promise.all(keys.map((key) => see(key)));
    const [next] = await commitAll(again);
    const [before] = first;
    if (next?.is !== 'committed' || before?.is !== 'committed') throw new Error('not committed');
    expect(next.fence > before.fence).toBe(true);
    const locks = new LockManager({ store: redis(client, PATIENT) });
    const lease = await locks.acquire('k-0');
    expect(lease.tokenText > next.fence).toBe(true);
    await locks.close();
  });

  test('in one turn only those are refused whose own lock is taken', async () => {
    const keys = ['a', 'b', 'c'];
    const [a, b, c] = await Promise.all(keys.map(see));
    const locks = new LockManager({ store: redis(client, PATIENT) });
    const lease = await locks.acquire('b');
    const looks = await Promise.all(keys.map((key) => elision.look(key, key, [])));
    expect(looks.map(({ is }) => is)).toEqual(['seen', 'locked', 'seen']);
    const made = await Promise.all([
      commit('a', a as Sight, 'v'),
      commit('b', b as Sight, 'v'),
      commit('c', c as Sight, 'v'),
    ]);
    expect(made.map(({ is }) => is)).toEqual(['committed', 'locked', 'committed']);
    await lease.release();
    await locks.close();
  });

  test('a name that no lock can have is left to the lock, which refuses it', async () => {
    const unnamed = state.elision?.(redis(client, { ...PATIENT, prefix: '' }));
    expect(await unnamed?.look('k', 'leasehold:epoch', [])).toEqual(LOCKED);
  });

  describe('a consumer', () => {
    async function elided(
      from: Redis | string,
      locksFrom: Redis | string,
      options = {},
      total = '5',
    ) {
      const queue = new MemoryQueue();
      const locks = new LockManager({ store: redis(locksFrom, PATIENT) });
      const consumer = consume<{ key: string; amount: number }, number>({
        source: memorySource(queue),
        locks,
        state: redisState(from, PATIENT),
        keyOf: ({ body }) => body.key,
        reduce: (total, messages) =>
          messages.reduce((sum, { body }) => sum + body.amount, total ?? 0),
        ...options,
      });
      await consumer.ready;
      void queue.publish({ id: 'm', content: JSON.stringify({ key: 'k', amount: 5 }) });
      await until('it is applied', () => consumer.metrics().applied === 1);
      await consumer.stop();
      await locks.close();
      expect(await client.hget('state:k', 'v')).toBe(total);
      return consumer.metrics().elided;
    }

    test('goes on from a value that somebody has put there by hand, under the lock', async () => {
      await client.hset('state:k', 'v', '100');
      expect(await elided(client, client, {}, '105')).toBe(0);
    });

    test('takes no lock when it has the client of its locks, or their URL', async () => {
      expect(await elided(client, client)).toBe(1);
      await client.flushall();
      expect(await elided(server.url, server.url)).toBe(1);
      expect(await client.keys('lock:*')).toEqual([]);
    });

    test('takes it when nothing says that it is the same server, or when it is told to', async () => {
      expect(await elided(client, server.url)).toBe(0);
      for (const options of [{ elideLock: false }, { retainMs: 1_000 }]) {
        await client.flushall();
        expect(await elided(client, client, options)).toBe(0);
      }
    });

    test('waits while somebody has the lock', async () => {
      const other = new LockManager({ store: redis(client, PATIENT) });
      const held = await other.acquire('k');
      const done = elided(client, client);
      const isWaiting = async () => (await client.exists('leasehold:m:lock:k')) === 1;
      await until('it waits', isWaiting);
      expect(await client.exists('state:k')).toBe(0);
      await held.release();
      expect(await done).toBe(0);
      await other.close();
    });
  });
});
