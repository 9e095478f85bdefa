/**
 * The values that were read, changed and written under the lock. Each written value is unique and names the operation
 * that wrote it, so that a history tells who built on whom.
 */
import type { Entry, Outcome } from '../history.ts';
import { grouped } from './grouped.ts';
import { check, type Model, type Operation } from './linearizable.ts';

/** A read, or a write that is right only on top of the value that its writer has read. */
export type Input =
  | { readonly is: 'read'; readonly value: string }
  | { readonly is: 'update'; readonly from: string; readonly to: string };

/** The state before the first write. */
export const NOTHING = '';

export const REGISTER: Model<Input> = {
  initial: NOTHING,
  step(state, input) {
    if (input.is === 'read') return input.value === state ? state : null;
    return input.from === state ? input.to : null;
  },
};

/** What is known of one read-modify-write. */
interface Attempt {
  readonly op: string;
  readonly key: string;
  readonly isFenced: boolean;
  readonly readsUs: number;
  hasReadUs: number | null;
  read: string;
  writesUs: number | null;
  written: string;
  endedUs: number;
  outcome: Outcome;
}

export interface RegisterFindings {
  readonly reads: number;
  readonly updates: number;
  readonly unknown: number;
  readonly refused: number;
  /** Acknowledged updates that the final value does not stand on. */
  readonly lost: readonly string[];
  /** Keys whose history has no linear order, with the operation that does not fit. */
  readonly notLinearizable: readonly string[];
  readonly undecided: readonly string[];
}

/** Judges the values of one kind. `finals` is what is there at the end, by key. */
export function judgeRegisters(
  entries: readonly Entry[],
  isFenced: boolean,
  finals: ReadonlyMap<string, string | null>,
): RegisterFindings {
  const attempts = attemptsOf(entries).filter((one) => one.isFenced === isFenced);
  const lost: string[] = [];
  const notLinearizable: string[] = [];
  const undecided: string[] = [];
  const endUs = (entries.at(-1)?.atUs ?? 0) + 1;
  for (const [key, some] of grouped(attempts, ({ key: one }) => one)) {
    const final = finals.get(key) ?? NOTHING;
    lost.push(...lostUpdates(some, final));
    const operations = some.flatMap(operationsOf);
    const input: Input = { is: 'read', value: final };
    operations.push({ id: 'the end', callUs: endUs, returnUs: endUs, input });
    const verdict = check(operations, REGISTER);
    if (verdict.is === 'not-linearizable') notLinearizable.push(`${key}: ${verdict.stuck}`);
    if (verdict.is === 'undecided') undecided.push(key);
  }
  const count = (outcome: Outcome): number =>
    attempts.filter((one) => one.writesUs !== null && one.outcome === outcome).length;
  return {
    reads: attempts.filter((one) => one.hasReadUs !== null).length,
    updates: count('done'),
    unknown: count('unknown'),
    refused: attempts.filter((one) => one.outcome === 'stale').length,
    lost,
    notLinearizable,
    undecided,
  };
}

/** The keys of all values that were touched. */
export function keysOf(entries: readonly Entry[], isFenced: boolean): string[] {
  const keys = new Set<string>();
  for (const entry of entries) {
    if (entry.is === 'reads' && entry.isFenced === isFenced) keys.add(entry.key);
  }
  return [...keys];
}

function attemptsOf(entries: readonly Entry[]): Attempt[] {
  const attempts = new Map<string, Attempt>();
  for (const entry of entries) {
    if (entry.is === 'reads') {
      attempts.set(entry.op, {
        op: entry.op,
        key: entry.key,
        isFenced: entry.isFenced,
        readsUs: entry.atUs,
        hasReadUs: null,
        read: NOTHING,
        writesUs: null,
        written: NOTHING,
        endedUs: Infinity,
        outcome: 'unknown',
      });
      continue;
    }
    if (!('op' in entry)) continue;
    const attempt = attempts.get(entry.op);
    if (attempt === undefined) throw new Error(`operation ${entry.op} has no beginning`);
    if (entry.is === 'has-read') {
      attempt.hasReadUs = entry.atUs;
      attempt.read = entry.value ?? NOTHING;
    } else if (entry.is === 'writes') {
      attempt.writesUs = entry.atUs;
      attempt.written = entry.value;
    } else {
      attempt.outcome = entry.outcome;
      attempt.endedUs = entry.atUs;
    }
  }
  return [...attempts.values()];
}

/** What the attempt says of the value: that it was read, and that it was changed, or may have been. */
function operationsOf(attempt: Attempt): Operation<Input>[] {
  const { op, read, written, readsUs, hasReadUs, writesUs, endedUs, outcome } = attempt;
  const operations: Operation<Input>[] = [];
  // A read whose answer never came says nothing.
  if (hasReadUs === null) return operations;
  const input: Input = { is: 'read', value: read };
  operations.push({ id: `${op} read`, callUs: readsUs, returnUs: hasReadUs, input });
  if (writesUs === null || outcome === 'stale') return operations;
  const update: Input = { is: 'update', from: read, to: written };
  const returnUs = outcome === 'done' ? endedUs : Infinity;
  operations.push({ id: `${op} update`, callUs: writesUs, returnUs, input: update });
  return operations;
}

/** Walks back from the final value, from each value to the one that its writer had read. */
function lostUpdates(attempts: readonly Attempt[], final: string): string[] {
  const writers = new Map(
    attempts.filter((one) => one.writesUs !== null).map((one) => [one.written, one]),
  );
  const kept = new Set<string>();
  for (let value = final; value !== NOTHING; ) {
    const writer = writers.get(value);
    // A value that nobody wrote, or one that stands on itself: everything else is lost.
    if (writer === undefined || kept.has(writer.op)) break;
    kept.add(writer.op);
    value = writer.read;
  }
  return attempts
    .filter((one) => one.writesUs !== null && one.outcome === 'done' && !kept.has(one.op))
    .map((one) => `${one.key}: ${one.op}`);
}
