/**
 * Many waiters in a process of their own, each with a claim of its own: `node redis-waiters-child.mjs URL KEY COUNT`.
 * Each notes its owner on the server while it holds the key, and gives the key back.
 */
import { Redis } from 'ioredis';
import { LockManager } from 'leasehold';
import { redis } from 'leasehold/redis';

const [url, key, count] = process.argv.slice(2);
const client = new Redis(url);

async function waitOnce(index) {
  const identity = `waiter:${process.pid}:${index}`;
  const locks = new LockManager({
    store: redis(client, { requestTimeoutMs: 60_000 }),
    ttlMs: 3_600_000,
    waitMs: 600_000,
    identity,
  });
  await locks.withLock(key, async () => {
    const [owner] = (await client.get(`lock:${key}`)).split(' ');
    await client.rpush('served', owner);
  });
  await locks.close();
}

await Promise.all(Array.from({ length: Number(count) }, (_, index) => waitOnce(index)));
client.disconnect();
