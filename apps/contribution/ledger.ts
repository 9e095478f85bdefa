/**
 * The totals that the contributions are added to, each guarded by a fence.
 *
 * A fence remembers the highest token that touched the total, and refuses lower ones. So an instance that was stopped,
 * lost its lease and goes on as if nothing had happened cannot write over what its successor did.
 */
import type { Database, RootDatabase } from 'lmdb';
import type { Delivery, Queue } from './queue.ts';

interface TotalRecord {
  /** Decimal text: exact at any size. */
  readonly cents: string;
  /** How many contributions are in it: a lost update is missing here as well. */
  readonly contributions: number;
  /** The highest fencing token so far, 20 digits; as text, they compare like the numbers. */
  readonly fence: string;
}

export interface Total {
  readonly cents: bigint;
  readonly contributions: number;
}

/** A newer lease has read or written this total: this one is over, and so is everything that was read under it. */
export class StaleTokenError extends Error {
  constructor(account: string, token: string, fence: string) {
    super(`a newer lease works on ${JSON.stringify(account)}: its fence is ${fence}, not ${token}`);
    this.name = 'StaleTokenError';
  }
}

const NOTHING: TotalRecord = { cents: '0', contributions: 0, fence: '' };

export class Ledger {
  readonly #environment: RootDatabase;
  readonly #queue: Queue;
  readonly #totals: Database<TotalRecord, string>;

  constructor(environment: RootDatabase, queue: Queue) {
    this.#environment = environment;
    this.#queue = queue;
    this.#totals = environment.openDB('totals', {});
  }

  /**
   * Reads a total. With a token, the read raises the fence as well: if only writes did, a stale lease could still write
   * between the read and the write of its successor, and the successor would write over it.
   */
  read(account: string, token: string | null): Promise<Total> {
    return this.#environment.transaction(() => {
      const record = this.#totals.get(account) ?? NOTHING;
      if (token !== null) {
        if (token < record.fence) throw new StaleTokenError(account, token, record.fence);
        if (token > record.fence) this.#totals.putSync(account, { ...record, fence: token });
      }
      return { cents: BigInt(record.cents), contributions: record.contributions };
    });
  }

  /**
   * Writes the new total and acknowledges the message that made it, in one atomic step. A message that is not this
   * instance's any more was delivered again to another one: then nothing is written, since the other will.
   */
  async commit(delivery: Delivery, total: Total, token: string | null): Promise<void> {
    await this.#environment.transaction(() => {
      if (!this.#queue.isUnacknowledged(delivery)) return;
      const { fence } = this.#totals.get(delivery.account) ?? NOTHING;
      if (token !== null && token !== fence) {
        throw new StaleTokenError(delivery.account, token, fence);
      }
      const { contributions } = total;
      this.#totals.putSync(delivery.account, {
        cents: total.cents.toString(),
        contributions,
        fence,
      });
      this.#queue.acknowledge(delivery);
    });
  }

  /** All totals as they are now. */
  totals(): Map<string, Total> {
    const totals = new Map<string, Total>();
    for (const { key, value } of this.#totals.getRange()) {
      totals.set(key, { cents: BigInt(value.cents), contributions: value.contributions });
    }
    return totals;
  }
}
