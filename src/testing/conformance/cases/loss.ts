/**
 * How leases are kept, and how they are lost: by expiry, by a store that hangs, by missed events, by their own limits.
 */
import assert from 'node:assert/strict';
import { LeaseLostError, StoreUnavailableError } from '../../../core/errors.ts';
import type { Lease } from '../../../core/lease.ts';
import type { ConformanceCase } from '../suite.ts';
import { delay, type Trial } from '../trial.ts';

const KEY = 'report:daily';
const MAX_ATTEMPTS = 8;

function isHeld(lease: Lease): boolean {
  try {
    lease.assertHeld();
    return true;
  } catch (error) {
    assert(error instanceof LeaseLostError);
    return false;
  }
}

async function assertLost(trial: Trial, lease: Lease, reason: string): Promise<void> {
  await trial.until('the signal aborts', () => lease.signal.aborted);
  assert(lease.signal.reason instanceof LeaseLostError);
  assert.equal(lease.signal.reason.reason, reason);
  assert.equal(lease.state, 'lost');
  assert.equal(lease.remainingMs(), 0);
  assert.equal(isHeld(lease), false);
}

async function silentHolder(trial: Trial): Promise<void> {
  const [silent, next] = trial.participants(2, { ttlMs: 500 });
  const lease = await silent.locks.acquire(KEY);
  silent.store.cutOff();
  await trial.settles('the key of a silent holder', next.locks.acquire(KEY));
  assert.equal(isHeld(lease), false, 'two processes never both believe that they hold the key');
  await assertLost(trial, lease, 'expired');
}

/** A lease may only end while it is renewed if this machine had no time to renew it. */
async function renewed(trial: Trial): Promise<void> {
  const ttlMs = 600;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const [holder, rival] = trial.participants(2, { ttlMs });
    await trial.warmUp(holder, rival);
    const lease = await trial.settles('the lease', holder.locks.acquire(KEY));
    const enoughAtMs = performance.now() + 3 * ttlMs;
    let stalledMs = 0;
    while (performance.now() < enoughAtMs && isHeld(lease)) {
      const beforeMs = performance.now();
      const taken = await rival.locks.tryAcquire(KEY);
      assert(taken === null || !isHeld(lease), 'a renewed lease excludes others');
      await taken?.release();
      await delay(20);
      stalledMs = Math.max(stalledMs, performance.now() - beforeMs);
    }
    const wasHeld = isHeld(lease);
    await lease.release();
    if (wasHeld) return;
    const isBusy = Math.max(stalledMs, holder.store.slowestMs()) > ttlMs / 6;
    assert(isBusy, 'a lease is renewed as long as it is held');
  }
  assert.fail('the machine is too busy for a lease of 600 ms');
}

/** It comes back when its key has gone on, and drops what it believes to be its own still. */
async function staleLease(trial: Trial): Promise<void> {
  const [stale, current, rival] = trial.participants(3);
  const ttlMs = 1_000;
  const old = await stale.locks.acquire(KEY, { ttlMs });
  stale.store.cutOff();
  const lease = await trial.settles('the key of a silent holder', current.locks.acquire(KEY));
  const backAtMs = performance.now();
  stale.store.resume();
  stale.store.deliverEvents();
  assert.equal(isHeld(old), false);
  await trial.settles('a stale release', old.release());
  await trial.until('its drop was answered, or given up', () => {
    const isAnswered = stale.store.calls.some(({ call, answer }) => call === 'drop' && answer);
    return isAnswered || performance.now() - backAtMs > ttlMs;
  });
  assert.equal(await rival.locks.tryAcquire(KEY), null, 'it did not free the key of its successor');
  lease.assertHeld();
  await lease.release();
  await (await trial.settles('the next lease', rival.locks.acquire(KEY))).release();
}

async function hangingStore(trial: Trial): Promise<void> {
  const ttlMs = 600;
  const { locks, store } = trial.participant({ ttlMs });
  await trial.warmUp({ locks, store });
  const lease = await locks.acquire(KEY);
  let aborts = lease.signal.aborted ? 1 : 0;
  lease.signal.addEventListener('abort', () => {
    aborts += 1;
  });
  store.hang();
  const confirmedMs = store.lastAnsweredFromMs();
  for (let checkedMs = performance.now(); isHeld(lease); checkedMs = performance.now()) {
    const ageMs = checkedMs - confirmedMs;
    assert(
      ageMs < ttlMs,
      `believed to be held ${ageMs} ms after the last answered request was sent`,
    );
    await delay(2);
  }
  await assertLost(trial, lease, 'expired');
  assert.equal(aborts, 1);
  await trial.settles('release', lease.release());
  const unanswered = locks.acquire('another', { waitMs: 50 });
  await trial.settles('acquire', assert.rejects(unanswered, StoreUnavailableError));
  await trial.settles('close', locks.close());
}

async function releaseWhileHanging(trial: Trial): Promise<void> {
  const { locks, store } = trial.participant({ ttlMs: 1_000 });
  await trial.warmUp({ locks, store });
  const lease = await locks.acquire(KEY);
  store.hang();
  await trial.settles('release', lease.release());
  assert.equal(lease.signal.aborted, false, 'a lease that was released is not lost');
}

async function lostEvents(trial: Trial): Promise<void> {
  const [holder, deaf] = trial.participants(2);
  deaf.store.withholdEvents();
  const lease = await holder.locks.acquire(KEY);
  const waiting = await trial.queue(deaf, KEY, { ttlMs: 1_500 });
  await lease.release();
  await trial.settles('a waiter that hears nothing', waiting.lease);
}

/** The heartbeat of a long ttl comes too late to help: only the reset can. */
async function resetWakesWaiters(trial: Trial): Promise<void> {
  const [holder, deaf] = trial.participants(2);
  deaf.store.withholdEvents();
  const lease = await holder.locks.acquire(KEY);
  const waiting = await trial.queue(deaf, KEY);
  await lease.release();
  deaf.store.deliverEvents();
  deaf.store.emit({ is: 'reset' });
  await trial.settles('a waiter after a reset', waiting.lease);
}

async function resetChecksLeases(trial: Trial): Promise<void> {
  const [holder, other] = trial.participants(2);
  const kept = await holder.locks.acquire('kept');
  const lease = await holder.locks.acquire(KEY);
  const claim = holder.store.claims.findLast(({ key }) => key === KEY);
  assert(claim);
  // Somebody took the lease away, and the message of it was lost.
  await (await trial.store()).drop(claim);
  holder.store.emit({ is: 'reset' });
  await assertLost(trial, lease, 'taken-away');
  kept.assertHeld();
  await (await trial.settles('the next lease', other.locks.acquire(KEY))).release();
}

async function lostEvent(trial: Trial): Promise<void> {
  const { locks, store } = trial.participant();
  const lease = await locks.acquire(KEY);
  const owner = store.claims.at(-1)?.owner;
  assert(owner);
  store.emit({ is: 'lost', key: KEY, owner: `${owner}x` });
  lease.assertHeld();
  store.emit({ is: 'lost', key: KEY, owner });
  await assertLost(trial, lease, 'taken-away');
}

async function unknownGrant(trial: Trial): Promise<void> {
  const [a, b] = trial.participants(2);
  await (await a.locks.acquire('other')).release();
  const stray = trial.claim(KEY);
  const { epoch } = await trial.obtain(await trial.store(), stray);
  // A grant that arrives when the caller has gone: nobody but this process can give it back.
  a.store.emit({ is: 'granted', key: KEY, owner: stray.owner, epoch, wanted: false });
  await (await trial.settles('the stray lease', b.locks.acquire(KEY))).release();
}

async function heldTooLong(trial: Trial): Promise<void> {
  const [holder, other] = trial.participants(2);
  const lease = await holder.locks.acquire(KEY, { maxHoldMs: 200 });
  await trial.settles('the next lease', other.locks.acquire(KEY));
  await assertLost(trial, lease, 'held-too-long');
}

async function withLockSaysSo(trial: Trial): Promise<void> {
  const { locks } = trial.participant();
  const work = locks.withLock(KEY, { maxHoldMs: 100 }, async (lease) => {
    await trial.until('the lease is lost', () => lease.signal.aborted);
    return 'done too late';
  });
  await assert.rejects(work, (error) => {
    assert(error instanceof LeaseLostError);
    assert.equal(error.result, 'done too late');
    return true;
  });
}

export const lossCases: readonly ConformanceCase[] = [
  {
    name: 'the key of a silent holder is free after its ttl, and the holder knows',
    run: silentHolder,
  },
  { name: 'a lease is renewed for as long as it is held', run: renewed },
  { name: 'a stale lease does not free the key of its successor', run: staleLease },
  {
    name: 'a lease is lost by its deadline when the store hangs, and everything settles',
    run: hangingStore,
  },
  { name: 'release settles when the store hangs', run: releaseWhileHanging },
  { name: 'a waiter that hears no events is served all the same', run: lostEvents },
  { name: 'a reset wakes waiters whose events were missed', run: resetWakesWaiters },
  { name: 'a reset finds leases that were lost', run: resetChecksLeases },
  { name: 'a lease that the store reports lost is lost', run: lostEvent },
  { name: 'a grant that nobody waits for is given back', run: unknownGrant },
  { name: 'a lease is lost when it was held for longer than maxHoldMs', run: heldTooLong },
  { name: 'withLock rejects with the result when the lease was lost', run: withLockSaysSo },
];
