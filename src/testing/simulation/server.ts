/**
 * A simulated lease server: the lease states of all keys behind one clock. It can hand over like a store that makes the
 * next waiter the owner (`direct`), or tell waiters to claim again (`signalled`), in order of arrival or not. It can
 * restart with or without its data, have its clock set, and take a lease away.
 */
import {
  claimKey,
  dropKey,
  emptyKeyState,
  isEmpty,
  type KeyState,
  renewKey,
  type StepContext,
} from '../../core/key-state.ts';
import type {
  Claim,
  ClaimId,
  ClaimOutcome,
  DropOutcome,
  Guarantees,
  RenewOutcome,
  StoreEvent,
} from '../../core/store.ts';
import { auditStep } from './audit.ts';
import type { Timeline } from './timeline.ts';

export interface SimulatedServerOptions {
  readonly timeline: Timeline;
  /** How fast its clock runs. Default 1. */
  readonly rate?: number;
  /** Default `direct`. */
  readonly handOver?: Guarantees['handOver'];
  /** Default `arrival`; `none` only together with `signalled`. */
  readonly order?: Guarantees['order'];
  /** A counter forgets with the data; a clock does not. Default `clock`. */
  readonly epochs?: 'clock' | 'counter';
  /** Is told what is wrong with a step. */
  readonly onFault?: (what: string) => void;
}

type Deliver = (event: StoreEvent) => void;

export class SimulatedServer {
  readonly handOver: Guarantees['handOver'];
  readonly order: Guarantees['order'];
  readonly #timeline: Timeline;
  readonly #rate: number;
  readonly #epochSource: 'clock' | 'counter';
  readonly #onFault: SimulatedServerOptions['onFault'];
  readonly #states = new Map<string, KeyState>();
  readonly #epochs = new Map<string, number>();
  readonly #listeners = new Map<string, Deliver>();
  #offsetMs = 1_000_000;
  #isUp = true;

  constructor(options: SimulatedServerOptions) {
    this.#timeline = options.timeline;
    this.#rate = options.rate ?? 1;
    this.handOver = options.handOver ?? 'direct';
    this.order = options.order ?? 'arrival';
    this.#epochSource = options.epochs ?? 'clock';
    this.#onFault = options.onFault;
    if (this.order === 'none' && this.handOver === 'direct') {
      throw new RangeError('a direct hand-over has an order');
    }
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** Whole milliseconds: the expiry of an engine is coarse. */
  nowMs(): number {
    return Math.floor(this.#offsetMs + this.#timeline.nowMs * this.#rate);
  }

  connect(channel: string, deliver: Deliver): void {
    this.#listeners.set(channel, deliver);
  }

  disconnect(channel: string): void {
    this.#listeners.delete(channel);
  }

  claim(channel: string, claim: Claim): ClaimOutcome {
    return this.#step(channel, claim.key, (state, context) => claimKey(state, claim, context));
  }

  renew(channel: string, claims: readonly Claim[]): RenewOutcome[] {
    return claims.map((claim) =>
      this.#step(channel, claim.key, (state, context) => renewKey(state, claim, context)),
    );
  }

  drop(channel: string, id: ClaimId, again: Claim | undefined): DropOutcome {
    return this.#step(channel, id.key, (state, context) => {
      if (this.order === 'arrival' || !again) return dropKey(state, id, again, context);
      // Without an order the one that drops would always be the first to claim, so it only queues.
      const { held } = dropKey(state, id, undefined, context);
      if (!held) return { held, next: null };
      const isContended = !isEmpty(state) && state.capacity === again.capacity;
      const mustQueue = isContended && !isKnown(state, again.owner);
      const next = mustQueue ? queueUp(state, again, context) : claimKey(state, again, context);
      return { held, next };
    });
  }

  /** Everybody is cut off; without its data the server has also forgotten every lease, waiter and counter. */
  stop(options: { readonly keepsData: boolean }): void {
    this.#isUp = false;
    this.#listeners.clear();
    if (options.keepsData) return;
    this.#states.clear();
    this.#epochs.clear();
  }

  start(): void {
    this.#isUp = true;
  }

  jumpClock(byMs: number): void {
    this.#offsetMs += byMs;
  }

  /** Takes the lease of a key away from its first holder, as an operator or an ended session does. */
  revoke(key: string): void {
    const holder = this.#states.get(key)?.holders[0];
    if (!holder) return;
    this.#step(holder.channel, key, (state, context) => {
      const outcome = dropKey(state, { key, owner: holder.owner }, undefined, context);
      context.tell(holder.channel, { is: 'lost', key, owner: holder.owner });
      return outcome;
    });
  }

  /** Every key that somebody holds or waits for, by the data alone. */
  states(): ReadonlyMap<string, KeyState> {
    return this.#states;
  }

  #step<T>(channel: string, key: string, run: (state: KeyState, context: StepContext) => T): T {
    const state = this.#states.get(key) ?? emptyKeyState(1);
    const before = snapshot(state);
    const told: [string, StoreEvent][] = [];
    const outcome = run(state, this.#context(channel, key, told));
    this.#audit(key, before, state);
    if (isEmpty(state)) this.#states.delete(key);
    else this.#states.set(key, state);
    if (this.order === 'none' && state.holders.length < before.holders.length) {
      const channels = new Set(state.waiters.map((waiter) => waiter.channel));
      for (const waiting of channels) told.push([waiting, { is: 'available', key }]);
    }
    for (const [to, event] of told) this.#listeners.get(to)?.(event);
    return outcome;
  }

  #audit(key: string, before: KeyState, after: KeyState): void {
    if (!this.#onFault) return;
    const isListening = (channel: string): boolean => this.#isListening(channel);
    for (const what of auditStep({ key, before, after, isListening })) this.#onFault(what);
  }

  /** Without an order nobody is served in somebody else's step: whoever claims first has it. */
  #isListening(channel: string): boolean {
    return this.order === 'arrival' && this.#listeners.has(channel);
  }

  #context(channel: string, key: string, told: [string, StoreEvent][]): StepContext {
    const lastEpoch = () => this.#epochs.get(key) ?? 0;
    return {
      nowMs: this.nowMs(),
      channel,
      lastEpoch,
      mintEpoch: () => {
        const clock = this.#epochSource === 'clock' ? this.nowMs() * 1000 : 0;
        const epoch = Math.max(lastEpoch() + 1, clock);
        this.#epochs.set(key, epoch);
        return epoch;
      },
      isListening: (to) => this.#isListening(to),
      tell: (to, event) => {
        const isSignalled = event.is === 'granted' && this.handOver === 'signalled';
        told.push([to, isSignalled ? { is: 'available', key } : event]);
      },
    };
  }
}

function isKnown(state: KeyState, owner: string): boolean {
  return [...state.holders, ...state.waiters].some((one) => one.owner === owner);
}

function queueUp(state: KeyState, claim: Claim, context: StepContext): ClaimOutcome {
  const { owner, units, ttlMs } = claim;
  const { channel, nowMs } = context;
  state.waiters.push({ owner, units, ttlMs, channel, seenAtMs: nowMs });
  return {
    is: 'waiting',
    // The signal that the key is free comes right behind; without other waiters it would not matter.
    lookAgainMs: 1,
    ahead: null,
    holder: state.holders[0]?.owner ?? null,
    epoch: BigInt(context.lastEpoch()),
  };
}

function snapshot(state: KeyState): KeyState {
  return {
    capacity: state.capacity,
    holders: state.holders.map((holder) => ({ ...holder })),
    waiters: state.waiters.map((waiter) => ({ ...waiter })),
  };
}
