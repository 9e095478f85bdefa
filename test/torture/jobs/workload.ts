/** What a workload has that is a piece of work under a lock, done again and again by several tasks. */
import type { Held } from '../subjects.ts';
import type { Values } from '../values/values.ts';
import type { Context } from './job.ts';

export interface Place extends Pick<Context, 'random' | 'recorder' | 'newNumber' | 'mayStop'> {
  readonly values: Values;
  /**
   * Runs the work under the lock, whose hold the work looks at from time to time. Resolves with what the work says, and
   * with false when the lock was not got.
   */
  readonly locked: (
    key: string,
    work: (held: Held, look: () => void) => Promise<boolean>,
  ) => Promise<boolean>;
}

/** One piece of work under the lock of the key. Whether it was done; never rejects. */
export type Workload = (place: Place, key: string, isFenced: boolean) => Promise<boolean>;
