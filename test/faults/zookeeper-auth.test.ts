/**
 * The secret of an identity is in the options, and in nothing that comes out: no error, no cause, no event, no warning, and not
 * in what a store or a manager shows of itself. On a real server, which knows the identity, refuses it, or is not there.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import { CHANNELS, type LeaseStore, LockManager, type LockManagerOptions } from 'leasehold';
import { type ZooKeeperOptions, zookeeper } from 'leasehold/zookeeper';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { freePort, until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { ZooKeeperServer } from '../servers/zookeeper.ts';

const SECRET = 'hunter2:p%/@ss';
const WRITTEN = encodeURIComponent(SECRET);
const ROOT = '/private/locks';
/** As it is, as it stands in a URL, a part of it, and as bytes are shown. */
const FORMS = [SECRET, WRITTEN, 'hunter2', Buffer.from('hunter2').toString('hex')].concat(
  Buffer.from('hunter2').toString('hex').match(/../g)?.join(' ') ?? [],
);

const digest = (credentials: string) => ({ scheme: 'digest', credentials });

lane('secrets of ZooKeeper', TOOLS.zookeeper, () => {
  let server: ZooKeeperServer;
  const seen: unknown[] = [];
  const note = (message: unknown): number => seen.push(message);
  const managers: LockManager[] = [];
  /** What was never answered is tried again for seconds. */
  const closing: Promise<void>[] = [];

  beforeAll(async () => {
    server = await ZooKeeperServer.start();
    const owner = manager(from({ auth: digest(`owner:${SECRET}`) }));
    await (await owner.acquire('key')).release();
  });
  afterAll(async () => {
    await Promise.all(closing);
    await server.close();
  });
  beforeEach(() => {
    for (const channel of Object.values(CHANNELS)) subscribe(channel, note);
    process.on('warning', note);
    process.on('unhandledRejection', note);
  });
  afterEach(() => {
    for (const locks of managers.splice(0)) closing.push(locks.close());
    for (const channel of Object.values(CHANNELS)) unsubscribe(channel, note);
    process.off('warning', note);
    process.off('unhandledRejection', note);
    expectNoSecret(seen.splice(0));
  });

  function from(options: Partial<ZooKeeperOptions>): LeaseStore {
    return zookeeper({ connect: server.address, root: ROOT, requestTimeoutMs: 10_000, ...options });
  }

  function manager(store: LeaseStore, options: Partial<LockManagerOptions> = {}): LockManager {
    const locks = new LockManager({ waitMs: 10_000, ttlMs: 10_000, ...options, store });
    managers.push(locks);
    return locks;
  }

  /** Of one attempt: what is not to be had would be tried for as long as there is to wait. */
  async function refusalOf(store: LeaseStore): Promise<unknown> {
    const locks = manager(store, { waitMs: 0 });
    const error: unknown = await locks.acquire('key').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(Error);
    for (const one of [error, store, locks]) expectNoSecret(one);
    return error;
  }

  test('an identity that is right, in a URL: its lease, its store, its manager, its loss', async () => {
    const proxy = await TcpProxy.start(server.port);
    const store = zookeeper(`zookeeper://owner:${WRITTEN}@127.0.0.1:${proxy.port}${ROOT}`);
    const locks = manager(store, { ttlMs: 1_000 });
    const lease = await locks.acquire('key');
    for (const one of [lease, store, locks]) expectNoSecret(one);
    proxy.refuse();
    proxy.cut();
    await until('it is lost', () => lease.signal.aborted);
    expectNoSecret(lease.signal.reason);
    await proxy.close();
    // Events of it: granted, lost, and that the store does not answer.
    expect(seen.length).toBeGreaterThan(1);
  });

  test('another password', async () => {
    const error = await refusalOf(from({ auth: digest(`owner:${SECRET}${SECRET}`) }));
    expect(error).toMatchObject({ code: 'CLAIM_REFUSED' });
  });

  test('a scheme that the server does not know', async () => {
    const error = await refusalOf(from({ auth: { scheme: 'wrong', credentials: SECRET } }));
    expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE' });
    expect((error as Error).cause).toMatchObject({ message: expect.stringMatching(/option auth/) });
  });

  test('a server that is not there', async () => {
    const connect = `127.0.0.1:${await freePort()}`;
    const auth = digest(`owner:${SECRET}`);
    const error = await refusalOf(from({ connect, auth, requestTimeoutMs: 300 }));
    expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });
});

test.each([
  'zookeeper://owner:hunter2/x@h:2181/locks',
  'zookeeper://owner:hunter2@x@h:2181/locks',
  'zookeeper://owner:12/hunter2@h',
  'zookeeper://owner:hunter2@h:2181?locks',
  'zookeeper://owner:hunter2@h h',
  'http://owner:hunter2@h',
  'owner:hunter2@h:2181',
])('what is no URL is refused without being repeated', (url) => {
  for (const make of [() => zookeeper(url), () => zookeeper({ connect: url })]) {
    let error: unknown;
    try {
      make();
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expectNoSecret(error);
  }
});

/** Everything that can be seen of a value: its properties, hidden ones too, and its causes. */
function expectNoSecret(value: unknown): void {
  const text = inspect(value, {
    depth: 12,
    showHidden: true,
    getters: true,
    maxStringLength: null,
  });
  for (const form of FORMS) expect(text).not.toContain(form);
}
