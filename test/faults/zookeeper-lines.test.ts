/**
 * Lines that are removed and made anew, and a lock that is taken without a look at its line: it must
 * be the first in it whenever that is said.
 */
import { type Claim, type LeaseStore, SHARED_CAPACITY } from 'leasehold';
import { SeededRandom } from 'leasehold/testing';
import { zookeeper } from 'leasehold/zookeeper';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TcpProxy } from '../servers/proxy.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { ZooKeeperServer } from '../servers/zookeeper.ts';
import { type NodeClient, nodeClient } from '../servers/zookeeper-client.ts';

const CREATE2 = 15;
const DELETE = 2;
const GET_CHILDREN2 = 12;
const CONTAINER = 4;
const STEPS = 600;
const SEED = 20_261_125;

lane('lines of ZooKeeper', TOOLS.zookeeper, () => {
  let server: ZooKeeperServer;
  let looker: NodeClient;
  const closers: (() => unknown)[] = [];
  let owners = 0;

  beforeAll(async () => {
    // Lines are removed by the tests alone.
    server = await ZooKeeperServer.start({ containerCheckMs: 3_600_000 });
    looker = await nodeClient(server.address);
  });
  afterAll(async () => {
    for (const close of closers.reverse()) await close();
    looker.close();
    await server.close();
  });

  async function open(connect = server.address): Promise<LeaseStore> {
    const store = zookeeper({ connect, requestTimeoutMs: 60_000 });
    await store.open(() => {});
    closers.push(() => store.close());
    return store;
  }

  function claimOf(key: string, wait = true): Claim {
    owners += 1;
    const owner = `host:1:${owners}`;
    return { key, owner, units: SHARED_CAPACITY, capacity: SHARED_CAPACITY, ttlMs: 60_000, wait };
  }

  async function useAlone(store: LeaseStore, key: string, times: number): Promise<void> {
    for (let time = 0; time < times; time += 1) {
      const claim = claimOf(key);
      expect(await store.claim(claim)).toMatchObject({ is: 'granted' });
      await store.drop(claim);
    }
  }

  /** Makes the line anew, with so many who stand in it, by as few transactions as can be. */
  async function makeAnew(line: string, arrivals: number): Promise<void> {
    await looker.remove(line);
    await make(line);
    for (let arrival = 0; arrival < arrivals; arrival += 1) {
      const { owner, units, capacity } = claimOf('');
      await looker.enter(`${line}/${owner}-${units}-${capacity}-`);
    }
  }

  async function make(line: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      looker.client.create(line, Buffer.alloc(0), CONTAINER, (error) =>
        error ? reject(error) : resolve(),
      );
    });
  }

  test('a key that one process uses alone costs a creation and a deletion, and no look', async () => {
    const proxy = await TcpProxy.start(server.port);
    closers.push(() => proxy.close());
    const store = await open(`127.0.0.1:${proxy.port}`);
    // As many arrivals as other clients may do transactions meanwhile.
    await useAlone(store, 'alone', 50);
    const counts = new Map<number, number>();
    void proxy.loseReply((bytes) => {
      for (const type of requestTypes(bytes)) counts.set(type, (counts.get(type) ?? 0) + 1);
      return false;
    });
    await useAlone(store, 'alone', 20);
    expect(counts.get(CREATE2)).toBe(20);
    expect(counts.get(DELETE)).toBe(20);
    expect(counts.get(GET_CHILDREN2)).toBeUndefined();
  });

  test.each([1, 2, 3, 10])(
    'after %i uses alone, a line that was made anew and counts on hides nobody',
    async (uses) => {
      const store = await open();
      const key = `anew-${uses}`;
      await useAlone(store, key, uses);
      // The next arrival has the number that it would have in the old line.
      await makeAnew(`/leasehold/${key}`, uses);
      const outcome = await store.claim(claimOf(key));
      expect(outcome).toMatchObject({ is: 'waiting', ahead: uses - 1 });
    },
  );

  test('whoever is granted a key is the first in its line, whatever others do', async () => {
    const stores = await Promise.all([open(), open(), open()]);
    const random = new SeededRandom(SEED);
    const keys = ['a', 'b'];
    const claims = new Map<string, { claim: Claim; store: LeaseStore }[]>(keys.map((k) => [k, []]));
    const seen = { granted: 0, waiting: 0, removed: 0 };
    for (let step = 0; step < STEPS; step += 1) {
      const key = random.pick(keys);
      const line = `/leasehold/${key}`;
      const here = claims.get(key) as { claim: Claim; store: LeaseStore }[];
      const what = random.next();
      if (what < 0.55) {
        // Often the same one again, so that some are known to be the first without a look.
        const store = random.chance(0.7) ? (stores[0] as LeaseStore) : random.pick(stores);
        const claim = claimOf(key, random.chance(0.5));
        const { is } = await store.claim(claim);
        const names = (await looker.children(line)).sort(byArrival);
        const isFirst = names[0]?.startsWith(claim.owner) ?? false;
        expect(is === 'granted', `step ${step}: ${is} in ${names}`).toBe(isFirst);
        if (is === 'granted') seen.granted += 1;
        if (is === 'waiting') seen.waiting += 1;
        if (is !== 'taken') here.push({ claim, store });
      } else if (what < 0.95) {
        const [gone] = here.splice(random.whole(0, here.length - 1), 1);
        await gone?.store.drop(gone.claim);
      } else if (here.length === 0) {
        seen.removed += 1;
        await looker.remove(line).catch(() => {});
      }
    }
    expect(Math.min(seen.granted, seen.waiting, seen.removed)).toBeGreaterThan(0);
  });
});

/** Of the frames in what a client sends: their length, a number, and the type. */
function requestTypes(bytes: Buffer): number[] {
  const types: number[] = [];
  for (let at = 0; at + 12 <= bytes.length; at += 4 + bytes.readInt32BE(at)) {
    types.push(bytes.readInt32BE(at + 8));
  }
  return types;
}

function byArrival(a: string, b: string): number {
  return Number(a.slice(-10)) - Number(b.slice(-10));
}
