import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  claimKey,
  dropKey,
  emptyKeyState,
  type Holder,
  type KeyState,
  renewKey,
  type StepContext,
  settleKey,
} from '../../dist/src/core/key-state.js';
import type { Claim, ClaimOutcome, StoreEvent } from '../../dist/src/core/store.js';

const KEY = 'k';
const ALL = 6;
const TTL_MS = 300;

/** One key, its clock, and the processes around it. */
class World {
  readonly state: KeyState = emptyKeyState(ALL);
  readonly events: { channel: string; event: StoreEvent }[] = [];
  readonly deaf = new Set<string>();
  nowMs = 0;
  epoch = 0;

  context(channel: string): StepContext {
    return {
      nowMs: this.nowMs,
      channel,
      mintEpoch: () => {
        this.epoch += 1;
        return this.epoch;
      },
      lastEpoch: () => this.epoch,
      isListening: (other) => !this.deaf.has(other),
      tell: (other, event) => this.events.push({ channel: other, event }),
    };
  }

  claim(owner: string, more: Partial<Claim> = {}): ClaimOutcome {
    return claimKey(this.state, claimOf(owner, more), this.context(channelOf(owner)));
  }

  drop(owner: string, again?: Claim) {
    return dropKey(this.state, { key: KEY, owner }, again, this.context(channelOf(owner)));
  }

  renew(owner: string) {
    return renewKey(this.state, claimOf(owner), this.context(channelOf(owner)));
  }

  get holders(): string[] {
    return this.state.holders.map((holder) => holder.owner);
  }

  get waiters(): string[] {
    return this.state.waiters.map((waiter) => waiter.owner);
  }

  told(channel: string): StoreEvent[] {
    return this.events.filter((one) => one.channel === channel).map((one) => one.event);
  }
}

/** Owners are named by their process and a number: `a1`. */
function channelOf(owner: string): string {
  return owner.charAt(0);
}

function claimOf(owner: string, more: Partial<Claim> = {}): Claim {
  return { key: KEY, owner, units: ALL, capacity: ALL, ttlMs: TTL_MS, wait: true, ...more };
}

const reader = { units: 1 };

describe('order', () => {
  test('first come, first served', () => {
    const world = new World();
    world.claim('a1');
    world.claim('b1');
    world.claim('c1');
    world.claim('a2');
    expect(world.waiters).toEqual(['b1', 'c1', 'a2']);
    world.drop('a1');
    expect(world.holders).toEqual(['b1']);
    world.drop('b1');
    world.drop('c1');
    expect(world.holders).toEqual(['a2']);
  });

  test('a reader that comes after a waiting writer does not pass it', () => {
    const world = new World();
    world.claim('a1', reader);
    world.claim('b1');
    expect(world.claim('c1', reader)).toMatchObject({ is: 'waiting', ahead: 1 });
    world.drop('a1');
    expect(world.holders).toEqual(['b1']);
    world.drop('b1');
    expect(world.holders).toEqual(['c1']);
  });

  test('readers that stand together are served together', () => {
    const world = new World();
    world.claim('a1');
    world.claim('b1', reader);
    world.claim('c1', reader);
    world.drop('a1');
    expect(world.holders).toEqual(['b1', 'c1']);
  });

  test('a newcomer does not pass the queue when a lease has expired unseen', () => {
    const world = new World();
    world.claim('a1');
    world.claim('b1');
    world.nowMs = TTL_MS;
    expect(world.claim('c1', { wait: false })).toMatchObject({ is: 'taken', holder: 'b1' });
    expect(world.told('b')).toMatchObject([{ is: 'granted', owner: 'b1' }]);
  });

  test('a waiter that does not listen is passed over, and keeps its place', () => {
    const world = new World();
    world.claim('a1');
    world.claim('b1');
    world.claim('c1');
    world.deaf.add('b');
    world.drop('a1');
    expect(world.holders).toEqual(['c1']);
    expect(world.waiters).toEqual(['b1']);
    world.claim('d1');
    world.deaf.delete('b');
    world.drop('c1');
    expect(world.holders).toEqual(['b1']);
  });

  test('a waiter that does not listen is served by its own claim', () => {
    const world = new World();
    world.deaf.add('b');
    world.claim('a1');
    world.claim('b1');
    world.drop('a1');
    expect(world.claim('b1')).toMatchObject({ is: 'granted' });
    expect(world.told('b')).toEqual([]);
  });

  test('a waiter that fell silent for its ttl is forgotten', () => {
    const world = new World();
    world.claim('a1', { ttlMs: 10 * TTL_MS });
    world.claim('b1');
    world.claim('c1');
    world.nowMs = TTL_MS;
    world.claim('c1');
    expect(world.waiters).toEqual(['b1', 'c1']);
    world.nowMs += 1;
    world.claim('c1');
    expect(world.waiters).toEqual(['c1']);
  });
});

test('whoever claims again in time keeps its place, and so does one that is late but speaks now', () => {
  const world = new World();
  world.claim('a1', { ttlMs: 100 * TTL_MS });
  world.claim('b1');
  world.claim('c1');
  for (let n = 0; n < 3; n += 1) {
    world.nowMs += TTL_MS;
    world.claim('b1');
    world.claim('c1');
  }
  expect(world.waiters).toEqual(['b1', 'c1']);
  world.claim('d1', { ttlMs: 100 * TTL_MS });
  world.nowMs += 2 * TTL_MS;
  expect(world.claim('b1')).toMatchObject({ is: 'waiting', ahead: 0 });
  expect(world.waiters).toEqual(['b1', 'd1']);
});

describe('claims', () => {
  test('claiming what one holds answers the same grant, and re-arms its expiry', () => {
    const world = new World();
    const first = world.claim('a1');
    world.nowMs = TTL_MS - 1;
    expect(world.claim('a1')).toEqual(first);
    world.nowMs = 2 * TTL_MS - 2;
    expect(world.renew('a1')).toEqual({ is: 'held', wanted: false });
  });

  test('claiming and renewing never shorten an expiry', () => {
    const world = new World();
    world.nowMs = 100;
    world.claim('a1');
    // A step of a process that read the clock before.
    world.nowMs = 50;
    world.claim('a1');
    world.renew('a1');
    expect(world.state.holders[0]?.expiresAtMs).toBe(100 + TTL_MS);
  });

  test('a claim that waits is one waiter, however often it is made', () => {
    const world = new World();
    world.claim('a1');
    world.claim('b1');
    world.claim('c1');
    expect(world.claim('b1')).toMatchObject({ is: 'waiting', ahead: 0 });
    expect(world.waiters).toEqual(['b1', 'c1']);
  });

  test('a claim that does not wait leaves no trace, but makes its wish known', () => {
    const world = new World();
    world.claim('a1');
    expect(world.claim('b1', { wait: false })).toEqual({ is: 'taken', holder: 'a1' });
    expect(world.waiters).toEqual([]);
    expect(world.told('a')).toEqual([{ is: 'wanted', key: KEY }]);
  });

  test('a waiter that claims without waiting leaves the queue, and those behind it go on', () => {
    const world = new World();
    world.claim('a1', reader);
    world.claim('b1');
    world.claim('c1', reader);
    expect(world.claim('b1', { wait: false })).toEqual({ is: 'taken', holder: 'a1' });
    expect(world.waiters).toEqual([]);
    expect(world.holders).toEqual(['a1', 'c1']);
  });

  test('another capacity is refused while the key is in use, and only then', () => {
    const world = new World();
    world.claim('a1', { units: 1, capacity: 3 });
    expect(world.claim('b1')).toMatchObject({ is: 'refused', reason: 'capacity-differs' });
    expect(world.waiters).toEqual([]);
    world.nowMs = TTL_MS;
    expect(world.claim('b1')).toMatchObject({ is: 'granted' });
  });

  test('more units than there are is refused, since it would wait for ever', () => {
    const world = new World();
    expect(world.claim('a1', { units: ALL + 1 })).toMatchObject({ is: 'refused' });
    expect(world.waiters).toEqual([]);
  });

  test('an answer to wait carries the epoch of that moment, and a later grant a higher one', () => {
    const world = new World();
    const held = world.claim('a1') as { epoch: bigint };
    const waiting = world.claim('b1') as { epoch: bigint };
    expect(waiting.epoch).toBe(held.epoch);
    world.drop('a1');
    const [granted] = world.told('b') as { epoch: bigint }[];
    expect(granted?.epoch).toBeGreaterThan(waiting.epoch);
  });

  test('the first waiter that listens looks at the moment of expiry, the others keep to their heartbeat', () => {
    const world = new World();
    world.claim('a1', { ttlMs: 50 });
    expect(world.claim('b1')).toMatchObject({ lookAgainMs: 51 });
    expect(world.claim('c1')).toMatchObject({ lookAgainMs: TTL_MS / 3 });
    world.deaf.add('b');
    expect(world.claim('c1')).toMatchObject({ lookAgainMs: 51 });
  });
});

describe('wanted', () => {
  test('is told to every other process that holds the key, once each', () => {
    const world = new World();
    world.claim('a1', reader);
    world.claim('a2', reader);
    world.claim('b1', reader);
    world.claim('c1');
    expect(world.told('a')).toEqual([{ is: 'wanted', key: KEY }]);
    expect(world.told('b')).toEqual([{ is: 'wanted', key: KEY }]);
    expect(world.told('c')).toEqual([]);
  });

  test('means another process: waiters of the own one do not count', () => {
    const world = new World();
    world.claim('a1');
    world.claim('a2');
    expect(world.renew('a1')).toEqual({ is: 'held', wanted: false });
    expect(world.events).toEqual([]);
    world.claim('b1');
    expect(world.renew('a1')).toEqual({ is: 'held', wanted: true });
  });

  test('comes with the grant when somebody waits behind it', () => {
    const world = new World();
    world.claim('a1');
    world.claim('b1');
    world.claim('c1');
    world.events.length = 0;
    world.drop('a1');
    expect(world.events).toMatchObject([{ channel: 'b', event: { owner: 'b1', wanted: true } }]);
  });
});

describe('drop', () => {
  test('claims again only when the key was held, behind everyone who waits', () => {
    const world = new World();
    world.claim('a1');
    world.claim('b1');
    expect(world.drop('a1', claimOf('a2'))).toMatchObject({
      held: true,
      next: { is: 'waiting', holder: 'b1' },
    });
    expect(world.drop('a1', claimOf('a3'))).toEqual({ held: false, next: null });
    expect(world.waiters).toEqual(['a2']);
  });

  test('of a lease that has expired claims nothing', () => {
    const world = new World();
    world.claim('a1');
    world.nowMs = TTL_MS;
    expect(world.drop('a1', claimOf('a2'))).toEqual({ held: false, next: null });
    expect(world.holders).toEqual([]);
  });

  test('of a waiter takes it out of the queue, and lets those behind it go on', () => {
    const world = new World();
    world.claim('a1', reader);
    world.claim('b1');
    world.claim('c1', reader);
    expect(world.drop('b1')).toEqual({ held: false, next: null });
    expect(world.holders).toEqual(['a1', 'c1']);
  });

  test('of a stranger changes nothing', () => {
    const world = new World();
    world.claim('a1');
    expect(world.drop('b9')).toEqual({ held: false, next: null });
    expect(world.holders).toEqual(['a1']);
  });
});

// --- Any sequence of steps ---------------------------------------------------------------------------------------------

const owners = ['a1', 'a2', 'b1', 'b2', 'c1', 'c2', 'd1'];
const ownerArbitrary = fc.constantFrom(...owners);
const unitsArbitrary = fc.constantFrom(1, 2, ALL);

type Operation =
  | { is: 'claim'; owner: string; units: number; wait: boolean; ttlMs: number }
  | { is: 'drop'; owner: string; again: string | null; units: number }
  | { is: 'renew'; owner: string }
  | { is: 'settle' }
  | { is: 'pass'; ms: number }
  | { is: 'hearing'; channel: string };

const operationArbitrary: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({
    is: fc.constant('claim' as const),
    owner: ownerArbitrary,
    units: unitsArbitrary,
    wait: fc.boolean(),
    ttlMs: fc.constantFrom(100, TTL_MS, 2_000),
  }),
  fc.record({
    is: fc.constant('drop' as const),
    owner: ownerArbitrary,
    again: fc.option(ownerArbitrary),
    units: unitsArbitrary,
  }),
  fc.record({ is: fc.constant('renew' as const), owner: ownerArbitrary }),
  fc.record({ is: fc.constant('settle' as const) }),
  fc.record({ is: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 400 }) }),
  fc.record({ is: fc.constant('hearing' as const), channel: fc.constantFrom('a', 'b', 'c', 'd') }),
);

/** Makes the step, and answers whether it looked at the whole key. */
function apply(world: World, operation: Operation): boolean {
  switch (operation.is) {
    case 'claim': {
      const { owner, ...more } = operation;
      const outcome = world.claim(owner, more);
      expect(outcome.is === 'granted').toBe(world.holders.includes(owner));
      expect(outcome.is === 'waiting').toBe(world.waiters.includes(owner));
      return true;
    }
    case 'drop': {
      const { owner, again, units } = operation;
      const next = again === null || again === owner ? undefined : claimOf(again, { units });
      world.drop(owner, next);
      expect([...world.holders, ...world.waiters]).not.toContain(owner);
      return true;
    }
    case 'renew':
      world.renew(operation.owner);
      return false;
    case 'settle':
      settleKey(world.state, KEY, world.context('z'));
      return true;
    case 'pass':
      world.nowMs += operation.ms;
      return false;
    case 'hearing':
      if (!world.deaf.delete(operation.channel)) world.deaf.add(operation.channel);
      return false;
  }
}

function unitsHeld(world: World): number {
  const live = world.state.holders.filter((holder) => holder.expiresAtMs > world.nowMs);
  return live.reduce((sum, holder) => sum + holder.units, 0);
}

function checkInvariants(world: World, before: KeyState, looked: boolean): void {
  expect(unitsHeld(world)).toBeLessThanOrEqual(ALL);
  const epochs = world.state.holders.map((holder) => holder.epoch);
  expect(epochs).toEqual([...new Set(epochs)].sort((a, b) => a - b));

  const same = (a: Holder, b: Holder): boolean => a.owner === b.owner && a.epoch === b.epoch;
  for (const old of before.holders) {
    const now = world.state.holders.find((holder) => same(holder, old));
    if (now) expect(now.expiresAtMs).toBeGreaterThanOrEqual(old.expiresAtMs);
  }
  if (!looked) return;
  const first = world.state.waiters.find((waiter) => !world.deaf.has(waiter.channel));
  if (first) expect(unitsHeld(world) + first.units).toBeGreaterThan(ALL);
  for (const holder of world.state.holders) {
    expect(holder.expiresAtMs).toBeGreaterThan(world.nowMs);
  }
}

/** Whoever was granted came first, or those before it could not hear. Who makes the step hears the answer. */
function checkOrder(world: World, before: KeyState, self: string | null): void {
  const granted = before.waiters.filter((waiter) => world.holders.includes(waiter.owner));
  const last = granted.at(-1);
  if (!last) return;
  const earlier = before.waiters.slice(0, before.waiters.indexOf(last));
  for (const waiter of earlier.filter((one) => world.waiters.includes(one.owner))) {
    expect(waiter.owner !== self && world.deaf.has(waiter.channel)).toBe(true);
  }
}

function selfOf(operation: Operation): string | null {
  if (operation.is === 'claim') return operation.owner;
  return operation.is === 'drop' ? (operation.again ?? operation.owner) : null;
}

function checkMessages(world: World): void {
  for (const { channel, event } of world.events) {
    if (event.is !== 'granted') continue;
    const holder = world.state.holders.find((one) => one.epoch === Number(event.epoch));
    expect(holder).toMatchObject({ owner: event.owner, channel });
  }
  world.events.length = 0;
}

test('whatever happens: units fit, epochs increase, nobody waits in vain, order is kept', () => {
  fc.assert(
    fc.property(fc.array(operationArbitrary, { maxLength: 60 }), (operations) => {
      const world = new World();
      let highest = 0;
      for (const operation of operations) {
        const before = structuredClone(world.state);
        const looked = apply(world, operation);
        checkInvariants(world, before, looked);
        checkOrder(world, before, selfOf(operation));
        checkMessages(world);
        const minted = world.state.holders.filter(
          (holder) => !before.holders.some((old) => old.epoch === holder.epoch),
        );
        for (const holder of minted) expect(holder.epoch).toBeGreaterThan(highest);
        highest = world.epoch;
      }
    }),
    { numRuns: 3_000 },
  );
});
