/**
 * Independent masters for Redlock.
 */
import { LockManager } from 'leasehold';
import { redlock } from 'leasehold/redlock';
import { BenchServer } from './server.ts';

/** New masters abstain for the longest ttl in use: nobody could know that they have not forgotten anything. */
const FIRST_TTL_MS = 1_000;

/** Runs with so many masters that vote, which are gone afterwards. */
export async function withMasters<T>(
  count: number,
  use: (masters: readonly BenchServer[]) => Promise<T>,
): Promise<T> {
  const masters = await Promise.all(Array.from({ length: count }, () => BenchServer.start()));
  try {
    const clients = masters.map((master) => master.client());
    const store = redlock(clients, { maxTtlMs: FIRST_TTL_MS });
    const locks = new LockManager({ store, ttlMs: FIRST_TTL_MS });
    await locks.withLock('first', async () => {});
    await locks.close();
    for (const client of clients) client.disconnect();
    return await use(masters);
  } finally {
    await Promise.all(masters.map((master) => master.close()));
  }
}
