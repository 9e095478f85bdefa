/**
 * Mutual exclusion, order, and what is left behind, through the public face.
 */
import assert from 'node:assert/strict';
import {
  AcquireTimeoutError,
  ManagerClosedError,
  StoreUnavailableError,
} from '../../../core/errors.ts';
import type { Lease } from '../../../core/lease.ts';
import { type ConformanceCase, needs } from '../suite.ts';
import { delay, type Participant, type Trial, turn } from '../trial.ts';

const KEY = 'contribution:42';

/** Within a very short wait, a busy machine may have no answer from its store at all. */
function isGivingUp(reason: unknown): boolean {
  return reason instanceof AcquireTimeoutError || reason instanceof StoreUnavailableError;
}

/** Read, modify, write, with time for others to come between. */
async function increment(counter: { value: number }): Promise<void> {
  const { value } = counter;
  await turn();
  counter.value = value + 1;
}

async function hundredsOfCallers(trial: Trial): Promise<void> {
  const callers = 75;
  const rounds = 2;
  const participants = trial.participants(4);
  const counter = { value: 0 };
  let lastToken = 0n;
  const work = async ({ locks }: Participant): Promise<void> => {
    for (let round = 0; round < rounds; round += 1) {
      await locks.withLock(KEY, { waitMs: 60_000 }, async (lease) => {
        assert(lease.token > lastToken, 'tokens strictly increase from grant to grant');
        lastToken = lease.token;
        await increment(counter);
      });
    }
  };
  const all = participants.flatMap((one) => Array.from({ length: callers }, () => work(one)));
  await Promise.all(all);
  assert.equal(counter.value, participants.length * callers * rounds, 'no update is lost');
}

async function localOrder(trial: Trial): Promise<void> {
  const { locks } = trial.participant();
  const first = await locks.acquire(KEY);
  const served: number[] = [];
  const callers = Array.from({ length: 30 }, (_, index) =>
    locks.withLock(KEY, async () => {
      served.push(index);
      await turn();
    }),
  );
  await first.release();
  await Promise.all(callers);
  assert.deepEqual(
    served,
    [...served].sort((a, b) => a - b),
  );
  assert.equal(served.length, callers.length);
}

async function remoteOrder(trial: Trial): Promise<void> {
  const participants = trial.participants(5);
  const first = await trial.participant().locks.acquire(KEY);
  const served: number[] = [];
  const callers: Promise<void>[] = [];
  for (const [index, participant] of participants.entries()) {
    const { lease } = await trial.queue(participant, KEY);
    const use = async (): Promise<void> => {
      const held = await lease;
      served.push(index);
      await turn();
      await held.release();
    };
    callers.push(use());
  }
  await first.release();
  await trial.settles('all callers', Promise.all(callers));
  assert.deepEqual(served, [0, 1, 2, 3, 4]);
}

async function tryAcquireOnly(trial: Trial): Promise<void> {
  const [a, b, c] = trial.participants(3);
  const lease = await a.locks.tryAcquire(KEY);
  assert(lease, 'a free key is taken');
  assert.equal(await a.locks.tryAcquire(KEY), null, 'taken by a task of the same process');
  assert.equal(await b.locks.tryAcquire(KEY), null, 'taken by another process');
  await lease.release();
  await trial.leavesNothing();
  const rivals = await Promise.all([a, b, c].map(({ locks }) => locks.tryAcquire(KEY)));
  const won = rivals.filter((rival) => rival !== null);
  assert(won.length <= 1, 'one rival wins at the most');
  await Promise.all(won.map((rival) => rival.release()));
  await trial.leavesNothing();
}

async function tryAcquireQueue(trial: Trial): Promise<void> {
  const [a, b, c] = trial.participants(3);
  const lease = await a.locks.acquire(KEY);
  const waiting = await trial.queue(b, KEY);
  for (const { locks } of [a, b, c]) {
    assert.equal(await trial.settles('tryAcquire', locks.tryAcquire(KEY)), null);
  }
  await lease.release();
  assert.equal(await c.locks.tryAcquire(KEY), null, 'somebody else came first');
  await (await waiting.lease).release();
}

async function aborted(trial: Trial): Promise<void> {
  const [a, b, c] = trial.participants(3);
  const controller = new AbortController();
  const { signal } = controller;
  const reason = new Error('no longer needed');
  const lease = await a.locks.acquire(KEY);
  const leaving = await trial.queue(b, KEY, { signal });
  const local = a.locks.acquire(KEY, { signal });
  const staying = await trial.queue(c, KEY);
  controller.abort(reason);
  for (const left of [leaving.lease, local]) {
    await assert.rejects(left, (error) => error === reason);
  }
  await assert.rejects(b.locks.acquire(KEY, { signal }), (error) => error === reason);
  await lease.release();
  await (await trial.settles('the waiter behind', staying.lease)).release();
  await trial.leavesNothing();
}

/** An abort at every moment around the one at which the lease arrives. */
async function abortRacesGrant(trial: Trial): Promise<void> {
  const [a, b, c] = trial.participants(3);
  for (let turns = -4; turns < 8; turns += 1) {
    const controller = new AbortController();
    const lease = await trial.settles('the first lease', a.locks.acquire(KEY));
    const racing = await trial.queue(b, KEY, { signal: controller.signal });
    const release = (async () => {
      for (let count = turns; count < 0; count += 1) await turn();
      await lease.release();
    })();
    for (let count = 0; count < turns; count += 1) await turn();
    controller.abort(new Error('raced'));
    const [won] = await Promise.allSettled([racing.lease, release]);
    if (won.status === 'fulfilled') await won.value.release();
    await (await trial.settles('the next lease', c.locks.acquire(KEY))).release();
  }
}

async function timeOutRacesGrant(trial: Trial): Promise<void> {
  const [a, b, c] = trial.participants(3);
  const waitMs = 20;
  await trial.warmUp(a, b, c);
  for (let round = 0; round < 12; round += 1) {
    const lease = await trial.settles('the first lease', a.locks.acquire(KEY));
    const racing = b.locks.acquire(KEY, { waitMs });
    racing.catch(() => {});
    await delay(waitMs - 3 + (round % 6));
    await lease.release();
    const [won] = await Promise.allSettled([racing]);
    if (won.status === 'fulfilled') await won.value.release();
    else assert(isGivingUp(won.reason));
    await (await trial.settles('the next lease', c.locks.acquire(KEY))).release();
  }
  await trial.leavesNothing();
}

/** Waits for so long that the store has said that it is a wait; with what time it is. */
async function queueBriefly(
  trial: Trial,
  participant: Participant,
): Promise<readonly [{ readonly lease: Promise<Lease> }, number]> {
  for (const waitMs of [1_500, 3_000, 6_000, 12_000]) {
    try {
      return [await trial.queue(participant, KEY, { waitMs }), waitMs];
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
    }
  }
  assert.fail('the store has not said that it is a wait, however long that was');
}

async function timedOut(trial: Trial): Promise<void> {
  const holder = trial.participant({ identity: 'web-3:4121:123456789012' });
  const [first, impatient, last] = trial.participants(3);
  await trial.warmUp(impatient);
  const lease = await holder.locks.acquire(KEY);
  const ahead = await trial.queue(first, KEY);
  const [leaving, waitMs] = await queueBriefly(trial, impatient);
  const behind = await trial.queue(last, KEY);
  const error = await leaving.lease.then(
    () => assert.fail('the key is held'),
    (reason: unknown) => reason,
  );
  assert(error instanceof AcquireTimeoutError);
  assert.equal(error.holder, 'web-3:4121', 'it names who holds the key');
  assert(
    impatient.store.guarantees.order === 'none' || error.ahead === 1,
    'and how many wait ahead',
  );
  // The nonce stays out of messages, also one of digits alone: whoever has the whole owner value can drop the lease.
  const text = `not acquired in ${waitMs} ms; held by web-3:4121, `;
  assert(error.message.includes(text), error.message);
  await lease.release();
  await (await trial.settles('the one ahead', ahead.lease)).release();
  await (await trial.settles('the one behind', behind.lease)).release();
  await trial.leavesNothing();
}

async function allOrNone(trial: Trial): Promise<void> {
  const [a, b, c] = trial.participants(3);
  const lease = await b.locks.acquire('b');
  assert.equal(await a.locks.tryAcquire(['c', 'b', 'a']), null);
  await assert.rejects(a.locks.acquire(['c', 'b', 'a'], { waitMs: 100 }), isGivingUp);
  await lease.release();
  await trial.leavesNothing();
  const set = await c.locks.acquire(['c', 'a', 'b', 'a']);
  const keys = set.leases.map((lease) => lease.key);
  assert.deepEqual(keys, ['a', 'b', 'c'], 'in canonical order, duplicates folded');
  assert.equal(await a.locks.tryAcquire('a'), null);
  set.assertHeld();
  await set.release();
  await trial.leavesNothing();
}

async function oppositeOrders(trial: Trial): Promise<void> {
  const participants = trial.participants(3);
  const orders = [
    ['a', 'b', 'c'],
    ['c', 'b', 'a'],
    ['b', 'c', 'a'],
  ];
  const counter = { value: 0 };
  const work = async ({ locks }: Participant, keys: readonly string[]): Promise<void> => {
    for (let round = 0; round < 8; round += 1) {
      await locks.withLock(keys, () => increment(counter));
    }
  };
  const all = participants.flatMap((one) => orders.map((keys) => work(one, keys)));
  await trial.settles('work on keys in opposite orders', Promise.all(all));
  assert.equal(counter.value, all.length * 8);
}

/** Everything that an engine might fold, cut, escape or take for something of its own. */
const ODD_KEYS: readonly string[] = [
  'a',
  'A',
  'a:b',
  'a:b:c',
  'a b',
  ' a',
  'a ',
  'a/b',
  '/a',
  '..',
  '../a',
  '{a}',
  '{a}:b',
  '}a{',
  'a\nb',
  'a\r\nb',
  'a\tb',
  'a\0',
  'a\0b',
  '\0',
  '\u001b[1m',
  '%00',
  '*',
  'a*',
  '?',
  '[a]',
  '\\',
  '"',
  "'",
  '`',
  '$a',
  '__proto__',
  'constructor',
  'null',
  '0',
  '-1',
  '\u00e9',
  'e\u0301',
  'ß',
  'ss',
  '鍵',
  '🔒',
  '\ufeff',
  '\uffff',
  '\u{10ffff}',
  '\u202e',
  'x'.repeat(511),
  'x'.repeat(512),
  '鍵'.repeat(512),
  '🔒'.repeat(256),
  '\0'.repeat(512),
];

async function oddKeys(trial: Trial): Promise<void> {
  const [a, b] = trial.participants(2);
  const set = await trial.settles('a lease of each key', a.locks.acquire(ODD_KEYS));
  assert.equal(set.leases.length, ODD_KEYS.length, 'each is a key of its own');
  for (const key of ODD_KEYS) {
    assert.equal(await b.locks.tryAcquire(key), null, `${JSON.stringify(key)} excludes`);
  }
  await set.release();
  const next = await trial.settles('each key again', b.locks.acquire(ODD_KEYS));
  await next.release();
  await trial.leavesNothing();
}

async function closes(trial: Trial): Promise<void> {
  const [closing, other] = trial.participants(2);
  const held = await closing.locks.acquire('held');
  const retained = await closing.locks.acquire('retained', { retainMs: 600_000 });
  await retained.release();
  await other.locks.acquire('elsewhere');
  const waiting = await trial.queue(closing, 'elsewhere');
  await trial.settles('close', closing.locks.close());
  assert.equal(held.state, 'lost');
  await assert.rejects(waiting.lease, ManagerClosedError);
  await assert.rejects(closing.locks.acquire('new'), ManagerClosedError);
  for (const key of ['held', 'retained']) {
    await trial.settles('a lease of the closed manager', other.locks.acquire(key));
  }
}

async function closesWithGrace(trial: Trial): Promise<void> {
  const { locks } = trial.participant();
  const lease = await locks.acquire(KEY);
  const closing = locks.close({ graceMs: 600_000 });
  await turn();
  lease.assertHeld();
  await lease.release();
  await trial.settles('close', closing);
  assert.equal(lease.state, 'released');
}

export const exclusionCases: readonly ConformanceCase[] = [
  { name: 'hundreds of callers of several processes exclude each other', run: hundredsOfCallers },
  { name: 'callers of one process are served in order', run: localOrder },
  {
    name: 'callers of several processes are served in the order of arrival',
    run: remoteOrder,
    needs: [needs.arrivalOrder],
  },
  {
    name: 'tryAcquire takes a free key or none, without a trace',
    run: tryAcquireOnly,
    hooks: ['inspect'],
  },
  { name: 'tryAcquire does not pass the queue', run: tryAcquireQueue, needs: [needs.arrivalOrder] },
  { name: 'cancelled waiters leave nothing behind', run: aborted, hooks: ['inspect'] },
  { name: 'a cancellation that races the grant strands no lease', run: abortRacesGrant },
  {
    name: 'a time-out that races the grant strands no lease',
    run: timeOutRacesGrant,
    hooks: ['inspect'],
  },
  {
    name: 'timed-out waiters say whom they waited for, and leave nothing behind',
    run: timedOut,
    hooks: ['inspect'],
  },
  { name: 'several keys are taken all or none', run: allOrNone, hooks: ['inspect'] },
  { name: 'opposite orders of several keys do not deadlock', run: oppositeOrders },
  { name: 'every kind of character makes a key of its own', run: oddKeys, hooks: ['inspect'] },
  { name: 'close rejects who waits and frees what is held', run: closes },
  { name: 'close with a grace waits for the holder', run: closesWithGrace },
];
