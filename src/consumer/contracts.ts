/**
 * What the keyed consumer needs of engines: a source of messages, a store of states, and an outbox.
 *
 * The consumer decides everything (which messages make a batch, what is busy, what has failed, what is acknowledged
 * when). An engine does single steps. In all of them a rejected promise means: not known, done or not done.
 *
 * | who        | promises                                                                                          |
 * |------------|---------------------------------------------------------------------------------------------------|
 * | source     | what was not acknowledged is delivered again; what was published with an answer is not lost       |
 * | state      | one commit is all or nothing, fenced, and applies a message id at most once                       |
 * | outbox     | what was put with an answer is claimed again and again until it is removed                        |
 *
 * A message is known by the id that its producer gave it, over every copy of it: delivered again, republished, kept in an
 * outbox, or replayed. Crashes therefore only ever make copies, and the commit sorts them out.
 */
import type { Token } from '../core/fence.ts';
import type { LeaseStore } from '../core/store.ts';

/** A message with all that has to travel with it, whichever queue it is in. */
export interface Envelope {
  /** The producer's id; `null` when it gave none. */
  readonly id: string | null;
  readonly content: Uint8Array;
  readonly contentType: string | null;
  /** As the producer set them. What the consumer needs for itself is in the other fields, not here. */
  readonly headers: Readonly<Record<string, unknown>>;
  /** What else the source's protocol knows of it, such as a correlation id: plain JSON, opaque, kept over every copy. */
  readonly properties: Readonly<Record<string, unknown>>;
  /** When it was first published, in ms since 1970, the same over every copy; `null` when its producer did not say. */
  readonly publishedAtMs: number | null;
  /** How often its key's lock was not got in time. */
  readonly busyCount: number;
  /** How often its handler threw. */
  readonly failedCount: number;
  /** It was dead-lettered, and a person wants it applied all the same. */
  readonly isReplay: boolean;
}

/** A message that is here and has to be settled. */
export interface Delivery {
  readonly envelope: Envelope;
  readonly isRedelivered: boolean;
  /** False once its connection is gone: it will be delivered again, and settling it does nothing. */
  isLive(): boolean;
}

/** Where deliveries come from, and how each of them ends: the part that sources and outboxes share. */
export interface DeliveryOrigin {
  /** The message is done with. Without effect for a delivery that is not live. May be coalesced with others. */
  acknowledge(deliveries: readonly Delivery[]): Promise<void>;
  /** The message was not worked on: deliver it again, to whomever. */
  release(deliveries: readonly Delivery[]): Promise<void>;
}

export interface SourceEvents {
  delivered(delivery: Delivery): void;
  /** The source cannot go on by itself: its queue is missing, or is declared differently. */
  failed(error: Error): void;
}

export type DeadLetterReason =
  | 'malformed'
  | 'no-id'
  | 'no-key'
  | 'no-time'
  | 'too-old'
  | 'busy'
  | 'failed'
  /** Its mark says that it was dead-lettered. This copy may be all that is left of it, after a crash in between. */
  | 'dead-before';

export interface DeadLetterNote {
  readonly reason: DeadLetterReason;
  /** For people: what happened. */
  readonly detail: string;
}

export interface MessageSource extends DeliveryOrigin {
  readonly name: string;
  /** Starts to deliver, up to its prefetch of unsettled messages. Called once. Reconnects by itself afterwards. */
  open(events: SourceEvents): Promise<void>;
  /** Publishes copies that come back after a delay. Resolves when they are safe; then acknowledge the deliveries. */
  republish(envelopes: readonly Envelope[], delayMs: number): Promise<void>;
  /** Publishes copies to where people look for them. Resolves when they are safe; then acknowledge the deliveries. */
  deadLetter(envelopes: readonly Envelope[], note: DeadLetterNote): Promise<void>;
  /** Delivers nothing more; what was delivered can still be settled. */
  stop(): Promise<void>;
  /** Closes what it opened. What is not settled is delivered again, to somebody else. */
  close(): Promise<void>;
}

/** What became of a message id earlier. */
export type Mark = 'applied' | 'dead-lettered';

export interface CommitMessage {
  readonly id: string;
  readonly publishedAtMs: number;
  /** It may have been dead-lettered: the commit clears that mark. */
  readonly isReplay: boolean;
}

export type LoadOutcome =
  | {
      readonly is: 'loaded';
      /** `null` when there is none yet. */
      readonly value: string | null;
      /** How often it was committed. */
      readonly version: number;
      /** Of the ids that were asked for, those that are known. */
      readonly marks: ReadonlyMap<string, Mark>;
    }
  /** Somebody with a higher token was here. */
  | { readonly is: 'stale'; readonly fence: string };

export interface Commit {
  readonly key: string;
  readonly lease: Token;
  /** Unique for this commit: made again after a lost answer, it answers `committed` and writes nothing. */
  readonly id: string;
  readonly expectedVersion: number;
  readonly value: string;
  readonly messages: readonly CommitMessage[];
}

/** All but `committed` wrote nothing. */
export type CommitOutcome =
  | { readonly is: 'committed'; readonly version: number }
  /** Some of the messages are known already: leave them out, and reduce again. */
  | { readonly is: 'known'; readonly marks: ReadonlyMap<string, Mark> }
  /**
   * Some are older than the window in which ids are remembered, so that nobody knows whether they were applied; or their
   * time is a whole window ahead of the store's clock, which would have their ids remembered without bound.
   */
  | { readonly is: 'too-old'; readonly ids: readonly string[] }
  /** Somebody with a higher token was here. */
  | { readonly is: 'stale'; readonly fence: string }
  /** The state is another one than that which was loaded: load it again. */
  | { readonly is: 'moved'; readonly version: number };

/** A state as it stands, read without its lock. */
export interface Sight {
  readonly value: string | null;
  readonly version: number;
  /** The token at its fence, as 20 digits; empty when there is none. With the version, no two states have the same. */
  readonly fence: string;
  readonly marks: ReadonlyMap<string, Mark>;
}

export type LookOutcome = ({ readonly is: 'seen' } & Sight) | { readonly is: 'locked' };

export interface ElidedCommit extends Omit<Commit, 'lease'> {
  readonly lockName: string;
  /**
   * As it was seen, or given by the commit before; empty where there is no token. With an expected version of 0 it may be a
   * guess that nobody has looked at: that there is no state.
   */
  readonly expectedFence: string;
}

/** All but `committed` wrote nothing. */
export type ElidedCommitOutcome =
  /** With the token that it was given. */
  | { readonly is: 'committed'; readonly version: number; readonly fence: string }
  | Extract<CommitOutcome, { is: 'known' | 'too-old' | 'stale' }>
  /** The state is another one than that which was expected: this one. */
  | ({ readonly is: 'moved' } & Sight)
  /** Somebody holds the lock, or waits for it. */
  | { readonly is: 'locked' };

/**
 * Commits that take no lock, for states that stand beside their locks. A commit looks at the lock in the same atomic step in
 * which it writes, and is refused while anybody has it. So it is as if the lock had been taken, the state read, the commit
 * made and the lock given back, all in that step: what was read and reduced before counts only if it is still right.
 * Source: lock elision (Rajwar and Goodman, MICRO 2001).
 */
export interface Elision {
  /** Reads a state, unless its lock is taken. Raises no fence. */
  look(key: string, lockName: string, messages: readonly CommitMessage[]): Promise<LookOutcome>;
  /** In one atomic step: checks that the lock is free, and that the state is the one that is expected; then as any commit. */
  commit(commit: ElidedCommit): Promise<ElidedCommitOutcome>;
}

export interface StateStore {
  readonly name: string;
  /**
   * How long the ids of messages are remembered, counted from their first publishing, in milliseconds. By the store's
   * clock, messages that are older are refused, and only ids that are older are forgotten: so none is applied twice.
   */
  readonly windowMs: number;
  open(): Promise<void>;
  /**
   * Reads a state under a lease and raises its fence. A known id whose message is younger than the one it was remembered
   * with (a producer that published again gave it a new time) is remembered from then on, here and in `commit`.
   */
  load(key: string, lease: Token, messages: readonly CommitMessage[]): Promise<LoadOutcome>;
  /** For whoever only looks: the value without a lease, which raises no fence; `null` when there is none. */
  peek(key: string): Promise<string | null>;
  /** In one atomic step: checks fence, version and ids, writes the state, and remembers the ids. */
  commit(commit: Commit): Promise<CommitOutcome>;
  /**
   * Marks what is about to be dead-lettered, in one atomic step and without a lease, so that no other copy is applied
   * meanwhile. The outcome has the marks after that: whatever is `applied` was applied before, and is acknowledged instead.
   */
  markDead(key: string, messages: readonly CommitMessage[]): Promise<ReadonlyMap<string, Mark>>;
  /** `null` when it does not stand where these leases do. A store without it has no such thing. */
  elision?(leases: LeaseStore): Elision | null;
  /** Closes what it opened itself. */
  close(): Promise<void>;
}

/** What an outbox holds, and how old it is. */
export interface OutboxDepth {
  readonly entries: number;
  /** Since the oldest of them was put for the first time, in milliseconds; 0 when there is none. */
  readonly oldestAgeMs: number;
}

/**
 * Keeps messages that could not get their lock in time, durably, until they are due again. It is an origin of deliveries
 * as a source is: acknowledged means removed.
 */
export interface Outbox extends DeliveryOrigin {
  readonly name: string;
  open(): Promise<void>;
  /** Stores copies that are due after the delay. Resolves when they are safe; then acknowledge the deliveries. */
  put(envelopes: readonly Envelope[], delayMs: number): Promise<void>;
  /**
   * Takes up to `most` entries that are due, the longest due first. They are this process's for `leaseMs`; whoever dies with
   * them loses them to the next that claims. `nextDueMs` says in how many milliseconds the next one will be due, if any.
   */
  claim(
    most: number,
    leaseMs: number,
  ): Promise<{ deliveries: readonly Delivery[]; nextDueMs: number | null }>;
  /**
   * Claimed entries, replaced one for one by these copies of them, that are due after the delay. They keep their age.
   * Nothing is done for those whose claim is over.
   */
  putBack(
    deliveries: readonly Delivery[],
    envelopes: readonly Envelope[],
    delayMs: number,
  ): Promise<void>;
  depth(): Promise<OutboxDepth>;
  close(): Promise<void>;
}

/** A message that waits for a person. */
export interface DeadLetter extends DeadLetterNote {
  readonly envelope: Envelope;
  readonly deadSinceMs: number | null;
}

/** Where dead letters are looked at and replayed: the command line's view of a source. */
export interface DeadLetters {
  list(most: number): Promise<readonly DeadLetter[]>;
  /**
   * Publishes dead letters to their queue again, as replays with a new time of first publishing, and removes them. A replay
   * that a crash made incomplete is made again with the same time. The filter chooses them. Resolves with how many.
   */
  replay(wants: (letter: DeadLetter) => boolean): Promise<number>;
  close(): Promise<void>;
}
