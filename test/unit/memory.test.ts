import { MemorySpace, memory } from 'leasehold/memory';
import { expect, test } from 'vitest';
import type { Claim, LeaseStore, StoreEvent } from '../../dist/src/core/store.js';

const exclusive = (key: string, owner: string, more: Partial<Claim> = {}): Claim => ({
  key,
  owner,
  units: 1_000_000,
  capacity: 1_000_000,
  ttlMs: 1000,
  wait: true,
  ...more,
});

/** A clock that stands still until it is told to go on. */
function manualClock() {
  let monotonicMs = 0;
  const clock = {
    monotonicMs: () => monotonicMs,
    wallMs: () => Date.UTC(2026, 0, 1) + monotonicMs,
    setTimer: () => null,
    clearTimer: () => undefined,
  };
  const go = (ms: number): void => {
    monotonicMs += ms;
  };
  return { clock, go };
}

async function attach(space: MemorySpace): Promise<{ store: LeaseStore; events: StoreEvent[] }> {
  const events: StoreEvent[] = [];
  const store = memory(space);
  await store.open((event) => events.push(event));
  return { store, events };
}

test('stores of one space exclude each other, and a drop hands the key over', async () => {
  const space = new MemorySpace();
  const a = await attach(space);
  const b = await attach(space);
  const first = await a.store.claim(exclusive('k', 'a1'));
  expect(first).toMatchObject({ is: 'granted', wanted: false });
  const second = await b.store.claim(exclusive('k', 'b1'));
  expect(second).toMatchObject({ is: 'waiting', ahead: 0, holder: 'a1' });
  expect(a.events).toEqual([{ is: 'wanted', key: 'k' }]);
  const dropped = await a.store.drop({ key: 'k', owner: 'a1' }, exclusive('k', 'a2'));
  expect(dropped).toMatchObject({ held: true, next: { is: 'waiting', holder: 'b1' } });
  expect(b.events).toMatchObject([{ is: 'granted', owner: 'b1', wanted: true }]);
  const grant = b.events[0] as { epoch: bigint };
  expect(grant.epoch).toBeGreaterThan((first as { epoch: bigint }).epoch);
});

test('stores without a common space know nothing of each other', async () => {
  const a = await attach(new MemorySpace());
  const b = await attach(new MemorySpace());
  expect(await a.store.claim(exclusive('k', 'a1'))).toMatchObject({ is: 'granted' });
  expect(await b.store.claim(exclusive('k', 'b1'))).toMatchObject({ is: 'granted' });
});

test('an event is never delivered inside the call that causes it', async () => {
  const space = new MemorySpace();
  const a = await attach(space);
  const b = await attach(space);
  await a.store.claim(exclusive('k', 'a1'));
  const pending = b.store.claim(exclusive('k', 'b1'));
  expect(a.events).toEqual([]);
  await pending;
  expect(a.events).toHaveLength(1);
});

test('a lease that nobody drops ends by its ttl, by the clock of the space', async () => {
  const { clock, go } = manualClock();
  const space = new MemorySpace({ clock });
  const a = await attach(space);
  await a.store.claim(exclusive('k', 'a1'));
  go(999);
  expect(await a.store.claim(exclusive('k', 'a2', { wait: false }))).toMatchObject({ is: 'taken' });
  go(1);
  expect(await a.store.renew([exclusive('k', 'a1')])).toEqual([{ is: 'lost' }]);
  expect(await a.store.claim(exclusive('k', 'a2'))).toMatchObject({ is: 'granted' });
});

test('keys vanish when they are empty, also those that expired unseen', async () => {
  const { clock, go } = manualClock();
  const space = new MemorySpace({ clock });
  const { store } = await attach(space);
  for (let n = 0; n < 100; n += 1) await store.claim(exclusive(`left-${n}`, `a${n}`));
  expect(space.inspect()).toHaveLength(100);
  go(1001);
  for (let n = 0; n < 100; n += 1) {
    await store.claim(exclusive('used', `b${n}`));
    await store.drop({ key: 'used', owner: `b${n}` });
  }
  expect(space.inspect()).toEqual([]);
});

test('a closed store hears nothing, is passed over, and answers no call', async () => {
  const space = new MemorySpace();
  const a = await attach(space);
  const b = await attach(space);
  const c = await attach(space);
  await a.store.claim(exclusive('k', 'a1'));
  await b.store.claim(exclusive('k', 'b1'));
  await c.store.claim(exclusive('k', 'c1'));
  await b.store.close();
  await a.store.drop({ key: 'k', owner: 'a1' });
  expect(b.events).toEqual([]);
  expect(c.events).toMatchObject([{ is: 'granted', owner: 'c1' }]);
  await expect(b.store.claim(exclusive('k', 'b2'))).rejects.toThrow('not open');
});

test('epochs go on increasing in a new space, as after a restart', async () => {
  const a = await attach(new MemorySpace());
  const before = await a.store.claim(exclusive('k', 'a1'));
  const later = await new Promise<number>((resolve) => setTimeout(() => resolve(Date.now()), 2));
  expect(later).toBeGreaterThan(0);
  const b = await attach(new MemorySpace());
  const after = await b.store.claim(exclusive('k', 'b1'));
  if (before.is !== 'granted' || after.is !== 'granted') throw new Error('not granted');
  expect(after.epoch).toBeGreaterThan(before.epoch);
});
