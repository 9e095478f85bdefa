/**
 * What the script answers, read into the outcomes of the store contract. Forms: see scripts/claim.ts, renew.ts, drop.ts.
 */
import type { Claim, ClaimOutcome, DropOutcome, RenewOutcome, StoreEvent } from '../core/store.ts';

/** A waiter claims again after this share of its ttl, and is forgotten when it was silent for the whole of it. */
const HEARTBEAT_SHARE = 1 / 3;
/** Nobody tells when a client of another kind gives a lock back: look again after so many milliseconds. */
const LOOK_AGAIN_FLOOR_MS = 50;
const LOOK_AGAIN_SPREAD_MS = 100;

/** What came back is nothing that a script gives: something stands between, or somebody has changed the keys by hand. */
export class UnreadableAnswerError extends Error {
  constructor(what: string) {
    super(
      `Redis answered ${what} with something that no script gives: is there a proxy in between?`,
    );
    this.name = 'UnreadableAnswerError';
  }
}

/** The answers to so many operations of one run. */
export function answersTo(operations: number, answers: unknown): readonly unknown[] {
  if (Array.isArray(answers) && answers.length === operations) return answers;
  throw new UnreadableAnswerError('a script');
}

export interface ReadClaim {
  readonly outcome: ClaimOutcome;
  /** Whether a message would have reached this store at that moment. */
  readonly isHeard: boolean;
}

export function readClaim(answer: unknown, claim: Claim): ReadClaim {
  if (!Array.isArray(answer)) {
    const epoch = BigInt(whole(answer, 1));
    return heard({ is: 'granted', claim, epoch, ttlMs: claim.ttlMs, wanted: false });
  }
  const [kind, ...rest] = answer as [unknown, ...unknown[]];
  switch (Number(kind)) {
    case 0: {
      const [epoch, ttlMs] = [BigInt(whole(rest[0], 1)), whole(rest[1], 1)];
      return heard({ is: 'granted', claim, epoch, ttlMs, wanted: Number(rest[2]) === 1 });
    }
    case 1:
      return readWaiting(rest, claim);
    case 2:
      return heard({ is: 'taken', holder: textOf(rest[0]) });
    case 3: {
      const detail = `it is in use with a capacity of ${rest[0]}, not ${claim.capacity}; use one limit, and one kind of lock, for one key`;
      return heard({ is: 'refused', reason: 'capacity-differs', detail });
    }
    case 4: {
      const detail = `its Redis key holds ${textOf(rest[0])}, which is data and not a lock; choose another key or prefix`;
      return heard({ is: 'refused', reason: 'not-a-lock', detail });
    }
    default:
      throw new UnreadableAnswerError('a claim');
  }
}

function readWaiting(rest: readonly unknown[], claim: Claim): ReadClaim {
  const [endsInMs, ahead, epoch] = [whole(rest[0], -1), whole(rest[1], 0), whole(rest[3], 0)];
  const [isForeign, isHeard] = [Number(rest[4]) === 1, Number(rest[5]) === 1];
  let lookAgainMs = claim.ttlMs * HEARTBEAT_SHARE;
  const isFirst = endsInMs >= 0;
  if (isFirst) lookAgainMs = Math.min(lookAgainMs, endsInMs + 1);
  if ((isFirst && isForeign) || !isHeard) {
    const soonMs = LOOK_AGAIN_FLOOR_MS + Math.random() * LOOK_AGAIN_SPREAD_MS;
    lookAgainMs = Math.min(lookAgainMs, soonMs);
  }
  const outcome: ClaimOutcome = {
    is: 'waiting',
    lookAgainMs: Math.max(1, lookAgainMs),
    ahead,
    holder: textOf(rest[2]),
    epoch: BigInt(epoch),
  };
  return { outcome, isHeard };
}

const LOST: RenewOutcome = { is: 'lost' };
const HELD: RenewOutcome = { is: 'held', wanted: false };
const WANTED: RenewOutcome = { is: 'held', wanted: true };

export function readRenew(answer: unknown): RenewOutcome {
  // What cannot be read extends nothing, and takes nothing away.
  switch (numberOf(answer)) {
    case 0:
      return LOST;
    case 1:
      return HELD;
    case 2:
      return WANTED;
    default:
      return { is: 'unknown', cause: new UnreadableAnswerError('a renewal') };
  }
}

export function readDrop(answer: unknown, again: Claim | undefined): DropOutcome {
  if (!Array.isArray(answer)) return { held: isHeld(answer), next: null };
  const [held, next] = answer as [unknown, unknown];
  return {
    held: isHeld(held),
    next: again === undefined ? null : readClaim(next, again).outcome,
  };
}

/** A message from the scripts; `null` for whatever else somebody may publish on the channel. */
export function readMessage(text: string, keyOf: (lock: string) => string): StoreEvent | null {
  const [is, lock, owner, epoch, wanted] = partsOf(text);
  if (lock === undefined) return null;
  const key = keyOf(lock);
  switch (is) {
    case 'granted':
      if (owner === undefined || !/^\d{1,16}$/.test(epoch ?? '')) return null;
      return { is, key, owner, epoch: BigInt(epoch as string), wanted: wanted === '1' };
    case 'wanted':
      return { is, key };
    case 'lost':
      return owner === undefined ? null : { is, key, owner };
    default:
      return null;
  }
}

/** The parts of a message, as texts; none when it is no list of texts and numbers. */
function partsOf(message: string): readonly string[] {
  let parts: unknown;
  try {
    parts = JSON.parse(message);
  } catch {
    return [];
  }
  const isPart = (part: unknown): boolean => typeof part === 'string' || typeof part === 'number';
  return Array.isArray(parts) && parts.every(isPart) ? parts.map(String) : [];
}

/** Clients can be told to give numbers as texts. */
export function numberOf(value: unknown): number {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && value !== '' ? Number(value) : Number.NaN;
}

/** Numbers that are exact in JavaScript. */
export function isWhole(value: unknown, min: number): boolean {
  const number = numberOf(value);
  return Number.isSafeInteger(number) && number >= min;
}

function whole(value: unknown, min: number): number {
  if (isWhole(value, min)) return numberOf(value);
  throw new UnreadableAnswerError('a claim');
}

function isHeld(answer: unknown): boolean {
  const held = numberOf(answer);
  if (held === 0 || held === 1) return held === 1;
  throw new UnreadableAnswerError('a drop');
}

function heard(outcome: ClaimOutcome): ReadClaim {
  return { outcome, isHeard: true };
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
