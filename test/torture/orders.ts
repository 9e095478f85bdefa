/** What a worker is told, and what it answers. */
import type { Place, Via } from './engines/engine.ts';

export const WORKLOADS = ['register', 'ledger', 'queue'] as const;
export type WorkloadName = (typeof WORKLOADS)[number];

/** Whose locks are used: ours, or those of a peer, which must be caught. */
export type Subject = 'leasehold' | 'redis-semaphore';

/** Given to a worker on its command line, as JSON. */
export interface Order {
  readonly worker: string;
  readonly subject: Subject;
  readonly workload: WorkloadName;
  readonly engine: string;
  readonly place: Place;
  /** Where what the locks protect is. */
  readonly valuesPlace: Place;
  readonly via: Via;
  /** Where its history goes. */
  readonly file: string;
  readonly seed: number;
  readonly tasks: number;
  readonly ttlMs: number;
  readonly retainMs: number;
  /** When the run began, in microseconds of the machine. */
  readonly startedUs: number;
}

export type ToWorker =
  /** Stop yourself when you next stand between a read and a write of that kind. */
  | { readonly is: 'stop before a write'; readonly isFenced: boolean }
  | { readonly is: 'never mind' }
  /** No more faults: end the work, then do it once more on each of these keys. */
  | Finish
  | { readonly is: 'close' };

export interface Finish {
  readonly is: 'finish';
  readonly keys: readonly string[];
}

export type FromWorker =
  | { readonly is: 'ready' }
  /** It stops now, with that value read and not yet written. */
  | { readonly is: 'stopping'; readonly key: string; readonly isFenced: boolean }
  | { readonly is: 'finished' };

/** Keys are used for so long, so that each has a history that can be judged. */
const GENERATION_US = 8_000_000;
const KEYS = 2;

/** The keys that are in use now. */
export function keysAt(workload: WorkloadName, startedUs: number, nowUs: number): string[] {
  const generation = workload === 'queue' ? 0 : Math.floor((nowUs - startedUs) / GENERATION_US);
  return Array.from({ length: KEYS }, (_, index) => `${workload}:${generation}:${index}`);
}
