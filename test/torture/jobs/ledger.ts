/**
 * The keyed consumer: messages of a queue are entered into the ledger of their account, a list of postings, each exactly once.
 *
 * There are two queues. Postings of the one go into a state, under the consumer's fence and its memory of ids. Those of the
 * other go into a value that is read, made longer, and written by a handler under the same locks: without a fence.
 */
import { setTimeout } from 'node:timers/promises';
import { LockManager } from 'leasehold';
import { type Consumer, consume, type Message, republish, retry } from 'leasehold/consumer';
import { memory } from 'leasehold/memory';
import { publisher, rabbitmq } from 'leasehold/rabbitmq';
import { nowUs } from '../history.ts';
import { keysAt } from '../orders.ts';
import { locksFor, openManager } from '../subjects.ts';
import { connectLedger, parseLedger, QUEUES } from '../values/ledger.ts';
import type { Context, Job } from './job.ts';

interface Posting {
  readonly message: string;
  readonly account: string;
}

const MAX_PAUSE_MS = 40;
const MAX_THOUGHT_MS = 15;
const TRY_AGAIN_MS = 200;
const PREFETCH = 40;
const LONG_ENOUGH = 100_000;

const SHARED = {
  keyOf: ({ body }: { readonly body: Posting }) => body.account,
  waitMs: 1_500,
  maxBatch: 20,
  onBusy: republish({ delayMs: TRY_AGAIN_MS, maxAttempts: LONG_ENOUGH }),
  onFailed: retry({ delayMs: TRY_AGAIN_MS, maxAttempts: LONG_ENOUGH }),
};

export function ledgerJob(context: Context): Job {
  const { order, random, recorder, mayStop } = context;
  const isOurs = order.subject === 'leasehold';
  const ledger = connectLedger(order.valuesPlace, order.via);
  const ours = isOurs ? openManager(order, recorder) : null;
  // A peer's locks are taken in the handler. The consumer has some that keep nobody out, then.
  const peers = isOurs ? null : locksFor(order, recorder);
  const locks = ours?.locks ?? new LockManager({ store: memory() });
  const publishers = QUEUES.map((queue) =>
    publisher({ url: ledger.brokerUrl, queue, confirmTimeoutMs: 1_500, connectTimeoutMs: 1_500 }),
  );
  const consumers: Consumer[] = [];
  let isClosing = false;

  const think = (): Promise<void> => setTimeout(random.between(0, MAX_THOUGHT_MS));
  const sourceOf = (queue: string) =>
    rabbitmq({ url: ledger.brokerUrl, queue, prefetch: PREFETCH, connectTimeoutMs: 1_500 });

  const reduceFenced = () =>
    consume<Posting, readonly string[]>({
      ...SHARED,
      source: sourceOf(QUEUES[0]),
      locks,
      state: ledger.openState(),
      async reduce(postings, messages) {
        await think();
        mayStop(accountOf(messages), true);
        return [...(postings ?? []), ...messages.map(({ body }) => body.message)];
      },
    });

  const handlePlain = () =>
    consume<Posting>({
      ...SHARED,
      source: sourceOf(QUEUES[1]),
      locks,
      async handle(messages) {
        const held = await peers?.take(accountOf(messages));
        try {
          await enter(messages);
        } finally {
          // A peer may have lost it meanwhile, and say so.
          await held?.release().catch(() => {});
        }
      },
    });

  async function enter(messages: readonly Message<Posting>[]): Promise<void> {
    const account = accountOf(messages);
    const postings = new Set(parseLedger(await ledger.getPlain(account)));
    await think();
    mayStop(account, false);
    for (const { body } of messages) postings.add(body.message);
    await ledger.setPlain(account, JSON.stringify([...postings]));
    for (const { body } of messages) recorder.write({ is: 'noted', message: body.message });
  }

  /** A broker that is down when this process begins is tried again. */
  async function start(make: () => Consumer): Promise<void> {
    while (!isClosing) {
      const consumer = make();
      try {
        await consumer.ready;
        consumers.push(consumer);
        void consumer.failed.then((error) => context.wrong(`a consumer gave up: ${error.message}`));
        return;
      } catch {
        await setTimeout(TRY_AGAIN_MS);
      }
    }
  }

  async function post(): Promise<void> {
    const message = context.newNumber();
    const account = random.pick(keysAt(order.workload, order.startedUs, nowUs()));
    const at = isOurs && random.chance(0.5) ? 0 : 1;
    recorder.write({ is: 'posts', message, key: account, isFenced: at === 0 });
    const posting: Posting = { message, account };
    try {
      await publishers[at]?.publish({ id: message, content: JSON.stringify(posting) });
      recorder.write({ is: 'posted', message });
    } catch {
      // Published, or not: nobody knows.
      await setTimeout(TRY_AGAIN_MS);
    }
  }

  return {
    async run() {
      const starting = [...(isOurs ? [reduceFenced] : []), handlePlain].map(start);
      while (context.finish === null) {
        await post();
        await setTimeout(random.between(0, MAX_PAUSE_MS));
      }
      await Promise.all(starting);
    },
    async close() {
      isClosing = true;
      await Promise.all(consumers.map((consumer) => consumer.stop()));
      await Promise.all(publishers.map((one) => one.close()));
      await locks.close();
      ours?.close();
      await peers?.close();
      await ledger.close();
    },
  };
}

function accountOf(messages: readonly Message<Posting>[]): string {
  return (messages[0] as Message<Posting>).body.account;
}
