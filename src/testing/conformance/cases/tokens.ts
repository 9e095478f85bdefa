/**
 * Fencing tokens: strictly increasing for a key, whatever happened between two grants.
 */
import assert from 'node:assert/strict';
import type { ConformanceCase } from '../suite.ts';
import type { Trial } from '../trial.ts';

const KEY = 'account:1';

/** Looks at each token of a key in the order of the grants. */
class TokenOrder {
  #last = -1n;

  next(token: bigint, what: string): void {
    assert(token > this.#last, `${what}: ${token} comes after ${this.#last}`);
    this.#last = token;
  }
}

async function everyWay(trial: Trial): Promise<void> {
  const order = new TokenOrder();
  const [a, b] = trial.participants(2);
  const first = await a.locks.acquire(KEY);
  order.next(first.token, 'first grant');
  assert.match(first.tokenText, /^\d{20}$/);
  assert.equal(BigInt(first.tokenText), first.token);
  const local = Array.from({ length: 5 }, () =>
    a.locks.withLock(KEY, ({ token }) => order.next(token, 'local hand-over')),
  );
  await first.release();
  await Promise.all(local);
  for (const { locks } of [b, a, b]) {
    await locks.withLock(KEY, ({ token }) => order.next(token, 'grant of a free key'));
  }
  const held = await a.locks.acquire(KEY);
  order.next(held.token, 'before a remote hand-over');
  const remote = await trial.queue(b, KEY);
  await held.release();
  const handed = await trial.settles('the hand-over', remote.lease);
  order.next(handed.token, 'remote hand-over');
  await handed.release();
}

async function overExpiry(trial: Trial): Promise<void> {
  const order = new TokenOrder();
  const [a, b] = trial.participants(2, { ttlMs: 300 });
  const first = await a.locks.acquire(KEY);
  order.next(first.token, 'first grant');
  a.store.cutOff();
  const second = await trial.settles('the key of a silent holder', b.locks.acquire(KEY));
  order.next(second.token, 'grant after an expiry');
  await second.release();
  await trial.until('the old lease ends here as well', () => first.state === 'lost');
  a.store.resume();
  a.store.deliverEvents();
  const third = await trial.settles('a lease for who lost it', a.locks.acquire(KEY));
  order.next(third.token, 'grant to who lost it');
}

async function withoutRemoteGrants(trial: Trial): Promise<void> {
  const order = new TokenOrder();
  const { locks, store } = trial.participant({ retainMs: 600_000 });
  for (let count = 0; count < 10_000; count += 1) {
    const lease = await locks.acquire(KEY);
    order.next(lease.token, 'grant of a retained lease');
    assert.equal(lease.token / 4096n, store.epoch, 'a token is within the epoch that was granted');
    await lease.release();
  }
}

async function overRestart(trial: Trial): Promise<void> {
  const order = new TokenOrder();
  for (let restarts = 0; restarts <= 2; restarts += 1) {
    if (restarts > 0) await trial.restart();
    const { locks } = trial.participant();
    for (let count = 0; count < 3; count += 1) {
      await locks.withLock(KEY, ({ token }) => order.next(token, `after ${restarts} restarts`));
    }
  }
}

async function overForgetting(trial: Trial): Promise<void> {
  const order = new TokenOrder();
  const [a, b] = trial.participants(2);
  for (const { locks } of [a, b, a, b]) {
    const lease = await locks.acquire(KEY);
    order.next(lease.token, 'grant of a key that the engine had forgotten');
    await lease.release();
    await trial.leavesNothing();
  }
}

export const tokenCases: readonly ConformanceCase[] = [
  { name: 'tokens increase over local and remote hand-overs', run: everyWay },
  { name: 'tokens increase over an expiry', run: overExpiry },
  { name: 'tokens increase over thousands of uses of a retained lease', run: withoutRemoteGrants },
  {
    name: 'tokens increase when nothing is left of the key',
    run: overForgetting,
    hooks: ['inspect'],
  },
  { name: 'tokens increase over restarts of the engine', run: overRestart, hooks: ['restart'] },
];
