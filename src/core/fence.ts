/**
 * What a fence, wherever the data is, needs of a lease, and what it says when it refuses.
 */
import { LeaseholdError } from './errors.ts';
import type { Lease } from './lease.ts';

/** What a fence needs of a lease. */
export type Token = Pick<Lease, 'tokenText'>;

/** The fence refused a read or a write: somebody with a higher token was here. Stop, and do the work again under a new lease. */
export class StaleTokenError extends LeaseholdError {
  readonly code = 'STALE_TOKEN';
  /** What the fence protects. */
  declare readonly key: string;
  /** The token of the lease that was used, as 20 digits. */
  declare readonly token: string;
  /** The highest token that the fence has seen, as 20 digits. */
  declare readonly fence: string;

  constructor(key: string, token: string, fence: string) {
    super(
      `'${key}' is fenced: token ${token} came after ${fence}; stop the work and do it again under a new lease ` +
        '(or reset the fence, if the lock has moved to another store)',
      { key, token, fence },
    );
  }
}
