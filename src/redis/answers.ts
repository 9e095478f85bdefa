/**
 * What the script answers, read into the outcomes of the store contract. Forms: see scripts/claim.ts, renew.ts, drop.ts.
 */
import type { Claim, ClaimOutcome, DropOutcome, RenewOutcome, StoreEvent } from '../core/store.ts';

/** A waiter claims again after this share of its ttl, and is forgotten when it was silent for the whole of it. */
const HEARTBEAT_SHARE = 1 / 3;
/** Nobody tells when a client of another kind gives a lock back: look again after so many milliseconds. */
const LOOK_AGAIN_FLOOR_MS = 50;
const LOOK_AGAIN_SPREAD_MS = 100;

export interface ReadClaim {
  readonly outcome: ClaimOutcome;
  /** Whether a message would have reached this store at that moment. */
  readonly isHeard: boolean;
}

export function readClaim(answer: unknown, claim: Claim): ReadClaim {
  if (!Array.isArray(answer)) {
    const epoch = BigInt(answer as number);
    return heard({ is: 'granted', claim, epoch, ttlMs: claim.ttlMs, wanted: false });
  }
  const [kind, ...rest] = answer as [unknown, ...unknown[]];
  switch (Number(kind)) {
    case 0: {
      const [epoch, ttlMs, wanted] = rest.map(Number) as [number, number, number];
      return heard({ is: 'granted', claim, epoch: BigInt(epoch), ttlMs, wanted: wanted === 1 });
    }
    case 1:
      return readWaiting(rest, claim);
    case 2:
      return heard({ is: 'taken', holder: textOf(rest[0]) });
    case 3: {
      const detail = `it is in use with a capacity of ${rest[0]}, not ${claim.capacity}; use one limit, and one kind of lock, for one key`;
      return heard({ is: 'refused', reason: 'capacity-differs', detail });
    }
    default: {
      const detail = `its Redis key holds ${textOf(rest[0])}, which is data and not a lock; choose another key or prefix`;
      return heard({ is: 'refused', reason: 'not-a-lock', detail });
    }
  }
}

function readWaiting(rest: readonly unknown[], claim: Claim): ReadClaim {
  const [endsInMs, ahead, , epoch, isForeign, isHeard] = rest.map(Number) as number[];
  let lookAgainMs = claim.ttlMs * HEARTBEAT_SHARE;
  const isFirst = (endsInMs as number) >= 0;
  if (isFirst) lookAgainMs = Math.min(lookAgainMs, (endsInMs as number) + 1);
  if ((isFirst && isForeign === 1) || isHeard === 0) {
    const soonMs = LOOK_AGAIN_FLOOR_MS + Math.random() * LOOK_AGAIN_SPREAD_MS;
    lookAgainMs = Math.min(lookAgainMs, soonMs);
  }
  const outcome: ClaimOutcome = {
    is: 'waiting',
    lookAgainMs: Math.max(1, lookAgainMs),
    ahead: ahead as number,
    holder: textOf(rest[2]),
    epoch: BigInt(epoch as number),
  };
  return { outcome, isHeard: isHeard === 1 };
}

const LOST: RenewOutcome = { is: 'lost' };
const HELD: RenewOutcome = { is: 'held', wanted: false };
const WANTED: RenewOutcome = { is: 'held', wanted: true };

export function readRenew(answer: unknown): RenewOutcome {
  const held = Number(answer);
  if (held === 0) return LOST;
  return held === 2 ? WANTED : HELD;
}

export function readDrop(answer: unknown, again: Claim | undefined): DropOutcome {
  if (!Array.isArray(answer)) return { held: Number(answer) === 1, next: null };
  const [held, next] = answer as [unknown, unknown];
  return {
    held: Number(held) === 1,
    next: again === undefined ? null : readClaim(next, again).outcome,
  };
}

/** A message from the scripts; `null` when it is none, or of a kind that this version does not know. */
export function readMessage(text: string, keyOf: (lock: string) => string): StoreEvent | null {
  try {
    return eventOf(JSON.parse(text), keyOf);
  } catch {
    // Anybody may publish anything.
    return null;
  }
}

function eventOf(message: unknown, keyOf: (lock: string) => string): StoreEvent | null {
  const [is, lock, owner, epoch, wanted] = message as [string, string, string, string, number];
  const key = keyOf(lock);
  switch (is) {
    case 'granted':
      return { is, key, owner, epoch: BigInt(epoch), wanted: wanted === 1 };
    case 'wanted':
      return { is, key };
    case 'lost':
      return { is, key, owner };
    default:
      return null;
  }
}

function heard(outcome: ClaimOutcome): ReadClaim {
  return { outcome, isHeard: true };
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
