/**
 * What a caller holds: one lease, or a set of them.
 */
import type { Timer } from './clock.ts';
import * as diagnostics from './diagnostics.ts';
import { LeaseLostError, type LossReason } from './errors.ts';
import type { Tenancy } from './tenancy.ts';

/** Local grants under one remote lease: the low digits of a token count them. */
export const GRANTS_PER_EPOCH = 4096;
/** Tokens of equal length compare as text the way they compare as numbers. */
const TOKEN_DIGITS = 20;

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
  #ended: LossReason | null = null;
  #release: Promise<void> = DONE;
  #controller: AbortController | null = null;
  #holdTimer: Timer = null;

  constructor(tenancy: Tenancy, count: number, maxHoldMs: number) {
    this.#tenancy = tenancy;
    this.#count = count;
    if (maxHoldMs > 0) {
      this.#holdTimer = tenancy.clock.setTimer(() => this.#heldTooLong(), maxHoldMs, false);
    }
  }

  get key(): string {
    return this.#tenancy.claim.key;
  }

  get token(): bigint {
    return this.#tenancy.epoch * BigInt(GRANTS_PER_EPOCH) + BigInt(this.#count);
  }

  get tokenText(): string {
    return this.token.toString().padStart(TOKEN_DIGITS, '0');
  }

  get state(): LeaseState {
    if (this.#ended === null) this.#tenancy.checkDeadline();
    if (this.#ended === null) return this.#tenancy.isInJeopardy() ? 'jeopardy' : 'held';
    return this.#ended === 'released' ? 'released' : 'lost';
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#ended === null) this.#tenancy.checkDeadline();
      this.abortIfLost();
    }
    return this.#controller.signal;
  }

  remainingMs(): number {
    return this.#ended === null ? this.#tenancy.remainingMs() : 0;
  }

  assertHeld(): void {
    if (this.#ended === null) this.#tenancy.checkDeadline();
    if (this.#ended !== null) throw new LeaseLostError(this.key, this.#ended);
  }

  release(): Promise<void> {
    if (this.#ended !== null) return this.#release;
    this.#end('released');
    if (diagnostics.released.hasSubscribers) {
      diagnostics.released.publish({ key: this.key, token: this.token });
    }
    this.#release = this.#tenancy.userLeft(this) ?? DONE;
    return this.#release;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  /** Marks the loss. The signal aborts in a step of its own, since listeners run at once and may call anything. */
  lose(reason: LossReason): void {
    if (this.#ended !== null) return;
    this.#end(reason);
    if (diagnostics.lost.hasSubscribers) {
      diagnostics.lost.publish({ key: this.key, token: this.token, reason });
    }
  }

  abortIfLost(): void {
    if (this.#controller === null || this.#ended === null || this.#ended === 'released') return;
    this.#controller.abort(new LeaseLostError(this.key, this.#ended));
  }

  #end(how: LossReason): void {
    this.#ended = how;
    if (this.#holdTimer !== null) this.#tenancy.clock.clearTimer(this.#holdTimer);
  }

  #heldTooLong(): void {
    this.#holdTimer = null;
    this.lose('held-too-long');
    this.#tenancy.userLeft(this);
    this.abortIfLost();
  }
}

/** Several leases, taken all or none. It is valid while every one of them is. */
export class LeaseSet implements Holding {
  /** In the order of the keys. */
  readonly leases: readonly Lease[];
  #signal: AbortSignal | null = null;

  constructor(leases: readonly Lease[]) {
    this.leases = leases;
  }

  /** Without duplicates, in the canonical order in which they were taken. */
  get keys(): readonly string[] {
    return this.leases.map((lease) => lease.key);
  }

  /** The lease of one key, for its token. `undefined` for a key that is not of the set. */
  get(key: string): Lease | undefined {
    return this.leases.find((lease) => lease.key === key);
  }

  get signal(): AbortSignal {
    this.#signal ??= AbortSignal.any(this.leases.map((lease) => lease.signal));
    return this.#signal;
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
