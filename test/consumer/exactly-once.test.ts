import type { CommitOutcome, Elision, StateStore } from 'leasehold/consumer';
import { memorySource, memoryState } from 'leasehold/memory';
import { expect, test } from 'vitest';
import {
  type Contribution,
  contribute,
  makeSetting,
  type Setting,
  start,
  sum,
  totalOf,
  until,
} from './setup.ts';

/** A store with some of its calls replaced. */
function changed(state: StateStore, changes: Partial<StateStore>): StateStore {
  const calls = ['open', 'load', 'peek', 'commit', 'markDead', 'close'] as const;
  const same = Object.fromEntries(calls.map((name) => [name, state[name].bind(state)]));
  return {
    ...(same as unknown as StateStore),
    windowMs: state.windowMs,
    name: 'changed',
    ...changes,
  };
}

function elisionOf({ state, locks }: Setting): Elision {
  const elision = state.elision?.(locks.store);
  if (!elision) throw new Error('the memory engines elide no locks');
  return elision;
}

test('messages of a key are added up, those of others elsewhere', async () => {
  const setting = makeSetting();
  contribute(setting.queue, 'm1', 5);
  contribute(setting.queue, 'm2', 7);
  contribute(setting.queue, 'm3', 11, { account: 'otto' });
  const consumer = start(setting);
  await until(() => consumer.metrics().applied === 3);
  expect(await totalOf(setting.state)).toBe(12);
  expect(await totalOf(setting.state, 'otto')).toBe(11);
  await consumer.stop();
  expect(consumer.metrics()).toMatchObject({ delivered: 3, inFlight: 0, duplicates: 0 });
  expect(setting.queue.depth).toEqual({ ready: 0, unsettled: 0, delayed: 0, dead: 0 });
});

test('all that waits for a key goes in one batch, in order of arrival, with one load and one commit', async () => {
  const setting = makeSetting();
  const sizes: number[] = [];
  let loads = 0;
  const state = changed(setting.state, {
    load: (...args) => {
      loads += 1;
      return setting.state.load(...args);
    },
  });
  for (let n = 0; n < 50; n += 1) contribute(setting.queue, `m${n}`, n);
  const orders: number[] = [];
  const consumer = start(setting, {
    state,
    maxBatch: 30,
    reduce: (total, messages) => {
      sizes.push(messages.length);
      orders.push(...messages.map(({ body }) => body.amount));
      return sum(total, messages);
    },
  });
  await until(() => consumer.metrics().applied === 50);
  expect(sizes).toEqual([30, 20]);
  expect(loads).toBe(2);
  expect(orders).toEqual(Array.from({ length: 50 }, (_, n) => n));
});

test('duplicates never reach the reducer, neither within a batch nor later', async () => {
  const setting = makeSetting();
  const seen: string[] = [];
  const reduce = (
    total: number | null,
    messages: readonly { id: string; body: Contribution }[],
  ) => {
    seen.push(...messages.map(({ id }) => id));
    return sum(total, messages);
  };
  for (const id of ['m1', 'm1', 'm2', 'm1']) contribute(setting.queue, id, 1);
  const consumer = start(setting, { reduce });
  await until(() => consumer.metrics().inFlight === 0 && consumer.metrics().delivered === 4);
  contribute(setting.queue, 'm2', 1);
  contribute(setting.queue, 'm3', 1);
  await until(() => consumer.metrics().delivered === 6 && consumer.metrics().inFlight === 0);
  expect(seen).toEqual(['m1', 'm2', 'm3']);
  expect(await totalOf(setting.state)).toBe(3);
  expect(consumer.metrics()).toMatchObject({ applied: 3, duplicates: 3 });
});

test('a kept state is taken while the lock is held, and costs no load', async () => {
  const setting = makeSetting();
  let loads = 0;
  const state = changed(setting.state, {
    load: (...args) => {
      loads += 1;
      return setting.state.load(...args);
    },
  });
  const consumer = start(setting, { state, keepState: true, retainMs: 60_000 });
  for (let n = 1; n <= 5; n += 1) {
    contribute(setting.queue, `m${n}`, n);
    await until(() => consumer.metrics().applied === n);
  }
  expect(loads).toBe(1);
  expect(consumer.metrics()).toMatchObject({ batches: 5, kept: 4 });
  // Somebody else has the lock in between, and adds to the state.
  const other = start(setting);
  contribute(setting.queue, 'm6', 6);
  contribute(setting.queue, 'm7', 7);
  await until(() => consumer.metrics().applied + other.metrics().applied === 7);
  expect(await totalOf(setting.state)).toBe(28);
});

test('with a kept state, duplicates are found by the commit, and the reducer runs again without them', async () => {
  const setting = makeSetting();
  const consumer = start(setting, { keepState: true, retainMs: 60_000 });
  contribute(setting.queue, 'm1', 1);
  await until(() => consumer.metrics().applied === 1);
  contribute(setting.queue, 'm1', 1);
  contribute(setting.queue, 'm2', 2);
  await until(() => consumer.metrics().applied === 2);
  expect(await totalOf(setting.state)).toBe(3);
  expect(consumer.metrics()).toMatchObject({ duplicates: 1, kept: 1 });
});

test('without the lock, a batch is committed on what the one before has made, without another look', async () => {
  const setting = makeSetting();
  const real = elisionOf(setting);
  const calls: string[] = [];
  const elision: Elision = {
    look: (...args) => {
      calls.push('look');
      return real.look(...args);
    },
    commit: async (commit) => {
      const outcome = await real.commit(commit);
      calls.push(outcome.is);
      // Meanwhile a copy of what was just applied comes again, and somebody else changes the state.
      if (calls.length === 2) contribute(setting.queue, 'm1', 1);
      if (calls.length === 3) contribute(setting.queue, 'm3', 3);
      if (calls.length === 4) {
        const seen = await real.look(commit.key, commit.lockName, []);
        if (seen.is !== 'seen') throw new Error(`it is ${seen.is}`);
        const { version, fence } = seen;
        const expected = { expectedVersion: version, expectedFence: fence };
        await real.commit({ ...commit, id: 'foreign', ...expected, value: '100', messages: [] });
        contribute(setting.queue, 'm4', 4);
      }
      return outcome;
    },
  };
  const state = changed(setting.state, { elision: () => elision });
  contribute(setting.queue, 'm1', 1);
  const consumer = start(setting, { state });
  await until(() => consumer.metrics().applied === 3 && consumer.metrics().inFlight === 0);
  expect(calls).toEqual(['look', 'committed', 'known', 'committed', 'moved', 'committed']);
  expect(await totalOf(setting.state)).toBe(104);
  expect(consumer.metrics()).toMatchObject({ duplicates: 1, conflicts: 1, elided: 3, kept: 2 });
});

test('while most keys are new, one is committed to as new without a look, and a wrong guess does no harm', async () => {
  const setting = makeSetting();
  for (const account of ['old', 'strict']) {
    contribute(setting.queue, `first-${account}`, 100, { account });
    const before = start(setting);
    await until(() => before.metrics().applied === 1);
    await before.stop();
  }
  const real = elisionOf(setting);
  let looks = 0;
  const look: Elision['look'] = (...args) => {
    looks += 1;
    return real.look(...args);
  };
  const state = changed(setting.state, { elision: () => ({ ...real, look }) });
  const consumer = start(setting, {
    state,
    reduce(total, messages) {
      if (messages[0]?.body.account === 'strict' && total === null) throw new Error('no account');
      return sum(total, messages);
    },
  });
  let applied = 0;
  const add = async (account: string): Promise<void> => {
    applied += 1;
    contribute(setting.queue, `m${applied}`, 1, { account });
    await until(() => consumer.metrics().applied === applied);
  };
  for (let number = 0; number < 100; number += 1) await add(`new-${number}`);
  expect(looks).toBeLessThan(50);
  const before = looks;
  await add('old');
  expect(looks).toBe(before);
  // What its reducer throws about may not be so.
  await add('strict');
  expect(looks).toBe(before + 1);
  for (let turn = 0; turn < 20; turn += 1) await add('new-1');
  expect(looks).toBeGreaterThan(before + 1);
  expect(await totalOf(setting.state, 'old')).toBe(101);
  expect(await totalOf(setting.state, 'strict')).toBe(101);
  expect(await totalOf(setting.state, 'new-1')).toBe(21);
  expect(consumer.metrics()).toMatchObject({ elided: 122, conflicts: 0, failed: 0, kept: 0 });
});

test('a commit whose answer was lost is made again, and counts once', async () => {
  const setting = makeSetting();
  const ids: string[] = [];
  const state = changed(setting.state, {
    commit: async (commit): Promise<CommitOutcome> => {
      ids.push(commit.id);
      const outcome = await setting.state.commit(commit);
      if (ids.length < 3) throw new Error('the answer was lost');
      return outcome;
    },
  });
  const consumer = start(setting, { state });
  contribute(setting.queue, 'm1', 5);
  await until(() => consumer.metrics().applied === 1);
  expect(new Set(ids).size).toBe(1);
  expect(await totalOf(setting.state)).toBe(5);
  expect(consumer.metrics().engineErrors).toBe(2);
});

test('a message older than the window goes to a person, not to the reducer', async () => {
  const setting = { ...makeSetting(), state: memoryState({ windowMs: 60_000 }) };
  const publishedAtMs = Date.now() - 61_000;
  contribute(setting.queue, 'old', 1, { publishedAtMs });
  contribute(setting.queue, 'new', 2);
  const consumer = start(setting, { source: memorySource(setting.queue) });
  await until(() => consumer.metrics().applied === 1 && setting.queue.depth.dead === 1);
  const [letter] = await setting.queue.deadLetters().list(10);
  expect(letter).toMatchObject({ reason: 'too-old', envelope: { id: 'old' } });
  expect(await totalOf(setting.state)).toBe(2);
});
