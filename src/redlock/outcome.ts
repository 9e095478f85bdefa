/**
 * What a claim that was not won is told, and when to look again.
 */
import type { Claim, ClaimOutcome } from '../core/store.ts';
import type { Lost } from './claim-round.ts';
import { NoQuorumError } from './errors.ts';
import type { Vote } from './votes.ts';

/** A waiter claims again after this share of its ttl, and is forgotten when it was silent for the whole of it. */
const HEARTBEAT_SHARE = 1 / 3;
/** Where nobody tells when the lock is free: look again after so many milliseconds. */
const LOOK_AGAIN_FLOOR_MS = 50;
const LOOK_AGAIN_SPREAD_MS = 100;
/** Nobody has a majority: all have given up what they had, and look again after a multiple of what a round takes. */
const TIE_FLOOR_MS = 2;

type Busy = Extract<Vote, { is: 'busy' }>;

/** Throws when too few nodes have answered: nobody knows what that means. */
export function answerTo(claim: Claim, lost: Lost, quorum: number): ClaimOutcome {
  const { votes } = lost;
  const data = votes.filter((vote) => vote.is === 'data');
  if (votes.length - data.length < quorum) {
    const detail = `its Redis key holds ${data[0]?.what}, which is data and not a lock; choose another key or prefix`;
    return { is: 'refused', reason: 'not-a-lock', detail };
  }
  const silent = votes.filter((vote) => vote.is === 'silent' || vote.is === 'abstains');
  const answered = votes.length - silent.length;
  const refused = answered - votes.filter((vote) => vote.is === 'accepted').length;
  // So many refusals decide it, whatever the others say: of four nodes, two.
  const isDecided = refused > votes.length - quorum;
  if (answered < quorum && !isDecided) {
    throw new NoQuorumError('a claim', answered, votes.length, silent.map(reasonOf));
  }
  const busy = votes.filter((vote) => vote.is === 'busy');
  const { holder, count } = holderOf(busy);
  if (!claim.wait) return { is: 'taken', holder };
  const epoch = BigInt(Math.max(0, ...busy.map((vote) => vote.epoch)));
  let lookAgainMs = claim.ttlMs * HEARTBEAT_SHARE;
  if (count >= quorum) lookAgainMs = Math.min(lookAgainMs, whenHeld(votes, busy, quorum));
  // With those that have not answered, somebody may have a majority, or nobody.
  else if (count + silent.length >= quorum) lookAgainMs = Math.min(lookAgainMs, soonMs());
  else lookAgainMs = whenTied(busy, lost.tookMs);
  return { is: 'waiting', lookAgainMs, ahead: null, holder, epoch };
}

/** Who is named by most nodes, and by how many. */
function holderOf(busy: readonly Busy[]): {
  readonly holder: string | null;
  readonly count: number;
} {
  const counts = new Map<string | null, number>();
  for (const { holder } of busy) counts.set(holder, (counts.get(holder) ?? 0) + 1);
  const [holder, count] = [...counts].sort(([, a], [, b]) => b - a)[0] ?? [null, 0];
  return { holder, count };
}

/** When it ends by itself on a majority, if that is for this claim to look at. */
function whenHeld(votes: readonly Vote[], busy: readonly Busy[], quorum: number): number {
  if (busy.some((vote) => vote.isUntold || !vote.isHeard)) return soonMs();
  const free = votes.filter((vote) => vote.is === 'accepted' || vote.is === 'low').map(() => 0);
  const ends = busy.map((vote) => vote.endsInMs).filter((endsInMs) => endsInMs >= 0);
  const whenFreeMs = [...free, ...ends].sort((a, b) => a - b)[quorum - 1] ?? Infinity;
  return whenFreeMs + 1;
}

function soonMs(): number {
  return LOOK_AGAIN_FLOOR_MS + Math.random() * LOOK_AGAIN_SPREAD_MS;
}

/** Who waits first on most nodes looks again first, and nearly alone. */
function whenTied(busy: readonly Busy[], tookMs: number): number {
  const places = busy.map((vote) => vote.ahead).sort((a, b) => a - b);
  const place = places[Math.floor(places.length / 2)] ?? 0;
  return Math.max(TIE_FLOOR_MS, tookMs) * (place + Math.random());
}

function reasonOf(vote: Vote): unknown {
  if (vote.is === 'silent') return vote.cause;
  if (vote.is !== 'abstains') return vote.is;
  return new Error(
    `a node that has lost its data, or is new, abstains for the longest ttl in use, ${vote.leftMs} ms more`,
  );
}
