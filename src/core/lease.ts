/**
 * What a caller holds: one lease, or a set of them.
 */
import type { Timer } from './clock.ts';
import * as diagnostics from './diagnostics.ts';
import { LeaseLostError, type LossReason } from './errors.ts';
import { MAX_DELAY_MS } from './options.ts';
import type { Tenancy } from './tenancy.ts';

/** Local grants under one remote lease: the low digits of a token count them. */
export const GRANTS_PER_EPOCH = 4096;

/**
 * - `held`: valid, and renewed in time.
 * - `jeopardy`: valid, but a renewal is overdue. It may recover.
 * - `lost`: no longer valid. Final.
 * - `released`: given back by its holder.
 */
export type LeaseState = 'held' | 'jeopardy' | 'lost' | 'released';

export interface Holding {
  /**
   * Aborts with a `LeaseLostError` when the lease is lost, at the latest when it can no longer be trusted, whatever the
   * store does. Never on a normal release. Made on first use.
   */
  readonly signal: AbortSignal;
  /** How long the lease is valid without another renewal, in milliseconds; 0 once it ended. */
  remainingMs(): number;
  /** Throws `LeaseLostError` unless the lease is valid now, by the clock: a stalled event loop delays signals, not this. */
  assertHeld(): void;
  /**
   * Gives the lease back. Resolves when the store has answered, and at once when the lease is kept or passed on inside
   * the process. Idempotent; never rejects: an unanswered release is tried again, and the lease ends by its ttl.
   */
  release(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface Lease extends Holding {
  readonly key: string;
  /** Strictly increasing for this key over every conflicting grant, local or remote. */
  readonly token: bigint;
  /** The token as 20 digits, so that texts compare as the numbers do. */
  readonly tokenText: string;
  readonly state: LeaseState;
}

const DONE: Promise<void> = Promise.resolve();

/** A lease of one caller, under the tenancy of its process. */
export class LocalLease implements Lease {
  readonly #tenancy: Tenancy;
  readonly #count: number;
  #end: LossReason | undefined;
  #release: Promise<void> = DONE;
  #controller: AbortController | undefined;
  #holdTimer: Timer;

  constructor(tenancy: Tenancy, count: number, maxHoldMs: number) {
    this.#tenancy = tenancy;
    this.#count = count;
    if (maxHoldMs === MAX_DELAY_MS) return;
    const tooLong = (): void => {
      void tenancy.userLeft(this);
      this.lose('held-too-long');
    };
    this.#holdTimer = tenancy.runtime.clock.setTimer(tooLong, maxHoldMs, false);
  }

  get key(): string {
    return this.#tenancy.claim.key;
  }

  get token(): bigint {
    return this.#tenancy.epoch * BigInt(GRANTS_PER_EPOCH) + BigInt(this.#count);
  }

  get tokenText(): string {
    // Tokens of equal length compare as text the way they compare as numbers.
    return `${this.token}`.padStart(20, '0');
  }

  get state(): LeaseState {
    const end = this.#checkedEnd();
    if (end) return end === 'released' ? end : 'lost';
    return this.#tenancy.isInJeopardy() ? 'jeopardy' : 'held';
  }

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      this.#checkedEnd();
      this.#abortIfLost();
    }
    return this.#controller.signal;
  }

  remainingMs(): number {
    return this.#end ? 0 : this.#tenancy.remainingMs();
  }

  assertHeld(): void {
    const end = this.#checkedEnd();
    if (end) throw new LeaseLostError(this.key, end);
  }

  release(): Promise<void> {
    if (!this.#end) {
      this.#finish('released');
      if (diagnostics.released.hasSubscribers) {
        diagnostics.released.publish({ key: this.key, token: this.token });
      }
      this.#release = this.#tenancy.userLeft(this) ?? DONE;
    }
    return this.#release;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  /** Comes last in whatever ends the lease: listeners of the signal run at once, and may call anything. */
  lose(reason: LossReason): void {
    if (this.#end) return;
    this.#finish(reason);
    if (diagnostics.lost.hasSubscribers) {
      diagnostics.lost.publish({ key: this.key, token: this.token, reason });
    }
    this.#abortIfLost();
  }

  #abortIfLost(): void {
    if (!this.#end || this.#end === 'released') return;
    this.#controller?.abort(new LeaseLostError(this.key, this.#end));
  }

  /** How it ended, if it did: by the clock as well, which needs no timer to run. */
  #checkedEnd(): LossReason | undefined {
    if (!this.#end) this.#tenancy.checkDeadline();
    return this.#end;
  }

  #finish(reason: LossReason): void {
    this.#end = reason;
    this.#tenancy.runtime.leases -= 1;
    this.#tenancy.runtime.clock.clearTimer(this.#holdTimer);
  }
}

/** Several leases, taken all or none. It is valid while every one of them is. */
export class LeaseSet implements Holding {
  /** In the canonical order of their keys, without duplicates. */
  readonly leases: Lease[] = [];
  #controller: AbortController | undefined;

  get signal(): AbortSignal {
    // Not `AbortSignal.any`: Node.js 20 keeps what it returns for ever once somebody listens to it.
    if (!this.#controller) {
      const controller = new AbortController();
      this.#controller = controller;
      for (const { signal } of this.leases) {
        const abort = (): void => controller.abort(signal.reason);
        if (signal.aborted) abort();
        signal.addEventListener('abort', abort);
      }
    }
    return this.#controller.signal;
  }

  remainingMs(): number {
    return Math.min(...this.leases.map((lease) => lease.remainingMs()));
  }

  assertHeld(): void {
    for (const lease of this.leases) lease.assertHeld();
  }

  async release(): Promise<void> {
    await Promise.all(this.leases.map((lease) => lease.release()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}
