/**
 * What the callers of one process do: they take leases in every way that the public face offers, work on the data behind
 * them, and give them back. Each tells the judge what it waits for and what it got.
 */
import type { Clock } from '../../core/clock.ts';
import { LeaseholdError, LeaseLostError } from '../../core/errors.ts';
import type { Lease, LeaseSet } from '../../core/lease.ts';
import type { LockManager } from '../../core/manager.ts';
import type { AcquireOptions } from '../../core/options.ts';
import type { Checks, Party, Use } from './checks.ts';
import type { Operation } from './plan.ts';
import type { SeededRandom } from './random.ts';
import type { FencedRegister } from './register.ts';
import type { Timeline } from './timeline.ts';

export interface Workplace {
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  readonly checks: Checks;
  readonly party: Party;
  readonly locks: LockManager;
  readonly registers: ReadonlyMap<string, FencedRegister>;
  readonly trace: (line: () => string) => void;
  /** A release settles within this time, in milliseconds, whatever the store does. */
  readonly releaseBoundMs: number;
}

export type Ending = 'done' | 'no lease' | 'closed';

type Held = Lease | LeaseSet;

const ABORT_REASON = new Error('the caller changed its mind');
/** The data is another machine's: it takes up to this long to get there, and back. */
const MAX_DATA_DELAY_MS = 3;

export class Worker {
  readonly #place: Workplace;

  constructor(place: Workplace) {
    this.#place = place;
  }

  /** Does one operation after the other, until the manager is closed. */
  async run(operations: readonly Operation[]): Promise<void> {
    for (const operation of operations) {
      await this.#sleep(operation.thinkMs);
      if ((await this.perform(operation)) === 'closed') return;
    }
  }

  async perform(operation: Operation): Promise<Ending> {
    const { checks, party, trace } = this.#place;
    const attempt = checks.starts(party, operation);
    trace(() => `caller ${attempt.number} wants ${operation.mode} ${operation.keys.join()}`);
    let uses: Use[] = [];
    const work = async (held: Held | null): Promise<boolean> => {
      const leases = held === null ? [] : leasesOf(held);
      uses = checks.granted(attempt, leases);
      trace(() => `caller ${attempt.number} has ${leases.map((lease) => lease.token).join()}`);
      if (held === null) return false;
      try {
        await this.#work(operation, uses);
      } finally {
        for (const use of uses) checks.ended(use);
        trace(() => `caller ${attempt.number} is done`);
      }
      return true;
    };
    try {
      const ending = (await this.#lockAnd(operation, work)) ? 'done' : 'no lease';
      this.#checkLoss(operation, uses);
      return ending;
    } catch (error) {
      trace(() => `caller ${attempt.number} failed: ${String(error)}`);
      if (uses.length === 0) checks.gaveUp(attempt, error);
      return this.#endingOf(error, operation, uses);
    }
  }

  #lockAnd(operation: Operation, work: (held: Held | null) => Promise<boolean>): Promise<boolean> {
    const { locks } = this.#place;
    const { keys, form } = operation;
    const options = this.#options(operation);
    const [key] = keys as [string];
    const isOne = keys.length === 1;
    if (form === 'withLock') {
      return isOne ? locks.withLock(key, options, work) : locks.withLock(keys, options, work);
    }
    if (form === 'try') {
      return this.#heldBy(
        isOne ? locks.tryAcquire(key, options) : locks.tryAcquire(keys, options),
        work,
      );
    }
    return this.#heldBy(isOne ? locks.acquire(key, options) : locks.acquire(keys, options), work);
  }

  async #heldBy(
    acquired: Promise<Held | null>,
    work: (held: Held | null) => Promise<boolean>,
  ): Promise<boolean> {
    const held = await acquired;
    try {
      return await work(held);
    } finally {
      if (held !== null) await this.#release(held);
    }
  }

  #options(operation: Operation): AcquireOptions {
    const { mode, limit, ttlMs, waitMs, retainMs, maxHoldMs, abortAfterMs } = operation;
    const kind = limit === null ? { mode: mode as 'shared' | 'exclusive' } : { limit };
    const most = maxHoldMs > 0 ? { maxHoldMs } : {};
    const options = { ...kind, ...most, ttlMs, waitMs, retainMs };
    if (abortAfterMs === null) return options;
    const controller = new AbortController();
    this.#clock.setTimer(() => controller.abort(ABORT_REASON), abortAfterMs, true);
    return { ...options, signal: controller.signal };
  }

  /** Reads, works for a while, and writes what it made of what it read. */
  async #work(operation: Operation, uses: readonly Use[]): Promise<void> {
    for (const use of uses) this.#watch(use);
    const { holdMs, mode, isCareful } = operation;
    if (mode === 'permit') return this.#sleep(holdMs);

    const versions = new Map<Use, number>();
    for (const use of uses) {
      const read = await this.#ask(use, (register, token) => register.read(token));
      if (read !== null) versions.set(use, read.version);
    }
    await this.#sleep(holdMs);
    if (mode === 'shared') return;
    for (const [use, version] of versions) {
      if (isCareful) use.lease.assertHeld();
      const written = await this.#ask(use, (register, token) => register.write(token, version));
      this.#place.checks.count(`writes ${written.is}`);
      if (written.is === 'accepted' && written.overVersion !== version) {
        const { key, token } = use.lease;
        this.#place.checks.fail(
          `an update of ${key} was lost: token ${token} wrote over version ` +
            `${written.overVersion} what it had made of version ${version}`,
        );
      }
    }
  }

  #watch(use: Use): void {
    if (!use.operation.watchesSignal) return;
    const { signal } = use.lease;
    const onAbort = (): void => {
      use.aborted = true;
      if (signal.reason instanceof LeaseLostError && signal.reason.reason !== 'released') return;
      this.#place.checks.fail(
        `the signal of ${use.lease.key} aborted with ${String(signal.reason)}`,
      );
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  }

  async #release(held: Held): Promise<void> {
    const { checks, party, timeline, releaseBoundMs } = this.#place;
    const startedMs = this.#clock.monotonicMs();
    await held.release();
    const spentMs = this.#clock.monotonicMs() - startedMs;
    // A pause in between is no fault of the release.
    if (spentMs <= releaseBoundMs || timeline.nowMs - party.process.resumedAtMs < spentMs) return;
    checks.fail(`a release of ${party.process.name} took ${spentMs} ms, not ${releaseBoundMs}`);
  }

  /** `withLock` never resolves when a lease was lost on the way. */
  #checkLoss(operation: Operation, uses: readonly Use[]): void {
    if (operation.form !== 'withLock') return;
    const lost = uses.find((use) => use.lease.state === 'lost');
    if (lost) this.#place.checks.fail(`withLock resolved although ${lost.lease.key} was lost`);
  }

  #endingOf(error: unknown, operation: Operation, uses: readonly Use[]): Ending {
    if (error === ABORT_REASON) return 'no lease';
    if (error instanceof LeaseholdError) {
      if (error.code === 'MANAGER_CLOSED') return 'closed';
      if (error.code === 'LEASE_LOST') {
        const isLost = uses.length === 0 || uses.some((use) => use.lease.state === 'lost');
        if (isLost) return 'done';
      } else if (uses.length === 0 && this.#isExpected(error, operation)) {
        return 'no lease';
      }
    }
    this.#place.checks.fail(`a caller got ${String(error)}`);
    return 'done';
  }

  /** Only whoever is wrong about a limit is refused. */
  #isExpected(error: LeaseholdError, operation: Operation): boolean {
    return error.code !== 'CLAIM_REFUSED' || operation.mode === 'permit';
  }

  /** One round trip to the data behind the fence. */
  #ask<T>(use: Use, answer: (register: FencedRegister, token: bigint) => T): Promise<T> {
    const { timeline, random, party, registers } = this.#place;
    const { key, token } = use.lease;
    const register = registers.get(key);
    if (!register) throw new RangeError(`there is no data behind ${key}`);
    return new Promise((resolve) => {
      timeline.after(random.next() * MAX_DATA_DELAY_MS, () => {
        const value = answer(register, token);
        timeline.after(random.next() * MAX_DATA_DELAY_MS, () => {
          party.process.enter(() => resolve(value));
        });
      });
    });
  }

  #sleep(delayMs: number): Promise<void> {
    if (delayMs < 1) return Promise.resolve();
    return new Promise((resolve) => {
      this.#clock.setTimer(resolve, delayMs, true);
    });
  }

  get #clock(): Clock {
    return this.#place.party.process.clock;
  }
}

function leasesOf(held: Held): readonly Lease[] {
  return 'leases' in held ? held.leases : [held];
}
