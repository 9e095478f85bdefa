/**
 * A consumer of contributions on the memory engines, whose clock the system gives: what the tests of its rules share.
 */
import { LockManager } from 'leasehold';
import { type Consumer, consume, type ReduceOptions, type StateStore } from 'leasehold/consumer';
import { MemoryQueue, MemorySpace, memory, memorySource, memoryState } from 'leasehold/memory';
import { afterEach } from 'vitest';

export interface Contribution {
  readonly account: string;
  readonly amount: number;
}

/** Waits for a condition, and for no time. The test's own time-out ends a wait for what never comes. */
export async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await new Promise((resolve) => setTimeout(resolve, 1));
}

type Close = () => Promise<unknown>;
const closing: Close[] = [];

/** Ends with the test, the last first. */
export function atEnd(close: Close): void {
  closing.push(close);
}

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

export function makeLocks(space: MemorySpace = new MemorySpace()): LockManager {
  const locks = new LockManager({ store: memory(space), ttlMs: 5_000 });
  atEnd(() => locks.close());
  return locks;
}

export function contribute(
  queue: MemoryQueue,
  id: string | null,
  amount: number,
  more: { readonly account?: string; readonly publishedAtMs?: number | null } = {},
): void {
  const { account = 'maria', ...rest } = more;
  const content = JSON.stringify({ account, amount } satisfies Contribution);
  void queue.publish({ id, content, ...rest });
}

export const keyOf = (message: { readonly body: Contribution }): string => message.body.account;

export const sum = (total: number | null, messages: readonly { readonly body: Contribution }[]) =>
  messages.reduce((subtotal, { body }) => subtotal + body.amount, total ?? 0);

export interface Setting {
  readonly queue: MemoryQueue;
  readonly state: StateStore;
  readonly locks: LockManager;
  readonly space: MemorySpace;
}

export function makeSetting(): Setting {
  const space = new MemorySpace();
  return { queue: new MemoryQueue(), state: memoryState(), locks: makeLocks(space), space };
}

/** A consumer that adds up; every part can be another one. */
export function start(
  { queue, state, locks }: Setting,
  options: Partial<ReduceOptions<Contribution, number>> = {},
): Consumer {
  const defaults = { source: memorySource(queue), locks, state, keyOf, reduce: sum };
  const consumer = consume<Contribution, number>({ ...defaults, ...options });
  atEnd(() => consumer.stop({ graceMs: 0 }));
  return consumer;
}

export async function totalOf(state: StateStore, account = 'maria'): Promise<number | null> {
  const text = await state.peek(account);
  return text === null ? null : JSON.parse(text);
}
