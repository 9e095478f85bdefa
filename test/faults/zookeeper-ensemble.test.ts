/**
 * What happens to locks on an ensemble of three: the leader dies or is cut off, a follower is cut off, the majority is lost.
 *
 * Counters under a lock go on all the time. Each count is made by whoever has the lease, and judged from outside: no two leases may be
 * believed in at once, and tokens never fall.
 */
import { setTimeout } from 'node:timers/promises';
import { type Lease, LockManager, type LockManagerOptions, StoreUnavailableError } from 'leasehold';
import { zookeeper } from 'leasehold/zookeeper';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { ZooKeeperEnsemble, type ZooKeeperServer } from '../servers/zookeeper.ts';

const TTL_MS = 1_500;
const PAUSE_MS = 5;

lane('an ensemble of three ZooKeeper servers', TOOLS.zookeeper, () => {
  let ensemble: ZooKeeperEnsemble;
  const closers: (() => unknown)[] = [];
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);

  beforeAll(async () => {
    ensemble = await ZooKeeperEnsemble.start();
  });
  afterAll(() => ensemble.close());
  beforeEach(() => {
    process.on('unhandledRejection', note);
    process.on('uncaughtExceptionMonitor', note);
  });
  afterEach(async () => {
    await ensemble.heal();
    for (const close of closers.splice(0).reverse()) await close();
    process.off('unhandledRejection', note);
    process.off('uncaughtExceptionMonitor', note);
    expect(unhandled.splice(0)).toEqual([]);
  });

  function manager(
    connect: string = ensemble.connect,
    options: Partial<LockManagerOptions> = {},
  ): LockManager {
    const store = zookeeper({ connect, requestTimeoutMs: 1_000 });
    const locks = new LockManager({ ttlMs: TTL_MS, waitMs: 60_000, ...options, store });
    closers.push(() => locks.close());
    return locks;
  }

  /** Three processes that count under one lock until they are stopped. */
  function startCounting(key: string) {
    const state = { counts: 0, token: 0n, lost: 0, isOver: false };
    let current: Lease | null = null;
    const isHeld = (lease: Lease): boolean => lease.state === 'held' || lease.state === 'jeopardy';
    const work = async (locks: LockManager): Promise<void> => {
      while (!state.isOver) {
        try {
          await locks.withLock(key, async (lease) => {
            expect(current !== null && isHeld(current), 'two believe in their leases').toBe(false);
            expect(lease.token).toBeGreaterThan(state.token);
            current = lease;
            state.token = lease.token;
            await setTimeout(PAUSE_MS);
            lease.assertHeld();
            state.counts += 1;
            current = null;
          });
        } catch (error) {
          const { code } = error as { code?: unknown };
          if (code !== 'LEASE_LOST' && !(error instanceof StoreUnavailableError)) throw error;
          state.lost += 1;
        }
      }
    };
    const workers = Promise.all([manager(), manager(), manager()].map(work));
    workers.catch(() => {});
    const progress = async (what: string): Promise<void> => {
      const from = state.counts;
      await Promise.race([until(`${what}: they count`, () => state.counts > from + 20), workers]);
    };
    const stop = async (): Promise<void> => {
      state.isOver = true;
      await workers;
    };
    closers.push(stop);
    return { state, progress, stop };
  }

  test.each(['killed', 'cut off'])('the leader is %s', async (how) => {
    const counting = startCounting(`leader-${how}`);
    await counting.progress('before');
    const leader = await ensemble.leader();
    if (how === 'killed') await leader.kill();
    else ensemble.isolate(leader);
    const [first, second] = ensemble.servers.filter((server) => server !== leader);
    await ensemble.leader([first, second] as ZooKeeperServer[]);
    await counting.progress('without the old leader');
    await ensemble.heal();
    await counting.progress('with the old leader');
    await counting.stop();
  });

  test('a follower that is cut off confirms nothing, although it answers', async () => {
    const follower = await ensemble.follower();
    const others = ensemble.servers.filter((server) => server !== follower);
    // Its client knows no other server.
    const [cut, elsewhere] = [manager(follower.address), manager(connectTo(others))];
    const lost = await cut.acquire('partition');
    const waiting = elsewhere.acquire('partition');
    let wasHeld: boolean | undefined;
    waiting.then(
      () => {
        wasHeld = lost.remainingMs() > 0;
      },
      () => {},
    );
    ensemble.isolate(follower);
    await until('it is in jeopardy, or lost', () => lost.state !== 'held');
    // Not yet found out: it answers its clients, and their signs of life.
    expect(await follower.command('srvr')).toContain('Mode: follower');
    const next = await waiting;
    expect(wasHeld).toBe(false);
    expect(lost.state).toBe('lost');
    await ensemble.heal();
    const back = cut.acquire('partition');
    await next.release();
    expect((await back).token).toBeGreaterThan(next.token);
    await (await back).release();
  });

  test('without a majority nobody gets a key, and with it the work goes on', async () => {
    const counting = startCounting('quorum');
    await counting.progress('before');
    const lease = await manager().acquire('held');
    const [first, second] = ensemble.servers;
    await Promise.all([first?.kill(), second?.kill()]);
    await until('leases have ended', () => lease.signal.aborted);
    const { counts } = counting.state;
    const busy = manager().acquire('quorum', { waitMs: 2 * TTL_MS });
    await expect(busy).rejects.toBeInstanceOf(StoreUnavailableError);
    expect(counting.state.counts).toBe(counts);
    await ensemble.heal();
    await counting.progress('afterwards');
    await counting.stop();
  });
});

function connectTo(servers: readonly ZooKeeperServer[]): string {
  return servers.map(({ address }) => address).join(',');
}
