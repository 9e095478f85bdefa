/**
 * How users write a consumer, as the compiler sees it. A line under `@ts-expect-error` must not compile.
 */
import type { Lease, LockManager } from 'leasehold';
import {
  type Consumer,
  type ConsumerMetrics,
  consume,
  type Message,
  type MessageSource,
  type Outbox,
  outbox,
  republish,
  retry,
  type StateStore,
} from 'leasehold/consumer';

interface Order {
  readonly account: string;
  readonly amount: number;
}

declare const source: MessageSource;
declare const locks: LockManager;
declare const state: StateStore;
declare const store: Outbox;
const keyOf = (message: { readonly body: Order }): string => message.body.account;

export const inferred: Consumer = consume({
  source,
  locks,
  keyOf,
  state,
  reduce: (total: number | null, messages: readonly Message<Order>[]) =>
    messages.reduce((sum, { body }) => sum + body.amount, total ?? 0),
  onBusy: republish({ delayMs: 500, maxAttempts: 10 }),
  onFailed: retry({ maxAttempts: 3, backoff: 'fixed' }),
});

export const written: Consumer = consume<Order, Map<string, number>>({
  source,
  locks,
  keyOf: (message) => message.body.account,
  state,
  reduce: async (totals, messages) => {
    const next = new Map(totals);
    for (const { id, body, publishedAtMs, isRedelivered } of messages) {
      next.set(id, body.amount + (publishedAtMs ?? 0) + Number(isRedelivered));
    }
    return next;
  },
  stateCodec: {
    encode: (totals) => JSON.stringify([...totals]),
    decode: (text) => new Map(JSON.parse(text)),
  },
  keepState: true,
  onBusy: outbox(store, { maxClaimed: 10 }),
});

export const handling: Consumer = consume<Order>({
  source,
  locks,
  keyOf,
  handle: async (messages: readonly Message<Order>[], lease: Lease) => {
    for (const { id } of messages)
      await fetch(`https://example.org/${id}?fence=${lease.tokenText}`);
  },
});

export async function lifeOf(consumer: Consumer): Promise<ConsumerMetrics> {
  await consumer.ready;
  void consumer.failed.then((error) => error.message);
  await consumer.stop({ graceMs: 1_000 });
  return consumer.metrics();
}

// @ts-expect-error Either a reducer or a handler is needed.
consume<Order>({ source, locks, keyOf });
// @ts-expect-error A reducer needs a state.
consume<Order, number>({ source, locks, keyOf, reduce: () => 1 });
// @ts-expect-error A handler has none.
consume<Order>({ source, locks, keyOf, state, handle: () => {} });
// @ts-expect-error A key is text.
consume<Order>({ source, locks, keyOf: (message) => message.body.amount, handle: () => {} });
// @ts-expect-error Backoffs are named.
retry({ backoff: 'linear' });
