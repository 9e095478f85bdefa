import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { LockManager } from 'leasehold';
import { memory } from 'leasehold/memory';
import { SeededRandom, SimulatedClock, Timeline } from 'leasehold/testing';
import { describe, expect, it } from 'vitest';
import { Bench, granted, waiting } from './core-bench.ts';

const PERMIT = { limit: 2 };

function virtual(): { timeline: Timeline; clock: SimulatedClock; locks: LockManager } {
  const timeline = new Timeline(new SeededRandom(1));
  const clock = new SimulatedClock({ timeline });
  return { timeline, clock, locks: new LockManager({ store: memory(), clock }) };
}

describe('a single attempt', () => {
  it('is answered at once, although another caller waits for a permit', async () => {
    const bench = new Bench();
    const waits = bench.locks.acquire('k', PERMIT);
    const refused = expect(waits).rejects.toMatchObject({ code: 'MANAGER_CLOSED' });
    await (await bench.next('open')).answer(undefined);
    await (await bench.next('claim')).answer(waiting(5n, 60_000));
    const tried = bench.locks.tryAcquire('k', PERMIT);
    await (await bench.next('claim')).answer({ is: 'taken', holder: null });
    expect(bench.unanswered).toEqual([]);
    expect(await tried).toBe(null);
    expect(bench.locks.usage.waiting).toBe(1);
    void bench.locks.close();
    await refused;
  });

  it('whose claim is not answered says so, although another caller waits for a permit', async () => {
    const bench = new Bench();
    const waits = bench.locks.acquire('k', PERMIT);
    const refused = expect(waits).rejects.toMatchObject({ code: 'MANAGER_CLOSED' });
    await (await bench.next('open')).answer(undefined);
    await (await bench.next('claim')).answer(waiting(5n, 60_000));
    const tried = bench.locks.tryAcquire('k', PERMIT);
    const failed = expect(tried).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await (await bench.next('claim')).fail();
    await failed;
    void bench.locks.close();
    await refused;
  });
});

describe('a single attempt beside a waiter that gives up', () => {
  it('does not take over its place in the store', async () => {
    const bench = new Bench();
    const given = new AbortController();
    const waits = bench.locks.acquire('k', { ...PERMIT, signal: given.signal });
    const refused = expect(waits).rejects.toBe('no need');
    await (await bench.next('open')).answer(undefined);
    const queued = await bench.next('claim');
    await queued.answer(waiting(5n, 60_000));
    const tried = bench.locks.tryAcquire('k', PERMIT);
    const attempt = await bench.next('claim');
    given.abort('no need');
    await refused;
    const dropped = await bench.next('drop');
    expect(dropped.id.owner).toBe(queued.claim.owner);
    await dropped.answer({ held: false, next: null });
    await attempt.answer({ is: 'taken', holder: null });
    expect(await tried).toBe(null);
    expect(bench.unanswered).toEqual([]);
  });
});

describe('a release that is tried again', () => {
  it('keeps the process until it is answered', async () => {
    const program = `
      import { LockManager } from 'leasehold';
      import { memory } from 'leasehold/memory';
      const store = memory();
      let drops = 0;
      const drop = store.drop.bind(store);
      store.drop = (...args) => (drops++ ? drop(...args) : Promise.reject(new Error('no answer')));
      const locks = new LockManager({ store });
      const lease = await locks.acquire('k');
      await lease.release();
      console.log('released after', drops);
    `;
    const args = ['--input-type=module', '--eval', program];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    expect(stdout.trim()).toBe('released after 2');
  });
});

describe('the signal of a set', () => {
  it('aborts when one of its leases is lost, and not on a release', async () => {
    const { timeline, locks } = virtual();
    const set = await locks.acquire(['a', 'b'], { maxHoldMs: 100 });
    const { signal } = set;
    expect(signal.aborted).toBe(false);
    await timeline.advance(200);
    expect(signal.reason).toMatchObject({ code: 'LEASE_LOST', reason: 'held-too-long' });
    const kept = await locks.acquire(['a', 'b']);
    const unused = kept.signal;
    await kept.release();
    expect(unused.aborted).toBe(false);
  });

  it('is aborted from the start when a lease was lost before it was asked for', async () => {
    const { timeline, locks } = virtual();
    const set = await locks.acquire(['a', 'b'], { maxHoldMs: 100 });
    await timeline.advance(200);
    expect(set.signal.aborted).toBe(true);
  });
});

describe('the work on several keys', () => {
  it('is told of a loss behind a lease that was given back early', async () => {
    const { timeline, locks } = virtual();
    const worked = locks.withLock(['a', 'b'], { maxHoldMs: 100 }, async (set) => {
      await set.leases[0]?.release();
      await timeline.advance(200);
      return 'done';
    });
    const lost = { code: 'LEASE_LOST', key: 'b', reason: 'held-too-long', result: 'done' };
    await expect(worked).rejects.toMatchObject(lost);
  });

  it('is not begun when a key was lost while the others were waited for', async () => {
    const { timeline, locks } = virtual();
    const other = await locks.acquire('b');
    const acquired = locks.acquire(['a', 'b'], { maxHoldMs: 100 });
    const lost = expect(acquired).rejects.toMatchObject({ code: 'LEASE_LOST', key: 'a' });
    await timeline.advance(200);
    void other.release();
    await timeline.settle();
    await lost;
    expect(locks.usage).toEqual({ keys: 0, leases: 0, waiting: 0 });
  });
});

describe('an unused lease', () => {
  it('is kept for as long as its last user asked, not an earlier one', async () => {
    const { timeline, locks } = virtual();
    await (await locks.acquire('k', { retainMs: 60_000 })).release();
    await (await locks.acquire('k', { retainMs: 100 })).release();
    await timeline.advance(50);
    expect(locks.usage.keys).toBe(1);
    await timeline.advance(200);
    expect(locks.usage.keys).toBe(0);
  });

  it('does not count any more once the manager is closed', async () => {
    const { timeline, locks } = virtual();
    await (await locks.acquire('k', { retainMs: 60_000 })).release();
    const closed = locks.close();
    await timeline.advance(100);
    await closed;
    expect(locks.usage).toEqual({ keys: 0, leases: 0, waiting: 0 });
  });
});

describe('a renewal', () => {
  it('is tried again in time when the store set a shorter ttl than was asked for', async () => {
    const bench = new Bench({ ttlMs: 600_000 });
    const acquired = bench.locks.acquire('k');
    await (await bench.next('open')).answer(undefined);
    const first = await bench.next('claim');
    const shortened = { ...first.claim, ttlMs: 10_000 };
    await first.answer(granted(shortened, 1n));
    const lease = await acquired;
    await bench.advance(3_400);
    await (await bench.next('renew')).fail();
    await bench.advance(1_000);
    await (await bench.next('renew')).answer([{ is: 'held', wanted: false }]);
    expect(lease.remainingMs()).toBeGreaterThan(9_000);
  });
});

describe('options that cannot be right', () => {
  it('reject `close` instead of throwing', async () => {
    const locks = new LockManager({ store: memory() });
    const closed = locks.close({ graceMs: -1 });
    await expect(closed).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await locks.close(null as never);
  });

  it('count as not given when they are null', () => {
    const fairness = null as never;
    expect(() => new LockManager({ store: memory(), fairness })).not.toThrow();
  });
});
