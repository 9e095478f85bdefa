/**
 * What the callers of one process share: passes of a lease among themselves, bounded while others wait, and leases that
 * are retained until another process asks.
 */
import assert from 'node:assert/strict';
import { type ConformanceCase, needs } from '../suite.ts';
import { delay, type Participant, type Trial, turn } from '../trial.ts';

const KEY = 'order:7';
/** Longer than any trial: nothing but the request of another process ends such a retention. */
const LONG_RETENTION_MS = 600_000;
/** So slow that the local grants of one remote lease are not used up within any trial. */
const PASS_MS = 10;

function wasTold({ store }: Participant): boolean {
  return store.events.some((event) => event.is === 'wanted' && event.key === KEY);
}

async function passesAreBounded(trial: Trial): Promise<void> {
  const maxPasses = 3;
  const fairness = { maxPasses, maxPassMs: 600_000 };
  const [busy, other] = trial.participants(2, { fairness });
  const first = await busy.locks.acquire(KEY);
  let passes = 0;
  const backlog = Array.from({ length: 20 }, () =>
    busy.locks.withLock(KEY, async () => {
      passes += 1;
      await turn();
    }),
  );
  const waiting = await trial.queue(other, KEY);
  await trial.until('the holder is told that others wait', () => wasTold(busy));
  await first.release();
  const lease = await trial.settles('the other process', waiting.lease);
  assert(
    passes <= maxPasses,
    `${passes} passes while another process waited; the bound is ${maxPasses}`,
  );
  await lease.release();
  await trial.settles('the rest of the backlog', Promise.all(backlog));
  assert.equal(passes, backlog.length);
}

async function passTimeIsBounded(trial: Trial): Promise<void> {
  const fairness = { maxPasses: 1_000_000, maxPassMs: 50 };
  const [busy, other] = trial.participants(2, { fairness });
  const first = await busy.locks.acquire(KEY);
  let isOver = false;
  const churn = async (): Promise<void> => {
    while (!isOver) await busy.locks.withLock(KEY, () => delay(PASS_MS));
  };
  const churning = Promise.all([churn(), churn(), churn()]);
  const waiting = await trial.queue(other, KEY);
  await first.release();
  try {
    await (await trial.settles('the other process', waiting.lease)).release();
  } finally {
    isOver = true;
    await churning;
  }
}

/** Two processes with a backlog each: neither is served more often in a row than its bound allows. */
async function turnsAreTaken(trial: Trial): Promise<void> {
  const maxPasses = 2;
  const fairness = { maxPasses, maxPassMs: 600_000 };
  const [a, b] = trial.participants(2, { fairness });
  const gate = trial.participant();
  const opening = await gate.locks.acquire(KEY);
  const served: string[] = [];
  const backlogOf = async (name: string, participant: Participant): Promise<Promise<void>[]> => {
    const use = (): Promise<void> =>
      participant.locks.withLock(KEY, async () => {
        served.push(name);
        await turn();
      });
    const all = Array.from({ length: 12 }, use);
    await trial.until(
      'the backlog is queued',
      () => participant.store.answered('waiting', KEY) > 0,
    );
    return all;
  };
  const backlogs = [...(await backlogOf('a', a)), ...(await backlogOf('b', b))];
  await opening.release();
  await trial.settles('both backlogs', Promise.all(backlogs));
  const [text, runs] = [served.join(''), served.join('').match(/a+|b+/g) ?? []];
  // The last run is that of the process which is alone by then.
  for (const run of runs.slice(0, -1)) {
    assert(run.length <= maxPasses + 1, `${run} in ${text} is longer than ${maxPasses} passes`);
  }
}

async function retainedCostsNothing(trial: Trial): Promise<void> {
  const { locks, store } = trial.participant({ retainMs: LONG_RETENTION_MS });
  await (await locks.acquire(KEY)).release();
  const calls = store.count();
  for (let count = 0; count < 100; count += 1) {
    await (await locks.acquire(KEY)).release();
    const tried = await locks.tryAcquire(KEY);
    assert(tried);
    await tried.release();
  }
  assert.equal(store.count(), calls, 'a retained lease is used again without a call to the store');
}

async function retainedGivenToWaiter(trial: Trial): Promise<void> {
  const [retaining, other] = trial.participants(2, { retainMs: LONG_RETENTION_MS });
  for (const { locks } of [retaining, other, retaining]) {
    const lease = await trial.settles('a key that another process retains', locks.acquire(KEY));
    await lease.release();
  }
}

async function retainedGivenToTryAcquire(trial: Trial): Promise<void> {
  const [retaining, other] = trial.participants(2);
  await (await retaining.locks.acquire(KEY, { retainMs: LONG_RETENTION_MS })).release();
  const lease = await trial.until(
    'tryAcquire makes another process give its lease back',
    async () => (await other.locks.tryAcquire(KEY)) ?? false,
  );
  await lease.release();
}

async function retainedGivenAtRenewal(trial: Trial): Promise<void> {
  const [deaf, other] = trial.participants(2);
  deaf.store.withholdEvents();
  await (await deaf.locks.acquire(KEY, { retainMs: LONG_RETENTION_MS, ttlMs: 900 })).release();
  await (
    await trial.settles('a key that a deaf process retains', other.locks.acquire(KEY))
  ).release();
}

async function retentionEnds(trial: Trial): Promise<void> {
  const { locks } = trial.participant({ retainMs: 100 });
  await (await locks.acquire(KEY)).release();
  await trial.leavesNothing();
}

export const cohortCases: readonly ConformanceCase[] = [
  {
    name: 'passes inside a process are bounded in number while another waits',
    run: passesAreBounded,
    needs: [needs.arrivalOrder],
  },
  {
    name: 'passes inside a process are bounded in time while another waits',
    run: passTimeIsBounded,
  },
  { name: 'processes with a backlog take turns', run: turnsAreTaken, needs: [needs.arrivalOrder] },
  { name: 'a retained lease is used again without I/O', run: retainedCostsNothing },
  { name: 'a retained lease is given back when another process waits', run: retainedGivenToWaiter },
  {
    name: 'a retained lease is given back when another process tries',
    run: retainedGivenToTryAcquire,
  },
  {
    name: 'a retained lease is given back at its renewal when events are missed',
    run: retainedGivenAtRenewal,
  },
  { name: 'retention ends by itself', run: retentionEnds, hooks: ['inspect'] },
];
