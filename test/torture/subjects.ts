/**
 * The locks that a worker uses: those of this package, written down as they go by, or those of a peer in their place.
 */
import type { Redis } from 'ioredis';
import {
  type Claim,
  type ClaimId,
  type ClaimOutcome,
  type DropOutcome,
  type Guarantees,
  type Lease,
  LeaseholdError,
  type LeaseStore,
  LockManager,
  type RenewOutcome,
  type StoreEvent,
} from 'leasehold';
import { Mutex } from 'redis-semaphore';
import { ENGINES } from './engines/index.ts';
import { nowUs, type Recorder } from './history.ts';
import type { Order } from './orders.ts';

export interface Held {
  /** For a fence; a peer has none. */
  readonly lease: Lease | null;
  readonly token: string;
  isValid(): boolean;
  release(): Promise<void>;
}

export interface Locks {
  /** Rejects with an error that has a `code`. */
  take(key: string): Promise<Held>;
  close(): Promise<void>;
}

const WAIT_MS = 4_000;
const PEER_WAITS_MS = 100;

export function locksFor(order: Order, recorder: Recorder): Locks {
  return order.subject === 'leasehold' ? ourLocks(order, recorder) : peerLocks(order, recorder);
}

/** A manager of this package, and what ends the client that its store was made with. */
export function openManager(
  order: Order,
  recorder: Recorder,
): { readonly locks: LockManager; readonly close: () => void } {
  const { engine, place, via, ttlMs, retainMs } = order;
  const { store, close } = (ENGINES[engine] as (typeof ENGINES)[string]).makeStore(place, via);
  const isWatched = order.workload !== 'register';
  const locks = new LockManager({
    store: isWatched ? new WatchedStore(store, recorder) : store,
    ttlMs,
    retainMs,
    waitMs: WAIT_MS,
  });
  return { locks, close };
}

function ourLocks(order: Order, recorder: Recorder): Locks {
  const { locks, close } = openManager(order, recorder);
  return {
    async take(key) {
      const lease = await locks.acquire(key);
      return {
        lease,
        token: lease.tokenText,
        isValid: () => lease.remainingMs() > 0,
        release: () => lease.release(),
      };
    },
    async close() {
      await locks.close();
      close();
    },
  };
}

/** The mutex of redis-semaphore, as its documentation uses it, with a refresh well within its time-out. */
function peerLocks({ engine, worker, place, via, ttlMs }: Order, recorder: Recorder): Locks {
  const client = ENGINES[engine]?.makeClient?.(place, via) as Redis;
  let count = 0;
  return {
    async take(key) {
      const mutex = new Mutex(client, key, {
        lockTimeout: ttlMs,
        refreshInterval: ttlMs / 3,
        acquireTimeout: WAIT_MS,
        onLockLost: () => {},
      });
      count += 1;
      const owner = `${worker}-${count}`;
      recorder.write({ is: 'claims', owner, key });
      // It asks every 10 ms: long after that, its first attempt has been answered.
      const timer = setTimeout(() => recorder.write({ is: 'waits', owner }), PEER_WAITS_MS);
      await mutex.acquire().finally(() => clearTimeout(timer));
      const token = String(nowUs());
      recorder.write({ is: 'owns', owner, epoch: token });
      return {
        lease: null,
        token,
        isValid: () => mutex.isAcquired,
        release: () => mutex.release(),
      };
    },
    async close() {
      client.disconnect();
    },
  };
}

/** Writes down when a claim is made, when it is answered that it waits, and which epoch it gets. */
class WatchedStore implements LeaseStore {
  readonly name: string;
  readonly guarantees: Guarantees;
  readonly #store: LeaseStore;
  readonly #recorder: Recorder;
  readonly #known = new Set<string>();

  constructor(store: LeaseStore, recorder: Recorder) {
    this.name = store.name;
    this.guarantees = store.guarantees;
    this.#store = store;
    this.#recorder = recorder;
  }

  open(on: (event: StoreEvent) => void): Promise<void> {
    return this.#store.open((event) => {
      if (event.is === 'granted') this.#owns(event.owner, event.epoch);
      on(event);
    });
  }

  async claim(claim: Claim): Promise<ClaimOutcome> {
    this.#claims(claim);
    return this.#answered(claim, await this.#store.claim(claim));
  }

  renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    return this.#store.renew(claims);
  }

  async drop(claim: ClaimId, again?: Claim): Promise<DropOutcome> {
    if (again) this.#claims(again);
    const outcome = await this.#store.drop(claim, again);
    if (again && outcome.next) this.#answered(again, outcome.next);
    return outcome;
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  #claims({ owner, key }: Claim): void {
    if (this.#known.has(owner)) return;
    this.#known.add(owner);
    this.#recorder.write({ is: 'claims', owner, key });
  }

  #answered({ owner }: Claim, outcome: ClaimOutcome): ClaimOutcome {
    if (outcome.is === 'waiting') this.#recorder.write({ is: 'waits', owner });
    if (outcome.is === 'granted') this.#owns(owner, outcome.epoch);
    return outcome;
  }

  #owns(owner: string, epoch: bigint): void {
    this.#recorder.write({ is: 'owns', owner, epoch: String(epoch) });
  }
}

/** What to write down of an error of `take`; `null` when it must not come out of the package. */
export function codeOf(error: unknown, { subject }: Order): string | null {
  if (error instanceof LeaseholdError) return error.code;
  if (subject !== 'leasehold' && error instanceof Error) return error.name;
  return null;
}
