/**
 * Order between processes: a claim that was answered "wait" before another one was made is served before it.
 *
 * A waiter that a fault has cost its place, or its turn, is no violation: only pairs count in whose time nothing failed.
 */
import type { Entry } from '../history.ts';
import { grouped } from './grouped.ts';

interface Claim {
  readonly owner: string;
  readonly worker: string;
  readonly key: string;
  readonly claimedUs: number;
  waitsUs: number;
  ownsUs: number;
  epoch: bigint | null;
}

/** A time in which a fault, and what it brings about, may cost a waiter its place. */
export interface Interval {
  readonly fromUs: number;
  readonly toUs: number;
  /** The one that is concerned; `null` for all. */
  readonly worker: number | null;
}

export interface QueueFindings {
  /** Claims that were granted. */
  readonly granted: number;
  /** … and had waited for it. */
  readonly served: number;
  /** Pairs of claims whose order was judged, and those that were not, since a fault concerned the first. */
  readonly judged: number;
  readonly excused: number;
  readonly inversions: readonly string[];
}

/** So many of those that came before are looked at; each later one is compared with the nearest. */
const MAX_PAIRS_EACH = 16;

export function judgeQueue(entries: readonly Entry[], faults: readonly Interval[]): QueueFindings {
  const inversions: string[] = [];
  let excused = 0;
  let judged = 0;
  const served = claimsOf(entries).filter((one) => one.epoch !== null);
  for (const claims of grouped(served, ({ key }) => key).values()) {
    const waiters = claims
      .filter((one) => one.waitsUs !== Infinity)
      .sort((a, b) => a.waitsUs - b.waitsUs);
    for (const later of claims) {
      const from = waiters.findLastIndex((one) => one.waitsUs < later.claimedUs);
      for (const earlier of waiters.slice(Math.max(0, from + 1 - MAX_PAIRS_EACH), from + 1)) {
        if (faults.some((fault) => concerns(fault, earlier))) {
          excused += 1;
          continue;
        }
        judged += 1;
        if ((earlier.epoch as bigint) < (later.epoch as bigint)) continue;
        inversions.push(`${later.key}: ${later.owner} was served before ${earlier.owner}`);
      }
    }
  }
  const waited = served.filter((one) => one.waitsUs !== Infinity).length;
  return { granted: served.length, served: waited, judged, excused, inversions };
}

function concerns({ fromUs, toUs, worker }: Interval, claim: Claim): boolean {
  if (fromUs > claim.ownsUs || toUs < claim.claimedUs) return false;
  return worker === null || claim.worker.startsWith(`w${worker}-`);
}

function claimsOf(entries: readonly Entry[]): Claim[] {
  const claims = new Map<string, Claim>();
  for (const entry of entries) {
    if (entry.is === 'claims') {
      const { owner, key, atUs, worker } = entry;
      const none = { waitsUs: Infinity, ownsUs: Infinity, epoch: null };
      claims.set(owner, { owner, worker, key, claimedUs: atUs, ...none });
    } else if (entry.is === 'waits') {
      const claim = claims.get(entry.owner);
      if (claim && claim.waitsUs === Infinity) claim.waitsUs = entry.atUs;
    } else if (entry.is === 'owns') {
      const claim = claims.get(entry.owner);
      if (claim && claim.epoch === null) {
        claim.epoch = BigInt(entry.epoch);
        claim.ownsUs = entry.atUs;
      }
    }
  }
  return [...claims.values()];
}
