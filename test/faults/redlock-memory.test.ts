/**
 * What the masters of Redlock remember: nodes that lost their data, and nodes whose clocks jump.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Lease, type LockManager, StoreUnavailableError } from 'leasehold';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { removeFolder, temporaryFolder, until } from '../servers/processes.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { readHistory, startWorkers } from './redis-register.ts';
import { Masters, TTL_MS } from './redlock-masters.ts';

const KEY = 'order:7';
const MEMORY = 'leasehold:redlock';
/** A lock that is valid for so long that a test sees whether somebody else gets it meanwhile. */
const LONG_TTL_MS = 3_000;

/** State, longest ttl, floor, run id, and since when: see src/redlock/scripts/marker.ts. */
async function markerOf(server: RedisServer): Promise<string[]> {
  return String(await server.command('HGET', MEMORY, 'node')).split(' ');
}

async function isVoting(server: RedisServer): Promise<boolean> {
  return (await markerOf(server))[0] === 'votes';
}

/** The fields that begin so, with what they hold. */
async function fieldsOf(server: RedisServer, start: RegExp): Promise<[string, string][]> {
  const all = (await server.command('HGETALL', MEMORY)) as string[];
  const pairs = all.flatMap((field, at): [string, string][] =>
    at % 2 === 0 ? [[field, all[at + 1] as string]] : [],
  );
  return pairs.filter(([field]) => start.test(field));
}

async function restartEmpty(server: RedisServer): Promise<void> {
  await server.kill();
  await server.startAgain();
}

lane('Redlock and nodes that forget', TOOLS.redis, () => {
  describe('three masters', () => {
    let masters: Masters;
    beforeAll(async () => {
      masters = await Masters.start(3);
    });
    afterEach(() => masters.settle());
    afterAll(() => masters.close());

    /** The masters by name, and managers that have seen all of them vote. */
    async function begin(ttlMs = TTL_MS): Promise<{ one: LockManager; other: LockManager }> {
      const make = () => masters.manager({ ttlMs, store: masters.store({ maxTtlMs: ttlMs }) });
      const [one, other] = [make(), make()];
      await until('all vote', async () => {
        await one.withLock('warm-up', async () => {});
        return (await Promise.all(masters.servers.map(isVoting))).every(Boolean);
      });
      await other.withLock('warm-up', async () => {});
      return { one, other };
    }

    test('a node that forgot a lease does not help to grant it again while it lasts', async () => {
      const { one, other } = await begin(LONG_TTL_MS);
      const [first, , third] = masters.servers as [RedisServer, RedisServer, RedisServer];
      masters.proxies[2]?.refuse();
      const lease = await one.acquire(KEY);
      // Its holder is stopped from here on: nobody fills in, renews or releases.
      const still = lease.remainingMs();
      expect(still).toBeGreaterThan(0);
      await until('the third has no lock', async () => {
        return (await third.command('GET', `lock:${KEY}`)) === null;
      });
      await restartEmpty(first);
      masters.proxies[2]?.forward();
      await until('the first abstains', async () => {
        await other.tryAcquire('probe').catch(() => null);
        return (await markerOf(first))[0] === 'new';
      });
      const waiting = other.acquire(KEY);
      let next: Lease | undefined;
      void waiting.then((granted) => {
        next = granted;
      });
      await until('the lease is over', () => lease.state === 'lost' || next !== undefined);
      expect(lease.state).toBe('lost');
      next = await waiting;
      expect(next.token).toBeGreaterThan(lease.token);
      await next.release();
    });

    test('a node votes again only above the epochs that the others know', async () => {
      const { one } = await begin();
      const [first, second, third] = masters.servers as [RedisServer, RedisServer, RedisServer];
      // As if a client whose clock is an hour ahead had been granted the key by the first and the second.
      const epoch = BigInt(Date.now() - Date.UTC(2020, 0, 1) + 3_600_000) * 1_000n;
      const slot = String((await import('../../dist/src/redis/slots.js')).slotOf(`lock:${KEY}`));
      for (const server of [first, second]) {
        await server.command('HSET', MEMORY, slot, String(epoch));
      }
      await restartEmpty(first);
      second.pause();
      // The first and the third are a majority, but only the second knows.
      const tried = one.acquire(KEY, { waitMs: 3 * TTL_MS });
      await expect(tried).rejects.toBeInstanceOf(StoreUnavailableError);
      expect(await isVoting(first)).toBe(false);
      second.resume();
      await until('the first votes again', async () => {
        await one.withLock('other', async () => {});
        return isVoting(first);
      });
      expect(Number(await third.command('HGET', MEMORY, slot))).toBeLessThan(Number(epoch));
      second.pause();
      // It has learned nothing from refusals yet: what it proposes at first is an hour too low.
      const lease = await masters.manager().acquire(KEY);
      expect(lease.token / 4096n).toBeGreaterThan(epoch);
      await lease.release();
    });

    test('a node abstains for the longest ttl that any client uses', async () => {
      const { one } = await begin();
      const patient = masters.manager({
        ttlMs: LONG_TTL_MS,
        store: masters.store({ maxTtlMs: LONG_TTL_MS }),
      });
      const first = masters.servers[0] as RedisServer;
      await patient.withLock('patient', async () => {});
      await patient.close();
      await restartEmpty(first);
      // Only a client with a short ttl is left to see it.
      await until('it abstains for the long one', async () => {
        await one.withLock('other', async () => {});
        const [state, longest] = await markerOf(first);
        return longest === String(LONG_TTL_MS) && state !== 'votes';
      });
    });

    /** How often a node was asked for its run id since its figures were reset. */
    async function asked(server: RedisServer): Promise<number> {
      const figures = String(await server.command('INFO', 'commandstats'));
      return Number(/cmdstat_info:calls=(\d+)/.exec(figures)?.[1] ?? 0);
    }
    const stateOf = async (server: RedisServer): Promise<string> =>
      (await markerOf(server))[0] as string;
    const witnessOf = async (server: RedisServer): Promise<string> =>
      String(await server.command('HGET', MEMORY, `w${TTL_MS}`));

    test('a node is asked for its run id once, and again when its witness is gone', async () => {
      const { one } = await begin();
      const first = masters.servers[0] as RedisServer;
      const before = await witnessOf(first);
      expect(before).toMatch(/^leasehold:w:/);
      await first.command('CONFIG', 'RESETSTAT');
      for (let round = 0; round < 10; round += 1) await one.withLock(KEY, async () => {});
      expect(await asked(first)).toBe(0);
      await first.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
      await until('it has another witness', async () => {
        await one.withLock(KEY, async () => {});
        return (await witnessOf(first)) !== before;
      });
      expect(await stateOf(first)).toBe('votes');
      await first.command('CONFIG', 'RESETSTAT');
      for (let round = 0; round < 10; round += 1) await one.withLock(KEY, async () => {});
      expect(await asked(first)).toBe(0);
    });

    test.each(['restarted with an old snapshot', 'replaced by its replica'])(
      'a node that is %s abstains, though its marker says that it votes',
      async (how) => {
        const { one, other } = await begin();
        const first = masters.servers[0] as RedisServer;
        const replica = await RedisServer.start(['--appendonly', 'no']);
        // An epoch of long ago, of another slot.
        await first.command('HSET', MEMORY, '1', '7');
        try {
          if (how.startsWith('replaced')) {
            await replica.command('REPLICAOF', '127.0.0.1', first.port);
            await until('the replica has the marker', async () => {
              return (await replica.command('HGET', MEMORY, 'node')) !== null;
            });
            await replica.command('REPLICAOF', 'NO', 'ONE');
            masters.proxies[0]?.retarget(replica.port);
            masters.proxies[0]?.cut();
          } else {
            await first.command('SAVE');
            await first.kill();
            await first.startAgain();
          }
          const now = how.startsWith('replaced') ? replica : first;
          expect(await stateOf(now)).toBe('votes');
          // Before anybody claims there.
          await until('both stores listen there again', async () => {
            const heard = await now.command('PUBSUB', 'CHANNELS', 'leasehold:w:*');
            return (heard as string[]).length === 2;
          });
          await until('it abstains', async () => {
            await Promise.all([one, other].map((locks) => locks.withLock(KEY, async () => {})));
            return (await stateOf(now)) === 'back';
          });
          // No claim looks further where it finds one of these.
          expect(await fieldsOf(now, /^[wd]/)).toEqual([]);
          await until('it votes again', async () => {
            await one.withLock(KEY, async () => {});
            return (await stateOf(now)) === 'votes';
          });
          const [, , floor] = await markerOf(now);
          const known = await fieldsOf(now, /^\d/);
          expect(known.filter(([, epoch]) => Number(epoch) <= Number(floor))).toEqual([]);
        } finally {
          masters.proxies[0]?.retarget(first.port);
          masters.proxies[0]?.cut();
          rmSync(join(first.folder, 'dump.rdb'), { force: true });
          await replica.close();
        }
      },
    );

    test('a node whose data is flushed abstains; one whose scripts are flushed goes on', async () => {
      const { one } = await begin();
      const first = masters.servers[0] as RedisServer;
      await Promise.all(masters.servers.map((server) => server.command('SCRIPT', 'FLUSH')));
      await one.withLock(KEY, async () => {});
      expect(await Promise.all(masters.servers.map(isVoting))).toEqual([true, true, true]);
      await first.command('FLUSHALL');
      await one.withLock(KEY, async () => {});
      await until('it abstains', async () => {
        await one.withLock(KEY, async () => {});
        return (await stateOf(first)) === 'new';
      });
    });

    test('all nodes lose everything: tokens go on with the clocks once all leases are over', async () => {
      const { one } = await begin();
      const before = await one.acquire(KEY);
      for (const server of masters.servers) await restartEmpty(server);
      await until('the lease is lost', () => before.state === 'lost');
      const lease = await one.acquire(KEY);
      expect(lease.token).toBeGreaterThan(before.token);
      await lease.release();
    });
  });

  test('durable nodes go on at once, and a lease survives the restart of all of them', async () => {
    const servers = await Promise.all([1, 2, 3].map(() => RedisServer.start()));
    const { LockManager } = await import('leasehold');
    const { redlock } = await import('leasehold/redlock');
    const urls = servers.map(({ url }) => url);
    const make = () =>
      new LockManager({
        store: redlock(urls, { durable: true, maxTtlMs: 600_000 }),
        ttlMs: 60_000,
      });
    const [one, other] = [make(), make()];
    try {
      const lease = await one.acquire(KEY);
      await Promise.all(servers.map((server) => server.restart()));
      await until('another is refused', async () => {
        return (await other.tryAcquire(KEY).catch(() => undefined)) === null;
      });
      lease.assertHeld();
      await lease.release();
      const next = await other.acquire(KEY);
      expect(next.token).toBeGreaterThan(lease.token);
      await next.release();
    } finally {
      await Promise.all([one.close(), other.close()]);
      await Promise.all(servers.map((server) => server.close()));
    }
  });
});

lane('Redlock and clocks that jump', TOOLS.faketime, (library) => {
  const PROGRESS = 25;
  let folder: string;
  let masters: Masters;
  let registers: RedisServer;
  const clockOf = (index: number): string => join(folder, `clock-${index}`);

  beforeAll(async () => {
    folder = temporaryFolder();
    masters = await Masters.start(3, (index) => {
      writeFileSync(clockOf(index), '+0s\n');
      return {
        LD_PRELOAD: `${library}:libc.so.6`,
        FAKETIME_TIMESTAMP_FILE: clockOf(index),
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      };
    });
    registers = await RedisServer.start(['--appendonly', 'no']);
  });
  afterEach(() => masters.settle());
  afterAll(async () => {
    await masters.close();
    await registers.close();
    removeFolder(folder);
  });

  async function setClock(index: number, offset: string): Promise<void> {
    await writeFile(`${clockOf(index)}.new`, `${offset}\n`);
    await rename(`${clockOf(index)}.new`, clockOf(index));
    const aheadS = Number(offset.slice(0, -1));
    await until('the clock is set', async () => {
      const server = masters.servers[index] as RedisServer;
      const [seconds] = (await server.command('TIME')) as [string];
      return Math.abs(Number(seconds) - Date.now() / 1_000 - aheadS) < 5;
    });
  }

  test.each([
    ['a minority', [1]],
    ['a majority', [0, 2]],
  ])('%s is set forward, and back', async (_, nodes) => {
    const client = registers.client();
    try {
      await client.flushall();
      const workers = startWorkers(masters.managers(3), client, 'register');
      const progress = async (): Promise<void> => {
        const enough = workers.done + PROGRESS;
        await until(`${PROGRESS} more counts`, () => workers.done >= enough);
      };
      await progress();
      for (const offset of ['+20s', '-20s', '+0s']) {
        for (const node of nodes) await setClock(node, offset);
        await progress();
      }
      await workers.stop();
      const { value, tokens } = await readHistory(client);
      expect(tokens).toHaveLength(value);
      expect(value).toBeGreaterThanOrEqual(workers.done);
      expect(tokens).toEqual([...tokens].sort());
      // With a majority, that is what the fence is for.
      if (nodes.length === 1) expect(workers.overlaps).toBe(0);
    } finally {
      client.disconnect();
    }
  });
});
