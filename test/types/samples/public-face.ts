/**
 * What users write, as the compiler sees it. A line under `@ts-expect-error` must not compile.
 */
import {
  type AcquireOptions,
  AcquireTimeoutError,
  type Lease,
  LeaseholdError,
  LeaseLostError,
  type LeaseSet,
  type LeaseStore,
  LockManager,
} from 'leasehold';
import { embedded } from 'leasehold/embedded';
import { MemorySpace, memory } from 'leasehold/memory';

const space = new MemorySpace();
const store: LeaseStore = memory(space);
export const locks: LockManager = new LockManager({
  store,
  ttlMs: 5_000,
  fairness: { maxPasses: 8 },
});
export const onDisk: LockManager = new LockManager({ store: embedded({ path: 'locks' }) });

export async function oneKey(signal: AbortSignal): Promise<void> {
  await using lease = await locks.acquire('order:7', { waitMs: 1_000, signal });
  const token: bigint = lease.token;
  const text: string = lease.tokenText;
  const lost: AbortSignal = lease.signal;
  const state: 'held' | 'jeopardy' | 'lost' | 'released' = lease.state;
  lease.assertHeld();
  use(token, text, lost.aborted, state, lease.remainingMs());
}

export async function results(): Promise<void> {
  const one: Lease = await locks.acquire('a');
  await one.release();
  const set: LeaseSet = await locks.acquire(['a', 'b']);
  const member: Lease | undefined = set.leases[0];
  use(member?.key, set.leases.length);
  const maybe: Lease | null = await locks.tryAcquire('a');
  const maybeSet: LeaseSet | null = await locks.tryAcquire(['a', 'b']);
  const length: number = await locks.withLock('a', async (lease) => lease.key.length);
  const sum: number = await locks.withLock(['a', 'b'], { ttlMs: 1_000 }, async () => 2);
  use(maybe?.key, maybeSet?.leases, length, sum);
  await locks.acquire('report', { mode: 'shared' });
  await locks.acquire('api', { limit: 5 });
  await locks.close({ graceMs: 100 });
}

export function handle(error: unknown): string {
  if (error instanceof AcquireTimeoutError) return `${error.holder ?? 'nobody'} ${error.ahead}`;
  if (error instanceof LeaseLostError) return error.reason;
  if (error instanceof LeaseholdError) {
    const code:
      | 'ACQUIRE_TIMEOUT'
      | 'BROKER_UNAVAILABLE'
      | 'LEASE_LOST'
      | 'NOT_PUBLISHED'
      | 'QUEUE_UNUSABLE'
      | 'STALE_TOKEN'
      | 'STORE_UNAVAILABLE'
      | 'CLAIM_REFUSED'
      | 'INVALID_ARGUMENT'
      | 'MANAGER_CLOSED' = error.code;
    return code;
  }
  return 'unknown';
}

export async function mistakes(): Promise<void> {
  // @ts-expect-error A store is needed.
  new LockManager({});
  // @ts-expect-error A key is text.
  await locks.acquire(42);
  // @ts-expect-error There is no such option; waits are in `waitMs`.
  await locks.acquire('a', { timeout: 100 });
  // @ts-expect-error Modes are named.
  await locks.acquire('a', { mode: 'read' });
  // @ts-expect-error `tryAcquire` does not wait.
  await locks.tryAcquire('a', { waitMs: 100 });
  // @ts-expect-error `null` when taken: it has to be looked at.
  await (await locks.tryAcquire('a')).release();
  // @ts-expect-error A token exceeds the whole numbers that a number can hold.
  const token: number = (await locks.acquire('a')).token;
  // @ts-expect-error Several keys give a set, not a lease.
  const lease: Lease = await locks.acquire(['a', 'b']);
  // @ts-expect-error Facts about a lease cannot be changed.
  lease.key = 'b';
  const options: AcquireOptions = { ttlMs: 100 };
  // @ts-expect-error Nor can options.
  options.ttlMs = 200;
  // @ts-expect-error A path is needed.
  embedded({});
  use(token);
}

function use(...values: readonly unknown[]): void {
  void values;
}
