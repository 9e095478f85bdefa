/**
 * Calls to the store that are made in the same turn of the event loop travel as one run of the script. The replies to
 * one run wake many tasks at once, and what those ask for next is the next run; nothing ever waits for company.
 */
import type { ClaimId } from '../core/store.ts';
import type { RedisClient } from './clients/client.ts';
import type { KeyNames, Layout } from './layout.ts';
import { STEP } from './scripts/step.ts';
import { within } from './within.ts';

/** So few that the client prepares one run while the server executes another; a server does nothing else meanwhile. */
const MAX_OPERATIONS = 32;
/** Renewals of one run: no task waits for them, and each is small. */
export const MAX_RENEWALS = 100;

interface Operation {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (cause: unknown) => void;
}

/** The keys and arguments of one run, in the order that the script wants: see scripts/step.ts. */
class Run {
  readonly #epoch: string;
  readonly #locks: string[] = [];
  readonly #members: string[] = [];
  readonly #orders: string[] = [];
  readonly args: string[];

  constructor(layout: Layout, slot: number) {
    this.#epoch = layout.epochKeyOf(slot);
    this.args = [layout.channelOf(slot)];
  }

  get length(): number {
    return this.#locks.length;
  }

  get keys(): string[] {
    return [this.#epoch, ...this.#locks, ...this.#members, ...this.#orders];
  }

  add({ lock, members, order }: KeyNames, operation: string, again?: string): void {
    this.#locks.push(lock);
    this.#members.push(members);
    this.#orders.push(order);
    this.args.push(operation);
    if (again !== undefined) this.args.push(again);
  }
}

interface Batch {
  readonly run: Run;
  readonly operations: Operation[];
  mayGrant: boolean;
}

/** Called after a run that may have granted or extended something; rejects when its answers are not to be trusted. */
export type Confirm = (connectionsBefore: number) => Promise<void>;

export class Batcher {
  readonly #client: RedisClient;
  readonly #layout: Layout;
  readonly #timeoutMs: number;
  readonly #confirm: Confirm | null;
  #open = new Map<number, Batch>();
  #isScheduled = false;

  constructor(parts: {
    readonly client: RedisClient;
    readonly layout: Layout;
    readonly timeoutMs: number;
    readonly confirm: Confirm | null;
  }) {
    this.#client = parts.client;
    this.#layout = parts.layout;
    this.#timeoutMs = parts.timeoutMs;
    this.#confirm = parts.confirm;
  }

  /** The answer to one operation of the script; rejects when it is not known whether it was done. */
  submit(slot: number, names: KeyNames, operation: string, again?: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const batch = this.#open.get(slot) ?? this.#begin(slot);
      batch.run.add(names, operation, again);
      batch.operations.push({ resolve, reject });
      batch.mayGrant ||= operation[0] !== 'd';
      if (batch.operations.length === MAX_OPERATIONS) {
        this.#open.delete(slot);
        void this.#run(batch);
      }
    });
  }

  /** The answers to at most `MAX_RENEWALS` renewals of one slot: as `submit`, without a promise for each. */
  renew(slot: number, claims: readonly ClaimId[]): Promise<unknown[]> {
    const run = new Run(this.#layout, slot);
    for (const { key, owner } of claims) run.add(this.#layout.namesOf(key, slot), `r${owner}`);
    return this.#execute(run, true);
  }

  #begin(slot: number): Batch {
    const batch: Batch = { run: new Run(this.#layout, slot), operations: [], mayGrant: false };
    this.#open.set(slot, batch);
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      // After everything that is ready to run now, promises included.
      process.nextTick(() => this.#flush());
    }
    return batch;
  }

  #flush(): void {
    this.#isScheduled = false;
    const batches = this.#open;
    if (batches.size === 0) return;
    this.#open = new Map();
    for (const batch of batches.values()) void this.#run(batch);
  }

  async #run({ run, operations, mayGrant }: Batch): Promise<void> {
    try {
      const answers = await this.#execute(run, mayGrant);
      for (const [index, { resolve }] of operations.entries()) resolve(answers[index]);
    } catch (cause) {
      for (const operation of operations) operation.reject(cause);
    }
  }

  async #execute(run: Run, mayGrant: boolean): Promise<unknown[]> {
    const { connections } = this.#client;
    const reply = this.#client.evaluate(STEP, run.keys, run.args);
    const answers = await within(reply, this.#timeoutMs, 'a claim, a renewal or a drop');
    if (!Array.isArray(answers) || answers.length !== run.length) {
      throw new Error('Redis answered a script with something else: is there a proxy in between?');
    }
    if (mayGrant) await this.#confirm?.(connections);
    return answers;
  }
}
