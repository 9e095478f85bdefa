/**
 * What one ZooKeeper server, and the way to it, do to locks: connections that are cut or silent, replies that are lost, sessions that
 * end, and what is left behind.
 */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import {
  ClaimRefusedError,
  type Lease,
  LeaseLostError,
  LockManager,
  type LockManagerOptions,
  SHARED_CAPACITY,
} from 'leasehold';
import { type ZooKeeperOptions, zookeeper } from 'leasehold/zookeeper';
import client from 'node-zookeeper-client';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { ZooKeeperServer } from '../servers/zookeeper.ts';
import { nodeClient } from '../servers/zookeeper-client.ts';

const TTL_MS = 1_500;

lane('one ZooKeeper server', TOOLS.zookeeper, () => {
  let server: ZooKeeperServer;
  let proxy: TcpProxy;
  let tests = 0;
  let key = '';
  let line = '';
  const closers: (() => unknown)[] = [];
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);

  beforeAll(async () => {
    server = await ZooKeeperServer.start();
    proxy = await TcpProxy.start(server.port);
  });
  afterAll(async () => {
    await proxy.close();
    await server.close();
  });
  beforeEach(() => {
    process.on('unhandledRejection', note);
    process.on('uncaughtExceptionMonitor', note);
    tests += 1;
    key = `order:${tests}`;
    line = `/leasehold/${key}`;
  });
  afterEach(async () => {
    proxy.forward();
    for (const close of closers.splice(0).reverse()) await close();
    process.off('unhandledRejection', note);
    process.off('uncaughtExceptionMonitor', note);
    expect(unhandled.splice(0)).toEqual([]);
  });

  const byProxy = () => `127.0.0.1:${proxy.port}`;

  function manager(
    options: Partial<LockManagerOptions> = {},
    storeOptions: Partial<ZooKeeperOptions> = {},
  ): LockManager {
    const store = zookeeper({ connect: server.address, requestTimeoutMs: 500, ...storeOptions });
    const locks = new LockManager({ ttlMs: TTL_MS, ...options, store });
    closers.push(() => locks.close());
    return locks;
  }

  async function look() {
    const looker = await nodeClient(server.address);
    closers.push(() => looker.close());
    return looker;
  }

  describe('connections', () => {
    test('a lease goes on when its connection is cut and made again', async () => {
      const locks = manager({ ttlMs: 10_000 }, { connect: byProxy() });
      const looker = await look();
      const lease = await locks.acquire(key);
      const [node] = await looker.children(line);
      const endsAtMs = (): number => performance.now() + lease.remainingMs();
      for (let cuts = 0; cuts < 100; cuts += 1) {
        const [before, endedAtMs] = [proxy.connections, endsAtMs()];
        proxy.cut();
        await until('it is connected again', () => proxy.connections > before && proxy.open > 0);
        await until('it is renewed', () => endsAtMs() > endedAtMs + 1);
      }
      lease.assertHeld();
      expect(await looker.children(line)).toEqual([node]);
      await lease.release();
      expect(await looker.children(line)).toEqual([]);
    });

    test('a waiter is served although its connection was cut while the key became free', async () => {
      const holder = manager({ ttlMs: 60_000 });
      const waiter = manager({ ttlMs: 60_000 }, { connect: byProxy() });
      const looker = await look();
      const lease = await holder.acquire(key);
      const waiting = waiter.acquire(key);
      await until('it waits', async () => (await looker.children(line)).length === 2);
      proxy.refuse();
      await lease.release();
      proxy.forward();
      await (await waiting).release();
    });

    test('a client that is cut off loses its lease before another has it, and comes back', async () => {
      // Long enough for each of its states to be seen.
      const [cut, other] = [manager({ ttlMs: 6_000 }, { connect: byProxy() }), manager()];
      const lost = await cut.acquire(key);
      const states = new Set<string>();
      const waiting = other.acquire(key);
      proxy.blackhole();
      let next: Lease | undefined;
      waiting.then(
        (lease) => {
          // In the same turn in which it is granted.
          states.add(`${lost.state} when the next has it`);
          next = lease;
        },
        () => {},
      );
      await until('it is granted', () => {
        states.add(lost.state);
        return next !== undefined;
      });
      expect([...states]).toEqual(['held', 'jeopardy', 'lost', 'lost when the next has it']);
      expect(() => lost.assertHeld()).toThrow(LeaseLostError);
      proxy.forward();
      const again = cut.acquire(key);
      await next?.release();
      expect((await again).token).toBeGreaterThan(next?.token as bigint);
      await (await again).release();
    });

    test('a server that hangs and goes on', async () => {
      const [a, b] = [manager(), manager()];
      const lost = await a.acquire(key);
      const waiting = b.acquire(key);
      server.pause();
      await until('the lease is lost', () => lost.signal.aborted);
      server.resume();
      const next = await waiting;
      expect(next.token).toBeGreaterThan(lost.token);
      await next.release();
    });
  });

  describe('sessions', () => {
    test('one that has ended is lost at once, not at the deadline', async () => {
      const tap = await tapOn(server.port);
      closers.push(() => tap.server.close());
      const locks = manager({ ttlMs: 120_000 }, { connect: `127.0.0.1:${tap.port}` });
      const lease = await locks.acquire(key);
      const waiting = manager({ ttlMs: 120_000 }).acquire(key);
      // The store asked what the shortest session is, with the first of these.
      const [, session] = tap.sessions;
      const thief = client.createClient(server.address, session as object);
      thief.once('connected', () => thief.close());
      thief.connect();
      await until('the lease is lost', () => lease.signal.aborted);
      expect(lease.signal.reason).toMatchObject({ code: 'LEASE_LOST', reason: 'taken-away' });
      await (await waiting).release();
      await (await locks.acquire(key)).release();
    });

    test('a waiter whose session has ended stands in line again', async () => {
      const [cut, holder] = [manager({}, { connect: byProxy() }), manager({ ttlMs: 60_000 })];
      const looker = await look();
      const lease = await holder.acquire(key);
      const waiting = cut.acquire(key);
      await until('it waits', async () => (await looker.children(line)).length === 2);
      const [, first] = (await looker.children(line)).sort(byArrival);
      proxy.blackhole();
      await until('its session is over', async () => (await looker.children(line)).length === 1);
      proxy.forward();
      await until('it waits again', async () => (await looker.children(line)).length === 2);
      expect(await looker.children(line)).not.toContain(first);
      await lease.release();
      await (await waiting).release();
    });

    test('a node of another session is not taken for the own, whatever its name', async () => {
      const store = zookeeper({ connect: byProxy(), requestTimeoutMs: 500 });
      await store.open(() => {});
      closers.push(() => store.close());
      const claim = {
        key: key,
        owner: 'web-3:4121:nonce',
        units: SHARED_CAPACITY,
        capacity: SHARED_CAPACITY,
        ttlMs: 60_000,
        wait: true,
      };
      // The line and the session are there, and the next creation is lost on its way.
      await claimed(() => store.claim(claim));
      const dying = await look();
      await dying.enter(`${line}/something-else`);
      await claimed(() => store.drop(claim));
      proxy.blackhole('requests');
      await expect(store.claim(claim)).rejects.toThrow();
      proxy.refuse();
      const path = await dying.enter(`${line}/${claim.owner}-${claim.units}-${claim.capacity}-`);
      proxy.forward();
      const waiting = await claimed(() => store.claim(claim));
      expect(waiting).toMatchObject({ is: 'waiting', ahead: 0 });
      expect(await dying.children(line)).toHaveLength(3);
      await dying.remove(path);
      await until('it is granted', async () => (await store.claim(claim)).is === 'granted');
    });

    test('a claim that comes while its node is being removed stands in line again', async () => {
      const patient = { requestTimeoutMs: 60_000, sessionTimeoutMs: 60_000 };
      const store = zookeeper({ connect: byProxy(), ...patient });
      await store.open(() => {});
      closers.push(() => store.close());
      const [units, capacity] = [SHARED_CAPACITY, SHARED_CAPACITY];
      const claim = { key, owner: 'host:1:x', units, capacity, ttlMs: 500, wait: true };
      const claiming = store.claim(claim);
      // Nobody says that it is wanted: the store removes it by its ttl, and the request is on its way.
      const removing = claiming.then(() => {
        proxy.blackhole('requests');
        return new Promise<void>((asked) => {
          void proxy.loseReply((bytes) => {
            if (bytes.includes(`${line}/`)) asked();
            return false;
          });
        });
      });
      const first = await claiming;
      if (first.is !== 'granted') throw new Error(first.is);
      await removing;
      const again = store.claim(claim);
      proxy.forward();
      const second = await again;
      if (second.is !== 'granted') throw new Error(second.is);
      expect(second.epoch).toBeGreaterThan(first.epoch);
    });

    test('a ttl that the servers will not grant is refused with their bounds', async () => {
      const locks = manager();
      const isRefused = expect.objectContaining({ code: 'CLAIM_REFUSED', reason: 'unsupported' });
      const tooLong = locks.acquire(key, { ttlMs: 200_000 });
      await expect(tooLong).rejects.toEqual(isRefused);
      await expect(tooLong).rejects.toThrow(/sessions of 400 to 200000 ms.*use at most 199600/);
      const fixed = manager({}, { sessionTimeoutMs: 5_000 });
      await (await fixed.acquire(key, { ttlMs: 4_600 })).release();
      await expect(fixed.acquire(key, { ttlMs: 4_601 })).rejects.toBeInstanceOf(ClaimRefusedError);
      expect((await locks.acquire(key)).remainingMs()).toBeLessThanOrEqual(TTL_MS);
    });

    test('a claim that comes while its lost node is looked for stands in line once', async () => {
      const store = zookeeper({ connect: byProxy(), requestTimeoutMs: 10_000 });
      await store.open(() => {});
      closers.push(() => store.close());
      const shared = { key, units: SHARED_CAPACITY, capacity: SHARED_CAPACITY };
      const claimOf = (owner: string) => ({ ...shared, owner, ttlMs: 60_000, wait: true });
      // The session and the line are there, and the next creation is lost on its way.
      await store.claim(claimOf('host:1:a'));
      const claim = claimOf('host:1:b');
      proxy.blackhole('requests');
      const lost = store.claim(claim).catch((error: unknown) => error);
      proxy.refuse();
      expect(await lost).toBeInstanceOf(Error);
      // Both wait for a connection.
      const dropping = store.drop(claim);
      const claiming = store.claim(claim);
      proxy.forward();
      expect(await dropping).toEqual({ held: false, next: null });
      expect(await claiming).toMatchObject({ is: 'waiting' });
      expect(await store.claim(claim)).toMatchObject({ is: 'waiting' });
      const nodes = await (await look()).children(line);
      expect(nodes.filter((name) => name.startsWith(claim.owner))).toHaveLength(1);
    });

    test('nothing stays connected after close', async () => {
      const before = await server.metric('zk_num_alive_connections');
      const sessions = await server.metric('zk_global_sessions');
      const locks = manager();
      for (const ttlMs of [1_000, 10_000, 60_000]) {
        await (await locks.acquire(key, { ttlMs })).release();
      }
      await locks.close();
      await until('all sessions are over', async () => {
        const now = await server.metric('zk_global_sessions');
        return now <= sessions && (await server.metric('zk_num_alive_connections')) <= before;
      });
    });
  });

  describe('lost replies', () => {
    /** Its replies are lost by a cut, and not because it has waited for long enough. */
    const byLosses = (): LockManager =>
      manager({ ttlMs: 60_000 }, { connect: byProxy(), requestTimeoutMs: 20_000 });

    test('a creation whose reply was lost is found again, once', async () => {
      const locks = byLosses();
      const looker = await look();
      // The session and the line are there already.
      await (await locks.acquire(key)).release();
      const lost = proxy.loseReply((bytes) => bytes.includes(`${line}/`));
      const lease = await locks.acquire(key);
      await lost;
      const nodes = await looker.children(line);
      expect(nodes).toHaveLength(1);
      const stat = await looker.stat(`${line}/${nodes[0]}`);
      expect(lease.token / 4_096n).toBe(stat?.czxid.readBigInt64BE());
      await lease.release();
      expect(await looker.children(line)).toEqual([]);
    });

    test('a waiter whose reply was lost stands in line once, in its place', async () => {
      const [holder, late] = [manager({ ttlMs: 60_000 }), manager({ ttlMs: 60_000 })];
      const unlucky = byLosses();
      const looker = await look();
      await (await unlucky.acquire(key)).release();
      const lease = await holder.acquire(key);
      const lost = proxy.loseReply((bytes) => bytes.includes(`${line}/`));
      const first = unlucky.acquire(key);
      await lost;
      const last = late.acquire(key);
      await until('both wait', async () => (await looker.children(line)).length === 3);
      await lease.release();
      const served = await first;
      await served.release();
      expect((await last).token).toBeGreaterThan(served.token);
      await (await last).release();
    });

    test('a release whose reply was lost has freed the key', async () => {
      const [unlucky, other] = [byLosses(), manager()];
      const lease = await unlucky.acquire(key);
      const lost = proxy.loseReply((bytes) => bytes.includes(`${line}/`));
      const released = lease.release();
      await lost;
      await (await other.acquire(key)).release();
      await released;
    });
  });

  test('a server that has lost its data: the lease ends, and the store begins anew', async () => {
    const own = await ZooKeeperServer.start();
    closers.push(() => own.close());
    const locks = manager({}, { connect: own.address });
    const lease = await locks.acquire(key);
    await own.kill();
    rmSync(`${own.folder}/data`, { recursive: true });
    own.startAgain();
    await until('the lease is lost', () => lease.signal.aborted);
    await (await locks.acquire(key)).release();
  });

  test('a server that grants less than before: what its sessions do not outlive ends at once', async () => {
    const own = await ZooKeeperServer.start();
    closers.push(() => own.close());
    const looker = await nodeClient(own.address);
    closers.push(() => looker.close());
    const [holder, waiter] = [1, 2].map(() =>
      manager({ waitMs: 60_000 }, { connect: own.address }),
    );
    if (!holder || !waiter) throw new Error('two managers');
    const long = await holder.acquire(key, { ttlMs: 20_000 });
    // On the same session, which is longer than it needs, and on one of its own.
    const half = await holder.acquire('half', { ttlMs: 15_000 });
    const short = await holder.acquire('short', { ttlMs: 8_000 });
    const waiting = waiter.acquire(key, { ttlMs: 20_000 });
    waiting.catch(() => {});
    await until('it waits', async () => (await looker.children(line)).length === 2);
    await own.stop();
    own.startAgain({ maxSessionTimeout: 9_000 });
    await until('the long lease is lost', () => long.signal.aborted);
    await until('the other one is lost', () => half.signal.aborted);
    await expect(waiting).rejects.toThrow(/sessions of 400 to 9000 ms.*use at most 8600/);
    await until('none of their nodes is left', async () => {
      return (await looker.children(line)).length === 0;
    });
    await (await waiter.acquire(key, { ttlMs: 8_600 })).release();
    short.assertHeld();
    await short.release();
  });

  describe('what is left behind', () => {
    test('an empty line is removed, and tokens go on', async () => {
      const locks = manager();
      const looker = await look();
      let last = 0n;
      for (let round = 0; round < 3; round += 1) {
        const lease = await locks.acquire(key);
        expect(lease.token).toBeGreaterThan(last);
        last = lease.token;
        await lease.release();
        await until('the line is gone', async () => !(await looker.exists(line)));
      }
      expect(await looker.exists('/leasehold')).toBe(true);
    });

    test('an identity keeps its nodes to itself', async () => {
      const root = '/private/locks';
      const owner = manager({}, { root, auth: { scheme: 'digest', credentials: 'web:secret' } });
      const lease = await owner.acquire(key);
      const refused = manager({}, { root }).acquire('another');
      await expect(refused).rejects.toThrow(/may not make nodes below \/private\/locks/);
      await lease.release();
      const url = `zookeeper://web:secret@${server.address}${root}`;
      const same = new LockManager({ store: zookeeper(url) });
      await (await same.acquire('another')).release();
      await same.close();
    });
  });
});

/** A way to the server that notes which sessions it grants. */
async function tapOn(port: number) {
  const sessions: { sessionId: Buffer; sessionPassword: Buffer }[] = [];
  const tap = createServer((socket) => {
    const onward = connect(port, '127.0.0.1');
    for (const end of [socket, onward]) end.on('error', () => {});
    // Length, version and time-out come first, and the length of the password is before it.
    onward.once('data', (bytes: Buffer) => {
      const [sessionId, sessionPassword] = [bytes.subarray(12, 20), bytes.subarray(24, 40)];
      sessions.push({ sessionId, sessionPassword });
    });
    socket.pipe(onward).pipe(socket);
  });
  tap.listen(0, '127.0.0.1');
  await once(tap, 'listening');
  return { sessions, server: tap, port: (tap.address() as AddressInfo).port };
}

function byArrival(a: string, b: string): number {
  return Number(a.slice(-10)) - Number(b.slice(-10));
}

/** Again, until it is answered. */
async function claimed<Outcome>(claim: () => Promise<Outcome>): Promise<Outcome> {
  let outcome: Outcome | undefined;
  await until('the claim is answered', async () => {
    outcome = await claim();
    return true;
  });
  return outcome as Outcome;
}
