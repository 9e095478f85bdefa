/**
 * What the parts of one manager share: its store, its clock, and how a call to the store is made.
 */
import type { Clock } from './clock.ts';
import * as diagnostics from './diagnostics.ts';
import type { FairnessOptions } from './options.ts';
import type { ClaimId, LeaseStore, StoreEvent } from './store.ts';

/** The first retry of an unanswered call comes after about this time. */
const RETRY_FLOOR_MS = 50;
/** Later ones come at the latest after about this. */
const RETRY_CEILING_MS = 1_000;
/** A drop that nobody answers is given up after so many attempts: the store ends the lease by its ttl. */
const MAX_DROP_ATTEMPTS = 10;

export class Runtime {
  readonly store: LeaseStore;
  readonly clock: Clock;
  readonly fairness: Required<FairnessOptions>;
  readonly identity: string;
  readonly #random: () => number;
  readonly #onEvent: (event: StoreEvent) => void;
  #open: Promise<void> | null = null;
  #isOpen = false;
  #owners = 0;
  #unsettled = 0;
  #whenSettled: (() => void) | null = null;

  constructor(parts: {
    readonly store: LeaseStore;
    readonly clock: Clock;
    readonly fairness: Required<FairnessOptions>;
    readonly identity: string;
    readonly random: () => number;
    readonly onEvent: (event: StoreEvent) => void;
  }) {
    this.store = parts.store;
    this.clock = parts.clock;
    this.fairness = parts.fairness;
    this.identity = parts.identity;
    this.#random = parts.random;
    this.#onEvent = parts.onEvent;
  }

  /** An owner value that was never used before. */
  newOwner(): string {
    this.#owners += 1;
    return this.identity + this.#owners.toString(36);
  }

  /** Makes one attempt, after the store is open. */
  call<Answer>(attempt: (store: LeaseStore) => Promise<Answer>): Promise<Answer> {
    if (!this.#isOpen) return this.#opened().then(() => attempt(this.store));
    try {
      return attempt(this.store);
    } catch (cause) {
      return Promise.reject(cause);
    }
  }

  /** A jittered delay before an unanswered call is made again, in milliseconds. */
  retryMs(attempt: number, ttlMs: number): number {
    const ceiling = Math.min(RETRY_CEILING_MS, ttlMs / 3);
    return Math.min(ceiling, RETRY_FLOOR_MS * 2 ** attempt) * (0.5 + this.#random() / 2);
  }

  failed(operation: diagnostics.StoreErrorMessage['operation'], cause: unknown): void {
    if (diagnostics.storeError.hasSubscribers) {
      diagnostics.storeError.publish({ store: this.store.name, operation, cause });
    }
  }

  /** Drops a claim, again until the store answers or has ended it by its ttl. Never rejects. */
  async dropUntilAnswered(id: ClaimId, ttlMs: number): Promise<void> {
    const startedMs = this.clock.monotonicMs();
    this.unsettled();
    try {
      for (let attempt = 0; attempt < MAX_DROP_ATTEMPTS; attempt += 1) {
        try {
          await this.call((store) => store.drop(id));
          return;
        } catch (cause) {
          this.failed('drop', cause);
        }
        if (this.clock.monotonicMs() - startedMs >= ttlMs) return;
        await this.#delay(this.retryMs(attempt, ttlMs));
      }
    } finally {
      this.settled();
    }
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

  /** One more thing that `close` must wait for. */
  unsettled(): void {
    this.#unsettled += 1;
  }

  settled(): void {
    this.#unsettled -= 1;
    if (this.#unsettled === 0) this.#whenSettled?.();
  }

  /** Closes the store once everything has settled, or after the time. Never rejects. */
  async close(maxMs: number): Promise<void> {
    if (this.#unsettled > 0) {
      const settled = new Promise<void>((resolve) => {
        this.#whenSettled = resolve;
      });
      await this.bounded(settled, maxMs);
    }
    if (!this.#open) return;
    try {
      await this.bounded(this.store.close(), maxMs);
    } catch (cause) {
      this.failed('close', cause);
    }
  }

  #opened(): Promise<void> {
    this.#open ??= this.#openStore();
    return this.#open;
  }

  async #openStore(): Promise<void> {
    try {
      await this.store.open(this.#onEvent);
      this.#isOpen = true;
    } catch (cause) {
      // The next call tries again.
      this.#open = null;
      this.failed('open', cause);
      throw cause;
    }
  }

  #delay(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.clock.setTimer(resolve, delayMs, false);
    });
  }
}
