/**
 * Ways into a Redis server: TLS, users, passwords, databases and prefixes; and a server that is not ready yet.
 */
import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { Redis as Redis5 } from 'ioredis5';
import { CHANNELS, ClaimRefusedError, LockManager, StoreUnavailableError } from 'leasehold';
import { type AnyRedisClient, type RedisOptions, redis } from 'leasehold/redis';
import { createClient } from 'redis';
import { createClient as createClient5 } from 'redis5';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { BREAK } from '../../dist/src/redis/scripts/break.js';
import { PROBE } from '../../dist/src/redis/scripts/probe.js';
import { STEP } from '../../dist/src/redis/scripts/step.js';
import { freePort, removeFolder, temporaryFolder, until } from '../servers/processes.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const KEY = 'order:7';
const HOST = '127.0.0.1';
/** A machine that stalls may use up the time of a claim before anything is known: it is made again. */
const WAIT = { timeout: 60_000 };

/** Every command that a script calls by its name. */
function commandsOf(lua: string): string[] {
  const calls = lua.matchAll(
    /\b(?:p?call|try)\(\s*(?:'([A-Z]+)'|[^']*?and '([A-Z]+)' or '([A-Z]+)')/g,
  );
  return [...new Set([...calls].flatMap(([, ...names]) => names.filter(Boolean) as string[]))];
}

interface Made {
  readonly from: AnyRedisClient;
  end(): void;
}

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function manager(from: string | AnyRedisClient, options: RedisOptions = {}): LockManager {
  const store = redis(from, { requestTimeoutMs: 2_000, ...options });
  const locks = new LockManager({ store, ttlMs: 600_000 });
  closers.push(() => locks.close());
  return locks;
}

/** A key goes from one process to another by a message, long before the ttl would do it. */
async function expectHandOver(
  server: RedisServer,
  managers: readonly LockManager[],
): Promise<void> {
  const [one, other] = managers as [LockManager, LockManager];
  const lease = await one.acquire(KEY);
  const next = other.acquire(KEY);
  await until('it waits', async () => {
    const answer = await server.command('INFO', 'keyspace');
    return /keys=[4-9]/.test(String(answer));
  });
  await lease.release();
  await (await next).release();
}

lane('TLS to a Redis server', TOOLS.openssl, () => {
  let folder: string;
  let server: RedisServer;
  let port: number;
  beforeAll(async () => {
    folder = temporaryFolder();
    await makeCertificates(folder);
    port = await freePort();
    server = await RedisServer.start([
      ...['--tls-port', String(port), '--tls-auth-clients', 'no'],
      ...['--tls-cert-file', `${folder}/server.crt`, '--tls-key-file', `${folder}/server.key`],
      ...['--tls-ca-cert-file', `${folder}/ca.crt`],
    ]);
  });
  afterAll(async () => {
    await server?.close();
    removeFolder(folder);
  });
  beforeEach(() => server.command('FLUSHALL'));

  const families: Record<string, (ca: string) => Promise<Made>> = {
    ioredis: async (ca) => own(new Redis(port, HOST, { tls: { ca } })),
    ioredis5: async (ca) => own(new Redis5(port, HOST, { tls: { ca } })),
    redis: async (ca) => {
      const client = createClient({ socket: { host: HOST, port, tls: true, ca } });
      await client.connect();
      return { from: client, end: () => client.destroy() };
    },
    redis5: async (ca) => {
      const client = createClient5({ socket: { host: HOST, port, tls: true, ca } });
      await client.connect();
      return { from: client, end: () => client.destroy() };
    },
  };

  test.each(Object.keys(families))('a client of %s that is handed in', async (family) => {
    const make = families[family] as (ca: string) => Promise<Made>;
    const clients = [await make(caOf(folder)), await make(caOf(folder))];
    for (const made of clients) closers.push(() => made.end());
    await expectHandOver(
      server,
      clients.map(({ from }) => manager(from)),
    );
  });

  test('a URL, with an authority of one’s own', async () => {
    const script = `
      import { LockManager } from 'leasehold';
      import { redis } from 'leasehold/redis';
      const make = () => new LockManager({ store: redis(process.argv[1]), ttlMs: 600_000 });
      const [one, other] = [make(), make()];
      const lease = await one.acquire('a');
      const next = other.acquire('a');
      setTimeout(() => lease.release(), 50);
      await (await next).release();
      await Promise.all([one.close(), other.close()]);
      console.log('done');`;
    const args = ['--input-type=module', '--eval', script, '--', `rediss://${HOST}:${port}`];
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: `${folder}/ca.crt` };
    const { stdout } = await run(process.execPath, args, { cwd: ROOT, env });
    expect(stdout).toBe('done\n');
  });

  test('an authority that is not known is named', async () => {
    const locks = manager(`rediss://${HOST}:${port}`);
    await vi.waitFor(async () => {
      const refused = locks.acquire(KEY, { waitMs: 1_000 });
      await expect(refused).rejects.toBeInstanceOf(StoreUnavailableError);
      await expect(refused).rejects.toMatchObject({
        cause: { message: expect.stringMatching(/certificate/) },
      });
    }, WAIT);
  });
});

function caOf(folder: string): string {
  return readFileSync(`${folder}/ca.crt`, 'utf8');
}

function own(client: {
  on(event: 'error', listen: () => void): unknown;
  disconnect(): void;
}): Made {
  client.on('error', () => {});
  return { from: client as unknown as AnyRedisClient, end: () => client.disconnect() };
}

async function makeCertificates(folder: string): Promise<void> {
  const openssl = (...args: string[]) => run('openssl', args, { cwd: folder });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await openssl(
    ...['req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '2'],
    ...['-subj', '/CN=authority of this test'],
  );
  await openssl(
    ...['req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=localhost'],
  );
  writeFileSync(join(folder, 'names'), `subjectAltName=IP:${HOST}\n`);
  await openssl(
    ...[
      'x509',
      '-req',
      '-in',
      'server.csr',
      '-CA',
      'ca.crt',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
    ],
    ...['-out', 'server.crt', '-days', '2', '-extfile', 'names'],
  );
}

lane('users of a Redis server', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  beforeAll(async () => {
    server = await RedisServer.start();
    client = server.client();
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });
  beforeEach(() => client.flushall());

  test('the probe tries every command that the scripts use', () => {
    const used = commandsOf(STEP.lua);
    expect(used.length).toBeGreaterThan(15);
    const tried = new Set([...commandsOf(PROBE.lua), 'PUBLISH', 'SPUBLISH']);
    expect(used.filter((command) => !tried.has(command))).toEqual([]);
    expect(commandsOf(BREAK.lua).filter((command) => !tried.has(command))).toEqual([]);
  });

  /** A user who may do all but that. */
  async function userWithout(command: string): Promise<string> {
    const rights = ['on', '>secret', '~lock:*', '~leasehold:*', '&leasehold:*', '+@all'];
    await client.call('ACL', 'SETUSER', `no-${command}`, ...rights, `-${command}`);
    return `redis://no-${command}:secret@${HOST}:${server.port}`;
  }

  const own = ['SUBSCRIBE', 'EVALSHA', 'EVAL', 'PUBLISH', 'PUBSUB'];
  const all = [...new Set([...commandsOf(STEP.lua), ...own])].filter((one) => one !== 'SPUBLISH');
  test.each(all)('without the right to %s, that right is named', async (command) => {
    const refused = manager(await userWithout(command.toLowerCase())).acquire(KEY);
    await expect(refused).rejects.toBeInstanceOf(ClaimRefusedError);
    await expect(refused).rejects.toThrow(new RegExp(`\\b${command}\\b.*grant it`));
  });

  test('without the right to WAIT, which minReplicas needs, that right is named', async () => {
    const from = await userWithout('wait');
    await (await manager(from).acquire(KEY)).release();
    const refused = manager(from, { minReplicas: 1 }).acquire(KEY);
    await expect(refused).rejects.toBeInstanceOf(ClaimRefusedError);
    await expect(refused).rejects.toThrow(/WAIT \(\+wait\)/);
  });

  const families: Record<string, (database: number) => Promise<Made>> = {
    ioredis: async (db) =>
      access(new Redis(server.port, HOST, { db, username: 'web', password: 'secret' })),
    ioredis5: async (db) =>
      access(new Redis5(server.port, HOST, { db, username: 'web', password: 'secret' })),
    redis: async (database) => {
      const made = createClient({ url: server.url, database, username: 'web', password: 'secret' });
      await made.connect();
      return { from: made, end: () => made.destroy() };
    },
    redis5: async (database) => {
      const made = createClient5({
        url: server.url,
        database,
        username: 'web',
        password: 'secret',
      });
      await made.connect();
      return { from: made, end: () => made.destroy() };
    },
  };
  const access = (made: Redis | Redis5): Made => ({
    from: made as unknown as AnyRedisClient,
    end: () => made.disconnect(),
  });

  describe.each(Object.keys(families))('a client of %s', (family) => {
    test('with a user, a password, a database and a prefix hands over', async () => {
      const rights = ['on', '>secret', '~app:*', '~leasehold:*', '&leasehold:*', '+@all'];
      await client.call('ACL', 'SETUSER', 'web', ...rights);
      const make = families[family] as (database: number) => Promise<Made>;
      const clients = [await make(5), await make(5)];
      for (const made of clients) closers.push(() => made.end());
      const managers = clients.map(({ from }) => manager(from, { prefix: 'app:' }));
      await expectHandOver(server, managers);
      const lease = await (managers[0] as LockManager).acquire(KEY);
      expect(String(await server.command('INFO', 'keyspace'))).toMatch(/db5:keys=2/);
      await client.select(5);
      expect((await client.keys('*')).sort()).toEqual([`app:${KEY}`, 'leasehold:epoch']);
      await client.select(0);
      await lease.release();
    });
  });

  test.each([
    ['no password', (port: number) => `redis://${HOST}:${port}`, /NOAUTH/],
    ['a wrong one', (port: number) => `redis://:wrong@${HOST}:${port}`, /WRONGPASS/],
  ])('%s is named', async (_, urlOf, message) => {
    await client.config('SET', 'requirepass', 'secret');
    try {
      const locks = manager(urlOf(server.port));
      await vi.waitFor(async () => {
        await expect(locks.acquire(KEY, { waitMs: 600 })).rejects.toMatchObject({
          cause: { message: expect.stringMatching(message) },
        });
      }, WAIT);
    } finally {
      await client.config('SET', 'requirepass', '');
    }
  });

  test('a server that loads its data is named, and waited for', async () => {
    const slow = await RedisServer.start();
    closers.push(() => slow.close());
    const locks = manager(slow.url);
    const lease = await locks.acquire(KEY);
    await slow.command('EVAL', "for i = 1, 200000 do redis.call('SET', 'data:' .. i, 'x') end", 0);
    await slow.kill();
    const causes: string[] = [];
    const note = (message: unknown) => causes.push((message as { cause: Error }).cause.message);
    subscribe(CHANNELS.storeError, note);
    closers.push(() => unsubscribe(CHANNELS.storeError, note));
    // Half a minute, unless it is told to hurry.
    await slow.startLoading(100);
    const next = locks.acquire('another', { waitMs: 60_000 });
    await until('it says so', () => causes.some((cause) => cause.startsWith('LOADING')));
    await slow.command('CONFIG', 'SET', 'key-load-delay', 0);
    await (await next).release();
    expect(lease.state).toBe('held');
    await lease.release();
  });
});
