/**
 * What the parts of one manager share: its store, its clock, its cohorts, and how a call to the store is made.
 */
import { hostname } from 'node:os';
import { type Clock, systemClock } from './clock.ts';
import type { Cohort } from './cohort.ts';
import { storeError } from './diagnostics.ts';
import { checkClock, checkHas, checkKey, type LockManagerOptions, readNumber } from './options.ts';
import { type Renewal, startRenewal } from './renewal.ts';
import type { ClaimId, LeaseStore, StoreEvent } from './store.ts';

/** The first retry of an unanswered call comes after about this time. */
const RETRY_FLOOR_MS = 50;
/** Later ones come at the latest after about this. */
const RETRY_CEILING_MS = 1_000;
/** A drop that nobody answers is given up after so many attempts: the store ends the lease by its ttl. */
const MAX_DROP_ATTEMPTS = 10;

type Operation = 'claim' | 'renew' | 'drop' | 'close';

export interface Runtime {
  readonly store: LeaseStore;
  readonly clock: Clock;
  /** The start of every owner value, with a colon behind it: `web` and `web1` never begin alike. */
  readonly identity: string;
  readonly maxPasses: number;
  readonly maxPassMs: number;
  readonly renewal: Renewal;
  /** Of every key that is in use, waited for, or retained. */
  readonly cohorts: Map<string, Cohort>;
  /** Leases in use, callers that wait, and calls to the store that are under way or tried again. */
  leases: number;
  waiting: number;
  calls: number;
  /** An owner value that was never used before. */
  newOwner(): string;
  /** Makes one call to the store, once it is open. A store that is still being opened can be closed. */
  call<Name extends Operation>(
    operation: Name,
    ...args: Parameters<LeaseStore[Name]>
  ): Promise<Awaited<ReturnType<LeaseStore[Name]>>>;
  /** A jittered delay before an unanswered call is made again, in milliseconds. */
  retryMs(attempt: number, ttlMs: number): number;
  /** Drops a claim, again until the store answers. The first attempt may be under way. Never rejects. */
  drop(id: ClaimId, first?: Promise<unknown>): Promise<void>;
  /** Resolves after the time, or when the promise settles if that comes first. Never rejects. */
  delay(delayMs: number, orSettled?: Promise<unknown>): Promise<void>;
  /** Closes the store, if it was ever opened. Never rejects. */
  close(maxMs: number): Promise<void>;
}

export function startRuntime(
  options: LockManagerOptions,
  onEvent: (event: StoreEvent) => void,
): Runtime {
  // The nonce makes it unique where hosts share a name and processes a number, as containers do.
  const nonce = crypto.randomUUID().slice(-12);
  const {
    store,
    fairness,
    clock = systemClock,
    random = Math.random,
    identity = `${hostname()}:${process.pid}:${nonce}`,
  } = options;
  checkClock(clock);
  checkHas({ random }, 'a function random', 'random');
  checkKey(identity, 'identity');
  let opening: Promise<void> | undefined;
  let isOpen = false;
  let owners = 0;
  /** None once the store is closed, or what comes too late would open it again. */
  let dropAttempts = MAX_DROP_ATTEMPTS;

  async function open(): Promise<void> {
    try {
      opening ??= store.open(onEvent);
      await opening;
      isOpen = true;
    } catch (cause) {
      // The next call tries again.
      opening = undefined;
      throw cause;
    }
  }

  const call: Runtime['call'] = async (operation, ...args) => {
    runtime.calls += 1;
    try {
      if (!isOpen && operation !== 'close') await open();
      const methods = store as unknown as Record<
        Operation,
        (...given: unknown[]) => Promise<never>
      >;
      return await methods[operation](...args);
    } catch (cause) {
      if (storeError.hasSubscribers) storeError.publish({ store: store.name, operation, cause });
      throw cause;
    } finally {
      runtime.calls -= 1;
    }
  };

  function retryMs(attempt: number, ttlMs: number): number {
    return (
      Math.min(RETRY_CEILING_MS, ttlMs / 3, RETRY_FLOOR_MS * 2 ** attempt) * (0.5 + random() / 2)
    );
  }

  function delay(delayMs: number, orSettled?: Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const timer = clock.setTimer(resolve, delayMs, true);
      const settle = (): void => {
        clock.clearTimer(timer);
        resolve();
      };
      orSettled?.then(settle, settle);
    });
  }

  async function drop(id: ClaimId, first?: Promise<unknown>): Promise<void> {
    runtime.calls += 1;
    let answer = first;
    for (let attempt = 0; attempt < dropAttempts; attempt += 1) {
      try {
        await (answer ?? call('drop', id));
        break;
      } catch {
        answer = undefined;
        await delay(retryMs(attempt, Infinity));
      }
    }
    runtime.calls -= 1;
  }

  const runtime: Runtime = {
    store,
    clock,
    identity: `${identity}:`,
    maxPasses: readNumber(fairness, 'maxPasses', store.guarantees),
    maxPassMs: readNumber(fairness, 'maxPassMs'),
    renewal: startRenewal(clock, (claims) => call('renew', claims)),
    cohorts: new Map(),
    leases: 0,
    waiting: 0,
    calls: 0,
    newOwner() {
      owners += 1;
      return runtime.identity + owners;
    },
    call,
    retryMs,
    delay,
    drop,
    async close(maxMs) {
      runtime.renewal.stop();
      dropAttempts = 0;
      if (opening) await delay(maxMs, call('close'));
    },
  };
  return runtime;
}
