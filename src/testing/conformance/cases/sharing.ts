/**
 * Readers and writers, semaphores, and how they meet: units of a capacity.
 */
import assert from 'node:assert/strict';
import { AcquireTimeoutError, ClaimRefusedError } from '../../../core/errors.ts';
import type { Lease } from '../../../core/lease.ts';
import { type ConformanceCase, needs } from '../suite.ts';
import { type Participant, type Trial, turn } from '../trial.ts';

const KEY = 'catalogue';
const SHARED = { mode: 'shared' } as const;
const EXCLUSIVE = { mode: 'exclusive' } as const;

function releaseAll(leases: readonly Lease[]): Promise<unknown> {
  return Promise.all(leases.map((lease) => lease.release()));
}

async function readersShare(trial: Trial): Promise<void> {
  const participants = trial.participants(3);
  const readers: Lease[] = [];
  for (const { locks } of [...participants, ...participants]) {
    readers.push(await trial.settles('a reader', locks.acquire(KEY, SHARED)));
  }
  for (const reader of readers) reader.assertHeld();
  for (const { locks } of participants) {
    assert.equal(await locks.tryAcquire(KEY), null, 'readers exclude a mutex');
    assert.equal(await locks.tryAcquire(KEY, EXCLUSIVE), null, 'and a writer');
  }
  await releaseAll(readers);
  await trial.leavesNothing();
}

async function writersExclude(trial: Trial): Promise<void> {
  const [a, b] = trial.participants(2);
  for (const options of [EXCLUSIVE, {}]) {
    const writer = await trial.settles('a writer', a.locks.acquire(KEY, options));
    for (const { locks } of [a, b]) {
      for (const other of [SHARED, EXCLUSIVE, {}]) {
        assert.equal(await locks.tryAcquire(KEY, other), null);
      }
    }
    await writer.release();
  }
  await trial.leavesNothing();
}

async function readersAndWritersMix(trial: Trial): Promise<void> {
  const participants = trial.participants(3);
  const state = { version: 0, writers: 0, readers: 0 };
  const write = ({ locks }: Participant): Promise<void> =>
    locks.withLock(KEY, async () => {
      assert.deepEqual([state.writers, state.readers], [0, 0], 'a writer is alone');
      state.writers += 1;
      const { version } = state;
      await turn();
      state.version = version + 1;
      state.writers -= 1;
    });
  const read = ({ locks }: Participant): Promise<void> =>
    locks.withLock(KEY, SHARED, async () => {
      assert.equal(state.writers, 0, 'nobody writes while somebody reads');
      state.readers += 1;
      await turn();
      state.readers -= 1;
    });
  const all = participants.flatMap((one) =>
    Array.from({ length: 40 }, (_, index) => (index % 4 === 0 ? write(one) : read(one))),
  );
  await trial.settles('readers and writers', Promise.all(all));
  assert.equal(state.version, 30);
}

async function writerIsNext(trial: Trial): Promise<void> {
  const [first, writer, late, newcomer] = trial.participants(4);
  const reader = await first.locks.acquire(KEY, SHARED);
  const writing = await trial.queue(writer, KEY);
  const reading = await trial.queue(late, KEY, SHARED);
  assert.equal(
    await newcomer.locks.tryAcquire(KEY, SHARED),
    null,
    'newcomers do not pass a writer',
  );
  await reader.release();
  const held = await trial.settles('the writer', writing.lease);
  assert.equal(late.locks.usage.leases, 0, 'the reader behind the writer waits');
  await held.release();
  await trial.settles('the reader behind the writer', reading.lease);
}

async function localWriterIsNext(trial: Trial): Promise<void> {
  const { locks } = trial.participant();
  const served: string[] = [];
  const reader = await locks.acquire(KEY, SHARED);
  const writing = locks.withLock(KEY, () => served.push('writer'));
  const reading = locks.withLock(KEY, SHARED, () => served.push('reader'));
  await reader.release();
  await Promise.all([writing, reading]);
  assert.deepEqual(served, ['writer', 'reader']);
}

/** Readers of one process that follow each other without a gap would starve a writer elsewhere. */
async function endlessReaders(trial: Trial): Promise<void> {
  const [reading, writing] = trial.participants(2);
  let reader = await reading.locks.acquire(KEY, SHARED);
  let isServed = false;
  const writer = await trial.queue(writing, KEY);
  const served = writer.lease.then((lease) => {
    isServed = true;
    return lease.release();
  });
  const startedMs = performance.now();
  while (!isServed && performance.now() - startedMs < trial.patienceMs) {
    // The next one joins while the last one still reads, unless the bound is reached.
    const next = reading.locks.acquire(KEY, SHARED);
    await turn();
    await reader.release();
    reader = await trial.settles('the next reader', next);
  }
  assert(isServed, 'readers that join are bounded while a writer waits');
  await served;
}

async function permitsAreCounted(trial: Trial): Promise<void> {
  const limit = 3;
  const participants = trial.participants(4);
  const leases: Lease[] = [];
  for (const { locks } of participants.slice(0, limit)) {
    leases.push(await trial.settles('a permit', locks.acquire(KEY, { limit })));
  }
  const [, , , last] = participants;
  assert.equal(await last.locks.tryAcquire(KEY, { limit }), null, 'no permit is left');
  const waiting = await trial.queue(last, KEY, { limit });
  await leases.pop()?.release();
  leases.push(await trial.settles('the freed permit', waiting.lease));
  const tokens = new Set(leases.map(({ token }) => token));
  assert.equal(tokens.size, limit, 'each permit has a token of its own');
  await releaseAll(leases);
  await trial.leavesNothing();
}

async function permitsNeverExceeded(trial: Trial): Promise<void> {
  const limit = 3;
  const participants = trial.participants(3);
  let active = 0;
  let most = 0;
  const work = async ({ locks }: Participant): Promise<void> => {
    for (let round = 0; round < 3; round += 1) {
      await locks.withLock(KEY, { limit }, async () => {
        active += 1;
        most = Math.max(most, active);
        assert(active <= limit, `${active} permits of ${limit} are in use`);
        // There are more: a store that answers slower than this work takes must show it as well.
        await trial.until('two permits are held at the same time', () => most > 1);
        await turn();
        await turn();
        active -= 1;
      });
    }
  };
  const all = participants.flatMap((one) => Array.from({ length: 10 }, () => work(one)));
  await trial.settles('work with permits', Promise.all(all));
  await trial.leavesNothing();
}

async function localPermits(trial: Trial): Promise<void> {
  const limit = 2;
  const { locks } = trial.participant();
  const [first, second] = await trial.settles(
    'two permits of one process',
    Promise.all([locks.acquire(KEY, { limit }), locks.acquire(KEY, { limit })]),
  );
  assert.equal(await locks.tryAcquire(KEY, { limit }), null);
  await assert.rejects(locks.acquire(KEY, { limit, waitMs: 50 }), AcquireTimeoutError);
  const waiting = locks.acquire(KEY, { limit });
  await first.release();
  await releaseAll([second, await trial.settles('the freed permit', waiting)]);
  await trial.leavesNothing();
}

async function silentPermit(trial: Trial): Promise<void> {
  const [silent, other] = trial.participants(2);
  await silent.locks.acquire(KEY, { limit: 1, ttlMs: 300 });
  silent.store.cutOff();
  await trial.settles(
    'the permit of a silent holder',
    other.locks.acquire(KEY, { limit: 1, ttlMs: 1_500 }),
  );
}

async function differentLimits(trial: Trial): Promise<void> {
  const [a, b] = trial.participants(2);
  const permit = await a.locks.acquire(KEY, { limit: 3 });
  const isRefused = (error: unknown): boolean =>
    error instanceof ClaimRefusedError && error.reason === 'capacity-differs';
  for (const { locks } of [a, b]) {
    for (const options of [{ limit: 4 }, SHARED, {}]) {
      await assert.rejects(locks.acquire(KEY, options), isRefused);
      await assert.rejects(locks.tryAcquire(KEY, options), isRefused);
    }
  }
  permit.assertHeld();
  await permit.release();
  await trial.leavesNothing();
  await (await trial.settles('another limit, later', b.locks.acquire(KEY, { limit: 4 }))).release();
}

async function unsupported(trial: Trial): Promise<void> {
  const { locks } = trial.participant();
  const isRefused = (error: unknown): boolean =>
    error instanceof ClaimRefusedError && error.reason === 'unsupported';
  for (const options of [SHARED, { limit: 2 }]) {
    await assert.rejects(locks.acquire(KEY, options), isRefused);
    await assert.rejects(locks.tryAcquire(KEY, options), isRefused);
  }
  await (await locks.acquire(KEY)).release();
}

const sharing = [needs.anyCapacity];
const orderedSharing = [needs.anyCapacity, needs.arrivalOrder];

export const sharingCases: readonly ConformanceCase[] = [
  {
    name: 'readers share, within and across processes',
    run: readersShare,
    needs: sharing,
    hooks: ['inspect'],
  },
  {
    name: 'a writer and a mutex exclude everybody',
    run: writersExclude,
    needs: sharing,
    hooks: ['inspect'],
  },
  {
    name: 'readers and writers of several processes exclude each other',
    run: readersAndWritersMix,
    needs: sharing,
  },
  {
    name: 'a waiting writer is served before later readers',
    run: writerIsNext,
    needs: orderedSharing,
  },
  {
    name: 'a waiting writer is served before later readers of its process',
    run: localWriterIsNext,
    needs: sharing,
  },
  {
    name: 'readers that follow each other do not starve a writer',
    run: endlessReaders,
    needs: orderedSharing,
  },
  {
    name: 'permits are counted, and a freed one goes on',
    run: permitsAreCounted,
    needs: sharing,
    hooks: ['inspect'],
  },
  {
    name: 'permits are never exceeded',
    run: permitsNeverExceeded,
    needs: sharing,
    hooks: ['inspect'],
  },
  {
    name: 'permits of one process are counted',
    run: localPermits,
    needs: sharing,
    hooks: ['inspect'],
  },
  {
    name: 'the permit of a silent holder is free after its ttl',
    run: silentPermit,
    needs: sharing,
  },
  {
    name: 'two limits on one key are refused',
    run: differentLimits,
    needs: sharing,
    hooks: ['inspect'],
  },
  { name: 'what the store cannot do is refused', run: unsupported, needs: [needs.exclusiveOnly] },
];
