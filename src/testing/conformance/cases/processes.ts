/**
 * Real processes: that exclude each other, are killed, and are stopped for longer than their ttl.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConformanceCase } from '../suite.ts';
import { delay, LONG_TTL_MS, type Trial } from '../trial.ts';

const KEY = 'contribution:42';
/** Long enough that a process started and stopped on a busy machine is in the middle of it. */
const TTL_MS = 1_500;

async function withCounterFile(work: (file: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'leasehold-conformance-'));
  try {
    const file = join(folder, 'counter');
    await writeFile(file, '0');
    await work(file);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function excludeEachOther(trial: Trial): Promise<void> {
  const children = await Promise.all([trial.spawn(), trial.spawn(), trial.spawn()]);
  const task = { tasks: 4, rounds: 25 };
  await withCounterFile(async (file) => {
    const done = children.map((child) => child.call('increment', KEY, file, task));
    const tokens = await trial.settles('the work of all processes', Promise.all(done));
    const expected = children.length * task.tasks * task.rounds;
    assert.equal(await readFile(file, 'utf8'), String(expected), 'no update is lost');
    assert.equal(new Set(tokens.flat()).size, expected, 'no token was granted twice');
    for (const own of tokens) assert.deepEqual(own, [...own].sort(), 'tokens increase');
  });
}

async function killedHolder(trial: Trial): Promise<void> {
  // On a busy machine it may be a while until it renews, and until somebody looks.
  const holder = await trial.spawn({ ttlMs: 2 * TTL_MS });
  const { locks } = trial.participant();
  const old = await trial.settles('the lease', holder.call('acquire', 'held', KEY, {}));
  assert.equal(await locks.tryAcquire(KEY), null);
  await holder.kill();
  const lease = await trial.settles('the key of a killed process', locks.acquire(KEY));
  assert(lease.tokenText > old, 'the next token is higher');
}

async function killedHolderWithQueue(trial: Trial): Promise<void> {
  const [holder, other] = await Promise.all([trial.spawn({ ttlMs: TTL_MS }), trial.spawn()]);
  const [a, b] = trial.participants(2, { ttlMs: TTL_MS });
  await trial.settles('the lease', holder.call('acquire', 'held', KEY, {}));
  const waiting = await Promise.all([trial.queue(a, KEY), trial.queue(b, KEY)]);
  // Where nobody promises an order, it may be served before the others, and must not keep them waiting.
  const elsewhere = other
    .call('acquire', 'next', KEY, { ttlMs: TTL_MS })
    .then(() => other.call('release', 'next'));
  await holder.kill();
  const leases = waiting.map(async ({ lease }) => (await lease).release());
  await trial.settles('everyone who waited here', Promise.all(leases));
  await trial.settles('the process that waited', elsewhere);
}

async function killedWaiter(trial: Trial): Promise<void> {
  const waiter = await trial.spawn({ ttlMs: TTL_MS });
  const [holder, behind] = trial.participants(2);
  const lease = await trial.settles('the lease', holder.locks.acquire(KEY));
  void waiter.call('acquire', 'never', KEY, {});
  await trial.settles('the place in the queue', waiter.call('queued', KEY));
  const next = await trial.queue(behind, KEY, { ttlMs: TTL_MS });
  await waiter.kill();
  await lease.release();
  const held = await trial.settles('the waiter behind a killed one', next.lease);
  await held.release();
}

async function killedInTheMiddle(trial: Trial): Promise<void> {
  const { locks } = trial.participant();
  await withCounterFile(async (file) => {
    const task = { tasks: 8, rounds: 1_000_000 };
    for (let round = 0; round < 4; round += 1) {
      const child = await trial.spawn({ ttlMs: 500 });
      void child.call('increment', `${KEY}:${round}`, file, task);
      void child.call('increment', KEY, file, task);
      const between = locks.acquire(KEY);
      await (await trial.settles('a lease between those of a busy process', between)).release();
      await delay(7 * round);
      await child.kill();
      await (await trial.settles('the key of a killed process', locks.acquire(KEY))).release();
    }
  });
}

async function stoppedHolder(trial: Trial): Promise<void> {
  const stopped = await trial.spawn({ ttlMs: TTL_MS });
  const [next, rival] = trial.participants(2);
  const old = await trial.settles('the lease', stopped.call('acquire', 'held', KEY, {}));
  stopped.stop();
  const lease = await trial.settles('the key of a stopped process', next.locks.acquire(KEY));
  assert(lease.tokenText > old);
  // Asked before it goes on, so that it answers before its store can tell it anything.
  const report = stopped.call('report', 'held');
  stopped.goOn();
  assert.deepEqual(await trial.settles('its report', report), {
    state: 'lost',
    isHeld: false,
    isAborted: true,
  });
  await trial.settles('its release', stopped.call('release', 'held'));
  assert.equal(await rival.locks.tryAcquire(KEY), null, 'it did not free the key of its successor');
  lease.assertHeld();
}

/** It is handed the lease while it cannot run; when it goes on, the lease has long been somebody else's. */
async function stoppedWaiter(trial: Trial): Promise<void> {
  const stopped = await trial.spawn({ ttlMs: TTL_MS });
  const [holder, behind] = trial.participants(2);
  const lease = await trial.settles('the lease', holder.locks.acquire(KEY));
  const acquired = stopped.call('acquire', 'late', KEY, { waitMs: LONG_TTL_MS });
  await trial.settles('the place in the queue', stopped.call('queued', KEY));
  stopped.stop();
  const next = await trial.queue(behind, KEY, { ttlMs: 3 * TTL_MS });
  await lease.release();
  const held = await trial.settles('the waiter behind a stopped one', next.lease);
  stopped.goOn();
  await trial.settles('its place in the queue again', stopped.call('queued', KEY));
  const token = held.tokenText;
  await held.release();
  assert((await trial.settles('the lease of who was stopped', acquired)) > token);
  await trial.until('it holds the key', async () => {
    if ((await stopped.call('report', 'late')).isHeld) return true;
    // A machine that was busy for longer than the ttl has cost it the lease: then it has to get it again.
    await trial.settles('its lease again', stopped.call('acquire', 'late', KEY, {}));
    return false;
  });
}

async function endsByItself(trial: Trial): Promise<void> {
  const child = await trial.spawn({ retainMs: LONG_TTL_MS });
  await trial.settles('a lease', child.call('acquire', 'held', KEY, {}));
  await trial.settles('close', child.call('close'));
  assert.equal(await trial.settles('the end of the process', child.exited), 0);
  await trial.leavesNothing();
}

const processes = ['processes'] as const;

export const processCases: readonly ConformanceCase[] = [
  { name: 'real processes exclude each other', run: excludeEachOther, hooks: processes },
  {
    name: 'the key of a killed process is free after its ttl',
    run: killedHolder,
    hooks: processes,
  },
  {
    name: 'the queue goes on when its holder is killed',
    run: killedHolderWithQueue,
    hooks: processes,
  },
  { name: 'a killed waiter does not block the queue', run: killedWaiter, hooks: processes },
  {
    name: 'a process killed in the middle of its calls leaves the key usable',
    run: killedInTheMiddle,
    hooks: processes,
  },
  {
    name: 'a stopped process sees its lease lost when it goes on',
    run: stoppedHolder,
    hooks: processes,
  },
  {
    name: 'a stopped waiter does not take a lease that went on',
    run: stoppedWaiter,
    hooks: processes,
  },
  {
    name: 'a process whose manager is closed ends by itself',
    run: endsByItself,
    hooks: ['processes', 'inspect'],
  },
];
