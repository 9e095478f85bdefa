/**
 * A register that several managers count up under a lock, each with a fenced read and a fenced write. The server keeps a
 * log of the tokens that wrote. Whatever is lost in a failover, what is left must be a history without a lost update: as
 * many entries as the register says, with tokens that never fall.
 */

import { setTimeout } from 'node:timers/promises';
import type { Lease, LockManager } from 'leasehold';
import { type AnyRedisClient, fenced, StaleTokenError } from 'leasehold/redis';

const REGISTER = '{register}:value';
const LOG = '{register}:log';
const WRITE =
  "redis.call('RPUSH', KEYS[2], ARGV[2]); return redis.call('HSET', KEYS[1], 'v', ARGV[1])";
/** Between two attempts of work that a fault has cost. */
const PAUSE_MS = 20;

export interface Workers {
  /** Counts of the register that were acknowledged. */
  readonly done: number;
  /** Fences that refused a stale holder. */
  readonly stale: number;
  /** Leases that began while another was valid, by the one clock of this process. */
  readonly overlaps: number;
  /** Ends the work, and waits until nobody holds the lock. */
  stop(): Promise<void>;
}

/** Starts one worker on each manager, until they are stopped. Whatever a fault throws is tried again. */
export function startWorkers(
  managers: readonly LockManager[],
  client: AnyRedisClient,
  key: string,
  waitMs = 5_000,
): Workers {
  const register = fenced(client, { requestTimeoutMs: 500 });
  const counts = { done: 0, stale: 0, overlaps: 0 };
  const inside = new Set<Lease>();
  let isOver = false;
  async function count(locks: LockManager): Promise<void> {
    await locks.withLock(key, { waitMs }, async (lease) => {
      for (const other of inside) if (other.remainingMs() > 0) counts.overlaps += 1;
      inside.add(lease);
      try {
        await write(lease);
      } finally {
        inside.delete(lease);
      }
      counts.done += 1;
    });
  }
  async function write(lease: Lease): Promise<void> {
    const { value } = await register.get(REGISTER, lease);
    await register.run(
      WRITE,
      [REGISTER, LOG],
      [String(Number(value ?? 0) + 1), lease.tokenText],
      lease,
    );
  }
  const workers = managers.map(async (locks) => {
    while (!isOver) {
      try {
        await count(locks);
      } catch (error) {
        if (error instanceof StaleTokenError) counts.stale += 1;
        await setTimeout(PAUSE_MS);
      }
    }
  });
  return {
    get done() {
      return counts.done;
    },
    get stale() {
      return counts.stale;
    },
    get overlaps() {
      return counts.overlaps;
    },
    async stop() {
      isOver = true;
      await Promise.all(workers);
    },
  };
}

export interface History {
  readonly value: number;
  readonly tokens: readonly string[];
}

/** What has survived. */
export async function readHistory(client: {
  hget(key: string, field: string): Promise<string | null>;
  lrange(key: string, first: number, last: number): Promise<string[]>;
}): Promise<History> {
  const value = Number((await client.hget(REGISTER, 'v')) ?? 0);
  return { value, tokens: await client.lrange(LOG, 0, -1) };
}
