/**
 * A client of Redlock in a process of its own, for a parent that stops it: `node redlock-child.mjs TTL_MS MAX_TTL_MS
 * URL…`. Tells when it is ready; each message is a key, which it tries to lock once, and tells whether it believes to
 * hold it.
 */
import { LockManager } from 'leasehold';
import { redlock } from 'leasehold/redlock';

const [ttlMs, maxTtlMs, ...urls] = process.argv.slice(2);
const store = redlock(urls, { durable: true, maxTtlMs: Number(maxTtlMs) });
const locks = new LockManager({ store, ttlMs: Number(ttlMs) });

async function tryOnce(key) {
  const lease = await locks.tryAcquire(key).catch(() => null);
  process.send({ holds: lease !== null && lease.remainingMs() > 0 });
}

process.on('message', (key) => void tryOnce(key));
process.on('disconnect', () => process.exit());
await locks.withLock('warm-up', async () => {});
process.send({ holds: false });
