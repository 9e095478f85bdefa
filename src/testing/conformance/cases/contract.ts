/**
 * The store contract itself: what claim, renew and drop answer, without a manager on top.
 */
import assert from 'node:assert/strict';
import { validityMs } from '../../../core/clock.ts';
import type { Claim, ClaimOutcome, Grant, RenewOutcome } from '../../../core/store.ts';
import type { FaultyStore } from '../faulty-store.ts';
import { type ConformanceCase, needs } from '../suite.ts';
import { delay, type Trial } from '../trial.ts';

const KEY = 'order:7';
/** Short enough to wait for, long enough that a busy machine makes a few calls within it. */
const SHORT_TTL_MS = 600;
/** A step that a busy machine spoiled is made again, so often, with twice the time. */
const MAX_ATTEMPTS = 6;

function assertGranted(outcome: ClaimOutcome | null): Grant {
  assert.equal(outcome?.is, 'granted');
  return outcome as Grant;
}

async function assertTaken(trial: Trial, store: FaultyStore, key: string = KEY): Promise<void> {
  const { is }: ClaimOutcome = await store.claim(trial.claim(key, { wait: false }));
  assert.equal(is, 'taken', 'somebody holds the key, and a rival does not get it');
}

async function renewOne(store: FaultyStore, claim: Claim): Promise<RenewOutcome['is'] | undefined> {
  return (await store.renew([claim]))[0]?.is;
}

/**
 * Keeps a short claim by repeating a call, and looks from another process whether it is taken all the time. Only what
 * was answered before the ttl since the last call could be over proves anything; false says that nothing was proved.
 */
async function staysTaken(trial: Trial, keep: KeepCall, ttlMs: number): Promise<boolean> {
  const [store, rival] = await trial.stores(2);
  const claim = trial.claim(KEY, { ttlMs });
  let sentAtMs = performance.now();
  assertGranted(await store.claim(claim));
  const enoughAtMs = performance.now() + 1.5 * ttlMs;
  const isOver = (): boolean => performance.now() - sentAtMs >= ttlMs;
  try {
    while (performance.now() < enoughAtMs) {
      const againAtMs = performance.now();
      const isKept = await keep(store, claim).catch((error: unknown) => {
        // What was silent for so long may have lost its connection with its lease.
        if (isOver()) return false;
        throw error;
      });
      if (isOver()) return false;
      assert(isKept, 'a claim that has not run out is kept');
      sentAtMs = againAtMs;
      await delay(ttlMs / 6);
      const probe = trial.claim(KEY, { wait: false });
      const { is } = await rival.claim(probe);
      const wasInTime = !isOver();
      await rival.drop(probe);
      if (!wasInTime) return false;
      assert.equal(is, 'taken', 'a claim that was extended is not over at its first expiry');
    }
    return true;
  } finally {
    await store.drop(claim).catch(() => {});
  }
}

type KeepCall = (store: FaultyStore, claim: Claim) => Promise<boolean>;

async function staysTakenOnSomeAttempt(trial: Trial, keep: KeepCall): Promise<void> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    if (await staysTaken(trial, keep, SHORT_TTL_MS * 2 ** attempt)) return;
  }
  assert.fail(`calls took longer than the ttl at each of ${MAX_ATTEMPTS} attempts`);
}

async function claimRenewDrop(trial: Trial): Promise<void> {
  const store = await trial.store();
  const claim = trial.claim(KEY);
  const grant = assertGranted(await store.claim(claim));
  assert.equal(typeof grant.epoch, 'bigint');
  assert(grant.epoch > 0n);
  assert.equal(grant.ttlMs, claim.ttlMs);
  assert.equal(grant.wanted, false);
  assert.deepEqual(await store.renew([claim]), [{ is: 'held', wanted: false }]);
  assert.deepEqual(await store.drop(claim), { held: true, next: null });
  assert.equal(await renewOne(store, claim), 'lost');
}

async function renewAnswersEach(trial: Trial): Promise<void> {
  const [store, other] = await trial.stores(2);
  const held = trial.claim('a');
  const last = trial.claim('c');
  const taken = trial.claim('b');
  const waiting = { ...trial.claim('b'), ttlMs: 30_000 };
  await store.claim(held);
  await store.claim(last);
  await other.claim(taken);
  assert.equal((await store.claim(waiting)).is, 'waiting');
  const outcomes = await store.renew([held, waiting, trial.claim('nobody'), last]);
  assert.deepEqual(
    outcomes.map((outcome) => outcome.is),
    ['held', 'lost', 'lost', 'held'],
  );
  assert.deepEqual(await store.renew([]), []);
}

async function claimIsIdempotent(trial: Trial): Promise<void> {
  const store = await trial.store();
  const claim = trial.claim(KEY);
  const first = assertGranted(await store.claim(claim));
  for (const wait of [true, false, true]) {
    const again = assertGranted(await store.claim({ ...claim, wait }));
    assert.equal(again.epoch, first.epoch, 'the same grant, not a new one');
  }
  assert.equal((await store.drop(claim)).held, true);
  assertGranted(await store.claim(trial.claim(KEY, { wait: false })));
}

async function waitingIsIdempotent(trial: Trial): Promise<void> {
  const [holder, waiter, last] = await trial.stores(3);
  const held = trial.claim(KEY);
  await holder.claim(held);
  const waiting = trial.claim(KEY);
  const behind = trial.claim(KEY);
  assert.equal((await waiter.claim(waiting)).is, 'waiting');
  assert.equal((await last.claim(behind)).is, 'waiting');
  for (let beat = 0; beat < 3; beat += 1) {
    const outcome: ClaimOutcome = await waiter.claim(waiting);
    assert.equal(outcome.is, 'waiting');
    if (outcome.is === 'waiting' && outcome.ahead !== null) assert.equal(outcome.ahead, 0);
  }
  await holder.drop(held);
  await trial.obtain(waiter, waiting);
  await waiter.drop(waiting);
  await trial.obtain(last, behind);
  await last.drop(behind);
}

async function neverShortens(trial: Trial): Promise<void> {
  const [store, rival] = await trial.stores(2);
  const claim = trial.claim(KEY);
  const short = { ...claim, ttlMs: 50 };
  await store.claim(claim);
  await store.claim(short);
  assert.equal(await renewOne(store, short), 'held');
  await delay(2 * short.ttlMs);
  assert.equal(await renewOne(store, claim), 'held');
  await assertTaken(trial, rival);
}

async function expires(trial: Trial): Promise<void> {
  const [store, rival] = await trial.stores(2);
  const claim = trial.claim(KEY, { ttlMs: 300 });
  const sentAtMs = performance.now();
  const first = assertGranted(await store.claim(claim));
  const next = await trial.obtain(rival, trial.claim(KEY, { ttlMs: 1_500 }));
  const passedMs = performance.now() - sentAtMs;
  assert(passedMs >= validityMs(claim.ttlMs), `the key went on after ${passedMs} ms of 300`);
  assert(next.epoch > first.epoch, 'the next grant has a higher epoch');
}

async function staleOwner(trial: Trial): Promise<void> {
  const [stale, rival] = await trial.stores(2);
  const old = trial.claim(KEY, { ttlMs: 100 });
  await stale.claim(old);
  const current = trial.claim(KEY);
  await trial.obtain(rival, current);
  assert.equal(await renewOne(stale, old), 'lost', 'a stale owner cannot renew');
  assert.equal((await stale.drop(old)).held, false, 'a stale owner cannot release');
  const again = trial.claim(KEY);
  assert.deepEqual(await stale.drop(old, again), { held: false, next: null });
  assert.equal(await renewOne(rival, current), 'held', 'and the holder noticed nothing');
  await assertTaken(trial, stale);
  assert.equal((await rival.drop(current)).held, true);
  assertGranted(await stale.claim(trial.claim(KEY, { wait: false })));
}

async function dropIsIdempotent(trial: Trial): Promise<void> {
  const [store, rival] = await trial.stores(2);
  const claim = trial.claim(KEY);
  assert.equal((await store.drop(claim)).held, false, 'nothing to drop is no error');
  await store.claim(claim);
  assert.equal((await store.drop(claim)).held, true);
  const current = trial.claim(KEY);
  assertGranted(await rival.claim(current));
  assert.equal((await store.drop(claim)).held, false);
  assert.equal(await renewOne(rival, current), 'held');
}

async function dropAndClaimAgain(trial: Trial): Promise<void> {
  const store = await trial.store();
  const first = trial.claim(KEY);
  const second = trial.claim(KEY);
  const { epoch } = assertGranted(await store.claim(first));
  const alone = await store.drop(first, second);
  assert.equal(alone.held, true);
  assert(assertGranted(alone.next).epoch > epoch, 'nobody waits: granted again, with a new epoch');
  assert.equal(await renewOne(store, first), 'lost', 'the old claim is gone');
}

async function dropGoesBehindWaiters(trial: Trial): Promise<void> {
  const [store, rival] = await trial.stores(2);
  const first = trial.claim(KEY);
  const waiting = trial.claim(KEY);
  const second = trial.claim(KEY);
  await store.claim(first);
  assert.equal((await rival.claim(waiting)).is, 'waiting');
  const { held, next } = await store.drop(first, second);
  assert.deepEqual([held, next?.is], [true, 'waiting']);
  await trial.obtain(rival, waiting);
  assert.equal(await renewOne(store, second), 'lost', 'who waited already is served first');
  await rival.drop(waiting);
  await trial.obtain(store, second);
}

async function tryLeavesNoTrace(trial: Trial): Promise<void> {
  const [holder, other] = await trial.stores(2);
  const held = trial.claim(KEY);
  await holder.claim(held);
  const outcome = await other.claim(trial.claim(KEY, { wait: false }));
  assert.equal(outcome.is, 'taken');
  if (outcome.is === 'taken' && outcome.holder !== null) assert.equal(outcome.holder, held.owner);
  await holder.drop(held);
  await trial.leavesNothing();
}

async function wantedIsTold(trial: Trial): Promise<void> {
  const [holder, other] = await trial.stores(2);
  const held = trial.claim(KEY);
  await holder.claim(held);
  const waiting = trial.claim(KEY);
  await other.claim(waiting);
  await trial.until('the holder is told that its key is wanted', () =>
    holder.events.some((event) => event.is === 'wanted' && event.key === KEY),
  );
  assert.deepEqual(await holder.renew([held]), [{ is: 'held', wanted: true }]);
  await other.drop(waiting);
  assert.deepEqual(await holder.renew([held]), [{ is: 'held', wanted: false }]);
  const toldBefore = holder.events.length;
  await other.claim(trial.claim(KEY, { wait: false }));
  await trial.until('the holder is told of a claim that does not wait, too', () =>
    holder.events.slice(toldBefore).some((event) => event.is === 'wanted'),
  );
}

async function withdrawnWaiter(trial: Trial): Promise<void> {
  const [holder, leaver, stayer] = await trial.stores(3);
  const held = trial.claim(KEY);
  await holder.claim(held);
  const leaving = trial.claim(KEY);
  const staying = trial.claim(KEY);
  assert.equal((await leaver.claim(leaving)).is, 'waiting');
  assert.equal((await stayer.claim(staying)).is, 'waiting');
  assert.deepEqual(await leaver.drop(leaving), { held: false, next: null });
  await holder.drop(held);
  await trial.obtain(stayer, staying);
  await stayer.drop(staying);
  await trial.leavesNothing();
}

async function newcomersDoNotPass(trial: Trial): Promise<void> {
  const [holder, waiter, newcomer] = await trial.stores(3);
  const held = trial.claim(KEY);
  await holder.claim(held);
  const waiting = trial.claim(KEY);
  assert.equal((await waiter.claim(waiting)).is, 'waiting');
  await holder.drop(held);
  await assertTaken(trial, newcomer);
  const late = trial.claim(KEY);
  assert.equal((await newcomer.claim(late)).is, 'waiting');
  await trial.obtain(waiter, waiting);
  await waiter.drop(waiting);
  await trial.obtain(newcomer, late);
}

async function servedInOrder(trial: Trial): Promise<void> {
  const stores = await trial.stores(6);
  const claims = stores.map(() => trial.claim(KEY));
  const expected = claims.map((claim) => claim.owner);
  for (const [index, store] of stores.entries()) {
    const outcome = await store.claim(claims[index] as Claim);
    if (outcome.is === 'waiting') assert.equal(outcome.ahead, index - 1, 'who is ahead is counted');
    else assert.equal(index, 0);
  }
  const served: string[] = [];
  await Promise.all(
    stores.map(async (store, index) => {
      const claim = claims[index] as Claim;
      await trial.obtain(store, claim);
      served.push(claim.owner);
      await store.drop(claim);
    }),
  );
  assert.deepEqual(served, expected);
}

async function silentWaiter(trial: Trial): Promise<void> {
  const [holder, silent, next] = await trial.stores(3);
  const held = trial.claim(KEY);
  await holder.claim(held);
  assert.equal((await silent.claim(trial.claim(KEY, { ttlMs: 400 }))).is, 'waiting');
  silent.cutOff();
  const behind = trial.claim(KEY, { ttlMs: 1_500 });
  assert.equal((await next.claim(behind)).is, 'waiting');
  await holder.drop(held);
  await trial.obtain(next, behind);
}

async function forgottenWaiter(trial: Trial): Promise<void> {
  const [holder, silent, next] = await trial.stores(3);
  await holder.claim(trial.claim(KEY));
  const forgotten = trial.claim(KEY, { ttlMs: 200 });
  const waiting = trial.claim(KEY);
  assert.equal((await silent.claim(forgotten)).is, 'waiting');
  silent.cutOff();
  await trial.until('the silent waiter is forgotten when others are heard', async () => {
    await next.claim(waiting);
    const [report] = await trial.inspect();
    return report?.waiters.includes(forgotten.owner) === false;
  });
}

async function closingKeepsLeases(trial: Trial): Promise<void> {
  const [store, rival] = await trial.stores(2);
  const claim = trial.claim(KEY, { ttlMs: 300 });
  const sentAtMs = performance.now();
  await store.claim(claim);
  await store.close();
  await trial.obtain(rival, trial.claim(KEY, { ttlMs: 1_500 }));
  assert(performance.now() - sentAtMs >= validityMs(claim.ttlMs), 'a lease ends by its ttl');
}

async function unsupportedCapacity(trial: Trial): Promise<void> {
  const store = await trial.store();
  for (const capacity of [2, 1_000_000]) {
    const outcome = await store.claim(trial.claim(KEY, { units: 1, capacity }));
    assert.equal(outcome.is, 'refused');
    if (outcome.is === 'refused') assert.equal(outcome.reason, 'unsupported');
  }
  assertGranted(await store.claim(trial.claim(KEY, { wait: false })));
}

export const contractCases: readonly ConformanceCase[] = [
  { name: 'a free key is granted, renewed and dropped', run: claimRenewDrop },
  { name: 'renew answers for each claim in its place', run: renewAnswersEach },
  { name: 'claiming what is held returns the same grant', run: claimIsIdempotent },
  {
    name: 'claiming again keeps the place in the queue',
    run: waitingIsIdempotent,
    needs: [needs.arrivalOrder],
  },
  {
    name: 'claiming what is held re-arms its expiry',
    run: (trial) =>
      staysTakenOnSomeAttempt(
        trial,
        async (store, claim) => (await store.claim(claim)).is === 'granted',
      ),
  },
  {
    name: 'renewing re-arms the expiry',
    run: (trial) =>
      staysTakenOnSomeAttempt(
        trial,
        async (store, claim) => (await renewOne(store, claim)) === 'held',
      ),
  },
  { name: 'claim and renew never shorten an expiry', run: neverShortens },
  { name: 'a claim that nobody renews expires, and not before its ttl', run: expires },
  { name: 'a stale owner can neither renew nor release', run: staleOwner },
  { name: 'drop is idempotent', run: dropIsIdempotent },
  { name: 'drop claims again in the same step', run: dropAndClaimAgain },
  {
    name: 'drop and claim again goes behind who waits',
    run: dropGoesBehindWaiters,
    needs: [needs.arrivalOrder],
  },
  { name: 'a claim that does not wait leaves no trace', run: tryLeavesNoTrace, hooks: ['inspect'] },
  { name: 'a holder is told that another process wants the key', run: wantedIsTold },
  { name: 'a waiter that leaves blocks nobody', run: withdrawnWaiter, hooks: ['inspect'] },
  { name: 'newcomers do not pass the queue', run: newcomersDoNotPass, needs: [needs.arrivalOrder] },
  {
    name: 'claims are granted in the order of arrival',
    run: servedInOrder,
    needs: [needs.arrivalOrder],
  },
  { name: 'a waiter that fell silent does not block the queue', run: silentWaiter },
  {
    name: 'a waiter that fell silent is forgotten after its ttl',
    run: forgottenWaiter,
    hooks: ['inspect'],
  },
  { name: 'closing a store leaves its leases to their ttl', run: closingKeepsLeases },
  {
    name: 'capacities that the store cannot do are refused',
    run: unsupportedCapacity,
    needs: [needs.exclusiveOnly],
  },
];
