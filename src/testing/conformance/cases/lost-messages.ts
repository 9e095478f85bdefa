/**
 * Requests and replies that were lost: the call is made again, and everything converges to the same state.
 */
import assert from 'node:assert/strict';
import { StoreUnavailableError } from '../../../core/errors.ts';
import type { Loss } from '../faulty-store.ts';
import { type ConformanceCase, needs } from '../suite.ts';
import { LONG_TTL_MS, type Participant, type Trial } from '../trial.ts';

const KEY = 'order:7';
const losses: readonly Loss[] = ['request', 'reply'];

/** No expiry helps here: the ttl is longer than the patience of a trial. */
async function becomesFree(trial: Trial, { locks }: Participant): Promise<void> {
  assert(trial.patienceMs < LONG_TTL_MS);
  const lease = await trial.until(
    'the key is free',
    async () => (await locks.tryAcquire(KEY)) ?? false,
  );
  await lease.release();
}

async function repeatedClaim(trial: Trial): Promise<void> {
  const store = await trial.store();
  for (const loss of losses) {
    const claim = trial.claim(KEY);
    store.loseNext('claim', loss);
    await assert.rejects(store.claim(claim));
    assert.equal((await store.claim(claim)).is, 'granted');
    assert.equal((await store.drop(claim)).held, true);
  }
}

async function repeatedWaitingClaim(trial: Trial): Promise<void> {
  const [holder, waiter] = await trial.stores(2);
  for (const loss of losses) {
    const held = trial.claim(KEY);
    await holder.claim(held);
    const waiting = trial.claim(KEY);
    waiter.loseNext('claim', loss);
    await assert.rejects(waiter.claim(waiting));
    const outcome = await waiter.claim(waiting);
    assert.equal(outcome.is, 'waiting');
    if (outcome.is === 'waiting' && outcome.ahead !== null) {
      assert.equal(outcome.ahead, 0, 'it does not wait for its own first claim');
    }
    await holder.drop(held);
    await trial.obtain(waiter, waiting);
    await waiter.drop(waiting);
  }
}

async function repeatedDrop(trial: Trial): Promise<void> {
  const [store, rival] = await trial.stores(2);
  for (const loss of losses) {
    const claim = trial.claim(KEY);
    await store.claim(claim);
    store.loseNext('drop', loss);
    await assert.rejects(store.drop(claim));
    assert.equal((await store.drop(claim)).held, loss === 'request');
    const next = trial.claim(KEY, { wait: false });
    assert.equal((await rival.claim(next)).is, 'granted');
    await rival.drop(next);
  }
}

async function repeatedDropAndClaim(trial: Trial): Promise<void> {
  const store = await trial.store();
  for (const loss of losses) {
    const old = trial.claim(KEY);
    const again = trial.claim(KEY);
    await store.claim(old);
    store.loseNext('drop', loss);
    await assert.rejects(store.drop(old, again));
    await store.drop(old);
    assert.equal((await store.claim(again)).is, 'granted');
    assert.equal((await store.drop(again)).held, true);
  }
}

async function repeatedRenewal(trial: Trial): Promise<void> {
  const store = await trial.store();
  const claim = trial.claim(KEY);
  await store.claim(claim);
  for (const loss of losses) {
    store.loseNext('renew', loss);
    await assert.rejects(store.renew([claim]));
    assert.deepEqual(await store.renew([claim]), [{ is: 'held', wanted: false }]);
  }
}

async function acquireConverges(trial: Trial): Promise<void> {
  const [unlucky, other] = trial.participants(2);
  for (const loss of losses) {
    unlucky.store.loseNext('claim', loss);
    const lease = await trial.settles('acquire', unlucky.locks.acquire(KEY));
    assert.equal(await other.locks.tryAcquire(KEY), null);
    await lease.release();
    await becomesFree(trial, other);
  }
}

async function tryAcquireConverges(trial: Trial): Promise<void> {
  const [unlucky, other] = trial.participants(2);
  for (const loss of losses) {
    unlucky.store.loseNext('claim', loss);
    await assert.rejects(unlucky.locks.tryAcquire(KEY), StoreUnavailableError);
    await becomesFree(trial, other);
  }
}

async function releaseConverges(trial: Trial): Promise<void> {
  const [unlucky, other] = trial.participants(2);
  for (const loss of losses) {
    const lease = await unlucky.locks.acquire(KEY);
    unlucky.store.loseNext('drop', loss);
    await trial.settles('release', lease.release());
    await becomesFree(trial, other);
  }
}

async function passingOnConverges(trial: Trial): Promise<void> {
  const fairness = { maxPasses: 0 };
  const [unlucky, other] = trial.participants(2, { fairness });
  for (const loss of losses) {
    const first = await unlucky.locks.acquire(KEY);
    const second = unlucky.locks.acquire(KEY);
    const elsewhere = await trial.queue(other, KEY);
    await trial.until('the holder is told', () =>
      unlucky.store.events.some(({ is }) => is === 'wanted'),
    );
    unlucky.store.loseNext('drop', loss);
    await trial.settles('release', first.release());
    const third = await trial.settles('the other process', elsewhere.lease);
    assert(third.token > first.token);
    await third.release();
    const last = await trial.settles('the second caller', second);
    assert(last.token > third.token);
    await last.release();
    await becomesFree(trial, other);
    unlucky.store.events.length = 0;
  }
}

async function renewalConverges(trial: Trial): Promise<void> {
  // A machine that is busy for longer than the ttl loses the lease: then one with twice that is tried.
  for (const ttlMs of [4_500, 9_000, 18_000]) {
    const { locks, store } = trial.participant({ ttlMs });
    const lease = await trial.settles('a lease', locks.acquire(KEY));
    store.loseNext('renew', 'reply');
    const isAnswered = () =>
      store.calls.some(({ call, answer }) => call === 'renew' && answer !== null);
    await trial.until('a renewal is made again', () => isAnswered() || lease.state === 'lost');
    if (lease.state !== 'lost') {
      assert(store.count('renew') > 1);
      lease.assertHeld();
      return;
    }
    await lease.release();
  }
  assert.fail('the lease was lost, whatever its ttl');
}

export const lostMessageCases: readonly ConformanceCase[] = [
  { name: 'a claim made again after a lost message is granted once', run: repeatedClaim },
  { name: 'a claim queued again after a lost message waits once', run: repeatedWaitingClaim },
  { name: 'a drop made again after a lost message finds the key free', run: repeatedDrop },
  {
    name: 'after a lost message of drop and claim again, a plain claim converges',
    run: repeatedDropAndClaim,
  },
  { name: 'a renewal made again after a lost message is held', run: repeatedRenewal },
  { name: 'acquire survives a lost message of its claim', run: acquireConverges },
  {
    name: 'tryAcquire with a lost message rejects and leaves the key free',
    run: tryAcquireConverges,
  },
  { name: 'a release whose message was lost frees the key before its ttl', run: releaseConverges },
  {
    name: 'a lease whose passing on was lost reaches the next process, and comes back',
    run: passingOnConverges,
    needs: [needs.arrivalOrder],
  },
  { name: 'a renewal whose message was lost is made again in time', run: renewalConverges },
];
