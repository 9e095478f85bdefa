/** Names and values that mean something to an engine stay names and values. */
import { type ChannelModel, connect } from 'amqplib';
import type { Redis } from 'ioredis';
import { type Lease, type LeaseStore, LockManager } from 'leasehold';
import { consume, retry } from 'leasehold/consumer';
import { memory } from 'leasehold/memory';
import { deadLetters, partitioned, publisher, rabbitmq } from 'leasehold/rabbitmq';
import { fenced, redis, redisOutbox, redisState } from 'leasehold/redis';
import { redlock } from 'leasehold/redlock';
import { zookeeper } from 'leasehold/zookeeper';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { RedisCluster, RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { ZooKeeperServer } from '../servers/zookeeper.ts';
import { nodeClient } from '../servers/zookeeper-client.ts';
import { nothingEscapes } from './settled.ts';

nothingEscapes();

const NAMES: readonly string[] = [
  'plain',
  'a\nb',
  'a\r\nb',
  'a\0b',
  '\0',
  '$6\r\nfoobar\r\n*1\r\n$8\r\nFLUSHALL\r\n',
  '{a}b',
  '{}',
  '}{',
  '{a',
  'a b',
  ' ',
  'a 1 2 3 leasehold:p:x',
  '/',
  'a/b',
  '..',
  '.',
  '../../zookeeper/quota',
  '/zookeeper',
  '%2F',
  '%',
  '%n%s%d',
  '-1-1-0000000001',
  "'] redis.call('FLUSHALL') --",
  '"..redis.call("FLUSHALL").."',
  ']] redis.call("FLUSHALL") [[',
  '\\',
  '\\0',
  '*',
  '[a-z]*',
  '?',
  'leasehold:epoch',
  'leasehold:m:lock:plain',
  '["granted","lock:plain","x","9",0]',
  '__proto__',
  'constructor',
  '#',
  '*.#',
  'q.dead',
  '\u2028',
  '\uffff',
  '\ufeff',
  '\u{1f512}',
  '\u{10ffff}',
  '\u001b[2J',
  'e\u0301',
  '\u00e9',
  'x'.repeat(512),
  '\u{1f512}'.repeat(256),
];

/** All at once, each by itself: no two names are one. */
async function holdAll(make: () => LeaseStore, waits: readonly string[]): Promise<void> {
  // Spaces, line breaks and what looks like the rest of a record: it is all the name of a holder.
  const identity = "x 5 1000000 9 leasehold:p:1\n%d+'] {a}/..";
  const options = { ttlMs: 60_000, waitMs: 30_000 };
  const [one, other] = [
    new LockManager({ store: make(), identity, ...options }),
    new LockManager({ store: make(), ...options }),
  ] as const;
  try {
    const held: Lease[] = [];
    for (const name of NAMES) held.push(await one.acquire(name));
    expect(one.usage).toMatchObject({ keys: NAMES.length, leases: NAMES.length });
    for (const name of NAMES) expect(await other.tryAcquire(name), name).toBe(null);
    const waiting = waits.map((name) => other.acquire(name));
    for (const lease of held) await lease.release();
    for (const [index, lease] of (await Promise.all(waiting)).entries()) {
      expect(lease.key).toBe(waits[index]);
      await lease.release();
    }
    for (const name of NAMES) await (await other.acquire(name)).release();
  } finally {
    await one.close();
    await other.close();
  }
}

lane('Redis', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  beforeAll(async () => {
    server = await RedisServer.start();
    client = server.client();
    await client.set('canary', 'alive');
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });

  /** Nothing but what has the names of this package, and what was there before. */
  async function expectOnly(pattern: RegExp): Promise<void> {
    expect(await client.get('canary')).toBe('alive');
    const keys = await client.keys('*');
    expect(keys.filter((key) => !pattern.test(key) && key !== 'canary')).toEqual([]);
  }

  test('locks are keys of their own, and messages go to the channels of stores', async () => {
    const listener = client.duplicate();
    const channels = new Set<string>();
    listener.on('pmessage', (_pattern, channel: string) => channels.add(channel));
    await listener.psubscribe('*');
    await holdAll(() => redis(server.url), NAMES);
    listener.disconnect();
    expect(channels.size).toBeGreaterThan(0);
    for (const channel of channels) expect(channel).toMatch(/^leasehold:p:\w+$/);
    await expectOnly(/^leasehold:epoch$/);
  });

  test('without a prefix no lock is named like what stands beside locks', async () => {
    const bare = new LockManager({ store: redis(server.url, { prefix: '' }) });
    await expect(bare.acquire('leasehold:epoch')).rejects.toThrow(/begin with leasehold:/);
    await bare.close();
    const half = new LockManager({ store: redis(server.url, { prefix: 'lease' }) });
    await expect(half.acquire('hold:m:lock:plain')).rejects.toThrow(/begin with leasehold:/);
    await half.close();
    const values = fenced(client);
    const lease = { tokenText: '7'.padStart(20, '0') };
    await expect(values.set('leasehold:epoch', 'x', lease)).rejects.toThrow(
      /begin with leasehold:/,
    );
    expect(() => redisState(client, { prefix: '' })).toThrow(/prefix of states/);
  });

  test('fenced values, and the arguments of scripts', async () => {
    const values = fenced(client, { prefix: 'fence:' });
    const lease = { tokenText: '7'.padStart(20, '0') };
    for (const [index, name] of NAMES.entries()) {
      await values.set(name, `${index} ${name}`, lease);
      const answer = await values.run('return { KEYS[1], ARGV[1] }', [name], [name], lease);
      expect(answer).toEqual([`fence:${name}`, name]);
    }
    for (const [index, name] of NAMES.entries()) {
      expect(await values.get(name, lease)).toEqual({ value: `${index} ${name}`, version: 1 });
    }
    expect((await client.keys('fence:*')).length).toBe(NAMES.length);
    await client.del(await client.keys('fence:*'));
  });

  test('states, the ids of messages, and what an outbox holds', async () => {
    const state = redisState(server.url, { prefix: 'state:' });
    const outbox = redisOutbox(server.url, { name: "o'] {a}\n*" });
    await state.open();
    await outbox.open();
    const lease = { tokenText: '7'.padStart(20, '0') };
    const publishedAtMs = Date.now();
    const messages = NAMES.map((id) => ({ id, publishedAtMs, isReplay: false }));
    for (const name of NAMES) {
      const commit = { key: name, lease, id: name, expectedVersion: 0, value: name, messages };
      expect(await state.commit(commit)).toEqual({ is: 'committed', version: 1 });
    }
    for (const name of NAMES) {
      const loaded = await state.load(name, lease, messages);
      expect(loaded).toMatchObject({ is: 'loaded', value: name, version: 1 });
      if (loaded.is === 'loaded')
        expect([...loaded.marks.keys()].sort()).toEqual([...NAMES].sort());
    }
    const envelopes = NAMES.map((name) => ({
      id: name,
      content: Buffer.from(name),
      contentType: name,
      headers: { [name]: name },
      properties: { [name]: name },
      publishedAtMs,
      busyCount: 0,
      failedCount: 0,
      isReplay: false,
    }));
    await outbox.put(envelopes, 0);
    const { deliveries } = await outbox.claim(NAMES.length, 60_000);
    const found = new Map(deliveries.map(({ envelope }) => [envelope.id, envelope]));
    // Those of one millisecond come in no order.
    expect(envelopes.map(({ id }) => found.get(id))).toEqual(envelopes);
    await outbox.acknowledge(deliveries);
    await outbox.close();
    await state.close();
    await expectOnly(/^(state:|leasehold:)/);
    await client.del(await client.keys('state:*'));
  });
});

lane('several Redis servers', TOOLS.redis, () => {
  test('locks of a Redlock are keys of their own', async () => {
    const servers = await Promise.all([1, 2, 3].map(() => RedisServer.start()));
    try {
      for (const server of servers) await server.command('SET', 'canary', 'alive');
      const urls = servers.map(({ url }) => url);
      await holdAll(() => redlock(urls, { maxTtlMs: 60_000, durable: true }), []);
      for (const server of servers) {
        expect(await server.command('GET', 'canary')).toBe('alive');
        const keys = (await server.command('KEYS', '*')) as string[];
        expect(keys.filter((key) => !/^(leasehold:|canary$)/.test(key))).toEqual([]);
      }
    } finally {
      await Promise.all(servers.map((server) => server.close()));
    }
  });

  test('locks of a Cluster are in the slot of their name, whatever its braces', async () => {
    const cluster = await RedisCluster.start();
    const { Cluster } = await import('ioredis');
    const clients = [1, 2].map(() => new Cluster(cluster.nodes));
    try {
      const stores = [...clients];
      await holdAll(() => redis(stores.pop() as never), ['{a}b', '{}', '}{', '{a', 'plain']);
    } finally {
      for (const client of clients) client.disconnect();
      await cluster.close();
    }
  });
});

lane('ZooKeeper', TOOLS.zookeeper, () => {
  test('keys and identities are one node below the root each', async () => {
    const server = await ZooKeeperServer.start();
    const looker = await nodeClient(server.address);
    try {
      const before = await looker.children('/');
      const own = (await looker.children('/zookeeper')).sort();
      const lines: string[] = [];
      const locks = new LockManager({ store: zookeeper(`zookeeper://${server.address}`) });
      for (const name of NAMES) await locks.acquire(name);
      lines.push(...(await looker.children('/leasehold')));
      await locks.close();
      expect(lines).toHaveLength(NAMES.length);
      await holdAll(() => zookeeper(`zookeeper://${server.address}`), NAMES.slice(0, 10));
      expect((await looker.children('/')).sort()).toEqual([...before, 'leasehold'].sort());
      expect((await looker.children('/zookeeper')).sort()).toEqual(own);
    } finally {
      looker.close();
      await server.close();
    }
  });
});

lane('RabbitMQ', TOOLS.rabbitmq, () => {
  let server: RabbitServer;
  let connection: ChannelModel;
  beforeAll(async () => {
    server = await RabbitServer.start();
    connection = await connect(server.url);
    connection.on('error', () => {});
  }, BROKER_START_MS);
  afterAll(async () => {
    await connection?.close().catch(() => {});
    await server?.close();
  });

  describe('what a message says', () => {
    let deep: object = {};
    for (let level = 0; level < 1_200; level += 1) deep = { a: deep };
    const hostile: readonly (readonly [what: string, headers: readonly object[]])[] = [
      ['a queue', [{ 'x-leasehold-queue': 'payments' }]],
      ['a death', [{ 'x-death': [{ queue: 'payments', reason: 'x', count: 1 }] }]],
      ['depth', [{ deep }]],
      ['marks of types', [{ '!': 'bogus' }, { a: { '!': 'object', value: { '!': 'bogus' } } }]],
      ['size', [{ large: 'x'.repeat(60_000) }]],
      ['numbers', [2e15 + 0.5, -1e30, 1e300].map((value) => ({ a: { '!': 'double', value } }))],
      ['names', NAMES.map((name) => ({ key: name, [name.slice(0, 60)]: name }))],
    ];
    // Side by side: most of their time goes by while a delay queue grows up.
    test.concurrent.each(hostile)(
      'as %s chooses no queue, and comes to its end',
      async (what, all) => {
        const url = server.url;
        const queue = `hostile ${what}`;
        const channel = await connection.createChannel();
        await channel.assertQueue('payments', { durable: true });
        const locks = new LockManager({ store: memory() });
        const consumer = consume<{ n: number }>({
          source: rabbitmq({ url, queue }),
          locks,
          keyOf: ({ envelope }) => (envelope.headers['key'] as string | undefined) ?? 'k',
          handle: () => {
            throw new Error('no');
          },
          onFailed: retry({ maxAttempts: 2, delayMs: 20 }),
        });
        await consumer.ready;
        for (const [index, headers] of all.entries()) {
          const timestamp = Math.floor(Date.now() / 1_000);
          const options = { headers, messageId: `m-${index}`, timestamp };
          channel.publish('', queue, Buffer.from('{"n":1}'), options);
        }
        const count = async (): Promise<number> =>
          (await channel.checkQueue(`${queue}.dead`)).messageCount;
        await until('all are dead', async () => (await count()) === all.length, 30_000);
        expect((await channel.checkQueue('payments')).messageCount).toBe(0);
        await consumer.stop();
        await locks.close();
        const dead = deadLetters({ url, queue });
        const letters = await dead.list(1_000);
        expect(letters.map(({ reason }) => reason)).toEqual(all.map(() => 'failed'));
        await dead.close();
        await channel.close();
      },
    );

    test('and a letter that names a queue of somebody else stays', async () => {
      const channel = await connection.createChannel();
      await channel.assertQueue('elsewhere', { durable: true });
      const ours = publisher({ url: server.url, queue: 'letters' });
      await ours.publish({ content: '{}' });
      await ours.close();
      const headers = { 'x-leasehold-queue': 'elsewhere', 'x-leasehold-dead-reason': 'failed' };
      channel.sendToQueue('letters.dead', Buffer.from('{}'), { headers, messageId: 'forged' });
      const count = async (queue: string): Promise<number> =>
        (await channel.checkQueue(queue)).messageCount;
      await until('it is there', async () => (await count('letters.dead')) === 1);
      const dead = deadLetters({ url: server.url, queue: 'letters' });
      expect(await dead.replay(() => true)).toBe(0);
      expect(await count('elsewhere')).toBe(0);
      await until('it is there again', async () => (await count('letters.dead')) === 1);
      await dead.close();
      await channel.close();
    });

    test('keys of a partitioned queue choose among its parts', async () => {
      const queue = partitioned('parts', 4);
      for (const name of NAMES) expect(queue.queues).toContain(queue.queueFor(name));
      const one = publisher({ url: server.url, queue });
      for (const key of NAMES.filter((name) => Buffer.byteLength(name) < 256)) {
        await one.publish({ content: '{}', key });
      }
      await one.close();
      const channel = await connection.createChannel();
      let sum = 0;
      await until('all are there', async () => {
        sum = 0;
        for (const part of queue.queues) sum += (await channel.checkQueue(part)).messageCount;
        return sum === NAMES.filter((name) => Buffer.byteLength(name) < 256).length;
      });
      await channel.close();
    });
  });
});
