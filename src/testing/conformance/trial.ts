/**
 * One run of one case: a world of its own, the managers, stores and processes that the case opens in it, and their end.
 */
import assert from 'node:assert/strict';
import type { Lease } from '../../core/lease.ts';
import { LockManager } from '../../core/manager.ts';
import type { AcquireOptions, LockManagerOptions } from '../../core/options.ts';
import { type Claim, type Grant, SHARED_CAPACITY, type Waiting } from '../../core/store.ts';
import { ChildProcess } from './child-process.ts';
import { FaultyStore } from './faulty-store.ts';
import { actionOf, type KeyReport, type StoreFixture, type StoreWorld } from './fixture.ts';

/** What stands for a process here: a manager with a store of its own. */
export interface Participant {
  readonly locks: LockManager;
  readonly store: FaultyStore;
}

/** Options of a manager, but for the store, which the trial makes. */
export type ParticipantOptions = Omit<LockManagerOptions, 'store'>;

/** So many of them, one by one. */
export type Tuple<One, Count extends number, All extends One[] = []> = number extends Count
  ? One[]
  : All['length'] extends Count
    ? All
    : Tuple<One, Count, [...All, One]>;

/** Long enough that no case sees it expire: only a step that should not have waited for it would. */
export const LONG_TTL_MS = 120_000;

const POLL_MS = 5;

export class Trial {
  /** How long anything that must happen may take, in milliseconds. Failing cases need it, passing ones do not. */
  readonly patienceMs: number;
  readonly #fixture: StoreFixture;
  readonly #world: StoreWorld;
  #open: { close(): Promise<unknown> }[] = [];
  readonly #participants: Participant[] = [];
  #owners = 0;

  constructor(fixture: StoreFixture, world: StoreWorld, patienceMs: number) {
    this.#fixture = fixture;
    this.#world = world;
    this.patienceMs = patienceMs;
  }

  /** A manager with a store of its own, as another process would have it. */
  participant(options: ParticipantOptions = {}): Participant {
    const store = new FaultyStore(this.#world.store());
    const locks = new LockManager({
      ttlMs: LONG_TTL_MS,
      waitMs: this.patienceMs,
      ...options,
      store,
    });
    // What still hangs would keep the manager from closing.
    const close = (): Promise<void> => {
      store.resume();
      return locks.close();
    };
    this.#open.push({ close });
    this.#participants.push({ locks, store });
    return { locks, store };
  }

  participants<Count extends number>(
    count: Count,
    options: ParticipantOptions = {},
  ): Tuple<Participant, Count> {
    const made = Array.from({ length: count }, () => this.participant(options));
    return made as Tuple<Participant, Count>;
  }

  /** Opens their stores, which may take longer than a short ttl or a short wait does. */
  async warmUp(...participants: readonly Participant[]): Promise<void> {
    for (const { locks } of participants) {
      await (await this.settles('opening', locks.acquire('warm-up'))).release();
    }
  }

  /** An open store without a manager, for what is about the contract itself. */
  async store(): Promise<FaultyStore> {
    const store = new FaultyStore(this.#world.store());
    await store.open(() => {});
    this.#open.push(store);
    return store;
  }

  async stores<Count extends number>(count: Count): Promise<Tuple<FaultyStore, Count>> {
    const made = await Promise.all(Array.from({ length: count }, () => this.store()));
    return made as Tuple<FaultyStore, Count>;
  }

  /** A claim of a new owner: exclusive, patient and long, unless said otherwise. */
  claim(key: string, parts: Partial<Claim> = {}): Claim {
    this.#owners += 1;
    return {
      key,
      owner: `conformance:${process.pid}:${this.#owners}`,
      units: SHARED_CAPACITY,
      capacity: SHARED_CAPACITY,
      ttlMs: LONG_TTL_MS,
      wait: true,
      ...parts,
    };
  }

  /** A process of its own with a manager on a store of this world. */
  async spawn(options: ParticipantOptions = {}): Promise<ChildProcess> {
    const storeModule = actionOf(this.#fixture.hooks.processes)(this.#world);
    const managerOptions = { ttlMs: LONG_TTL_MS, waitMs: this.patienceMs, ...options };
    const child = new ChildProcess(storeModule, managerOptions);
    this.#open.push({ close: () => child.kill() });
    await this.settles('the start of a process', child.ready);
    return child;
  }

  /** Starts to acquire, and resolves when the claim stands in the engine's queue. The lease comes later. */
  async queue(
    { locks, store }: Participant,
    key: string,
    options: AcquireOptions = {},
  ): Promise<{ readonly lease: Promise<Lease> }> {
    const before = store.answered('waiting', key);
    const lease = locks.acquire(key, options);
    let failure: unknown;
    // The case may look at it late, or not at all.
    lease.catch((reason: unknown) => {
      failure = reason;
    });
    await this.until('a claim is queued', () => {
      if (failure !== undefined) throw failure;
      return store.answered('waiting', key) > before;
    });
    return { lease };
  }

  async inspect(): Promise<readonly KeyReport[]> {
    return actionOf(this.#fixture.hooks.inspect)(this.#world);
  }

  /** Waits until neither the engine nor a manager keeps anything. */
  async leavesNothing(): Promise<void> {
    await this.until('no manager keeps anything', () =>
      this.#participants.every(({ locks }) => locks.usage.keys === 0),
    );
    const isEmpty = async (): Promise<boolean> => (await this.inspect()).length === 0;
    try {
      await this.until('the engine keeps nothing', isEmpty);
    } catch {
      assert.deepEqual(await this.inspect(), [], 'the engine keeps what nobody needs any more');
    }
  }

  /** Closes everything of this trial and restarts the engine. */
  async restart(): Promise<void> {
    await this.#closeAll();
    await actionOf(this.#fixture.hooks.restart)(this.#world);
  }

  /** The first value of the condition that is not false, looked for again and again. */
  async until<Value>(
    what: string,
    condition: () => Value | false | Promise<Value | false>,
  ): Promise<Value> {
    const startedMs = performance.now();
    for (;;) {
      const value = await condition();
      if (value !== false) return value;
      const waitedMs = performance.now() - startedMs;
      assert(waitedMs < this.patienceMs, `waited ${this.patienceMs} ms in vain: ${what}`);
      await delay(POLL_MS);
    }
  }

  /** The outcome of the promise; fails when there is none in time. */
  async settles<Value>(what: string, promise: Promise<Value>): Promise<Value> {
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      const error = new assert.AssertionError({
        message: `waited ${this.patienceMs} ms in vain: ${what} did not settle`,
      });
      timer = setTimeout(() => reject(error), this.patienceMs);
    });
    try {
      return await Promise.race([promise, tooLate]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Claims as a manager does, again after every event and heartbeat, until the claim is granted. */
  async obtain(store: FaultyStore, claim: Claim): Promise<Grant> {
    const startedMs = performance.now();
    for (;;) {
      const seen = store.events.length;
      const outcome = await this.settles('a claim', store.claim(claim));
      if (outcome.is === 'granted') return outcome;
      assert.equal(outcome.is, 'waiting', `a patient claim is granted or waits: ${outcome.is}`);
      const waitedMs = performance.now() - startedMs;
      assert(waitedMs < this.patienceMs, `waited ${this.patienceMs} ms in vain for '${claim.key}'`);
      const { lookAgainMs } = outcome as Waiting;
      const leftMs = this.patienceMs - waitedMs;
      await this.#toldOrTime(store, claim, seen, Math.min(lookAgainMs, leftMs));
    }
  }

  async #toldOrTime(store: FaultyStore, claim: Claim, seen: number, ms: number): Promise<void> {
    const startedMs = performance.now();
    const isAbout = (event: FaultyStore['events'][number]): boolean =>
      event.is === 'reset' ||
      (event.is === 'available' && event.key === claim.key) ||
      (event.is === 'granted' && event.owner === claim.owner);
    while (performance.now() - startedMs < ms) {
      if (store.events.slice(seen).some(isAbout)) return;
      await delay(POLL_MS);
    }
  }

  /** Ends the trial, whatever its state. Fails when something of it does not end. */
  async close(): Promise<void> {
    try {
      await this.#closeAll();
    } finally {
      await this.settles('closing the world', this.#world.close());
    }
  }

  async #closeAll(): Promise<void> {
    const open = this.#open;
    this.#open = [];
    const closing = open.map((one) => this.settles('closing a participant', one.close()));
    const failed = (await Promise.allSettled(closing)).find((one) => one.status === 'rejected');
    if (failed) throw failed.reason;
  }
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Lets everything else that is ready run first. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
