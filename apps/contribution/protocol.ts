/** What the story and its instances, which are processes of their own, say to each other. */
import type { GuardKind } from './guards.ts';

/** What an instance is told when it starts, as JSON in its first argument. */
export interface Job {
  /** Counted from 1; a replacement has a number of its own. */
  readonly instance: number;
  readonly tasks: number;
  readonly guard: GuardKind;
  /** Where the queue and the totals are. */
  readonly books: string;
  /** Where the locks are. */
  readonly locks: string;
}

export type FromInstance =
  /** Everything is open; the instance starts when it is told `go`, so that all start together. */
  | { readonly is: 'ready' }
  | {
      readonly is: 'progress';
      /** From asking for the lock to getting it, in milliseconds, once for each message. */
      readonly waitsMs: readonly number[];
      /** Messages given back to be delivered again: the lock was not got in time, or was lost. */
      readonly putBack: number;
    }
  /** Nothing is left in the queue. */
  | { readonly is: 'done' };

export type ToInstance = 'go';
