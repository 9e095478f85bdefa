/**
 * Five hundred that wait for one key: how many of them a release wakes, as the server counts it, and what is left when they all die.
 */
import { type Claim, type LeaseStore, SHARED_CAPACITY, type StoreEvent } from 'leasehold';
import { zookeeper } from 'leasehold/zookeeper';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { ZooKeeperServer } from '../servers/zookeeper.ts';
import { nodeClient } from '../servers/zookeeper-client.ts';

const STORES = 5;
const WAITERS_A_STORE = 100;
const WATCHES = ['deleted', 'children', 'created', 'changed'];

lane('a herd on ZooKeeper', TOOLS.zookeeper, () => {
  let server: ZooKeeperServer;
  let proxy: TcpProxy;
  const stores: LeaseStore[] = [];
  const granted: string[] = [];

  beforeAll(async () => {
    server = await ZooKeeperServer.start();
    proxy = await TcpProxy.start(server.port);
  });
  afterAll(async () => {
    proxy.forward();
    for (const store of stores) await store.close();
    await proxy.close();
    await server.close();
  });

  async function open(connect: string): Promise<LeaseStore> {
    const store = zookeeper({ connect, requestTimeoutMs: 60_000 });
    await store.open((event: StoreEvent) => {
      if (event.is === 'granted') granted.push(event.owner);
    });
    stores.push(store);
    return store;
  }

  function claimOf(key: string, owner: string, ttlMs = 120_000): Claim {
    const capacity = SHARED_CAPACITY;
    return { key, owner, units: capacity, capacity, ttlMs, wait: true };
  }

  /** Watches that the server has fired until now. */
  async function fired(): Promise<number[]> {
    const sums = WATCHES.map((what) => server.metric(`zk_sum_node_${what}_watch_count`));
    return Promise.all(sums);
  }

  async function queue(key: string, ttlMs: number, connect: string): Promise<Claim[]> {
    const claims: Claim[] = [];
    for (let index = 0; index < STORES; index += 1) {
      const store = await open(connect);
      const own = Array.from({ length: WAITERS_A_STORE }, (_, at) =>
        claimOf(key, `herd:${index}:${at}`, ttlMs),
      );
      const outcomes = await Promise.all(own.map((claim) => store.claim(claim)));
      expect(outcomes.every(({ is }) => is === 'waiting')).toBe(true);
      claims.push(...own);
    }
    return claims;
  }

  test('a release fires one watch and wakes the next in line alone', async () => {
    const key = 'herd';
    const holder = await open(server.address);
    const held = claimOf(key, 'holder:1:nonce');
    await holder.claim(held);
    const claims = await queue(key, 120_000, server.address);
    // Each of them watches the one before it, and the holder has been told already: nobody watches the line.
    await until('the holder knows', async () => {
      const [outcome] = await holder.renew([held]);
      return outcome?.is === 'held' && outcome.wanted;
    });
    await until('each has its watch', async () => {
      return (await server.metric('zk_watch_count')) === claims.length;
    });
    const before = await fired();
    for (let release = 0; release < 3; release += 1) {
      const current = release === 0 ? held : (claims[release - 1] as Claim);
      const store = release === 0 ? holder : (stores[1] as LeaseStore);
      expect((await store.drop(current)).held).toBe(true);
      const next = claims[release] as Claim;
      await until('the next is granted', () => granted.includes(next.owner));
      const now = await fired();
      expect(now.map((sum, index) => sum - (before[index] as number))).toEqual([
        release + 1,
        0,
        0,
        0,
      ]);
      expect(granted).toEqual(claims.slice(0, release + 1).map(({ owner }) => owner));
    }
  });

  test('when all of them die at once, who comes after them is served', async () => {
    const key = 'doomed';
    granted.length = 0;
    const holder = await open(server.address);
    const held = claimOf(key, 'holder:1:nonce');
    await holder.claim(held);
    await queue(key, 1_000, `127.0.0.1:${proxy.port}`);
    const last = await open(server.address);
    const behind = claimOf(key, 'last:1:nonce');
    expect(await last.claim(behind)).toMatchObject({ is: 'waiting' });
    // None of their processes is heard of again.
    proxy.blackhole();
    await holder.drop(held);
    await until('the last is granted', () => granted.includes(behind.owner));
    const looker = await nodeClient(server.address);
    expect(await looker.children(`/leasehold/${key}`)).toHaveLength(1);
    looker.close();
  });
});
