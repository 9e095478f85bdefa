/**
 * A key space of many lock names, each used once, returns to empty. `LEASEHOLD_NAMES=1000000` makes it a million.
 */
import type { Redis } from 'ioredis';
import { LockManager } from 'leasehold';
import { redis } from 'leasehold/redis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const NAMES = Number(process.env['LEASEHOLD_NAMES'] ?? 3_000);
/** Under way at once. */
const TASKS = 300;
const KINDS = [{}, { mode: 'shared' }, { limit: 2 }] as const;
const TIMEOUT_MS = 60_000 + NAMES;

lane('many names on Redis', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  beforeAll(async () => {
    server = await RedisServer.start(['--appendonly', 'no']);
    client = server.client();
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });

  const memory = async (): Promise<number> =>
    Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1]);

  test(`nothing is left of ${NAMES} names but the last epoch`, {
    timeout: TIMEOUT_MS,
  }, async () => {
    const [one, other] = [redis(server.url), redis(server.url)].map(
      (store) => new LockManager({ store, ttlMs: 600_000, waitMs: TIMEOUT_MS }),
    ) as [LockManager, LockManager];
    for (const locks of [one, other]) await (await locks.acquire('warm-up')).release();
    const before = await memory();
    let used = 0;
    async function task(): Promise<void> {
      while (used < NAMES) {
        const index = used;
        used += 1;
        const kind = KINDS[index % KINDS.length];
        const name = `name:${index}`;
        const lease = await one.acquire(name, kind);
        // Another process asks for some of them meanwhile, and waits where it has to.
        const next = index % 10 === 0 ? other.acquire(name, kind) : null;
        await lease.release();
        await (await next)?.release();
      }
    }
    await Promise.all(Array.from({ length: TASKS }, task));
    expect(await client.keys('*')).toEqual(['leasehold:epoch']);
    // It ends by itself, a day after its last use.
    const leftMs = await client.pttl('leasehold:epoch');
    expect(leftMs).toBeGreaterThan(0);
    expect(leftMs).toBeLessThanOrEqual(86_400_000);
    process.stdout.write(
      `${NAMES} names: used memory ${before} bytes before, ${await memory()} bytes after\n`,
    );
    await Promise.all([one.close(), other.close()]);
  });
});
