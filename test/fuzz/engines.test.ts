/** Whatever is given to the parts beside the locks: they work, or say with a typed error what is wrong. */
import fc from 'fast-check';
import { LockManager } from 'leasehold';
import { type Consumer, consume, outbox, republish, retry } from 'leasehold/consumer';
import {
  embedded,
  embeddedDeadLetters,
  embeddedOutbox,
  embeddedPublisher,
  embeddedSource,
  embeddedState,
} from 'leasehold/embedded';
import {
  MemoryQueue,
  MemorySpace,
  memory,
  memoryOutbox,
  memorySource,
  memoryState,
} from 'leasehold/memory';
import { deadLetters, partitioned, publisher, rabbitmq } from 'leasehold/rabbitmq';
import { fenced, redis, redisOutbox, redisState } from 'leasehold/redis';
import { redlock } from 'leasehold/redlock';
import { zookeeper } from 'leasehold/zookeeper';
import { describe, expect, test } from 'vitest';
import { removeFolder, temporaryFolder } from '../servers/processes.ts';
import { type Any, anyValue, fieldsOf, nearUrls, optionsOf } from './arbitraries.ts';
import { nothingEscapes, typedErrorOf } from './settled.ts';

nothingEscapes();

const REDIS = ['prefix', 'requestTimeoutMs', 'minReplicas', 'replicaTimeoutMs', 'name', 'windowMs'];
const RECORDS = ['path', 'requestTimeoutMs', 'openTimeoutMs'];
const client = { options: {}, evalsha() {}, duplicate() {}, on() {}, off() {} };

/** Each is given the options alone, and beside what is right. */
async function tryAll(
  base: object,
  names: readonly string[],
  ...makers: readonly ((options: never) => unknown)[]
): Promise<void> {
  const given = fc.oneof(
    fieldsOf(...names).map((fields) => ({ ...base, ...fields })),
    optionsOf(...names),
  );
  const property = fc.asyncProperty(given, async (options) => {
    for (const make of makers) await typedErrorOf(() => make(options as Any));
  });
  await fc.assert(property, { numRuns: 500 });
}

describe('addresses', () => {
  async function tryUrls(schemes: readonly string[], make: (url: never) => unknown): Promise<void> {
    const property = fc.asyncProperty(nearUrls(...schemes), async (url) => {
      await typedErrorOf(() => make(url as Any));
    });
    await fc.assert(property, { numRuns: 700 });
  }

  test('redis, its states and its outbox', async () => {
    const schemes = ['redis:', 'rediss:', 'redis+sentinel:'];
    await tryUrls(schemes, redis);
    await tryUrls(schemes, redisState);
    await tryUrls(schemes, redisOutbox);
    await tryUrls(schemes, (url) => redlock([url, 'redis://b', 'redis://c']));
  });

  test('zookeeper', async () => {
    await tryUrls(['zookeeper:'], zookeeper);
    await tryUrls([''], (connect) => zookeeper({ connect }));
    await tryUrls([''], (root) => zookeeper({ connect: 'h', root }));
  });

  test('rabbitmq', async () => {
    for (const make of [rabbitmq, publisher, deadLetters]) {
      await tryUrls(['amqp:', 'amqps:'], (url) => make({ url, queue: 'q' }));
      await tryUrls(['amqp:'], (url) => make({ url: ['amqp://h', url], queue: 'q' }));
    }
  });

  test.each([
    ['redis+sentinel://:5/m', redis],
    ['redis+sentinel://h:70000/m', redis],
    ['redis+sentinel://h,,i/m', redis],
    ['zookeeper://h:70000', zookeeper],
    ['zookeeper://h:0', zookeeper],
    ['zookeeper://u:%@h', zookeeper],
    ['amqp://u:%@h', (url: string) => rabbitmq({ url, queue: 'q' })],
    ['amqp://h/%zz', (url: string) => publisher({ url, queue: 'q' })],
  ])('%s would fail only when it is used', async (url, make) => {
    expect(await typedErrorOf(() => make(url))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

describe('options', () => {
  test('redlock', async () => {
    const nodes = ['redis://a', 'redis://b', client];
    const names = ['prefix', 'requestTimeoutMs', 'maxTtlMs', 'durable'];
    await tryAll({}, names, (options) => redlock(nodes as Any, options));
    const anyNodes = fc.oneof(fc.array(fc.oneof(fc.constant('redis://a'), anyValue)), anyValue);
    const property = fc.asyncProperty(anyNodes, async (given) => {
      await typedErrorOf(() => redlock(given as Any));
    });
    await fc.assert(property);
  });

  test('redis: states, outbox, fences', async () => {
    await tryAll(
      {},
      REDIS,
      (options) => redisState(client as Any, options),
      (options) => redisOutbox(client as Any, options),
      (options) => fenced(client as Any, options),
      (options) => redis(client as Any, options),
    );
    const property = fc.asyncProperty(anyValue, async (given) => {
      for (const make of [fenced, redisState, redisOutbox, redis]) {
        await typedErrorOf(() => make(given as Any));
      }
    });
    await fc.assert(property);
  });

  test('zookeeper', async () => {
    const names = ['connect', 'root', 'sessionTimeoutMs', 'auth', 'requestTimeoutMs'];
    await tryAll({ connect: 'h:1,i:2' }, names, zookeeper);
    await tryAll({}, ['scheme', 'credentials'], (auth) => zookeeper({ connect: 'h', auth }));
  });

  test('rabbitmq', async () => {
    const right = { url: 'amqp://h', queue: 'q' };
    const connection = ['url', 'queue', 'deadLetterQueue', 'declare', 'connectTimeoutMs'];
    const names = [...connection, 'confirmTimeoutMs', 'prefetch', 'delayQueueIdleMs'];
    await tryAll(right, names, rabbitmq, publisher, deadLetters);
    const parts = ['name', 'queues', 'exchange', 'members', 'queueFor'];
    const queue = partitioned('q', 2);
    await tryAll(queue, parts, (given) => rabbitmq({ ...right, queue: given }));
    const property = fc.asyncProperty(anyValue, anyValue, async (name, count) => {
      await typedErrorOf(() => partitioned(name as Any, count as Any));
      await typedErrorOf(() => rabbitmq({ ...right, queue: partitioned(name as Any, 2) }));
    });
    await fc.assert(property);
  });

  test('embedded', async () => {
    const names = [...RECORDS, 'queue', 'prefetch', 'name', 'windowMs'];
    await tryAll(
      { path: 'never-made', queue: 'q' },
      names,
      embedded,
      embeddedSource,
      embeddedPublisher,
      embeddedDeadLetters,
      embeddedOutbox,
      embeddedState,
    );
  });

  test('memory', async () => {
    const queue = new MemoryQueue();
    await tryAll(
      {},
      ['clock', 'windowMs', 'prefetch'],
      (options) => new MemoryQueue(options),
      (options) => new MemorySpace(options),
      memoryOutbox as Any,
      memoryState as Any,
      memory as Any,
      memorySource as Any,
      (options) => memorySource(queue, options),
    );
  });

  test('policies', async () => {
    const attempts = ['maxAttempts', 'delayMs', 'backoff', 'maxDelayMs'];
    await tryAll({}, attempts, republish as Any, retry as Any);
    const more = [...attempts, 'maxClaimed', 'leaseMs', 'pollMs'];
    await tryAll({}, more, outbox as Any, (options) => outbox(memoryOutbox(), options));
  });

  test('consume, which then runs and stops', async () => {
    const locks = new LockManager({ store: memory() });
    const consumers: Consumer[] = [];
    const shared = ['source', 'locks', 'keyOf', 'lockName', 'decode', 'idOf', 'publishedAtOf'];
    const times = ['onBusy', 'onFailed', 'waitMs', 'ttlMs', 'retainMs', 'maxHoldMs', 'maxBatch'];
    const rest = [
      'clock',
      'random',
      'state',
      'reduce',
      'handle',
      'stateCodec',
      'keepState',
      'elideLock',
    ];
    const fields = fc.oneof(fieldsOf(...shared, ...times, ...rest), anyValue);
    const property = fc.asyncProperty(fields, fc.boolean(), async (given, isReducing) => {
      const queue = new MemoryQueue();
      const base = {
        source: memorySource(queue),
        locks,
        keyOf: () => 'k',
        ...(isReducing ? { state: memoryState(), reduce: () => 1 } : { handle: () => {} }),
      };
      await typedErrorOf(() => consume(given as Any));
      const options = typeof given === 'object' && given !== null ? given : {};
      await typedErrorOf(() => consumers.push(consume({ ...base, ...options } as Any)));
      await queue.publish({ content: '{}' });
    });
    await fc.assert(property, { numRuns: 300 });
    expect(consumers).not.toEqual([]);
    await Promise.all(consumers.map((consumer) => consumer.stop({ graceMs: 200 })));
    await locks.close();
  });

  test('stop', async () => {
    const locks = new LockManager({ store: memory() });
    const property = fc.asyncProperty(optionsOf('graceMs'), async (options) => {
      const source = memorySource(new MemoryQueue());
      const consumer = consume({ source, locks, keyOf: () => 'k', handle: () => {} });
      if (await typedErrorOf(() => consumer.stop(options as Any))) await consumer.stop();
    });
    await fc.assert(property);
    await locks.close();
  });
});

describe('publications', () => {
  const FIELDS = ['id', 'content', 'contentType', 'headers', 'key', 'publishedAtMs'];

  test('into a queue in the process and in a folder', { timeout: 120_000 }, async () => {
    const folder = temporaryFolder();
    const durable = embeddedPublisher({ path: folder, queue: 'q' });
    const publishers = [new MemoryQueue(), durable];
    await tryAll({ content: '{}' }, FIELDS, ...publishers.map((one) => one.publish.bind(one)));
    await durable.close();
    removeFolder(folder);
  });

  test('into a partition of RabbitMQ, which is not there', async () => {
    const queue = partitioned('q', 2);
    const one = publisher({ url: 'amqp://127.0.0.1:1', queue, connectTimeoutMs: 100 });
    await tryAll({ content: '{}', key: 'k' }, FIELDS, one.publish.bind(one));
    await one.close();
  });
});
