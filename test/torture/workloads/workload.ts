/** What a workload has to work with. */
import type { SeededRandom } from 'leasehold/testing';
import type { Recorder } from '../history.ts';
import type { Held } from '../subjects.ts';
import type { Values } from '../values/values.ts';

export interface Place {
  readonly random: SeededRandom;
  readonly recorder: Recorder;
  readonly values: Values;
  readonly isFenced: () => boolean;
  /** A name that no other operation has. */
  readonly newNumber: () => string;
  /** Stops this process if that was ordered for a place like this. */
  readonly mayStop: (key: string, isFenced: boolean) => void;
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
