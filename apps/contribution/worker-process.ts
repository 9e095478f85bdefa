/** A worker as its parent sees it: how it is started, and what the two say to each other. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { EngineNames } from './engine-names.ts';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));

/** What stands around the critical section: see `naive.ts` and `worker.ts`. */
export type GuardKind = 'none' | 'process' | 'leasehold';

/** What a worker is told when it starts, as JSON in its first argument. */
export interface Job {
  /** Counted from 1; a replacement has a number of its own. */
  readonly instance: number;
  /** Messages that it works on at a time. */
  readonly tasks: number;
  readonly guard: GuardKind;
  readonly engines: EngineNames;
}

export type FromWorker =
  /** Everything is open; it starts when it is told `go`, so that all start together. */
  | { readonly is: 'ready' }
  | {
      readonly is: 'progress';
      /** Messages that it is done with, since it was started. */
      readonly settled: number;
      /** Messages that it was given and is not done with. */
      readonly unsettled: number;
      /** How often a message came back later since the last report, as its lock was not got in time. */
      readonly busy: number;
      /** From asking for the lock to getting it, in milliseconds, since the last report. */
      readonly waitsMs: readonly number[];
      /** For whoever measures: name and value. */
      readonly metrics: Readonly<Record<string, number>>;
    };

export type ToWorker = 'go';

export function startWorker(job: Job): ChildProcess {
  return fork(WORKER, [JSON.stringify(job)]);
}
