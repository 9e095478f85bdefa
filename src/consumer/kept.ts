/**
 * States that are kept in memory with the grant under which they were read or written, or with what stands at their fence.
 *
 * The epoch of a token is new for each grant of the store, so that an equal epoch says: the lock was held all the time,
 * by this process. Without the lock it is the commit that looks whether the state is still this one. Two generations bound
 * the memory without a look at each entry: what was not used for a whole turn is forgotten, as its lock, if there was one,
 * has been given back by then.
 */
import type { Clock, Timer } from '../core/clock.ts';

export interface Base {
  /** `null` for what was read or written without the lock. */
  readonly epoch: bigint | null;
  readonly version: number;
  /** The token at its fence, as 20 digits; empty when there is none. */
  readonly fence: string;
  /** As it is stored; `null` when there is none yet. */
  readonly text: string | null;
  /** What the text means; `undefined` when it has to be decoded, as after a reducer had it in its hands. */
  readonly state: unknown;
}

/** What a reducer did to the state in its hands does not matter. */
export function asStored(base: Base): Base {
  return { ...base, state: undefined };
}

/** Stays in its map when its state is taken out: entries that come and go would have the map made anew all the time. */
interface Entry {
  base: Base | null;
}

/** Entries of one generation, at most. */
const MAX_ENTRIES = 100_000;

export class KeptStates {
  readonly #clock: Clock;
  readonly #turnMs: number;
  #young = new Map<string, Entry>();
  #old = new Map<string, Entry>();
  #timer: Timer;

  constructor(clock: Clock, turnMs: number) {
    this.#clock = clock;
    this.#turnMs = turnMs;
  }

  /** Takes it out: only a commit that is known to have been made puts one in again. Without an epoch, any will do. */
  take(key: string, epoch?: bigint): Base | null {
    const entry = this.#young.get(key) ?? this.#old.get(key);
    if (!entry?.base) return null;
    const { base } = entry;
    entry.base = null;
    return epoch === undefined || base.epoch === epoch ? base : null;
  }

  put(key: string, base: Base): void {
    const entry = this.#young.get(key);
    if (entry) {
      entry.base = base;
      return;
    }
    if (this.#young.size >= MAX_ENTRIES) this.#turn();
    this.#young.set(key, { base });
    this.#timer ??= this.#clock.setTimer(() => this.#tick(), this.#turnMs, false);
  }

  clear(): void {
    this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#young.clear();
    this.#old.clear();
  }

  #tick(): void {
    this.#turn();
    const isEmpty = this.#young.size + this.#old.size === 0;
    this.#timer = isEmpty
      ? undefined
      : this.#clock.setTimer(() => this.#tick(), this.#turnMs, false);
  }

  #turn(): void {
    this.#old = this.#young;
    this.#young = new Map();
  }
}
