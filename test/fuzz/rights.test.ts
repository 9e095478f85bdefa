/** The least rights that SECURITY.md gives, taken from its very text: they are enough, and each of them is needed. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'amqplib';
import { Cluster, Redis } from 'ioredis';
import { LockManager } from 'leasehold';
import { consume, retry } from 'leasehold/consumer';
import { memory } from 'leasehold/memory';
import { publisher, rabbitmq } from 'leasehold/rabbitmq';
import { fenced, redis, redisOutbox, redisState } from 'leasehold/redis';
import { redlock } from 'leasehold/redlock';
import { zookeeper } from 'leasehold/zookeeper';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '../package/installed.ts';
import { until } from '../servers/processes.ts';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { RedisCluster, RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { ZooKeeperServer } from '../servers/zookeeper.ts';
import { nodeClient } from '../servers/zookeeper-client.ts';
import { nothingEscapes } from './settled.ts';

nothingEscapes();

const PAGE = readFileSync(join(ROOT, 'SECURITY.md'), 'utf8');
const PASSWORD = 'secret';

/** The lines of all blocks of that kind, in words. */
function linesOf(kind: string): string[][] {
  const blocks = [...PAGE.matchAll(new RegExp(`^\`\`\`${kind}\\n(.*?)^\`\`\`$`, 'gms'))];
  const lines = blocks.flatMap(([, text = '']) => text.trim().split('\n'));
  return lines.map((line) => line.replace('PASSWORD', PASSWORD).split(' '));
}

const RULES = new Map(linesOf('acl').map(([user = '', ...rules]) => [user, rules]));
const TOKEN = { tokenText: '7'.padStart(20, '0') };
/**
 * What is not missed here: a warning, and the question of a listener that has heard nothing for long whether its
 * connection lives.
 */
const UNMISSED: Readonly<Record<string, readonly string[]>> = {
  locks: ['+info', '+ping'],
  redlock: ['+ping'],
  state: ['+info'],
  outbox: ['+info'],
};
/** What is missed when nodes are asked for what they remember: they abstain then, and that is said. */
const UNNAMED: readonly string[] = ['redlock +hvals'];

/** A machine that is busy answers late. */
const requestTimeoutMs = 10_000;

/** Everything that the user is for. */
type Use = (url: string, url2: string, url3: string) => Promise<void>;

async function useLocks(stores: readonly [() => ReturnType<typeof redis>, boolean]): Promise<void> {
  const [make, isExclusiveOnly] = stores;
  const options = { ttlMs: 10_000, waitMs: 10_000 };
  const [one, other] = [
    new LockManager({ store: make(), ...options }),
    new LockManager({ store: make(), ...options }),
  ] as const;
  try {
    const lease = await one.acquire('a');
    expect(await other.tryAcquire('a')).toBe(null);
    const next = other.acquire('a');
    await until('it waits', () => other.usage.waiting === 1);
    await lease.release();
    await (await next).release();
    if (isExclusiveOnly) return;
    const readers = [
      await one.acquire('b', { mode: 'shared' }),
      await other.acquire('b', { mode: 'shared' }),
    ];
    for (const reader of readers) await reader.release();
    await (await one.acquire('c', { limit: 2 })).release();
  } finally {
    await one.close();
    await other.close();
  }
}

async function useState(url: string): Promise<void> {
  const client = new Redis(url, { enableReadyCheck: false });
  client.on('error', () => {});
  const state = redisState(client, { requestTimeoutMs });
  try {
    await state.open();
    const publishedAtMs = Date.now();
    // More than stand in the state itself.
    const messages = Array.from({ length: 60 }, (_, index) => {
      return { id: `m-${index}`, publishedAtMs, isReplay: false };
    });
    const commit = { key: 'k', lease: TOKEN, id: crypto.randomUUID(), value: 'v', messages };
    const loaded = await state.load('k', TOKEN, messages);
    const expectedVersion = loaded.is === 'loaded' ? loaded.version : 0;
    await state.commit({ ...commit, expectedVersion });
    await state.markDead('k', [{ id: 'dead', publishedAtMs, isReplay: false }]);
    const replay = [{ id: 'dead', publishedAtMs, isReplay: true }];
    const again = { ...commit, id: crypto.randomUUID(), messages: replay };
    await state.commit({ ...again, expectedVersion: expectedVersion + 1 });
    // Now that no mark is left.
    const last = [{ id: 'last', publishedAtMs, isReplay: false }];
    const third = { ...commit, id: crypto.randomUUID(), messages: last };
    await state.commit({ ...third, expectedVersion: expectedVersion + 2 });
    await state.peek('k');
    // What began as a fenced value.
    const values = fenced(client, { prefix: 'state:', requestTimeoutMs });
    const version = await values.set('old', 'v', TOKEN, { ttlMs: 60_000 });
    await state.commit({ ...third, key: 'old', expectedVersion: version });
    // Without a lock.
    const locks = redis(client);
    const elision = state.elision?.(locks);
    const seen = await elision?.look('free', 'free', last);
    if (seen?.is !== 'seen') throw new Error(`the lock is not free: ${seen?.is}`);
    const { version: free, fence } = seen;
    const parts = { key: 'free', lockName: 'free', id: crypto.randomUUID(), value: 'v' };
    const expected = { expectedVersion: free, expectedFence: fence };
    await elision?.commit({ ...parts, ...expected, messages: last });
  } finally {
    await state.close();
    client.disconnect();
  }
}

async function useOutbox(url: string): Promise<void> {
  await usePart(url);
  // Whoever comes later forgets who was there.
  await usePart(url);
}

async function usePart(url: string): Promise<void> {
  const outbox = redisOutbox(url, { requestTimeoutMs });
  await outbox.open();
  try {
    const envelope = {
      id: 'm',
      content: Buffer.from('{}'),
      contentType: null,
      headers: {},
      properties: {},
      publishedAtMs: 1,
      busyCount: 0,
      failedCount: 0,
      isReplay: false,
    };
    await outbox.put([envelope, envelope], 0);
    await outbox.depth();
    const { deliveries } = await outbox.claim(2, 10_000);
    await outbox.putBack(deliveries.slice(0, 1), [envelope], 0);
    await outbox.acknowledge(deliveries.slice(1));
    const again = await outbox.claim(1, 10_000);
    await outbox.release(again.deliveries);
    await outbox.acknowledge((await outbox.claim(1, 10_000)).deliveries);
  } finally {
    await outbox.close();
  }
}

async function useFence(url: string): Promise<void> {
  const client = new Redis(url, { enableReadyCheck: false });
  client.on('error', () => {});
  try {
    const values = fenced(client, { prefix: 'total:', requestTimeoutMs });
    await values.get('k', TOKEN);
    const version = await values.set('k', 'v', TOKEN, { ttlMs: 60_000 });
    await values.compareAndSet('k', version, 'w', TOKEN);
    await values.reset('k');
  } finally {
    client.disconnect();
  }
}

const USES: Readonly<Record<string, Use>> = {
  locks: (url) => useLocks([() => redis(url, { requestTimeoutMs }), false]),
  redlock: (...urls) => useLocks([() => redlock(urls, { durable: true, requestTimeoutMs }), true]),
  state: useState,
  outbox: useOutbox,
  fence: useFence,
};

/** Some end by themselves: who may not delete cannot do more about them. */
function noProbeIsLeft(server: RedisServer): Promise<void> {
  return until('no probe is left', async () => {
    const left = (await server.command('KEYS', '*-probe*')) as unknown[];
    return left.length === 0;
  });
}

lane('rights on Redis', TOOLS.redis, () => {
  let servers: RedisServer[];
  beforeAll(async () => {
    servers = await Promise.all([1, 2, 3].map(() => RedisServer.start()));
  });
  afterAll(() => Promise.all(servers.map((server) => server.close())));

  async function urlsFor(user: string, rules: readonly string[]): Promise<string[]> {
    for (const server of servers) {
      await server.command('FLUSHALL');
      await server.command('SCRIPT', 'FLUSH');
      await server.command('ACL', 'SETUSER', user, 'reset', ...rules);
    }
    return servers.map(({ port }) => `redis://${user}:${PASSWORD}@127.0.0.1:${port}`);
  }
  const used = async (user: string, rules: readonly string[]): Promise<unknown> => {
    const [one = '', two = '', three = ''] = await urlsFor(user, rules);
    return (USES[user] as Use)(one, two, three).then(
      () => null,
      (error: unknown) => error,
    );
  };

  test('the page has a user for each use', () => {
    expect([...RULES.keys()].sort()).toEqual(Object.keys(USES).sort());
  });

  describe.each(Object.keys(USES))('of the user %s', (user) => {
    const rules = RULES.get(user) ?? [];
    const rights = rules.filter((rule) => rule.startsWith('+'));

    test('are enough', async () => {
      expect(await used(user, rules)).toBe(null);
    });

    test.each(rights)('are too few without %s, and that is said', async (right) => {
      const fewer = rules.filter((rule) => rule !== right);
      const error = await used(user, fewer);
      if (UNMISSED[user]?.includes(right)) {
        expect(error).toBe(null);
        return;
      }
      expect(error).toBeInstanceOf(Error);
      const said: string[] = [];
      for (let one = error as Error | undefined; one; one = one.cause as Error | undefined) {
        said.push(one.message);
      }
      const isNamed = !UNNAMED.includes(`${user} ${right}`);
      const command = isNamed ? right.slice(1).split('|')[0] : 'abstains';
      expect(said.join('; ')).toMatch(new RegExp(`\\b${command}\\b`, 'i'));
      for (const server of servers) await noProbeIsLeft(server);
    });
  });
});

lane('rights on a Redis Cluster', TOOLS.redis, () => {
  test('are those of one server, and those that the page adds', { timeout: 120_000 }, async () => {
    const [, added = ''] = /\(there `([^`]+)` in\s+addition/.exec(PAGE) ?? [];
    const rules = [...(RULES.get('locks') ?? []), ...added.split(' ')];
    const cluster = await RedisCluster.start();
    const clients: Cluster[] = [];
    const make = () => {
      const redisOptions = { username: 'locks', password: PASSWORD };
      const client = new Cluster(cluster.nodes, { redisOptions });
      client.on('error', () => {});
      clients.push(client);
      return redis(client as never, { requestTimeoutMs: 1_000 });
    };
    try {
      for (const { host, port } of cluster.nodes) {
        const admin = new Redis(port, host);
        await admin.call('ACL', 'SETUSER', 'locks', 'reset', ...rules);
        admin.disconnect();
      }
      await useLocks([make, false]);
    } finally {
      for (const client of clients) client.disconnect();
      await cluster.close();
    }
  });
});

/** What the page asks for in addition, between these words and the end of the code. */
function additional(after: string): string[] {
  const [, rights = ''] = new RegExp(`${after} \`([^\`]+)\``).exec(PAGE) ?? [];
  return rights.split(' ');
}

/** What the command line says of its failures, all of its commands together. */
async function useCommands(url: string): Promise<string> {
  const locks = new LockManager({ store: redis(url) });
  await locks.acquire('a');
  let said = '';
  for (const command of ['list', 'show', 'break']) {
    const name = command === 'list' ? [] : ['a'];
    const main = join(ROOT, 'dist/src/cli/main.js');
    const args = [main, 'locks', command, ...name, '--redis', url];
    said += await new Promise<string>((resolve) => {
      execFile(process.execPath, args, (failure, _out, error) => resolve(failure ? error : ''));
    });
  }
  await locks.close();
  return said;
}

lane('additional rights on Redis', TOOLS.redis, () => {
  let server: RedisServer;
  let replica: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
    replica = await RedisServer.start(['--replicaof', `127.0.0.1 ${server.port}`]);
    await until('the replica follows', async () =>
      String(await server.command('INFO', 'replication')).includes('state=online'),
    );
  });
  afterAll(async () => {
    await replica?.close();
    await server?.close();
  });
  async function urlFor(rules: readonly string[]): Promise<string> {
    await server.command('ACL', 'SETUSER', 'some', 'reset', ...rules);
    return `redis://some:${PASSWORD}@127.0.0.1:${server.port}`;
  }

  test('of the command line are enough, and each is needed', async () => {
    const rules = RULES.get('locks') ?? [];
    const more = additional('looks at locks and breaks them, also');
    expect(more).toEqual(['+scan', '+type']);
    expect(await useCommands(await urlFor([...rules, ...more]))).toBe('');
    for (const right of more) {
      const fewer = [...rules, ...more].filter((rule) => rule !== right);
      expect(await useCommands(await urlFor(fewer))).toMatch(new RegExp(right.slice(1), 'i'));
      await noProbeIsLeft(server);
    }
  });

  test('with minReplicas are enough, and needed', async () => {
    const more = additional('With `minReplicas` also');
    expect(more).toEqual(['+wait']);
    const use = async (rules: readonly string[]): Promise<void> => {
      const store = redis(await urlFor([...(RULES.get('locks') ?? []), ...rules]), {
        minReplicas: 1,
        replicaTimeoutMs: 10_000,
      });
      const locks = new LockManager({ store, waitMs: 30_000 });
      try {
        await locks.withLock('r', async () => {});
      } finally {
        await locks.close();
      }
    };
    await use(more);
    const error = await use([]).catch((cause: unknown) => cause);
    expect(`${error} ${(error as Error | undefined)?.cause}`).toMatch(/wait/i);
    const state = redisState(await urlFor([...(RULES.get('state') ?? []), ...more]), {
      minReplicas: 1,
      replicaTimeoutMs: 10_000,
    });
    await state.open();
    const commit = { key: 'k', lease: TOKEN, id: 'c', value: 'v', messages: [] };
    expect(await state.commit({ ...commit, expectedVersion: 0 })).toMatchObject({
      is: 'committed',
    });
    await state.close();
  });
});

lane('rights on ZooKeeper', TOOLS.zookeeper, () => {
  test('an identity needs its root, and nothing else', async () => {
    const server = await ZooKeeperServer.start();
    const looker = await nodeClient(server.address);
    const { client } = looker;
    const zk = (await import('node-zookeeper-client')).default;
    const [[list]] = linesOf('zookeeper') as [[string]];
    const [, , rights = ''] = list.split(':');
    const bits = { c: zk.Permission.CREATE, d: zk.Permission.DELETE, r: 1, w: 2 } as const;
    const maskOf = (letters: string): number =>
      letters.split('').reduce((mask, letter) => mask + bits[letter as keyof typeof bits], 0);
    const credentials = `web:${PASSWORD}`;
    client.addAuthInfo('digest', Buffer.from(credentials));
    const make = (path: string, letters: string): Promise<void> =>
      new Promise((resolve, reject) => {
        const acl = [new zk.ACL(maskOf(letters), new zk.Id('auth', ''))];
        client.create(path, Buffer.alloc(0), acl, zk.CreateMode.PERSISTENT, (error) =>
          error ? reject(error) : resolve(),
        );
      });
    const use = async (root: string): Promise<void> => {
      const auth = { scheme: 'digest', credentials };
      const make = () => zookeeper({ connect: server.address, root, auth });
      await useLocks([make, false]);
    };
    try {
      await make('/enough', rights);
      await use('/enough');
      await make('/nothing-made', rights.replace('c', ''));
      await expect(use('/nothing-made')).rejects.toThrow(/may not make nodes below/);
      const stranger = new LockManager({
        store: zookeeper({ connect: server.address, root: '/enough' }),
      });
      await expect(stranger.acquire('a')).rejects.toThrow(/may not make nodes below/);
      await stranger.close();
    } finally {
      looker.close();
      await server.close();
    }
  });
});

lane('rights on RabbitMQ', TOOLS.rabbitmq, () => {
  let server: RabbitServer;
  const users = new Map(linesOf('rabbitmq').map(([user = '', ...rest]) => [user, rest]));
  beforeAll(async () => {
    server = await RabbitServer.start();
    for (const [user, rights] of users) await addUser(user, rights);
  }, BROKER_START_MS);
  afterAll(() => server?.close());

  async function addUser(user: string, rights: readonly string[]): Promise<void> {
    await server.control('add_user', user, PASSWORD);
    await server.control('set_permissions', '-p', '/', user, ...rights);
  }
  const urlOf = (user: string): string => `amqp://${user}:${PASSWORD}@127.0.0.1:${server.port}`;

  async function useQueue(user: string): Promise<void> {
    const queue = 'contributions';
    const locks = new LockManager({ store: memory() });
    const handled: string[] = [];
    const consumer = consume({
      source: rabbitmq({ url: urlOf(user), queue }),
      locks,
      keyOf: () => 'k',
      handle: ([message]) => {
        if (message?.id === 'bad') throw new Error('no');
        handled.push(message?.id ?? '');
      },
      onFailed: retry({ maxAttempts: 2, delayMs: 20 }),
    });
    try {
      await consumer.ready;
      const one = publisher({ url: urlOf('publisher'), queue, declare: false });
      for (const id of ['good', 'bad']) await one.publish({ id, content: '{}' });
      await one.close();
      await until('one is handled, one is dead', () => {
        const { applied, deadLettered } = consumer.metrics();
        return applied === 1 && deadLettered.failed === 1;
      });
      expect(handled).toContain('good');
    } finally {
      await consumer.stop({ graceMs: 0 });
      await locks.close();
    }
  }

  test('are enough', async () => {
    await useQueue('consumer');
  });

  test.each(['configure', 'write', 'read'])(
    'are too few without %s, and that is said',
    async (kind) => {
      const rights = [...(users.get('consumer') ?? [])];
      rights[['configure', 'write', 'read'].indexOf(kind)] = '^$';
      await addUser(`no-${kind}`, rights);
      const admin = await connect(server.url);
      const channel = await admin.createChannel();
      for (const name of ['contributions', 'contributions.dead']) await channel.deleteQueue(name);
      await admin.close();
      await expect(useQueue(`no-${kind}`)).rejects.toThrow(
        new RegExp(`give this user the permission.*access to .* refused for user 'no-${kind}'`),
      );
    },
  );
});
