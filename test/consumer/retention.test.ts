/**
 * Locks that nobody uses are kept for the next messages of their keys, as long as that pays.
 */
import { LockManager } from 'leasehold';
import { MemorySpace, memory, memorySource } from 'leasehold/memory';
import { describe, expect, test } from 'vitest';
import { Retention } from '../../dist/src/consumer/retention.js';
import { atEnd, contribute, makeSetting, start, totalOf, until } from './setup.ts';

const RETAIN_MS = 1_000;

/** Of a hundred lanes, so many that keep their lock. */
function keeping(retention: Retention): number {
  return Array.from({ length: 100 }, () => retention.wants()).filter(Boolean).length;
}

describe('what it costs', () => {
  const clock = { nowMs: 0 };
  const monotonic = { monotonicMs: () => clock.nowMs } as never;
  const make = (): Retention => new Retention(RETAIN_MS, monotonic, Math.random);

  /** Lanes of one key, each with a lock that was kept by the one before, or was somebody else's meanwhile. */
  const lanes = (retention: Retention, count: number, isTaken: (lane: number) => boolean): void => {
    let epoch = 1n;
    for (let lane = 0; lane < count; lane += 1) {
      if (retention.wants()) retention.kept('k', epoch);
      clock.nowMs += 1;
      if (isTaken(lane)) epoch += 1n;
      retention.needed('k', epoch);
    }
  };

  test('locks that are there when they are needed are kept', () => {
    const retention = make();
    lanes(retention, 2_000, () => false);
    expect(keeping(retention)).toBe(100);
  });

  test('a few that were taken change nothing', () => {
    const retention = make();
    lanes(retention, 2_000, (lane) => lane % 100 === 0);
    expect(keeping(retention)).toBe(100);
  });

  test('where another process takes every second one, few are kept, and only to look', () => {
    const retention = make();
    lanes(retention, 2_000, (lane) => lane % 2 === 0);
    expect(keeping(retention)).toBeLessThan(30);
    // When the other one has ended, that is seen by those that are kept to look.
    lanes(retention, 20_000, () => false);
    expect(keeping(retention)).toBe(100);
  });

  test('what would have been given back by itself says nothing', () => {
    const retention = make();
    for (let lane = 0; lane < 2_000; lane += 1) {
      retention.kept('k', BigInt(lane));
      clock.nowMs += RETAIN_MS;
      retention.needed('k', BigInt(lane + 1));
    }
    expect(keeping(retention)).toBe(100);
  });

  test('with many keys, looks are few and new ones find room', () => {
    const retention = make();
    for (let lane = 0; lane < 100_000; lane += 1) retention.kept(`k${lane}`, 1n);
    clock.nowMs += RETAIN_MS;
    lanes(retention, 2_000, () => true);
    expect(keeping(retention)).toBeLessThan(30);
  });
});

test('two consumers of the same key stop keeping its lock from each other', async () => {
  const space = new MemorySpace();
  const first = makeSetting();
  let refused = 0;
  const settings = [first, makeSetting()].map((setting) => {
    const store = memory(space);
    const claim = store.claim.bind(store);
    store.claim = async (wish) => {
      const outcome = await claim(wish);
      if (outcome.is === 'waiting') refused += 1;
      return outcome;
    };
    const locks = new LockManager({ store, ttlMs: 60_000 });
    atEnd(() => locks.close());
    return { ...setting, state: first.state, locks };
  });
  // Every kept lock is looked at, and once it does not pay none is kept.
  const random = (): number => 1 / 16;
  for (const setting of settings) {
    start(setting, { source: memorySource(setting.queue), random, elideLock: false });
  }
  let sent = 0;
  const takeTurns = async (count: number): Promise<number> => {
    const before = refused;
    for (let turn = 0; turn < count; turn += 1) {
      for (const { queue, locks } of settings) {
        contribute(queue, `m${sent}`, 1);
        sent += 1;
        await until(async () => (await totalOf(first.state)) === sent);
        await until(() => locks.usage.leases === 0);
      }
    }
    return refused - before;
  };
  expect(await takeTurns(10)).toBeGreaterThan(0);
  await until(async () => (await takeTurns(10)) === 0);
});
