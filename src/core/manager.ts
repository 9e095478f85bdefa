/**
 * The public face: what a caller asks for, checked and handed to the cohort of its key.
 */
import { stopwatch } from './clock.ts';
import { Cohort } from './cohort.ts';
import { AcquireTimeoutError, ManagerClosedError } from './errors.ts';
import { type Lease, LeaseSet } from './lease.ts';
import {
  type AcquireOptions,
  type CloseOptions,
  canonicalKeys,
  checkHas,
  checkKey,
  type LockManagerOptions,
  readNumber,
  readSpec,
  type Spec,
  type TryAcquireOptions,
} from './options.ts';
import { type Runtime, startRuntime } from './runtime.ts';
import type { Guarantees, LeaseStore, StoreEvent } from './store.ts';

/** What a manager has to do with at this moment. All zero once everything is given back. */
export interface Usage {
  /** Keys that are held, claimed or retained. */
  readonly keys: number;
  /** Leases in use. */
  readonly leases: number;
  /** Callers that wait. */
  readonly waiting: number;
}

type Work<Held, Result> = (held: Held) => Result | Promise<Result>;

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
  /** As it was given. */
  readonly store: LeaseStore;
  readonly #runtime: Runtime;
  readonly #base: Spec;
  #closing: Promise<void> | undefined;

  constructor(options: LockManagerOptions) {
    checkHas(options?.store, 'a store', 'claim');
    this.store = options.store;
    this.#base = readSpec(options);
    this.#runtime = startRuntime(options, (event) => this.#onEvent(event));
  }

  /** What the store promises. */
  get guarantees(): Guarantees {
    return this.store.guarantees;
  }

  get usage(): Usage {
    const runtime = this.#runtime;
    return { keys: runtime.cohorts.size, leases: runtime.leases, waiting: runtime.waiting };
  }

  /**
   * Waits for the key, or for all of several keys, and returns the lease.
   *
   * Rejects with `AcquireTimeoutError` when `waitMs` runs out, with the signal's reason when it is aborted, with
   * `StoreUnavailableError` when the store does not answer, with `ClaimRefusedError` when it never will grant this, and
   * with `InvalidArgumentError` or `ManagerClosedError` when the call itself is wrong. With several keys also with
   * `LeaseLostError`, when one was lost while it waited for another, and only after what it had was given back: while
   * the store does not answer, that may take up to the ttl.
   */
  acquire(key: string, options?: AcquireOptions): Promise<Lease>;
  acquire(keys: readonly string[], options?: AcquireOptions): Promise<LeaseSet>;
  acquire(keys: string | readonly string[], options?: AcquireOptions): Promise<Lease | LeaseSet> {
    // Not `async`: that would cost each waiting caller the state of one function more.
    try {
      const spec = options ? readSpec(options, this.#base) : this.#base;
      return typeof keys === 'string'
        ? Promise.resolve(this.#acquireOne(keys, spec, options?.signal))
        : this.#acquireAll(canonicalKeys(keys), spec, options?.signal);
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
    options?: TryAcquireOptions,
  ): Promise<Lease | LeaseSet | null> {
    try {
      return await this.acquire(keys as string, { ...options, waitMs: 0 });
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
  withLock<Result>(key: string, work: Work<Lease, Result>): Promise<Result>;
  withLock<Result>(
    key: string,
    options: AcquireOptions,
    work: Work<Lease, Result>,
  ): Promise<Result>;
  withLock<Result>(keys: readonly string[], work: Work<LeaseSet, Result>): Promise<Result>;
  withLock<Result>(
    keys: readonly string[],
    options: AcquireOptions,
    work: Work<LeaseSet, Result>,
  ): Promise<Result>;
  async withLock<Result>(
    keys: string | readonly string[],
    ...rest: [unknown, unknown?]
  ): Promise<Result> {
    const work = rest.pop() as Work<Lease | LeaseSet, Result>;
    checkHas({ work }, 'the work', 'work');
    const held: Lease | LeaseSet = await this.acquire(keys as string, rest[0] as AcquireOptions);
    try {
      const result = await work(held);
      for (const lease of (held as Partial<LeaseSet>).leases ?? [held as Lease]) {
        if (lease.state === 'lost') throw Object.assign(lease.signal.reason, { result });
      }
      return result;
    } finally {
      await held.release();
    }
  }

  /**
   * Refuses new callers, rejects those that wait with `ManagerClosedError`, gives back what is retained, and closes the
   * store. Leases in use are lost. With `graceMs`, all of that but the refusal waits until no lease is in use, for so
   * long at the most, and who waits may still be served: finish the work first. Idempotent.
   */
  async close(options?: CloseOptions): Promise<void> {
    this.#closing ??= this.#close(readNumber(options, 'graceMs'));
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #acquireOne(key: string, spec: Spec, signal?: AbortSignal): Lease | Promise<Lease> {
    if (this.#closing) throw new ManagerClosedError();
    if (signal != null) {
      checkHas(signal, 'an AbortSignal', 'throwIfAborted', 'addEventListener');
      signal.throwIfAborted();
    }
    const { cohorts } = this.#runtime;
    let cohort = cohorts.get(key);
    const lease = cohort?.serveNow(spec);
    if (lease) return lease;
    if (!cohort) {
      checkKey(key);
      cohort = new Cohort(this.#runtime, key);
      cohorts.set(key, cohort);
    }
    return cohort.enqueue(spec, signal);
  }

  /** One by one in canonical order, so that two callers never wait in a circle; all given back when one fails. */
  async #acquireAll(keys: readonly string[], spec: Spec, signal?: AbortSignal): Promise<LeaseSet> {
    const passedMs = stopwatch(this.#runtime.clock);
    const set = new LeaseSet();
    try {
      for (const key of keys) {
        const waitMs = spec.waitMs && Math.max(1, Math.ceil(spec.waitMs - passedMs()));
        set.leases.push(await this.#acquireOne(key, { ...spec, waitMs }, signal));
      }
      set.assertHeld();
      return set;
    } catch (error) {
      await set.release();
      throw error;
    }
  }

  #onEvent(event: StoreEvent): void {
    const { cohorts, renewal } = this.#runtime;
    if (event.is === 'reset') {
      for (const cohort of cohorts.values()) cohort.claimNow();
      renewal.renewAll();
    } else if (!cohorts.get(event.key)?.onEvent(event) && event.is === 'granted') {
      // Nobody here knows this owner (any more), and nobody else can give it back.
      void this.#runtime.drop(event);
    }
  }

  async #close(graceMs: number): Promise<void> {
    await this.#until(() => this.#runtime.leases === 0, graceMs);
    for (const cohort of this.#runtime.cohorts.values()) cohort.close();
    await this.#until(() => this.#runtime.calls === 0, CLOSE_BOUND_MS);
    await this.#runtime.close(CLOSE_BOUND_MS);
  }

  async #until(isDone: () => boolean, maxMs: number): Promise<void> {
    const passedMs = stopwatch(this.#runtime.clock);
    while (!isDone() && passedMs() < maxMs) await this.#runtime.delay(CLOSE_POLL_MS);
  }
}
