/** One process of a workload. It does the jobs that its parent sends, and ends with it. */
import { setTimeout } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { type Lease, LockManager } from 'leasehold';
import { redis } from 'leasehold/redis';
import { commandsSent, connect, type Locker, openContender } from './contenders.ts';
import { addTime, newBuckets } from './histogram.ts';
import type {
  Add,
  AddResult,
  Drain,
  DrainResult,
  HandOver,
  HandOverResult,
  Hold,
  HoldResult,
  Job,
  Profiled,
  ProfiledResult,
  Results,
  Turn,
  TurnResult,
  Weigh,
  WeighResult,
} from './jobs.ts';
import { machineMs } from './measure.ts';
import { profiled } from './profile.ts';
import { watchSockets } from './socket-times.ts';
import { consume } from './story.ts';

const clients = new Map<number, Redis>();
const lockers = new Map<string, Promise<Locker>>();

function clientOf(port: number): Redis {
  let client = clients.get(port);
  if (client === undefined) {
    client = connect(port);
    clients.set(port, client);
  }
  return client;
}

function lockerOf({ port, masters = [port], contender }: Job): Promise<Locker> {
  const name = `${masters.join()} ${contender.name}`;
  let locker = lockers.get(name);
  if (locker === undefined) {
    locker = openContender(contender, masters.map(clientOf));
    lockers.set(name, locker);
  }
  return locker;
}

async function perform(job: Job): Promise<Results[Job['kind']]> {
  const locker = await lockerOf(job);
  await setTimeout(Math.max(0, (job.startAtMs ?? 0) - Date.now()));
  switch (job.kind) {
    case 'warm-up':
      await locker.withLock(`warm-up:${process.pid}`, async () => {});
      return null;
    case 'add':
      return add(job, locker, job.place ?? 0);
    case 'hand-over':
      return handOver(job, locker);
    case 'drain':
      return drain(job, locker);
    case 'hold':
      return hold(job);
    case 'weigh':
      return weigh(job);
    case 'consume':
      return consume(job);
    case 'turn':
      return turn(job);
    case 'profile':
      return profile(job, locker, job.place ?? 0);
    default:
      return job satisfies never;
  }
}

async function add(job: Add, locker: Locker, place: number): Promise<AddResult> {
  const client = clientOf(job.port);
  const waits = newBuckets();
  const byTask = Array.from({ length: job.tasks }, () => 0);
  const pick = skewed(job.keys);
  const endMs = performance.now() + job.durationMs;
  let [operations, inTime, gaveUp, longestWaitMs, longestHoldMs] = [0, 0, 0, 0, 0];
  const task = async (number: number): Promise<void> => {
    while (performance.now() < endMs) {
      const key = job.keys === 0 ? `own:${place}:${number}` : `shared:${pick()}`;
      const askedMs = performance.now();
      // By its name, since what a contender that was killed has left must not be in the way of the next.
      const lock = `${job.contender.package}:${key}`;
      gaveUp += await locker.withLock(lock, async () => {
        const grantedMs = performance.now();
        const waitMs = grantedMs - askedMs;
        addTime(waits, waitMs);
        longestWaitMs = Math.max(longestWaitMs, waitMs);
        const before = Number((await client.get(`data:${key}`)) ?? 0);
        await client.set(`data:${key}`, before + 1);
        longestHoldMs = Math.max(longestHoldMs, performance.now() - grantedMs);
      });
      operations += 1;
      byTask[number] = (byTask[number] ?? 0) + 1;
      if (performance.now() < endMs) inTime += 1;
    }
  };
  const commandsBefore = commandsSent();
  const before = process.cpuUsage();
  await Promise.all(byTask.map((_, number) => task(number)));
  const { user, system } = process.cpuUsage(before);
  const cpuUs = user + system;
  const commands = commandsSent() - commandsBefore;
  const longest = { longestWaitMs, longestHoldMs };
  return { operations, inTime, gaveUp, waits, ...longest, byTask, cpuUs, commands };
}

/** Numbers below `count`, each with a chance that is in inverse proportion to its rank (Zipf). */
function skewed(count: number): () => number {
  if (count <= 1) return () => 0;
  const upTo = new Float64Array(count);
  let sum = 0;
  for (let rank = 0; rank < count; rank += 1) {
    sum += 1 / (rank + 1);
    upTo[rank] = sum;
  }
  return () => {
    const point = Math.random() * sum;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((upTo[middle] as number) < point) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

async function handOver(job: HandOver, locker: Locker): Promise<HandOverResult> {
  const result = {
    grantedAtMs: [] as number[],
    releasedAtMs: [] as number[],
    readAtMs: [] as number[],
    wroteAtMs: [] as number[],
  };
  const times = job.isTraced ? watchSockets(job.port) : undefined;
  const endMs = performance.now() + job.durationMs;
  while (performance.now() < endMs) {
    await locker.withLock('handed', async () => {
      result.grantedAtMs.push(machineMs());
      if (times) result.readAtMs.push(times().readAtMs);
      await setTimeout(job.holdMs);
      result.releasedAtMs.push(machineMs());
    });
    if (times) result.wroteAtMs.push(times().wroteAtMs);
    // Time for the other to have it, whatever the contender does about fairness.
    await setTimeout(1);
  }
  return result;
}

async function drain(job: Drain, locker: Locker): Promise<DrainResult> {
  const servedAtMs: number[] = [];
  const commandsBefore = commandsSent();
  const task = (): Promise<unknown> =>
    locker.withLock('drained', async () => void servedAtMs.push(machineMs()));
  await Promise.all(Array.from({ length: job.tasks }, task));
  return { servedAtMs, commands: commandsSent() - commandsBefore };
}

async function hold(job: Hold): Promise<HoldResult> {
  const locks = new LockManager({ store: redis(clientOf(job.port)) });
  const leases: Lease[] = [];
  // Not all at once, so that renewals are spread as they are when leases come one by one.
  const chunk = Math.ceil(job.leases / 100);
  while (leases.length < job.leases) {
    const names = Array.from({ length: chunk }, (_, index) => `held:${leases.length + index}`);
    leases.push(...(await Promise.all(names.map((name) => locks.acquire(name)))));
    await setTimeout(10);
  }
  // The first renewals are in the measured time, and so are all others.
  const startMs = performance.now();
  const before = process.cpuUsage();
  await setTimeout(job.durationMs);
  const { user, system } = process.cpuUsage(before);
  const heldMs = performance.now() - startMs;
  const lost = leases.filter((lease) => lease.state === 'lost').length;
  await Promise.all(leases.map((lease) => lease.release()));
  await locks.close();
  return { lost, coreShare: (user + system) / 1_000 / heldMs, heldMs };
}

async function turn({ port, tasks, retainMs, durationMs }: Turn): Promise<TurnResult> {
  const locks = new LockManager({ store: redis(clientOf(port)) });
  const endMs = performance.now() + durationMs;
  let operations = 0;
  const task = async (number: number): Promise<void> => {
    while (performance.now() < endMs) {
      const lease = await locks.acquire(`turn:${number}`, { retainMs });
      await lease.release();
      operations += 1;
    }
  };
  await Promise.all(Array.from({ length: tasks }, (_, number) => task(number)));
  await locks.close();
  return { operations };
}

async function profile({ of }: Profiled, locker: Locker, place: number): Promise<ProfiledResult> {
  const count = async (): Promise<number> => {
    if (of.kind === 'turn') return (await turn(of)).operations;
    if (of.kind === 'add') return (await add(of, locker, place)).operations;
    return (await consume(of)).count;
  };
  const { result, profile: byPlace } = await profiled(count);
  return { operations: result, profile: byPlace };
}

async function weigh(job: Weigh): Promise<WeighResult> {
  const locks = new LockManager({ store: redis(clientOf(job.port)), waitMs: 600_000 });
  await locks.withLock('first', async () => {});
  const leases: Lease[] = [];
  const lease = await bytesOf(job.count, async (index) => {
    leases.push(await locks.acquire(`weighed:${index}`));
  });
  await Promise.all(leases.map((one) => one.release()));
  leases.length = 0;

  const blocker = await locks.acquire('blocked');
  const waiting: Promise<Lease>[] = [];
  const waiter = await bytesOf(
    job.count / 10,
    async () => void waiting.push(locks.acquire('blocked')),
  );
  await blocker.release();
  for (const one of waiting) await (await one).release();
  await locks.close();
  return { leaseBytes: lease, waiterBytes: waiter };
}

/** What each adds to the heap, the reference by which the caller keeps it included. */
async function bytesOf(count: number, make: (index: number) => Promise<void>): Promise<number> {
  const before = settledHeap();
  for (let from = 0; from < count; from += 1_000) {
    const some = Array.from({ length: Math.min(1_000, count - from) }, (_, index) => from + index);
    await Promise.all(some.map(make));
  }
  return (settledHeap() - before) / count;
}

function settledHeap(): number {
  for (let pass = 0; pass < 3; pass += 1) globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}

process.on('disconnect', () => process.exit());
process.on('message', (job: Job) => {
  perform(job).then(
    (result) => process.send?.({ result }),
    (error) => process.send?.({ error: String(error) }),
  );
});
