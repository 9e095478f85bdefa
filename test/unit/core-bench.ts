/**
 * A lock manager on a bench: virtual time, and a store whose every call waits for the test to answer it.
 */
import {
  type Claim,
  type ClaimId,
  type ClaimOutcome,
  type DropOutcome,
  type Guarantees,
  type LeaseStore,
  LockManager,
  type LockManagerOptions,
  type RenewOutcome,
  type StoreEvent,
} from 'leasehold';
import { SeededRandom, SimulatedClock, Timeline } from 'leasehold/testing';
import { expect } from 'vitest';

interface Answers {
  readonly open: undefined;
  readonly claim: ClaimOutcome;
  readonly renew: readonly RenewOutcome[];
  readonly drop: DropOutcome;
  readonly close: undefined;
}

type Name = keyof Answers;

interface Call {
  readonly name: Name;
  readonly claims: readonly Claim[];
  readonly id: ClaimId | undefined;
  readonly resolve: (value: never) => void;
  readonly reject: (cause: unknown) => void;
}

export interface Pending<N extends Name> {
  readonly claim: Claim;
  readonly id: ClaimId;
  answer(value: Answers[N]): Promise<void>;
  fail(): Promise<void>;
}

export class Bench {
  readonly timeline: Timeline = new Timeline(new SeededRandom(1));
  readonly clock: SimulatedClock = new SimulatedClock({ timeline: this.timeline });
  readonly locks: LockManager;
  /** Every call so far, by name. */
  readonly made: Name[] = [];
  readonly #calls: Call[] = [];
  readonly #guarantees: Partial<Guarantees>;
  #on: (event: StoreEvent) => void = () => undefined;

  constructor(
    options: Omit<LockManagerOptions, 'store' | 'clock'> = {},
    guarantees: Partial<Guarantees> = {},
  ) {
    this.#guarantees = guarantees;
    this.locks = new LockManager({
      identity: 'here:1',
      ...options,
      store: this.#store(),
      clock: this.clock,
      random: () => 0.5,
    });
  }

  async advance(forMs: number): Promise<void> {
    await this.timeline.advance(forMs);
  }

  /** The oldest unanswered call of this name. */
  async next<N extends Name>(name: N): Promise<Pending<N>> {
    await this.timeline.settle();
    const index = this.#calls.findIndex((call) => call.name === name);
    expect(index, `an unanswered ${name} among ${this.unanswered.join(', ')}`).not.toBe(-1);
    const [call] = this.#calls.splice(index, 1) as [Call];
    const settled = (): Promise<void> => this.timeline.settle();
    return {
      claim: call.claims[0] as Claim,
      id: call.id as ClaimId,
      answer: (value) => {
        call.resolve(value as never);
        return settled();
      },
      fail: () => {
        call.reject(new Error('no answer in time'));
        return settled();
      },
    };
  }

  get unanswered(): Name[] {
    return this.#calls.map((call) => call.name);
  }

  async emit(event: StoreEvent): Promise<void> {
    this.#on(event);
    await this.timeline.settle();
  }

  #store(): LeaseStore {
    const call = <N extends Name>(name: N, claims: readonly Claim[] = [], id?: ClaimId) =>
      new Promise<Answers[N]>((resolve, reject) => {
        this.made.push(name);
        this.#calls.push({ name, claims, id, resolve, reject });
      });
    return {
      name: 'bench',
      guarantees: {
        scope: 'process',
        handOver: 'direct',
        order: 'arrival',
        capacities: 'any',
        survives: [],
        doesNotSurvive: [],
        ...this.#guarantees,
      },
      open: (on) => {
        this.#on = on;
        return call('open');
      },
      claim: (claim) => call('claim', [claim]),
      renew: (claims) => call('renew', claims),
      drop: (id, again) => call('drop', again ? [again] : [], id),
      close: () => call('close'),
    };
  }
}

export function granted(claim: Claim, epoch: bigint, wanted = false): ClaimOutcome {
  return { is: 'granted', claim, epoch, ttlMs: claim.ttlMs, wanted };
}

export function waiting(epoch: bigint, lookAgainMs = 100): ClaimOutcome {
  return { is: 'waiting', lookAgainMs, ahead: 0, holder: 'there:2:x', epoch };
}
