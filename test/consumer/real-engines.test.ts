/**
 * The same work on real engines: two consumers, duplicates, poison, and a key that is busy for a while. The totals are
 * exact, and every message is accounted for.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type LeaseStore, LockManager } from 'leasehold';
import {
  type BusyPolicy,
  consume,
  type DeadLetters,
  type MessageSource,
  outbox,
  type Publisher,
  republish,
  retry,
  type StateStore,
} from 'leasehold/consumer';
import {
  embedded,
  embeddedDeadLetters,
  embeddedOutbox,
  embeddedPublisher,
  embeddedSource,
  embeddedState,
} from 'leasehold/embedded';
import { deadLetters, publisher, rabbitmq } from 'leasehold/rabbitmq';
import { redis, redisOutbox, redisState } from 'leasehold/redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RabbitServer } from '../servers/rabbitmq.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { atEnd, type Contribution, keyOf, sum, until } from './setup.ts';

interface Engines {
  readonly locks: () => LeaseStore;
  readonly source: () => MessageSource;
  readonly state: () => StateStore;
  readonly busy: () => BusyPolicy;
  readonly publisher: Publisher;
  readonly letters: DeadLetters;
}

const KEYS = 4;
const MESSAGES = 1_000;

function startOne(engines: Engines) {
  const locks = new LockManager({ store: engines.locks() });
  const consumer = consume<Contribution, number>({
    source: engines.source(),
    locks,
    keyOf,
    state: engines.state(),
    keepState: true,
    waitMs: 200,
    onBusy: engines.busy(),
    onFailed: retry({ maxAttempts: 2, delayMs: 20 }),
    reduce: (total, messages) => {
      if (messages.some(({ body }) => body.amount < 0)) throw new RangeError('no debts');
      return sum(total, messages);
    },
  });
  atEnd(async () => {
    await consumer.stop();
    await locks.close();
  });
  return { consumer, locks };
}

async function addUp(engines: Engines): Promise<void> {
  const totals = Array.from({ length: KEYS }, () => 0);
  const workers = [startOne(engines), startOne(engines)];
  await Promise.all(workers.map(({ consumer }) => consumer.ready));
  const blocker = new LockManager({ store: engines.locks() });
  atEnd(() => blocker.close());
  const lease = await blocker.acquire('key-0');
  const published: Promise<string>[] = [];
  for (let n = 0; n < MESSAGES; n += 1) {
    const isPoison = n % 250 === 7;
    const amount = isPoison ? -1 : (n % 13) + 1;
    if (!isPoison) totals[n % KEYS] = (totals[n % KEYS] ?? 0) + amount;
    const content = JSON.stringify({ account: `key-${n % KEYS}`, amount });
    const copies = n % 10 === 0 ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      published.push(engines.publisher.publish({ id: `m${n}`, content }));
    }
  }
  await Promise.all(published);
  const all = (name: 'busy' | 'inFlight') =>
    workers.reduce((count, { consumer }) => count + consumer.metrics()[name], 0);
  await until(() => all('busy') > 0);
  await lease.release();
  const looker = engines.state();
  await looker.open();
  atEnd(() => looker.close());
  const read = () =>
    Promise.all(
      totals.map(async (_, key) => JSON.parse((await looker.peek(`key-${key}`)) ?? '0') as number),
    );
  // Not by what was counted as applied: of a commit whose answer was lost, all are copies when they come again.
  await until(async () => isDeepStrictEqual(await read(), totals));
  await until(async () => (await engines.letters.list(10)).length === 4);
  await until(() => all('inFlight') === 0);
  expect(await read()).toEqual(totals);
  const letters = await engines.letters.list(10);
  const ids = new Set(letters.map(({ envelope }) => envelope.id));
  expect(ids).toEqual(new Set(['m7', 'm257', 'm507', 'm757']));
  expect(letters.every(({ reason }) => reason === 'failed')).toBe(true);
}

lane('a consumer on RabbitMQ and Redis', TOOLS.rabbitmq, () => {
  let broker: RabbitServer;
  beforeAll(async () => {
    broker = await RabbitServer.start();
  });
  afterAll(() => broker?.close());

  test.each(['republish', 'outbox'])('is exact, with %s', async (policy) => {
    const server = await RedisServer.start();
    atEnd(() => server.close());
    const at = { url: broker.url, queue: `contributions-${policy}` };
    const sender = publisher(at);
    const letters = deadLetters(at);
    atEnd(async () => {
      await sender.close();
      await letters.close();
    });
    await addUp({
      locks: () => redis(server.url),
      source: () => rabbitmq({ ...at, prefetch: 100 }),
      state: () => redisState(server.url),
      busy: () =>
        policy === 'outbox'
          ? outbox(redisOutbox(server.url), { delayMs: 50, pollMs: 50, maxAttempts: 1_000 })
          : republish({ delayMs: 50, maxAttempts: 1_000 }),
      publisher: sender,
      letters,
    });
  });
});

describe('a consumer on the embedded engines', () => {
  test.each(['republish', 'outbox'])('is exact, with %s', async (policy) => {
    const path = await mkdtemp(join(tmpdir(), 'leasehold-consumer-'));
    atEnd(() => rm(path, { recursive: true, force: true }));
    const at = { path, queue: 'contributions' };
    const sender = embeddedPublisher(at);
    const letters = embeddedDeadLetters(at);
    atEnd(async () => {
      await sender.close();
      await letters.close();
    });
    await addUp({
      locks: () => embedded({ path }),
      source: () => embeddedSource(at),
      state: () => embeddedState({ path }),
      busy: () =>
        policy === 'outbox'
          ? outbox(embeddedOutbox({ path }), { delayMs: 50, pollMs: 50, maxAttempts: 1_000 })
          : republish({ delayMs: 50, maxAttempts: 1_000 }),
      publisher: sender,
      letters,
    });
  });
});
