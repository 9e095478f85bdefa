/**
 * The operations of the lease store, as runs of its one script: see scripts/step.ts.
 */
import type { ClaimId } from '../core/store.ts';
import { answersTo } from './answers.ts';
import { Batcher } from './batch.ts';
import type { RedisClient } from './clients/client.ts';
import type { KeyNames, Layout } from './layout.ts';
import { STEP } from './scripts/step.ts';
import { within } from './within.ts';

/** Renewals of one run: no task waits for them, and each is small. */
export const MAX_RENEWALS = 100;

/** The keys and arguments of one run, in the order that the script wants. */
class Run {
  readonly #epoch: string;
  readonly #locks: string[] = [];
  readonly #members: string[] = [];
  readonly #orders: string[] = [];
  readonly args: string[];
  mayGrant = false;

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
    this.mayGrant ||= operation[0] !== 'd';
  }
}

/** Called after a run that may have granted or extended something; rejects when its answers are not to be trusted. */
type Confirm = (connectionsBefore: number) => Promise<void>;

export class Steps {
  readonly #client: RedisClient;
  readonly #layout: Layout;
  readonly #timeoutMs: number;
  readonly #confirm: Confirm | null;
  readonly #batcher: Batcher<Run>;

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
    this.#batcher = new Batcher(
      (slot) => new Run(parts.layout, slot),
      (run) => this.#execute(run),
    );
  }

  /** The answer to one operation of the script; rejects when it is not known whether it was done. */
  submit(slot: number, key: string, operation: string, again?: string): Promise<unknown> {
    const names = this.#layout.namesOf(key, slot);
    return this.#batcher.submit(slot, (run) => run.add(names, operation, again), asItIs);
  }

  /** The answers to at most `MAX_RENEWALS` renewals of one slot: as `submit`, without a promise for each. */
  renew(slot: number, claims: readonly ClaimId[]): Promise<readonly unknown[]> {
    const run = new Run(this.#layout, slot);
    for (const { key, owner } of claims) run.add(this.#layout.namesOf(key, slot), `r${owner}`);
    return this.#execute(run);
  }

  async #execute(run: Run): Promise<readonly unknown[]> {
    const { connections } = this.#client;
    const reply = this.#client.evaluate(STEP, run.keys, run.args);
    const what = 'a claim, a renewal or a drop';
    const answers = answersTo(run.length, await within(reply, this.#timeoutMs, what));
    if (run.mayGrant) await this.#confirm?.(connections);
    return answers;
  }
}

function asItIs(answer: unknown): unknown {
  return answer;
}
