/** What a worker process does, and what it has for that. */
import type { SeededRandom } from 'leasehold/testing';
import type { Recorder } from '../history.ts';
import type { Finish, Order } from '../orders.ts';

export interface Context {
  readonly order: Order;
  readonly random: SeededRandom;
  readonly recorder: Recorder;
  /** Set once faults are over. */
  finish: Finish | null;
  /** Something came out of the package that must not. */
  readonly wrong: (what: string) => void;
  /** A name that no other operation has. */
  readonly newNumber: () => string;
  /** Between a read and a write: stops this process if that was ordered for a place like this. */
  readonly mayStop: (key: string, isFenced: boolean) => void;
}

export interface Job {
  /** Works until it is told to finish, and then to the end. */
  run(): Promise<void>;
  close(): Promise<void>;
}
