/**
 * Whether it pays to keep unused locks for a while. It does when the same process needs them next, as with partitions or
 * a process alone. Where several processes get messages of the same keys, a lock that was kept has to be asked for, and that
 * costs more than to take a free one. So now and then it is looked whether a kept lock was still there when its key had
 * messages again.
 */
import type { Clock } from '../core/clock.ts';

/** Below this share of locks that were still there, none is kept but for a look. */
const WORTH = 0.9;
/** What one look counts. */
const WEIGHT = 1 / 32;
/** Of the lanes, so many are looked at. */
const LOOKED_AT = 1 / 8;
/** Of the lanes, so many keep their lock for a look although it does not pay. */
const TRIED = 1 / 32;
const MAX_LOOKS = 1_000;

/** What was kept: the epoch is new for each grant of the store. */
interface Look {
  readonly epoch: bigint;
  readonly untilMs: number;
}

export class Retention {
  readonly #retainMs: number;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #looks = new Map<string, Look>();
  #share = 1;

  constructor(retainMs: number, clock: Clock, random: () => number) {
    this.#retainMs = retainMs;
    this.#clock = clock;
    this.#random = random;
  }

  get #pays(): boolean {
    return this.#share >= WORTH;
  }

  /** Whether the next lane is to keep its lock. */
  wants(): boolean {
    return this.#pays || this.#random() < TRIED;
  }

  /** A lock was given back, to be kept. */
  kept(key: string, epoch: bigint): void {
    if (this.#pays && this.#random() >= LOOKED_AT) return;
    const nowMs = this.#clock.monotonicMs();
    // In the order in which they end.
    for (const [other, { untilMs }] of this.#looks) {
      if (untilMs > nowMs) break;
      this.#looks.delete(other);
    }
    this.#looks.delete(key);
    if (this.#looks.size < MAX_LOOKS) {
      this.#looks.set(key, { epoch, untilMs: nowMs + this.#retainMs });
    }
  }

  /** The key has messages again, and this is its lock. */
  needed(key: string, epoch: bigint): void {
    const look = this.#looks.get(key);
    if (look === undefined) return;
    this.#looks.delete(key);
    // Later it would have been given back in any case.
    if (this.#clock.monotonicMs() >= look.untilMs) return;
    this.#share += ((look.epoch === epoch ? 1 : 0) - this.#share) * WEIGHT;
  }
}
