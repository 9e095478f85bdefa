/**
 * What a `StateStore` must do that commits without taking a lock: nobody can tell that the lock was not taken.
 */
import assert from 'node:assert/strict';
import type { ElidedCommit, Elision, Mark, Sight, StateStore } from '../../consumer/contracts.ts';
import type { Token } from '../../core/fence.ts';
import { GRANTS_PER_EPOCH } from '../../core/lease.ts';
import { type Claim, type LeaseStore, SHARED_CAPACITY } from '../../core/store.ts';
import { messageOf, tokenOf } from './samples.ts';
import type { EngineCase, EngineTrial } from './suite.ts';

type Trial = EngineTrial<StateStore>;

const KEY = 'contribution:42';
const LOCK = 'lock of contribution:42';
const TTL_MS = 30_000;
/** A lease that is waited for. */
const SHORT_TTL_MS = 100;

let number = 0;

function claimOf(parts: Partial<Claim> = {}): Claim {
  number += 1;
  const owner = `holder:${process.pid}:${number}`;
  const all = { units: SHARED_CAPACITY, capacity: SHARED_CAPACITY };
  return { key: LOCK, owner, ...all, ttlMs: TTL_MS, wait: true, ...parts };
}

function commitOf(parts: Partial<ElidedCommit> = {}): ElidedCommit {
  number += 1;
  return {
    key: KEY,
    lockName: LOCK,
    id: `elided:${process.pid}:${number}`,
    expectedVersion: 0,
    expectedFence: '',
    value: 'value',
    messages: [],
    ...parts,
  };
}

async function granted(leases: LeaseStore, parts: Partial<Claim> = {}): Promise<[Claim, Token]> {
  const claim = claimOf(parts);
  const outcome = await leases.claim(claim);
  assert.equal(outcome.is, 'granted');
  if (outcome.is !== 'granted') throw new Error('unreachable');
  return [claim, tokenOf(outcome.epoch * BigInt(GRANTS_PER_EPOCH) + 1n)];
}

async function see(elision: Elision, ids: readonly string[] = []): Promise<Sight> {
  const seen = await elision.look(
    KEY,
    LOCK,
    ids.map((id) => messageOf(id)),
  );
  assert.equal(seen.is, 'seen');
  return seen as Sight;
}

/** Commits on what is there now. Gives the token that it was given. */
async function commit(elision: Elision, parts: Partial<ElidedCommit> = {}): Promise<string> {
  const { version, fence } = await see(elision);
  const outcome = await elision.commit(
    commitOf({ expectedVersion: version, expectedFence: fence, ...parts }),
  );
  assert.equal(outcome.is, 'committed');
  if (outcome.is !== 'committed') throw new Error('unreachable');
  assert.equal(outcome.version, version + 1);
  assert.match(outcome.fence, /^\d{20}$/);
  assert(outcome.fence > fence, `${outcome.fence} is not higher than ${fence}`);
  return outcome.fence;
}

async function committed(trial: Trial): Promise<void> {
  const { state, leases, elision } = await trial.elision();
  assert.deepEqual(await see(elision), {
    is: 'seen',
    value: null,
    version: 0,
    fence: '',
    marks: new Map(),
  });
  const fence = await commit(elision, { value: '5', messages: [messageOf('a')] });
  const marks = new Map<string, Mark>([['a', 'applied']]);
  const expected = { value: '5', version: 1, marks };
  assert.deepEqual(await see(elision, ['a', 'b']), { is: 'seen', fence, ...expected });
  const [, token] = await granted(leases);
  const messages = [messageOf('a'), messageOf('b')];
  assert.deepEqual(await state.load(KEY, token, messages), { is: 'loaded', ...expected });
}

async function keptOut(trial: Trial, parts: Partial<Claim>): Promise<void> {
  const { state, leases, elision } = await trial.elision();
  const locked = { is: 'locked' };
  const [claim] = await granted(leases, parts);
  assert.deepEqual(await elision.look(KEY, LOCK, []), locked);
  assert.deepEqual(await elision.commit(commitOf()), locked);
  assert.equal(await state.peek(KEY), null);
  await elision.commit(commitOf({ lockName: 'another lock', key: 'another key' }));
  assert.equal(await state.peek('another key'), 'value');
  await leases.drop(claim);
  await commit(elision);
}

async function heldByNobody(trial: Trial): Promise<void> {
  const { leases, elision } = await trial.elision();
  const [claim] = await granted(leases, { ttlMs: SHORT_TTL_MS });
  await trial.until('the lease is over', async () => {
    return (await elision.commit(commitOf())).is === 'committed';
  });
  assert.deepEqual(await leases.renew([claim]), [{ is: 'lost' }]);
}

async function moved(trial: Trial): Promise<void> {
  const { state, leases, elision } = await trial.elision();
  await commit(elision);
  const guess = await elision.commit(
    commitOf({ expectedVersion: 0, expectedFence: '', id: 'guess' }),
  );
  assert.equal(guess.is, 'moved', 'there is a state');
  const before = await see(elision);
  const [claim, lease] = await granted(leases);
  await state.load(KEY, lease, []);
  await leases.drop(claim);
  const expected = { expectedVersion: before.version, expectedFence: before.fence };
  const messages = [messageOf('a')];
  const afterReading = await elision.commit(commitOf({ ...expected, messages }));
  assert.equal(afterReading.is, 'moved', 'somebody has read it under the lock');

  const [next, newer] = await granted(leases);
  const written = {
    key: KEY,
    lease: newer,
    id: 'leased',
    expectedVersion: 1,
    value: '6',
    messages,
  };
  assert.equal((await state.commit(written)).is, 'committed');
  await leases.drop(next);
  const { is, ...sight } = (await elision.commit(commitOf({ ...expected, messages }))) as Sight & {
    readonly is: string;
  };
  assert.equal(is, 'moved');
  const fence = newer.tokenText;
  const marks = new Map<string, Mark>([['a', 'applied']]);
  assert.deepEqual(sight, { value: '6', version: 2, fence, marks });
  assert.equal(await state.peek(KEY), '6');
}

async function fencesOlderLeases(trial: Trial): Promise<void> {
  const { state, leases, elision } = await trial.elision();
  const [claim, older] = await granted(leases);
  await leases.drop(claim);
  const fence = await commit(elision, { value: '5' });
  const stale = { is: 'stale', fence };
  assert.deepEqual(await state.load(KEY, older, []), stale);
  const late = { key: KEY, lease: older, id: 'late', expectedVersion: 1, value: 'x', messages: [] };
  assert.deepEqual(await state.commit(late), stale);
  assert.equal(await state.peek(KEY), '5');
  const [, newer] = await granted(leases);
  assert.equal((await state.load(KEY, newer, [])).is, 'loaded');
}

async function behindAnotherFence(trial: Trial): Promise<void> {
  const { state, elision } = await trial.elision();
  // Higher than any that a lock of today has: as after a change of the engine.
  const highest = tokenOf(10n ** 20n - 1n);
  const fence = highest.tokenText;
  await state.load(KEY, highest, []);
  const outcome = await elision.commit(commitOf({ expectedFence: fence }));
  assert.deepEqual(outcome, { is: 'stale', fence });
  assert.equal(await state.peek(KEY), null);
}

async function repeated(trial: Trial): Promise<void> {
  const { state, elision } = await trial.elision();
  const first = commitOf({ value: '5', messages: [messageOf('a')] });
  const outcome = await elision.commit(first);
  assert.equal(outcome.is, 'committed');
  assert.deepEqual(await elision.commit(first), outcome);
  const { fence } = await see(elision);
  assert.deepEqual(outcome, { is: 'committed', version: 1, fence });
  await commit(elision, { value: '6' });
  assert.notEqual((await elision.commit(first)).is, 'committed', 'it is not the last one any more');
  assert.equal(await state.peek(KEY), '6');
}

async function race(trial: Trial): Promise<void> {
  const { elision } = await trial.elision();
  await commit(elision);
  const { version, fence } = await see(elision);
  const expected = { expectedVersion: version, expectedFence: fence };
  const outcomes = await Promise.all(
    Array.from({ length: 10 }, (_, at) =>
      elision.commit(commitOf({ ...expected, value: `${at}` })),
    ),
  );
  const done = outcomes.filter(({ is }) => is === 'committed');
  assert.equal(done.length, 1);
  assert(outcomes.every(({ is }) => is === 'committed' || is === 'moved'));
  const seen = await see(elision);
  assert.equal(seen.version, version + 1);
  assert.equal(seen.value, String(outcomes.findIndex(({ is }) => is === 'committed')));
}

async function refused(trial: Trial): Promise<void> {
  const { state, elision } = await trial.elision();
  await commit(elision, { value: '5', messages: [messageOf('a')] });
  const { version, fence } = await see(elision);
  const expected = { expectedVersion: version, expectedFence: fence };
  await state.markDead(KEY, [messageOf('d')]);
  const known = {
    is: 'known',
    marks: new Map([
      ['a', 'applied'],
      ['d', 'dead-lettered'],
    ]),
  };
  const copies = [messageOf('new'), messageOf('a'), messageOf('d')];
  assert.deepEqual(await elision.commit(commitOf({ ...expected, messages: copies })), known);
  const ancient = messageOf('old', { publishedAtMs: 0 });
  const tooOld = { is: 'too-old', ids: ['old'] };
  assert.deepEqual(await elision.commit(commitOf({ ...expected, messages: [ancient] })), tooOld);
  assert.equal(await state.peek(KEY), '5');
  assert.equal((await see(elision, ['new', 'old'])).marks.size, 0);
  // Refused, it has changed nothing that another commit would look at; and a replay clears its mark.
  const replay = messageOf('d', { isReplay: true });
  const outcome = await elision.commit(commitOf({ ...expected, value: '6', messages: [replay] }));
  assert.equal(outcome.is, 'committed');
  assert.deepEqual([...(await see(elision, ['d'])).marks], [['d', 'applied']]);
}

async function elsewhere(trial: Trial): Promise<void> {
  const { state } = await trial.elision();
  const stranger = { name: 'stranger' } as LeaseStore;
  assert.equal(state.elision?.(stranger) ?? null, null);
}

const hooks = ['elision'] as const;
const sharing = { units: 1, capacity: 2 };

export const elisionCases: readonly EngineCase<StateStore>[] = [
  { name: 'without its lock a state is committed as with it', run: committed, hooks },
  {
    name: 'without its lock a state is not committed while somebody has it',
    run: (trial) => keptOut(trial, {}),
    hooks,
  },
  {
    name: 'without its lock a state is not committed while somebody shares it',
    run: (trial) => keptOut(trial, sharing),
    hooks,
  },
  { name: 'a lock that is over keeps nobody out', run: heldByNobody, hooks },
  { name: 'what has moved since it was seen is not committed, but seen anew', run: moved, hooks },
  { name: 'a commit without the lock fences older leases', run: fencesOlderLeases, hooks },
  {
    name: 'a commit without the lock is stale behind a higher fence',
    run: behindAnotherFence,
    hooks,
  },
  { name: 'a commit without the lock that is made again is done once', run: repeated, hooks },
  { name: 'of commits without the lock on one sight one is done', run: race, hooks },
  { name: 'a commit without the lock refuses what is known or too old', run: refused, hooks },
  { name: 'a store knows which leases are beside its states', run: elsewhere, hooks },
];
