/**
 * The store contract: what an engine does for the core, and all that it does.
 *
 * A store holds leases: who owns which key until when, who waits for it, and which fencing epoch the key has reached.
 * Every call is one bounded, atomic attempt. Waiting, retrying, renewing, delaying and passing a lease on inside the
 * process live in the core, once for every store.
 *
 * | call      | answers                                  | a rejected promise means          |
 * |-----------|------------------------------------------|-----------------------------------|
 * | `open`    | when events can arrive                   | not open; it may be called again  |
 * | `claim`   | granted, waiting, taken or refused       | unknown: done or not done         |
 * | `renew`   | held, lost or unknown, one for each claim | unknown for all                   |
 * | `drop`    | whether it was held, and the next claim  | unknown: done or not done         |
 * | `close`   | when nothing of the store is left open   | closed all the same               |
 */

/**
 * The capacity of a key that is locked by readers and writers: a writer is all of it, a reader is one unit. A mutex is
 * a writer. Semaphores have a capacity of their own, their limit, which is always smaller.
 */
export const SHARED_CAPACITY = 1_000_000;

/** Which claim is meant. An owner value is new for each claim and never used again after it was lost or dropped. */
export interface ClaimId {
  readonly key: string;
  /** `host:pid:nonce`, unique in the world. */
  readonly owner: string;
}

/** A wish to own some units of a key's capacity for a while. `units === capacity` is exclusive. */
export interface Claim extends ClaimId {
  readonly units: number;
  readonly capacity: number;
  readonly ttlMs: number;
  /** Queue when the key is taken. `false` leaves no trace in the store. */
  readonly wait: boolean;
}

export interface Grant {
  readonly is: 'granted';
  readonly claim: Claim;
  /** Higher than the epoch of every earlier grant of this key. */
  readonly epoch: bigint;
  /** The expiry that the server set, counted from when it did. */
  readonly ttlMs: number;
  /** Another process waits for the key. */
  readonly wanted: boolean;
}

export interface Waiting {
  readonly is: 'waiting';
  /** Claim again after this time: heartbeat, and recovery of a grant whose message was lost. */
  readonly lookAgainMs: number;
  /** How many waiters stand before this one; `null` when the store does not know. */
  readonly ahead: number | null;
  /** An owner value that holds the key, for messages to people. */
  readonly holder: string | null;
  /** The key's epoch at that moment. A grant event counts only when its epoch is higher. */
  readonly epoch: bigint;
}

export type RefusalReason = 'capacity-differs' | 'not-a-lock' | 'unsupported';

export type ClaimOutcome =
  | Grant
  | Waiting
  | { readonly is: 'taken'; readonly holder: string | null }
  | {
      readonly is: 'refused';
      readonly reason: RefusalReason;
      /** For people: what is wrong, and what to do. */
      readonly detail: string;
    };

export type RenewOutcome =
  | { readonly is: 'held'; readonly wanted: boolean }
  | { readonly is: 'lost' }
  | { readonly is: 'unknown'; readonly cause: unknown };

export interface DropOutcome {
  /** Whether the claim held the key when it was dropped. */
  readonly held: boolean;
  /** The answer to `again`; `null` when there was none, or when the dropped claim was not held. */
  readonly next: ClaimOutcome | null;
}

export type StoreEvent =
  /**
   * A waiting claim was granted by somebody else's drop. It counts from the sending of its last answered claim. One that
   * nobody knows any more is dropped.
   */
  | {
      readonly is: 'granted';
      readonly key: string;
      readonly owner: string;
      readonly epoch: bigint;
      readonly wanted: boolean;
    }
  /** The key may be free now (stores that signal instead of handing over): claim again. */
  | { readonly is: 'available'; readonly key: string }
  /** Another process waits for a key that is held here. */
  | { readonly is: 'wanted'; readonly key: string }
  /** The engine knows that this claim no longer holds. */
  | { readonly is: 'lost'; readonly key: string; readonly owner: string }
  /** Events may have been missed: claim and renew everything once. */
  | { readonly is: 'reset' };

/** What a store promises, for documentation, for choosing, and for the conformance suite. */
export interface Guarantees {
  /** Who can share a lock: tasks of a process, processes of a machine, or machines of a network. */
  readonly scope: 'process' | 'machine' | 'network';
  /** `direct`: the drop itself makes the next waiter the owner. `signalled`: waiters are told to claim again. */
  readonly handOver: 'direct' | 'signalled';
  /** The default of `fairness.maxPasses` here: more where a hand-over takes longer. */
  readonly maxPasses?: number;
  /** Whether waiters of different processes are served in the order in which they came. */
  readonly order: 'arrival' | 'none';
  /** Which capacities are sound here: all of them, or exclusive locks only. */
  readonly capacities: 'any' | 'exclusive';
  /** The faults after which exclusion and token order still hold, in words for people. */
  readonly survives: readonly string[];
  /** The faults after which they may not, in words for people. */
  readonly doesNotSurvive: readonly string[];
}

export interface LeaseStore {
  readonly name: string;
  readonly guarantees: Guarantees;
  /** Connects and starts to deliver events. Called once before any other call; a store belongs to one manager. */
  open(on: (event: StoreEvent) => void): Promise<void>;
  /**
   * Claims a key, again and again: the first call registers, later ones are heartbeats and recover a grant whose reply
   * or message was lost. Claiming what the owner already holds returns its grant and re-arms its expiry, and never
   * shortens it.
   */
  claim(claim: Claim): Promise<ClaimOutcome>;
  /** Extends what is still held, one outcome for each claim in the order given. Never shortens an expiry. */
  renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]>;
  /**
   * Held or queued, the claim is gone afterwards. With `again`, and only when the dropped claim was held, the new claim
   * is made in the same atomic step, behind everyone who waits already.
   */
  drop(claim: ClaimId, again?: Claim): Promise<DropOutcome>;
  /** Closes what the store opened itself. Leases that are still held end by their ttl. */
  close(): Promise<void>;
}
