/**
 * One attempt to win a claim: an owner value with a proposed epoch, and the words in which the nodes are told of it.
 */
import type { Claim } from '../core/store.ts';

/** Also what a claim becomes that a majority of the nodes has granted. */
export interface Attempt {
  readonly owner: string;
  readonly lock: string;
  readonly ttlMs: number;
  readonly epoch: number;
  /** Hash slot, epoch, ttl, and what is kept at the lock: `owner epoch capacity ttl channel`. */
  readonly words: readonly [slot: string, epoch: string, ttl: string, kept: string];
}

/** Where the nodes keep what concerns a key. */
export interface Place {
  readonly lock: string;
  readonly slot: number;
}

export function newAttempt(
  { owner, capacity, ttlMs }: Claim,
  { lock, slot }: Place,
  epoch: number,
  channel: string,
): Attempt {
  const [proposed, ttl] = [textOf(epoch), String(ttlMs)];
  const kept = `${owner} ${proposed} ${capacity} ${ttl} ${channel}`;
  return { owner, lock, ttlMs, epoch, words: [String(slot), proposed, ttl, kept] };
}

/** Eight digits each: numbers below 2^31 become text several times faster. */
const HALF = 100_000_000;

function textOf(epoch: number): string {
  const high = Math.floor(epoch / HALF);
  return high === 0 ? String(epoch) : high + String(epoch - high * HALF).padStart(8, '0');
}

/** What one node is asked to do with one lock, as its script is told: see scripts/step.ts. */
export interface Operation {
  readonly kind: string;
  readonly words: readonly string[];
}

/** In lower case those that may queue. */
export type AttemptKind = 'n' | 'N' | 'c' | 'C' | 'f' | 'l' | 'L';

export function operationOf(kind: AttemptKind, { words }: Attempt): Operation {
  return { kind, words };
}

export function renewalOf({ words: [, , ttl, kept] }: Attempt): Operation {
  return { kind: 'r', words: [ttl, kept] };
}

export function dropOfHeld({ words: [, , , kept] }: Attempt): Operation {
  return { kind: 'd', words: [kept] };
}

/** Of whatever the owner has, or waits for. */
export function dropOf(owner: string, channel: string): Operation {
  return { kind: 'o', words: [owner, channel] };
}

/** Drops, and claims for another owner in the same step. */
export function swapOf(owner: string, again: Attempt, wait: boolean): Operation {
  return { kind: 'a', words: [owner, wait ? 'c' : 'C', ...again.words] };
}

/** What the script is told of one operation alone, of which the two most frequent kinds need not be named. */
export function wordsAlone({ kind, words }: Operation): readonly string[] {
  return kind === 'n' || kind === 'd' ? words : [kind, ...words];
}
