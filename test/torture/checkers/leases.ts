/**
 * The leases themselves: whether two were trusted at the same time, whether tokens grew, and who was served when.
 */
import type { Entry } from '../history.ts';
import { grouped } from './grouped.ts';

/** One call of `acquire` that was granted, and the time during which its holder looked and found it valid. */
interface Tenure {
  readonly call: string;
  readonly key: string;
  readonly worker: string;
  readonly askedUs: number;
  readonly grantedUs: number;
  readonly token: bigint;
  heldUntilUs: number;
}

export interface LeaseFindings {
  readonly granted: number;
  readonly refused: Readonly<Record<string, number>>;
  /** Pairs of leases of one key that both were valid at one moment. */
  readonly overlaps: readonly string[];
  /** Leases whose token is not above that of one that was granted before they were asked for. */
  readonly tokens: readonly string[];
  /** Callers of one process that were served before one that had called earlier. */
  readonly overtaken: readonly string[];
}

export function judgeLeases(entries: readonly Entry[]): LeaseFindings {
  const refused: Record<string, number> = {};
  for (const entry of entries) {
    if (entry.is === 'refused') refused[entry.code] = (refused[entry.code] ?? 0) + 1;
  }
  const tenures = tenuresOf(entries);
  const byKey = [...grouped(tenures, ({ key }) => key).values()];
  return {
    granted: tenures.length,
    refused,
    overlaps: byKey.flatMap(overlapsOf),
    tokens: byKey.flatMap(tokensOf),
    overtaken: byKey.flatMap(overtakenOf),
  };
}

function tenuresOf(entries: readonly Entry[]): Tenure[] {
  const asked = new Map<string, { readonly key: string; readonly atUs: number }>();
  const tenures = new Map<string, Tenure>();
  for (const entry of entries) {
    if (entry.is === 'asked') asked.set(entry.call, entry);
    if (entry.is === 'granted') {
      const { key = '', atUs = 0 } = asked.get(entry.call) ?? {};
      tenures.set(entry.call, {
        call: entry.call,
        key,
        worker: entry.worker,
        askedUs: atUs,
        grantedUs: entry.atUs,
        token: BigInt(entry.token),
        heldUntilUs: entry.atUs,
      });
    }
    const tenure = entry.is === 'held' ? tenures.get(entry.call) : undefined;
    if (tenure) tenure.heldUntilUs = Math.max(tenure.heldUntilUs, entry.atUs);
  }
  return [...tenures.values()].sort((a, b) => a.grantedUs - b.grantedUs);
}

/** A sweep over the intervals in the order of their beginnings. */
function overlapsOf(tenures: readonly Tenure[]): string[] {
  const found: string[] = [];
  let open: Tenure[] = [];
  for (const tenure of tenures) {
    open = open.filter((one) => one.heldUntilUs > tenure.grantedUs);
    // One that was over as soon as it was looked at was never trusted.
    if (tenure.heldUntilUs <= tenure.grantedUs) continue;
    for (const one of open) {
      const forUs = Math.min(one.heldUntilUs, tenure.heldUntilUs) - tenure.grantedUs;
      found.push(`${tenure.key}: ${one.call} and ${tenure.call} for ${forUs} us`);
    }
    open.push(tenure);
  }
  return found;
}

/** Who asked when another one had been granted the key already has the higher token. */
function tokensOf(tenures: readonly Tenure[]): string[] {
  const found: string[] = [];
  let highest: Tenure | null = null;
  let next = 0;
  for (const tenure of tenures.toSorted((a, b) => a.askedUs - b.askedUs)) {
    // Tenures are in the order of their grants.
    for (let one = tenures[next]; one && one.grantedUs < tenure.askedUs; one = tenures[next]) {
      if (highest === null || one.token > highest.token) highest = one;
      next += 1;
    }
    if (highest === null || tenure.token > highest.token) continue;
    const { call, token } = highest;
    found.push(`${tenure.key}: ${tenure.call} has ${tenure.token}, after ${token} of ${call}`);
  }
  return found;
}

/** Tokens of a process say in which order its callers were served. */
function overtakenOf(tenures: readonly Tenure[]): string[] {
  const found: string[] = [];
  for (const some of grouped(tenures, ({ worker }) => worker).values()) {
    let last: Tenure | null = null;
    for (const tenure of some.toSorted((a, b) => (a.token < b.token ? -1 : 1))) {
      if (last !== null && tenure.askedUs < last.askedUs) {
        found.push(`${tenure.key}: ${last.call} was served before ${tenure.call}`);
      }
      last = tenure;
    }
  }
  return found;
}
