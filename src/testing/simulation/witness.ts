/**
 * A witness between the core and its store. It sees every call, answer and event of one process, and keeps its own
 * account of what may be believed from them: which grants there were, until when each of them may be trusted at the
 * most, and since when the process knows that another one waits.
 */
import type { Clock } from '../../core/clock.ts';
import type {
  Claim,
  ClaimId,
  ClaimOutcome,
  DropOutcome,
  Guarantees,
  LeaseStore,
  RenewOutcome,
  StoreEvent,
} from '../../core/store.ts';

/** One remote grant, as this process may believe it. */
export interface Tenure {
  readonly key: string;
  readonly owner: string;
  readonly epoch: bigint;
  /** On the monotonic clock of the process: when it last heard of the grant before it used it. */
  grantedMs: number;
  trustedUntilMs: number;
  /** Since when the process knows that it is wanted; `null` while it does not. */
  wantedSinceMs: number | null;
  /** Local grants since then. */
  passesWhileWanted: number;
  /** A caller has had a lease under it. */
  isUsed: boolean;
}

interface ClaimRecord {
  readonly key: string;
  readonly ttlMs: number;
  /** Before the sending of the first claim, or of the last one that was answered with "wait". */
  countsFromMs: number;
  /** The key's epoch when the store last said "wait". */
  waitingEpoch: bigint | null;
  /** The process heard that the key is wanted, perhaps before it heard of its grant. */
  isWanted: boolean;
}

/** Stated anew rather than taken from the core: what is judged here cannot be its own judge. */
const TRUSTED_SHARE = 0.99;
const COARSE_MS = 2;

export class Witness implements LeaseStore {
  readonly name: string;
  readonly guarantees: Guarantees;
  readonly #store: LeaseStore;
  readonly #clock: Clock;
  readonly #trace: (line: () => string) => void;
  readonly #claims = new Map<string, ClaimRecord>();
  /** Owner values that are given up: whatever they are granted from now on goes back at once. */
  readonly #givenUp = new Set<string>();
  readonly #kept = new Set<Tenure>();
  readonly #toGiveBack = new Set<string>();
  readonly #tenures = new Map<string, Map<bigint, Tenure>>();

  constructor(parts: {
    readonly store: LeaseStore;
    readonly clock: Clock;
    readonly trace: (line: () => string) => void;
  }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#trace = parts.trace;
    this.name = parts.store.name;
    this.guarantees = parts.store.guarantees;
  }

  /** Grants that nobody here uses, and nobody has begun to give back. */
  get ungiven(): readonly string[] {
    return [...this.#toGiveBack];
  }

  /** Grants that were used and are not given back yet, although this process knows that another one waits for them. */
  *wanted(): Iterable<Tenure> {
    const nowMs = this.#clock.monotonicMs();
    for (const tenure of this.#kept) {
      if (tenure.trustedUntilMs <= nowMs || this.#givenUp.has(tenure.owner)) {
        this.#kept.delete(tenure);
      } else if (tenure.isUsed && tenure.wantedSinceMs !== null) {
        yield tenure;
      }
    }
  }

  tenure(key: string, epoch: bigint): Tenure | undefined {
    return this.#tenures.get(key)?.get(epoch);
  }

  open(on: (event: StoreEvent) => void): Promise<void> {
    return this.#store.open((event) => {
      this.#trace(() => `event ${describe(event)}`);
      this.#onEvent(event);
      on(event);
    });
  }

  async claim(claim: Claim): Promise<ClaimOutcome> {
    const sentMs = this.#sending(claim);
    const what = `claim ${claim.key} for ${claim.owner}`;
    const outcome = await this.#told(what, this.#store.claim(claim));
    this.#claimAnswered(claim, outcome, sentMs);
    return outcome;
  }

  async renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    const sentMs = this.#clock.monotonicMs();
    const sent = [...claims];
    const what = `renew ${sent.map((claim) => claim.owner).join(' ')}`;
    const outcomes = await this.#told(what, this.#store.renew(claims));
    sent.forEach((claim, index) => {
      const outcome = outcomes[index];
      if (outcome?.is !== 'held') return;
      for (const tenure of this.#tenures.get(claim.key)?.values() ?? []) {
        if (tenure.owner !== claim.owner) continue;
        this.#kept.add(tenure);
        this.#trust(tenure, claim.ttlMs, sentMs);
        if (outcome.wanted) this.#setWanted(tenure, true);
      }
    });
    return outcomes;
  }

  async drop(claim: ClaimId, again?: Claim): Promise<DropOutcome> {
    this.#givenUp.add(claim.owner);
    this.#toGiveBack.delete(claim.owner);
    const sentMs = again ? this.#sending(again) : 0;
    const what = `drop ${claim.key} of ${claim.owner}${again ? `, again for ${again.owner}` : ''}`;
    const outcome = await this.#told(what, this.#store.drop(claim, again));
    if (again && outcome.next) this.#claimAnswered(again, outcome.next, sentMs);
    return outcome;
  }

  close(): Promise<void> {
    this.#trace(() => 'close the store');
    return this.#store.close();
  }

  async #told<T>(what: string, answer: Promise<T>): Promise<T> {
    this.#trace(() => what);
    try {
      const value = await answer;
      this.#trace(() => `${what}: ${describe(value)}`);
      return value;
    } catch (error) {
      this.#trace(() => `${what}: ${String(error)}`);
      throw error;
    }
  }

  #sending(claim: Claim): number {
    const sentMs = this.#clock.monotonicMs();
    if (!this.#claims.has(claim.owner)) {
      const { key, ttlMs } = claim;
      const record = { key, ttlMs, countsFromMs: sentMs, waitingEpoch: null, isWanted: false };
      this.#claims.set(claim.owner, record);
    }
    return sentMs;
  }

  #claimAnswered(claim: Claim, outcome: ClaimOutcome, sentMs: number): void {
    if (outcome.is === 'granted') {
      this.#granted(claim, { ...outcome, fromMs: sentMs, isAnswer: true });
    } else if (outcome.is === 'waiting') {
      const record = this.#claims.get(claim.owner);
      if (!record) return;
      record.countsFromMs = Math.max(record.countsFromMs, sentMs);
      record.waitingEpoch = outcome.epoch;
    }
  }

  #onEvent(event: StoreEvent): void {
    if (event.is === 'wanted') {
      for (const claim of this.#claims.values()) if (claim.key === event.key) claim.isWanted = true;
      for (const tenure of this.#tenures.get(event.key)?.values() ?? []) {
        this.#setWanted(tenure, true);
      }
    } else if (event.is === 'granted') {
      if (this.#givenUp.has(event.owner)) this.#toGiveBack.add(event.owner);
      const record = this.#claims.get(event.owner);
      if (!record || (record.waitingEpoch !== null && event.epoch <= record.waitingEpoch)) return;
      const { ttlMs, countsFromMs } = record;
      this.#granted(event, { ...event, ttlMs, fromMs: countsFromMs, isAnswer: false });
    }
  }

  #granted(
    { key, owner }: ClaimId,
    grant: {
      readonly epoch: bigint;
      readonly ttlMs: number;
      readonly wanted: boolean;
      readonly fromMs: number;
      readonly isAnswer: boolean;
    },
  ): void {
    const nowMs = this.#clock.monotonicMs();
    // It came when it could not be trusted any more: nothing begins with it.
    if (trustedUntilMs(grant.ttlMs, grant.fromMs) <= nowMs) return;
    const ofKey = this.#tenures.get(key) ?? new Map<bigint, Tenure>();
    this.#tenures.set(key, ofKey);
    let tenure = ofKey.get(grant.epoch);
    if (!tenure) {
      tenure = {
        key,
        owner,
        epoch: grant.epoch,
        grantedMs: nowMs,
        trustedUntilMs: 0,
        wantedSinceMs: null,
        passesWhileWanted: 0,
        isUsed: false,
      };
      ofKey.set(grant.epoch, tenure);
    }
    this.#kept.add(tenure);
    this.#trust(tenure, grant.ttlMs, grant.fromMs);
    if (!tenure.isUsed) {
      tenure.grantedMs = nowMs;
      this.#setWanted(tenure, grant.wanted || this.#claims.get(owner)?.isWanted === true);
    } else if (grant.wanted && grant.isAnswer) {
      // A message says what was so when the key was granted, which is older than any answer.
      this.#setWanted(tenure, true);
    }
  }

  #trust(tenure: Tenure, ttlMs: number, fromMs: number): void {
    tenure.trustedUntilMs = Math.max(tenure.trustedUntilMs, trustedUntilMs(ttlMs, fromMs));
  }

  #setWanted(tenure: Tenure, wanted: boolean): void {
    if (wanted) tenure.wantedSinceMs ??= this.#clock.monotonicMs();
    else tenure.wantedSinceMs = null;
  }
}

function trustedUntilMs(ttlMs: number, fromMs: number): number {
  return fromMs + ttlMs * TRUSTED_SHARE - COARSE_MS;
}

/** One line about an answer or an event. */
function describe(value: unknown): string {
  return (
    JSON.stringify(value, (name, part) => {
      if (name === 'claim') return undefined;
      return typeof part === 'bigint' ? Number(part) : part;
    }) ?? 'done'
  );
}
