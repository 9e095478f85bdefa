/**
 * The store for one process: the lease state of every key in a `Map`, and nothing else.
 *
 * JavaScript runs a step to its end, so that each call is atomic as it stands. Expiry needs no timer: a key is looked at
 * when somebody claims it, and each claim looks at a few others as well.
 */
import { type Clock, systemClock } from '../core/clock.ts';
import {
  claimKey,
  dropKey,
  emptyKeyState,
  isEmpty,
  type KeyState,
  renewKey,
  type StepContext,
  settleKey,
} from '../core/key-state.ts';
import { GRANTS_PER_EPOCH } from '../core/lease.ts';
import { checkClock, demand } from '../core/options.ts';
import type {
  Claim,
  ClaimId,
  ClaimOutcome,
  DropOutcome,
  Guarantees,
  LeaseStore,
  RenewOutcome,
  StoreEvent,
} from '../core/store.ts';

/** Epochs are microseconds since then, so that they also increase over restarts of the process. */
const EPOCH_START_MS = Date.UTC(2020, 0, 1);

/** Each claim looks at this many other keys, so that leases nobody dropped or claims again do not pile up. */
const SWEPT_KEYS_A_CLAIM = 2;

export interface MemorySpaceOptions {
  /** Judges expiry, and gives the epochs their start. Default: the system's. */
  readonly clock?: Clock;
}

/** What stands in a space for one key, by owner value, in order of grant and of arrival. */
export interface MemoryKeyReport {
  readonly key: string;
  readonly capacity: number;
  readonly holders: readonly string[];
  readonly waiters: readonly string[];
}

type Listener = (event: StoreEvent) => void;

/** Where the leases are: the engine that memory stores share, one for each group of managers that exclude each other. */
export class MemorySpace {
  readonly #clock: Clock;
  readonly #keys = new Map<string, KeyState>();
  readonly #listeners = new Map<string, Listener>();
  #sweep: Iterator<[string, KeyState]> = this.#keys.entries();
  #channels = 0;
  #epoch = 0;

  constructor(options: MemorySpaceOptions = {}) {
    this.#clock = options?.clock ?? systemClock;
    checkClock(this.#clock);
  }

  /** What is held and waited for, expired leases that nobody has looked at since included. */
  inspect(): MemoryKeyReport[] {
    return [...this.#keys].map(([key, state]) => ({
      key,
      capacity: state.capacity,
      holders: state.holders.map((holder) => holder.owner),
      waiters: state.waiters.map((waiter) => waiter.owner),
    }));
  }

  /** @internal Gives a store the name under which it is told of events. */
  attach(listener: Listener): string {
    this.#channels += 1;
    const channel = String(this.#channels);
    this.#listeners.set(channel, listener);
    return channel;
  }

  /** @internal */
  detach(channel: string): void {
    this.#listeners.delete(channel);
  }

  /** @internal */
  claim(channel: string, claim: Claim): ClaimOutcome {
    const context = this.#context(channel);
    this.#settleSome(context);
    const state = this.#keys.get(claim.key) ?? emptyKeyState(claim.capacity);
    const outcome = claimKey(state, claim, context);
    this.#put(claim.key, state);
    return outcome;
  }

  /** @internal */
  renew(channel: string, claims: readonly Claim[]): RenewOutcome[] {
    const context = this.#context(channel);
    return claims.map((claim) => {
      const state = this.#keys.get(claim.key);
      return state ? renewKey(state, claim, context) : { is: 'lost' };
    });
  }

  /** @internal */
  drop(channel: string, id: ClaimId, again?: Claim): DropOutcome {
    const state = this.#keys.get(id.key);
    if (!state) return { held: false, next: null };
    const outcome = dropKey(state, id, again, this.#context(channel));
    this.#put(id.key, state);
    return outcome;
  }

  /** @internal Whether somebody holds the key, or waits for it. */
  isTaken(key: string): boolean {
    const state = this.#keys.get(key);
    if (!state) return false;
    settleKey(state, key, this.#context(''));
    this.#put(key, state);
    return this.#keys.has(key);
  }

  /** @internal A token, as 20 digits, for what is done to a free key in one step. */
  mintToken(): string {
    return String(BigInt(this.#mintEpoch()) * BigInt(GRANTS_PER_EPOCH)).padStart(20, '0');
  }

  #put(key: string, state: KeyState): void {
    if (isEmpty(state)) this.#keys.delete(key);
    else this.#keys.set(key, state);
  }

  /** Iterators of a `Map` are live: this one goes round and round while keys come and go. */
  #settleSome(context: StepContext): void {
    for (let looked = 0; looked < SWEPT_KEYS_A_CLAIM; looked += 1) {
      const next = this.#sweep.next();
      if (next.done) {
        this.#sweep = this.#keys.entries();
        return;
      }
      const [key, state] = next.value;
      settleKey(state, key, context);
      this.#put(key, state);
    }
  }

  #context(channel: string): StepContext {
    return {
      nowMs: this.#clock.monotonicMs(),
      channel,
      mintEpoch: () => this.#mintEpoch(),
      lastEpoch: () => this.#epoch,
      isListening: (other) => this.#listeners.has(other),
      tell: (other, event) => this.#tell(other, event),
    };
  }

  #mintEpoch(): number {
    const sinceStartUs = Math.floor((this.#clock.wallMs() - EPOCH_START_MS) * 1000);
    this.#epoch = Math.max(this.#epoch + 1, sinceStartUs);
    return this.#epoch;
  }

  /** Later, as from any engine: the listener must not run inside the call that causes the event. */
  #tell(channel: string, event: StoreEvent): void {
    queueMicrotask(() => this.#listeners.get(channel)?.(event));
  }
}

const GUARANTEES: Guarantees = {
  scope: 'process',
  handOver: 'direct',
  order: 'arrival',
  capacities: 'any',
  survives: [
    'tasks that fail, hang or are cancelled',
    'restarts of the process, as long as the wall clock is not set back: tokens go on increasing',
  ],
  doesNotSurvive: [
    'a second process, or a second copy of this package in the same one: neither sees these leases',
  ],
};

export class MemoryStore implements LeaseStore {
  readonly name: string = 'memory';
  readonly guarantees: Guarantees = GUARANTEES;
  /** @internal */
  readonly space: MemorySpace;
  #channel: string | null = null;

  constructor(space: MemorySpace) {
    demand(space instanceof MemorySpace, 'memory() takes a MemorySpace, or nothing');
    this.space = space;
  }

  async open(on: Listener): Promise<void> {
    if (this.#channel !== null) throw new Error('the memory store is open already');
    this.#channel = this.space.attach(on);
  }

  async claim(claim: Claim): Promise<ClaimOutcome> {
    return this.space.claim(this.#opened(), claim);
  }

  async renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    return this.space.renew(this.#opened(), claims);
  }

  async drop(claim: ClaimId, again?: Claim): Promise<DropOutcome> {
    return this.space.drop(this.#opened(), claim, again);
  }

  async close(): Promise<void> {
    if (this.#channel !== null) this.space.detach(this.#channel);
    this.#channel = null;
  }

  #opened(): string {
    if (this.#channel === null) throw new Error('the memory store is not open');
    return this.#channel;
  }
}
