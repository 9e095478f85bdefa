/**
 * What is done with a batch while its key is locked. Whatever a work could not bring to an end, it gives back.
 */
import { GRANTS_PER_EPOCH, type Lease } from '../core/lease.ts';
import type { Setback } from './diagnostics.ts';
import type { Eliding } from './eliding.ts';
import type { Item } from './message.ts';

/** Messages that have to be worked on again, under a new lease. */
export interface Unfinished {
  readonly items: readonly Item[];
  readonly setback: Setback;
}

export interface Work {
  /** Tried before the lock is taken; `null` where it always is. */
  readonly eliding: Eliding | null;
  /** Every message is settled, or on its way to be, when it resolves with `null`. Never rejects. */
  run(key: string, items: readonly Item[], lease: Lease): Promise<Unfinished | null>;
  /** Forgets what it keeps in memory. */
  close(): void;
}

const PER_EPOCH = BigInt(GRANTS_PER_EPOCH);

/** New for each grant of the store: equal epochs mean that the lock was held in between. */
export function epochOf(lease: Lease): bigint {
  return lease.token / PER_EPOCH;
}

export function isLost(lease: Lease): boolean {
  return lease.state === 'lost';
}
