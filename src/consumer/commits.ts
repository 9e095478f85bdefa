/**
 * What commits under a lease and commits without the lock have in common: the ids by which a repeated one is known, and what
 * follows when one was made.
 */
import * as diagnostics from './diagnostics.ts';
import { type Base, KeptStates } from './kept.ts';
import type { Item } from './message.ts';
import type { Metrics } from './metrics.ts';
import type { Settings } from './options.ts';
import type { Failure, Settling } from './settling.ts';

/** A commit that was made. */
export interface Made {
  readonly base: Base;
  readonly done: readonly Item[];
  readonly failures: readonly Failure[];
  /** The state was in memory already. */
  readonly isKept: boolean;
}

export class Commits {
  /** `null` where no states are kept. */
  readonly kept: KeptStates | null;
  readonly #settling: Settling;
  readonly #metrics: Metrics;
  /** It travels with each commit and stands in each state: no longer than the nonce of an owner. */
  readonly #prefix: string = `${crypto.randomUUID().slice(-12)}:`;
  #count = 0;

  constructor(settings: Settings, settling: Settling, metrics: Metrics) {
    this.#settling = settling;
    this.#metrics = metrics;
    // An unused lock is given back within twice its retention.
    const turnMs = Math.max(1_000, 2 * settings.acquire.retainMs);
    this.kept = settings.reduction?.keepState ? new KeptStates(settings.clock, turnMs) : null;
  }

  /** Another one for each commit. */
  newId(): string {
    this.#count += 1;
    return `${this.#prefix}${this.#count}`;
  }

  made(key: string, { base, done, failures, isKept }: Made): void {
    this.kept?.put(key, base);
    this.#metrics.batches += 1;
    if (isKept) this.#metrics.kept += 1;
    if (diagnostics.batch.hasSubscribers) {
      const token = BigInt(base.fence);
      diagnostics.batch.publish({ key, token, messages: done.length, isKept });
    }
    this.#settling.applied(done);
    this.#settling.failed(failures);
  }
}
