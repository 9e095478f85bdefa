/**
 * The public face: what a caller asks for, checked and handed to the cohort of its key.
 */
import { hostname } from 'node:os';
import { type Clock, systemClock } from './clock.ts';
import { Cohort } from './cohort.ts';
import {
  AcquireTimeoutError,
  InvalidArgumentError,
  LeaseLostError,
  ManagerClosedError,
} from './errors.ts';
import { type Holding, type Lease, LeaseSet } from './lease.ts';
import {
  type AcquireOptions,
  baseSpec,
  canonicalKeys,
  checkKey,
  type LockManagerOptions,
  readFairness,
  readGraceMs,
  readSpec,
  type Spec,
  type TryAcquireOptions,
} from './options.ts';
import { Renewal } from './renewal.ts';
import { Runtime } from './runtime.ts';
import type { Guarantees, StoreEvent } from './store.ts';

export interface CloseOptions {
  /** How long to wait for leases that are in use, in milliseconds. Default 0: they are lost at once. */
  readonly graceMs?: number;
}

/** What a manager has to do with at this moment. All zero once everything is given back. */
export interface Usage {
  /** Keys that are held, claimed or retained. */
  readonly keys: number;
  /** Leases in use. */
  readonly leases: number;
  /** Callers that wait. */
  readonly waiting: number;
}

/** How often `close` looks whether the last lease was given back, in milliseconds. */
const CLOSE_POLL_MS = 10;
/** The longest that `close` waits for a store that does not answer, in milliseconds. */
const CLOSE_BOUND_MS = 5_000;

/**
 * Locks over one store. Safe to share between all tasks of a process; one for each store is enough.
 *
 * Locks are not re-entrant: a task that acquires a key which it holds waits for itself.
 */
export class LockManager {
  readonly #runtime: Runtime;
  readonly #renewal: Renewal;
  readonly #base: Spec;
  readonly #cohorts = new Map<string, Cohort>();
  readonly #forget: (cohort: Cohort) => void;
  #closing: Promise<void> | null = null;

  constructor(options: LockManagerOptions) {
    if (typeof options?.store?.claim !== 'function') {
      throw new InvalidArgumentError(
        'LockManager needs a store, such as memory() of leasehold/memory',
      );
    }
    this.#base = baseSpec(options);
    this.#runtime = new Runtime({
      store: options.store,
      clock: options.clock ?? systemClock,
      fairness: readFairness(options.fairness),
      identity: options.identity ?? newIdentity(),
      random: options.random ?? Math.random,
      onEvent: (event) => this.#onEvent(event),
    });
    this.#renewal = new Renewal(this.#runtime);
    this.#forget = (cohort) => {
      if (this.#cohorts.get(cohort.key) === cohort) this.#cohorts.delete(cohort.key);
    };
  }

  /** What the store promises. */
  get guarantees(): Guarantees {
    return this.#runtime.store.guarantees;
  }

  get usage(): Usage {
    let leases = 0;
    let waiting = 0;
    for (const cohort of this.#cohorts.values()) {
      leases += cohort.leases;
      waiting += cohort.waiting;
    }
    return { keys: this.#cohorts.size, leases, waiting };
  }

  /**
   * Waits for the key, or for all of several keys, and returns the lease.
   *
   * Rejects with `AcquireTimeoutError` when `waitMs` runs out, with the signal's reason when it is aborted, with
   * `StoreUnavailableError` when the store never answered, with `ClaimRefusedError` when it never will grant this, and
   * with `InvalidArgumentError` or `ManagerClosedError` when the call itself is wrong.
   */
  acquire(key: string, options?: AcquireOptions): Promise<Lease>;
  acquire(keys: readonly string[], options?: AcquireOptions): Promise<LeaseSet>;
  acquire(keys: string | readonly string[], options?: AcquireOptions): Promise<Lease | LeaseSet> {
    try {
      const spec = options === undefined ? this.#base : readSpec(options, this.#base);
      const signal = options?.signal;
      if (typeof keys === 'string') return this.#acquireOne(keys, spec, signal);
      return this.#acquireAll(canonicalKeys(listOf(keys)), spec, signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Takes the key, or all of several keys, when nobody holds or waits for it, in one attempt. `null` when it is taken.
   *
   * Rejects as `acquire` does, but never because the key is taken.
   */
  tryAcquire(key: string, options?: TryAcquireOptions): Promise<Lease | null>;
  tryAcquire(keys: readonly string[], options?: TryAcquireOptions): Promise<LeaseSet | null>;
  async tryAcquire(
    keys: string | readonly string[],
    options: TryAcquireOptions = {},
  ): Promise<Lease | LeaseSet | null> {
    try {
      const once = { ...options, waitMs: 0 };
      return await (typeof keys === 'string' ? this.acquire(keys, once) : this.acquire(keys, once));
    } catch (error) {
      if (error instanceof AcquireTimeoutError) return null;
      throw error;
    }
  }

  /**
   * Runs the work while the lease is held, and gives it back. Resolves with what the work returned.
   *
   * Rejects with the work's own error, or with `LeaseLostError` (which carries the result) when the lease was lost
   * before the work had ended.
   */
  withLock<Result>(key: string, work: (lease: Lease) => Result | Promise<Result>): Promise<Result>;
  withLock<Result>(
    key: string,
    options: AcquireOptions,
    work: (lease: Lease) => Result | Promise<Result>,
  ): Promise<Result>;
  withLock<Result>(
    keys: readonly string[],
    work: (leases: LeaseSet) => Result | Promise<Result>,
  ): Promise<Result>;
  withLock<Result>(
    keys: readonly string[],
    options: AcquireOptions,
    work: (leases: LeaseSet) => Result | Promise<Result>,
  ): Promise<Result>;
  async withLock<Result>(
    keys: string | readonly string[],
    optionsOrWork: AcquireOptions | Work<Result>,
    maybeWork?: Work<Result>,
  ): Promise<Result> {
    const work = typeof optionsOrWork === 'function' ? optionsOrWork : maybeWork;
    const options = typeof optionsOrWork === 'function' ? undefined : optionsOrWork;
    if (typeof work !== 'function')
      throw new InvalidArgumentError('withLock needs the work to run');
    const held = await this.acquire(keys as string, options);
    try {
      const result = await work(held as Lease & LeaseSet);
      throwIfLost(held, result);
      return result;
    } finally {
      await held.release();
    }
  }

  /**
   * Refuses new callers, rejects those that wait with `ManagerClosedError`, gives back what is retained, and closes the
   * store. Leases in use are lost at once, or when `graceMs` is over: finish the work first. Idempotent; never rejects.
   */
  close(options: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#close(readGraceMs(options.graceMs));
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #acquireOne(key: string, spec: Spec, signal: AbortSignal | undefined): Promise<Lease> {
    if (this.#closing !== null) return Promise.reject(new ManagerClosedError());
    if (signal?.aborted) return Promise.reject(signal.reason);
    let cohort = this.#cohorts.get(key);
    if (cohort === undefined) {
      checkKey(key);
      cohort = new Cohort({
        key,
        runtime: this.#runtime,
        renewal: this.#renewal,
        onEmpty: this.#forget,
      });
      this.#cohorts.set(key, cohort);
    } else {
      const lease = cohort.serveNow(spec);
      if (lease !== null) return Promise.resolve(lease);
    }
    return cohort.enqueue(spec, signal);
  }

  /** One by one in canonical order, so that two callers never wait for each other; each is given back when a later one fails. */
  async #acquireAll(
    keys: readonly string[],
    spec: Spec,
    signal: AbortSignal | undefined,
  ): Promise<LeaseSet> {
    const startedMs = this.#runtime.clock.monotonicMs();
    const leases: Lease[] = [];
    try {
      for (const key of keys) {
        const spentMs = this.#runtime.clock.monotonicMs() - startedMs;
        const waitMs = spec.waitMs === 0 ? 0 : Math.max(1, Math.ceil(spec.waitMs - spentMs));
        leases.push(await this.#acquireOne(key, { ...spec, waitMs }, signal));
      }
      const set = new LeaseSet(leases);
      set.assertHeld();
      return set;
    } catch (error) {
      await Promise.all(leases.map((lease) => lease.release()));
      throw error;
    }
  }

  #onEvent(event: StoreEvent): void {
    switch (event.is) {
      case 'granted': {
        const { key, owner } = event;
        const tenancy = this.#cohorts.get(key)?.tenancyOf(owner);
        if (tenancy) tenancy.onGrantEvent(event.epoch, event.wanted);
        // Nobody here knows this owner (any more), and nobody else can give it back.
        else void this.#runtime.dropUntilAnswered({ key, owner }, this.#base.ttlMs);
        return;
      }
      case 'available':
        this.#cohorts.get(event.key)?.claimAgain();
        return;
      case 'wanted':
        this.#cohorts.get(event.key)?.onWanted();
        return;
      case 'lost':
        this.#cohorts.get(event.key)?.tenancyOf(event.owner)?.lose('taken-away');
        return;
      case 'reset':
        for (const cohort of [...this.#cohorts.values()]) cohort.claimAgain();
        this.#renewal.renewAll();
        return;
      default:
        event satisfies never;
    }
  }

  async #close(graceMs: number): Promise<void> {
    const { clock } = this.#runtime;
    const startedMs = clock.monotonicMs();
    while (this.usage.leases > 0 && clock.monotonicMs() - startedMs < graceMs) {
      await pause(clock, CLOSE_POLL_MS);
    }
    for (const cohort of [...this.#cohorts.values()]) cohort.close();
    this.#renewal.stop();
    await this.#runtime.close(CLOSE_BOUND_MS);
  }
}

type Work<Result> = (held: Lease & LeaseSet) => Result | Promise<Result>;

function listOf(keys: unknown): readonly unknown[] {
  if (Array.isArray(keys)) return keys;
  checkKey(keys);
  return [keys];
}

function throwIfLost(held: Holding, result: unknown): void {
  try {
    held.assertHeld();
  } catch (error) {
    // A holder may give its lease back before its work ends.
    if (!(error instanceof LeaseLostError) || error.reason === 'released') return;
    throw new LeaseLostError(error.key, error.reason, result);
  }
}

function pause(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.setTimer(resolve, delayMs, true);
  });
}

/** `host:pid:nonce`. The nonce makes it unique where hosts share a name and processes a number, as containers do. */
function newIdentity(): string {
  const nonce = crypto.getRandomValues(new Uint32Array(3));
  const text = Array.from(nonce, (part) => part.toString(36).padStart(7, '0')).join('');
  return `${hostname()}:${process.pid}:${text}`;
}
