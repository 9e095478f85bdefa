/**
 * What the parts of one manager share: its store, its clock, its cohorts, and how a call to the store is made.
 */
import { type Clock, systemClock } from './clock.ts';
import type { Cohort } from './cohort.ts';
import * as diagnostics from './diagnostics.ts';
import { type LockManagerOptions, readNumber } from './options.ts';
import { type Renewal, startRenewal } from './renewal.ts';
import type { ClaimId, LeaseStore, StoreEvent } from './store.ts';

/** The first retry of an unanswered call comes after about this time. */
const RETRY_FLOOR_MS = 50;
/** Later ones come at the latest after about this. */
const RETRY_CEILING_MS = 1_000;
/** A drop that nobody answers is given up after so many attempts: the store ends the lease by its ttl. */
const MAX_DROP_ATTEMPTS = 10;

type Operation = 'claim' | 'renew' | 'drop' | 'close';

export class Runtime {
  readonly store: LeaseStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly identity: string;
  readonly maxPasses: number;
  readonly maxPassMs: number;
  readonly renewal: Renewal;
  /** Of every key that is in use, waited for, or retained. */
  readonly cohorts: Map<string, Cohort> = new Map();
  /** Leases in use, callers that wait, and calls to the store that are under way or tried again. */
  leases = 0;
  waiting = 0;
  calls = 0;
  readonly #onEvent: (event: StoreEvent) => void;
  #opening: Promise<void> | undefined;
  #isOpen = false;
  #owners = 0;

  constructor(options: LockManagerOptions, identity: string, onEvent: (event: StoreEvent) => void) {
    const { fairness = {} } = options;
    this.store = options.store;
    this.clock = options.clock ?? systemClock;
    this.random = options.random ?? Math.random;
    this.identity = identity;
    this.maxPasses = readNumber(fairness, 'maxPasses');
    this.maxPassMs = readNumber(fairness, 'maxPassMs');
    this.renewal = startRenewal(this);
    this.#onEvent = onEvent;
  }

  /** An owner value that was never used before. */
  newOwner(): string {
    this.#owners += 1;
    return this.identity + this.#owners.toString(36);
  }

  /** Makes one call to the store, once it is open. A store that is still being opened can be closed. */
  async call<Name extends Operation>(
    operation: Name,
    ...args: Parameters<LeaseStore[Name]>
  ): Promise<Awaited<ReturnType<LeaseStore[Name]>>> {
    const { store } = this;
    this.calls += 1;
    try {
      if (!this.#isOpen && operation !== 'close') await this.#open();
      const method = store[operation] as (...given: unknown[]) => ReturnType<LeaseStore[Name]>;
      return await method.apply(store, args);
    } catch (cause) {
      if (diagnostics.storeError.hasSubscribers) {
        diagnostics.storeError.publish({ store: store.name, operation, cause });
      }
      throw cause;
    } finally {
      this.calls -= 1;
    }
  }

  /** A jittered delay before an unanswered call is made again, in milliseconds. */
  retryMs(attempt: number, ttlMs: number): number {
    const ceilingMs = Math.min(RETRY_CEILING_MS, ttlMs / 3);
    return Math.min(ceilingMs, RETRY_FLOOR_MS * 2 ** attempt) * (0.5 + this.random() / 2);
  }

  /** Drops a claim, again until the store answers. The first attempt may be under way. Never rejects. */
  async drop(id: ClaimId, ttlMs: number, first?: Promise<unknown>): Promise<void> {
    this.calls += 1;
    let answer = first;
    for (let attempt = 0; attempt < MAX_DROP_ATTEMPTS; attempt += 1) {
      try {
        await (answer ?? this.call('drop', id));
        break;
      } catch {
        answer = undefined;
        await this.delay(this.retryMs(attempt, ttlMs), false);
      }
    }
    this.calls -= 1;
  }

  /** Resolves with the promise, or after the time if that comes first. Never rejects. */
  bounded(promise: Promise<unknown>, maxMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.clock.setTimer(resolve, maxMs, false);
      const settle = (): void => {
        this.clock.clearTimer(timer);
        resolve();
      };
      promise.then(settle, settle);
    });
  }

  delay(delayMs: number, keepAlive: boolean): Promise<void> {
    return new Promise((resolve) => {
      this.clock.setTimer(resolve, delayMs, keepAlive);
    });
  }

  /** Closes the store, if it was ever opened. Never rejects. */
  async close(maxMs: number): Promise<void> {
    this.renewal.stop();
    if (this.#opening) await this.bounded(this.call('close'), maxMs);
  }

  #open(): Promise<void> {
    this.#opening ??= this.store.open(this.#onEvent).then(
      () => {
        this.#isOpen = true;
      },
      (cause) => {
        // The next call tries again.
        this.#opening = undefined;
        throw cause;
      },
    );
    return this.#opening;
  }
}
