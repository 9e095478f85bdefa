/** One process of the embedded-hot-key workload. */
import { once } from 'node:events';
import { join } from 'node:path';
import { type Lease, LockManager } from 'leasehold';
import { embedded } from 'leasehold/embedded';
import { open } from 'lmdb';
import { percentile } from '../measure.ts';

export interface Order {
  readonly folder: string;
  readonly tasks: number;
  readonly durationMs: number;
  readonly fairness: { readonly maxPasses: number; readonly maxPassMs: number };
}

export interface Tally {
  readonly operations: number;
  /** Grants that came from the store; the others were passed on inside the process. */
  readonly handOvers: number;
  readonly staleTokens: number;
  readonly p50WaitMs: number;
  readonly p99WaitMs: number;
  readonly maxWaitMs: number;
  readonly maxHoldMs: number;
  /** From the end of the last hold in another process to the next one here, as long as somebody waited. */
  readonly maxHandOverMs: number;
  readonly p50HandOverMs: number;
}

interface Value {
  readonly count: number;
  readonly token: string;
  /** When the hold ended, on the clock that all processes of a machine share. */
  readonly atMs: number;
  readonly pid: number;
}

const GRANTS_PER_EPOCH = 4096n;

async function main(): Promise<void> {
  const [order] = (await once(process, 'message')) as [Order];
  const store = embedded({ path: join(order.folder, 'locks') });
  const locks = new LockManager({ store, fairness: order.fairness });
  const database = open<Value>({ path: join(order.folder, 'data'), noSync: true });
  await locks.withLock('warm-up', async () => {});
  process.send?.('ready');
  await once(process, 'message');

  const waitsMs: number[] = [];
  let maxHoldMs = 0;
  const handOversMs: number[] = [];
  let staleTokens = 0;
  const epochs = new Set<bigint>();

  const addOne = (lease: Lease): void => {
    database.resetReadTxn();
    const before = database.get('counter');
    const startMs = machineMs();
    if (before !== undefined) {
      if (before.token >= lease.tokenText) staleTokens += 1;
      if (before.pid !== process.pid) handOversMs.push(startMs - before.atMs);
    }
    epochs.add(lease.token / GRANTS_PER_EPOCH);
    const count = (before?.count ?? 0) + 1;
    const { pid } = process;
    database.putSync('counter', { count, token: lease.tokenText, atMs: machineMs(), pid });
  };

  const endMs = performance.now() + order.durationMs;
  const task = async (): Promise<void> => {
    for (let askedMs = performance.now(); askedMs < endMs; askedMs = performance.now()) {
      const lease = await locks.acquire('hot');
      const heldMs = performance.now();
      addOne(lease);
      maxHoldMs = Math.max(maxHoldMs, performance.now() - heldMs);
      await lease.release();
      waitsMs.push(heldMs - askedMs);
    }
  };
  await Promise.all(Array.from({ length: order.tasks }, task));
  await locks.close();
  await database.close();
  const tally: Tally = {
    operations: waitsMs.length,
    handOvers: epochs.size,
    staleTokens,
    p50WaitMs: percentile(waitsMs, 0.5),
    p99WaitMs: percentile(waitsMs, 0.99),
    maxWaitMs: longest(waitsMs),
    maxHoldMs,
    maxHandOverMs: longest(handOversMs),
    p50HandOverMs: percentile(handOversMs, 0.5),
  };
  process.send?.(tally);
  process.disconnect();
}

/** There are too many for the arguments of one call of `Math.max`. */
function longest(timesMs: readonly number[]): number {
  return timesMs.reduce((most, timeMs) => Math.max(most, timeMs), 0);
}

function machineMs(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}

await main();
