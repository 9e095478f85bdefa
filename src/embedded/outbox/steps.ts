/**
 * An outbox as records, and the steps on it. Each is made in one transaction, whole or not at all.
 *
 * | record              | holds                                                                          |
 * |---------------------|--------------------------------------------------------------------------------|
 * | `entry`, number     | an envelope, when it was put and is due, and who has claimed it                |
 * | `due`, time, number | the same by when it is due: after its delay, or when the lease of a claim ends |
 * | `last`, `count`     | the last number that was given, and how many entries there are                 |
 *
 * An entry keeps its number until it is removed, so the first one is the oldest.
 */
import type { Envelope, OutboxDepth } from '../../consumer/contracts.ts';
import type { RecordKey, Records, RecordsStep } from '../records/engine.ts';

/** An envelope with its number; none for an entry that stays as it is. */
export type Settled = readonly [number: number, envelope?: Envelope];

export type OutboxCall = { readonly name: string } & (
  | { readonly is: 'put'; readonly envelopes: readonly Envelope[]; readonly delayMs: number }
  | {
      readonly is: 'claim';
      readonly owner: string;
      readonly most: number;
      readonly leaseMs: number;
    }
  | { readonly is: 'remove'; readonly owner: string; readonly entries: readonly Settled[] }
  | {
      readonly is: 'return';
      readonly owner: string;
      readonly entries: readonly Settled[];
      readonly delayMs: number;
    }
  | { readonly is: 'depth' }
);

export interface ClaimAnswer {
  readonly entries: readonly (readonly [number, Envelope, wasClaimed: boolean])[];
  readonly nextDueMs: number | null;
}

interface Entry {
  readonly envelope: Envelope;
  readonly putAtMs: number;
  readonly dueMs: number;
  readonly owner: string | null;
  readonly wasClaimed: boolean;
}

export function outboxPart(step: RecordsStep, call: OutboxCall): unknown {
  const outbox = new Entries(step, call.name);
  switch (call.is) {
    case 'put':
      return outbox.put(call.envelopes, call.delayMs);
    case 'claim':
      return outbox.claim(call.owner, call.most, call.leaseMs);
    case 'remove':
      return outbox.remove(call.owner, call.entries);
    case 'return':
      return outbox.giveBack(call.owner, call.entries, call.delayMs);
    case 'depth':
      return outbox.depth();
  }
}

class Entries {
  readonly #records: Records;
  readonly #name: string;
  readonly #nowMs: number;

  constructor({ records, nowMs }: RecordsStep, name: string) {
    this.#records = records;
    this.#name = name;
    this.#nowMs = nowMs;
  }

  put(envelopes: readonly Envelope[], delayMs: number): void {
    const last = this.#number('last');
    for (const [index, envelope] of envelopes.entries()) {
      this.#save(last + index + 1, {
        envelope,
        putAtMs: this.#nowMs,
        dueMs: this.#nowMs + delayMs,
        owner: null,
        wasClaimed: false,
      });
    }
    this.#put(['last'], last + envelopes.length);
    this.#put(['count'], this.#number('count') + envelopes.length);
  }

  claim(owner: string, most: number, leaseMs: number): ClaimAnswer {
    const start = this.#key(['due']);
    const end = this.#key(['due', this.#nowMs + 1]);
    const due = [...this.#records.getKeys({ start, end, limit: most })];
    const entries = due.map((key) => {
      const number = key.at(-1) as number;
      const entry = this.#entry(number) as Entry;
      const dueMs = this.#nowMs + leaseMs;
      this.#replace(number, entry, { ...entry, owner, dueMs, wasClaimed: true });
      return [number, entry.envelope, entry.wasClaimed] as const;
    });
    const range = { start, end: this.#key(['due', Number.MAX_VALUE]), limit: 1 };
    const [next] = [...this.#records.getKeys(range)];
    const nextMs = next?.at(-2) as number | undefined;
    return { entries, nextDueMs: nextMs === undefined ? null : Math.max(0, nextMs - this.#nowMs) };
  }

  remove(owner: string, settled: readonly Settled[]): void {
    let removed = 0;
    for (const [number] of settled) {
      const entry = this.#claimed(number, owner);
      if (entry === null) continue;
      void this.#records.remove(this.#key(['due', entry.dueMs, number]));
      void this.#records.remove(this.#key(['entry', number]));
      removed += 1;
    }
    this.#put(['count'], this.#number('count') - removed);
  }

  giveBack(owner: string, settled: readonly Settled[], delayMs: number): void {
    for (const [number, envelope] of settled) {
      const entry = this.#claimed(number, owner);
      if (entry === null) continue;
      const dueMs = this.#nowMs + delayMs;
      const changed = { ...entry, envelope: envelope ?? entry.envelope, owner: null, dueMs };
      this.#replace(number, entry, changed);
    }
  }

  depth(): OutboxDepth {
    const range = {
      start: this.#key(['entry']),
      end: this.#key(['entry', Number.MAX_VALUE]),
      limit: 1,
    };
    const [oldest] = [...this.#records.getRange(range)];
    if (oldest === undefined) return { entries: 0, oldestAgeMs: 0 };
    const { putAtMs } = oldest.value as Entry;
    return {
      entries: this.#number('count'),
      oldestAgeMs: Math.max(0, this.#nowMs - putAtMs),
    };
  }

  #entry(number: number): Entry | undefined {
    return this.#records.get(this.#key(['entry', number])) as Entry | undefined;
  }

  /** `null` when somebody else has it by now, or nobody. */
  #claimed(number: number, owner: string): Entry | null {
    const entry = this.#entry(number);
    return entry?.owner === owner ? entry : null;
  }

  #save(number: number, entry: Entry): void {
    this.#put(['entry', number], entry);
    this.#put(['due', entry.dueMs, number], true);
  }

  #replace(number: number, before: Entry, after: Entry): void {
    void this.#records.remove(this.#key(['due', before.dueMs, number]));
    this.#save(number, after);
  }

  #number(name: 'last' | 'count'): number {
    return (this.#records.get(this.#key([name])) as number | undefined) ?? 0;
  }

  #key(key: RecordKey): (string | number)[] {
    return ['outbox', this.#name, ...key];
  }

  #put(key: RecordKey, value: unknown): void {
    void this.#records.put(this.#key(key), value);
  }
}
